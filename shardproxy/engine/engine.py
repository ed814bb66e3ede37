"""What a statement does to the shards, whoever asks: the session's Query and Execute, and the loader.

`run` takes one statement, finds where it goes, and writes its rows to the output; it returns the command tag, and
None for an empty statement. It never says CommandComplete, ErrorResponse or ReadyForQuery: when a client may read
them is the session's business. The transaction rules are in `transaction`, the shards' connections in `gang`.

Errors leave as PgError. The caller then calls `statement_failed()` before it tells the client.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shardproxy.backend.connection import Connection
from shardproxy.backend.together import each
from shardproxy.config.names import NAMEDATALEN
from shardproxy.engine.copy_in import CopyIn, Source
from shardproxy.engine.copy_out import copy_out
from shardproxy.engine.copy_setup import prepare_copy
from shardproxy.engine.database import Database
from shardproxy.engine.deadlock import LockWatch
from shardproxy.engine.gang import Gang
from shardproxy.engine.notices import Fields, NoticeMerger
from shardproxy.engine.resolver import Resolver
from shardproxy.engine.results import DATA_ROW, Answer, OnAgreed, Output, Relay, total_tag
from shardproxy.engine.slow_client import SlowClient
from shardproxy.errors import PgError
from shardproxy.native import FrameMerge
from shardproxy.routing import (
    Connected,
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
    route,
)
from shardproxy.sql import (
    Begin,
    Commit,
    CopyFrom,
    CopyTo,
    CreateAs,
    Empty,
    Kind,
    Release,
    Rollback,
    RollbackTo,
    Savepoint,
    Statement,
    Utility,
)
from shardproxy.sqlstate import (
    ACTIVE_SQL_TRANSACTION,
    CONNECTION_FAILURE,
    NO_ACTIVE_SQL_TRANSACTION,
)
from shardproxy.transaction.settings import replay_sql
from shardproxy.transaction.state import FAILED, Transaction
from shardproxy.wire import encode
from shardproxy.wire.constants import B

Request = Callable[[Connection], None]
"""Writes to a connection what makes it run the statement, up to Query or Sync."""

READS = frozenset({
    Kind.SELECT, Kind.SHOW, Kind.EXPLAIN, Kind.FETCH, Kind.CLOSE_CURSOR, Kind.DEALLOCATE, Kind.COPY_TO,
})  # fmt: skip
"""Kinds that need no transaction of their own to be the same on several shards."""


class Engine:
    """One session's statements over one database's shards."""

    def __init__(
        self,
        database: Database,
        settings: Mapping[str, str],
        output: Output,
        on_parameter: Callable[[str, str], None],
    ) -> None:
        self.database = database
        self.output = output
        self.gang = Gang(database.addresses, settings, self._connected)
        self.resolver = Resolver(database, self.gang)
        self.watch = LockWatch(self.gang, database.config.deadlock_timeout)
        self.committing = False
        self._cancelling: asyncio.Future[list[None]] | None = None
        self._settings = settings
        self._on_parameter = on_parameter
        self._notice: Callable[[int, Fields], None] = NoticeMerger(self._say_notice).notice
        self._slow_client = SlowClient(output, lambda: self.gang.connections)
        self.memory = Memory()

    @property
    def transaction(self) -> Transaction:
        """The session's transaction."""
        return self.gang.transaction

    # The session's life.

    async def start(self) -> dict[str, str]:
        """Return the settings to report to a new client, connecting to a shard if no session like it has been."""
        known = self.database.known_parameters(self._settings)
        name = self._settings.get("application_name")
        if known is None or not (name is None or _stays(name)):
            connection = await self.gang.open_home()
            return dict(connection.parameters)
        # Each client has its own; all else is the same for sessions that ask for the same.
        return known if name is None else {**known, "application_name": name}

    async def close(self) -> None:
        """Leave the shards. What still runs there is cancelled, what is open is rolled back."""
        self._slow_client.close()
        busy = [connection for connection in self.gang.connections if connection.busy]
        await each(connection.cancel() for connection in busy)
        for connection in busy:
            connection.abort()
        await self.gang.close()

    async def cancel(self) -> None:
        """Cancel what runs on the shards now, but not a commit over several: it ends as all or none by itself."""
        if self.committing and len(self.transaction.joined) > 1:
            return
        self.gang.cancelled = True
        busy = [connection for connection in self.gang.connections if connection.busy]
        self._cancelling = asyncio.ensure_future(each(connection.cancel() for connection in busy))
        await self._cancelling

    def _connected(self, shard: int, connection: Connection) -> None:
        connection.on_notice = lambda fields: self._notice(shard, fields)
        connection.on_notification = lambda payload: self.output.write(encode.message(B.NOTIFICATION_RESPONSE, payload))
        connection.on_parameter = lambda name, value: self._parameter(shard, name, value)
        if shard == self.gang.home:
            self.database.remember_parameters(self._settings, dict(connection.parameters))
            for name, value in connection.parameters.items():
                self._on_parameter(name, value)

    def _parameter(self, shard: int, name: str, value: str) -> None:
        if shard == self.gang.home:
            self._on_parameter(name, value)

    def _say_notice(self, fields: Fields) -> None:
        self.output.write(encode.notice_response(fields))
        self._slow_client.wrote()

    def warn(self, state: str, message: str, *, hint: str | None = None) -> None:
        """Say a WARNING of the proxy's own."""
        self._say_notice(PgError(state, message, severity="WARNING", hint=hint).fields)

    # Transactions.

    def begin_implicit(self) -> None:
        """Make what follows one transaction, which `end_implicit` commits."""
        if not self.transaction.open:
            self.transaction.begin(implicit=True)

    async def end_implicit(self) -> None:
        """Commit an implicit transaction, if one is open."""
        if self.transaction.open and self.transaction.implicit:
            await self._commit()

    async def statement_failed(self) -> None:
        """A statement has failed: an implicit transaction ends, the client's own one waits for its ROLLBACK."""
        if not self.transaction.open:
            return
        if self.transaction.implicit:
            await self.gang.rollback()
        else:
            self.transaction.fail()
            if not self.transaction.has_savepoints:
                # Nothing of it can come back: PostgreSQL, too, lets its locks go before the client says ROLLBACK.
                await self.gang.leave()
        self.resolver.forget()

    async def _commit(self) -> None:
        """Commit everywhere or nowhere; the transaction is over in either case."""
        if self._cancelling is not None:
            # A request on its way would hit the commit on some shards and not on others.
            await asyncio.wait({self._cancelling})
        participants = self.gang.participants()
        self.committing = True
        try:
            if any(not connection.usable for connection in participants):
                raise PgError(
                    CONNECTION_FAILURE,
                    "the transaction is rolled back: the connection to a shard that took part was lost",
                    detail=", ".join(connection.name for connection in participants if not connection.usable),
                )
            if participants:
                for warning in await self.database.commit(participants):
                    self._say_notice(warning.fields)
        except BaseException:
            restoring = self.transaction.restoring_sql()
            await self.gang.rollback()
            if restoring:
                await self.gang.restore(participants, restoring)
            # Nor do the definitions hold that were seen inside it.
            self.resolver.forget()
            raise
        finally:
            self.committing = False
        if self.transaction.defined:
            # Again: who has asked since the statement has seen, and may have kept, what was before.
            self.database.definitions_changed()
        if self.transaction.has_set or self.resolver.temporary:
            self.resolver.forget()
        self.transaction.end(committed=True)

    async def _end_transaction(self, statement: Commit | Rollback, sql: bytes) -> str:
        transaction = self.transaction
        begun = transaction.log[0].sql if transaction.open else b"BEGIN"
        if not transaction.open or transaction.implicit:
            if statement.chain:
                raise PgError(
                    NO_ACTIVE_SQL_TRANSACTION,
                    f"{statement.tag} AND CHAIN can only be used in transaction blocks",
                )
            self.warn(NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress")
        tag = statement.tag
        if transaction.open:
            if statement.kind is Kind.COMMIT and transaction.state != FAILED:
                await self._commit()
            else:
                await self.gang.rollback()
                self.resolver.forget()
                tag = "ROLLBACK"
        self.memory = self.memory.transaction_ended()
        if statement.chain:
            transaction.begin(begun)
        return tag

    async def _savepoint(self, statement: Savepoint | Release | RollbackTo, sql: bytes) -> str:
        transaction = self.transaction
        name = statement.name
        if not transaction.open or transaction.implicit:
            what = statement.kind.value.removesuffix("SAVEPOINT").rstrip()
            words = f"{what} SAVEPOINT".lstrip()
            raise PgError(NO_ACTIVE_SQL_TRANSACTION, f"{words} can only be used in transaction blocks")
        if statement.kind is not Kind.ROLLBACK_TO:
            transaction.check()
        if statement.kind is not Kind.SAVEPOINT:
            transaction.find_savepoint(name)
        if transaction.doomed or any(not connection.usable for connection in self.gang.participants()):
            transaction.fail()
            raise PgError(
                CONNECTION_FAILURE,
                "the transaction cannot go on: the connection to a shard that took part was lost",
                hint="ROLLBACK, and run the transaction again.",
            )
        await self.gang.on_all(self.gang.participants(), sql)
        match statement.kind:
            case Kind.SAVEPOINT:
                transaction.savepoint(name, sql)
            case Kind.RELEASE:
                transaction.release(name)
            case _:
                transaction.rollback_to(name)
                self.resolver.forget()
        return statement.tag

    def _begin(self, statement: Statement, sql: bytes) -> str:
        if self.transaction.open and not self.transaction.implicit:
            self.transaction.check()
            self.warn(ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress")
        else:
            self.transaction.begin(sql)
        return statement.tag

    # Statements.

    async def run(
        self,
        statement: Statement,
        sql: bytes,
        *,
        request: Request | None = None,
        params: Sequence[ParamValue] = (),
        describe: bool = True,
        on_agreed: OnAgreed | None = None,
    ) -> str | None:
        """Run one statement; `request` replaces the simple Query for the extended protocol.

        `on_agreed` is called when a shard has accepted the Parse or the Bind, in front of any row.

        Rows, their description (if `describe`) and notices go to the output; the tag is returned.
        """
        self._notice = NoticeMerger(self._say_notice).notice
        match statement:
            case Empty():
                return None
            case Begin():
                return self._begin(statement, sql)
            case Commit() | Rollback():
                return await self._end_transaction(statement, sql)
            case Savepoint() | Release() | RollbackTo():
                return await self._savepoint(statement, sql)
        self.transaction.check()
        plan = await self._plan(statement, params)
        run = _Run(statement, plan, request or _query(sql), describe, on_agreed)
        match plan:
            case CopyToClient():
                assert isinstance(statement, CopyTo)
                return await copy_out(sql, statement.options, await self.joined(plan), self.output)
            case Settings():
                return await self._set(run, replay_sql(sql, params), plan)
        answers = await self._execute(run)
        await self._learn(statement, run)
        if answers[0].suspended:
            return SUSPENDED
        if answers[0].empty:
            return None
        tags = [answer.tag or "" for answer in answers]
        return total_tag(tags) if isinstance(plan, Gather) else tags[0]

    async def _plan(self, statement: Statement, params: Sequence[ParamValue]) -> Plan:
        """Decide where a statement goes."""
        tables = await self.resolver.resolve(statement)
        context = await self.resolver.context(statement, tables, params)
        plan = route(statement, tables, context, replace(self.memory, in_transaction=self.transaction.open))
        if isinstance(plan, Settings | Connected):
            await self.gang.open_home()
        return plan

    def shards_of(self, plan: Plan) -> tuple[int, ...]:
        """Return the numbers of the shards that a plan means."""
        match plan.rows if isinstance(plan, CopyFromClient | CopyToClient) else plan:
            case Home():
                return (self.gang.home,)
            case OneShard(shard):
                return (shard,)
            case Gather(shards):
                return shards
            case Settings() | Connected():
                return (self.gang.home, *self.gang.others)
            case Local():
                return ()
        return self.gang.everyone

    def cursor_at(self, name: str) -> Connection | None:
        """Return the connection that has a cursor of the client's, if one has."""
        shard = self.memory.cursors.get(name)
        return None if shard is None else self.gang.standing(shard)

    def cursor_opened(self, name: str, connection: Connection) -> None:
        """A protocol portal of this name is open there: to SQL it is a cursor."""
        self.memory = self.memory.with_cursor(name, self.gang.number_of(connection))

    def cursor_closed(self, name: str) -> None:
        """It is no more."""
        self.memory = self.memory.without_cursor(name)

    async def connections_of(self, statement: Statement, params: Sequence[ParamValue]) -> tuple[Plan, list[Connection]]:
        """Return where a statement goes, as `run` would run it, with the connections in the state for it."""
        self._notice = NoticeMerger(self._say_notice).notice
        self.transaction.check()
        plan = await self._plan(statement, params)
        if isinstance(plan, Replicate):
            self.begin_implicit()
        return plan, await self.joined(plan)

    async def joined(self, plan: Plan) -> list[Connection]:
        """Return the connections for a plan, in the transaction if there is one, with the lock that it wants.

        Of two writers of a reference table one has the lock of the first shard, and only then goes on to the others:
        so they do the same in the same order everywhere, and never wait for each other crosswise. A snapshot is taken
        behind the lock.
        """
        connections = await self.gang.join(self.shards_of(plan))
        change = plan.rows if isinstance(plan, CopyFromClient) else plan
        if isinstance(change, Replicate) and change.lock is not None:
            lock = change.lock.encode("utf-8", "surrogateescape")
            await connections[0].execute(lock)
            await self.gang.on_all(connections[1:], lock)
            connections = await self.gang.join(self.shards_of(plan))  # a cancel that came while it waited
        return connections

    async def _execute(self, run: "_Run") -> list[Answer]:
        """Send the statement to its shards and relay their answers."""
        if isinstance(run.plan, ShardByShard):
            return await self._one_by_one(run, self.gang.everyone)
        if isinstance(run.plan, Replicate):
            self.begin_implicit()
        return await self._relay(run, await self.joined(run.plan))

    async def _relay(self, run: "_Run", connections: Sequence[Connection]) -> list[Answer]:
        for connection in connections:
            run.request(connection)
        merge = FrameMerge(len(connections), DATA_ROW)
        forward = frozenset({B.ROW_DESCRIPTION, B.NO_DATA}) if run.describe else frozenset()
        rows_from = None if isinstance(run.plan, Gather) else 0
        return await Relay(connections, self.output, merge, rows_from, forward, run.on_agreed).run()

    async def _one_by_one(self, run: "_Run", shards: Sequence[int]) -> list[Answer]:
        """Run what PostgreSQL allows in no transaction block. Where it fails, say where it has been done."""
        connections = await self.gang.open(shards)
        answers: list[Answer] = []
        for connection in connections:
            try:
                answers += await self._relay(run, [connection])
            except PgError as error:
                done = ", ".join(other.name for other in connections[: len(answers)])
                if done:
                    said = f'Failed on shard "{connection.name}"; already done, and not undone, on: {done}.'
                    error.fields["D"] = f"{error.detail}\n{said}" if error.detail else said
                raise
        return answers

    async def _set(self, run: "_Run", replay: bytes, plan: Settings) -> str | None:
        """Change a setting on every connection of the session, and by `replay` on those to come."""
        answers = await self._relay(run, await self.joined(plan))
        if plan.lasting:
            self.transaction.set(replay, plan.name, local=plan.local)
        self.resolver.forget()
        self.memory = self.memory.after(run.statement, self.gang.home)
        return answers[0].tag

    async def _learn(self, statement: Statement, run: "_Run") -> None:
        """Note what a statement has changed that later ones depend on."""
        if isinstance(statement, CreateAs) or (isinstance(statement, Utility) and statement.defines):
            self.resolver.forget()
            self.database.definitions_changed()
            self.transaction.defined = self.transaction.open
        self.memory = self.memory.after(statement, self.shards_of(run.plan)[0])

    # COPY.

    async def copy_in(self, statement: CopyFrom, sql: bytes, source: Source) -> CopyIn:
        """Start COPY FROM STDIN on its shards; the caller feeds it, and ends it by `finish` or `stop`.

        It runs in a transaction: an implicit one, if none is open, which the caller ends.
        """
        self._notice = NoticeMerger(self._say_notice).notice
        self.transaction.check()
        self.begin_implicit()
        setup = await prepare_copy(self, statement, sql)
        connections = dict(zip(setup.shards, await self.joined(setup.plan), strict=True))
        copy = CopyIn(sql, setup, connections, source, NoticeMerger(self._say_notice))
        self._notice = copy.notice
        await copy.start()
        return copy

    def copy_ended(self) -> None:
        """Let go of the COPY, whose log of lines and last row may be many megabytes; the session may now be idle."""
        self._notice = NoticeMerger(self._say_notice).notice


SUSPENDED = "portal suspended"
"""Not a tag: `run` returns it when Execute's row limit was reached."""


@dataclass(frozen=True, slots=True)
class _Run:
    statement: Statement
    plan: Plan
    request: Request
    describe: bool
    on_agreed: OnAgreed | None = None


def _query(sql: bytes) -> Request:
    return lambda connection: connection.write(encode.query(sql))


def _stays(name: str) -> bool:
    """Whether PostgreSQL takes an application_name as it is; other characters it replaces, a long one it cuts."""
    return name.isascii() and name.isprintable() and len(name) < NAMEDATALEN
