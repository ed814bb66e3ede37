"""From the tree of one statement to its facts."""

from collections.abc import Callable
from typing import Any, Final, TypedDict

from shardproxy.copy.options import CopyOptions, OptionValue
from shardproxy.sql import kinds, query
from shardproxy.sql.alter import rewrites
from shardproxy.sql.column_list import list_at
from shardproxy.sql.facts import Const, SetConfig, TableRef
from shardproxy.sql.foreign_keys import foreign_keys
from shardproxy.sql.objects import column_rename, made, objects_of
from shardproxy.sql.own import names_in_code, names_schema
from shardproxy.sql.parse import Node, prepared_from
from shardproxy.sql.processes import processes
from shardproxy.sql.returning import old_row
from shardproxy.sql.statements import (
    SNAPSHOT,
    Begin,
    CloseCursor,
    Code,
    Commit,
    CopyFrom,
    CopyTo,
    CreateAs,
    Deallocate,
    DeclareCursor,
    Delete,
    Discard,
    Endpoint,
    Execute,
    Explain,
    Fetch,
    Insert,
    Listen,
    Merge,
    Notify,
    Prepare,
    PrepareTransaction,
    Release,
    Reset,
    Rollback,
    RollbackTo,
    Savepoint,
    Select,
    Set,
    Show,
    Statement,
    Unlisten,
    Update,
    Utility,
)
from shardproxy.sql.visible import visible
from shardproxy.sql.walk import Seen, scope_of, seen, table_ref, walk
from shardproxy.sql.widths import Widths

CURSOR_OPT_HOLD: Final = 0x20
"""src/include/nodes/parsenodes.h"""


class _Place(TypedDict):
    """Where a statement stands in the query string."""

    text: str
    location: int


def statement_of(text: str, location: int, tree: Node) -> Statement:
    """Describe a statement: its text, the offset of its first character, and its node under the node's name."""
    return _statement({"text": text, "location": location}, tree)


def _statement(at: _Place, tree: Node) -> Statement:
    [(name, node)] = tree.items()
    if name in {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}:
        return _modify(at, name, node, tree)
    return _BUILDERS.get(name, _utility)(at, name, node)


def _inside(statement: Statement) -> Seen:
    """What a statement that holds another has of it."""
    return {
        "tables": statement.tables,
        "functions": statement.functions,
        "attributes": statement.attributes,
        "operators": statement.operators,
        "varying": (),
        "moments": (),
        "readings": (),
        "params": statement.params,
        "locks": statement.locks,
    }


# Rows.


def _select(at: _Place, _: str, node: Node) -> Statement:
    level = query.Level(scope_of(node))
    source = level.source(node.get("fromClause", []))
    level.conditions(node.get("whereClause"))
    found = walk(node, level.outer)
    reasons = [*query.combining(node), *found.aggregate_syntax]
    own = {"LIMIT": "limitCount" in node or "limitOffset" in node, "DISTINCT ON": "DISTINCT ON" in reasons}
    reasons += [f"{name} in a sub-query" for name, number in found.limits.items() if number > own[name]]
    select = Select(
        **at,
        **seen(found),
        source=source,
        bindings=tuple(level.bindings),
        equal=tuple(level.equal),
        merges=level.merges,
        combining=tuple(reasons),
        limit=query.row_count(node.get("limitCount")),
        offset=query.row_count(node.get("limitOffset")),
        set_configs=tuple(map(_set_config, found.set_config)),
        visible=visible(at["text"], at["location"], node),
        processes=processes(at["text"], at["location"], node),
    )
    first = node
    while "larg" in first:  # INTO of a UNION stands in the first of its queries
        first = first["larg"]
    return _create_as(at, first["intoClause"], select, materialized=False) if "intoClause" in first else select


def _set_config(arguments: list[Node]) -> SetConfig:
    if len(arguments) != 3:
        return SetConfig(None, None, None)
    return SetConfig(*map(query.value_of, arguments))


def _create_as(at: _Place, into: Node, inner: Statement, *, materialized: bool) -> CreateAs:
    facts = _inside(inner)
    target = table_ref(into["rel"], "write", nested=False)
    facts["tables"] = (target, *facts["tables"])
    temporary = _is_temporary(into["rel"])
    return CreateAs(
        **at,
        **facts,
        target=target,
        query=inner,
        temporary=temporary,
        materialized=materialized,
        objects=() if temporary else (made(target),),
    )


def _create_table_as(at: _Place, _: str, node: Node) -> Statement:
    materialized = node.get("objtype") == "OBJECT_MATVIEW"
    return _create_as(at, node["into"], _statement(at, node["query"]), materialized=materialized)


def _modify(at: _Place, name: str, node: Node, tree: Node) -> Statement:
    level = query.Level(scope_of(node))
    level.outer.add(id(node["relation"]))
    source = level.source(node.get("fromClause") or node.get("usingClause") or [])
    level.conditions(node.get("whereClause"))
    found = walk(tree, level.outer)
    more: dict[str, Any] = {
        **at,
        **seen(found),
        "source": source,
        "bindings": tuple(level.bindings),
        "equal": tuple(level.equal),
        "merges": level.merges,
        "target": table_ref(node["relation"], "write", nested=False),
        "set_columns": tuple(found.set_columns),
        "set_defaults": tuple(found.set_defaults),
        "returning": "returningClause" in node,
        "old_row": old_row(node),
        "alone": source is None and not found.queries and name != "MergeStmt",
    }
    if name == "InsertStmt":
        overriding = node.get("override") == "OVERRIDING_USER_VALUE"
        excluded = tuple(name for name in found.set_excluded if name not in found.set_otherwise)
        return Insert(**more, **_rows(at["text"], node), overriding=overriding, set_excluded=excluded)
    if name == "UpdateStmt":
        return Update(**more)
    return Delete(**more) if name == "DeleteStmt" else Merge(**more)


def _rows(text: str, node: Node) -> dict[str, Any]:
    columns = None
    if "cols" in node:
        columns = tuple(column["ResTarget"]["name"] for column in node["cols"])
    action = node.get("onConflictClause", {}).get("action", "ONCONFLICT_NONE")
    conflict = {"ONCONFLICT_NOTHING": "nothing", "ONCONFLICT_UPDATE": "update"}.get(action)
    source = node.get("selectStmt", {}).get("SelectStmt")
    if source is None:
        return {"columns": (), "rows": ((),), "select": False, "conflict": conflict}
    values = [row["List"]["items"] for row in source.get("valuesLists", ())]
    ordered = {"sortClause", "limitCount", "limitOffset", "withClause"} & source.keys()
    if not values or ordered or any(query.is_several(item) for row in values for item in row):
        return {"columns": columns, "rows": (), "select": True, "conflict": conflict}
    rows = tuple(tuple(map(query.row_value, row)) for row in values)
    place = list_at(text) if columns is None else None
    return {
        "columns": columns,
        "rows": rows,
        "widths": Widths.of(rows),
        "select": False,
        "conflict": conflict,
        "list_at": place,
    }


def _copy(at: _Place, _: str, node: Node) -> Statement:
    incoming = node.get("is_from", False)
    pairs = [_option(item["DefElem"]) for item in node.get("options", ())]
    options = CopyOptions.read("from" if incoming else "to", pairs)
    endpoint: Endpoint = "program" if node.get("is_program") else "file" if "filename" in node else "client"
    if "query" in node:
        inner = _statement(at, node["query"])
        return CopyTo(**at, **_inside(inner), data=inner, columns=None, options=options, endpoint=endpoint)
    table = table_ref(node["relation"], "write" if incoming else "read", nested=False)
    columns = tuple(column["String"]["sval"] for column in node["attlist"]) if "attlist" in node else None
    facts = seen(walk({key: value for key, value in node.items() if key != "relation"}, None))
    facts["tables"] = (table,)
    if not incoming:
        return CopyTo(**at, **facts, data=table, columns=columns, options=options, endpoint=endpoint)
    where = "whereClause" in node
    return CopyFrom(**at, **facts, table=table, columns=columns, options=options, endpoint=endpoint, has_where=where)


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


# Definitions.


def _is_temporary(relation: Node) -> bool:
    return relation.get("relpersistence") == "t" or relation.get("schemaname") == "pg_temp"


def _utility(at: _Place, name: str, node: Node) -> Statement:
    facts = seen(walk(node, None, "write"))
    if name == "DropStmt" and node["removeType"] in kinds.DROPPED_RELATIONS:
        facts["tables"] = tuple(map(_dropped, node["objects"]))
    if name == "ConstraintsSetStmt":
        facts["tables"] = ()  # constraints have the node of relations
    created = [node[key] for key in ("relation", "view", "sequence") if "relname" in node.get(key, ())]
    tag = kinds.TAGGED.get(name, "")
    if name == "VacuumStmt" and not node.get("is_vacuumcmd", False):
        tag = "ANALYZE"
    return Utility(
        **at,
        **facts,
        tag=tag,
        block="required" if name in kinds.IN_BLOCKS else "refused" if kinds.stands_alone(name, node) else "allowed",
        defines=name not in kinds.NOT_DEFINING,
        names_own=names_schema(name, node),
        owners=tuple(role["RoleSpec"].get("rolename") for role in node["roles"]) if name in kinds.OWNED else (),
        temporary=name in {"CreateStmt", "ViewStmt", "CreateSeqStmt"} and any(map(_is_temporary, created)),
        rewrites=rewrites(node) if name == "AlterTableStmt" else (),
        foreign_keys=foreign_keys(name, node),
        objects=objects_of(name, node, facts["tables"]),
        column_rename=column_rename(name, node),
        makes_database=name == "CreatedbStmt",
    )


def _dropped(item: Node) -> TableRef:
    names = [part["String"]["sval"] for part in item["List"]["items"]]
    return TableRef(names[-2] if len(names) > 1 else None, names[-1], role="write")


def _code(at: _Place, _: str, node: Node) -> Statement:
    return Code(**at, **seen(walk(node, None)), names_own=names_in_code(node))


# Settings and transactions.


def _set(at: _Place, _: str, node: Node) -> Statement:
    if node["kind"] in {"VAR_RESET", "VAR_RESET_ALL"}:
        return Reset(**at, tag="RESET", name=node.get("name"))
    values = None
    if node["kind"] == "VAR_SET_VALUE":
        read = [query.value_of(item) for item in node["args"]]
        values = tuple(value.text if isinstance(value, Const) else "" for value in read)
    local = node.get("is_local", False) or node["name"] in {"TRANSACTION", SNAPSHOT}
    return Set(**at, tag="SET", name=node["name"], local=local, values=values)


def _transaction(at: _Place, _: str, node: Node) -> Statement:
    kind, chain = node["kind"], node.get("chain", False)
    match kind:
        case "TRANS_STMT_BEGIN":
            return Begin(**at, tag="BEGIN", modes=_modes(node))
        case "TRANS_STMT_START":
            return Begin(**at, tag="START TRANSACTION", modes=_modes(node))
        case "TRANS_STMT_COMMIT":
            return Commit(**at, tag="COMMIT", chain=chain)
        case "TRANS_STMT_ROLLBACK":
            return Rollback(**at, tag="ROLLBACK", chain=chain)
        case "TRANS_STMT_SAVEPOINT":
            return Savepoint(**at, tag="SAVEPOINT", name=node["savepoint_name"])
        case "TRANS_STMT_RELEASE":
            return Release(**at, tag="RELEASE", name=node["savepoint_name"])
        case "TRANS_STMT_ROLLBACK_TO":
            return RollbackTo(**at, tag="ROLLBACK", name=node["savepoint_name"])
        case _:
            return PrepareTransaction(**at, tag=kinds.PREPARED_TRANSACTIONS[kind], name=node["gid"])


_MODES: Final = {
    ("transaction_read_only", "0"): "READ WRITE",
    ("transaction_read_only", "1"): "READ ONLY",
    ("transaction_deferrable", "0"): "NOT DEFERRABLE",
    ("transaction_deferrable", "1"): "DEFERRABLE",
}


def _modes(node: Node) -> str:
    modes = []
    for item in node.get("options", []):
        name, value = item["DefElem"]["defname"], query.value_of(item["DefElem"]["arg"])
        assert isinstance(value, Const)
        modes.append(_MODES.get((name, value.text)) or f"ISOLATION LEVEL {value.text.upper()}")
    return ", ".join(modes)


# What goes by a name, and what holds another statement.


def _prepare(at: _Place, _: str, node: Node) -> Statement:
    inner = _statement(at, node["query"])
    text = at["text"][prepared_from(at["text"]) :]
    return Prepare(**at, **_inside(inner), tag="PREPARE", name=node["name"], query=inner, inner=text)


def _declare(at: _Place, _: str, node: Node) -> Statement:
    inner = _statement(at, node["query"])
    hold = bool(node.get("options", 0) & CURSOR_OPT_HOLD)
    return DeclareCursor(**at, **_inside(inner), tag="DECLARE CURSOR", name=node["portalname"], query=inner, hold=hold)


def _explain(at: _Place, _: str, node: Node) -> Statement:
    inner = _statement(at, node["query"])
    analyze = kinds.is_on(node, "options", "analyze")
    return Explain(**at, **_inside(inner), tag="EXPLAIN", query=inner, analyze=analyze)


def _execute(at: _Place, _: str, node: Node) -> Statement:
    args = tuple(query.row_value(one) for one in node.get("params", ()))
    return Execute(**at, **seen(walk(node, None)), name=node["name"], args=args)


def _deallocate(at: _Place, _: str, node: Node) -> Statement:
    tag = "DEALLOCATE ALL" if node.get("isall") else "DEALLOCATE"
    return Deallocate(**at, tag=tag, name=node.get("name"))


def _fetch(at: _Place, _: str, node: Node) -> Statement:
    return Fetch(**at, tag="MOVE" if node.get("ismove") else "FETCH", name=node["portalname"])


def _close(at: _Place, _: str, node: Node) -> Statement:
    name = node.get("portalname")
    return CloseCursor(**at, tag="CLOSE CURSOR ALL" if name is None else "CLOSE CURSOR", name=name)


_BUILDERS: Final[dict[str, Callable[[_Place, str, Node], Statement]]] = {
    "SelectStmt": _select,
    "CopyStmt": _copy,
    "CreateTableAsStmt": _create_table_as,
    "DoStmt": _code,
    "CallStmt": _code,
    "VariableSetStmt": _set,
    "VariableShowStmt": lambda at, _, node: Show(**at, tag="SHOW", name=node["name"]),
    "DiscardStmt": lambda at, _, node: Discard(**at, tag=node["target"].replace("_", " ")),
    "TransactionStmt": _transaction,
    "PrepareStmt": _prepare,
    "ExecuteStmt": _execute,
    "DeallocateStmt": _deallocate,
    "DeclareCursorStmt": _declare,
    "FetchStmt": _fetch,
    "ClosePortalStmt": _close,
    "ListenStmt": lambda at, _, node: Listen(**at, tag="LISTEN", name=node["conditionname"]),
    "UnlistenStmt": lambda at, _, node: Unlisten(**at, tag="UNLISTEN", name=node.get("conditionname")),
    "NotifyStmt": lambda at, _, node: Notify(**at, tag="NOTIFY", name=node["conditionname"]),
    "ExplainStmt": _explain,
}
"""By the node's name; every other statement is a utility."""
