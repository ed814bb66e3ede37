"""disable_triggers: a table without its triggers for the rows of a load, in the load's transaction."""

from collections.abc import Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.loader.target.places import TIMEOUT, shards_of
from shardproxy.loader.target.table import Table
from shardproxy.net.gather import each
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.session.database import Database
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import session
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, OBJECT_NOT_IN_PREREQUISITE_STATE

_STATES: Final = """SELECT c.relkind = 'p' AS partitioned, g.tgname AS name, g.tgenabled::text AS state
  FROM pg_class AS c LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND NOT g.tgisinternal
  WHERE c.oid = to_regclass($1) ORDER BY g.tgname"""

_ENABLE: Final = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
"""By pg_trigger.tgenabled; D stays as it is."""

States = Sequence[tuple[str, str]]
"""Names of triggers, each with its pg_trigger.tgenabled."""


async def disable_triggers(connection: Connection, database: Database, table: Table) -> States:
    """Disable them; return what they were. Raises PgError: PostgreSQL's where the role may not."""
    # No other session changes a trigger then, so that what is asked beside the transaction is what it sees.
    await connection.execute(f"LOCK TABLE {table.quoted} IN SHARE ROW EXCLUSIVE MODE")
    found = await each(_states(address, table) for address in shards_of(database, table))
    if any(one != found[0] for one in found):
        raise PgError(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            f'the triggers of "{table.name}" are not the same on all shards',
            hint="Make them the same with ALTER TABLE … ENABLE or DISABLE TRIGGER.",
        )
    await connection.execute(f"ALTER TABLE {table.quoted} DISABLE TRIGGER USER")
    return found[0]


async def _states(address: Address, table: Table) -> States:
    async with session(address, TIMEOUT) as connection:
        rows = await connection.fetch(_STATES, table.quoted)
    if any(row["partitioned"] for row in rows):
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f'disable_triggers is not supported for "{table.name}", which has partitions',
            hint="Load a partition, or disable the triggers by hand before the load.",
        )
    return [(row["name"], row["state"]) for row in rows if row["name"] is not None]


async def enable_triggers(connection: Connection, table: Table, states: States) -> None:
    """Have them as they were."""
    for name, state in states:
        if state in _ENABLE:
            await connection.execute(f"ALTER TABLE {table.quoted} {_ENABLE[state]} TRIGGER {quote_identifier(name)}")
