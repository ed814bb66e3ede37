"""The same transactions each time, in another order. `python -m tests.oracle sessions` takes new ones."""

import pytest

from tests.oracle.arena import Arena
from tests.oracle.sessions import Sessions

RUNS = 3


@pytest.fixture(scope="module")
def sessions(arena: Arena) -> Sessions:
    return Sessions(arena)


@pytest.mark.parametrize("seed", range(RUNS))
def test_random_transactions_side_by_side(sessions: Sessions, seed: int) -> None:
    before = sessions.transactions
    sessions.run(seed)
    assert sessions.transactions > before
