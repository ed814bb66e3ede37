"""Which keys of sharded tables a statement sets by foreign keys: asked of a shard, and kept with the names."""

from collections.abc import Awaitable, Callable, Mapping

from shardproxy.config import Table
from shardproxy.routing import Resolved
from shardproxy.routing.foreign_keys import acts
from shardproxy.routing.resolved import KeyAction
from shardproxy.session.database import SHARDED, Database
from shardproxy.session.name_cache import NameCache
from shardproxy.shard import catalog
from shardproxy.shard.actions import actions_sql, parse_actions
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyTo, Explain, Modify, Statement, TableRef


async def key_actions(
    statement: Statement,
    tables: Mapping[TableRef, Resolved],
    database: Database,
    cache: NameCache,
    reader: Callable[[], Awaitable[Connection]],
) -> tuple[KeyAction, ...]:
    """Return those of the table that a statement writes."""
    inner = statement.query if isinstance(statement, Explain) else statement
    inner = inner.data if isinstance(inner, CopyTo) and not isinstance(inner.data, TableRef) else inner
    if not isinstance(inner, Modify) or not acts(inner) or len(database.addresses) == 1:
        return ()
    table = tables[inner.target]
    if not table.sharded and table.kind != "reference":
        return ()
    name = (table.schema, table.name)
    known = cache.actions
    if name not in known:
        connection = await reader()
        [answer] = await connection.fetch_row(actions_sql(*name), 1)

        def sharded(schema: str, relation: str) -> Table | None:
            found = database.table(schema, relation)
            return found if found is not None and found.placement in SHARDED else None

        known[name] = parse_actions(catalog.text(answer), sharded)
    return known[name]
