"""The foreign keys that DDL makes, with what becomes of referencing rows when referenced ones change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shardproxy.sql.parse import Node

Action = Literal["none", "cascade", "set"]
"""What an event does to referencing rows: SET NULL and SET DEFAULT are "set", NO ACTION and RESTRICT "none"."""

_ACTIONS: Final[dict[str, Action]] = {"c": "cascade", "n": "set", "d": "set"}
"""src/include/nodes/parsenodes.h, FKCONSTR_ACTION_..."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key. `others` are the columns that `columns` refer to, empty where they are not named."""

    columns: tuple[str, ...]
    schema: str | None
    table: str
    others: tuple[str, ...]
    on_update: Action
    on_delete: Action
    set_columns: tuple[str, ...]
    """Those that ON DELETE SET NULL or SET DEFAULT sets."""


def foreign_keys(name: str, node: Node) -> tuple[ForeignKey, ...]:
    """Read a utility statement."""
    if name == "AlterTableStmt":
        return tuple(_keys([item["AlterTableCmd"].get("def", {}) for item in node.get("cmds", ())], None))
    if name == "CreateStmt":
        return tuple(_keys(node.get("tableElts", ()), None))
    if name == "CreateSchemaStmt":
        tables = [one["CreateStmt"] for one in node.get("schemaElts", ()) if "CreateStmt" in one]
        return tuple(key for table in tables for key in foreign_keys("CreateStmt", table))
    return ()


def _keys(elements: Sequence[Node], column: str | None) -> Iterator[ForeignKey]:
    """Read what stands in a table's definition, or after one of its columns."""
    for element in elements:
        if "ColumnDef" in element:
            yield from _keys(element["ColumnDef"].get("constraints", ()), element["ColumnDef"].get("colname"))
        elif "pktable" in element.get("Constraint", ()):
            yield _key(element["Constraint"], column)


def _key(constraint: Node, column: str | None) -> ForeignKey:
    columns = (column,) if column is not None else _names(constraint, "fk_attrs")
    return ForeignKey(
        columns,
        constraint["pktable"].get("schemaname"),
        constraint["pktable"]["relname"],
        _names(constraint, "pk_attrs"),
        _ACTIONS.get(constraint.get("fk_upd_action", ""), "none"),
        _ACTIONS.get(constraint.get("fk_del_action", ""), "none"),
        _names(constraint, "fk_del_set_cols") or columns,
    )


def _names(constraint: Node, key: str) -> tuple[str, ...]:
    return tuple(part["String"]["sval"] for part in constraint.get(key, ()))
