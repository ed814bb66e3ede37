"""A client's messages on one PostgreSQL and through the proxy, and the answers compared.

`Twin` has the databases of `Databases` with the same tables everywhere, and a proxy over the shards. A step is SQL
for a simple query, or bytes: messages that end in one ReadyForQuery, or in the end of the connection.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient, Reply

TABLES = (
    {"name": "t", "placement": "hash", "key": ["a"]},
    {"name": "ref", "placement": "reference"},
    {"name": "one", "placement": "single", "shard": "s1"},
)

DDL = """
    CREATE TABLE t (a int PRIMARY KEY, b text);
    CREATE TABLE ref (a int PRIMARY KEY, b text);
    CREATE TABLE one (a int PRIMARY KEY, b text);
    CREATE FUNCTION say(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', what; END $$;
"""

ROWS = 60  # in t, on every shard some

Step = str | bytes


@dataclass
class Twin:
    """Both sides."""

    databases: Databases
    proxy: Proxy

    @classmethod
    @contextmanager
    def open(cls, servers: Servers, run_proxy: RunProxy, **config: Any) -> Iterator[Self]:
        """Make the databases in one server and start the proxy."""
        databases = Databases.create(servers, one_server=True)
        try:
            databases.execute(DDL)
            yield cls(databases, run_proxy(databases.config(TABLES, **config)))
        finally:
            databases.drop()

    @property
    def version(self) -> int:
        """The servers' version."""
        return self.databases.version

    @property
    def dsn(self) -> str:
        """The proxy's."""
        return self.proxy.dsn()

    def fill(self) -> None:
        """Put the same rows into all tables, and nothing else."""
        rows = "".join(f"{number}\trow {number}\n" for number in range(1, ROWS + 1))
        for dsn in (self.dsn, self.databases.oracle):
            with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
                cursor.execute("TRUNCATE t, ref, one")
                for table in ("t", "ref", "one"):
                    with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                        copy.write(rows)

    def compare(self, *steps: Step, settings: dict[str, str] | None = None, ignore: str = "") -> list[Reply]:
        """Run the steps on both, and demand the same answers; return the proxy's.

        Rows may come in another order. `ignore` are letters of error and notice fields that the test explains.
        """
        expected = self.run(self.databases.oracle, steps, settings)
        got = self.run(self.dsn, steps, settings)
        assert len(got) == len(expected), (got, expected)
        for step, here, there in zip(steps, got, expected, strict=False):
            ours, theirs = _normal(here, ignore), _normal(there, ignore)
            differences = {what: (ours[what], theirs[what]) for what in ours if ours[what] != theirs[what]}
            assert not differences, f"proxy and oracle after {step!r}: {differences}"
        return got

    def proxied(self, *steps: Step, settings: dict[str, str] | None = None) -> list[Reply]:
        """Run the steps through the proxy alone; the session must be usable behind them."""
        replies = self.run(self.dsn, [*steps, "ROLLBACK", "SELECT 1"], settings)
        assert replies[-1].order == "TDCZ", replies
        return replies[:-2]

    @staticmethod
    def run(dsn: str, steps: Sequence[Step], settings: dict[str, str] | None = None) -> list[Reply]:
        """Run the steps over one connection; the end of it ends the list."""
        replies: list[Reply] = []
        with RawClient(dsn, settings) as client:
            for step in steps:
                replies.append(client.query(step) if isinstance(step, str) else client.exchange(step))
                if replies[-1].closed:
                    break
        return replies

    def rows(self, table: str = "t") -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return a table's rows on the shards, and on the oracle, in order."""
        listing = f"TABLE {table}"
        return sorted(row for rows in self.databases.rows(listing) for row in rows), sorted(
            self.databases.oracle_rows(listing)
        )

    def copies(self, table: str = "ref") -> list[tuple[Any, ...]]:
        """Return a reference table's rows, in order, the same on every shard."""
        first, *others = self.databases.rows(f"SELECT to_jsonb({table}) FROM {table} ORDER BY 1")
        assert others == [first, first]
        return first

    def working(self, state: str = "%") -> int:
        """Return how many shard backends run or hold something for the proxy."""
        [(count,)] = self.databases.oracle_rows(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
            f" AND state LIKE '{state}' AND datname LIKE '{self.databases.name}\\_s%'"
        )
        return int(count)

    def sleeping(self) -> int:
        """Return how many shard backends are in pg_sleep()."""
        [(count,)] = self.databases.oracle_rows(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            f" AND datname LIKE '{self.databases.name}\\_s%'"
        )
        return int(count)

    def connected(self) -> int:
        """Return how many connections the shards have."""
        [(count,)] = self.databases.oracle_rows(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{self.databases.name}\\_s%'"
        )
        return int(count)


def _normal(reply: Reply, ignore: str) -> dict[str, object]:
    def fields(one: dict[str, str]) -> dict[str, str]:
        return {code: text for code, text in one.items() if code not in "FLR" + ignore}

    return {
        "order": reply.order,
        "tags": reply.tags,
        "errors": [fields(error) for error in reply.errors],
        "notices": [fields(notice) for notice in reply.notices],
        "parameters": sorted(reply.parameters),
        "rows": sorted(reply.rows, key=repr),
        "data": sorted(reply.data),
        "status": reply.status,
        "closed": reply.closed,
    }
