"""What ALTER TABLE does to columns that have values."""

from typing import Final

from shardproxy.sql.facts import Rewrite
from shardproxy.sql.kinds import IMMUTABLE
from shardproxy.sql.parse import Node
from shardproxy.sql.walk import walk

DEFAULT_OF_TYPE: Final = "the default of its type"
"""`Rewrite.varying` of a new column without a default, whose type may be a domain that has one."""

_NO_DOMAINS: Final = frozenset({
    "bytea", "cidr", "date", "inet", "json", "jsonb", "macaddr", "money", "name", "oid", "text", "timestamptz",
    "tsvector", "uuid", "xml",
})  # fmt: skip
"""The commonest types that the grammar does not put into pg_catalog."""

_SERIAL: Final = frozenset({"smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"})


def rewrites(node: Node) -> tuple[Rewrite, ...]:
    """Read an AlterTableStmt."""
    commands = [item["AlterTableCmd"] for item in node.get("cmds", ())]
    return tuple(filter(None, map(_rewrite, commands)))


def _rewrite(command: Node) -> Rewrite | None:
    definition = command.get("def", {}).get("ColumnDef", {})
    if command["subtype"] == "AT_DropColumn":
        return Rewrite("drop", command["name"])
    if command["subtype"] not in {"AT_AlterColumnType", "AT_AddColumn"}:
        return None
    found = walk(definition, None)
    functions = frozenset(found.functions)
    names = [part["String"]["sval"] for part in definition["typeName"].get("names", ())]
    varying = [f"function {name}()" for schema, name in sorted(found.functions, key=str)
               if schema not in {None, "pg_catalog"} or name not in IMMUTABLE]  # fmt: skip
    varying += [*found.varying, *found.moments, *(why for why, _ in found.readings)]
    if command["subtype"] == "AT_AddColumn":
        kinds = {item["Constraint"]["contype"] for item in definition.get("constraints", ())}
        if "CONSTR_IDENTITY" in kinds or (len(names) == 1 and names[0] in _SERIAL):
            varying.append(f'the sequence of column "{definition["colname"]}"')
        elif names[0] != "pg_catalog" and not (len(names) == 1 and names[0] in _NO_DOMAINS):
            varying += [] if kinds & {"CONSTR_DEFAULT", "CONSTR_GENERATED"} else [DEFAULT_OF_TYPE]
        return Rewrite("add", definition["colname"], None, varying[0] if varying else None, functions)
    plain = not {"raw_default", "collClause"} & definition.keys() and not definition["typeName"].get("typmods")
    plain = plain and len(names) <= 2 and (len(names) == 1 or names[0] == "pg_catalog")
    return Rewrite(
        "type",
        command["name"],
        names[-1] if plain else None,
        varying[0] if varying else None,
        frozenset(found.functions),
    )
