"""Whether what a statement was planned by still holds once it has its locks.

From then on no change of those definitions can come in between. Before, one may have: the statement has waited for it,
or its transaction's snapshot is older, and shows the catalogs as they were. PostgreSQL goes by the newest definitions
whatever the snapshot, so a write by those of before could store rows on wrong shards, or let copies come apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing import Plan, Resolved, route
from shardproxy.routing.column_list import insert_of
from shardproxy.routing.copies import defaulted
from shardproxy.session.column_lists import overtaken
from shardproxy.session.database import Database
from shardproxy.session.defaults import constant_defaults
from shardproxy.session.follow import sees_old
from shardproxy.session.lane_plans import Facts
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.sql import CreateAs, Statement, Utility

WAITED: Final = 0.1
"""Seconds after which a write may have waited for a lock, and that for a definition which changes elsewhere."""

_DETAIL: Final = "The copies of the reference table might come apart."


async def confirm(names: Resolver, facts: Facts, first: Connection, *, changed: bool, waited: bool) -> None:
    """Raise if a write of a reference table would be planned in another way now.

    `changed`: a definition has, as this process knows; `waited`: others may have.
    """
    if not changed and not waited:
        return
    if await sees_old(first):
        if changed:
            raise overtaken(_DETAIL)
        return
    statement = facts.statement
    names.look_anew()
    tables = await names.resolve(statement)
    context = await names.context(statement, tables, ())
    if route(statement, tables, context) != route(statement, facts.tables, facts.context):
        raise overtaken(_DETAIL)


@contextmanager
def planned(names: Resolver, facts: Facts | None, offset: int = 0) -> Iterator[None]:
    """Raise 40001 where a column is gone, or has another type, that the plan has named after the client's text.

    `offset` characters of the client's query stand in front of what the shard gets.
    """
    try:
        yield
    except PgError as error:
        statement = None if facts is None else facts.statement
        end = 0 if statement is None else statement.location + len(statement.text) - offset
        if statement is None or int(error.fields.get("P", 0)) <= end:
            raise
        names.look_anew()
        raise overtaken(_DETAIL) from error


def defaulting(facts: Facts | None, plan: Plan) -> Resolved | None:
    """Return the sharded table of which an INSERT with this plan leaves a key to its default."""
    insert = None if facts is None or facts.plan is not plan else insert_of(facts.statement)
    table = None if insert is None or facts is None else facts.tables[insert.target]
    if insert is None or table is None or not table.sharded:
        return None
    return None if defaulted(insert, table).isdisjoint(column.name for column in table.key) else table


async def check_defaults(names: Resolver, table: Resolved | None, connection: Connection) -> None:
    """Raise if a table that is locked has another default of a key than the one that a row was placed by."""
    if table is None:
        return
    key = [column.name for column in table.key]
    [relation] = await names.relations(connection, [(table.schema, table.name)])
    now = {} if relation is None else await constant_defaults(connection, relation, key)
    if any((name in now, now.get(name)) != (name in table.defaults, table.defaults.get(name)) for name in key):
        names.look_anew()
        raise overtaken("The default of a key was changed while an INSERT without it was to be run.")


async def check_current(database: Database, shards: Shards, statement: Statement) -> None:
    """Raise if a statement writes, and what its transaction sees of definitions may be from before a change."""
    if not shards.transaction.joined or not _is_outrun(database, shards):
        return
    if any(table.role == "write" for table in statement.tables) and await sees_old(shards.participants()[0]):
        raise overtaken("It was changed after the transaction's snapshot was taken.")


def _is_outrun(database: Database, shards: Shards) -> bool:
    """Whether definitions have changed since the open transaction began, but for changes of its own."""
    began = shards.transaction.definitions
    return began is not None and began != database.generation


def redefined(database: Database, shards: Shards, statement: CreateAs | Utility, facts: Facts | None) -> None:
    """A statement has changed a definition: what others know does not hold, unless it is the session's alone."""
    places = [] if facts is None else facts.context.places.values()
    if statement.temporary or (places and all(place.kind == "temporary" for place in places)):
        return
    transaction, outrun = shards.transaction, _is_outrun(database, shards)
    database.definitions_changed()
    transaction.defined = transaction.open
    if not outrun and transaction.definitions is not None:
        transaction.definitions = database.generation
