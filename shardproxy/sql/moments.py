"""Where a statement may read a text as a date or a time: such a text may be `now`, `today`, `tomorrow`, `yesterday`.

A constant is looked into. What an expression gives is known to the server alone, so its cast to any type counts that is
not known to hold no date: also to a domain, a composite type or a range of the user's.
"""

from typing import Final

from shardproxy.sql.kinds import IMMUTABLE
from shardproxy.sql.parse import Node

Reading = tuple[str, str | None]
"""What reads, in words; and the column that it reads, if it is one by itself."""

TIMELESS: Final = frozenset({
    "bigint", "bit", "bool", "boolean", "box", "bpchar", "bytea", "char", "cidr", "circle", "cstring", "float4",
    "float8", "inet", "int", "int2", "int4", "int8", "integer", "int4range", "int8range", "int4multirange",
    "int8multirange", "interval", "json", "jsonb", "jsonpath", "line", "lseg", "macaddr", "macaddr8", "money", "name",
    "numeric", "nummultirange", "numrange", "oid", "path", "pg_lsn", "point", "polygon", "real", "regclass",
    "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc", "regprocedure",
    "regrole", "regtype", "smallint", "text", "tid", "tsquery", "tsvector", "uuid", "varbit", "varchar", "xid", "xid8",
    "xml",
})  # fmt: skip
"""PostgreSQL's own types that hold no date, as the grammar names them."""

_COLUMNS: Final = ("RangeTableFuncCol", "JsonTableColumn")
"""Columns that XMLTABLE and JSON_TABLE make of texts."""


def is_timeless(type_name: Node) -> bool:
    """Whether a type is known to hold no date or time."""
    names = [part["String"]["sval"] for part in type_name.get("names", ())]
    return names[-1] in TIMELESS and names[:-1] in ([], ["pg_catalog"])


def readings(node: Node) -> list[Reading]:
    """Return what a node by itself may read as a date or a time, constants aside."""
    if "TypeCast" in node:
        cast = node["TypeCast"]
        if is_timeless(cast["typeName"]) or _is_constant(cast["arg"]):
            return []
        return [_cast(cast["typeName"], _column(cast["arg"]))]
    if "A_Indirection" in node:  # (x).date is date(x), and that a cast if there is no such function
        steps = node["A_Indirection"].get("indirection", ())
        names = [step["String"]["sval"] for step in steps if "String" in step]
        return [(f'"{name}" of an expression', None) for name in names if name not in IMMUTABLE]
    made = [node[name] for name in _COLUMNS if name in node]
    if isinstance(output := node.get("output"), dict):  # JSON_VALUE(... RETURNING date)
        made.append(output)
    return [_cast(one["typeName"], None) for one in made if "typeName" in one and not is_timeless(one["typeName"])]


def _cast(type_name: Node, column: str | None) -> Reading:
    return f"a cast to {type_name['names'][-1]['String']['sval']}", column


def _column(node: Node) -> str | None:
    fields = node.get("ColumnRef", {}).get("fields", ())
    name: str | None = fields[-1].get("String", {}).get("sval") if fields else None
    return name


def _is_constant(node: Node) -> bool:
    """Whether it is a constant, a parameter (whose value is looked into as well), or an array or a row of such."""
    pending = [node]
    while pending:
        one = pending.pop()
        if "A_ArrayExpr" in one:
            pending += one["A_ArrayExpr"].get("elements", ())
        elif "RowExpr" in one:
            pending += one["RowExpr"].get("args", ())
        elif "A_Const" not in one and "ParamRef" not in one:
            return False
    return True
