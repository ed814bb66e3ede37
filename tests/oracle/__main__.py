"""The long runs of the oracle.

    python -m tests.oracle --count 100000 --seed 1 --version 18

Prints each difference with a case that is as short as could be made, the share of statements that was refused, by
reason, and what of the known faults was met.
"""

import argparse
import sys
import time
from collections import Counter

from tests.conftest import VERSIONS
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.oracle.arena import Arena, DifferenceError
from tests.oracle.generate.scripts import script
from tests.oracle.setup import arena as opened
from tests.oracle.shrink import shrink

STATEMENTS = 25  # of a case
TOLD = 30  # kinds of differences, after which it ends
ALIKE = 2  # differences of a kind that are shown


def statements(arena: Arena, count: int, seed: int, recorder: Recorder) -> Record:
    """Compare random statements until there are enough."""
    record = Record()
    begun = time.monotonic()
    number = seed * 1_000_000
    kinds: Counter[str] = Counter()
    while arena.statements < count and not recorder.over and len(kinds) < TOLD:
        number += 1
        case = script(number, STATEMENTS)
        try:
            arena.run(case)
        except DifferenceError as difference:
            kinds[difference.kind] += 1
            if kinds[difference.kind] <= ALIKE:
                small, why = shrink(arena, case[: difference.number + 1], difference)
                steps = "".join(f"    {step!r},\n" for step in small)
                print(f"seed {number}, {why.kind}: {why}\nthe case:\n{steps}", flush=True)
            record.violations.append(f"seed {number}, {difference.kind}")
        record.figures = [
            Figure("statements", arena.statements),
            Figure("accepted by both", arena.accepted),
            Figure("refused as documented", sum(arena.refused.values())),
            Figure("differences", len(record.violations), 0, ceiling=True),
        ]
        record.lines = [f"PostgreSQL {arena.databases.version}: {time.monotonic() - begun:.0f} s"]
        record.lines += [f"refused: {times:6} {reason}" for reason, times in arena.refused.most_common()]
        record.lines += [f"known:   {times:6} {reason}" for reason, times in arena.known.most_common()]
        recorder.keep(record)
    return record


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", type=int, default=VERSIONS[-1], help="PostgreSQL's major version")
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    with opened(arguments.version) as arena:
        record = statements(arena, arguments.count, arguments.seed, recorder)
    return recorder.finish(record)


if __name__ == "__main__":
    sys.exit(main())
