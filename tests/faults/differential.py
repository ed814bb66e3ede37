"""The long differential run: random COPYs on one PostgreSQL and through the proxy, and every difference reported.

    python -m tests.faults.differential --count 50000 --seed 1

The cases are those of tests/integration/test_differential.py, several to a table, which is made anew for each batch.
One process; two versions side by side are two of them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.conftest import VERSIONS
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.support.databases import Servers
from tests.support.differential import Arena
from tests.support.differential_cases import Case, batches
from tests.support.proxy import Proxy

BATCH = 8  # cases of a table
ROUND = 100  # batches of one seed
TOLD = 20  # differences, after which it ends


class Run:
    """Runs rounds until there are enough cases."""

    def __init__(self, arena: Arena, count: int, recorder: Recorder) -> None:
        self._arena = arena
        self._count = count
        self._recorder = recorder
        self._begun = time.monotonic()
        self.cases = 0
        self.rows = 0
        self.accepted = 0
        self.record = Record()

    @property
    def _over(self) -> bool:
        return self.cases >= self._count or self._recorder.over or len(self.record.violations) >= TOLD

    def rounds(self, seed: int) -> None:
        """Compare until all is done."""
        while not self._over:
            seed += 1
            self._round(seed)

    def _round(self, seed: int) -> None:
        # No shrinking: a difference is told as it is found, and the run goes on.
        @seeded(seed)
        @settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(batch=batches(BATCH))
        def compare(batch: list[Case]) -> None:
            if not self._over:
                self._batch(batch, seed)

        compare()

    def _batch(self, batch: list[Case], seed: int) -> None:
        arena = self._arena
        made = False
        for case in batch:
            if arena.version < case.first:
                continue
            if not made:
                arena.define_for_many(case.ddl, case.table)
            try:
                accepted, rows = arena.compare_one_of_many(case)
                self.accepted += accepted
                self.rows += rows
                made = True
            except AssertionError as error:
                self.record.violations.append(f"seed {seed}, {case.ddl}: {error}")
                arena.forget()
                made = False  # whatever it has left in the tables
            self.cases += 1
        self.note()

    def note(self) -> None:
        """Keep the figures."""
        self.record.figures = [
            Figure("random COPY cases", self.cases, None),
            Figure("differences", len(self.record.violations), 0, ceiling=True),
        ]
        seconds = time.monotonic() - self._begun
        self.record.lines = [
            f"PostgreSQL {self._arena.version}: {self.cases} cases in {seconds:.0f} s",
            f"PostgreSQL accepts {self.accepted} of them, with {self.rows} rows; the others it refuses, and so "
            "must the proxy, in the same words",
            f"{self._arena.declined} cases declined, as documented: a key's spelling that depends on settings",
            f"{self._arena.read_ahead} errors about invalid bytes where PostgreSQL read one row further",
        ]
        self._recorder.keep(self.record)


def run(count: int, seed: int, version: int, recorder: Recorder) -> Record:
    """Start servers and a proxy, and compare."""
    servers = Servers(version)
    proxies: list[Proxy] = []
    try:
        with tempfile.TemporaryDirectory() as directory:

            def start(config: str) -> Proxy:
                proxies.append(Proxy(Path(directory), config))
                return proxies[-1]

            with Arena.open(servers, start) as arena:
                try:
                    work = Run(arena, count, recorder)
                    work.rounds(seed * 1_000_000)
                    work.note()
                finally:
                    for proxy in proxies:
                        proxy.close()
    finally:
        servers.close()
    return work.record


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.differential", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", type=int, default=VERSIONS[-1], help="PostgreSQL's major version")
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run(arguments.count, arguments.seed, arguments.version, recorder))


if __name__ == "__main__":
    sys.exit(main())
