"""Small operations: how long one takes through the proxy, beside the same on a direct connection to one PostgreSQL.

Each operation runs on both in turns, from one client that waits for each answer. Measured: the median latency, and
the proxy's CPU time per operation. All servers are real and their data directories lie in memory where there is
room, so that what is compared is the work and the round trips, not the disk.

What a COPY costs more when the configuration lists many tables is measured in the same way, on two proxies over the
same shards. The shards hold all those tables in either case.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
import psycopg

from benchmarks import real, rows, stage
from benchmarks.figures import Figure, Scale, main, median
from benchmarks.processes import MeasurementError, Program
from shardproxy.embedded import Server

SETTINGS = {**real.SETTINGS, "max_prepared_transactions": "64"}
DIRECT = "direct"
"""The database of the direct connection, on the first shard's server."""

INDEX = "ALTER TABLE bench ADD PRIMARY KEY (id)"
KNOWN = 1000
"""Rows that are there from the beginning, and are selected."""

WARM_UP = 5
"""Operations that are not counted: connections are made, statements are prepared, plans are kept."""

PIPELINE = 500
"""INSERTs of a pipeline."""

SPREAD = 3
"""Shards touched by a COPY of as many rows."""

SPREAD_ID = 10**10
"""From here on keys are handed out by their shard."""

FEW, MANY = 3, 1000
"""Tables that are listed. The one of the COPY is the last, as a search of the list would find it last."""

SELECT = "SELECT name FROM bench WHERE id = "
INSERT = "INSERT INTO bench VALUES (%s, 'name', 'city', 1, now())"
INSERT_ASYNCPG = INSERT.replace("%s", "$1")

Connection = psycopg.Connection[tuple[object, ...]]
Keys = tuple[int, ...]


class Session:
    """One client's operations on one address; keys never repeat within it."""

    def __init__(self, dsn: str, spread: Iterable[Keys] = (), first: int = rows.FIRST_ID) -> None:
        """`spread` has the keys of each COPY that touches SPREAD shards; `first` is the first of all other keys."""
        self.dsn = dsn
        self.connection: Connection = psycopg.connect(dsn, autocommit=True)
        self._keys = count(first)
        self._spread = iter(spread)
        self._runner = asyncio.Runner()
        self._asyncpg: asyncpg.Connection | None = None

    def copy(self, number: int) -> None:
        """COPY `number` new rows in."""
        self._copy([next(self._keys) for _ in range(number)])

    def copy_spread(self) -> None:
        """COPY a new row into each of SPREAD shards."""
        self._copy(next(self._spread))

    def _copy(self, keys: Sequence[int]) -> None:
        lines = "".join(f"{key},name,city,1,2025-01-01 00:00:00\n" for key in keys)
        with self.connection.cursor() as cursor:
            with cursor.copy("COPY bench FROM STDIN (FORMAT csv)") as copy:
                copy.write(lines)
            if cursor.rowcount != len(keys):
                raise MeasurementError(f"sent {len(keys)} rows, {cursor.rowcount} were counted")

    def select(self, prepare: bool | None) -> None:
        """SELECT one row by its key; None for a simple query."""
        key = next(self._keys) % KNOWN
        if prepare is None:
            # Without parameters psycopg sends a simple query, unless it comes so often that it is prepared.
            cursor = self.connection.execute(f"{SELECT}{key}".encode(), prepare=False)
        else:
            cursor = self.connection.execute(f"{SELECT}%s".encode(), (key,), prepare=prepare)
        if len(cursor.fetchall()) != 1:
            raise MeasurementError(f"row {key} was not found")

    def insert(self) -> None:
        """INSERT one row."""
        self.connection.execute(INSERT, (next(self._keys),), prepare=True)

    def transaction(self) -> None:
        """INSERT a row and read one in a transaction block."""
        with self.connection.transaction():
            self.insert()
            self.select(prepare=True)

    def pipeline(self) -> None:
        """INSERT rows by psycopg's pipeline."""
        with self.connection.pipeline():
            for _ in range(PIPELINE):
                self.insert()

    def executemany(self) -> None:
        """INSERT rows by asyncpg's executemany."""
        self._runner.run(self._executemany([(next(self._keys),) for _ in range(PIPELINE)]))

    async def _executemany(self, keys: list[tuple[int]]) -> None:
        if self._asyncpg is None:
            self._asyncpg = await asyncpg.connect(self.dsn)
        await self._asyncpg.executemany(INSERT_ASYNCPG, keys)

    def connect(self) -> None:
        """Connect and leave."""
        psycopg.connect(self.dsn).close()

    def visit(self) -> None:
        """Connect, SELECT one row, leave."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"{SELECT}{next(self._keys) % KNOWN}".encode())

    def close(self) -> None:
        """Leave."""
        self.connection.close()
        if self._asyncpg is not None:
            self._runner.run(self._asyncpg.close())
        self._runner.close()


@dataclass(frozen=True)
class Operation:
    """What is measured, and at most how many times the direct latency it may take."""

    run: Callable[[Session], None]
    target: float | None = None
    statements: int = 1
    """How many the operation has; one of many is measured fewer times."""


OPERATIONS = {
    "COPY of 1 row": Operation(lambda session: session.copy(1), 4.0),
    "COPY of 3 rows, three shards touched": Operation(Session.copy_spread, 8.0),
    "COPY of 10 rows": Operation(lambda session: session.copy(10)),
    "COPY of 100 rows": Operation(lambda session: session.copy(100)),
    "SELECT by key, simple": Operation(lambda session: session.select(prepare=None)),
    "SELECT by key, extended": Operation(lambda session: session.select(prepare=False)),
    "SELECT by key, prepared": Operation(lambda session: session.select(prepare=True)),
    "INSERT by key, prepared": Operation(Session.insert),
    "transaction of INSERT and SELECT": Operation(Session.transaction),
    f"psycopg pipeline of {PIPELINE} INSERTs": Operation(Session.pipeline, 4.0, PIPELINE),
    f"asyncpg executemany of {PIPELINE} INSERTs": Operation(Session.executemany, 4.0, PIPELINE),
    "connect and leave": Operation(Session.connect),
    "connect, SELECT by key, leave": Operation(Session.visit, 2.0),
}

ANY_TABLES = 1.1
"""Most that a COPY may take where many tables are listed, against few: the same, and what two runs differ by."""


def listed(number: int) -> dict[str, str]:
    """As many tables and their keys, the benchmarks' own among them."""
    return {f"listed{one}": "id" for one in range(number - len(stage.KEYS))} | dict(reversed(stage.KEYS.items()))


@dataclass(frozen=True)
class Run:
    """One run of an operation: the median latency in seconds, and CPU seconds of the proxy per operation."""

    wall: float
    cpu: float


def measure(
    operation: Operation, sides: Sequence[tuple[Session, Program | None]], times: int, *, least: int = 2
) -> list[Run]:
    """Run an operation `times` times on each side, in turns; one of many statements fewer times."""
    times = max(least, times // (operation.statements // 25 or 1))
    walls: list[list[float]] = [[] for _ in sides]
    cpu = [0.0 for _ in sides]
    for _ in range(times):
        for number, (session, proxy) in enumerate(sides):
            before = proxy.cpu() if proxy else 0.0
            started = time.perf_counter()
            operation.run(session)
            walls[number].append(time.perf_counter() - started)
            cpu[number] += (proxy.cpu() if proxy else 0.0) - before
    return [Run(median(wall), spent / times) for wall, spent in zip(walls, cpu, strict=True)]


@contextmanager
def session(dsn: str, spread: Iterable[Keys] = (), first: int = rows.FIRST_ID) -> Iterator[Session]:
    """A session, left at the end."""
    opened = Session(dsn, spread, first)
    try:
        yield opened
    finally:
        opened.close()


def start(stack: ExitStack) -> list[Server]:
    """Real shards, and the database of the direct connection on the first."""
    real.scratch()
    servers = [stack.enter_context(Server.start(settings=SETTINGS)) for _ in range(stage.SHARDS)]
    stage.execute(servers[0].dsn(), f"CREATE DATABASE {DIRECT}")
    for server in servers:
        stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
    for dsn in (*dsns(servers), servers[0].dsn(DIRECT)):
        stage.execute(dsn, f"{stage.TABLES}; {INDEX}")
    return servers


def dsns(servers: Sequence[Server]) -> list[str]:
    """The shards."""
    return [server.dsn(stage.DATABASE) for server in servers]


def fill(one: Session) -> None:
    """Make the rows that are selected."""
    with one.connection.cursor().copy("COPY bench (id, name) FROM STDIN") as copy:
        for key in range(KNOWN):
            copy.write_row((key, "name"))


def spread(dsn: str, number: int) -> list[Keys]:
    """Keys of `number` COPYs, each with a key of the first shard, the second and the third, as PostgreSQL hashes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE placed (id bigint) PARTITION BY HASH (id)")
        keys = [
            connection.execute(
                "SELECT id FROM generate_series(%s::bigint, %s) id"
                " WHERE satisfies_hash_partition('placed'::regclass, %s, %s, id)",
                (SPREAD_ID, SPREAD_ID + 2 * stage.SHARDS * number, stage.SHARDS, shard),
            ).fetchall()
            for shard in range(SPREAD)
        ]
    chosen = list(zip(*([int(key) for (key,) in column] for column in keys), strict=False))[:number]
    if len(chosen) != number:
        raise MeasurementError(f"only {len(chosen)} of {number} keys were found on each shard")
    return chosen


def run(scale: Scale) -> list[Figure]:
    times = 20 if scale.quick else 200
    with stage.directory() as path, ExitStack() as stack:
        servers = start(stack)
        keys = spread(servers[0].dsn(DIRECT), times * scale.repeats + WARM_UP)
        proxy = stack.enter_context(stage.proxy(path, dsns(servers), scale.commit))
        ours = stack.enter_context(session(stage.url(proxy), keys))
        direct = stack.enter_context(session(servers[0].dsn(DIRECT), keys))
        for one in (ours, direct):
            fill(one)
        figures = [
            against_direct(name, operation, (direct, None), (ours, proxy), scale, times)
            for name, operation in OPERATIONS.items()
        ]
        same_rows(servers)
        return [*figures, *many_tables(path, servers, scale, times)]


def against_direct(
    name: str,
    operation: Operation,
    direct: tuple[Session, None],
    ours: tuple[Session, Program],
    scale: Scale,
    times: int,
) -> Figure:
    measure(operation, [direct, ours], WARM_UP, least=1)
    runs = [measure(operation, [direct, ours], times) for _ in range(scale.repeats)]
    ratios = [mine.wall / its.wall for its, mine in runs]
    baseline = (
        f"direct {median([its.wall for its, _ in runs]) * 1e3:.2f} ms; "
        f"proxy {median([mine.wall for _, mine in runs]) * 1e3:.2f} ms, "
        f"{median([mine.cpu for _, mine in runs]) * 1e3:.2f} ms of its CPU an operation"
    )
    return Figure("small operations", name, median(ratios), "× direct", baseline, operation.target, samples=ratios)


def same_rows(servers: Sequence[Server]) -> None:
    """Raise unless the shards hold as many rows as the direct connection's database."""
    held = []
    for dsn in (servers[0].dsn(DIRECT), *dsns(servers)):
        with psycopg.connect(dsn) as connection:
            held += connection.execute("SELECT count(*)::integer FROM bench").fetchall()
    (expected,), *found = held
    if sum(number for (number,) in found) != expected:
        raise MeasurementError(f"the shards hold {found} rows, {expected} were sent")


def many_tables(path: Path, servers: Sequence[Server], scale: Scale, times: int) -> list[Figure]:
    """A COPY of one row through a proxy with 1,000 tables, against one with 3."""
    make = "; ".join(f"CREATE TABLE {table} (id bigint)" for table in listed(MANY) if table not in stage.KEYS)
    for dsn in dsns(servers):
        stage.execute(dsn, make)
    operation = OPERATIONS["COPY of 1 row"]
    with ExitStack() as stack:
        sides = []
        for number, tables in enumerate((FEW, MANY), 1):
            proxy = stack.enter_context(stage.proxy(path, dsns(servers), scale.commit, listed(tables)))
            one = stack.enter_context(session(stage.url(proxy), first=rows.FIRST_ID + number * 10**9))
            sides.append((one, proxy))
        measure(operation, sides, WARM_UP)
        runs = [measure(operation, sides, times) for _ in range(scale.repeats)]
    figures = []
    for name, values in (
        ("latency", [(few.wall, many.wall) for few, many in runs]),
        ("proxy's CPU", [(few.cpu, many.cpu) for few, many in runs]),
    ):
        ratios = [many / few for few, many in values]
        few, many = (median(column) * 1e3 for column in zip(*values, strict=True))
        figures.append(
            Figure(
                "small operations",
                f"COPY of 1 row, {MANY} tables listed, {name}",
                median(ratios),
                f"× {FEW} tables",
                f"{FEW} tables {few:.2f} ms; {MANY} tables {many:.2f} ms",
                ANY_TABLES,
                samples=ratios,
            )
        )
    return figures


if __name__ == "__main__":
    main(run)
