"""Making a shard ready for two-phase commit: its tables, its identity, and whether it can prepare at all.

Idempotent, and safe when two proxies start at once: an advisory lock orders them, as CREATE ... IF NOT EXISTS
alone fails with a unique violation when two run it together.
"""

from collections.abc import Sequence

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.control import control
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE, OUT_OF_MEMORY
from shardproxy.transaction.decisions import SETUP_LOCK, not_set_up, setup_sql

SETUP_TIMEOUT = 10.0
"""Seconds; it may wait for another proxy that does the same."""

_THERE = """SELECT to_regclass('shardproxy.identity') IS NOT NULL
  AND to_regclass('shardproxy.decisions') IS NOT NULL"""

_IDENTITY = "SELECT id FROM shardproxy.identity"

# The raw function, not the view, which joins names that are not needed. The role is the session's, as the
# decision is written under it whatever SET ROLE has set.
READY = """SELECT pg_catalog.current_setting('max_prepared_transactions'),
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xact()),
  (SELECT pg_catalog.has_table_privilege(session_user, c.oid, 'INSERT')
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE n.nspname OPERATOR(pg_catalog.=) 'shardproxy' AND c.relname OPERATOR(pg_catalog.=) 'decisions'
      AND pg_catalog.has_schema_privilege(session_user, n.oid, 'USAGE'))"""


async def set_up(addresses: Sequence[Address]) -> dict[str, str]:
    """Make the tables where they are missing; return the shards' identities by name.

    Raises 55000 with the SQL in its detail where the role may not create them, and for two shards with one
    identity, which happens when one was made as a copy of the other.
    """
    identities = dict(zip([one.name for one in addresses], await each(map(set_up_one, addresses)), strict=True))
    refuse_twins(identities)
    return identities


async def set_up_one(address: Address) -> str:
    """Make one shard's tables if they are missing; return its identity. Raises 55000 where nothing can prepare."""
    import asyncpg

    async with control(address, SETUP_TIMEOUT) as connection:
        try:
            most = int(await connection.fetchval("SELECT current_setting('max_prepared_transactions')"))
            if refused := cannot_prepare(address.name, most, 0):
                raise refused
            if not await connection.fetchval(_THERE):
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", SETUP_LOCK)
                    await connection.execute(setup_sql())
            identity: str | None = await connection.fetchval(_IDENTITY)
            if identity is None:
                await connection.execute(setup_sql())
                identity = await connection.fetchval(_IDENTITY)
        except asyncpg.InsufficientPrivilegeError as error:
            raise not_set_up(address.name, address.user, str(error)) from error
        assert identity is not None
        return identity


async def known_identities(addresses: Sequence[Address]) -> dict[str, str]:
    """Return the identities of those shards that can be asked and have one, by name; makes nothing."""
    found: dict[str, str] = {}

    async def ask(address: Address) -> None:
        try:
            async with control(address, SETUP_TIMEOUT) as connection:
                identity = await connection.fetchval(_IDENTITY)
        except PgError:
            return  # `check_shard` reports what keeps the shard from taking part
        if identity is not None:
            found[address.name] = identity

    await each(map(ask, addresses))
    return found


def refuse_twins(identities: dict[str, str]) -> None:
    """Raise if two shards have one identity: a gid that names it as the anchor would be ambiguous."""
    names: dict[str, str] = {}
    for name, identity in identities.items():
        if identity in names:
            raise PgError(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'shards "{names[identity]}" and "{name}" have the same identity',
                detail="They are the same database, or one is a copy of the other.",
                hint="With no transaction prepared on the copy, run on it: TRUNCATE shardproxy.identity, "
                "shardproxy.decisions, shardproxy.place. Then start shardproxy again.",
            )
        names[identity] = name


def check_ready(address: Address, row: Sequence[bytes | None]) -> None:
    """Raise if a shard that gave this row for READY could not prepare now: 55000 or 53200, as its PREPARE would fail.

    For shards that will probably prepare, before the client is asked for its data; whether a slot is still free at
    the end, only PREPARE itself knows.
    """
    most, used, may = row
    refused = cannot_prepare(address.name, int(most or b"0"), int(used or b"0"))
    if refused is not None:
        raise refused
    if may != b"t":
        cause = "shardproxy.decisions is missing, or the role may not insert into it"
        raise not_set_up(address.name, address.user, cause)


def cannot_prepare(shard: str, most: int, used: int) -> PgError | None:
    """Return the error of a shard with `used` of `most` prepared transactions, in PostgreSQL's words."""
    # Naming the shard twice would not help; the words are those of MarkAsPreparing in twophase.c.
    if most == 0:
        return PgError(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "prepared transactions are disabled",
            detail=f'Reported about shard "{shard}".',
            hint='Set "max_prepared_transactions" to a nonzero value and restart the server, '
            'or set commit = "one-phase".',
        )
    if used >= most:
        return PgError(
            OUT_OF_MEMORY,
            "maximum number of prepared transactions reached",
            detail=f'Reported about shard "{shard}".',
            hint=f'Increase "max_prepared_transactions" (currently {most}).',
        )
    return None


async def check_shard(address: Address) -> PgError | None:
    """Return why a shard cannot take part in two-phase commit, None if it can; changes nothing."""
    try:
        async with control(address, SETUP_TIMEOUT) as connection:
            most, used, may = await connection.fetchrow(READY) or (0, 0, False)
    except PgError as error:
        return error
    refused = cannot_prepare(address.name, int(most), int(used))
    if refused is None and not may:
        refused = not_set_up(address.name, address.user, "the tables are missing, or the role may not use them")
    return refused
