"""How a write of a reference table reaches all its copies so that they stay equal.

The first shard decides: what it locks, in which order rows come, what a default or a function gives. The others follow
it, in one of two ways. They run the same statement where its text alone proves that it does the same: constants and
parameters, no function that is not immutable, no other rows than those that it changes, and these by their key. For
all else they get the rows that came of it on the first shard, by the table's key. Either way the counts are compared.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.plan import Copies, Replicate, Rows
from shardproxy.routing.refusals import copies_differ, identity_reset, old_named_otherwise, read_elsewhere, refused
from shardproxy.routing.resolved import Context, ParamValue, Resolved, Tables, in_turn
from shardproxy.routing.written import BY_OID, Trigger, Written
from shardproxy.sql import (
    CAST,
    TIMELESS,
    Const,
    CopyFrom,
    Delete,
    FunctionName,
    Insert,
    Merge,
    Modify,
    Param,
    ParseFailed,
    Select,
    Update,
    analyze,
)
from shardproxy.sql.kinds import IMMUTABLE

Change = Insert | Update | Delete | Merge

FIRST: Final = 0
"""The shard that decides. Sequences of reference tables count there; those of the other shards are never used."""

ADDED: Final = "added"
"""What a query calls the table into which a COPY has put rows."""

LOCK_CLASS: Final = int.from_bytes(b"shrd")
"""The first key of the advisory locks by which writers of a table without a key take turns; the second is its name's
CRC-32."""

RETURNING_OLD: Final = 18
"""The first version with RETURNING old.*"""

MERGE_RETURNING: Final = 17
"""The first version with RETURNING in MERGE."""

_MOMENT: Final = re.compile(rb"(?<![a-z])(now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)
"""What a date or a time may be spelled as that depends on when it is read."""

_TEXTS: Final = frozenset({19, 25, 1042, 1043})
"""name, text, char(n), varchar(n): their binary form is the text."""

_ORDERLESS: Final = frozenset({"bit_and", "bit_or", "bool_and", "bool_or", "count", "every", "max", "min"})
"""Aggregates whose result does not depend on the order of rows, whatever their type."""

HINT_KEY: Final = "Add a primary key: then the rows that one shard has computed can be sent to the others by it."


def route_written(statement: Change, table: Resolved, reads: Tables, context: Context) -> Copies | Replicate:
    """Route INSERT, UPDATE, DELETE or MERGE of a reference table."""
    written = context.written or Written()
    verb = statement.kind.value
    _check_kind(statement, table, written)
    for other in reads.values():
        if other.sharded or (other.kind == "single" and other.shard != FIRST):
            raise read_elsewhere(verb, other)
    if isinstance(statement, Merge):
        return _merge(statement, table, reads, written, context)
    why = varying(statement, table, reads, context, written) or _moving(statement, context.params, written)
    why = why or _triggered(statement, written)
    same = why is None and statement.alone
    if isinstance(statement, Insert):
        lock = None if written.key else turn(table, shared=True)
        if same and statement.conflict is None:
            return Copies(lock)
        if statement.conflict == "update" and not written.key:
            raise _keyless(table, written, "ON CONFLICT DO UPDATE")
        return Copies(lock, _rows(statement, table, written, context))
    if not written.key:
        if not same:
            raise _keyless(table, written, why or "a look at other rows")
        return Copies(turn(table, shared=False))
    if same and _is_keyed(statement, written):
        return Copies(keyed=True)
    return Copies(rows=_rows(statement, table, written, context))


def _check_kind(statement: Change, table: Resolved, written: Written) -> None:
    if written.kind == "v":
        raise refused(
            f'a write through view "{table}" of reference tables is not supported',
            "Write the table that it shows.",
            "What the view's definition computes would be computed by each shard.",
        )
    if written.rules:
        raise refused(
            f'a write of reference table "{table}", which has rules, is not supported',
            "Drop the rule, or let the application do what it does.",
            "What a rule computes would be computed by each shard.",
        )
    loud = not written.can_silence and any(one.is_before for one in written.fired(_verbs(statement) & {"UPDATE"}))
    acts = loud or isinstance(statement, Delete | Merge) or written.sets_referenced(statement.set_columns)
    if written.cascades and acts:
        raise refused(
            f'a write of reference table "{table}", whose foreign keys fire triggers of other tables, is not supported',
            "Drop those triggers, or the foreign keys' actions.",
        )
    if written.defaults_referring and acts:
        raise refused(
            f'a write of reference table "{table}", to which foreign keys with a computed SET DEFAULT refer, is '
            "not supported",
            "Use SET NULL or a constant default, or change the referring rows first.",
            "Each shard would give the referring rows another value.",
        )


def turn(table: Resolved, *, shared: bool) -> str:
    """Return the statement by which a writer of a table without a key waits for its turn, until it commits.

    LOCK TABLE would not do: Parse takes the same locks, and keeps them in an open transaction.
    """
    name = f"{table.schema}.{table.name}".encode("utf-8", "surrogateescape")
    key = zlib.crc32(name) - 2**31
    return f"SELECT pg_catalog.pg_advisory_xact_lock{'_shared' if shared else ''}({LOCK_CLASS}, {key})"


# What proves that every shard would do the same.


def varying(
    statement: Change | Select | CopyFrom,
    table: Resolved,
    reads: Tables,
    context: Context,
    written: Written | None = None,
) -> str | None:
    """Return why a statement's text does not prove that each shard would write the same; None if it does."""
    same = IMMUTABLE | {"generate_series"} | (_ORDERLESS if isinstance(statement, Select) else frozenset())
    functions = _called(statement, context)
    called = sorted(name for schema, name in functions if name not in same or not context.may_be_builtin(schema, name))
    if called:
        return f"function {called[0]}()"
    moments = written is None or _takes_moments(statement, written)
    other = [why for why in statement.varying if moments or why not in statement.moments]
    if other:
        return other[0]
    columns = () if context.written is None else context.written.columns
    dates = {column.name for column in columns if column.is_date}
    read = next((why for why, column in statement.readings if column not in dates), None)
    if read is not None:
        return read
    names = sorted(name for name, oid in table.types.items() if oid in BY_OID)
    if names and not isinstance(statement, Insert | Select) and (isinstance(statement, Modify) or statement.has_where):
        return f'column "{names[0]}", whose values are OIDs'
    # Of a moment's constant each shard may have its own: DEFAULT 'now' was read when the table was made.
    moments_kept = {column.name for column in columns if column.moves and column.default is not None}
    computed = sorted(defaulted(statement, table) - (table.defaults.keys() - moments_kept))
    if computed:
        return f'the computed default of column "{computed[0]}"'
    if isinstance(statement, Modify):
        return next((f'a look at "{other}"' for other in reads.values()), None)
    return None


def _called(statement: Change | Select | CopyFrom, context: Context) -> frozenset[FunctionName]:
    """Return the functions that are called for the values of rows, those of casts that are not written among them."""
    if context.written is None or not isinstance(statement, Change):
        return statement.functions
    columns = context.written.columns
    return statement.functions.union(*(context.hidden.assigned_to(one.type, composed=one.composed) for one in columns))


def _takes_moments(statement: Change | Select | CopyFrom, written: Written) -> bool:
    """Whether a constant or a parameter may be read as a date or a time: to be stored, for a function, by a cast."""
    casts = any(name.startswith(CAST) and name.removeprefix(CAST) not in TIMELESS for name in statement.operators)
    return casts or bool(statement.functions) or any(column.moves for column in written.columns)


def _moving(statement: Change, params: Sequence[ParamValue], written: Written) -> str | None:
    moments = _takes_moments(statement, written)
    for value in params:
        if value.oid in BY_OID:
            return "a parameter that is an OID"
        if moments and _is_text(value) and value.value is not None and _MOMENT.search(value.value):
            return "a parameter that may mean a moment"
    return None


def _is_text(value: ParamValue) -> bool:
    return value.format == 0 or value.oid in _TEXTS


def _triggered(statement: Change, written: Written) -> str | None:
    fired = written.fired(written.events(_verbs(statement), statement.set_columns))
    return f'trigger "{fired[0].name}"' if fired else None


def _is_keyed(statement: Update | Delete, written: Written) -> bool:
    """At most one row has the key that the conditions demand."""
    target = statement.target
    names = {None, target.alias or target.name}
    bound = {
        one.column.name
        for one in statement.bindings
        if len(one.values) == 1 and one.column.table in names and isinstance(one.values[0], Const | Param)
    }
    return bound.issuperset(written.key)


def _verbs(statement: Change) -> frozenset[str]:
    """The events that a statement may be to triggers."""
    match statement:
        case Insert(conflict="update"):
            return frozenset({"INSERT", "UPDATE"})
        case Merge():
            return frozenset({"INSERT", "UPDATE", "DELETE"})
    return frozenset({statement.kind.value})


def defaulted(statement: Change | Select | CopyFrom, table: Resolved) -> set[str]:
    """Return the columns that may take their default."""
    match statement:
        case Insert(overriding=True):
            return {*table.columns}
        case Insert():
            return {*statement.set_defaults} | _left_out(statement, table)
        case Merge():
            return {*statement.set_defaults, *table.columns}
        case Update() | Delete():
            return {*statement.set_defaults}
        case CopyFrom() if statement.options.default is not None:
            return {*table.columns}
        case CopyFrom(columns=tuple(columns)):
            return set(table.columns) - set(columns)
    return set()


def _left_out(insert: Insert, table: Resolved) -> set[str]:
    """The columns of which at least one row takes the default."""
    names = table.columns if insert.columns is None else insert.columns
    if insert.select:
        # A list of values may be shorter than the table, and so may a SELECT.
        return set(table.columns) if insert.columns is None else set(table.columns) - set(names)
    asked = {name for at, name in enumerate(names) if at in insert.widths.defaults}
    return asked | (set(table.columns) - set(names[: insert.widths.shortest]) if insert.rows else set())


# What the others get.


def _rows(statement: Change, table: Resolved, written: Written, context: Context) -> Rows:
    """Return how the rows that came of a statement on the first shard get to the others."""
    verbs = _verbs(statement)
    fired = written.fired(written.events(verbs, statement.set_columns))
    before = _fired_before(fired, table)
    target = statement.target
    columns = tuple(column for column in written.columns if not column.generated)
    always = next((one.name for one in columns if one.always and one.name in statement.set_columns), None)
    if always is not None:
        raise identity_reset(always, table)
    rekeyed = not set(statement.set_columns).isdisjoint(written.key)
    if rekeyed and "UPDATE" in verbs and written.version < RETURNING_OLD:
        raise refused(
            f'{statement.kind.value} that sets key column "{min(set(statement.set_columns) & set(written.key))}" of '
            f'reference table "{table}" is not supported before PostgreSQL 18',
            "Bind the key in WHERE with constants or parameters, or DELETE the row and INSERT it again.",
        )
    needed = {*written.key, *(statement.set_columns if isinstance(statement, Update) else ())}
    known = needed.issubset(column.name for column in written.columns)
    if "INSERT" not in verbs and not before and known:
        # No more than that is changed, and needs privileges.
        columns = tuple(column for column in columns if column.name in needed)
    upserts = isinstance(statement, Insert) and statement.conflict == "update"
    silent = bool(before) and written.can_silence and verbs <= {"INSERT", "UPDATE"}
    silent = silent and not ("UPDATE" in verbs and written.sets_referenced(statement.set_columns))
    old_key = written.version >= RETURNING_OLD and (rekeyed or upserts or bool(before)) and "UPDATE" in verbs
    if old_key and statement.returning and statement.old_row is None:
        raise old_named_otherwise(table)
    return Rows(
        schema=table.schema,
        name=table.name,
        alias=target.alias or target.name,
        verb=statement.kind.value,
        columns=columns,
        key=written.key,
        upserts=upserts,
        old_key=old_key,
        old_row=statement.old_row or "",
        returning=statement.returning,
        triggers=tuple(one.name for one in before),
        silent=silent,
        kept=tuple(sorted(written.referenced)) if silent and "UPDATE" in verbs else (),
        old_shown=written.version >= RETURNING_OLD,
        watched=_watched(_called(statement, context), table, written, context, fired),
        one_by_one=rekeyed or not known or not written.unique.isdisjoint(statement.set_columns),
        recursive=written.recursive,
        late=bool(written.late) and (verbs > {"DELETE"} or not written.late.isdisjoint(statement.set_columns)),
    )


def _watched(
    functions: Iterable[tuple[str | None, str]],
    table: Resolved,
    written: Written,
    context: Context,
    fired: tuple[Trigger, ...],
) -> str | None:
    """Return what might write another table on the first shard, unseen; None if nothing can."""
    if fired:
        return f'trigger "{fired[0].name}"'
    called = set(functions)
    for column in written.columns:
        if column.default is not None and column.name not in table.defaults:
            try:
                [computed] = analyze(f"SELECT {column.default}")
                called |= computed.functions | context.hidden.called_by(computed)
            except ParseFailed:
                return f'the default of column "{column.name}"'
    own = sorted(name for schema, name in called if not context.is_builtin(schema, name))
    return f"function {own[0]}()" if own else None


def _fired_before(fired: Sequence[Trigger], table: Resolved) -> list[Trigger]:
    """Return the triggers that may change a row; PgError for one that fires at the end of the transaction."""
    late = next((one for one in fired if one.deferred), None)
    if late is not None:
        raise copies_differ(table, f'deferred trigger "{late.name}"', "Leave the trigger immediate, or drop it.")
    return [one for one in fired if one.is_before]


# COPY FROM STDIN.


def route_copied(statement: CopyFrom, table: Resolved, context: Context) -> Copies | Replicate:
    """Route a COPY into a reference table: all shards store the same rows, or the first one computes what they lack."""
    written = context.written or Written()
    if written.kind == "v":
        raise refused(f'COPY into view "{table}" of reference tables is not supported', "Load the table that it shows.")
    keyless = context.written is not None and not written.key
    why = varying(statement, table, {}, context)
    if why is not None:
        watched = _watched(statement.functions, table, written, context, written.fired({"INSERT"}))
        return Copies(turn(table, shared=True) if keyless else None, copied_rows(table, written, watched))
    # Rows that are added may come in any order, if only no change comes in between on some shards.
    lock = in_turn((table, "ROW EXCLUSIVE"))
    return Replicate(f"{lock}; {turn(table, shared=True)}" if lock is not None and keyless else lock)


def copied_rows(table: Resolved, written: Written, watched: str | None = None) -> Rows:
    """Return how rows that the first shard has stored of a COPY get to the others."""
    before = _fired_before(written.fired({"INSERT"}), table)
    return Rows(
        schema=table.schema,
        name=table.name,
        alias=ADDED,
        verb="INSERT",
        columns=tuple(column for column in written.columns if not column.generated),
        key=written.key,
        triggers=tuple(one.name for one in before),
        silent=bool(before) and written.can_silence,
        watched=watched,
        recursive=written.recursive,
    )


# MERGE.


def _merge(statement: Merge, table: Resolved, reads: Tables, written: Written, context: Context) -> Copies | Replicate:
    if written.version >= MERGE_RETURNING:
        if not written.key:
            raise _keyless(table, written, "MERGE")
        return Copies(rows=_rows(statement, table, written, context))
    others = {other: resolved for other, resolved in reads.items() if resolved.kind != "reference"}
    why = varying(statement, table, {}, context) or _moving(statement, context.params, written)
    why = why or _triggered(statement, written)
    if why is not None or others:
        raise copies_differ(table, why or f'a look at "{next(iter(others.values()))}"')
    # It can neither tell what it has done, nor may anything that it reads change in between.
    return Replicate(in_turn((table, "SHARE ROW EXCLUSIVE"), *held_still(reads, table)))


def held_still(reads: Tables, target: Resolved) -> list[tuple[Resolved, str]]:
    """Return the locks on what a change of every shard reads, in an order that is the same for all."""
    others = {(other.schema, other.name): other for other in reads.values()}
    others.pop((target.schema, target.name), None)
    return [(other, "SHARE") for _, other in sorted(others.items())]


def _keyless(table: Resolved, written: Written, why: str) -> PgError:
    return copies_differ(table, why) if written.inherited else copies_differ(table, why, HINT_KEY)
