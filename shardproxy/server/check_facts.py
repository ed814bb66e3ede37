"""The facts of a shard that `check` needs: one connection, read only; the results are plain values.

Never changes anything, and judges nothing: that is `check_rules`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shardproxy.config import Database, Shard, Table
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.routing.relation import Relation
from shardproxy.shard import catalog
from shardproxy.shard.address import Address, addresses_of
from shardproxy.shard.control import session

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

SETTINGS = {
    "application_name": "shardproxy check",
    "search_path": "pg_catalog",
    "default_transaction_read_only": "on",
}

_SERVER = """
SELECT json_build_object(
  'version', current_setting('server_version'), 'version_num', current_setting('server_version_num')::int,
  'encoding', getdatabaseencoding(), 'locale', datcollate,
  'prepared', current_setting('max_prepared_transactions')::int, 'standby', pg_is_in_recovery(),
  'identity', concat_ws(' ', (SELECT system_identifier FROM pg_control_system()), pg_postmaster_start_time(), oid))
FROM pg_database WHERE datname = current_database()"""

_TABLE = """
SELECT json_build_object(
  'partition', relispartition,
  'lacks', array(SELECT privilege FROM unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
                 WHERE NOT has_table_privilege(pg_class.oid, privilege)),
  'unique', array(
    SELECT json_build_object('name', indexrelid::regclass::text, 'columns', array(
      SELECT attname FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey[0:indnkeyatts - 1])))
    FROM pg_index WHERE indrelid = pg_class.oid AND indisunique ORDER BY indexrelid::regclass::text),
  'actions', array(
    SELECT json_build_object('name', conname, 'event', event.name, 'cascades', event.action = 'c',
      'schema', other.relnamespace::regnamespace, 'relation', other.relname, 'columns', array(
        SELECT json_build_array(mine.attname, their.attname) FROM unnest(conkey, confkey) AS pair(mine, their)
        JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = pair.mine
        JOIN pg_attribute AS their ON their.attrelid = confrelid AND their.attnum = pair.their
        WHERE event.name = 'UPDATE' OR coalesce(to_jsonb(pg_constraint) ->> 'confdelsetcols', '') = ''
          OR to_jsonb(pg_constraint) -> 'confdelsetcols' @> to_jsonb(pair.mine)))
    FROM pg_constraint JOIN pg_class AS other ON other.oid = confrelid
    CROSS JOIN LATERAL (VALUES ('UPDATE', confupdtype), ('DELETE', confdeltype)) AS event(name, action)
    WHERE conrelid = pg_class.oid AND contype = 'f'
      AND (event.action IN ('n', 'd') OR (event.action = 'c' AND event.name = 'UPDATE')) ORDER BY conname, event.name))
FROM pg_class WHERE oid = $1"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server and the database, as `_SERVER` reads them."""

    version: str
    version_num: int
    encoding: str
    locale: str
    prepared: int
    """max_prepared_transactions"""
    standby: bool
    identity: str
    """Equal for two DSNs if and only if they lead to the same database of the same running server."""


@dataclass(frozen=True, slots=True)
class ForeignKeyAction:
    """What a foreign key of a table does to the table's columns when a row that they refer to changes or goes."""

    name: str
    event: str
    cascades: bool
    schema: str
    relation: str
    columns: tuple[tuple[str, str], ...]
    """Each with the one that it refers to."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that exists."""

    relation: Relation
    partition: bool
    """It is a partition of another table."""
    lacks: tuple[str, ...]
    """Privileges that the shard's user lacks."""
    unique: tuple[tuple[str, frozenset[str]], ...]
    """Unique indexes and their plain columns; expressions are left out."""
    actions: tuple[ForeignKeyAction, ...]


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """The answers of one shard."""

    shard: Shard
    number: int
    server: ServerFacts | None = None
    tables: dict[Table, TableFacts] = field(default_factory=dict)
    """The configured tables that exist there."""
    failure: PgError | None = None
    """Why it could not be examined, or only in part."""


async def ask_all(database: Database) -> list[ShardFacts]:
    """Ask all shards of a database at once."""
    shards = enumerate(zip(database.shards, addresses_of(database), strict=True))
    return await each(_ask(shard, address, number, database.tables) for number, (shard, address) in shards)


async def _ask(shard: Shard, address: Address, number: int, tables: Sequence[Table]) -> ShardFacts:
    server: ServerFacts | None = None
    found: dict[Table, TableFacts] = {}
    try:
        async with session(address, address.connect_timeout, SETTINGS) as connection:
            server = ServerFacts(**json.loads(await connection.fetchval(_SERVER)))
            if tables:
                names = [(table.schema, table.relation) for table in tables]
                answer = await connection.fetchval(catalog.relations_sql(names))
                for table, relation in zip(tables, catalog.parse_relations(answer), strict=True):
                    if relation is not None and (facts := await _table(connection, relation)) is not None:
                        found[table] = facts
    except PgError as error:
        return ShardFacts(shard, number, server, found, error)
    return ShardFacts(shard, number, server, found)


async def _table(connection: "Control", relation: Relation) -> TableFacts | None:
    """Return the facts of a table; None if it has been dropped since it was found."""
    told = await connection.fetchval(_TABLE, relation.oid)
    if told is None:
        return None
    facts = json.loads(told)
    unique = tuple((index["name"], frozenset(index["columns"])) for index in facts["unique"])
    actions = tuple(
        ForeignKeyAction(**{**one, "columns": tuple((mine, their) for mine, their in one["columns"])})
        for one in facts["actions"]
    )
    return TableFacts(relation, facts["partition"], tuple(facts["lacks"]), unique, actions)
