"""Transactions over the shards of a test, driven without a client: connections, a table, and what became of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from shardproxy.shard.address import Address
from shardproxy.shard.connect import connect
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.participant import Limits
from tests.support.databases import Databases, execute, query
from tests.support.lossy import Lossy

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"


class Shards:
    """The shards of `databases` with a table `t`, and a coordinator over them."""

    def __init__(self, databases: Databases, limits: Limits | None = None) -> None:
        self.databases = databases
        info = [psycopg.conninfo.conninfo_to_dict(dsn) for dsn in databases.shards]
        self.addresses = [
            Address(f"s{number}", str(one["host"]), int(one["port"] or 0), str(one["user"]), str(one["dbname"]))
            for number, one in enumerate(info)
        ]
        databases.execute(TABLE, oracle=False)
        self.limits = limits or Limits(10.0, 10.0)
        self.connections: list[Connection] = []

    def coordinator(self) -> Coordinator:
        return Coordinator("test", self.addresses, self.limits)

    @contextlib.asynccontextmanager
    async def reached_through_lossy(self, shard: int) -> AsyncIterator[Lossy]:
        """Reach a shard through a proxy of the test's, from now on."""
        address = self.addresses[shard]
        async with Lossy.between(address.host, address.port) as lossy:
            self.addresses[shard] = replace(address, port=lossy.port)
            yield lossy

    async def begin(self, *statements: str | None, begin: str = "BEGIN") -> list[Connection]:
        """Open a transaction on each shard that a statement is given for, and run it there."""
        self.connections = []
        for shard, statement in enumerate(statements):
            if statement is not None:
                connection = await connect(self.addresses[shard], {})
                await connection.execute(begin)
                await connection.execute(statement)
                self.connections.append(connection)
        return self.connections

    async def insert(self, number: int, shards: Sequence[int] = (0, 1, 2)) -> list[Connection]:
        """Insert a row on the given shards, each in a transaction that is left open."""
        sql = f"INSERT INTO t VALUES ({number}, 'x')"
        return await self.begin(*(sql if shard in shards else None for shard in range(len(self.addresses))))

    async def end(self) -> None:
        """Do what the engine does behind a failed commit, then leave."""
        for connection in self.connections:
            if connection.usable and connection.status != IDLE:
                await connection.execute("ROLLBACK")
            connection.close()
        self.connections = []

    def counts(self, number: int) -> list[int]:
        """How often each shard has the row."""
        return [query(dsn, f"SELECT count(*) FROM t WHERE id = {number}")[0][0] for dsn in self.databases.shards]

    def prepared(self) -> list[tuple[Any, ...]]:
        """What is prepared anywhere in these databases."""
        sql = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        return [row for dsn in self.databases.shards for row in query(dsn, sql)]

    def decisions(self) -> list[tuple[Any, ...]]:
        """All rows of shardproxy.decisions."""
        return [row for dsn in self.databases.shards for row in query(dsn, "SELECT * FROM shardproxy.decisions")]

    def execute(self, shard: int, sql: str) -> None:
        execute(self.databases.shards[shard], sql)


async def until(condition: Callable[[], bool], patience: float = 5.0) -> None:
    """Wait until `condition()`, which asks the shards, holds; the test fails when it does not in time."""
    deadline = time.monotonic() + patience
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)
