"""What ALTER TABLE would do to rows where they lie: a key may not change, and copies may not part.

PostgreSQL refuses both for a partition key, "because it is part of the partition key"; here rows would stay on
shards where nobody looks for them.
"""

from dataclasses import replace
from typing import Final

from shardproxy import native
from shardproxy.plan.kinds import IMMUTABLE
from shardproxy.plan.model import Rewrite, Statement
from shardproxy.plan.parse import Node
from shardproxy.plan.refusals import copies_differ, refused
from shardproxy.plan.resolved import Resolved
from shardproxy.plan.walk import walk

_SERIAL: Final = frozenset({"smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"})
_INTEGERS: Final = frozenset({"int2", "int4", "int8"})
# Types to which a key may change: each value keeps its hash and its order.
_COMPATIBLE: Final = {
    native.KEY_INT2: _INTEGERS,
    native.KEY_INT4: _INTEGERS,
    native.KEY_INT8: _INTEGERS,
    native.KEY_TEXT: frozenset({"text", "varchar"}),
}


def with_rewrites(base: Statement, node: Node) -> Statement:
    """Add to an ALTER TABLE what it does to columns that have values."""
    commands = [item["AlterTableCmd"] for item in node.get("cmds", ())]
    return replace(base, rewrites=tuple(filter(None, map(_rewrite, commands))))


def _rewrite(command: Node) -> Rewrite | None:
    definition = command.get("def", {}).get("ColumnDef", {})
    if command["subtype"] == "AT_DropColumn":
        return Rewrite("drop", command["name"])
    if command["subtype"] not in {"AT_AlterColumnType", "AT_AddColumn"}:
        return None
    found = walk(definition, None)
    names = [part["String"]["sval"] for part in definition["typeName"].get("names", ())]
    varying = [f"function {name}()" for schema, name in sorted(found.functions, key=str)
               if schema not in {None, "pg_catalog"} or name not in IMMUTABLE]  # fmt: skip
    varying += found.varying
    if command["subtype"] == "AT_AddColumn":
        kinds = {item["Constraint"]["contype"] for item in definition.get("constraints", ())}
        if "CONSTR_IDENTITY" in kinds or (len(names) == 1 and names[0] in _SERIAL):
            varying.append(f'the sequence of column "{definition["colname"]}"')
        return Rewrite("add", definition["colname"], varying=varying[0] if varying else None)
    plain = not {"raw_default", "collClause"} & definition.keys() and not definition["typeName"].get("typmods")
    plain = plain and len(names) <= 2 and (len(names) == 1 or names[0] == "pg_catalog")
    return Rewrite("type", command["name"], names[-1] if plain else None, varying[0] if varying else None)


def check_rewrites(statement: Statement, table: Resolved) -> None:
    """Refuse what would leave rows of a sharded table misplaced, or the copies of a reference table different."""
    for rewrite in statement.rewrites:
        if table.kind == "reference" and rewrite.varying is not None:
            raise copies_differ(table, rewrite.varying)
        column = next((column for column in table.key if column.name == rewrite.column), None)
        if column is None or rewrite.what == "add":
            continue
        if rewrite.what == "drop":
            raise refused(
                f'cannot drop key column "{column.name}" of sharded table "{table}"',
                "Its rows would have no place. Make another table, and COPY the rows out and in.",
            )
        if rewrite.type not in _COMPATIBLE.get(column.type, frozenset()):
            raise refused(
                f'cannot alter the type of key column "{column.name}" of sharded table "{table}"',
                "Values of another type may belong to other shards. Make another table, and COPY the rows out and in.",
            )
