"""The journal of `--import-id`: what of an import is stored, in `shardproxy.imports` on the target.

A file's row is written in the transaction that stores its rows, on the connection that stores them, so it is there
exactly if they are. A repeated load reads it and leaves out what it names.

Theory of operation: a load must know of each file whether another transaction has stored it, or still may.
- One load of an import runs at a time: it holds an advisory lock, on a session of its own, for as long as it runs.
- A loader that was killed may leave a transaction that still commits: its COMMIT has been sent, or it is prepared and
  in doubt. Such a one has written its row before, for a COMMIT is sent after the answer to that. So the rows of the
  files to come are inserted for a moment, and rolled back: PostgreSQL has the insert wait until a transaction with the
  same key has ended. What the journal then has is all that it will ever have of the past.
- Should the lock be lost in the middle of a load, two loads may store a file; the second one's row waits for the
  first one's transaction, then is refused, and with it the rows.

The journal of a table is on the first shard that has its rows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shardproxy.errors import PgError
from shardproxy.loader.identity import Identity
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.target.table import Table
from shardproxy.rejects.form import literal
from shardproxy.session.database import Database
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import AWAKE, SETTINGS, is_transient, session, translated
from shardproxy.sqlstate import (
    FEATURE_NOT_SUPPORTED,
    LOCK_NOT_AVAILABLE,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    UNIQUE_VIOLATION,
)
from shardproxy.transaction.decisions import IMPORTS_SQL, SETUP_LOCK, imports_sql

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

TIMEOUT: Final = 30.0
"""Seconds for an answer of the journal's session."""

LOCK_PATIENCE: Final = 5.0
"""Seconds to wait for the lock: the session of a loader that was killed ends when its server notices."""

DOUBT_PATIENCE: Final = 60.0
"""Seconds to wait for transactions of a load before: recovery decides them after prepare_timeout."""

AGAIN: Final = 0.1
"""Seconds between two attempts."""

_SETTINGS: Final = {**SETTINGS, "application_name": "shardproxy load: journal"}

_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"

_PROBE: Final = """INSERT INTO shardproxy.imports (import_id, relation, path, size, digest, load_id, expires)
  SELECT $1, $2, path, 0, '', '', now() FROM unnest($3::text[]) AS path ORDER BY path ON CONFLICT DO NOTHING"""

_RENEW: Final = """UPDATE shardproxy.imports SET expires = greatest(expires, now() + $4 * interval '1 day')
  WHERE import_id = $1 AND relation = $2 AND path = ANY ($3::text[])"""

_FORGET: Final = "DELETE FROM shardproxy.imports WHERE expires < now()"

_READ: Final = """SELECT path, size, digest, load_id, loaded::text, rejects FROM shardproxy.imports
  WHERE import_id = $1 AND relation = $2 ORDER BY loaded"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is stored."""

    path: str
    size: int
    digest: str
    load_id: str
    loaded: str
    rejects: list[str]

    def __str__(self) -> str:
        aside = f", rows set aside in {', '.join(self.rejects)}" if self.rejects else ""
        return f"stored by load {self.load_id} at {self.loaded}{aside}"


class Journal:
    """The journal of one import into one table; `opened` makes it."""

    def __init__(self, options: LoadOptions, address: Address, relation: str, load_id: str) -> None:
        assert options.import_id is not None
        self._key = (options.import_id, relation)
        self._keep = options.journal_keep
        self._address = address
        self._load_id = load_id
        self.changes = not options.check
        """Whether the load is to be remembered."""
        self.entries: dict[str, Entry] = {}
        """What is stored, by path, after `look`."""

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, options: LoadOptions, database: Database, table: Table, load_id: str
    ) -> "AsyncIterator[Journal]":
        """Lock the import, and wait for what loads before have left. Raises PgError: 55P03 if a load of it runs."""
        config = database.config
        if config.commit == "one-phase" and len(config.shards) > 1:
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                'an import id needs commit = "two-phase" where there are several shards',
                detail="With one-phase commit the rows of some shards could be stored without those of others.",
            )
        journal = cls(options, database.addresses[_shard_of(database, table)], table.quoted, load_id)
        held = session(journal._address, TIMEOUT, _SETTINGS)
        connection = await held.__aenter__()
        try:
            await journal._lock(connection)
            yield journal
        finally:
            # Not told of an error, which is that of the load and none of this session's.
            await held.__aexit__(None, None, None)

    async def _lock(self, connection: "Control") -> None:
        deadline = time.monotonic() + LOCK_PATIENCE
        with translated(self._address):
            await connection.execute(AWAKE)
            while not await connection.fetchval(_LOCK, "\n".join(self._key)):
                if time.monotonic() > deadline:
                    raise PgError(
                        LOCK_NOT_AVAILABLE,
                        f'another load of import "{self._key[0]}" into {self._key[1]} is running',
                        hint="Wait until it has ended. What it has stored is left out then.",
                    )
                await asyncio.sleep(AGAIN)

    # Reading.

    async def look(self, files: Sequence[Identity]) -> None:
        """Make the table if it is missing, wait for transactions that may yet store these files, and read."""
        paths = sorted({one.path for one in files})
        async with self._session() as connection:
            if not await self._made(connection):
                return
            await self._wait(connection, paths)
            if self.changes:
                await connection.execute(_RENEW, *self._key, paths, self._keep)
                await connection.execute(_FORGET)
            self.entries = {row["path"]: Entry(*row) for row in await connection.fetch(_READ, *self._key)}

    async def holds(self, path: str) -> bool | None:
        """Whether this load's transaction for a file, whose COMMIT was not answered, is committed; None: unknown."""
        deadline = time.monotonic() + DOUBT_PATIENCE
        while True:
            try:
                async with self._session() as connection:
                    await self._wait(connection, [path])
                    rows = await connection.fetch(_READ, *self._key)
                    return any((row["path"], row["load_id"]) == (path, self._load_id) for row in rows)
            except PgError as error:
                if not is_transient(error) or time.monotonic() > deadline:
                    return None
            await asyncio.sleep(AGAIN)

    @asynccontextmanager
    async def _session(self) -> "AsyncIterator[Control]":
        import asyncpg

        async with session(self._address, TIMEOUT, _SETTINGS) as connection:
            try:
                yield connection
            except asyncpg.InsufficientPrivilegeError as error:
                address = self._address
                raise PgError(
                    OBJECT_NOT_IN_PREREQUISITE_STATE,
                    f'"{address.name}" is not set up for import ids: {error}',
                    detail=f"SQL: {imports_sql(address.user)}",
                    hint="As a DBA, run the SQL in the detail there.",
                ) from error

    async def _made(self, connection: "Control") -> bool:
        """Whether the table is there, now."""
        # Not by to_regclass, which fails where the role may not use the schema.
        there = """SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = 'shardproxy' AND c.relname = 'imports')"""
        if await connection.fetchval(there):
            return True
        if not self.changes:
            return False
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", SETUP_LOCK)
            await connection.execute(IMPORTS_SQL)
        return True

    async def _wait(self, connection: "Control", paths: Sequence[str]) -> None:
        """Have transactions that have written rows of these files end."""
        import asyncpg

        deadline = time.monotonic() + DOUBT_PATIENCE
        while True:
            try:
                await connection.execute("BEGIN")
                await connection.execute(_PROBE, *self._key, paths)
                return
            except asyncpg.LockNotAvailableError as error:
                if time.monotonic() > deadline:
                    raise PgError(
                        LOCK_NOT_AVAILABLE,
                        f'a transaction of an earlier load of import "{self._key[0]}" has not ended',
                        detail=f'It is open, or prepared and in doubt, on "{self._address.name}".',
                        hint="If it is in doubt, repeat the load as it was, with as many writers; or for a database of "
                        "the proxy, run `shardproxy recover`.",
                    ) from error
            finally:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")

    # Writing.

    async def record(self, connections: Iterable[Connection], file: Identity, rejects: Sequence[str]) -> None:
        """Note a file as stored, in the transaction of these connections. Raises 23505 if another load was faster."""
        # By its place, as several writers of one server have names of their own: the first of them has the journal.
        connection = next((one for one in connections if _place(one.address) == _place(self._address)), None)
        if connection is None:
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f'an import id cannot be used for {self._key[1]}: "{self._address.name}" has none of its rows',
            )
        values = [*map(literal, (*self._key, file.path)), str(file.size), *map(literal, (file.digest, self._load_id))]
        names = ", ".join(map(literal, rejects))
        # Again for the second file of an archive. Operators are spelled out, as the session may have any search_path.
        tag = await connection.execute(
            f"""INSERT INTO shardproxy.imports AS i (import_id, relation, path, size, digest, load_id, rejects, expires)
  VALUES ({", ".join(values)}, ARRAY[{names}]::pg_catalog.text[],
    pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(days => {self._keep}))
  ON CONFLICT (import_id, relation, path) DO UPDATE SET rejects = EXCLUDED.rejects
  WHERE i.load_id OPERATOR(pg_catalog.=) EXCLUDED.load_id"""
        )
        if tag != "INSERT 0 1":
            raise PgError(
                UNIQUE_VIOLATION,
                f'another load of import "{self._key[0]}" has stored "{file.name}" meanwhile',
                hint="Repeat the load: it leaves out what is stored.",
            )

    def judge(self, file: Identity) -> Entry | None:
        """Return the entry of a file that is stored, None for one that is not; 55000 if it has changed since."""
        entry = self.entries.get(file.path)
        if entry is None or (entry.size, entry.digest) == (file.size, file.digest):
            return entry
        change = (
            f"It had {entry.size} bytes, and has {file.size}." if entry.size != file.size else "Its content differs."
        )
        raise PgError(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            f'file "{file.name}" has changed since import "{self._key[0]}" has stored it',
            detail=f"{change} It was {entry}.",
            hint="Give new rows in a file of another name, or load all of it under another import id.",
        )

    def alike(self, file: Identity) -> Entry | None:
        """Return what is stored of another name with the same size, head and tail."""
        found = (one for one in self.entries.values() if (one.size, one.digest) == (file.size, file.digest))
        return next((one for one in found if one.path != file.path), None) if file.size else None


def _place(address: Address) -> tuple[str, int, str]:
    return address.host, address.port, address.database


def _shard_of(database: Database, table: Table) -> int:
    """The number of the first shard that has a table's rows."""
    listed = database.table(table.schema, table.name)
    shard = database.unlisted_shard if listed is None else database.shard_of(listed)
    return shard or 0
