"""drop_indexes: a table without its indexes for the rows of a load.

What is needed to make them again is in the journal, the table shardproxy.dropped_indexes of each server, and
committed, before the load's transaction drops them. So a load that fails leaves the indexes as they were, and one that
dies between its commit and their being made again leaves them to `shardproxy load --repair`. An entry goes in the
transaction that completes its index.

While a load lives it holds an advisory lock for the table on each server. Whether its transaction has been committed is
asked with a lock on the table, which that transaction excludes: so also one that is prepared, or whose client has died,
has ended before anything is decided.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shardproxy.errors import PgError
from shardproxy.loader.target.places import shards_of
from shardproxy.loader.target.table import Table
from shardproxy.net.gather import each
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.session.database import Database
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.shard.control import AWAKE, SETTINGS, session, translated
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, LOCK_NOT_AVAILABLE, OBJECT_IN_USE
from shardproxy.transaction.decisions import SCHEMA_SQL, SETUP_LOCK

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

LONG: Final = 7 * 86400.0
"""Seconds for an index to be made."""

LOCK_TIMEOUT: Final = 30
"""Seconds to wait for others' transactions on the table."""

LOCK_KEY: Final = 0x73687269 << 32
"""Of the advisory locks of loads that have dropped indexes, plus the table's OID: the letters "shri"."""

_SETTINGS: Final = {
    **SETTINGS,
    "application_name": "shardproxy load: indexes",
    "lock_timeout": f"{LOCK_TIMEOUT}s",
}

JOURNAL_SQL: Final = f"""{SCHEMA_SQL}
CREATE TABLE IF NOT EXISTS shardproxy.dropped_indexes (relation oid NOT NULL, index oid NOT NULL, name text NOT NULL,
  load text NOT NULL, table_name text NOT NULL, constraint_name text, tablespace text NOT NULL, made text,
  steps text[] NOT NULL,
  dropped timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), error text, PRIMARY KEY (relation, name))"""

_INDEXES: Final = """SELECT n.oid, n.relname AS name, pg_get_indexdef(n.oid) AS made,
  coalesce(s.spcname, '') AS tablespace, format('%I.%I', m.nspname, n.relname) AS quoted,
  k.conname AS constraint_name, k.contype::text AS kind,
  pg_get_constraintdef(k.oid) AS constraint_made, k.condeferrable AS deferrable, k.condeferred AS deferred,
  i.indisexclusion OR coalesce((to_jsonb(k) ->> 'conperiod')::bool, false) AS by_constraint,
  i.indisvalid AND i.indisready AND i.indislive AS valid, i.indisunique OR i.indisexclusion AS is_unique,
  i.indisreplident AS identity, i.indisclustered AS clustered, n.reloptions AS options,
  quote_literal(obj_description(n.oid, 'pg_class')) AS comment,
  quote_literal(obj_description(k.oid, 'pg_constraint')) AS constraint_comment,
  ARRAY(SELECT format('ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget) FROM pg_attribute AS a
    WHERE a.attrelid = n.oid AND a.attstattarget >= 0 ORDER BY a.attnum) AS statistics,
  EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = n.oid) AS attached,
  EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = n.oid
    AND d.deptype IN ('e', 'x')) AS of_extension,
  (SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ') FROM pg_depend AS d
    WHERE ((d.refclassid = 'pg_class'::regclass AND d.refobjid = n.oid)
        OR (d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid))
      AND NOT (d.classid = 'pg_class'::regclass AND d.objid = n.oid)
      AND NOT (d.classid = 'pg_trigger'::regclass AND d.deptype = 'i')) AS dependents
FROM pg_index AS i JOIN pg_class AS n ON n.oid = i.indexrelid JOIN pg_namespace AS m ON m.oid = n.relnamespace
  LEFT JOIN pg_tablespace AS s ON s.oid = n.reltablespace
  LEFT JOIN pg_constraint AS k ON k.conindid = n.oid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1 ORDER BY n.relname"""

_FOUND: Final = """SELECT (SELECT pg_get_indexdef(n.oid) FROM pg_class AS n JOIN pg_index AS i ON i.indexrelid = n.oid
    WHERE i.indrelid = $1 AND n.relname = $2) AS made,
  EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = $1 AND k.conname = $3) AS has_constraint"""


_NOT_DROPPED: Final = """DELETE FROM shardproxy.dropped_indexes AS j WHERE j.relation = $1
  AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = j.index AND c.relname = j.name)"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load does about the indexes of its table on one server."""

    address: Address
    relation: int
    drops: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of what the journal had for one table of one server."""

    table: str
    made: tuple[str, ...] = ()
    """Indexes that have been made, or completed, again."""
    failed: tuple[str, ...] = ()
    """Those that could not be, each with its error: they are in the journal still."""


@contextlib.asynccontextmanager
async def dropped(
    database: Database, table: Table, load_id: str, parallel: int, restored: list[Restored]
) -> AsyncIterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield the SQL that drops the indexes, for the load's transaction, and notes; at the end they are there again.

    `restored` is filled with what became of them, on each server. Raises PgError only before anything is dropped.
    """
    shards = shards_of(database, table)
    async with contextlib.AsyncExitStack() as stack:
        plans = [await _plan(await _held(stack, one), one, table, load_id) for one in shards]
        several = len(plans) > 1
        try:
            yield (
                list(dict.fromkeys(sql for plan in plans for sql in plan.drops)),
                list(dict.fromkeys(note for plan in plans for note in plan.notes)),
            )
        finally:
            jobs = (_restored(plan, table, parallel, several=several) for plan in plans if plan.relation)
            restored += await each(jobs)


async def _held(stack: contextlib.AsyncExitStack, address: Address) -> "Control":
    """Connect for as long as the load lives. The connection is not told of an error, which is none of its own."""
    held = open_server(address)
    connection = await held.__aenter__()
    stack.push_async_callback(held.__aexit__, None, None, None)
    return connection


def open_server(address: Address) -> contextlib.AbstractAsyncContextManager["Control"]:
    """Connect for as long as indexes take."""
    return session(address, LONG, _SETTINGS)


async def lock(connection: "Control", relation: int, table: str) -> None:
    """Hold the advisory lock of a table as long as the connection lives. Raises PgError (55006) if another does."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY + relation):
        raise PgError(
            OBJECT_IN_USE,
            f"a load that has dropped the indexes of {table} is running",
            hint="Wait until it ends, and try again.",
        )


async def _plan(connection: "Control", address: Address, table: Table, load_id: str) -> Plan:
    """Write the journal of one server, and hold its lock."""
    with translated(address):
        return await _planned(connection, address, table, load_id)


async def _planned(connection: "Control", address: Address, table: Table, load_id: str) -> Plan:
    found = await connection.fetchrow(
        "SELECT oid, relkind::text FROM pg_class WHERE oid = to_regclass($1)", table.quoted
    )
    if found is None:
        return Plan(address, 0, (), ())
    if found["relkind"] == "p":
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f'drop_indexes is not supported for "{table.name}", which has partitions',
            hint="Load a partition with it: what is not part of an index of the whole table is dropped there.",
        )
    relation = found["oid"]
    await connection.execute(AWAKE)  # it holds the lock, and does nothing else while the rows are loaded
    await lock(connection, relation, table.quoted)
    drops: list[str] = []
    notes: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", SETUP_LOCK)
        await connection.execute(JOURNAL_SQL)
    await _forget_kept(connection, relation, table.quoted)
    async with connection.transaction():
        for index in await connection.fetch(_INDEXES, relation):
            reason = _stays(index)
            if reason is not None:
                notes.append(f"index {index['name']} stays: {reason}")
                continue
            made, steps = _again(index, table)
            await connection.execute(
                "INSERT INTO shardproxy.dropped_indexes"
                " (relation, index, name, load, table_name, constraint_name, tablespace, made, steps)"
                # What it has is of an index that is not complete again: it may lack its constraint.
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
                *(relation, index["oid"], index["name"], load_id, table.quoted),
                *(index["constraint_name"], index["tablespace"], made, steps),
            )
            drops.append(_drop(index, table))
            if index["is_unique"]:
                notes.append(f"index {index['name']} is dropped: duplicates are found when it is made again")
    return Plan(address, relation, tuple(drops), tuple(notes))


def _stays(index: Any) -> str | None:
    """Return why an index is not dropped."""
    if not index["valid"]:
        return "it is not valid"
    if index["attached"]:
        return "it is part of an index of a partitioned table"
    if index["of_extension"]:
        return "it depends on an extension"
    if index["dependents"] is not None:
        return f"{index['dependents']} depends on it"
    return None


def _drop(index: Any, table: Table) -> str:
    if index["constraint_name"] is not None:
        return f"ALTER TABLE {table.quoted} DROP CONSTRAINT IF EXISTS {quote_identifier(index['constraint_name'])}"
    return f"DROP INDEX IF EXISTS {index['quoted']}"


def _again(index: Any, table: Table) -> tuple[str | None, list[str]]:
    """Return the SQL that makes an index, None if its constraint does, and what completes it.

    The first of these makes the constraint, if it has one.
    """
    name, quoted, steps = quote_identifier(index["name"]), index["quoted"], []
    made = None if index["by_constraint"] else index["made"]
    if index["constraint_name"] is not None:
        constraint = quote_identifier(index["constraint_name"])
        definition = index["constraint_made"]
        if made is not None:
            definition = f"{'PRIMARY KEY' if index['kind'] == 'p' else 'UNIQUE'} USING INDEX {name}"
            definition += " DEFERRABLE" if index["deferrable"] else ""
            definition += " INITIALLY DEFERRED" if index["deferred"] else ""
        steps.append(f"ALTER TABLE {table.quoted} ADD CONSTRAINT {constraint} {definition}")
        if index["constraint_comment"] is not None:
            steps.append(f"COMMENT ON CONSTRAINT {constraint} ON {table.quoted} IS {index['constraint_comment']}")
    if made is None and index["options"]:
        steps.append(f"ALTER INDEX {quoted} SET ({', '.join(index['options'])})")
    steps += [f"ALTER INDEX {quoted} {one}" for one in index["statistics"]]
    if index["comment"] is not None:
        steps.append(f"COMMENT ON INDEX {quoted} IS {index['comment']}")
    if index["identity"]:
        steps.append(f"ALTER TABLE {table.quoted} REPLICA IDENTITY USING INDEX {name}")
    if index["clustered"]:
        steps.append(f"ALTER TABLE {table.quoted} CLUSTER ON {name}")
    return made, steps


async def _restored(plan: Plan, table: Table, parallel: int, *, several: bool) -> Restored:
    """`restore` for the load itself: what fails is told, as the rows are committed."""
    name = f"{table.quoted} on {plan.address.name}" if several else table.quoted
    try:
        async with open_server(plan.address) as connection:
            found = await restore(connection, plan.address, plan.relation, parallel)
    except PgError as error:
        return Restored(name, (), (f"what {table.quoted} had: {error.sqlstate}: {error.message}",))
    return Restored(name, found.made, found.failed)


async def restore(connection: "Control", address: Address, relation: int, parallel: int) -> Restored:
    """Make what the journal has for a table. The load that has dropped it has ended, or is the caller."""
    table = await connection.fetchval("SELECT oid::regclass::text FROM pg_class WHERE oid = $1", relation)
    if table is None:
        await connection.execute("DELETE FROM shardproxy.dropped_indexes WHERE relation = $1", relation)
        return Restored("")
    await _forget_kept(connection, relation, table)
    rows = await connection.fetch(
        "SELECT * FROM shardproxy.dropped_indexes WHERE relation = $1 ORDER BY name", relation
    )
    turn = asyncio.Semaphore(parallel)

    async def make(row: Any) -> str | None:
        async with turn, open_server(address) as other:
            return await _tried(other, row, _make(other, row))

    refused = await each(make(row) for row in rows)
    made: list[str] = []
    failed: list[str] = []
    for row, error in zip(rows, refused, strict=True):
        # One after the other: each takes the whole table for a moment.
        said = error or await _tried(connection, row, _complete(connection, row, made))
        if said is not None:
            failed.append(f"{row['name']}: {said}")
    return Restored(table, tuple(made), tuple(failed))


async def _forget_kept(connection: "Control", relation: int, table: str) -> None:
    """Forget the indexes that a load which has ended has not dropped after all, once it is known which."""
    import asyncpg

    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
    except asyncpg.LockNotAvailableError:
        raise PgError(
            LOCK_NOT_AVAILABLE,
            f"the transaction that has dropped the indexes of {table} has not ended, or another one holds the table",
            hint="`shardproxy recover` ends what is in doubt.",
        ) from None
    await connection.execute(_NOT_DROPPED, relation)


async def _tried(connection: "Control", row: Any, work: Any) -> str | None:
    """Do something about an index; return what it fails with, which the journal keeps, too."""
    import asyncpg

    try:
        await work
    except asyncpg.PostgresError as error:
        refused = errors.from_asyncpg(error)
        said = f"{refused.sqlstate}: {refused.message}" + (f" ({refused.detail})" if refused.detail else "")
        await connection.execute(
            "UPDATE shardproxy.dropped_indexes SET error = $3 WHERE relation = $1 AND name = $2",
            *(row["relation"], row["name"], said),
        )
        return said
    return None


async def _make(connection: "Control", row: Any) -> None:
    """Make the index, if it is not there."""
    found = await connection.fetchrow(_FOUND, row["relation"], row["name"], row["constraint_name"])
    if row["made"] is None or (found is not None and found["made"] == row["made"]):
        return
    async with connection.transaction():
        await connection.execute("SELECT set_config('default_tablespace', $1, true)", row["tablespace"])
        await connection.execute(row["made"])


async def _complete(connection: "Control", row: Any, made: list[str]) -> None:
    """Give the index its constraint and its other properties, and take it out of the journal."""
    async with connection.transaction():
        found = await connection.fetchrow(_FOUND, row["relation"], row["name"], row["constraint_name"])
        assert found is not None
        steps = row["steps"][1:] if found["has_constraint"] else row["steps"]
        await connection.execute("SELECT set_config('default_tablespace', $1, true)", row["tablespace"])
        for sql in steps:
            await connection.execute(sql)
        await connection.execute(
            "DELETE FROM shardproxy.dropped_indexes WHERE relation = $1 AND name = $2", row["relation"], row["name"]
        )
    made.append(row["name"])
