"""Where the rows of a SELECT come from, and whether those of several shards, concatenated, are the answer."""

from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.bound import Bound
from shardproxy.routing.copies import FIRST
from shardproxy.routing.effects import WRITING, may_call, owner_of
from shardproxy.routing.keyvalues import Unbound
from shardproxy.routing.limit import counted, not_limited
from shardproxy.routing.plan import Copies, Gather, Home, OneShard, Plan, Settings
from shardproxy.routing.refusals import HINT_KEY, refused
from shardproxy.routing.resolved import Context, Resolved, Tables
from shardproxy.routing.settings import route_settings
from shardproxy.sql import (
    Base,
    FromFunction,
    FromItem,
    FromJoin,
    FromOther,
    FromTable,
    FunctionName,
    Select,
    TableRef,
)
from shardproxy.sql.kinds import IMMUTABLE

SYSTEM_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})

_ALIKE: Final = IMMUTABLE | {"clock_timestamp", "current_schema", "current_timestamp", "now"}
"""Functions that give the same on every shard, or the time."""

# Each shard would do it for itself, though it is meant once.
_ONCE: Final = frozenset({"nextval", "setval"})
_HINT_ONE: Final = f"{HINT_KEY} Or read the rows with a plain SELECT and combine them in the client."
HINT_SET: Final = "A setting is changed on every shard: use SET, or SELECT set_config(...) as a statement of its own."


def functions_of(statement: Base, tables: Tables) -> frozenset[FunctionName]:
    """The functions that a statement may call: also `t.f`, which is `f(t)` where no table has a column of that name."""
    columns = {name for resolved in tables.values() for name in resolved.columns}
    return statement.functions | {(None, name) for name in statement.attributes - columns}


def elsewhere(tables: Tables) -> int | None:
    """The shard of the tables that lie on one shard; None if there are none."""
    singles = {resolved.shard: resolved for resolved in tables.values() if resolved.kind == "single"}
    if len(singles) > 1:
        first, second, *_ = singles.values()
        raise refused(
            f'"{first}" and "{second}" lie on different shards',
            "Read them one by one and join the rows in the client.",
        )
    return next(iter(singles), None)


def check_locks(statement: Base, tables: Tables, plan: Plan) -> None:
    """Refuse to lock rows of a reference table against other sessions on another shard than theirs."""
    locked = {name for name, exclusive in statement.locks if exclusive}
    found = [one for ref, one in tables.items() if one.kind == "reference" and (ref.alias or ref.name) in locked]
    first = isinstance(plan, Copies) or plan == OneShard(FIRST)
    if found and (not first or any(one.sharded for one in tables.values())):
        raise refused(
            f'FOR UPDATE of reference table "{found[0]}" beside tables of other shards is not supported',
            "Name the tables to be locked: FOR UPDATE OF ... Or lock its rows by a SELECT of their own.",
            "Its rows are locked on the first shard, for all sessions.",
        )


def route_select(statement: Select, tables: Tables, context: Context) -> Home | OneShard | Gather | Settings:
    """Route a SELECT whose relations all are known."""
    single = elsewhere(tables)
    sharded = {ref: resolved for ref, resolved in tables.items() if resolved.sharded}
    if statement.sets_config:
        if single is not None or sharded:
            raise refused("set_config() in a query of sharded or single-shard tables is not supported", HINT_SET)
        return route_settings(statement, context.params)
    if sharded:
        return _select_sharded(statement, tables, sharded, context)
    if single is None:
        single = owner_of(statement, tables, context)
    return Home(free=_is_free(statement, tables, context)) if single is None else OneShard(single)


def _is_free(statement: Select, tables: Tables, context: Context) -> bool:
    """Whether a SELECT is certainly answered alike by every shard."""
    if tables or statement.varying or statement.attributes:
        return False
    return all(name in _ALIKE and context.may_be_builtin(schema, name) for schema, name in statement.functions)


def _select_sharded(
    statement: Select, tables: Tables, sharded: dict[TableRef, Resolved], context: Context
) -> Home | OneShard | Gather:
    bound = Bound(statement, tables)
    lists = {ref: None if ref.nested else bound.shards(ref, context) for ref in sharded}
    if None not in lists.values():
        common = {shard for shards in lists.values() for shard in shards or ()}
        common |= {resolved.shard for resolved in tables.values() if resolved.shard is not None}
        if not common:  # no row of any shard satisfies the conditions on the key
            return Home()
        if len(common) == 1:
            return OneShard(*common)
    rows = counted(statement, context)
    if rows.rowless and all(ref.role == "read" for ref in tables):
        alone = elsewhere(tables)
        return Home() if alone is None else OneShard(alone)
    called = functions_of(statement, tables) - {(None, column) for column in SYSTEM_COLUMNS}
    why = _not_concatenable(statement, tables, sharded, context) or not_limited(
        statement, rows, called, _named(sharded), context
    )
    if why is not None:
        raise why
    assert not isinstance(rows.limit, Unbound)
    [known] = lists.values()
    writes = may_call(called, context, WRITING)
    return Gather(tuple(range(context.nshards)) if known is None else tuple(sorted(known)), writes, rows.limit)


def _named(sharded: dict[TableRef, Resolved]) -> str:
    return " and ".join(f'"{table}"' for table in sharded.values())


def _not_concatenable(
    statement: Select, tables: Tables, sharded: dict[TableRef, Resolved], context: Context
) -> PgError | None:
    """Say why the rows of several shards, concatenated, would not be the answer; None: they are."""
    names = _named(sharded)
    if statement.combining:
        return refused(f"{statement.combining[0]} over several shards of {names} is not supported", _HINT_ONE)
    if len(sharded) > 1:
        return refused(f"the sharded tables {names} are not bound to one shard", _HINT_ONE)
    if next(iter(sharded)).nested:
        return refused(f"sharded table {names} in a sub-query or WITH is not supported", _HINT_ONE)
    for resolved in tables.values():
        if not resolved.sharded and resolved.kind != "reference":
            return refused(f'a join of "{resolved}" with several shards of {names} is not supported', _HINT_ONE)
    once = sorted(name for _, name in statement.functions if name in _ONCE)
    if once:
        return refused(f"{once[0]}() over several shards of {names} is not supported", _HINT_ONE)
    called = functions_of(statement, tables)
    if called and context.is_aggregate(called):
        functions = ", ".join(sorted(f"{name}()" for _, name in called))
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
