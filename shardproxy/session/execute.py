"""What a statement does to the shards, in either protocol: it is routed, and each kind of plan has its executor.

`run` takes one statement, finds where it goes, writes its rows to the client, and returns how it ended. ErrorResponse,
CommandComplete and ReadyForQuery are the caller's business, as are PgErrors: it calls `Transactions.statement_failed`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

from shardproxy.combine.answers import Answer
from shardproxy.combine.tags import total_tag
from shardproxy.copy.encoding import Text
from shardproxy.errors import PgError
from shardproxy.routing import (
    ByKey,
    Connected,
    Copies,
    CopyFromClient,
    CopyToClient,
    Gather,
    Home,
    Local,
    Memory,
    OneShard,
    ParamValue,
    Plan,
    Replicate,
    Settings,
    ShardByShard,
    changes_together,
    held_by,
    held_no_more,
    limit_of,
    lock_for,
    route,
)
from shardproxy.routing.column_list import is_too_long
from shardproxy.routing.resolved import Unseen
from shardproxy.session.client import Client
from shardproxy.session.column_lists import ColumnLists
from shardproxy.session.confirm import WAITED, check_current, check_defaults, confirm, defaulting, planned, redefined
from shardproxy.session.copy_out import copy_out
from shardproxy.session.database import Database
from shardproxy.session.executed import as_executed, check_executed, executed_by
from shardproxy.session.fill import filling_of
from shardproxy.session.follow import Follow, Request, Returning, query_returning
from shardproxy.session.lane_plans import Facts
from shardproxy.session.long_text import PLACED_BESIDE
from shardproxy.session.names import Resolver
from shardproxy.session.offers import Offers
from shardproxy.session.one_by_one import one_by_one
from shardproxy.session.own_settings import check_set
from shardproxy.session.portals import Pending, Portal, Prepared, request
from shardproxy.session.read import read
from shardproxy.session.relay import Discard, Output, Relay
from shardproxy.session.shards import Shards
from shardproxy.session.transactions import Transactions
from shardproxy.session.watch import Own, Watch, Watches
from shardproxy.shard.connection import Connection
from shardproxy.sql import (
    Begin,
    Commit,
    CopyTo,
    CreateAs,
    Empty,
    Kind,
    Merge,
    PrepareTransaction,
    Release,
    Rollback,
    RollbackTo,
    Savepoint,
    Statement,
    Utility,
    run_as,
)
from shardproxy.transaction.settings import replay_sql
from shardproxy.transaction.state import ACTIVE
from shardproxy.wire import encode
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed

READS = frozenset({
    Kind.SELECT, Kind.SHOW, Kind.EXPLAIN, Kind.FETCH, Kind.CLOSE_CURSOR, Kind.DEALLOCATE, Kind.COPY_TO,
})  # fmt: skip
"""Kinds that need no transaction of their own to be the same on several shards."""

_QUERY = (Owed(Expect.QUERY),)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a statement ended: its command tag, None for an empty one; or suspended by Execute's row limit."""

    tag: str | None
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    statement: Statement
    sql: bytes
    params: Sequence[ParamValue]
    request: Request
    returning: Returning
    plan: Plan


def query(sql: bytes) -> Request:
    """Return the request of the simple protocol."""
    return lambda connection: connection.query(sql, _QUERY)


class Executor:
    """One session's statements on the shards."""

    def __init__(
        self, database: Database, shards: Shards, names: Resolver, transactions: Transactions, client: Client
    ) -> None:
        self.memory = Memory()
        self.lists = ColumnLists(shards, names)
        self.named: Callable[[str], Prepared | None] = lambda _: None  # the prepared statement of a name
        self.types = database.types
        self.offers = Offers(database, names, self.lists, shards.transaction)
        self.watches = Watches(database, shards)
        self.database = database
        self._shards = shards
        self._names = names
        self._transactions = transactions
        self.client = client

    async def run(
        self,
        statement: Statement,
        sql: bytes,
        params: Sequence[ParamValue] = (),
        request: Request | None = None,
        returning: Returning | None = None,
    ) -> Outcome:
        """Run one statement that is no COPY with the client's data; the last two are the extended protocol's."""
        self.client.statement_begins()
        match statement:
            case Empty():
                return Outcome(None)
            case Begin() | Commit() | Rollback() | Savepoint() | Release() | RollbackTo():
                tag = await self._transactions.control(statement, sql)
                if isinstance(statement, Commit | Rollback):
                    self.memory = self.memory.transaction_ended()
                return Outcome(tag)
            case PrepareTransaction(tag="PREPARE TRANSACTION") if len(self._shards.addresses) == 1:
                tag = await self._transactions.prepare(statement, sql)
                self.memory = self.memory.transaction_ended()
                return Outcome(tag)
        plan = await self.planned(statement, params)
        unseen = self.watches.needed(statement, self.offers.facts)
        if self.lists.now is not None:
            sql = self.client.text(b"").encode(run_as(statement, self.lists.now))
        run = _Run(statement, sql, params, request or query(sql), returning or query_returning(sql), plan)
        match plan:
            case CopyToClient():
                assert isinstance(statement, CopyTo)
                if unseen is not None or changes_together(plan.rows):
                    self._transactions.begin_implicit()
                connections = await self.joined(plan, unseen)
                limit, watch = limit_of(plan), await self.watches.begin(unseen, connections)
                alone = self.offers.alone
                tag = await copy_out(sql, statement.options, connections, self.client, statement, limit, alone=alone)
                if watch is not None:
                    await watch.check(Own.copied(statement.data, tag))
                return Outcome(tag)
            case Settings():
                answers = await self._set(run, plan)
            case ShardByShard():
                answers = await one_by_one(await self._shards.open(self._shards.everyone), run.request, self.client)
            case Copies():
                if request is None and statement.params:
                    plan = Copies()  # which the first shard refuses: a Query has no parameters
                self._transactions.begin_implicit()
                first, *_ = await self.joined(plan)
                answers = [await self.follow(plan, first, self.client, run.request, run.returning)]
            case _:
                if unseen is not None or changes_together(plan):
                    self._transactions.begin_implicit()
                facts, began = self.offers.facts, time.monotonic()
                connections = await self.joined(plan, unseen)
                filling = await filling_of(self._shards, self._names, plan, statement, connections[0])
                watch = await self.watches.begin(unseen, connections)
                answers = await self._relay(run, connections, watch)
                if watch is not None:
                    await watch.check(Own.told_by(answers))
                if filling is not None:
                    await filling.confirm(connections)
                if isinstance(plan, Replicate) and isinstance(statement, CreateAs | Merge) and facts is not None:
                    await self.confirm(facts, connections[0], began)
        self.offers.columns = answers[0].columns
        self._learn(run)
        if answers[0].suspended or answers[0].empty:
            return Outcome(None, suspended=answers[0].suspended)
        tags = [answer.tag or "" for answer in answers]
        return Outcome(total_tag(tags, limit_of(plan)) if isinstance(plan, Gather) else tags[0])

    async def read(self, text: Text, first: Callable[[], Awaitable[None]] | None = None) -> Sequence[Statement]:
        """Return a text's statements; `first` answers what must be answered before an error is."""
        return await read(self.client, self._shards, text, first)

    # Where it goes.

    async def planned(self, statement: Statement, params: Sequence[ParamValue] = ()) -> Plan:
        """Return where a statement goes; these shards are connected."""
        transaction, names = self._shards.transaction, self._names
        self.lists.clear()
        anew = False
        transaction.check()
        executed = executed_by(statement)
        prepared = None if executed is None else self.named(executed.name)
        if executed is not None and prepared is not None:
            if executed.args:
                await self.describe(prepared)
            statement, params = as_executed(statement, executed, prepared)
        await names.heed(statement)
        await check_current(self.database, self._shards, statement)
        while True:
            cache, generation = names.cache, self.database.certain_generation
            tables = await names.resolve(statement)
            if not anew and is_too_long(statement, tables):
                names.look_anew()
                anew = True
                continue
            context = await names.context(statement, tables, params)
            memory = replace(self.memory, in_transaction=transaction.open)
            if len(statement.text) < PLACED_BESIDE:
                plan = route(statement, tables, context, memory)
            else:  # placing its keys takes long, and other clients' turns come in between
                plan = await asyncio.to_thread(route, statement, tables, context, memory)
            if isinstance(plan, Settings | Connected):
                await self._shards.open_some()
            shards = self.shards_of(plan)
            await self._shards.open(shards)
            if held := held_by(statement, context):
                # Also if it fails: an advisory lock stays.
                self._shards.holds(shards, held)
            # A new connection may have shown that the session sees names in another way than was assumed.
            if names.cache is cache or not cache.shared:
                self.lists.found(statement, tables)
                self.offers.facts = Facts(statement, tables, context.lasting(), plan, generation)
                if prepared is not None:
                    check_executed(plan)
                    self.lists.renew(prepared)
                    self.lists.executes()
                    await self.prepare(prepared, await self._shards.join(self.shards_of(plan)))
                return plan

    async def prepare(self, prepared: Prepared, connections: Sequence[Connection]) -> None:
        """Have the shards that lack a statement prepare it."""
        lacking = [one for one in connections if not prepared.is_on(one.statements)]
        for connection in lacking:
            made = request(connection.statements, [Pending(Expect.PARSE, prepared)], None, forward=False)
            made.add(encode.SYNC, SWALLOWED_SYNC)
            connection.send(b"".join(made.data), made.owed)
        if lacking:
            with self.lists.placing(prepared):
                await Relay(lacking, Discard()).run()

    async def describe(self, prepared: Prepared) -> None:
        """Find out the types of a statement's parameters."""
        if prepared.described:
            return
        [connection] = await self._shards.join([await self.lists.shard_for(prepared)])
        made = request(connection.statements, [Pending(Expect.DESCRIBE_STATEMENT, prepared)], None, forward=False)
        made.add(encode.SYNC, SWALLOWED_SYNC)
        connection.send(b"".join(made.data), made.owed)
        [answer] = await Relay([connection], Discard()).run()
        prepared.take(answer.parameters, answer.columns)

    def shards_of(self, plan: Plan) -> tuple[int, ...]:
        """Return the numbers of the shards that a plan means."""
        match plan.rows if isinstance(plan, CopyFromClient | CopyToClient) else plan:
            case Home(free=free):
                return (self._shards.some if free else self._shards.home,)
            case OneShard(shard):
                return (shard,)
            case Gather(shards):
                return shards
            case Settings() | Connected():
                return self._shards.connected
            case Local():
                return ()
            case Replicate() | Copies() | ShardByShard() | ByKey():
                return self._shards.everyone
            case other:
                assert_never(other)

    async def joined(self, plan: Plan, unseen: Unseen | None = None) -> list[Connection]:
        """Return the connections for a plan, in the transaction if there is one, with the lock that it wants.

        Of two writers of a reference table one has the lock of the first shard, and only then goes on to the others:
        so they do the same in the same order everywhere, and never wait for each other crosswise. A snapshot is later.
        """
        shards = self._shards
        if (table := defaulting(self.offers.facts, plan)) is not None:
            self._transactions.begin_implicit()
        wanted = lock_for(plan) if table is None else table.locked("ROW EXCLUSIVE")
        if unseen is not None and wanted is None:
            await self.watches.join(self.shards_of(plan))
        connections = await shards.join(self.shards_of(plan))
        if wanted is not None:
            await connections[0].execute(lock := wanted.encode("utf-8", "surrogateescape"))
            await shards.on_all(connections[1:], lock)
            connections = await shards.join(self.shards_of(plan))  # a cancel that came while it waited
        await check_defaults(self._names, table, connections[0])
        return connections

    async def in_pieces(self, portal: Portal) -> tuple[Plan, list[Connection], Unseen | None]:
        """Return where a statement goes that is read in pieces, with connections ready for it, and why to watch it."""
        self.client.statement_begins()
        plan = await self.planned(portal.prepared.statement, portal.parameters())
        unseen = self.watches.needed(portal.prepared.statement, self.offers.facts)
        self.lists.renew(portal.prepared)
        if unseen is not None or changes_together(plan):
            self._transactions.begin_implicit()
        return plan, await self.joined(plan, unseen), unseen

    async def follow(
        self, plan: Copies, first: Connection, output: Output, request: Request, returning: Returning
    ) -> Answer:
        """Write a reference table."""
        facts, began = self.offers.facts, time.monotonic()
        with planned(self._names, facts, self.client.offset):
            follow = Follow(self._shards, plan, output, self.database.is_copied)
            answer = await self.watches.over(facts, first, partial(follow.run, first, request, returning))
        if facts is not None and not (answer.tag or "").endswith(" 0"):
            await self.confirm(facts, first, began)
        return answer

    async def confirm(self, facts: Facts, first: Connection, began: float) -> None:
        """Raise if a write of a reference table has been overtaken by a change of what it rests on."""
        waited = time.monotonic() - began > WAITED
        await confirm(self._names, facts, first, changed=not self.offers.hold(facts), waited=waited)

    # Executors.

    async def _relay(self, run: _Run, connections: Sequence[Connection], watch: Watch | None) -> list[Answer]:
        rows_from = None if isinstance(run.plan, Gather) else 0
        relay = Relay(connections, self.client, None, rows_from, limit=limit_of(run.plan), alone=self.offers.alone)
        if isinstance(run.plan, Replicate) and run.plan.lock is None and len(connections) > 1:
            return await relay.in_order(partial(self._request, run), self.database.deadlocks.waits)
        return await (relay.ask(run.request) if watch is None else watch.run(relay, run.request))

    def _request(self, run: _Run, connection: Connection) -> None:
        self._shards.check_cancelled()
        run.request(connection)

    async def _set(self, run: _Run, plan: Settings) -> list[Answer]:
        """Change a setting on every connection of the session, and by replay on those to come."""
        check_set(run.statement)
        replayed = replay_sql(run.sql, run.params) if plan.lasting else None
        # It is refused for what it is, wherever that is seen.
        relay = Relay(await self.joined(plan), self.client, rows_from=0, name_shard=False)
        try:
            answers = await relay.ask(run.request)
        except PgError:
            await self._transactions.setting_failed(relay.completed, plan)
            raise
        if replayed is not None:
            self._shards.transaction.set(replayed, plan.name, local=plan.local)
        if run.statement.tag == "DISCARD ALL":
            self._names.discarded()
        self._names.forget()
        return answers

    def _learn(self, run: _Run) -> None:
        """Note what a statement has changed that later ones depend on."""
        statement = run.statement
        if isinstance(statement, CreateAs) or (isinstance(statement, Utility) and statement.defines):
            redefined(self.database, self._shards, statement, self.offers.facts)
            self._names.forget()
        self.memory = self.memory.after(statement, self.shards_of(run.plan)[0])
        self.watches.learn(statement)
        if gone := held_no_more(statement, self.memory, in_block=self._shards.transaction.state is ACTIVE):
            self._shards.holds_no_more(gone)

    # Cursors, which are portals to the protocol.

    def cursor_at(self, name: str) -> Connection | None:
        """Return the connection that has a cursor of the client's, if one has."""
        shard = self.memory.cursors.get(name)
        return None if shard is None else self._shards.standing(shard)

    def cursor_opened(self, name: str, connection: Connection) -> None:
        """A protocol portal of this name is open there: to SQL it is a cursor."""
        self.memory = self.memory.with_cursor(name, self._shards.number_of(connection))

    def cursor_closed(self, name: str) -> None:
        """It is no more."""
        self.memory = self.memory.without_cursor(name)
