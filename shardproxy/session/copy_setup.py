"""What a COPY FROM STDIN needs before it starts: its shards, and a splitter that knows the sharding key.

There are two ways. Of a sharded table that no shard of the transaction has touched yet, all shards are asked outside
the transaction, or were lately; `copy_look.Guard` then sees on each shard that the COPY begins on that nothing has
changed since. In all other cases everything is read afresh on the shards that will take part, inside the
transaction, so that its own DDL counts. It is asked together with BEGIN, in one round trip: a table whose name is
listed as one of all shards is looked for there at once, and if the name means another one to the session, the answer
of its home shard says so. When the shards have taken all rows, each is asked once more what its columns are, as COPY
may have waited for DDL after the first look.

Either way DDL from anywhere counts, and a shard whose columns differ from the others' is found before a row could
land in the wrong one. What PostgreSQL itself refuses is left to PostgreSQL: the statement goes to one shard for its
error.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeGuard

from shardproxy.copy.encoding import Encodings, splits_bytewise
from shardproxy.copy.options import CopyOptions
from shardproxy.copy.skipped import SkippedRows
from shardproxy.errors import PgError
from shardproxy.native import Placement, SplitError
from shardproxy.routing import Context, Copies, CopyFromClient, Plan, Replicate, Resolved, route
from shardproxy.routing.copies import FIRST
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.relation import Relation
from shardproxy.session.confirm import check_current
from shardproxy.session.copy_alike import differ, relation_on_all
from shardproxy.session.copy_look import LOCKABLE, NOT_GUARDED, Changed, Guard, Look, Looked
from shardproxy.session.copy_splitter import NewSplitter, keyed_splitter, refusal_of, splitter_for
from shardproxy.session.copy_start import refused_by
from shardproxy.session.copy_types import check_copied
from shardproxy.session.copy_verify import Checked, Spread, Verify, moves, watched
from shardproxy.session.database import SHARDED, Database
from shardproxy.session.execute import Executor
from shardproxy.session.functions import is_hooked
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.session.watch import WatchedCopy
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyFrom, Statement, TableRef
from shardproxy.sqlstate import (
    FEATURE_NOT_SUPPORTED,
    SERIALIZATION_FAILURE,
)


def is_copy_in(statement: Statement) -> TypeGuard[CopyFrom]:
    """Whether a statement asks the client for data."""
    return isinstance(statement, CopyFrom) and statement.endpoint == "client"


@dataclass(frozen=True, slots=True)
class CopySetup:
    """What a COPY needs to start, as often as the statement comes."""

    plan: CopyFromClient
    shards: tuple[int, ...]
    relation: str
    new_splitter: NewSplitter
    new_skipped: Callable[[], SkippedRows]
    everywhere: bool
    refusal: Callable[[SplitError, str | None], PgError]
    """What to say of what the splitter refuses, given CONTEXT."""
    placed_by: Mapping[int, Relation]
    """The columns by which each shard's rows were placed, to be confirmed; empty where they do not matter."""
    looked: Looked | None
    """What each shard is asked to confirm in front of the COPY; None if all were looked at in this transaction."""
    verify: Checked | None
    """What makes a reference table's copies equal when its shards have the rows, or looks at what else was written."""
    table: Resolved
    columns: tuple[str, ...]
    """Those that the rows have, in their order."""
    options: CopyOptions
    encoding: str
    """That of the data."""
    bare_splitter: NewSplitter
    """`new_splitter` without what watches it."""
    answers: dict[tuple[int, bool], bytes] = field(default_factory=dict)
    """How each shard has answered guard and COPY, well, when they were sent with the data: it will do so again.

    By shard, and whether the COPY was a transaction of its own.
    """

    @property
    def guard(self) -> Guard | None:
        """What each shard is asked in front of the COPY."""
        return None if self.looked is None else self.looked.guard

    async def confirm(self, shard: int, connection: Connection) -> None:
        """Raise 40001 if a shard's COPY, which is over and has its lock, had other columns than it was placed by.

        The look in front of it has no lock, and COPY may have waited for DDL; nor does the look see more than its
        transaction's snapshot, while COPY sees the table as it is.
        """
        if shard not in self.placed_by:
            return
        relation = self.placed_by[shard]
        sql = f"SELECT * FROM {ascii_name(relation.schema, relation.name)}"
        described = await connection.describe(sql.encode("utf-8", "surrogateescape"))
        found = [(one.table_oid, one.attnum, one.type_oid, one.typmod, _comparable(one.name)) for one in described]
        if found != [
            (relation.oid, one.attnum, one.type_oid, one.typmod, _comparable(one.name)) for one in relation.columns
        ]:
            raise PgError(
                SERIALIZATION_FAILURE,
                f'could not serialize access: the definition of table "{relation.name}" has changed',
                detail=f'It changed on shard "{connection.name}" while COPY placed rows by the columns of before.',
                hint="Nothing was loaded. Run the COPY again.",
            )


def _comparable(name: str) -> str | None:
    """A column's name as far as every encoding spells it alike; a description is in the client's."""
    return name if name.isascii() else None


async def prepare_copy(
    database: Database,
    shards: Shards,
    names: Resolver,
    executor: Executor,
    copy: CopyFrom,
    sql: bytes,
    *,
    guarded: bool,
) -> CopySetup:
    """Resolve a COPY FROM STDIN's table on its shards, and see how its rows are split; without `guarded` look anew."""
    looked = await _looked(database, shards, names, copy) if guarded else None
    tables = {} if looked is None else {copy.table: looked.resolved}
    context = None if looked is None else await names.context(copy, tables, ())
    if looked is not None and context is not None and context.unseen is None:
        looks: Mapping[int, Look] = looked.looks
        plan = route(copy, tables, context, executor.memory)
        numbers = executor.shards_of(plan)
        # Or else a new session's home would be the shard that is connected first.
        await shards.open_home()
        await shards.open(numbers)
    else:
        looked = None
        plan, numbers, tables, looks, context = await _look_inside(database, shards, names, executor, copy, sql)
    assert isinstance(plan, CopyFromClient)
    relation = relation_on_all({shard: looks[shard] for shard in numbers}, shards, copy)
    table = names.sharded_table(relation)
    if copy.options.opaque or not _columns_known(copy, relation):
        [connection] = await shards.join(numbers[:1])
        raise await refused_by(connection, sql)
    await check_copied(database.types, copy, {shard: looks[shard].relation for shard in numbers})
    encoding = copy.options.encoding or shards.client_encoding
    if copy.options.format != "binary" and not splits_bytewise(encoding):
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f"COPY FROM STDIN in encoding {encoding} is not supported through shardproxy",
            detail="In this encoding an ASCII byte may be part of another character, so rows cannot be told apart.",
            hint="Convert the data to UTF8, or load them in COPY's binary format.",
        )
    everywhere = isinstance(plan.rows, Replicate)
    nshards = len(shards.addresses)
    encodings = Encodings(shards.client_encoding, encoding, relation.server_encoding)
    placed_by: dict[int, Relation] = {}
    verify: Checked | None = None
    if context.unseen is not None:
        joined = await shards.join(numbers)
        verify = WatchedCopy(await executor.watches.of(context.unseen, joined))
    bare_splitter: NewSplitter | None = None
    if table is not None and tables[copy.table].sharded:
        if looked is None:
            placed_by = {shard: one for shard in numbers if (one := looks[shard].relation) is not None}
        placement = table.placement_in(shards.timezone)
        new_splitter = await keyed_splitter(shards.standing(numbers[0]), copy, table, placement, encodings)
    elif everywhere:
        new_splitter = splitter_for(Placement.reference(nshards), copy.options, encodings, relation.server_version)
        written = await names.written(tables)
        if written is not None:
            [first] = await shards.join([FIRST])
            verify = await Verify.of(shards, first, tables[copy.table], written)
            if copy.options.format != "binary" and moves(written):
                bare_splitter, new_splitter = new_splitter, watched(new_splitter, copy.options)
    else:
        if isinstance(plan.rows, Copies) and plan.rows.rows is not None:
            numbers = (FIRST,)
            [first] = await shards.join(numbers)
            verify = await Spread.of(shards, first, plan.rows.rows)
        new_splitter = splitter_for(
            Placement.single(nshards, numbers[0]), copy.options, encodings, relation.server_version
        )
    new_skipped = partial(
        SkippedRows,
        on_error_ignore=copy.options.on_error == "ignore",
        reject_limit=copy.options.reject_limit,
        everywhere=everywhere,
    )
    database.check_readiness({shard: looks[shard].readiness for shard in numbers})
    refusal = partial(refusal_of, table, copy.options.format)
    columns = copy.columns or tuple(column.name for column in relation.columns if not column.generated)
    return CopySetup(
        plan,
        numbers,
        relation.name,
        new_splitter,
        new_skipped,
        everywhere,
        refusal,
        placed_by,
        looked,
        verify,
        table=tables[copy.table],
        columns=columns,
        options=copy.options,
        encoding=encoding,
        bare_splitter=bare_splitter or new_splitter,
    )


def forget_look(database: Database, shards: Shards, copy: CopyFrom) -> None:
    """Look at a COPY's table anew next time."""
    database.looks.drop(_key(shards, copy))


def known_look(database: Database, shards: Shards, copy: CopyFrom) -> Looked | None:
    """Return what is known of a COPY's table, if it is known still."""
    return database.looks.get(_key(shards, copy))


def _key(shards: Shards, copy: CopyFrom) -> Hashable:
    # A server that does not report the search_path: what other sessions mean by the name says little.
    return shards.parameter("search_path", "") or id(shards), shards.timezone, copy.table.schema, copy.table.name


async def _looked(database: Database, shards: Shards, names: Resolver, copy: CopyFrom) -> Looked | None:
    """Return a sharded table as all shards have it; None for what can only be seen inside the transaction.

    That is whatever else the name means, the view of a transaction that has begun to do something, and default values.
    """
    name = (copy.table.schema, copy.table.name)
    transaction = shards.transaction
    if transaction.joined or transaction.has_set or not database.listed_sharded(*name):
        return None
    if _may_be_hidden(database, shards, copy):
        return None
    if copy.options.default is not None or copy.has_where:
        return None  # what it calls may be missing on one shard, and shall be found before data are asked for
    looked = known_look(database, shards, copy)
    if looked is None:
        since = time.monotonic()
        looked = await _look_outside(database, shards, names, name)
        if looked is not None and differ(looked.looks.values()):  # DDL has come in between
            looked = await _look_outside(database, shards, names, name)
        if looked is None:
            return None
        relation = relation_on_all(looked.looks, shards, copy)
        database.check_readiness({shard: look.readiness for shard, look in looked.looks.items()})
        if relation.kind not in LOCKABLE:
            return None
        # The first connection may have told the search_path.
        database.looks.keep(_key(shards, copy), looked, since)
    at_home = looked.looks[shards.home].relation
    assert at_home is not None
    key_columns = {column.name for column in looked.resolved.key}
    if copy.columns is not None and not (key_columns <= set(copy.columns) and _columns_known(copy, at_home)):
        return None
    return looked


def _may_be_hidden(database: Database, shards: Shards, copy: CopyFrom) -> bool:
    """Whether a table of one shard may be meant by the name, which hides that of all shards."""
    name = (copy.table.schema, copy.table.name)
    return name[0] is None and any(shard != shards.home for shard in database.single_shards(*name))


def _with_readiness(database: Database, question: str, columns: int) -> tuple[str, list[int]]:
    """Ask as well whether the shard can prepare, if that matters; return the questions, and the columns of each."""
    readiness = database.readiness_sql
    return (question, [columns]) if readiness is None else (f"{question}; {readiness}", [columns, 3])


async def _look_outside(database: Database, shards: Shards, names: Resolver, name: catalog.Name) -> Looked | None:
    """Look a table up on all shards, outside the transaction; None if the session means no sharded table by it.

    With the lock that COPY takes: DDL under way is waited for on all of them alike.
    """
    question, columns = _with_readiness(database, catalog.locked_relation_sql(name), 2)
    await shards.open_home()
    try:
        answers = await shards.ask_outside(shards.everyone, question, columns)
    except PgError as error:
        raise Changed(error) if error.sqlstate in NOT_GUARDED else error from error
    looks = {}
    for shard, [[found, fingerprint], *ready] in zip(shards.everyone, answers, strict=True):
        [relation] = catalog.parse_relations(catalog.text(found))
        looks[shard] = Look(relation, ready[0] if ready else (), fingerprint)
    relation = looks[shards.home].relation
    table = None if relation is None else names.sharded_table(relation)
    if table is None or relation is None or table.kind not in SHARDED:
        return None
    placement = table.placement_in(shards.timezone)
    names_of = tuple(column.name for column in relation.columns)
    resolved = Resolved(
        table.kind,
        relation.schema,
        relation.name,
        placement=placement,
        key=table.key,
        columns=names_of,
        hooked=is_hooked(relation),
    )
    guard = Guard(
        database.looks.question(name),
        {shard: look.fingerprint for shard, look in looks.items()},
    )
    return Looked(looks, resolved, guard)


async def _look_inside(
    database: Database,
    shards: Shards,
    names: Resolver,
    executor: Executor,
    copy: CopyFrom,
    sql: bytes,
    *,
    again: bool = False,
) -> tuple[Plan, tuple[int, ...], dict[TableRef, Resolved], dict[int, Look], Context]:
    """Look a table up on the shards that will take part, inside the transaction.

    DDL that has committed on one of them, and not yet on another, is waited for.
    """
    await check_current(database, shards, copy)
    names.look_anew()
    name = (copy.table.schema, copy.table.name)
    looks: dict[int, Look] = {}
    if database.listed_everywhere(*name):
        looks = await _look(database, shards, shards.everyone, name)
    found = looks[shards.home].relation if looks else None
    home = shards.standing(shards.home)
    if found is None or home is None or _may_be_hidden(database, shards, copy):
        tables = await names.resolve(copy)
    else:
        tables = {copy.table: await names.resolved(home, found)}
    if tables[copy.table].kind == "missing":
        [connection] = await shards.join([shards.home])
        raise await refused_by(connection, sql)
    context = await names.context(copy, tables, ())
    plan = route(copy, tables, context, executor.memory)
    numbers = executor.shards_of(plan)
    if not set(numbers) <= looks.keys():
        looks = await _look(database, shards, numbers, name)
    if not again and differ(looks[shard] for shard in numbers):
        await shards.on_all(await shards.join(numbers[:1]), lock := catalog.guard_sql(name)[0])
        await shards.on_all(await shards.join(numbers[1:]), lock)
        return await _look_inside(database, shards, names, executor, copy, sql, again=True)
    return plan, numbers, tables, looks, context


async def _look(database: Database, shards: Shards, numbers: Sequence[int], name: catalog.Name) -> dict[int, Look]:
    """Look a table up on several shards inside the transaction, and ask whether they can commit together."""
    question, columns = _with_readiness(database, catalog.relations_sql([name]), 1)
    # Or else a new session's home would be the shard that is connected first.
    await shards.open_home()
    answers = await shards.ask(numbers, question, columns)
    looks = {}
    for shard, (_, [[found], *ready]) in zip(numbers, answers, strict=True):
        [relation] = catalog.parse_relations(catalog.text(found))
        looks[shard] = Look(relation, ready[0] if ready else ())
    return looks


def _columns_known(copy: CopyFrom, relation: Relation) -> bool:
    """Whether COPY's column list is one that PostgreSQL takes."""
    if copy.columns is None:
        return True
    columns = [relation.column(name) for name in copy.columns]
    return len(set(copy.columns)) == len(columns) and all(one is not None and not one.generated for one in columns)
