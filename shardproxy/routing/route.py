"""Where a statement goes, and how the answers of several shards become one.

`route` decides from the facts of the statement and the placement of its tables, and does nothing else. Its
rule: a statement goes to one shard that has everything it needs; or to several, only if their answers put
together are what one server would say; else it is refused with SQLSTATE 0A000 and a hint. In doubt it is
refused.
"""

from collections.abc import Mapping
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.alter import check_rewrites
from shardproxy.routing.bound import Bound
from shardproxy.routing.modify import check_replicated, route_create_as, route_modify
from shardproxy.routing.refusals import HINT_KEY, derived, key_of, refused, unlisted
from shardproxy.routing.resolved import NOTIFICATIONS, Context, Resolved, Route, in_turn
from shardproxy.sql.model import (
    FromFunction,
    FromItem,
    FromJoin,
    FromOther,
    FromTable,
    Kind,
    Statement,
    TableRef,
)

Tables = Mapping[TableRef, Resolved]

_CONTROL: Final = {
    Kind.BEGIN,
    Kind.COMMIT,
    Kind.ROLLBACK,
    Kind.SAVEPOINT,
    Kind.RELEASE,
    Kind.ROLLBACK_TO,
    Kind.PREPARE_TRANSACTION,
}
_REMEMBERED: Final = {Kind.EXECUTE, Kind.FETCH, Kind.CLOSE_CURSOR, Kind.DEALLOCATE}
_MODIFYING: Final = {Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE}
# Each shard would do it for itself, though it is meant once.
_ONCE: Final = frozenset({"nextval", "setval"})
_HINT_SET: Final = "A setting is changed on every shard: use SET, or SELECT set_config(...) as a statement of its own."
_HINT_ONE: Final = f"{HINT_KEY} Or read the rows with a plain SELECT and combine them in the client."


def route(statement: Statement, tables: Tables, context: Context) -> Route:
    """Decide where a statement goes.

    `tables` resolves each of statement.tables; only for Kind.UTILITY may some be missing. Call it when the
    values of parameters are known: without them `$1` binds nothing. Kinds that belong to what an earlier
    statement made (EXECUTE, FETCH, CLOSE, DEALLOCATE) are "home" here: they must follow that statement.
    """
    kind = statement.kind
    if kind in _CONTROL:
        return Route("all", "same", "transaction control: every shard that takes part")
    if kind in {Kind.SET, Kind.RESET}:
        return Route("all", "same", "settings are the same on every shard")
    if kind in _REMEMBERED:
        return Route("home", "one", "goes where the statement went that made it")
    if kind in {Kind.LISTEN, Kind.UNLISTEN, Kind.NOTIFY}:
        return Route((NOTIFICATIONS,), "one", "notifications pass through one shard, where all sessions meet")
    if kind in {Kind.EMPTY, Kind.SHOW}:
        return Route("home", "one", f"{kind.value} needs no table: the session's home shard answers")
    if context.nshards > 1 and kind is Kind.CODE:
        raise refused(
            "DO and CALL are not supported over several shards, for nobody can tell what their code touches",
            "Run it on each shard directly.",
        )
    if kind in {Kind.UTILITY, Kind.UTILITY_NO_TRANSACTION} and not statement.into:
        return _utility(statement, tables)
    for resolved in tables.values():
        if resolved.kind == "unlisted":
            raise unlisted(resolved)
        if resolved.kind == "derived":
            raise derived(resolved)
    if context.nshards == 1:
        return Route("home", "one", "there is only one shard")
    made = statement.tables[0] if statement.into else None
    for ref, resolved in tables.items():
        if resolved.kind == "missing" and ref != made:
            return Route("home", "one", f"{resolved} does not exist, as the home shard will say")
    found = _query(statement, tables, context)
    return _notifying(statement, tables, found) if statement.notifies else found


def _notifying(statement: Statement, tables: Tables, found: Route) -> Route:
    """Keep what calls pg_notify() on the shard where sessions listen."""
    if found.shards == "home":
        return Route((NOTIFICATIONS,), "one", "pg_notify() passes through one shard, where all sessions meet")
    if found.shards != (NOTIFICATIONS,) or any(table.sharded for table in tables.values()):
        raise refused(
            "pg_notify() is supported only where no shard but the first takes part",
            "Sessions listen on the first shard. Send NOTIFY or SELECT pg_notify(...) as a statement of its own.",
        )
    return found


def _query(statement: Statement, tables: Tables, context: Context) -> Route:
    if statement.kind is Kind.EXPLAIN:
        return _explain(statement, tables, context)
    if statement.kind in {Kind.PREPARE, Kind.DECLARE_CURSOR}:
        return _one_shard(statement, tables, context)
    if statement.copy is not None:
        return _copy(statement, tables, context)
    if statement.calls_set_config and (statement.into or statement.kind in _MODIFYING):
        raise refused("set_config() in a statement that writes rows is not supported", _HINT_SET)
    if statement.into:
        return route_create_as(statement, tables, context)
    for ref, resolved in tables.items():
        if ref.role == "write" and ref.nested and resolved.kind not in {"single", "catalog"}:
            raise refused(
                f'a change of "{resolved}" inside WITH is not supported', "Send it as a statement of its own."
            )
    if statement.kind in _MODIFYING:
        target = statement.target
        if target is not None and tables[target].kind != "catalog":
            return route_modify(statement, tables, context)
    return _select(statement, tables, context)


def _select(statement: Statement, tables: Tables, context: Context) -> Route:
    singles = {resolved.shard: resolved for resolved in tables.values() if resolved.kind == "single"}
    if len(singles) > 1:
        first, second, *_ = singles.values()
        raise refused(
            f'"{first}" and "{second}" lie on different shards',
            "Read them one by one and join in the client.",
        )
    sharded = {ref: resolved for ref, resolved in tables.items() if resolved.sharded}
    if statement.sets_config and (singles or sharded):
        raise refused("set_config() together with rows that not every shard has is not supported", _HINT_SET)
    if sharded:
        return _select_sharded(statement, tables, sharded, context)
    for shard, resolved in singles.items():
        assert shard is not None
        return Route((shard,), "one", f"{resolved} lies on one shard")
    if statement.sets_config:
        return Route("all", "same", "set_config() changes a setting, which every shard has to see")
    if any(resolved.kind == "reference" for resolved in tables.values()):
        return Route("home", "one", "reference tables are the same on every shard: one is read")
    return Route("home", "one", "no user table: the session's home shard answers")


def _select_sharded(statement: Statement, tables: Tables, sharded: dict[TableRef, Resolved], context: Context) -> Route:
    bound = Bound(statement, dict(tables), context)
    lists = {ref: None if ref.nested else bound.shards(ref) for ref in sharded}
    single = {resolved.shard for resolved in tables.values() if resolved.kind == "single"}
    if None not in lists.values():
        common = set.union(*(set(shards or ()) for shards in lists.values())) | single
        if not common:
            return Route("home", "one", "no row of any shard fulfils the conditions on the key")
        if len(common) == 1:
            [shard] = common
            assert shard is not None
            bound_keys = " and ".join(f"({key_of(table)}) of {table}" for table in sharded.values())
            return Route((shard,), "one", f"the key {bound_keys} is bound to one shard")
    why = _not_concatenable(statement, tables, sharded, context)
    if why is not None:
        raise why
    [(ref, table)] = sharded.items()
    known = lists[ref]
    if known is None or len(known) == context.nshards:
        return Route("all", "concatenate", f"rows of {table} come from every shard as they arrive")
    return Route(tuple(sorted(known)), "concatenate", f"the key ({key_of(table)}) is bound to {len(known)} shards")


def _not_concatenable(
    statement: Statement, tables: Tables, sharded: dict[TableRef, Resolved], context: Context
) -> PgError | None:
    """Say why the rows of several shards, one behind the other, would not be the answer; None: they are."""
    names = " and ".join(f'"{table}"' for table in sharded.values())
    if statement.combining:
        return refused(f"{statement.combining[0]} over several shards of {names} is not supported", _HINT_ONE)
    if len(sharded) > 1:
        return refused(f"the sharded tables {names} are not bound to one shard", _HINT_ONE)
    if next(iter(sharded)).nested:
        return refused(f"sharded table {names} in a sub-query or WITH is not supported", _HINT_ONE)
    for resolved in tables.values():
        if not resolved.sharded and resolved.kind != "reference":
            return refused(f'"{resolved}" together with several shards of {names} is not supported', _HINT_ONE)
    once = sorted(name for _, name in statement.functions if name in _ONCE)
    if once:
        return refused(f"{once[0]}() over several shards of {names} is not supported", _HINT_ONE)
    if statement.functions and context.is_aggregate(statement.functions):
        functions = ", ".join(sorted(f"{name}()" for _, name in statement.functions))
        return refused(
            f"an aggregate or window function over several shards of {names} is not supported",
            _HINT_ONE,
            f"The functions of this statement are {functions}.",
        )
    why = _joined(statement.source, tables)[1]
    return None if why is None else refused(f"{why} over several shards of {names} is not supported", _HINT_ONE)


def _joined(item: FromItem | None, tables: Tables) -> tuple[bool, str | None]:
    """Tell of a part of FROM whether it holds the sharded table, and why concatenation would be wrong."""
    if isinstance(item, FromTable):
        return tables[item.table].sharded, None
    if isinstance(item, FromOther):
        return False, item.what
    if not isinstance(item, FromJoin):
        assert item is None or isinstance(item, FromFunction)
        return False, None
    (left, why_left), (right, why_right) = _joined(item.left, tables), _joined(item.right, tables)
    why = why_left or why_right
    # A row of the replicated side that finds no partner on one shard may find it on another.
    kept = {"inner": False, "left": right, "right": left, "full": left or right}[item.kind]
    if why is None and kept:
        why = f"an outer join that keeps the rows of the other side ({item.kind.upper()} JOIN)"
    return left or right, why


def _explain(statement: Statement, tables: Tables, context: Context) -> Route:
    inner = statement.inner
    assert inner is not None
    found = route(inner, tables, context)
    if found.combine == "one":
        return Route(found.shards, "one", f"EXPLAIN goes with its statement: {found.reason}")
    if statement.analyze:
        raise refused(
            "EXPLAIN ANALYZE of a statement for several shards is not supported",
            "EXPLAIN without ANALYZE shows one shard's plan. Or run it on the shards directly.",
        )
    first: int = found.shards[0] if isinstance(found.shards, tuple) else 0
    return Route((first,), "one", f"the plan of the first of its shards; as a statement: {found.reason}")


def _one_shard(statement: Statement, tables: Tables, context: Context) -> Route:
    inner = statement.inner
    assert inner is not None
    try:
        found = route(inner, tables, context)
    except PgError as error:
        raise refused(
            f"{statement.kind.value} is supported for a statement of one shard only: {error.message}",
            _hint_one_shard(statement),
        ) from None
    if found.combine != "one":
        raise refused(
            f"{statement.kind.value} is supported for a statement of one shard only",
            _hint_one_shard(statement),
        )
    return Route(found.shards, "one", f"{statement.kind.value} goes with its statement: {found.reason}")


def _hint_one_shard(statement: Statement) -> str:
    if statement.kind is Kind.PREPARE:
        return "Use the protocol's prepared statements (Parse, Bind, Execute), as drivers do."
    return "Read with a plain SELECT; a portal of the extended protocol gives its rows in portions."


def _copy(statement: Statement, tables: Tables, context: Context) -> Route:
    copy = statement.copy
    assert copy is not None
    if copy.query is not None:
        found = route(copy.query, tables, context)
        if found.combine == "same":
            raise refused(
                "COPY of a statement that changes every shard is not supported",
                "Send the statement by itself; its RETURNING gives the rows.",
            )
    else:
        found = _copy_table(statement, tables, context)
    if copy.source != "stdin" and found.combine != "one":
        raise refused(
            f"COPY with a {copy.source} of the server is not supported over several shards",
            r"Use \copy of psql, or COPY ... FROM STDIN and TO STDOUT.",
        )
    return found


def _copy_table(statement: Statement, tables: Tables, context: Context) -> Route:
    copy = statement.copy
    assert copy is not None
    assert copy.table is not None
    table = tables[copy.table]
    if table.kind == "single":
        return _select(statement, tables, context)
    if statement.kind is Kind.COPY_TO:
        if table.sharded:
            return Route("all", "concatenate", f"rows of {table} come from every shard as they arrive")
        return Route("home", "one", f"{table} is read from one shard")
    if table.kind == "reference":
        check_replicated("COPY", statement, table, {})
        reason = f"{table} is a reference table: every shard gets every row"
        # Rows that are added may come in any order, if only no change comes in between on some shards.
        return Route("all", "same", reason, in_turn((table, "ROW EXCLUSIVE")))
    if table.sharded:
        return Route("all", "concatenate", f"each row goes to the shard of its key ({key_of(table)})")
    return Route("home", "one", f"{table} is a relation of the system catalog")


def _utility(statement: Statement, tables: Tables) -> Route:
    if statement.temporary:
        return Route("home", "one", "temporary relations live on the session's home shard")
    found = [tables.get(ref) for ref in statement.tables]
    for altered in found[:1]:
        if altered is not None:
            check_rewrites(statement, altered)
    shards = {resolved.shard if resolved is not None else None for resolved in found}
    if len(shards) == 1 and None not in shards:  # also a temporary view
        [shard] = shards
        assert shard is not None
        return Route((shard,), "one", "all its relations lie on one shard")
    return Route("all", "same", "definitions and utility statements are carried out on every shard")
