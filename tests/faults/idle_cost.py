"""What idle clients cost, and what is left of clients that have gone.

python -m tests.faults.idle_cost --clients 1000 --connects 100000
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from shardproxy.wire import encode
from tests.faults.cell import config
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

AT_ONCE = 20
STARTUP = encode.startup_message({"user": "postgres", "database": "shop"})
READY = encode.ready_for_query(b"I")
SETTLE = 0.5  # seconds for the proxy to notice that its clients have gone


@dataclass(frozen=True)
class Figures:
    """Before and after; bytes where not said otherwise."""

    clients: int
    connects: int
    idle: int  # resident, above the proxy without clients
    descriptors: tuple[int, int]  # before and after the connects
    resident: tuple[int, int]
    seconds: float

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
            f"resident {self.resident[0] / 2**20:.1f} -> {self.resident[1] / 2**20:.1f} MiB",
        ]


def descriptors(proxy: Proxy) -> int:
    """Count the open files of the process (Linux)."""
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


async def _log_in(proxy: Proxy) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(STARTUP)
    await reader.readuntil(READY)
    return writer


async def _connects(proxy: Proxy, count: int) -> None:
    """Log in and leave, many times: one half says goodbye, the other just goes."""
    left = iter(range(count))

    async def visitor() -> None:
        for number in left:
            writer = await _log_in(proxy)
            if number % 2:
                writer.write(encode.TERMINATE)
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(visitor())
    await asyncio.sleep(SETTLE)


async def measure(proxy: Proxy, *, clients: int, connects: int) -> Figures:
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
    files, resident = descriptors(proxy), proxy.rss()
    begun = time.monotonic()
    await _connects(proxy, connects)
    seconds = time.monotonic() - begun
    return Figures(clients, connects, grown, (files, descriptors(proxy)), (resident, proxy.rss()), seconds)


def run(clients: int, connects: int, *, version: int = 18) -> Figures:
    """Start what it takes, and measure."""
    servers = Servers(version)
    try:
        databases = Databases.create(servers, one_server=True)
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(Path(directory), config(databases.shards, commit="one-phase"))
            try:
                return asyncio.run(measure(proxy, clients=clients, connects=connects))
            finally:
                proxy.close()
    finally:
        servers.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.idle_cost", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--connects", type=int, default=2000)
    arguments = parser.parse_args()
    print("\n".join(run(arguments.clients, arguments.connects).lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
