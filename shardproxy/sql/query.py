"""What the outermost query of a statement looks like: its FROM, its conditions, what it combines."""

import re
from typing import Any, Final, Literal

from shardproxy.sql.facts import (
    Binding,
    ColumnRef,
    Const,
    Default,
    Equality,
    FromFunction,
    FromItem,
    FromJoin,
    FromOther,
    FromTable,
    Param,
    RowValue,
    TableRef,
    Unknown,
    Value,
    tables_in,
)
from shardproxy.sql.parse import Node
from shardproxy.sql.walk import Scope, table_ref

_JOINS: Final[dict[str, Literal["inner", "left", "right", "full"]]] = {
    "JOIN_INNER": "inner",
    "JOIN_LEFT": "left",
    "JOIN_RIGHT": "right",
    "JOIN_FULL": "full",
}
_INTEGER: Final = re.compile(r"-?[0-9]+")
_FUNCTIONS: Final = {"RangeFunction", "RangeTableFunc", "JsonTable"}
_OTHERS: Final = {"RangeSubselect": "a sub-select in FROM", "RangeTableSample": "TABLESAMPLE"}


class Level:
    """FROM and the conditions of one query level, gathered while its join tree is read."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.outer: set[int] = set()
        """The id() of every RangeVar node that became a FromTable."""
        self.bindings: list[Binding] = []
        self.equal: list[Equality] = []
        self.merges = False
        """Whether USING or NATURAL makes one column of several."""
        self._only: tuple[TableRef, ...] | None = None

    def source(self, items: list[Node]) -> FromItem | None:
        """Read FROM or USING; its parts are joined as a comma does."""
        joined: FromItem | None = None
        for item in items:
            part = self._item(item)
            joined = part if joined is None else FromJoin("inner", joined, part)
        return joined

    def _item(self, item: Node) -> FromItem:
        [(name, node)] = item.items()
        if name == "RangeVar":
            return self._table(node)
        if name == "JoinExpr" and "alias" not in node:
            kind = _JOINS[node["jointype"]]
            self.merges |= "usingClause" in node or node.get("isNatural", False)
            left, right = self._item(node["larg"]), self._item(node["rarg"])
            # A row that finds no partner is kept whatever ON requires of it.
            missing = {"inner": None, "left": tuple(tables_in(right)), "right": tuple(tables_in(left)), "full": ()}
            self._only = missing[kind]
            self.conditions(node.get("quals"))
            for column in node.get("usingClause", ()):
                self._same_column(left, right, column["String"]["sval"])
            self._only = None
            return FromJoin(kind, left, right)
        if name in _FUNCTIONS:
            return FromFunction()
        return FromOther(_OTHERS.get(name, "an alias of a join"))

    def _table(self, node: Node) -> FromItem:
        if "schemaname" not in node and node["relname"] in self.scope:
            return FromOther("a common table expression")
        if "colnames" in node.get("alias", {}):
            return FromOther("an alias with column names")
        self.outer.add(id(node))
        return FromTable(table_ref(node, "read", nested=False))

    def _same_column(self, left: FromItem, right: FromItem, column: str) -> None:
        if isinstance(left, FromTable) and isinstance(right, FromTable):
            self._equate(_column_of(left.table, column), _column_of(right.table, column))

    def conditions(self, condition: Node | None) -> None:
        """Take what AND-ed conditions bind; anything under OR, NOT or a function binds nothing."""
        pending: list[Node] = [] if condition is None else [condition]
        while pending:
            node = pending.pop()
            if node.get("BoolExpr", {}).get("boolop") == "AND_EXPR":
                pending += reversed(node["BoolExpr"]["args"])
            elif "A_Expr" in node and _is_equality(node["A_Expr"]):
                expression = node["A_Expr"]
                if expression["kind"] == "AEXPR_OP":
                    self._equality(expression.get("lexpr", {}), expression["rexpr"])
                elif expression["kind"] == "AEXPR_IN":
                    self._bind(expression["lexpr"], expression["rexpr"]["List"]["items"])

    def _equality(self, left: Node, right: Node) -> None:
        if "RowExpr" in left and "RowExpr" in right:
            ours, theirs = left["RowExpr"].get("args", []), right["RowExpr"].get("args", [])
            if len(ours) == len(theirs):
                for one, other in zip(ours, theirs, strict=True):
                    self._equality(one, other)
            return
        one_column, other_column = column_of(left), column_of(right)
        if one_column is not None and other_column is not None:
            self._equate(one_column, other_column)
        elif one_column is not None:
            self._bind(left, [right])
        elif other_column is not None:
            self._bind(right, [left])

    def _equate(self, one: ColumnRef, other: ColumnRef) -> None:
        if self._only != ():
            self.equal.append(Equality(one, other, self._only))

    def _bind(self, left: Node, items: list[Node]) -> None:
        column = column_of(left)
        values = [value_of(item) for item in items]
        known = tuple(value for value in values if value is not None)
        if column is not None and len(known) == len(values) and self._only != ():
            self.bindings.append(Binding(column, known, self._only))


def _is_equality(expression: Node) -> bool:
    names = [part["String"]["sval"] for part in expression["name"]]
    return names in (["="], ["pg_catalog", "="])


def _column_of(table: TableRef, column: str) -> ColumnRef:
    if table.alias is not None:
        return ColumnRef(column, table.alias)
    return ColumnRef(column, table.name, table.schema)


def column_of(node: Node) -> ColumnRef | None:
    """Read a plain column reference, with up to a schema and a table before it."""
    fields = node.get("ColumnRef", {}).get("fields", ())
    names = [part["String"]["sval"] for part in fields if "String" in part]
    if not names or len(names) != len(fields) or len(names) > 3:
        return None
    return ColumnRef(*reversed(names))


def value_of(node: Node) -> Value | None:
    """Read a constant or parameter, possibly under one cast to a built-in type without modifiers."""
    cast = None
    if "TypeCast" in node:
        cast = _type_name(node["TypeCast"]["typeName"])
        node = node["TypeCast"]["arg"]
        if cast is None:
            return None
    if "ParamRef" in node:
        return Param(node["ParamRef"].get("number", 0), cast)
    return _constant(node["A_Const"], cast) if "A_Const" in node else None


def _constant(node: Node, cast: str | None) -> Const | None:
    if node.get("isnull"):
        return Const("null", "", cast)
    if "sval" in node:
        return Const("str", node["sval"]["sval"], cast)
    if "ival" in node:
        return Const("int", str(node["ival"].get("ival", 0)), cast)
    if "boolval" in node:
        return Const("bool", "true" if node["boolval"].get("boolval") else "false", cast)
    if "fval" in node:
        text = node["fval"]["fval"]
        if _INTEGER.fullmatch(text) is not None and -(2**63) <= (number := int(text)) < 2**63:
            return Const("int", str(number), cast)
        return Const("float", text, cast)
    return None


def _type_name(node: Node) -> str | None:
    """The name of a built-in type; None with modifiers, array bounds or another schema."""
    names = [part["String"]["sval"] for part in node.get("names", ())]
    if node.get("typmods") or node.get("arrayBounds") or node.get("setof") or node.get("pct_type"):
        return None
    if len(names) == 2 and names[0] != "pg_catalog":
        return None
    return names[-1] if 1 <= len(names) <= 2 else None


def row_value(node: Node) -> RowValue:
    """Read one expression of VALUES."""
    if "SetToDefault" in node:
        return Default()
    value = value_of(node)
    return Unknown() if value is None else value


def is_several(node: Node) -> bool:
    """Whether one expression of VALUES is a composite value's fields, `(...).*`: as many values as it has fields."""
    return "A_Star" in node.get("A_Indirection", {}).get("indirection", ({},))[-1]


def combining(node: Node) -> list[str]:
    """Name the clauses of a SELECT that make one answer of all rows."""
    reasons = []
    if node["op"] != "SETOP_NONE":
        reasons.append(node["op"].removeprefix("SETOP_"))
    if "distinctClause" in node:
        reasons.append("DISTINCT ON" if any(node["distinctClause"]) else "DISTINCT")
    for key, name in (
        ("groupClause", "GROUP BY"),
        ("havingClause", "HAVING"),
        ("windowClause", "WINDOW"),
        ("sortClause", "ORDER BY"),
    ):
        if _present(node.get(key)):
            reasons.append(name)
    return reasons


def row_count(node: Node | None) -> Value | Unknown | None:
    """Read LIMIT or OFFSET; None where there is none, which NULL and LIMIT ALL mean, too."""
    if node is None:
        return None
    value = value_of(node)
    if isinstance(value, Const) and value.kind == "null":
        return None
    return Unknown() if value is None else value


def _present(clause: Any) -> bool:
    return clause is not None and clause != []
