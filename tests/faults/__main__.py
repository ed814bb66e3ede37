"""The long form of the proof, and the document with its figures.

    python -m tests.faults --minutes 50 --out docs/reliability.md

Everything in the document is measured, is written as it comes, and stays when the run is interrupted (Ctrl-C) or a part
of it crashes; with `--records` a later run goes on with the parts that have not finished without a violation. Each part
is a command of its own, bounded in time and in count. First those run alone whose figures a busy machine would spoil;
then the matrix and the storms, one after the other, and beside them, at the lowest priority, the differential run and
the fuzzers on what the processors have left.

The exit status is 1 if anything was violated; with `--strict` also if something required was not reached.
"""

import argparse
import asyncio
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import VERSIONS
from tests.faults.document import write
from tests.faults.part import Part

INPUTS, CASES, KILLS, CONNECTS = 10_000_000, 100_000, 1_000, 100_000
IMPORT_KILLS = 200
SQL_FAULTS = 600
SPARE = 1.1  # times what is required, for parts that share it
LEAST = 20.0  # seconds of a part, however short the whole
LAST = 45.0  # seconds at the end for the parts to judge and stop
NICE = 19
SIDE = 2  # parts that run beside the matrix and the storms
QUIET = {"hostile": 0.06, "outcomes": 0.05, "slow": 0.02, "idle": 0.08}  # of the time, at most
FRONT = {
    "matrix": 0.19,
    "storm": 0.16,
    "sql": 0.1,
    "imports": 0.05,
}  # of the time that is left after them, each on each version
STORMS = {
    "storm": ("Storm of kills", "faults.kill_storm", "--kills", KILLS),
    "sql": ("Storm of faults under SQL", "faults.sql_storm", "--faults", SQL_FAULTS),
    "imports": ("Kills during imports", "faults.loader", "--kills", IMPORT_KILLS),
}
DIFFERENTIAL = 0.62  # of a side's time
SESSIONS = 0.25  # of what the differential run leaves


@dataclass
class Plan:
    """What is run, in which order and for how long."""

    minutes: float
    seed: int
    directory: Path
    begun: float = field(default_factory=time.monotonic)
    parts: list[Part] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds for parts that have not begun."""
        return max(self.minutes * 60 - LAST - (time.monotonic() - self.begun), 0.0)

    def part(self, title: str, module: str, seconds: float, *arguments: object) -> Part:
        """Add a part."""
        argv = [f"tests.{module}", *map(str, arguments)]
        name = re.sub("[^a-z0-9]+", "-", title.lower())
        made = Part(title, argv, max(seconds, LEAST), self.directory / f"{name}.json")
        self.parts.append(made)
        return made

    def quiet(self) -> list[Part]:
        """Return the parts that run alone."""
        left = self.left
        slow = self.part("One byte a second", "faults.slow_loris", QUIET["slow"] * left, "--connections", 1000)
        slow.bounded = False
        return [
            slow,
            self.part("Idle cost", "faults.idle_cost", QUIET["idle"] * left, "--clients", 1000, "--connects", CONNECTS),
            self.part("Hostile peers", "faults.scripted", QUIET["hostile"] * left, "hostile"),
            self.part("Every outcome of a commit", "faults.scripted", QUIET["outcomes"] * left, "outcomes"),
        ]

    async def front(self, run: Callable[[Part], Awaitable[None]]) -> None:
        """The matrix and the storms."""
        share = 1.0
        for name, part_of_it in FRONT.items():
            for version in VERSIONS:
                seconds = self.left * part_of_it / share
                share -= part_of_it
                if name == "matrix":
                    title, module, more = "Matrix of faults", "faults.matrix", []
                else:
                    title, module, option, count = STORMS[name]
                    more = [option, int(count * SPARE / len(VERSIONS))]
                part = self.part(
                    f"{title}, PostgreSQL {version}", module, seconds, "--version", version, "--seed", self.seed, *more
                )
                await run(part)

    async def sides(self, run: Callable[[Part], Awaitable[None]]) -> None:
        """What runs beside them: on each side a version's differential run, and then a fuzzer or two."""
        seconds = self.left

        async def side(at: int) -> None:
            count = CASES // len(VERSIONS)
            for version in VERSIONS[at::SIDE]:
                await run(
                    self.part(
                        f"Differential run, PostgreSQL {version}",
                        "faults.differential",
                        seconds * DIFFERENTIAL / len(VERSIONS[at::SIDE]),
                        *("--version", version, "--seed", self.seed, "--count", count),
                    )
                )
            if at == 0:
                core = int(INPUTS * SPARE)
                await run(self.part("The C core", "faults.fuzz_core", self.left, "--seed", self.seed, "--count", core))
                return
            for title, module, share in (
                ("Damaged sessions against a live proxy", "faults.fuzz_clients", SESSIONS),
                ("Damaged messages", "fuzz.protocol", 1.0),
            ):
                await run(self.part(title, module, self.left * share, "--seed", self.seed, "--count", INPUTS))

        await asyncio.gather(*(side(at) for at in range(SIDE)))


class Runner:
    """Runs parts, and writes the document whenever there is something new."""

    def __init__(self, plan: Plan, out: Path, command: str) -> None:
        self._plan = plan
        self._out = out
        self._command = command
        self.stopped = asyncio.Event()

    async def __call__(self, part: Part, nice: int = 0) -> None:
        """Run one, unless all is to end."""
        if self.stopped.is_set():
            return
        await part.run(self.stopped, nice)
        print(f"{part.title}: {part.summary()}", flush=True)
        self.write()

    async def beside(self, part: Part) -> None:
        """Run one on what is left of the processors."""
        await self(part, NICE)

    async def write_on(self) -> None:
        """Write every now and then."""
        while True:
            await asyncio.sleep(10)
            self.write()

    def write(self) -> None:
        """Write what there is."""
        plan = self._plan
        write(self._out, self._command, plan.parts, interrupted=self.stopped.is_set())


async def prove(plan: Plan, out: Path, command: str) -> None:
    """Run all of it."""
    run = Runner(plan, out, command)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, run.stopped.set)
    writing = asyncio.ensure_future(run.write_on())
    try:
        for part in plan.quiet():
            await run(part)
        await asyncio.gather(plan.front(run), plan.sides(run.beside))
    finally:
        writing.cancel()
        run.write()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.md"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 20))
    parser.add_argument(
        "--records", type=Path, help="keep the parts' records there; those that stand are not run again"
    )
    parser.add_argument("--strict", action="store_true", help="fail also where something required was not reached")
    arguments = parser.parse_args()
    command = f"python -m tests.faults --minutes {arguments.minutes:g} --out {arguments.out} --seed {arguments.seed}"
    if arguments.records is not None:
        command += " --records DIR"  # in several runs
    with tempfile.TemporaryDirectory() as directory:
        records = arguments.records or Path(directory)
        records.mkdir(parents=True, exist_ok=True)
        plan = Plan(arguments.minutes, arguments.seed, records)
        asyncio.run(prove(plan, arguments.out, command))
        wrong, short = write(arguments.out, command, plan.parts, interrupted=any(part.cut for part in plan.parts))
    return 1 if wrong or (short and arguments.strict) else 0


if __name__ == "__main__":
    sys.exit(main())
