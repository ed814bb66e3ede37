"""The servers that have a table."""

from collections.abc import Sequence
from typing import Final

from shardproxy.loader.target.table import Table
from shardproxy.session.database import Database
from shardproxy.shard.address import Address

TIMEOUT: Final = 60.0
"""Seconds for an answer out of a catalog."""


def shards_of(database: Database, table: Table) -> Sequence[Address]:
    """Return the shards that have rows of a table, or its copies."""
    listed = database.table(table.schema, table.name)
    number = database.unlisted_shard if listed is None else database.shard_of(listed)
    return database.addresses if number is None else [database.addresses[number]]
