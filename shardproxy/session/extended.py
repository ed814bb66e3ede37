"""The extended query protocol of one client. Manual: "Extended Query".

Messages between two Syncs are one implicit transaction. An error makes all up to the next Sync be skipped. What a
shard has to do for Parse, Bind, Describe and Execute goes to it in one piece at Execute, so a statement that a
driver sends at once costs one round trip; answers that wait for it (`_owed`) are sent when the shard agrees.

A portal of several shards that is read in pieces (Execute with a row limit) is read shard after shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardproxy.engine.copy_in import is_copy_in
from shardproxy.engine.engine import SUSPENDED
from shardproxy.errors import PgError
from shardproxy.plan import Kind
from shardproxy.session.limited import run_limited
from shardproxy.session.portals import Portal, Prepared
from shardproxy.sqlstate import (
    DUPLICATE_PREPARED_STATEMENT,
    INVALID_CURSOR_NAME,
    INVALID_SQL_STATEMENT_NAME,
    SYNTAX_ERROR,
)
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F
from shardproxy.wire.framing import Message

if TYPE_CHECKING:
    from shardproxy.backend.connection import Connection
    from shardproxy.session.session import Session

DUPLICATE_CURSOR = "42P03"

LOCAL = frozenset({
    Kind.EMPTY, Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO,
})  # fmt: skip
"""Kinds that the engine answers without preparing them on a shard."""

TYPES = frozenset({F.PARSE, F.BIND, F.DESCRIBE, F.EXECUTE, F.CLOSE, F.FLUSH, F.SYNC})
"""The messages of the extended protocol."""

ALLOWED_IN_FAILED = frozenset({Kind.COMMIT, Kind.ROLLBACK, Kind.ROLLBACK_TO, Kind.EMPTY})


class Extended:
    """Prepared statements, portals and the current batch of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self._owed: list[bytes] = []
        self._unchecked: dict[bytes, Prepared] = {}  # parsed by us, not yet by a shard
        self._following: Message | None = None
        self._executed = False
        self.skipping = False

    async def take(self, message: Message) -> None:
        """Serve one message, and the one behind it if that was looked at."""
        await self._take(message)
        while self._following is not None:
            following, self._following = self._following, None
            if following.type not in TYPES:
                self._session.put_back(following)
                return
            await self._take(following)

    async def _take(self, message: Message) -> None:
        if message.type == F.SYNC:
            await self._sync()
            return
        if self.skipping:
            return
        try:
            match message.type:
                case F.PARSE:
                    await self._parse(decode.parse(message.payload))
                case F.BIND:
                    self._bind(decode.bind(message.payload))
                case F.DESCRIBE:
                    await self._describe(decode.describe(message.payload))
                case F.EXECUTE:
                    await self._execute(decode.execute(message.payload))
                case F.CLOSE:
                    self._close(decode.close(message.payload))
                case _:
                    await self._settle()
        except PgError as error:
            self._drop_unchecked()
            self._owed.clear()
            self.skipping = True
            await self._session.failed(error)

    async def end_batch(self) -> None:
        """A simple Query follows: bring what is under way to its end."""
        await self._settle()
        self._executed = False
        self._statements.pop(b"", None)
        await self._session.engine.end_implicit()

    async def _sync(self) -> None:
        session = self._session
        try:
            if not self.skipping:
                await self._settle()
                await session.engine.end_implicit()
        except PgError as error:
            self._drop_unchecked()
            self._owed.clear()
            await session.failed(error)
        self.skipping = False
        self._executed = False
        if not session.engine.transaction.open:
            self._portals.clear()
        session.ready()

    # Answers that wait.

    def _pay(self) -> None:
        """Send the answers that are owed: a shard has agreed to all that they say."""
        self._unchecked.clear()
        for answer in self._owed:
            self._session.stream.write(answer)
        self._owed.clear()

    def _drop_unchecked(self) -> None:
        for name, prepared in self._unchecked.items():
            if self._statements.get(name) is prepared:
                del self._statements[name]
        self._unchecked.clear()

    async def _settle(self) -> None:
        """Have a shard check the statements and describe the portals that no Execute has brought to one yet."""
        for prepared in list(self._unchecked.values()):
            connection = await self._home()
            await self._ask(connection, prepared.prepare_on(connection))
        self._pay()
        for portal in self._portals.values():
            if portal.describe:
                portal.describe = False
                await self._describe_portal(portal)

    async def _home(self) -> Connection:
        gang = self._session.engine.gang
        await gang.open_home()
        [connection] = await gang.join([gang.home])
        return connection

    async def _ask(self, connection: Connection, request: bytes) -> list[Message]:
        """Send messages and a Sync to one shard; return the answers, raise its error."""
        connection.write(request + encode.SYNC)
        answers: list[Message] = []
        error: PgError | None = None
        while (message := await connection.read()).type != B.READY_FOR_QUERY:
            if message.type == B.ERROR_RESPONSE:
                error = PgError.from_fields(decode.fields(message.payload))
            answers.append(message)
        if error is not None:
            connection.prepared.clear()
            raise error
        return answers

    # Messages.

    async def _parse(self, parse: decode.Parse) -> None:
        session = self._session
        text = session.text(parse.sql)
        statements = session.analyze(text)
        if len(statements) > 1:
            raise PgError(SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
        [statement] = statements
        if statement.kind not in ALLOWED_IN_FAILED:
            session.engine.transaction.check()
        if parse.name and parse.name in self._statements:
            name = parse.name.decode(errors="surrogateescape")
            raise PgError(DUPLICATE_PREPARED_STATEMENT, f'prepared statement "{name}" already exists')
        if b"" in self._unchecked and not parse.name:
            await self._settle()
        prepared = Prepared(text, statement, parse.oids, unnamed=not parse.name)
        self._statements[parse.name] = prepared
        self._owed.append(encode.PARSE_COMPLETE)
        if statement.kind not in LOCAL:
            self._unchecked[parse.name] = prepared

    def _bind(self, bind: decode.Bind) -> None:
        prepared = self._statement(bind.statement)
        if prepared.statement.kind not in ALLOWED_IN_FAILED:
            self._session.engine.transaction.check()
        if bind.portal and bind.portal in self._portals:
            name = bind.portal.decode(errors="surrogateescape")
            raise PgError(DUPLICATE_CURSOR, f'cursor "{name}" already exists')
        self._portals[bind.portal] = Portal(prepared, bind)
        self._owed.append(encode.BIND_COMPLETE)

    async def _describe(self, target: decode.Target) -> None:
        if target.kind == b"P":
            portal = self._portal(target.name)
            if portal.prepared.statement.kind in LOCAL:
                self._owed.append(encode.NO_DATA)
            else:
                portal.describe = True
            return
        prepared = self._statement(target.name)
        if prepared.statement.kind in LOCAL:
            self._owed += [encode.parameter_description(()), encode.NO_DATA]
            return
        answers = await self._describe_statement(prepared)
        self._pay()
        for answer in answers:
            if answer.type in {B.PARAMETER_DESCRIPTION, B.ROW_DESCRIPTION, B.NO_DATA}:
                self._session.stream.write(encode.message(answer.type, answer.payload))

    async def _describe_statement(self, prepared: Prepared) -> list[Message]:
        connection = await self._home()
        request = prepared.prepare_on(connection) + encode.describe(b"S", prepared.shard_name)
        answers = await self._ask(connection, request)
        for answer in answers:
            if answer.type == B.PARAMETER_DESCRIPTION:
                prepared.oids = decode.parameter_description(answer.payload)
                prepared.described = True
        return answers

    async def _describe_portal(self, portal: Portal) -> None:
        connection = await self._home()
        answers = await self._ask(connection, portal.bind_on(connection, b"") + encode.describe(b"P", b""))
        for answer in answers:
            if answer.type in {B.ROW_DESCRIPTION, B.NO_DATA}:
                self._session.stream.write(encode.message(answer.type, answer.payload))

    async def _execute(self, execute: decode.Execute) -> None:
        session = self._session
        portal = self._portal(execute.portal)
        statement = portal.prepared.statement
        await self._know_types(portal)
        alone = False
        if not is_copy_in(statement):
            # A Sync that has already come tells that this is the only statement of its transaction.
            self._following = session.stream.take()
            alone = not self._executed and self._following is not None and self._following.type == F.SYNC
        self._executed = True
        if not alone and statement.kind not in LOCAL:
            session.engine.begin_implicit()
        if is_copy_in(statement):
            self._pay()
            tag: str | None = await session.copy_in(statement, portal.prepared.text)
        else:
            tag = await self._run(portal, execute)
        if alone:
            await session.engine.end_implicit()
        self._pay()
        if tag == SUSPENDED:
            session.stream.write(encode.PORTAL_SUSPENDED)
        else:
            session.complete(tag)
        await session.stream.drain()
        if statement.tag in {"DISCARD ALL", "DEALLOCATE ALL"}:
            self._forget_statements()

    async def _run(self, portal: Portal, execute: decode.Execute) -> str | None:
        engine = self._session.engine
        if execute.max_rows > 0:
            return await run_limited(engine, portal, execute.portal, execute.max_rows, self._pay)
        describe, portal.describe = portal.describe, False
        described = encode.describe(b"P", b"") if describe else b""

        def request(connection: Connection) -> None:
            connection.write(portal.bind_on(connection, b"") + described + encode.execute(b"") + encode.SYNC)

        prepared = portal.prepared
        return await engine.run(
            prepared.statement,
            prepared.text.encode(prepared.statement.text),
            request=request,
            params=portal.parameters(),
            describe=describe,
            on_bound=self._pay,
        )

    async def _know_types(self, portal: Portal) -> None:
        """Find the parameters' types out where a binary value cannot be read without."""
        prepared = portal.prepared
        if prepared.described or not any(portal.bind.param_formats):
            return
        if len(prepared.oids) < len(portal.bind.params) or 0 in prepared.oids:
            await self._describe_statement(prepared)

    def _close(self, target: decode.Target) -> None:
        if target.kind == b"S":
            self._statements.pop(target.name, None)
        else:
            self._portals.pop(target.name, None)
        self._owed.append(encode.CLOSE_COMPLETE)

    def _forget_statements(self) -> None:
        self._statements.clear()
        self._portals.clear()
        for connection in self._session.engine.gang.connections:
            connection.prepared.clear()

    def _statement(self, name: bytes) -> Prepared:
        prepared = self._statements.get(name)
        if prepared is None:
            if not name:
                raise PgError(INVALID_SQL_STATEMENT_NAME, "unnamed prepared statement does not exist")
            shown = name.decode(errors="surrogateescape")
            raise PgError(INVALID_SQL_STATEMENT_NAME, f'prepared statement "{shown}" does not exist')
        return prepared

    def _portal(self, name: bytes) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            shown = name.decode(errors="surrogateescape")
            raise PgError(INVALID_CURSOR_NAME, f'portal "{shown}" does not exist')
        return portal
