"""What ALTER TABLE would do to rows where they lie: a key may not change, and copies may not diverge.

PostgreSQL refuses both for a partition key, "because it is part of the partition key"; here rows would stay on
shards where no query looks for them.
"""

from collections.abc import Iterable
from typing import Final

from shardproxy.routing.keytypes import TYPES
from shardproxy.routing.plan import Fill
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import Context, Resolved
from shardproxy.routing.written import BY_OID
from shardproxy.sql import DEFAULT_OF_TYPE, FunctionName, Utility

# Families of types to which a key may change: each value keeps its hash and its order.
_COMPATIBLE: Final = frozenset({"integer_ops", "text_ops"})
_FAMILIES: Final = {row.name: row.family for row in TYPES.values() if row.family in _COMPATIBLE and row.name != "name"}


def filled(statement: Utility, table: Resolved, context: Context) -> Fill | None:
    """Return what each shard would put into the rows of a reference table in its own way."""
    if table.kind != "reference":
        return None
    oids = not BY_OID.isdisjoint(table.types.values())
    varying = [one for one in statement.rewrites
               if one.varying is not None or _own(one.functions, context) or (oids and one.what == "type")]  # fmt: skip
    if not varying:
        return None
    own = _own(statement.functions, context)
    return Fill(
        table.schema,
        table.name,
        frozenset(one.column for one in varying),
        frozenset(one.column for one in varying if one.what == "add"),
        frozenset(one.column for one in varying if one.varying == DEFAULT_OF_TYPE),
        varying[0].varying or (f"function {own[0]}()" if own else "a column whose values are OIDs"),
        own[0] if own else None,
    )


def _own(functions: Iterable[FunctionName], context: Context) -> list[str]:
    """The functions that may be others than PostgreSQL's own."""
    return sorted(name for schema, name in functions if not context.is_builtin(schema, name))


def check_rewrites(statement: Utility, table: Resolved) -> None:
    """Refuse what would leave rows of a sharded table misplaced."""
    for rewrite in statement.rewrites:
        column = next((column for column in table.key if column.name == rewrite.column), None)
        if column is None or rewrite.what == "add":
            continue
        if rewrite.what == "drop":
            raise refused(
                f'cannot drop key column "{column.name}" of sharded table "{table}"',
                "Its rows would have no shard. Create another table, and COPY the rows out and in.",
            )
        if rewrite.type is None or _FAMILIES.get(rewrite.type) != TYPES[column.type].family:
            raise refused(
                f'cannot alter the type of key column "{column.name}" of sharded table "{table}"',
                "Values of another type may belong to other shards. Create another table, and COPY the rows out "
                "and in.",
            )
