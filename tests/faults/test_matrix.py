"""A part of the matrix in each run, the same one each time; all of it is run by `python -m tests.faults`."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shardproxy.wire.constants import F
from tests.faults.matrix import COMMIT, SMALL, Case, Result, Step, cases, run
from tests.support.databases import Databases, Servers
from tests.support.faultproxy import Fault, When

LANES = 4
PICKED = 30
SEED = 3


@contextmanager
def places(servers: Servers, directory: Path) -> Iterator[list[tuple[list[str], Path]]]:
    """Fresh databases and a directory for each lane."""
    made = [Databases.create(servers) for _ in range(LANES)]
    try:
        found = []
        for number, databases in enumerate(made):
            (directory / str(number)).mkdir()
            found.append((databases.shards, directory / str(number)))
        yield found
    finally:
        for databases in made:
            databases.drop()


def pick(version: int) -> list[Case]:
    """The commit's own steps and stalls of whole shards are the interesting ones; all others come by chance."""
    chosen = random.Random(SEED + version)
    first = chosen.sample(cases(COMMIT), PICKED // 2)
    rest = [case for case in cases() if case.fault is not Fault.STALL]
    return first + chosen.sample(rest, PICKED - len(first))


def wrong(results: list[Result]) -> list[str]:
    return [str(result) for result in results if result.wrong]


def test_the_matrix_has_hundreds_of_cases() -> None:
    assert len({str(case) for case in cases()}) == len(cases()) >= 600


@pytest.mark.newest
async def test_a_part_of_the_matrix(servers: Servers, tmp_path: Path) -> None:
    with places(servers, tmp_path) as found:
        results = await run(pick(servers.version), found)
    assert len(results) == PICKED
    assert wrong(results) == []


async def test_the_judge_sees_a_commit_that_is_not_atomic(servers18: Servers, tmp_path: Path) -> None:
    """One-phase commit with the second shard lost in between: were this right, the matrix would prove nothing."""
    step = Step("copy", "plain commit", F.QUERY, b"COMMIT", (1,))
    case = Case(step, 1, When.BEFORE, Fault.CLOSE, False)
    with places(servers18, tmp_path) as found:
        [result] = await run([case], found[:1], commit="one-phase")
    assert result.outcome.sqlstate == "08007"
    assert [text for text in result.wrong if text.endswith(f"of {SMALL} rows")]
