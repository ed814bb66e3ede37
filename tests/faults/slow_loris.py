"""What many clients of one byte a second do to a good one: its p99 with and without them, in one run.

python -m tests.faults.slow_loris --connections 1000
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from shardproxy.wire import encode
from tests.faults.cell import config
from tests.faults.record import Figure, Record, Recorder
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

STARTUP = encode.startup_message({"user": "postgres", "database": "shop", "application_name": "x" * 200})
QUERY = b"SELECT 1"
AT_MOST = 2.0  # times the p99 without them


@dataclass(frozen=True)
class Figures:
    """Seconds: p99 of a good client's SELECT 1."""

    connections: int
    alone: float
    during: float
    dropped: int  # slow ones whom the proxy has closed

    @property
    def ratio(self) -> float:
        """How many times longer the good client waits."""
        return self.during / self.alone


async def measure(proxy: Proxy, *, connections: int, seconds: float) -> Figures:
    """Measure alone, then with `connections` slow strangers, then alone again: the middle of the noise counts."""
    async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as good:
        await _p99(good, 0.5)
        alone = await _p99(good, seconds)
        slow = [await asyncio.open_connection(proxy.host, proxy.port) for _ in range(connections)]
        stop = asyncio.Event()
        dripping = [asyncio.ensure_future(_drip([writer for _, writer in slow], stop))]
        try:
            await asyncio.sleep(1.0)
            during = await _p99(good, seconds)
        finally:
            stop.set()
            await asyncio.gather(*dripping)
        dropped = sum(reader.at_eof() for reader, _ in slow)
        for _, writer in slow:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in slow), return_exceptions=True)
        again = await _p99(good, seconds)
    return Figures(connections, max(alone, again), during, dropped)


async def _p99(good: "psycopg.AsyncConnection[tuple[object, ...]]", seconds: float) -> float:
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        await good.execute(QUERY)
        taken.append(time.perf_counter() - begun)
    return statistics.quantiles(taken, n=100)[98]


async def _drip(writers: list[asyncio.StreamWriter], stop: asyncio.Event) -> None:
    """A byte a second to each, evenly spread."""
    at = 0
    while not stop.is_set():
        begun = time.monotonic()
        for number, writer in enumerate(writers):
            if not writer.is_closing():
                writer.write(STARTUP[at : at + 1])
            if number % 10 == 9:
                await asyncio.sleep(10 / len(writers) * 0.8)
        at = min(at + 1, len(STARTUP) - 2)
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - begun)))


def run(connections: int, seconds: float, *, version: int = 18) -> Figures:
    """Start what it takes, and measure."""
    servers = Servers(version)
    try:
        databases = Databases.create(servers, one_server=True)
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(Path(directory), config(databases.shards, commit="one-phase", server="login_timeout = 600.0"))
            try:
                return asyncio.run(measure(proxy, connections=connections, seconds=seconds))
            finally:
                proxy.close()
    finally:
        servers.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slow_loris", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--record", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    figures = run(arguments.connections, arguments.seconds)
    wrong = [] if figures.ratio <= AT_MOST else [f"the p99 of a good client is {figures.ratio:.2f} times as long"]
    wrong += [f"{figures.dropped} of the slow ones were thrown out: they did no harm"] * bool(figures.dropped)
    ratio = Figure("p99 of a well-behaved client beside them, ratio to alone", round(figures.ratio, 2), AT_MOST, True)
    line = f"p99 of its SELECT 1: {figures.alone * 1000:.2f} ms alone, {figures.during * 1000:.2f} ms beside them"
    slow = Figure("connections of one byte a second", figures.connections)
    return Recorder(arguments.record).finish(Record([slow, ratio], [line], wrong))


if __name__ == "__main__":
    sys.exit(main())
