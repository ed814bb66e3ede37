"""The long form of the proof, and the document with its figures.

    python -m tests.faults --minutes 60 --out docs/reliability.md

Everything in the document comes from the run that wrote it. The matrix, the hostile peers and the idle cost are
always run in full; what is left of the time goes to the storm and the fuzzers. The exit status is 1 if anything was
violated, and the document says what.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.conftest import VERSIONS
from tests.faults import fuzz_clients, idle_cost, kill_storm, matrix, slow_loris
from tests.fuzz import protocol
from tests.support.databases import Databases, Servers

LANES = 4
KILLS = 1_000_000  # the time ends the storm first
SHARES = {"storm": 0.6, "messages": 0.2, "sessions": 0.2}  # of what is left of the time
LEAST = 30.0  # seconds for each of them, however short the time
MESSAGES, SESSIONS = 50_000, 2_000  # at a time

HEAD = """# Reliability, measured

Written by `{command}` on {cores} cores, PostgreSQL {versions}, in {minutes:.0f} minutes; nothing here is typed by
hand. What each figure means is said in the module that its command runs.

**Violations: {violations}.**

| what | how much | violations |
|---|---|---|
"""


@dataclass
class Section:
    """A part of the proof."""

    title: str
    command: str
    amount: str
    lines: list[str]
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return its part of the document."""
        body = "\n".join(f"- {line}" for line in self.lines + [f"violated: {text}" for text in self.violations])
        return f"\n## {self.title}\n\n    {self.command}\n\n{body}\n"


@contextmanager
def _places(version: int) -> Iterator[list[tuple[list[str], Path]]]:
    servers = Servers(version)
    try:
        with tempfile.TemporaryDirectory() as directory:
            found = []
            for number in range(LANES):
                place = Path(directory) / str(number)
                place.mkdir()
                found.append((Databases.create(servers).shards, place))
            yield found
    finally:
        servers.close()


def the_matrix(version: int) -> Section:
    """Run every case of the matrix."""
    cases = matrix.cases()
    begun = time.monotonic()
    with _places(version) as places:
        results = asyncio.run(matrix.run(cases, places))
    told = Counter("acknowledged" if one.outcome.acknowledged else one.outcome.sqlstate or "?" for one in results)
    kept = sum(result.same_session for result in results)
    return Section(
        f"Matrix of faults, PostgreSQL {version}",
        "python -m tests.faults --minutes 0",
        f"{len(results)} cases",
        [
            f"{len({case.step for case in cases})} protocol steps of a COPY into three shards and of a transaction "
            "over two; before, after sending, answered but not passed on, after the answer; each shard; close, reset, "
            "stall, cut, delay, trickle; one connection or the whole shard",
            f"told to the clients: {', '.join(f'{count} {name}' for name, count in told.most_common())}",
            f"{kept} sessions went on after the fault, {len(results) - kept} had to connect again",
            f"{time.monotonic() - begun:.0f} s",
        ],
        [str(result) for result in results if result.wrong],
    )


def the_storm(version: int, seconds: float, seed: int) -> Section:
    """Kill proxies and shards at random."""
    report = kill_storm.storm(KILLS, version=version, seed=seed, seconds=seconds)
    faults = sum(report.faults.values())
    return Section(
        "Storm of kills",
        f"python -m tests.faults.kill_storm --kills {faults} --version {version}",
        f"{faults} kills and crashes, {len(report.loads)} COPYs",
        report.lines(),
        report.violations,
    )


def the_messages(seconds: float, seed: int) -> Section:
    """Fuzz decoders and a shard's answers."""
    done: Counter[str] = Counter()
    wrong: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        seed += 1
        try:
            done.update(asyncio.run(protocol.run(MESSAGES, seed)))
        except Exception as error:
            wrong.append(f"seed {seed}: {error!r}")
    return Section(
        "Damaged messages",
        f"python -m tests.fuzz.protocol --count {done.total()}",
        f"{done.total()} inputs",
        [", ".join(f"{count} {name}" for name, count in done.items())],
        wrong,
    )


def the_sessions(seconds: float, seed: int) -> Section:
    """Fuzz a live proxy."""
    total = 0
    states: Counter[str] = Counter()
    grown: list[int] = []
    wrong: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        seed += 1
        try:
            report = fuzz_clients.run(SESSIONS, seed)
        except Exception as error:
            wrong.append(f"seed {seed}: {error!r}")
        else:
            total += report.sessions
            states += report.states
            grown.append(report.grown)
    return Section(
        "Damaged sessions against a live proxy",
        f"python -m tests.faults.fuzz_clients --count {total}",
        f"{total} sessions",
        [
            f"errors answered: {', '.join(f'{count} {state}' for state, count in states.most_common())}",
            f"most memory that {SESSIONS} sessions added: {max(grown, default=0) / 2**20:.1f} MiB",
        ],
        wrong,
    )


def the_slow() -> Section:
    """A thousand clients of one byte a second."""
    figures = slow_loris.run(1000, 10.0)
    wrong = [] if figures.ratio <= 2 else [f"the p99 of a good client is {figures.ratio:.1f} times as long"]
    return Section(
        "One byte a second",
        "python -m tests.faults.slow_loris --connections 1000",
        f"{figures.connections} connections",
        [
            f"p99 of a good client's SELECT 1: {figures.alone * 1000:.2f} ms alone, {figures.during * 1000:.2f} ms "
            f"beside them ({figures.ratio:.2f} times)"
        ],
        wrong,
    )


def the_idle(connects: int) -> Section:
    """Idle clients and many connects."""
    figures = idle_cost.run(1000, connects)
    wrong = []
    if figures.descriptors[1] > figures.descriptors[0]:
        wrong.append("descriptors are left open")
    if figures.resident[1] - figures.resident[0] > 8 << 20:
        wrong.append("memory is left behind")
    return Section(
        "Idle cost",
        f"python -m tests.faults.idle_cost --connects {connects}",
        f"{figures.each:.1f} KiB an idle client, {connects} connects",
        figures.lines(),
        wrong,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.md"))
    parser.add_argument("--connects", type=int, default=100_000)
    arguments = parser.parse_args()
    begun = time.monotonic()
    seed = random.SystemRandom().randrange(1 << 31)
    sections: list[Section] = []

    def part(run: Callable[[], Section]) -> None:
        section = run()
        sections.append(section)
        print(f"{section.title}: {section.amount}; {len(section.violations)} violations", flush=True)

    for version in VERSIONS:
        part(partial(the_matrix, version))
    part(the_slow)
    part(lambda: the_idle(arguments.connects))
    left = arguments.minutes * 60 - (time.monotonic() - begun)
    seconds = {name: max(share * left, LEAST) for name, share in SHARES.items()}
    part(lambda: the_messages(seconds["messages"], seed))
    part(lambda: the_sessions(seconds["sessions"], seed))
    part(lambda: the_storm(VERSIONS[-1], seconds["storm"], seed))
    violations = sum(len(section.violations) for section in sections)
    text = HEAD.format(
        command=f"python -m tests.faults --minutes {arguments.minutes:g} --out {arguments.out}",
        cores=os.cpu_count(),
        versions=" and ".join(map(str, VERSIONS)),
        minutes=(time.monotonic() - begun) / 60,
        violations=violations,
    )
    text += "".join(f"| {one.title} | {one.amount} | {len(one.violations)} |\n" for one in sections)
    text += "".join(section.text() for section in sections)
    arguments.out.write_text(text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
