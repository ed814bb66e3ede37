"""One pass over a whole statement: every relation, function and parameter, wherever in the tree it stands.

The pass knows no statement types: it looks at every node, so nothing hides in a clause that was not thought
of. A name counts as a common table expression only where PostgreSQL would find that; in doubt it is a table,
whose statement then is refused rather than answered wrongly. No recursion: the client chooses the depth.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict

from shardproxy.sql.facts import FunctionName, Lock, TableRef
from shardproxy.sql.moments import Reading, readings
from shardproxy.sql.parse import Node

_MODIFYING: Final = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}
# Nodes of the grammar that are aggregates without being a function call.
_AGGREGATES: Final = {
    "JsonArrayAgg": "JSON_ARRAYAGG",
    "JsonObjectAgg": "JSON_OBJECTAGG",
    "GroupingFunc": "GROUPING",
}
# Nodes that hold nothing but names and values, the most frequent ones.
_LEAVES: Final = frozenset({"A_Const", "ColumnRef", "String", "SetToDefault"})
# WITH is read before the rest; a locking clause has names of FROM, and INTO a relation that is not there yet.
_NO_RELATIONS: Final = frozenset({"withClause", "lockingClause", "intoClause"})
# Spellings of date and time input that depend on the moment; they may stand in arrays, ranges and rows.
_MOMENTS: Final = re.compile(r"(?<![a-z])(now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)
# Columns that every table has, and every server fills in its own way.
_SYSTEM_COLUMNS: Final = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}

CAST: Final = "::"
"""What stands before the name of a type in `operators`."""

ATTRIBUTE: Final = "."
"""What stands there before the name of an attribute of an expression: `(x).f` may be `f(x)`, whatever x is."""

Scope = frozenset[str]
Role = Literal["read", "write"]
Pending = list[tuple[Any, Scope, Role]]


@dataclass(slots=True)
class Found:
    """What a walk collects."""

    tables: dict[TableRef, None] = field(default_factory=dict)
    functions: set[tuple[str | None, str]] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    params: Counter[int] = field(default_factory=Counter)
    aggregate_syntax: dict[str, None] = field(default_factory=dict)
    limits: Counter[str] = field(default_factory=Counter)
    """LIMIT and DISTINCT ON of all levels: each may choose other rows on each shard."""
    varying: dict[str, None] = field(default_factory=dict)
    moments: dict[str, None] = field(default_factory=dict)
    readings: dict[Reading, None] = field(default_factory=dict)
    queries: bool = False
    """There are sub-selects in expressions, or WITH."""
    locks: set[Lock] = field(default_factory=set)
    set_columns: dict[str, None] = field(default_factory=dict)
    set_defaults: dict[str, None] = field(default_factory=dict)
    set_excluded: dict[str, None] = field(default_factory=dict)
    """Columns that are set to what the row has that was to be inserted."""
    set_otherwise: dict[str, None] = field(default_factory=dict)
    set_config: list[list[Node]] = field(default_factory=list)
    """The arguments of each call of set_config()."""


class Seen(TypedDict):
    """What a walk over the whole statement has found."""

    tables: tuple[TableRef, ...]
    functions: frozenset[FunctionName]
    attributes: frozenset[str]
    operators: frozenset[str]
    varying: tuple[str, ...]
    moments: tuple[str, ...]
    readings: tuple[Reading, ...]
    params: tuple[tuple[int, int], ...]
    locks: frozenset[Lock]


def seen(found: Found) -> Seen:
    """Return it as the fields of a statement."""
    return {
        "tables": tuple(found.tables),
        "functions": frozenset(found.functions),
        "attributes": frozenset(found.attributes),
        "operators": frozenset(found.operators),
        "varying": (*found.varying, *found.moments, *(+found.limits)),
        "moments": tuple(found.moments),
        "readings": tuple(found.readings),
        "params": tuple(sorted(found.params.items())),
        "locks": frozenset(found.locks),
    }


def table_ref(node: Node, role: Role, nested: bool) -> TableRef:
    """Make a TableRef of a RangeVar."""
    alias = node.get("alias", {}).get("aliasname")
    return TableRef(node.get("schemaname"), node["relname"], alias, role, nested)


def scope_of(node: Node) -> Scope:
    """The names of the common table expressions that a query's own WITH makes visible in its body."""
    return frozenset(
        expression["CommonTableExpr"]["ctename"] for expression in node.get("withClause", {}).get("ctes", ())
    )


def walk(tree: Node, outer: set[int] | None, role: Role = "read") -> Found:
    """Look at every node of `tree`.

    `outer` holds the id() of those RangeVar nodes that are the outermost query's own (None: all of them),
    `role` is that of relations neither in a SELECT nor the target of INSERT, UPDATE, DELETE or MERGE.
    """
    found = Found()
    empty: Scope = frozenset()
    pending: Pending = [(tree, empty, role)]
    while pending:
        node, scope, role = pending.pop()
        if isinstance(node, list):
            pending += [(item, scope, role) for item in reversed(node) if isinstance(item, dict | list)]
            continue
        if not _LEAVES.isdisjoint(node):
            _leaf(found, node)
            continue
        if "relname" in node:
            _relation(found, node, scope, role, outer)
            continue
        if "withClause" in node:
            found.queries = True
            scope = _common_tables(found, node["withClause"], scope, pending)
        if "lockingClause" in node:
            found.locks |= _locks(node)
        _facts(found, node)
        child: Any
        for key, child in reversed(node.items()):
            if isinstance(child, list) and key != "lockingClause":
                pending.append((child, scope, role))
            elif key in _NO_RELATIONS or not child or isinstance(child, str | int | float):
                continue
            elif key in _MODIFYING:
                _modifying(found, child, scope, pending, outer)
            else:
                pending.append((child, scope, "read" if key == "SelectStmt" else role))
    return found


def _relation(found: Found, node: Node, scope: Scope, role: Role, outer: set[int] | None) -> None:
    if "schemaname" not in node and node["relname"] in scope and role == "read":
        return
    found.tables[table_ref(node, role, _is_nested(node, outer))] = None


def _is_nested(node: Node, outer: set[int] | None) -> bool:
    return outer is not None and id(node) not in outer


def _common_tables(found: Found, clause: Node, scope: Scope, pending: Pending) -> Scope:
    """Put the queries of WITH on the list, each with the names that it can see; return what the body sees."""
    names = [expression["CommonTableExpr"]["ctename"] for expression in clause["ctes"]]
    everything = scope | set(names)
    for index, expression in enumerate(clause["ctes"]):
        seen = everything if clause.get("recursive") else scope | set(names[:index])
        pending.append((expression, seen, "read"))
    return everything


def _modifying(
    found: Found,
    node: Node,
    scope: Scope,
    pending: Pending,
    outer: set[int] | None,
) -> None:
    """INSERT, UPDATE, DELETE, MERGE: the target is a table even if WITH defines its name; all else is read."""
    target = node["relation"]
    found.tables[table_ref(target, "write", _is_nested(target, outer))] = None
    if "withClause" in node:
        found.queries = True
        scope = _common_tables(found, node["withClause"], scope, pending)
    _assignments(found, node.get("targetList", ()))  # only UPDATE has one
    child: Any
    for key, child in reversed(node.items()):
        if key == "onConflictClause":
            _assignments(found, child.get("targetList", ()))
        if key == "mergeWhenClauses":
            for when in (item["MergeWhenClause"] for item in child):
                if when["commandType"] == "CMD_UPDATE":
                    _assignments(found, when.get("targetList", ()))
        if key not in {"withClause", "relation"} and isinstance(child, dict | list):
            pending.append((child, scope, "read"))


def _assignments(found: Found, targets: list[Node]) -> None:
    for target in targets:
        assignment = target["ResTarget"]
        found.set_columns[assignment["name"]] = None
        value = assignment.get("val", {})
        if "MultiAssignRef" in value:  # (a, b) = (1, DEFAULT)
            part = value["MultiAssignRef"]
            row = part["source"].get("RowExpr", {}).get("args", ())
            value = row[part["colno"] - 1] if len(row) >= part["colno"] else {}
        fields = [part.get("String", {}).get("sval") for part in value.get("ColumnRef", {}).get("fields", ())]
        if fields == ["excluded", assignment["name"]] and "indirection" not in assignment:
            found.set_excluded[assignment["name"]] = None
        else:
            found.set_otherwise[assignment["name"]] = None
        if "SetToDefault" in value:
            found.set_defaults[assignment["name"]] = None


def _leaf(found: Found, node: Node) -> None:
    fields = node.get("ColumnRef", {}).get("fields", ())
    column = fields[-1].get("String", {}).get("sval", "") if fields else ""
    if len(fields) > 1 and column:
        found.attributes.add(column)
    if column in _SYSTEM_COLUMNS:
        found.varying[f"system column {column}"] = None
    text = node.get("A_Const", {}).get("sval", {}).get("sval", "")
    if text and _MOMENTS.search(text):
        found.moments[f"the constant '{text}'"] = None


def _locks(select: Node) -> set[Lock]:
    """What a SELECT's locking clauses lock: what they name, or all of its FROM, sub-selects there included."""
    names: list[str] = []
    pending = [select.get("fromClause")]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            if "relname" in item:
                names.append(item.get("alias", {}).get("aliasname", item["relname"]))
            pending += item.values()
    found = set()
    for clause in select["lockingClause"]:
        one = clause["LockingClause"]
        given = [rel["RangeVar"]["relname"] for rel in one.get("lockedRels", ())]
        exclusive = one["strength"] in {"LCS_FORUPDATE", "LCS_FORNOKEYUPDATE"}
        found |= {(name, exclusive) for name in given or names}
    return found


def _facts(found: Found, node: Node) -> None:
    """Note what a node is by itself, whatever contains it."""
    if "funcformat" in node:
        _function(found, node)
    elif "SQLValueFunction" in node:
        operation = node["SQLValueFunction"]["op"].removeprefix("SVFOP_").removesuffix("_N").lower()
        found.functions.add((None, operation))
    elif "ParamRef" in node:
        found.params[node["ParamRef"].get("number", 0)] += 1
    elif "A_Indirection" in node:
        steps = node["A_Indirection"].get("indirection", ())
        names = [step["String"]["sval"] for step in steps if "String" in step]
        found.attributes.update(names)
        found.operators.update(ATTRIBUTE + name for name in names)
        found.readings.update(dict.fromkeys(readings(node)))
    elif "A_Expr" in node:
        found.operators.add(node["A_Expr"]["name"][-1]["String"]["sval"])
    elif "SubLink" in node:
        found.queries = True
        found.operators.update(part["String"]["sval"] for part in node["SubLink"].get("operName", ())[-1:])
    elif "TypeCast" in node:
        name = node["TypeCast"]["typeName"]["names"][-1]["String"]["sval"]
        found.operators.add(CAST + name)
        if name.startswith("reg"):
            found.varying[f"a cast to {name}"] = None
        found.readings.update(dict.fromkeys(readings(node)))
    elif "RangeTableSample" in node:
        found.varying["TABLESAMPLE"] = None
    elif "limitOption" in node:
        if "limitCount" in node or "limitOffset" in node:
            found.limits["LIMIT"] += 1
        if any(item for item in node.get("distinctClause", ())):
            found.limits["DISTINCT ON"] += 1
    else:
        found.readings.update(dict.fromkeys(readings(node)))
        for name, spelled in _AGGREGATES.items():
            if name in node:
                found.aggregate_syntax[spelled] = None
                if "over" in node[name].get("constructor", {}):
                    found.aggregate_syntax["OVER"] = None


def _function(found: Found, node: Node) -> None:
    names = [part["String"]["sval"] for part in node["funcname"]]
    found.functions.add((names[-2] if len(names) > 1 else None, names[-1]))
    if names[-1] == "set_config":
        found.set_config.append(node.get("args", []))
    for key, spelled in (
        ("agg_star", f"{names[-1]}(*)"),
        ("agg_distinct", "DISTINCT in a function's arguments"),
        ("agg_order", "ORDER BY in a function's arguments"),
        ("agg_filter", "FILTER"),
        ("agg_within_group", "WITHIN GROUP"),
        ("over", "OVER"),
    ):
        if node.get(key):
            found.aggregate_syntax[spelled] = None
