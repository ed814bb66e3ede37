"""Which of a relation's columns take the same value on every shard where they are left out."""

from collections.abc import Collection

from shardproxy.routing.keytypes import spells
from shardproxy.routing.relation import Relation
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection


async def constant_defaults(
    connection: Connection, relation: Relation, key: Collection[str] = ()
) -> dict[str, bytes | None]:
    """Return the columns whose default is the same on every shard, with its text; see `Resolved.defaults`.

    Of the key's columns only those where that text is also what is stored, without a conversion.
    """
    same: dict[str, bytes | None] = {}
    constant: list[tuple[str, str]] = []
    for column in relation.columns:
        if column.generated or column.default is None:
            same[column.name] = None
        elif catalog.is_constant(column.default) and (
            column.name not in key or spells(catalog.literal_type(column.default), column)
        ):
            constant.append((column.name, column.default))
    if constant:
        row = await connection.fetch_row(catalog.constants_sql([default for _, default in constant]), len(constant))
        same.update(zip((name for name, _ in constant), row, strict=True))
    return same
