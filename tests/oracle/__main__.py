"""The long runs of the oracle.

    python -m tests.oracle --count 100000 --seed 1 --version 18
    python -m tests.oracle sequences --count 20000
    python -m tests.oracle sessions --count 20000

Prints each difference with a case that is as short as could be made, the share of statements that was refused, by
reason, and what of the known faults was met.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from tests.conftest import VERSIONS
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.oracle.arena import Arena, DifferenceError
from tests.oracle.generate.pipelines import pipelines
from tests.oracle.generate.scripts import script
from tests.oracle.sequences import Sequences
from tests.oracle.sessions import Sessions
from tests.oracle.setup import arena as opened
from tests.oracle.shrink import shrink, shrink_pipelines

STATEMENTS = 25  # of a case
TOLD = 30  # kinds of differences, after which it ends
ALIKE = 2  # differences of a kind that are shown


class Part(Protocol):
    """What is compared."""

    def case(self, seed: int) -> list[Any]:
        """The case of a seed."""

    def run(self, case: list[Any]) -> None:
        """Compare it; DifferenceError where it differs."""

    def shrink(self, case: list[Any], difference: DifferenceError) -> tuple[list[Any], DifferenceError]:
        """A short case that differs alike."""

    def count(self) -> int:
        """How many have been compared."""


class Statements(Part):
    """Sessions of random statements."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def case(self, seed: int) -> list[Any]:
        return script(seed, STATEMENTS, self._arena.databases.version)

    def run(self, case: list[Any]) -> None:
        self._arena.run(case)

    def shrink(self, case: list[Any], difference: DifferenceError) -> tuple[list[Any], DifferenceError]:
        return shrink(self._arena, case[: difference.number + 1], difference)

    def count(self) -> int:
        return self._arena.statements


class Pipelines(Part):
    """Sessions of random pipelines."""

    def __init__(self, arena: Arena) -> None:
        self._sequences = Sequences(arena)

    def case(self, seed: int) -> list[Any]:
        return pipelines(seed)

    def run(self, case: list[Any]) -> None:
        self._sequences.run(case)

    def shrink(self, case: list[Any], difference: DifferenceError) -> tuple[list[Any], DifferenceError]:
        return shrink_pipelines(self._sequences, case, difference)

    def count(self) -> int:
        return self._sequences.pipelines


class SideBySide(Part):
    """Sessions of random transactions side by side."""

    def __init__(self, arena: Arena) -> None:
        self._sessions = Sessions(arena)

    def case(self, seed: int) -> list[Any]:
        return [seed]

    def run(self, case: list[Any]) -> None:
        self._sessions.run(case[0])

    def shrink(self, case: list[Any], difference: DifferenceError) -> tuple[list[Any], DifferenceError]:
        """Nothing shorter: who comes first is chance."""
        return case, difference

    def count(self) -> int:
        return self._sessions.transactions


PARTS: dict[str, Callable[[Arena], Part]] = {"statements": Statements, "sequences": Pipelines, "sessions": SideBySide}


def compare(part: str, arena: Arena, count: int, seed: int, recorder: Recorder) -> Record:
    """Compare random cases until there are enough."""
    record = Record()
    begun = time.monotonic()
    number = seed * 1_000_000
    kinds: Counter[str] = Counter()
    work = PARTS[part](arena)
    while work.count() < count and not recorder.over and len(kinds) < TOLD:
        number += 1
        case = work.case(number)
        try:
            work.run(case)
        except DifferenceError as difference:
            kinds[difference.kind] += 1
            if kinds[difference.kind] <= ALIKE:
                small, why = work.shrink(case, difference)
                steps = "".join(f"    {step!r},\n" for step in small)
                print(f"seed {number}, {why.kind}: {why}\nthe case:\n{steps}", flush=True)
            record.violations.append(f"seed {number}, {difference.kind}")
        record.figures = [
            Figure(part, work.count()),
            Figure("accepted by both", arena.accepted),
            Figure("refused as documented", sum(arena.refused.values())),
            Figure("differences", len(record.violations), 0, ceiling=True),
        ]
        record.lines = [f"PostgreSQL {arena.databases.version}: {time.monotonic() - begun:.0f} s"]
        record.lines += [f"refused: {times:6} {reason}" for reason, times in arena.refused.most_common()]
        record.lines += [f"known:   {times:6} {reason}" for reason, times in arena.known.most_common()]
        record.lines.append(f"other rows of a LIMIT without ORDER BY: {arena.other_rows}")
        recorder.keep(record)
    return record


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, default="statements")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", type=int, default=VERSIONS[-1], help="PostgreSQL's major version")
    parser.add_argument("--unlisted", default="error", help="s0 or reference: where all tables are, unlisted")
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    with opened(arguments.version, arguments.unlisted) as arena:
        record = compare(arguments.part, arena, arguments.count, arguments.seed, recorder)
    return recorder.finish(record)


if __name__ == "__main__":
    sys.exit(main())
