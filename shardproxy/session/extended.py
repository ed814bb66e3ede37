"""The extended query protocol of one client. Manual: "Extended Query".

Messages between two Syncs are one implicit transaction. An error makes all up to the next Sync be skipped.

Where a statement goes is known at Execute, when its parameters are. So Parse, Bind and Describe wait in `waiting`
until an Execute takes them to its shard in one piece, and a driver's usual batch costs one round trip. What Execute
cannot take along (a message about another statement comes in between, or Flush or Sync comes first) is settled: a
shard that knows the statement's relations answers it. Nothing is answered before all that came earlier is.

Execute with a row limit is `pieces`'.
"""

from shardproxy.errors import PgError
from shardproxy.session.by_name import BY_NAME, ByName
from shardproxy.session.client import Client
from shardproxy.session.copy_client import CopyClient
from shardproxy.session.copy_setup import is_copy_in
from shardproxy.session.describe_failed import describe_in_failed
from shardproxy.session.execute import Executor, Outcome
from shardproxy.session.names import Resolver
from shardproxy.session.namespace import (
    ABORTED,
    ALLOWED_IN_FAILED,
    LOCAL,
    TEXT_AND_BINARY,
    Namespace,
    by_itself,
    check_parameters,
    shown,
    unprepared,
)
from shardproxy.session.pieces import EXECUTED, PIECEWISE, run_cursor, run_in_pieces, tag_again
from shardproxy.session.portals import OWN, READ_BY, Pending, Portal, Prepared, request, send_with
from shardproxy.session.relay import Relay
from shardproxy.session.shards import Shards
from shardproxy.session.signals import Signals
from shardproxy.session.together import Together
from shardproxy.session.transactions import Transactions
from shardproxy.session.typed import know_values
from shardproxy.shard.connection import Connection
from shardproxy.sql import Kind, Modify, Select, Set, run_as
from shardproxy.sqlstate import (
    DUPLICATE_CURSOR,
    DUPLICATE_PREPARED_STATEMENT,
    NO_ACTIVE_SQL_TRANSACTION,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    PROTOCOL_VIOLATION,
    SYNTAX_ERROR,
)
from shardproxy.transaction.state import FAILED, IMPLICIT
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import F
from shardproxy.wire.errors import decoded
from shardproxy.wire.framing import Message
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed

TYPES = frozenset({F.PARSE, F.BIND, F.DESCRIBE, F.EXECUTE, F.CLOSE, F.FLUSH, F.SYNC})
"""The messages of the extended protocol."""


class Extended:
    """Prepared statements, portals and the current batch of one session."""

    def __init__(
        self, client: Client, executor: Executor, transactions: Transactions, resolver: Resolver, shards: Shards,
        copies: CopyClient, signals: Signals,
    ) -> None:  # fmt: skip
        self.names = Namespace(executor, shards)
        self.by_name = ByName(client, executor, resolver, shards, self.names)
        self.skipping = False
        self.executed = False
        """A statement has been executed since the last Sync."""
        self._client = client
        self._executor = executor
        self._transactions = transactions
        self._transaction = shards.transaction
        self._shards = shards
        self._copies = copies
        self.signals = signals
        self._together = Together(client, executor, self.names, resolver, shards)
        transactions.subtransactions_ended = self.names.subtransactions_ended
        self.waiting: list[Pending] = []
        """The messages that wait for their Execute."""

    async def take(self, message: Message) -> None:
        """Serve one message."""
        if message.type == F.SYNC:
            await self._sync(message.payload)
        elif not self.skipping:
            try:
                await self._take(message)
            except PgError as error:
                self.skipping = True
                await self._fail(await self._first_error(error))

    async def _take(self, message: Message) -> None:
        match message.type:
            case F.PARSE:
                parse = decoded(decode.parse, message.payload)
                await self._parse(parse, message.payload[len(parse.name) + 1 :])
            case F.BIND:
                await self._bind(decoded(decode.bind, message.payload))
            case F.DESCRIBE:
                await self._describe(decoded(decode.describe, message.payload))
            case F.EXECUTE:
                await self._execute(decoded(decode.execute, message.payload))
            case F.CLOSE:
                await self._close(decoded(decode.close, message.payload))
            case _:
                await self.settle()

    async def end_batch(self) -> None:
        """A simple Query follows: bring what is under way to its end."""
        try:
            await self.settle()
        except PgError:
            self.give_up()
            raise
        self.executed = False
        self.names.statements.pop(b"", None)
        await self._transactions.end_implicit()

    async def _sync(self, payload: bytes) -> None:
        try:
            if payload:
                raise PgError(PROTOCOL_VIOLATION, "invalid message format")
            if not self.skipping:
                await self.settle()
                if self._transaction.open and self._transaction.implicit:
                    self._shards.check_cancelled()
                await self._transactions.end_implicit()
        except PgError as error:
            await self._fail(error)
        self.batch_ended()
        self.ready()

    def batch_ended(self) -> None:
        """A Sync has been served."""
        self.skipping = False
        self.executed = False

    def ready(self) -> None:
        """Send ReadyForQuery."""
        if not self._transaction.open:
            self.names.forget_portals()
        self._client.ready(self._transaction.ready_status)

    # Errors.

    async def _first_error(self, error: PgError) -> PgError:
        """Answer first what came before a message that fails by itself, if it can be; return the error to report."""
        if self.waiting and not any(one.status == ABORTED for one in self._shards.participants()):
            try:
                await self.settle()
            except PgError as earlier:
                return earlier
        return error

    async def _fail(self, error: PgError) -> None:
        self.names.own_names(error)
        self.give_up()
        await self._transactions.fail(error)

    def give_up(self) -> None:
        """Forget what no shard has accepted, and all portals: they end with the transaction."""
        self.waiting.clear()
        self.names.forget_unaccepted()
        self.names.fail_portals()

    # What waits.

    async def settle(self) -> None:
        """Have a shard answer what waits for no Execute any more; after an error nothing of it waits."""
        waiting, self.waiting = self.waiting, []
        while waiting:
            prepared = waiting[0].prepared
            # In the client's order: only what stands together may go together.
            count = next((at for at, item in enumerate(waiting) if item.prepared is not prepared), len(waiting))
            group, waiting = waiting[:count], waiting[count:]
            for portal in {id(item.portal): item.portal for item in group if item.portal is not None}.values():
                await know_values(self._executor.types, portal)
            connection = await self.by_name.knowing(prepared)
            made = request(connection.statements, group, None)
            made.add(encode.SYNC, SWALLOWED_SYNC)
            connection.send(b"".join(made.data), made.owed)
            with self.names.lists.placing(prepared):
                [answer] = await Relay([connection], self._client, asks=True).run()
            prepared.take(answer.parameters, answer.columns)
            prepared.accepted = True

    async def _answer(self, answer: bytes) -> None:
        """Give an answer of the proxy's own, after all that came earlier."""
        await self.settle()
        self._client.write(answer)

    # Messages.

    async def _parse(self, parse: decode.Parse, key: bytes) -> None:
        if not parse.name:
            # Also if this Parse fails.
            self.names.statements.pop(b"", None)
        text = self._client.text(parse.sql)
        statements = await self._executor.read(text, self.settle)
        if len(statements) > 1:
            raise PgError(SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
        [statement] = statements
        if statement.kind not in ALLOWED_IN_FAILED:
            self._transaction.check()
        await self._executor.types.know(parse.oids, defined=self._transaction.defined)
        read_by = tuple(map(self._client.parameters.get, READ_BY))
        if parse.name and (taken := self.names.statements.get(parse.name)) is not None:
            await self.settle()
            if taken.key != key:
                await self.by_name.check(Prepared(text, statement, parse.oids, OWN, read_by=read_by))
            raise PgError(DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{shown(parse.name)}" already exists')
        blank = not parse.oids and self.by_name.is_blank(statement)
        prepared = Prepared(text, statement, parse.oids, parse.name, key, read_by=read_by, blank=blank)
        if unprepared(statement):
            await self._answer(encode.PARSE_COMPLETE)
            prepared.accepted = True
        else:
            self.waiting.append(Pending(Expect.PARSE, prepared))
        self.names.statements[parse.name] = prepared

    async def _bind(self, bind: decode.Bind) -> None:
        prepared = self.names.statement(bind.statement)
        check_parameters(prepared, bind)
        if prepared.statement.kind not in ALLOWED_IN_FAILED or prepared.statement.kind is Kind.EMPTY:
            self._transaction.check()
        if bind.portal and await self.by_name.is_taken(bind.portal):
            raise PgError(DUPLICATE_CURSOR, f'cursor "{shown(bind.portal)}" already exists')
        portal = Portal(prepared, bind, depth=self._transaction.log.depth)
        if unprepared(prepared.statement):
            await self._answer(encode.BIND_COMPLETE)
        else:
            self.waiting.append(Pending(Expect.BIND, prepared, portal))
        self.names.bind(portal)
        if any(code not in TEXT_AND_BINARY for code in bind.param_formats):
            # Nothing can be read or routed by such a value: let a shard refuse it at once, as PostgreSQL does.
            await self.settle()

    async def _describe(self, target: decode.Target) -> None:
        if target.kind == b"P":
            await self._describe_portal(target.name)
            return
        prepared = self.names.statement(target.name)
        if unprepared(prepared.statement) or prepared.blank:
            await self._answer(encode.parameter_description(()) + encode.NO_DATA)
        elif self._transaction.state == FAILED:
            await self.settle()
            await describe_in_failed(prepared, self._shards, self._client)
        else:
            self.waiting.append(Pending(Expect.DESCRIBE_STATEMENT, prepared))

    async def _describe_portal(self, name: bytes) -> None:
        cursor = await self.by_name.find_cursor(name)
        if cursor is not None:
            await self.settle()
            self._transaction.check()
            cursor.send(encode.describe(b"P", name) + encode.SYNC, (Owed(Expect.DESCRIBE_PORTAL), SWALLOWED_SYNC))
            await Relay([cursor], self._client).run()
            return
        if not self.names.failed.get(name, True):
            await self._answer(encode.NO_DATA)
            return
        portal = self.names.portal(name)
        if unprepared(portal.prepared.statement):
            await self._answer(encode.NO_DATA)
        else:
            self._transaction.check()
            self.waiting.append(Pending(Expect.DESCRIBE_PORTAL, portal.prepared, portal))

    async def _execute(self, execute: decode.Execute) -> None:
        client, transaction = self._client, self._transaction
        cursor = await self.by_name.find_cursor(execute.portal)
        if cursor is not None:
            await self.settle()
            transaction.check()
            self._end(await run_cursor(self._executor, cursor, execute.portal, execute.max_rows))
            return
        if self.names.failed.get(execute.portal, True) is None:
            await self._answer(encode.EMPTY_QUERY_RESPONSE)
            return
        portal = self.names.portal(execute.portal)
        statement = portal.prepared.statement
        if statement.kind not in ALLOWED_IN_FAILED:
            transaction.check()
        if not all(item.about(portal) for item in self.waiting):
            await self.settle()
        if portal.done or portal.broken:
            await self.settle()
            self._again(portal, execute)
            return
        if portal.prepared.takes_binary(portal.bind) or self.names.is_ambiguous(portal.prepared):
            # Such a value cannot be read without its type.
            await self.settle()
            await self._executor.describe(portal.prepared)
        await know_values(self._executor.types, portal)
        alone = False
        if not is_copy_in(statement) and not self.executed:
            # A Sync that has already come tells that this is the only statement of its transaction.
            alone = client.stream.next_type == F.SYNC or by_itself(statement)
        first, self.executed = not self.executed, self.executed or statement.kind is not Kind.EMPTY
        if not alone and statement.kind not in LOCAL:
            self._transactions.begin_implicit()
        self.names.running = portal
        if is_copy_in(statement):
            await self.settle()
            outcome = Outcome(await self._copies.run(statement, portal.prepared.text))
        else:
            outcome = await self._run(portal, execute)
        if alone:
            await self._transactions.end_implicit(outcome.tag)
        elif first and isinstance(statement, Set) and statement.local and transaction.state == IMPLICIT:
            what = "SET TRANSACTION" if statement.name.startswith("TRANSACTION") else "SET LOCAL"
            client.warn(NO_ACTIVE_SQL_TRANSACTION, f"{what} can only be used in transaction blocks")
        portal.done, self.names.running = not outcome.suspended, None
        self._end(outcome)
        await self._together.run(portal.prepared)
        await client.stream.drain()
        if statement.kind in {Kind.COMMIT, Kind.ROLLBACK} and not transaction.open:
            self.executed = False
            self.names.forget_portals()

    def _end(self, outcome: Outcome) -> None:
        if outcome.suspended:
            self._client.write(encode.PORTAL_SUSPENDED)
        else:
            self._client.complete(outcome.tag)

    def _again(self, portal: Portal, execute: decode.Execute) -> None:
        """Answer Execute of a portal that has been run to its end, or has failed."""
        tag, empty = tag_again(portal), portal.prepared.statement.kind is Kind.EMPTY
        if tag is None and not empty:
            raise PgError(OBJECT_NOT_IN_PREREQUISITE_STATE, f'portal "{shown(execute.portal)}" cannot be run')
        self._client.complete(None if empty else tag)

    async def _run(self, portal: Portal, execute: decode.Execute) -> Outcome:
        prepared = portal.prepared
        statement = prepared.statement
        if isinstance(statement, BY_NAME):
            await self.settle()
            if (tag := await self.by_name.run(statement, prepared.text)) is not None:
                return Outcome(tag)
        if (done := await self.signals.executed(portal, execute.max_rows, self.settle)) is not None:
            return done
        sets = isinstance(statement, Select) and statement.sets_config
        rowless = sets or (isinstance(statement, Modify) and not statement.returning)
        if portal.reading is not None or (execute.max_rows > 0 and statement.kind in PIECEWISE and not rowless):
            pending, self.waiting = self.waiting, []
            with self.names.lists.placing(prepared):
                outcome = await run_in_pieces(self._executor, portal, execute.portal, execute.max_rows, pending)
            prepared.accepted = True
            return outcome
        pending = self.waiting

        def send(connection: Connection) -> None:
            self.waiting = []
            self.names.lists.renew(prepared)
            made = request(connection.statements, pending, portal)
            made.add(encode.execute(b""), EXECUTED)
            made.add(encode.SYNC, SWALLOWED_SYNC)
            connection.send(b"".join(made.data), made.owed)

        def send_returning(connection: Connection, more: bytes) -> None:
            self.waiting = []
            send_with(connection, pending, portal, more)

        sql = prepared.text.encode(run_as(statement))
        with self.names.lists.placing(prepared):
            outcome = await self._executor.run(statement, sql, portal.parameters(), send, send_returning)
        prepared.accepted = True
        if outcome.tag in {"DISCARD ALL", "DEALLOCATE ALL"}:
            self.names.forget_statements()
        self._executor.offers.prepared(prepared)
        return outcome

    async def _close(self, target: decode.Target) -> None:
        await self.settle()
        if target.kind == b"S":
            self.names.drop_statement(target.name)
        elif (cursor := await self.by_name.find_cursor(target.name)) is not None:
            cursor.statements.close_portal(target.name)
            self._executor.cursor_closed(shown(target.name))
        else:
            self.names.drop_portal(target.name)
        self._client.write(encode.CLOSE_COMPLETE)
