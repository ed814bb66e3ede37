"""Three shards, a fault proxy in front of each, shardproxy over them, and the judgement of what a load left.

Every load has its own number and N rows, N > 0. What must be true of each is in `Cell.judge`.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.databases import toml
from tests.support.faultproxy import FaultProxy
from tests.support.proxy import Proxy

UNKNOWN = "08007"
HEALED = 5.0
"""Seconds after healing in which no prepared transaction may be left, where each that runs has a core."""


def healed() -> float:
    """HEALED, as much longer as the machine now has more to run than it has cores."""
    return HEALED * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


TABLE = """
CREATE TABLE loads (load int8 NOT NULL, id int8 NOT NULL, note text);
CREATE INDEX ON loads (load);
CREATE TABLE placed (id int8) PARTITION BY HASH (id);
"""
COPY = "COPY loads FROM STDIN"

CONFIG = """\
[server]
listen = "127.0.0.1:0"
drain_timeout = 5.0
{server}
[[databases]]
name = "shop"
commit = {commit}
shards = {shards}
connect_timeout = {seconds}
stall_timeout = {seconds}
prepare_timeout = {seconds}
commit_timeout = {seconds}

[[databases.tables]]
name = "loads"
placement = "hash"
key = ["id"]
"""


def config(dsns: Sequence[str], *, commit: str = "two-phase", seconds: float = 1.0, server: str = "") -> str:
    """Write the configuration of the shards s0, s1, ...; every deadline is `seconds`; `server` goes into [server]."""
    shards = [{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(dsns)]
    return CONFIG.format(server=server, commit=toml(commit), shards=toml(shards), seconds=float(seconds))


def through(dsn: str, port: int) -> str:
    """Return the DSN by way of another port of loopback."""
    facts = conninfo_to_dict(dsn)
    return f"postgresql://{facts['user']}@127.0.0.1:{port}/{facts['dbname']}"


@dataclass
class Outcome:
    """What the client of a load was told."""

    sqlstate: str | None  # None: acknowledged
    said: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        """Whether it was told that all is committed."""
        return self.sqlstate is None


def outcome_of(error: psycopg.Error) -> Outcome:
    """Return what an exception reports; a connection lost without a word leaves its client in doubt."""
    diag = error.diag
    said = " | ".join(filter(None, (diag.message_primary, diag.message_detail, diag.context))) or str(error)
    return Outcome(diag.sqlstate or "lost", said)


class Cell:
    """See the module. `Cell.over` makes one."""

    def __init__(self, dsns: Sequence[str], faults: Sequence[FaultProxy], proxy: Proxy) -> None:
        self.dsns = list(dsns)
        self.faults = list(faults)
        self.proxy = proxy
        self.numbers = itertools.count(1)
        self._watching: dict[int, psycopg.AsyncConnection[Any]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def over(
        cls,
        dsns: Sequence[str],
        directory: Path,
        *,
        commit: str = "two-phase",
        seconds: float = 1.0,
        server: str = "",
    ) -> "AsyncIterator[Cell]":
        """Put fault proxies and a shardproxy in front of empty databases."""
        for dsn in dsns:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                await connection.execute(TABLE)
        async with contextlib.AsyncExitStack() as stack:
            targets = [conninfo_to_dict(dsn) for dsn in dsns]
            faults = [
                await stack.enter_async_context(FaultProxy(str(one["host"]), int(one["port"] or 0))) for one in targets
            ]
            paths = [through(dsn, fault.port) for dsn, fault in zip(dsns, faults, strict=True)]
            text = config(paths, commit=commit, seconds=seconds, server=server)
            proxy = await asyncio.to_thread(Proxy, directory, text)
            cell = cls(dsns, faults, proxy)
            try:
                yield cell
            finally:
                await cell._unwatch()
                for fault in faults:
                    await fault.heal()
                await asyncio.to_thread(proxy.close)

    # Clients.

    async def connect(self, application: str = "test", port: int | None = None) -> "psycopg.AsyncConnection[Any]":
        """Return a client's connection to the proxy, if need be by way of another port."""
        dsn = make_conninfo(
            self.proxy.dsn(), application_name=application, sslmode="disable", port=port or self.proxy.port
        )
        connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        return connection

    async def copy(self, connection: "psycopg.AsyncConnection[Any]", load: int, rows: int, width: int = 20) -> Outcome:
        """Run one COPY; return what the client was told."""
        begun = time.monotonic()
        outcome = Outcome(None)
        connection.add_notice_handler(lambda diag: outcome.warnings.append(diag.message_primary or ""))
        try:
            async with connection.cursor() as cursor:
                async with cursor.copy(COPY) as copy:
                    await copy.write(lines(load, rows, width))
                if cursor.rowcount != rows:
                    raise AssertionError(f"the tag reports {cursor.rowcount} of {rows} rows")
        except psycopg.Error as error:
            refused = outcome_of(error)
            outcome.sqlstate, outcome.said = refused.sqlstate, refused.said
        outcome.seconds = time.monotonic() - begun
        return outcome

    async def insert(self, connection: "psycopg.AsyncConnection[Any]", load: int, ids: Sequence[int]) -> Outcome:
        """Run one transaction with an INSERT for each id; return what the client was told."""
        begun = time.monotonic()
        outcome = Outcome(None)
        connection.add_notice_handler(lambda diag: outcome.warnings.append(diag.message_primary or ""))
        try:
            async with connection.transaction():
                for number in ids:
                    await connection.execute(f"INSERT INTO loads VALUES ({load}, {number}, 'x')")
        except psycopg.Error as error:
            refused = outcome_of(error)
            outcome.sqlstate, outcome.said = refused.sqlstate, refused.said
        outcome.seconds = time.monotonic() - begun
        return outcome

    # The shards themselves, past the faults.

    async def shard(self, number: int) -> "psycopg.AsyncConnection[Any]":
        """Return a connection to a shard that no fault touches."""
        known = self._watching.get(number)
        if known is not None:
            try:
                await known.execute("SELECT")
            except psycopg.OperationalError:
                # The shard has died since.
                await known.close()
        if known is None or known.closed:
            known = await psycopg.AsyncConnection.connect(self.dsns[number], autocommit=True)
            self._watching[number] = known
        return known

    async def ask(self, statement: str) -> list[list[tuple[Any, ...]]]:
        """Run a statement on every shard."""
        answers = []
        for number in range(len(self.dsns)):
            cursor = await (await self.shard(number)).execute(statement.encode())
            answers.append(await cursor.fetchall() if cursor.description else [])
        return answers

    async def prepared(self) -> list[str]:
        """All gids that are prepared in these databases."""
        found = await self.ask("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
        return [gid for rows in found for (gid,) in rows]

    async def open_transactions(self) -> int:
        """How many sessions of the proxy are inside a transaction."""
        found = await self.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND (xact_start IS NOT NULL OR state = 'active')"
        )
        return sum(count for ((count,),) in found)

    async def settle(self, patience: float | None = None) -> list[str]:
        """Wait until nothing is prepared or open; return the gids that are left after `patience` or `healed()`."""
        deadline = time.monotonic() + (healed() if patience is None else patience)
        while True:
            left = await self.prepared()
            if not left and not await self.open_transactions():
                return []
            if time.monotonic() > deadline:
                return left or ["a transaction that is still open"]
            await asyncio.sleep(0.05)

    async def heal(self) -> None:
        """End all faults."""
        for fault in self.faults:
            await fault.heal()

    async def judge(self, load: int, rows: int, outcome: Outcome) -> list[str]:
        """Return what is wrong with a load after healing: an empty list is a pass."""
        patience = healed()
        left = await self.settle(patience)
        wrong = [f"{patience:.0f} s after healing there is {gid}" for gid in left]
        found = [await self._count(number, load) for number in range(len(self.dsns))]
        count = sum(one[0] for one in found)
        distinct = sum(one[1] for one in found)
        misplaced = sum(one[2] for one in found)
        if count not in {0, rows}:
            wrong.append(f"{count} of {rows} rows")
        if distinct != count:
            wrong.append(f"{count - distinct} rows twice")
        if misplaced:
            wrong.append(f"{misplaced} rows on a wrong shard")
        if outcome.acknowledged and count != rows:
            wrong.append(f"acknowledged, but {count} of {rows} rows")
        if not outcome.acknowledged and outcome.sqlstate not in {UNKNOWN, "lost"} and count:
            wrong.append(f"refused with {outcome.sqlstate}, but {count} of {rows} rows")
        return wrong

    async def _count(self, number: int, load: int) -> tuple[int, int, int]:
        connection = await self.shard(number)
        cursor = await connection.execute(
            f"""SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE NOT
              satisfies_hash_partition('placed'::regclass, {len(self.dsns)}, {number}, id))
              FROM loads WHERE load = {load}""".encode()
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    async def _unwatch(self) -> None:
        for connection in self._watching.values():
            await connection.close()
        self._watching.clear()


def lines(load: int, rows: int, width: int) -> bytes:
    """Return COPY's text format: ids 1 to `rows`."""
    note = "x" * width
    return "".join(f"{load}\t{number}\t{note}\n" for number in range(1, rows + 1)).encode()
