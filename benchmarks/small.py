"""Small operations: how long one takes through the proxy, beside the same on a direct connection to one PostgreSQL.

Each operation runs on both in turns, from one client that waits for each answer. Measured: the median latency, and
the proxy's CPU time per operation. All servers are real and their data directories lie in memory where there is
room, so that what is compared is the work and the round trips, not the disk.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count

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
"""Rows that are there from the begin, and are selected."""

WARM_UP = 5
"""Operations that are not counted: connections are made, statements are prepared, plans are kept."""

SELECT = "SELECT name FROM bench WHERE id = "
INSERT = "INSERT INTO bench VALUES (%s, 'name', 'city', 1, now())"

Connection = psycopg.Connection[tuple[object, ...]]


class Session:
    """One client's operations on one address; keys never repeat within it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection: Connection = psycopg.connect(dsn, autocommit=True)
        self._keys = count(rows.FIRST_ID)

    def copy(self, number: int) -> None:
        """COPY `number` new rows in."""
        lines = "".join(f"{next(self._keys)},name,city,1,2025-01-01 00:00:00\n" for _ in range(number))
        with self.connection.cursor() as cursor:
            with cursor.copy("COPY bench FROM STDIN (FORMAT csv)") as copy:
                copy.write(lines)
            if cursor.rowcount != number:
                raise MeasurementError(f"sent {number} rows, {cursor.rowcount} were counted")

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


OPERATIONS: dict[str, Callable[[Session], None]] = {
    "COPY of 1 row": lambda session: session.copy(1),
    "COPY of 10 rows": lambda session: session.copy(10),
    "COPY of 100 rows": lambda session: session.copy(100),
    "SELECT by key, simple": lambda session: session.select(prepare=None),
    "SELECT by key, extended": lambda session: session.select(prepare=False),
    "SELECT by key, prepared": lambda session: session.select(prepare=True),
    "INSERT by key, prepared": Session.insert,
    "transaction of INSERT and SELECT": Session.transaction,
    "connect and leave": Session.connect,
    "connect, SELECT by key, leave": Session.visit,
}


@dataclass(frozen=True)
class Run:
    """Latencies in seconds, and CPU seconds of the proxy per operation."""

    proxied: float
    direct: float
    cpu: float


def timed(operation: Callable[[Session], None], session: Session) -> float:
    started = time.perf_counter()
    operation(session)
    return time.perf_counter() - started


def measure(operation: Callable[[Session], None], ours: Session, direct: Session, proxy: Program, times: int) -> Run:
    """Run an operation `times` times on both, in turns."""
    proxied, plain, cpu = [], [], 0.0
    for _ in range(times):
        plain.append(timed(operation, direct))
        before = proxy.cpu()
        proxied.append(timed(operation, ours))
        cpu += proxy.cpu() - before
    return Run(median(proxied), median(plain), cpu / times)


@contextmanager
def session(dsn: str) -> Iterator[Session]:
    """A session, left at the end."""
    opened = Session(dsn)
    try:
        yield opened
    finally:
        opened.close()


def run(scale: Scale) -> list[Figure]:
    real.scratch()
    times = 20 if scale.quick else 200
    figures = []
    with stage.directory() as path, ExitStack() as stack:
        servers = [stack.enter_context(Server.start(settings=SETTINGS)) for _ in range(stage.SHARDS)]
        for server in servers:
            stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
        stage.execute(servers[0].dsn(), f"CREATE DATABASE {DIRECT}")
        tables = [*(server.dsn(stage.DATABASE) for server in servers), servers[0].dsn(DIRECT)]
        for dsn in tables:
            stage.execute(dsn, f"{stage.TABLES}; {INDEX}")
        proxy = stack.enter_context(stage.proxy(path, tables[:-1], scale.commit))
        ours = stack.enter_context(session(f"postgresql://postgres@127.0.0.1:{proxy.port}/{stage.DATABASE}"))
        direct = stack.enter_context(session(servers[0].dsn(DIRECT)))
        for one in (ours, direct):
            with one.connection.cursor().copy("COPY bench (id, name) FROM STDIN") as copy:
                for key in range(KNOWN):
                    copy.write_row((key, "name"))
        for name, operation in OPERATIONS.items():
            measure(operation, ours, direct, proxy, WARM_UP)
            runs = [measure(operation, ours, direct, proxy, times) for _ in range(scale.repeats)]
            ratios = [one.proxied / one.direct for one in runs]
            baseline = (
                f"direct {median([one.direct for one in runs]) * 1e3:.2f} ms; "
                f"proxy {median([one.proxied for one in runs]) * 1e3:.2f} ms, "
                f"{median([one.cpu for one in runs]) * 1e3:.2f} ms of its CPU an operation"
            )
            figures.append(Figure("small operations", name, median(ratios), "× direct", baseline, samples=ratios))
    return figures


if __name__ == "__main__":
    main(run)
