"""Random COPYs on one PostgreSQL and through the proxy over three shards: every answer and every row the same.

The same hundred cases each time. The long run takes new ones: `python -m tests.faults.differential`.
"""

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.support.differential import Arena
from tests.support.differential_cases import Case, cases

CASES = 100
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large]  # each case asks five databases


@pytest.mark.timeout(1200)  # all cases are one test: 15 seconds where nothing else runs
@settings(max_examples=CASES, derandomize=True, database=None, deadline=None, suppress_health_check=HEALTH)
@given(case=cases())
def test_random_copies(arena: Arena, case: Case) -> None:
    assume(arena.version >= case.first)
    arena.compare(
        case.ddl, *case.steps, table=case.table, fresh=False, may_decline=case.may_decline, ignore=case.ignore
    )
