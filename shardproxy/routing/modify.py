"""Where INSERT, UPDATE, DELETE, MERGE and CREATE TABLE AS go."""

from collections.abc import Mapping

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.routing.bound import Bound
from shardproxy.routing.keytypes import KeyColumn
from shardproxy.routing.keyvalues import Unbound, key_text
from shardproxy.routing.refusals import copies_differ, key_of, read_elsewhere, refused, unbound
from shardproxy.routing.resolved import Context, Resolved, Route, in_turn
from shardproxy.sql.kinds import IMMUTABLE
from shardproxy.sql.model import Const, Default, Insert, Kind, Param, RowValue, Statement, TableRef
from shardproxy.sqlstate import CHECK_VIOLATION

Tables = Mapping[TableRef, Resolved]


def route_modify(statement: Statement, tables: Tables, context: Context) -> Route:
    """Route a statement whose target is a user table."""
    ref = statement.target
    assert ref is not None
    table = tables[ref]
    reads = {other: resolved for other, resolved in tables.items() if other != ref}
    verb = statement.kind.value
    if table.kind == "reference":
        check_replicated(verb, statement, table, reads)
        reason = f"{table} is a reference table: every shard makes the same change"
        return Route("all", "same", reason, _in_turn(statement, table, reads))
    if table.kind == "single":
        shard = _shard_of(table)
        check_reads(verb, reads, shard)
        return Route((shard,), "one", f"{table} lies on one shard")
    if statement.kind is Kind.MERGE:
        raise refused(
            f'MERGE into sharded table "{table}" is not supported',
            "Use INSERT ... ON CONFLICT, or UPDATE and INSERT with the key bound.",
        )
    changed = [column.name for column in table.key if column.name in statement.set_columns]
    if changed:
        raise refused(
            f'{verb} sets key column "{changed[0]}" of sharded table "{table}"',
            "A row with another key may belong to another shard: DELETE it and INSERT it anew.",
        )
    if statement.kind is Kind.INSERT:
        return _insert(statement, table, reads, context)
    return _update_or_delete(statement, ref, dict(tables), context)


def _in_turn(statement: Statement, table: Resolved, reads: Tables) -> str | None:
    """The locks behind which every shard makes this change, and others of the tables it reads, in one order."""
    insert = statement.insert
    # Rows that are added without a look at others may come in any order.
    adds = insert is not None and not insert.select and insert.conflict is None
    return in_turn((table, "ROW EXCLUSIVE" if adds else "SHARE ROW EXCLUSIVE"), *_held_still(reads, table))


def _held_still(reads: Tables, target: Resolved) -> list[tuple[Resolved, str]]:
    """The locks on what a change of every shard reads, in an order that is the same for all."""
    others = {(other.schema, other.name): other for other in reads.values()}
    others.pop((target.schema, target.name), None)
    return [(other, "SHARE") for _, other in sorted(others.items())]


def _shard_of(table: Resolved) -> int:
    assert table.shard is not None
    return table.shard


def check_reads(verb: str, reads: Tables, shard: int) -> None:
    """Refuse what a statement on one shard cannot read there in full."""
    for other in reads.values():
        if other.sharded or (other.kind == "single" and other.shard != shard):
            raise read_elsewhere(verb, other)


def check_replicated(verb: str, statement: Statement, table: Resolved, reads: Tables) -> None:
    """Refuse what would not be the same on every shard."""
    for other in reads.values():
        if other.kind != "reference":
            raise read_elsewhere(verb, other)
    varying = sorted(
        name for schema, name in statement.functions if schema not in {None, "pg_catalog"} or name not in IMMUTABLE
    )
    if varying:
        raise copies_differ(table, f"function {varying[0]}()")
    if statement.varying:
        raise copies_differ(table, statement.varying[0])
    left_out = set(statement.set_defaults)
    if statement.insert is not None:
        left_out |= _left_out(statement.insert, table)
    elif statement.kind is Kind.MERGE:
        left_out |= set(table.columns)
    elif statement.copy is not None and statement.copy.columns is not None:
        left_out |= set(table.columns) - set(statement.copy.columns)
    computed = sorted(left_out - table.defaults.keys())
    if computed:
        raise copies_differ(table, f'the computed default of column "{computed[0]}"')


def _left_out(insert: Insert, table: Resolved) -> set[str]:
    """The columns of which at least one row takes the default."""
    names = table.columns if insert.columns is None else insert.columns
    if insert.select:
        return set() if insert.columns is None else set(table.columns) - set(names)
    left_out = set()
    for row in insert.rows:
        left_out |= set(table.columns) - set(names[: len(row)])
        left_out |= {name for name, value in zip(names, row, strict=False) if isinstance(value, Default)}
    return left_out


def _update_or_delete(statement: Statement, ref: TableRef, tables: dict[TableRef, Resolved], context: Context) -> Route:
    verb = statement.kind.value
    table = tables[ref]
    bound = Bound(statement, tables, context)
    shards = bound.shards(ref)
    if shards is None or len(shards) > 1:
        raise unbound(verb, table)
    for other, resolved in tables.items():
        if other == ref or resolved.kind in {"reference", "catalog"}:
            continue
        if resolved.kind == "single":
            theirs: frozenset[int] | None = frozenset({_shard_of(resolved)})
        else:
            theirs = None if other.nested else bound.shards(other)
        if theirs is None or not theirs <= shards:
            raise read_elsewhere(verb, resolved)
    if not shards:
        return Route("home", "one", f"no row of {table} fulfils the conditions on ({key_of(table)})")
    return Route(tuple(shards), "one", f"the key ({key_of(table)}) of {table} is bound to one shard")


def _insert(statement: Statement, table: Resolved, reads: Tables, context: Context) -> Route:
    insert = statement.insert
    assert insert is not None
    if insert.select:
        raise refused(
            f'INSERT ... SELECT into sharded table "{table}" is not supported',
            "COPY the rows out and in, or INSERT them with VALUES.",
        )
    shards: set[int] = set()
    names = table.columns if insert.columns is None else insert.columns
    uses = dict(statement.params)
    for row in insert.rows:
        shard = _place_row(dict(zip(names, row, strict=False)), table, context, uses)
        if shard is not None:
            shards.add(shard)
    if len(shards) > 1:
        raise refused(
            f'INSERT into sharded table "{table}" has rows for {len(shards)} shards',
            "Use COPY, or one INSERT for each row or shard.",
        )
    if not shards:
        check_reads("INSERT", reads, context.home)
        return Route("home", "one", "PostgreSQL refuses a key value: any shard says so in its words")
    [shard] = shards
    check_reads("INSERT", reads, shard)
    return Route((shard,), "one", f"the key ({key_of(table)}) of every row lies on one shard")


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
    text = key_text(value, column.type, context, uses, storing=True) if isinstance(value, Const | Param) else None
    if isinstance(text, Unbound) or not isinstance(value, Const | Param):
        raise refused(
            f'the value of key column "{column.name}" of sharded table "{table}" is not a constant',
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


def route_create_as(statement: Statement, tables: Tables, context: Context) -> Route:
    """Route CREATE TABLE AS, CREATE MATERIALIZED VIEW and SELECT INTO: their relation comes first."""
    ref = statement.tables[0]
    reads = {other: tables[other] for other in statement.tables[1:]}
    query = statement.inner or statement
    if query.kind not in {Kind.SELECT} or any(other.role == "write" for other in reads):
        raise refused(
            "CREATE TABLE AS of a statement other than SELECT is not supported",
            "Create the table first, then fill it.",
        )
    spread = next((resolved for resolved in reads.values() if resolved.sharded), None)
    target = tables.get(ref)
    if target is not None and target.kind in {"missing", "catalog"}:
        target = None
    if spread is not None or (target is not None and target.sharded):
        raise refused(
            f'a new table cannot be made of sharded table "{spread or target}"',
            "Create the table first, list it in the configuration, and COPY the rows out and in.",
        )
    if statement.temporary or (target is not None and target.kind == "single"):
        shard = context.home if statement.temporary or target is None else _shard_of(target)
        check_reads("CREATE TABLE AS", reads, shard)
        return Route((shard,), "one", f"{ref} is made on one shard")
    target = target or Resolved("reference", ref.schema or "public", ref.name)
    check_replicated("CREATE TABLE AS", query, target, reads)
    reason = f"{ref} is made on every shard from what is the same on all"
    return Route("all", "same", reason, in_turn(*_held_still(reads, target)))
