"""What idle clients cost, and what is left of clients that have gone.

python -m tests.faults.idle_cost --clients 1000 --connects 100000
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from shardproxy.wire import encode
from tests.faults.cell import config
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

AT_ONCE = 20
STARTUP = encode.startup_message({"user": "postgres", "database": "shop"})
READY = encode.ready_for_query(b"I")
PATIENCE, LOOK = 10.0, 0.05  # seconds
GROWTH = 8 << 20  # bytes that may stay after all connects: the allocator's
COUNTING = Path(__file__).parents[1] / "support" / "counting"
TASKS = re.compile(r"^tasks: (\d+)$", re.MULTILINE)
SETTLE = 0.5  # seconds for the proxy to notice that its clients have gone


@dataclass(frozen=True)
class Figures:
    """Before and after; bytes unless noted otherwise."""

    clients: int
    connects: int
    idle: int  # resident, above the proxy without clients
    descriptors: tuple[int, int]  # before and after the connects
    resident: tuple[int, int]
    seconds: float
    tasks: tuple[int, int] | None = None  # before and after the connects, of a proxy that can tell

    @property
    def each(self) -> float:
        """KiB for an idle client."""
        return self.idle / self.clients / 1024

    def lines(self) -> list[str]:
        """The figures, for a reader."""
        before, after = self.descriptors
        return [
            f"{self.clients} idle clients: {self.each:.1f} KiB each",
            f"{self.connects} connects ({self.connects / self.seconds:.0f} a second): descriptors {before} -> {after}, "
            f"resident {self.resident[0] / 2**20:.1f} -> {self.resident[1] / 2**20:.1f} MiB"
            + (f", tasks {self.tasks[0]} -> {self.tasks[1]}" if self.tasks is not None else ""),
        ]

    def record(self) -> Record:
        """The figures, for the document."""
        wrong = []
        if self.descriptors[1] > self.descriptors[0]:
            wrong.append("descriptors are left open")
        if self.tasks is not None and self.tasks[1] > self.tasks[0]:
            wrong.append("tasks are left")
        if self.resident[1] - self.resident[0] > GROWTH:
            wrong.append("memory is not released")
        figures = [
            Figure("idle clients", self.clients),
            Figure("memory of an idle client", round(self.each, 1), unit=" KiB"),
            Figure("connects", self.connects),
        ]
        return Record(figures, self.lines(), wrong)


def descriptors(proxy: Proxy) -> int:
    """Count the open files of the process (Linux)."""
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


async def _log_in(proxy: Proxy) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(STARTUP)
    await reader.readuntil(READY)
    return writer


async def tasks(proxy: Proxy) -> int:
    """Ask a proxy that was started with COUNTING for the number of its asyncio tasks."""
    before = TASKS.findall(proxy.log())
    proxy.signal(signal.SIGUSR1)
    for _ in range(int(PATIENCE / LOOK)):
        await asyncio.sleep(LOOK)
        found = TASKS.findall(proxy.log())
        if len(found) > len(before):
            return int(found[-1])
    raise AssertionError(f"no answer to SIGUSR1 in {PATIENCE} s")


async def _connects(proxy: Proxy, count: int, recorder: Recorder | None = None) -> int:
    """Log in and leave, many times: half send Terminate, half just close. Return how often there was time."""
    left = iter(range(count))
    done = 0

    async def visitor() -> None:
        nonlocal done
        for number in left:
            if recorder is not None and recorder.over:
                return
            done += 1
            writer = await _log_in(proxy)
            if number % 2:
                writer.write(encode.TERMINATE)
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(visitor())
    await asyncio.sleep(SETTLE)
    return done


async def measure(
    proxy: Proxy, *, clients: int, connects: int, recorder: Recorder | None = None, counting: bool = False
) -> Figures:
    """Measure both; a first round of visitors fills what is filled once."""
    await _connects(proxy, 200)
    empty = proxy.rss()
    idle = [await _log_in(proxy) for _ in range(clients)]
    await asyncio.sleep(SETTLE)
    grown = proxy.rss() - empty
    for writer in idle:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in idle), return_exceptions=True)
    await _connects(proxy, 200)
    files, resident, at_work = descriptors(proxy), proxy.rss(), await tasks(proxy) if counting else None
    begun = time.monotonic()
    done = await _connects(proxy, connects, recorder)
    seconds = time.monotonic() - begun
    left = await tasks(proxy) if counting else None
    both = (at_work, left) if at_work is not None and left is not None else None
    return Figures(clients, done, grown, (files, descriptors(proxy)), (resident, proxy.rss()), seconds, both)


def run(clients: int, connects: int, recorder: Recorder, *, version: int = 18) -> Figures:
    """Start what it takes, and measure."""
    servers = Servers(version)
    try:
        databases = Databases.create(servers, one_server=True)
        with tempfile.TemporaryDirectory() as directory:
            path = os.pathsep.join([str(COUNTING), *filter(None, [os.environ.get("PYTHONPATH")])])
            proxy = Proxy(Path(directory), config(databases.shards, commit="one-phase"), env={"PYTHONPATH": path})
            try:
                return asyncio.run(measure(proxy, clients=clients, connects=connects, recorder=recorder, counting=True))
            finally:
                proxy.close()
    finally:
        servers.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.idle_cost", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--connects", type=int, default=2000)
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run(arguments.clients, arguments.connects, recorder).record())


if __name__ == "__main__":
    sys.exit(main())
