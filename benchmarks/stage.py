"""What benchmarks run against: four shards (discarding or real), the proxy and the relay, all on loopback."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.processes import Program
from benchmarks.rows import COLUMNS
from shardproxy.embedded import Server

SHARDS = 4
DATABASE = "bench"
SETTINGS = {"autovacuum": "off", "max_connections": "200"}
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For the relay: glibc gives pages back and takes them again, a fifth of its CPU that is not moving bytes."""

TABLES = f"CREATE TABLE bench ({COLUMNS}); CREATE TABLE tiny (digit text)"


KEYS = {"bench": "id", "tiny": "digit"}
"""The key column of each table."""


@dataclass(frozen=True)
class Discarding:
    """Shards that discard, and the ports they have for the relay."""

    programs: list[Program]
    dsns: list[str]
    sinks: list[int]
    sources: list[int]


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for logs and configuration files."""
    with tempfile.TemporaryDirectory(prefix="shardproxy-bench-") as path:
        yield Path(path)


@contextmanager
def one_server() -> Iterator[Server]:
    """One PostgreSQL with a database for each shard, behind shards that discard."""
    with Server.start(settings=SETTINGS) as server:
        for number in range(SHARDS):
            execute(server.dsn(), f"CREATE DATABASE {DATABASE}{number}")
            execute(server.dsn(f"{DATABASE}{number}"), TABLES)
        yield server


@contextmanager
def discarding(path: Path, server: Server, out_blocks: int = 0, out_write: int = 65536) -> Iterator[Discarding]:
    """Four processes that discard, in front of one server; COPY TO gives `out_blocks` blocks from each."""
    with ExitStack() as stack:
        arguments = ["-m", "benchmarks.discard", "--backend", str(server.port)]
        arguments += ["--out-blocks", str(out_blocks), "--out-write", str(out_write)]
        programs = [stack.enter_context(Program(path, f"shard{n}", arguments)) for n in range(SHARDS)]
        ports = [[int(port) for port in program.ready.split()] for program in programs]
        dsns = [
            f"postgresql://{server.superuser}@127.0.0.1:{shard}/{DATABASE}{number}"
            for number, (shard, _, _) in enumerate(ports)
        ]
        yield Discarding(programs, dsns, [sink for _, sink, _ in ports], [source for _, _, source in ports])


@contextmanager
def proxy(
    path: Path,
    dsns: Sequence[str],
    commit: str,
    keys: Mapping[str, str | None] = KEYS,
    env: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """The proxy over shards; `keys` has each table's key column, None for a reference table."""
    shards = ", ".join(f'{{ name = "s{number}", dsn = "{dsn}" }}' for number, dsn in enumerate(dsns))
    config = path / f"proxy-{time.monotonic_ns()}.toml"
    tables = [
        f'[[databases.tables]]\nname = "{table}"\n'
        + ('placement = "reference"\n' if key is None else f'placement = "hash"\nkey = ["{key}"]\n')
        for table, key in keys.items()
    ]
    config.write_text(f"""\
[server]
listen = "127.0.0.1:0"
[[databases]]
name = "{DATABASE}"
commit = "{commit}"
unlisted_tables = "error"
shards = [{shards}]
{"".join(tables)}""")
    with Program(path, "proxy", ["-m", "shardproxy", "serve", "-c", str(config)], env) as program:
        yield program


@contextmanager
def relay(path: Path, ports: Sequence[int], *options: str) -> Iterator[Program]:
    """The relay over raw ports; its `options` are those of its command line."""
    with Program(path, "relay", ["-m", "benchmarks.relay", *options, *map(str, ports)], KEEP_MEMORY) as program:
        yield program


def url(program: Program) -> str:
    """Where clients of the proxy, or of a relay in front of PostgreSQL, connect."""
    return f"postgresql://postgres@127.0.0.1:{program.port}/{DATABASE}"


def execute(dsn: str, statement: str) -> None:
    """Run SQL over a connection of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())
