"""From a query string to the facts of its statements, cached by text.

`analyze` is the way in. It reads no catalog and no session state, so equal text gives equal facts and the
cache is shared by all sessions. A statement's relations stand there as it names them; who they are is for
`route`'s caller to resolve.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from shardproxy.copy.options import CopyOptions, OptionValue
from shardproxy.errors import PgError
from shardproxy.sql import kinds, shape
from shardproxy.sql.alter import with_rewrites
from shardproxy.sql.model import Const, CopyStatement, Insert, Kind, SetConfig, Source, Statement, TableRef
from shardproxy.sql.parse import STATEMENT_TOO_COMPLEX, Node, ParseFailed, parse
from shardproxy.sql.walk import Found, scope_of, table_ref, walk
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED

CACHE_BYTES: Final = 16 * 2**20
"""All that the cache may hold, by the estimate of `_cost`."""
CACHED_TEXT_BYTES: Final = 256 * 2**10
"""A longer text is a load in disguise: it comes once and would drive out what comes again."""

_cache: OrderedDict[str, tuple[tuple[Statement, ...], int]] = OrderedDict()
_cached_bytes = 0


def analyze(sql: str, *, standard_conforming_strings: bool = True) -> tuple[Statement, ...]:
    """Parse a query string; ParseFailed where PostgreSQL's grammar refuses it.

    Empty text, comments and semicolons alone give one statement of Kind.EMPTY. Statements that are left out
    between semicolons are left out here as well, as PostgreSQL does.
    The grammar reads plain strings as the standard says. A session that has turned that off passes False, and
    text with a backslash is refused then, because where its strings end would be a guess.
    """
    if not standard_conforming_strings and "\\" in sql:
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            "a backslash in a query is not supported with standard_conforming_strings = off",
            hint="SET standard_conforming_strings = on, and write E'...' where a backslash is an escape.",
        )
    global _cached_bytes  # noqa: PLW0603 -- the cache is the module's, as its docstring says
    known = _cache.get(sql)
    if known is not None:
        _cache.move_to_end(sql)
        return known[0]
    try:
        statements = tuple(_statement(text, location, tree) for text, location, tree in parse(sql))
    except RecursionError:
        raise ParseFailed("stack depth limit exceeded", None, STATEMENT_TOO_COMPLEX) from None
    statements = statements or (Statement(text=sql, location=0, kind=Kind.EMPTY),)
    if len(sql) <= CACHED_TEXT_BYTES:
        cost = _cost(sql, statements)
        _cache[sql] = (statements, cost)
        _cached_bytes += cost
        while _cached_bytes > CACHE_BYTES:
            _cached_bytes -= _cache.popitem(last=False)[1][1]
    return statements


def _cost(sql: str, statements: tuple[Statement, ...]) -> int:
    """Estimate what an entry holds: two copies of the text, 4 KiB a statement, 150 bytes a VALUES item."""
    items = sum(len(row) for one in statements if one.insert is not None for row in one.insert.rows)
    bound = sum(len(binding.values) for one in statements for binding in one.bindings)
    return 2 * len(sql.encode("utf-8", "surrogateescape")) + 4096 * len(statements) + 150 * (items + bound)


def _statement(text: str, location: int, tree: Node) -> Statement:
    [(name, node)] = tree.items()
    kind = kinds.SIMPLE.get(name)
    base = Statement(text=text, location=location, kind=kind or Kind.UTILITY)
    if name == "CopyStmt":
        return _copy(base, node)
    if kind is Kind.SELECT:
        return _select(base, node)
    if kind in {Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE}:
        return _modify(base, tree, node)
    if name == "TransactionStmt":
        kind, tag = kinds.TRANSACTION[node["kind"]]
        label = node.get("savepoint_name", node.get("gid"))
        return replace(base, kind=kind, tag=tag, name=label, chain=node.get("chain", False))
    if name == "VariableSetStmt":
        return _set(base, node)
    if kind is None:
        return _utility(base, name, node)
    base = replace(base, tag=kinds.TAGS.get(kind, ""), name=node.get(kinds.NAMES.get(name, "")))
    if name == "DiscardStmt":
        base = replace(base, tag=node["target"].replace("_", " "))
    if name == "DeallocateStmt" and node.get("isall"):
        base = replace(base, tag="DEALLOCATE ALL")
    if name == "ClosePortalStmt" and base.name is None:
        base = replace(base, tag="CLOSE CURSOR ALL")
    if name == "FetchStmt" and node.get("ismove"):
        base = replace(base, tag="MOVE")
    if name == "DeclareCursorStmt":
        base = replace(base, hold=bool(node.get("options", 0) & 0x20))  # CURSOR_OPT_HOLD
    if name == "ExplainStmt":
        base = replace(base, analyze=kinds.is_on(node, "options", "analyze"))
    if "query" in node:
        return _around(base, _statement(text, location, node["query"]))
    return _with(base, walk(node, None))


def _with(base: Statement, found: Found) -> Statement:
    """Add what a walk over the whole statement found."""
    return replace(
        base,
        tables=tuple(found.tables),
        functions=frozenset(found.functions),
        params=tuple(sorted(found.params.items())),
        varying=(*found.varying, *(+found.limits)),
        locking=found.locking,
        set_configs=tuple(map(_set_config, found.set_config)),
        set_columns=tuple(found.set_columns),
        set_defaults=tuple(found.set_defaults),
    )


def _set_config(arguments: list[Node]) -> SetConfig:
    if len(arguments) != 3:
        return SetConfig(None, None)
    return SetConfig(shape.value_of(arguments[0]), shape.value_of(arguments[2]))


def _around(base: Statement, inner: Statement) -> Statement:
    """A statement that holds another: its relations are that one's."""
    return replace(base, inner=inner, tables=inner.tables, functions=inner.functions, params=inner.params)


def _select(base: Statement, node: Node) -> Statement:
    level = shape.Shape(scope_of(node))
    source = level.source(node.get("fromClause", []))
    level.conditions(node.get("whereClause"))
    found = walk(node, level.outer)
    reasons = [*shape.combining(node), *found.aggregate_syntax]
    own = {"LIMIT": "limitCount" in node or "limitOffset" in node, "DISTINCT ON": "DISTINCT ON" in reasons}
    reasons += [f"{name} in a sub-query" for name, number in found.limits.items() if number > own[name]]
    target = node.get("intoClause", {}).get("rel")
    base = _with(base, found)
    if target is not None:
        base = replace(base, tables=(table_ref(target, "write", nested=False), *base.tables))
    return replace(
        base,
        source=source,
        bindings=tuple(level.bindings),
        equal=tuple(level.equal),
        combining=tuple(reasons),
        into=target is not None,
        definition=target is not None,
        temporary=target is not None and _is_temporary(target),
    )


def _modify(base: Statement, tree: Node, node: Node) -> Statement:
    level = shape.Shape(scope_of(node))
    level.outer.add(id(node["relation"]))
    source = level.source(node.get("fromClause") or node.get("usingClause") or [])
    level.conditions(node.get("whereClause"))
    insert = _insert(node) if base.kind is Kind.INSERT else None
    found = walk(tree, level.outer)
    return replace(
        _with(base, found),
        source=source,
        bindings=tuple(level.bindings),
        equal=tuple(level.equal),
        insert=insert,
        returning="returningClause" in node,
    )


def _insert(node: Node) -> Insert:
    columns = None
    if "cols" in node:
        columns = tuple(column["ResTarget"]["name"] for column in node["cols"])
    action = node.get("onConflictClause", {}).get("action", "ONCONFLICT_NONE")
    conflict = {"ONCONFLICT_NOTHING": "nothing", "ONCONFLICT_UPDATE": "update"}.get(action)
    query = node.get("selectStmt", {}).get("SelectStmt")
    if query is None:
        return Insert((), ((),), select=False, conflict=conflict)
    if "valuesLists" not in query or {"sortClause", "limitCount", "limitOffset", "withClause"} & query.keys():
        return Insert(columns, (), select=True, conflict=conflict)
    rows = tuple(tuple(shape.row_value(item) for item in row["List"]["items"]) for row in query["valuesLists"])
    return Insert(columns, rows, select=False, conflict=conflict)


def _set(base: Statement, node: Node) -> Statement:
    if node["kind"] in {"VAR_RESET", "VAR_RESET_ALL"}:
        return replace(base, kind=Kind.RESET, tag="RESET", name=node.get("name"))
    values = None
    if node["kind"] == "VAR_SET_VALUE":
        read = [shape.value_of(item) for item in node["args"]]
        values = tuple(value.text if isinstance(value, Const) else "" for value in read)
    local = node.get("is_local", False) or node.get("name") == "TRANSACTION"
    return replace(base, kind=Kind.SET, tag="SET", name=node.get("name"), local=local, set_values=values)


def _is_temporary(relation: Node) -> bool:
    return relation.get("relpersistence") == "t" or relation.get("schemaname") == "pg_temp"


def _utility(base: Statement, name: str, node: Node) -> Statement:
    base = replace(base, kind=kinds.utility_kind(name, node), definition=name not in kinds.NOT_DEFINING)
    base = replace(base, tag=kinds.IN_BLOCKS.get(name, base.tag))
    if name == "CreateTableAsStmt":
        inner = _statement(base.text, base.location, node["query"])
        target = table_ref(node["into"]["rel"], "write", nested=False)
        statement = replace(_around(base, inner), into=True, temporary=_is_temporary(node["into"]["rel"]))
        return replace(statement, tables=(target, *statement.tables))
    created = [node[key] for key in ("relation", "view", "sequence") if "relname" in node.get(key, ())]
    temporary = name in {"CreateStmt", "ViewStmt", "CreateSeqStmt"} and any(map(_is_temporary, created))
    base = replace(_with(base, walk(node, None, "write")), temporary=temporary)
    if name == "VacuumStmt" and not node.get("is_vacuumcmd", False):
        base = replace(base, tag="ANALYZE")
    if name == "AlterTableStmt":
        return with_rewrites(base, node)
    if name == "DropStmt" and node["removeType"] in kinds.DROPPED_RELATIONS:
        base = replace(base, tables=tuple(map(_dropped, node["objects"])))
    return base


def _dropped(item: Node) -> TableRef:
    names = [part["String"]["sval"] for part in item["List"]["items"]]
    return TableRef(names[-2] if len(names) > 1 else None, names[-1], role="write")


def _copy(base: Statement, node: Node) -> Statement:
    incoming = node.get("is_from", False)
    pairs = [_option(item["DefElem"]) for item in node.get("options", ())]
    options = CopyOptions.read("from" if incoming else "to", pairs)
    source: Source = "program" if node.get("is_program") else "file" if "filename" in node else "stdin"
    base = replace(base, kind=Kind.COPY_FROM if incoming else Kind.COPY_TO)
    if "query" in node:
        inner = _statement(base.text, base.location, node["query"])
        return replace(_around(base, inner), copy=CopyStatement(None, None, options, source, inner))
    table = table_ref(node["relation"], "write" if incoming else "read", nested=False)
    columns = None
    if "attlist" in node:
        columns = tuple(column["String"]["sval"] for column in node["attlist"])
    conditions = {key: value for key, value in node.items() if key != "relation"}
    return replace(
        _with(base, walk(conditions, None)),
        tables=(table,),
        copy=CopyStatement(
            table,
            columns,
            options,
            source,
            has_where="whereClause" in node,
        ),
    )


def _option(element: Node) -> tuple[str, OptionValue]:
    return element["defname"], _option_value(element.get("arg"))


def _option_value(node: dict[str, Any] | None) -> OptionValue:
    if node is None:
        return None
    [(kind, value)] = node.items()
    if kind == "Integer":
        return int(value.get("ival", 0))
    if kind == "Boolean":
        return bool(value.get("boolval", False))
    if kind == "List":
        return tuple(str(_option_value(item)) for item in value["items"])
    if kind == "A_Star":
        return ("*",)
    return str(value.get("sval", value.get("fval", "")))
