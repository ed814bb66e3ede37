"""What a call of a function may do besides giving a value, told by its name.

PostgreSQL's own functions are known. Any other may do all that a function can: the proxy does not look into it.
"""

from collections.abc import Iterable
from typing import Final

from shardproxy.routing.copies import FIRST
from shardproxy.routing.memory import Memory
from shardproxy.routing.plan import ByKey, Copies, Gather, Plan, Replicate
from shardproxy.routing.resolved import NOTIFICATIONS, Context, Tables
from shardproxy.sql import (
    CloseCursor,
    Code,
    CopyTo,
    CreateAs,
    DeclareCursor,
    Discard,
    Explain,
    FunctionName,
    Kind,
    Listen,
    Select,
    Statement,
    TableRef,
    Unlisten,
    Utility,
)

_LARGE_OBJECTS: Final = frozenset({
    "lo_create", "lo_creat", "lo_from_bytea", "lo_get", "lo_import", "lo_open", "lo_put", "lo_truncate",
    "lo_truncate64", "lo_unlink", "loread", "lowrite",
})  # fmt: skip

_RUNS_TEXT: Final = frozenset({"query_to_xml", "query_to_xml_and_xmlschema", "cursor_to_xml", "ts_rewrite", "ts_stat"})
"""They run the text of a query that they are given."""

_SESSION_LOCKS: Final = frozenset({
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
})  # fmt: skip

_LOCKS: Final = _SESSION_LOCKS | {
    "pg_advisory_unlock", "pg_advisory_unlock_all", "pg_advisory_unlock_shared", "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared",
}  # fmt: skip

_SEQUENCES: Final = frozenset({"nextval", "setval", "currval", "lastval", "pg_sequence_last_value"})

WRITING: Final = _LARGE_OBJECTS | _RUNS_TEXT | {"pg_logical_emit_message"}
"""Those that change what a transaction's end decides on."""

_TELLING: Final = WRITING | {"pg_notify"}

_STORING: Final = frozenset({
    Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.CREATE_AS, Kind.UTILITY, Kind.CODE, Kind.NOTIFY,
})  # fmt: skip

OWNED: Final = WRITING | _LOCKS | _SEQUENCES
"""Those that mean what one shard has, whichever session calls them."""

HELD: Final = _SESSION_LOCKS | _RUNS_TEXT | {"setseed"}
"""Those that may leave the session something that ends with its connection."""

LISTENING: Final = "LISTEN"
CURSOR: Final = "a cursor WITH HOLD"
TEMPORARY: Final = "a temporary relation"
HIDING: Final = TEMPORARY
"""That which names of other relations may mean instead."""
LOCK: Final = "an advisory lock"
LEFT: Final = "what a function may have left"
LOCKING: Final = frozenset({LOCK, LEFT})
"""Those that others may wait for."""
EVERYTHING: Final = frozenset({LISTENING, CURSOR, TEMPORARY, LOCK, LEFT})


def may_call(called: Iterable[FunctionName], context: Context, names: frozenset[str]) -> bool:
    """Whether one of these functions is among `names`, or is not PostgreSQL's own and may do what they do."""
    return any(
        name in names or not context.may_be_builtin(space, name)
        for space, name in called
        if (space, name) not in context.immutable
    )


def changes_together(plan: Plan | ByKey) -> bool:
    """Whether several shards change, or may, and so must commit together."""
    return isinstance(plan, Replicate | Copies) or (isinstance(plan, Gather) and plan.writes)


def owner_of(statement: Select, tables: Tables, context: Context) -> int | None:
    """Return the shard of a SELECT that any shard could answer, but for what one of them has for all sessions.

    None: any shard will do.
    """
    if statement.calls("pg_listening_channels"):
        return NOTIFICATIONS  # also in a session whose home is another, as it was unreachable
    owned = may_call(statement.functions, context, OWNED)
    if (owned or statement.locks) and any(table.kind == "reference" for table in tables.values()):
        return FIRST  # where writers wait, and their sequences count
    return context.steady if owned else None


def may_store(statement: Statement, context: Context) -> bool:
    """Whether what a statement does may be there for others once it has committed."""
    if statement.kind in _STORING:
        return True
    if isinstance(statement, Explain):
        return statement.analyze and may_store(statement.query, context)
    if isinstance(statement, CopyTo):
        return not isinstance(statement.data, TableRef) and may_store(statement.data, context)
    if any(table.role == "write" for table in statement.tables):
        return True
    return isinstance(statement, Select) and may_call(statement.functions, context, _TELLING)


def held_by(statement: Statement, context: Context) -> str | None:
    """Return what a statement may leave on its shard that the session would miss on another connection."""
    match statement:
        case Listen():
            return LISTENING
        case Code():
            return LEFT
        case DeclareCursor(hold=True):
            return CURSOR
        case CreateAs(temporary=True) | Utility(temporary=True):
            return TEMPORARY
    if context.makes_temporary:
        return TEMPORARY
    functions = context.hidden.shown_in(statement).functions
    if not may_call(functions, context, HELD):
        return None
    return LOCK if any(name in _SESSION_LOCKS for _, name in functions) else LEFT


def held_no_more(statement: Statement, memory: Memory, *, in_block: bool) -> frozenset[str]:
    """Return what a session holds no longer when a statement has succeeded that `memory` has heard of.

    What a ROLLBACK of the client's would bring back is not among it.
    """
    match statement:
        case Discard(tag="DISCARD ALL"):
            return EVERYTHING
        case Discard(tag="DISCARD TEMP") if not in_block:
            return frozenset({TEMPORARY})
        case Unlisten(name=None) if not in_block:
            return frozenset({LISTENING})
        case CloseCursor() if not memory.held:
            return frozenset({CURSOR})
    return frozenset({LOCK}) if statement.calls("pg_advisory_unlock_all") else frozenset()
