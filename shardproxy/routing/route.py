"""Where a statement goes, and how the answers of several shards become one.

`route` decides from the facts of the statement, the placement of its tables and what the session remembers, and does
nothing else. Its rule: a statement goes to one shard that has everything it needs; or to several, only if their
answers combined are what one server would return; else it is refused with SQLSTATE 0A000 and a hint. In doubt it is
refused.
"""

from typing import Final, assert_never

from shardproxy.errors import PgError
from shardproxy.routing.copies import route_copied
from shardproxy.routing.define import route_utility
from shardproxy.routing.foreign_keys import check_actions
from shardproxy.routing.memory import Memory
from shardproxy.routing.modify import route_create_as, route_modify
from shardproxy.routing.plan import (
    ByKey,
    Connected,
    Copies,
    CopyFromClient,
    CopyToClient,
    Gather,
    Home,
    Local,
    OneShard,
    Plan,
    Replicate,
    Settings,
)
from shardproxy.routing.refusals import check_gid, derived, no_snapshot, own_schema, read_elsewhere, refused, unlisted
from shardproxy.routing.resolved import NOTIFICATIONS, OWN, Context, Tables
from shardproxy.routing.select import HINT_SET, check_locks, elsewhere, route_select
from shardproxy.routing.settings import names_own, route_settings, updates_settings
from shardproxy.sql import (
    SCHEMA,
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
    Empty,
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
    TableRef,
    Unlisten,
    Update,
    Utility,
)
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INVALID_CURSOR_NAME

NOTHING: Final = Memory()
"""A session that has just begun."""

_HINT_CURSOR: Final = "Read with a plain SELECT; a portal of the extended protocol gives its rows in portions."

_ALIKE_SETTINGS: Final = frozenset({
    "application_name", "bytea_output", "client_encoding", "client_min_messages", "constraint_exclusion", "datestyle",
    "default_transaction_isolation", "default_transaction_read_only", "extra_float_digits", "intervalstyle",
    "is_superuser", "lock_timeout", "role", "search_path", "server_encoding", "server_version", "server_version_num",
    "session_authorization", "standard_conforming_strings", "statement_timeout", "timezone", "transaction_isolation",
    "transaction_read_only",
})  # fmt: skip
"""Settings that are the session's, and those that are the same on all shards."""

Rows = Select | Insert | Update | Delete | Merge | CreateAs


def route(statement: Statement, tables: Tables, context: Context, memory: Memory = NOTHING) -> Plan:
    """Decide where a statement goes; PgError where it is refused.

    `tables` resolves each of statement.tables; only for a Utility may some be missing. Call it when the values of
    parameters are known: without them `$1` binds nothing.
    """
    _check_not_own(statement, tables, context)
    statement = context.hidden.shown_in(statement)
    if context.nshards > 1 and statement.calls("pg_export_snapshot"):
        raise no_snapshot("pg_export_snapshot()")
    match statement:
        case Empty() | Begin() | Commit() | Rollback() | Savepoint() | Release() | RollbackTo():
            return Local()
        case PrepareTransaction(name=name) if context.nshards == 1:
            check_gid(name)
            return Home()
        case PrepareTransaction(tag=tag):
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f"{tag} is not supported through shardproxy",
                hint="The proxy itself commits over several shards in two phases. Connect to a shard to "
                "prepare a transaction there.",
            )
        case Set(name=name) if name == SNAPSHOT and context.nshards > 1:
            raise no_snapshot(f"SET {name}")
        case Set() | Reset() | Discard():
            return route_settings(statement, context.params)
        case Show(name=name):
            return Home(free=name.lower() in _ALIKE_SETTINGS)
        case Listen() | Unlisten() | Notify():
            return OneShard(NOTIFICATIONS)
        case Fetch() | CloseCursor():
            return _of_cursor(statement.name, memory)
        case Deallocate(name=None):
            return Connected()
        case Prepare() | Execute() | Deallocate() | Explain(query=Execute()):
            # What a session has prepared, it knows; route has the statement then that was prepared.
            return Home()
        case Utility():
            return route_utility(statement, tables, context, memory)
        case Code():
            return _code(context)
        case CopyFrom():
            return _copy_from(statement, tables, context)
        case CopyTo():
            return _copy_to(statement, tables, context)
        case Explain() | DeclareCursor():
            _check_placed(tables)
            return _around(statement, tables, context) if _has_choice(tables, context) else _as_missing(tables, context)
        case Select() | Insert() | Update() | Delete() | Merge() | CreateAs():
            return _rows(statement, tables, context)
        case _:
            assert_never(statement)


def _check_not_own(statement: Statement, tables: Tables, context: Context) -> None:
    """Raise for whatever names the proxy's own tables: without them a transaction in doubt would be torn."""
    named = any(ref.schema == SCHEMA for ref in statement.tables)
    found = any(resolved.schema == SCHEMA for resolved in tables.values())
    if named or found or (isinstance(statement, Utility | Code) and statement.names_own):
        raise own_schema()
    # As what follows could name them without the schema.
    if isinstance(statement, Set | Select) and names_own(statement, context.params):
        raise own_schema()
    if OWN in context.places.values():
        raise own_schema()
    if isinstance(statement, Utility):
        for role in statement.owners:
            if role is None or role in context.users:
                raise own_schema(f"What {role or 'the current role'} owns may contain that schema.")


def _of_cursor(name: str | None, memory: Memory) -> Connected | OneShard:
    """What is about a cursor goes where that is; None stands for all of them."""
    if name is None:
        return Connected()
    if name not in memory.cursors:
        raise PgError(INVALID_CURSOR_NAME, f'cursor "{name}" does not exist')
    return OneShard(memory.cursors[name])


def _code(context: Context) -> Home:
    if context.nshards > 1:
        raise refused(
            "DO and CALL are not supported over several shards",
            "Run the statement on each shard directly.",
            "The proxy cannot tell which tables their code uses.",
        )
    return Home()


def _check_placed(tables: Tables) -> None:
    for resolved in tables.values():
        if resolved.kind == "unlisted":
            raise unlisted(resolved)
        if resolved.kind == "derived":
            raise derived(resolved)


def _has_choice(tables: Tables, context: Context, made: TableRef | None = None) -> bool:
    """Whether shards differ for a statement: not where a table is missing; `made` may be."""
    if context.nshards == 1:
        return False
    return all(resolved.kind != "missing" or ref == made for ref, resolved in tables.items())


def _as_missing(tables: Tables, context: Context) -> Home | OneShard:
    """A shard that reports a missing table as one server would: the one that has all tables that are there."""
    single = elsewhere(tables) if context.nshards > 1 else None
    return Home() if single is None else OneShard(single)


# Rows.


def _rows(
    statement: Rows, tables: Tables, context: Context
) -> Home | OneShard | Gather | Replicate | Copies | Settings:
    _check_placed(tables)
    if isinstance(statement, Update) and updates_settings(statement, tables):
        return route_settings(statement, context.params)
    if not _has_choice(tables, context, statement.target if isinstance(statement, CreateAs) else None):
        sets = context.nshards == 1 and isinstance(statement, Select) and statement.sets_config
        if sets and isinstance(statement, Select):
            return route_settings(statement, context.params)
        return _as_missing(tables, context)
    found = _select_or_change(statement, tables, context)
    check_locks(statement, tables, found)
    return _notifying(tables, found) if statement.calls("pg_notify") else found


def _select_or_change(
    statement: Rows, tables: Tables, context: Context
) -> Home | OneShard | Gather | Replicate | Copies | Settings:
    if not isinstance(statement, Select) and statement.calls("set_config"):
        raise refused("set_config() in a statement that writes rows is not supported", HINT_SET)
    if isinstance(statement, CreateAs):
        return route_create_as(statement, tables, context)
    for ref, resolved in tables.items():
        if ref.role == "write" and ref.nested and resolved.kind not in {"single", "catalog"}:
            raise refused(
                f'a change of "{resolved}" inside WITH is not supported', "Send it as a statement of its own."
            )
    if isinstance(statement, Select):
        return route_select(statement, tables, context)
    check_actions(statement, tables[statement.target], context.actions)
    if tables[statement.target].kind != "catalog":
        return route_modify(statement, tables, context)
    for resolved in tables.values():
        if resolved.sharded:
            raise read_elsewhere(statement.kind.value, resolved)
    single = elsewhere(tables)
    return Home() if single is None else OneShard(single)


def _notifying(
    tables: Tables, found: Home | OneShard | Gather | Replicate | Copies | Settings | ByKey
) -> OneShard | Copies:
    """Keep what calls pg_notify() on the shard where sessions listen."""
    here = OneShard(NOTIFICATIONS)
    if isinstance(found, Home):
        return here
    if isinstance(found, Copies):  # the first shard alone calls it
        return found
    if found != here or any(table.sharded for table in tables.values()):
        raise refused(
            "pg_notify() is supported only where no shard but the first takes part",
            "Sessions listen on the first shard. Send NOTIFY or SELECT pg_notify(...) as a statement of its own.",
        )
    return here


# Statements around another.


def _around(statement: Explain | DeclareCursor, tables: Tables, context: Context) -> Home | OneShard:
    if isinstance(statement, Explain):
        return _explain(statement, tables, context)
    try:
        found = route(statement.query, tables, context)
    except PgError as error:
        raise refused(
            f"{statement.kind.value} is supported for a statement of one shard only: {error.message}",
            _HINT_CURSOR,
        ) from None
    if isinstance(found, Home | OneShard):
        return found
    raise refused(f"{statement.kind.value} is supported for a statement of one shard only", _HINT_CURSOR)


def _explain(statement: Explain, tables: Tables, context: Context) -> Home | OneShard:
    """EXPLAIN goes with its statement; the first of several shards shows the plan."""
    found = route(statement.query, tables, context)
    if isinstance(found, Home | OneShard):
        return found
    if statement.analyze:
        raise refused(
            "EXPLAIN ANALYZE of a statement for several shards is not supported",
            "EXPLAIN without ANALYZE shows one shard's plan. Or run it on the shards directly.",
        )
    return OneShard(found.shards[0] if isinstance(found, Gather) else 0)


# COPY.


def _copy_from(statement: CopyFrom, tables: Tables, context: Context) -> Home | OneShard | CopyFromClient:
    _check_placed(tables)
    rows = _rows_go(statement, tables, context)
    if context.nshards > 1 and statement.calls("pg_notify"):
        called = _notifying(tables, rows)
        assert isinstance(called, OneShard)  # a COPY has no plan of Copies
        rows = called
    if statement.endpoint == "client":
        return CopyFromClient(rows)
    if isinstance(rows, Home | OneShard):
        return rows
    if context.nshards == 1:
        return Home()
    raise _files_of_servers(statement)


def _rows_go(statement: CopyFrom, tables: Tables, context: Context) -> Home | OneShard | ByKey | Replicate | Copies:
    table = tables[statement.table]
    if table.sharded:
        return ByKey()
    if context.nshards == 1 or (table.shard is None and table.kind != "reference"):
        return Home()  # also a relation of the system catalog, and one that does not exist
    if table.shard is not None:
        return OneShard(table.shard)
    return route_copied(statement, table, context)


def _copy_to(statement: CopyTo, tables: Tables, context: Context) -> Home | OneShard | CopyToClient:
    rows = _rows_come(statement, tables, context)
    if statement.endpoint == "client":
        return CopyToClient(rows)
    if isinstance(rows, Gather):
        raise _files_of_servers(statement)
    return rows


def _rows_come(statement: CopyTo, tables: Tables, context: Context) -> Home | OneShard | Gather:
    _check_placed(tables)
    if not _has_choice(tables, context):
        return Home()
    if isinstance(statement.data, TableRef):
        table = tables[statement.data]
        if table.sharded:
            return Gather(tuple(range(context.nshards)))
        return Home() if table.shard is None else OneShard(table.shard)
    found = route(statement.data, tables, context)
    if isinstance(found, Home | OneShard | Gather):
        return found
    raise refused(
        "COPY of a statement that changes every shard is not supported",
        "Send the statement by itself; its RETURNING gives the rows.",
    )


def _files_of_servers(statement: CopyFrom | CopyTo) -> PgError:
    return refused(
        f"COPY with a {statement.endpoint} of the server is not supported over several shards",
        r"Use \copy of psql, or COPY ... FROM STDIN and TO STDOUT.",
    )
