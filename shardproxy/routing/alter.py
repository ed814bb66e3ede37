"""What ALTER TABLE would do to rows where they lie: a key may not change, and copies may not diverge.

PostgreSQL refuses both for a partition key, "because it is part of the partition key"; here rows would stay on
shards where no query looks for them.
"""

from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.keytypes import TYPES
from shardproxy.routing.plan import Fill
from shardproxy.routing.refusals import copies_differ, refused
from shardproxy.routing.resolved import Resolved
from shardproxy.sql import Utility

# Families of types to which a key may change: each value keeps its hash and its order.
_COMPATIBLE: Final = frozenset({"integer_ops", "text_ops"})
_FAMILIES: Final = {row.name: row.family for row in TYPES.values() if row.family in _COMPATIBLE and row.name != "name"}


HINT_FILL: Final = (
    "Add the column without a default, UPDATE it, which one shard computes for all, and then ALTER COLUMN SET DEFAULT."
)


def filled(statement: Utility, table: Resolved) -> Fill | None:
    """Return what each shard would put into the rows of a reference table in its own way."""
    why = next((rewrite.varying for rewrite in statement.rewrites if rewrite.varying is not None), None)
    if table.kind != "reference" or why is None:
        return None
    return Fill(str(table), f"SELECT EXISTS (SELECT FROM {ascii_name(table.schema, table.name)})", why)


def not_empty(fill: Fill) -> PgError:
    """The error of a table that has rows."""
    return copies_differ(fill.table, fill.why, HINT_FILL)


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
