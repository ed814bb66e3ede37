"""Where INSERT, UPDATE, DELETE, MERGE and CREATE TABLE AS go."""

from dataclasses import replace
from typing import assert_never

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.routing.bound import Bound
from shardproxy.routing.copies import held_still, route_written
from shardproxy.routing.define import shard_of_new
from shardproxy.routing.effects import WRITING
from shardproxy.routing.keytypes import KeyColumn
from shardproxy.routing.keyvalues import UNBOUND, Unbound, key_text
from shardproxy.routing.plan import Copies, Home, OneShard, Replicate
from shardproxy.routing.refusals import copies_differ, key_of, read_elsewhere, refused, unbound
from shardproxy.routing.resolved import Context, Resolved, Tables, in_turn
from shardproxy.sql import (
    Const,
    CreateAs,
    Default,
    Delete,
    Insert,
    Merge,
    Param,
    RowValue,
    Select,
    Update,
)
from shardproxy.sqlstate import CHECK_VIOLATION

Change = Insert | Update | Delete | Merge


def route_modify(statement: Change, tables: Tables, context: Context) -> Home | OneShard | Replicate | Copies:
    """Route a statement whose target is a user table."""
    ref = statement.target
    table = tables[ref]
    reads = {other: resolved for other, resolved in tables.items() if other != ref}
    verb = statement.kind.value
    if table.kind == "reference":
        plan = route_written(statement, table, reads, context)
        spread = frozenset() if context.written is None else context.written.spread
        return replace(plan, spread=spread) if spread and isinstance(plan, Copies) else plan
    if table.kind == "single":
        shard = _shard_of(table)
        check_reads(verb, reads, shard)
        return OneShard(shard)
    changed = [column.name for column in table.key if column.name in statement.set_columns]
    if changed and not isinstance(statement, Merge) and not _keeps_key(statement, table):
        raise refused(
            f'{verb} sets key column "{changed[0]}" of sharded table "{table}"',
            "A row with another key may belong to another shard: DELETE the row and INSERT it again.",
        )
    match statement:
        case Insert():
            return _insert(statement, table, reads, context)
        case Update() | Delete():
            return _update_or_delete(statement, tables, context)
        case Merge():
            raise refused(
                f'MERGE into sharded table "{table}" is not supported',
                "Use INSERT ... ON CONFLICT, or UPDATE and INSERT with the key bound.",
            )
        case _:
            assert_never(statement)


def _keeps_key(statement: Change, table: Resolved) -> bool:
    """Whether ON CONFLICT DO UPDATE gives a row the key of the one that was to be inserted, on the same shard."""
    return isinstance(statement, Insert) and {column.name for column in table.key} <= set(statement.set_excluded)


def _shard_of(table: Resolved) -> int:
    assert table.shard is not None
    return table.shard


def check_reads(verb: str, reads: Tables, shard: int) -> None:
    """Refuse what a statement on one shard cannot read there in full."""
    for other in reads.values():
        if other.sharded or (other.kind == "single" and other.shard != shard):
            raise read_elsewhere(verb, other)


def check_replicated(verb: str, statement: Select, table: Resolved, reads: Tables, context: Context) -> None:
    """Refuse what cannot be made the same on every shard. What PostgreSQL's own functions compute can."""
    for other in reads.values():
        if other.kind != "reference":
            raise read_elsewhere(verb, other)
    own = sorted(
        name for schema, name in statement.functions if name in WRITING or not context.may_be_builtin(schema, name)
    )
    if own:  # it may write other tables
        raise copies_differ(
            table,
            f"function {own[0]}()",
            "Create the table first, then INSERT ... SELECT: one shard computes that for all.",
        )


def _update_or_delete(statement: Update | Delete, tables: Tables, context: Context) -> Home | OneShard:
    verb, ref = statement.kind.value, statement.target
    bound = Bound(statement, tables)
    shards = bound.shards(ref, context)
    if shards is None or len(shards) > 1:
        raise unbound(verb, tables[ref])
    for other, resolved in tables.items():
        if other == ref or resolved.kind in {"reference", "catalog"}:
            continue
        if resolved.kind == "single":
            theirs: frozenset[int] | None = frozenset({_shard_of(resolved)})
        else:
            theirs = None if other.nested else bound.shards(other, context)
        if theirs is None or not theirs <= shards:
            raise read_elsewhere(verb, resolved)
    return OneShard(*shards) if shards else Home()


def _insert(insert: Insert, table: Resolved, reads: Tables, context: Context) -> Home | OneShard:
    if insert.select:
        raise refused(
            f'INSERT ... SELECT into sharded table "{table}" is not supported',
            "COPY the rows out and in, or INSERT them with VALUES.",
        )
    if insert.overriding:
        raise refused(
            f'INSERT with OVERRIDING USER VALUE into sharded table "{table}" is not supported',
            "Omit the clause, or use OVERRIDING SYSTEM VALUE where the key is an identity column.",
        )
    shards: set[int] = set()
    names = table.columns if insert.columns is None else insert.columns
    uses = dict(insert.params)
    for row in insert.rows:
        placed = _place_row(dict(zip(names, row, strict=False)), table, context, uses)
        if placed is not None:
            shards.add(placed)
    if len(shards) > 1:
        raise refused(
            f'INSERT into sharded table "{table}" has rows for {len(shards)} shards',
            "Use COPY, or one INSERT for each row or shard.",
        )
    [shard] = shards or {context.home}
    check_reads("INSERT", reads, shard)
    # PostgreSQL refuses every row that has no shard: any of them reports the error.
    return OneShard(shard) if shards else Home()


def _place_row(row: dict[str, RowValue], table: Resolved, context: Context, uses: dict[int, int]) -> int | None:
    """The shard of one row of VALUES; None where PostgreSQL certainly refuses it."""
    assert table.placement is not None
    key = [_stored(row.get(column.name, Default()), column, table, context, uses) for column in table.key]
    shard = table.placement.place(key)
    if shard == native.PLACE_UNSUPPORTED:
        raise refused(
            f'a value for key ({key_of(table)}) of sharded table "{table}" depends on settings',
            "Write dates as YYYY-MM-DD and moments with a UTC offset, or use the binary format.",
        )
    if shard == native.PLACE_NO_PARTITION:
        raise _no_partition(table, key)
    return shard if shard >= 0 else None


def _stored(
    value: RowValue, column: KeyColumn, table: Resolved, context: Context, uses: dict[int, int]
) -> bytes | None:
    if isinstance(value, Default):
        if column.name in table.defaults:
            return table.defaults[column.name]
        raise refused(
            f'key column "{column.name}" of sharded table "{table}" has a default that must be computed',
            "Give the key's value in the INSERT.",
        )
    text = key_text(value, column.type, context, uses, storing=True) if isinstance(value, Const | Param) else UNBOUND
    if isinstance(text, Unbound):
        given = isinstance(value, Const) or (isinstance(value, Param) and 0 < value.number <= len(context.params))
        raise refused(
            f'the value of key column "{column.name}" of sharded table "{table}" is '
            + ("of another type" if given else "not a constant"),
            "Give the key as a plain constant or as a parameter of the column's own type.",
        )
    return text


def _no_partition(table: Resolved, key: list[bytes | None]) -> PgError:
    """The error of ExecFindPartition in src/backend/executor/execPartition.c."""
    values = ", ".join("null" if text is None else text.decode("utf-8", "surrogateescape") for text in key)
    return PgError(
        CHECK_VIOLATION,
        f'no partition of relation "{table.name}" found for row',
        detail=f"Partition key of the failing row contains ({key_of(table)}) = ({values}).",
    )


def route_create_as(statement: CreateAs, tables: Tables, context: Context) -> OneShard | Replicate:
    """Route CREATE TABLE AS, CREATE MATERIALIZED VIEW and SELECT INTO: their relation comes first."""
    query = statement.query
    reads = {other: tables[other] for other in statement.tables[1:]}
    if not isinstance(query, Select) or any(other.role == "write" for other in reads):
        raise refused(
            "CREATE TABLE AS of a statement other than SELECT is not supported",
            "Create the table first, then INSERT into it.",
        )
    place, shard = shard_of_new(statement, context)
    spread = next((str(resolved) for resolved in reads.values() if resolved.sharded), None)
    if spread is None and place is not None and place.sharded:
        spread = str(statement.target)
    if spread is not None:
        raise refused(
            f'a new table cannot be made of sharded table "{spread}"',
            "Create the table first, list it in the configuration, and COPY the rows out and in.",
        )
    if statement.temporary:
        shard = context.home
    elif statement.materialized:
        # Like a view, it is where all is that it reads.
        others = [resolved for resolved in reads.values() if resolved.kind != "catalog"]
        if others:
            shard = next((resolved.shard for resolved in others if resolved.shard is not None), None)
    if shard is not None:
        check_reads("CREATE TABLE AS", reads, shard)
        return OneShard(shard)
    target = Resolved("reference", statement.target.schema or "public", statement.target.name)
    check_replicated("CREATE TABLE AS", query, target, reads, context)
    return Replicate(in_turn(*held_still(reads, target)))
