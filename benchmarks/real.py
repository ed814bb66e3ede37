"""COPY into four real PostgreSQL servers by psql: through the proxy, and beside it the best that a machine can do.

The best is four psql, each loading the file of its shard's own rows, at the same time. Both load the same rows into
the same empty tables, in turns; each shard holds the same rows in either case, which is checked. Measured: wall
time, and the proxy's share of the CPU time that proxy, psql and servers take together. Data directories lie in
memory where there is room, and fsync is off: the disk is not what is compared.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import rows, stage
from benchmarks.figures import Figure, Scale, main, median
from benchmarks.processes import MeasurementError, Program, command_line, server_cpu_seconds
from shardproxy.embedded import Server
from shardproxy.embedded.installation import SCRATCH_VARIABLE
from shardproxy.embedded.supervisor import children

TARGET = 1.1
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 8 << 30
SETTINGS = {"autovacuum": "off", "max_wal_size": "4GB", "shared_buffers": "256MB"}
COPY = "(format csv)"
SETTLED_WITHIN = 10.0  # seconds
FINGERPRINT = "SELECT count(*), sum(hashtextextended(bench::text, 0)) FROM bench"


@dataclass(frozen=True)
class Run:
    """What one load took, in seconds."""

    wall: float
    servers: float
    clients: float
    proxy: float = 0.0

    @property
    def share(self) -> float:
        """The proxy's part of all CPU time."""
        return self.proxy / (self.servers + self.clients + self.proxy)


def scratch() -> None:
    """Have data directories in memory where there is room."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY and os.access(MEMORY, os.W_OK):
        os.environ.setdefault(SCRATCH_VARIABLE, str(MEMORY))


def psql(server: Server, dsn: str, command: str) -> subprocess.Popen[bytes]:
    """Start a psql that runs one command."""
    return subprocess.Popen([server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", command])


def cpu_until_end(process: subprocess.Popen[bytes]) -> float:
    """Wait for a psql and return its CPU seconds. Not Popen.wait: only wait4 tells them."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise MeasurementError(f"psql ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def settle(servers: Sequence[Server]) -> None:
    """Wait until all backends have ended, so that what they have used stands in their postmaster's account."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while any(backends(server) for server in servers):
        if time.monotonic() > deadline:
            raise MeasurementError("a backend goes on though its client has left")
        time.sleep(0.002)


def backends(server: Server) -> list[int]:
    """The processes of a server that serve clients, zombies included."""
    title = re.compile(rb"postgres: \S+ \S+ 127\.0\.0\.1\(")
    return [pid for pid in children(server.pid) if not (name := command_line(pid)) or title.match(name)]


def load(servers: Sequence[Server], jobs: Sequence[tuple[str, Path]], proxy: Program | None = None) -> Run:
    """Load each file into its DSN, all at the same time."""
    for server in servers:
        stage.execute(server.dsn(stage.DATABASE), "TRUNCATE bench")
        stage.execute(server.dsn(), "CHECKPOINT")
    settle(servers)
    servers_before = sum(map(server_cpu_seconds, servers))
    proxy_before = proxy.cpu() if proxy else 0.0
    started = time.perf_counter()
    running = [psql(servers[0], dsn, f"\\copy bench from '{file}' {COPY}") for dsn, file in jobs]
    try:
        clients = sum(map(cpu_until_end, running))
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                process.wait()
    wall = time.perf_counter() - started
    settle(servers)
    return Run(
        wall,
        sum(map(server_cpu_seconds, servers)) - servers_before,
        clients,
        proxy.cpu() - proxy_before if proxy else 0.0,
    )


def fingerprints(servers: Sequence[Server]) -> list[tuple[object, ...]]:
    """What each shard holds, whatever the order of its rows."""
    found = []
    for server in servers:
        with psycopg.connect(server.dsn(stage.DATABASE)) as connection:
            found.append(connection.execute(FINGERPRINT.encode()).fetchall()[0])
    return found


def run(scale: Scale) -> list[Figure]:
    scratch()
    blocks = 2 if scale.quick else 20
    with stage.directory() as path, ExitStack() as stack:
        servers = [stack.enter_context(Server.start(settings=SETTINGS)) for _ in range(stage.SHARDS)]
        for server in servers:
            stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
            stage.execute(server.dsn(stage.DATABASE), stage.TABLES)
        dsns = [server.dsn(stage.DATABASE) for server in servers]
        proxy = stack.enter_context(stage.proxy(path, dsns, scale.commit))
        whole = path / "all.csv"
        with whole.open("wb") as file:
            payload = rows.lines(rows.BLOCK_ROWS, ",")
            for _ in range(blocks):
                file.write(payload)
        through = [(f"postgresql://postgres@127.0.0.1:{proxy.port}/{stage.DATABASE}", whole)]

        load(servers, through, proxy)  # warms up, and tells which rows are whose
        expected = fingerprints(servers)
        if sum(int(str(count)) for count, _ in expected) != blocks * rows.BLOCK_ROWS:
            raise MeasurementError(f"the shards hold {expected}")
        parts = [(dsn, path / f"part{number}.csv") for number, dsn in enumerate(dsns)]
        for dsn, part in parts:
            if psql(servers[0], dsn, f"\\copy bench to '{part}' {COPY}").wait() != 0:
                raise MeasurementError("psql could not write a part")

        ours: list[Run] = []
        best: list[Run] = []
        for _ in range(scale.repeats):
            for samples, jobs, middle in ((best, parts, None), (ours, through, proxy)):
                samples.append(load(servers, jobs, middle))
                if fingerprints(servers) != expected:
                    raise MeasurementError("the shards do not hold the rows that were loaded")
        size = whole.stat().st_size
    return figures(ours, best, size)


def figures(ours: Sequence[Run], best: Sequence[Run], size: int) -> list[Figure]:
    ratios = [mine.wall / its.wall for mine, its in zip(ours, best, strict=True)]
    walls = median([one.wall for one in ours]), median([one.wall for one in best])
    shares = [100 * one.share for one in ours]
    count = size / rows.ROW

    def microseconds(seconds: Sequence[float]) -> str:
        return f"{median(seconds) / count * 1e6:.3f}"

    speed = f"4 psql on pre-split files {walls[1]:.2f} s; proxy {walls[0]:.2f} s, {size / walls[0] / 1e6:.0f} MB/s"
    costs = (
        f"µs of CPU a row: servers {microseconds([one.servers for one in ours])}, "
        f"psql {microseconds([one.clients for one in ours])}, proxy {microseconds([one.proxy for one in ours])}; "
        f"without proxy: servers {microseconds([one.servers for one in best])}, "
        f"psql {microseconds([one.clients for one in best])}"
    )
    return [
        Figure("real shards", "wall time of psql's \\copy", median(ratios), "× best", speed, TARGET, samples=ratios),
        Figure("real shards", "proxy's share of all CPU", median(shares), "%", costs, samples=shares),
    ]


if __name__ == "__main__":
    main(run)
