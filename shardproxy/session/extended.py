"""The extended query protocol of one client. Manual: "Extended Query".

Messages between two Syncs are one implicit transaction. An error makes all up to the next Sync be skipped. What a
shard has to do for Parse, Bind, Describe and Execute goes to it in one piece at Execute, so a statement that a
driver sends at once costs one round trip; answers that wait for it (`_owed`) are sent when the shard agrees. What
waits is never more than one Execute can bring to a shard; all else is settled first, so answers keep their order.

Execute with a row limit is `limited`'s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shardproxy.engine.copy_in import is_copy_in
from shardproxy.engine.copy_out import is_copy_out
from shardproxy.engine.engine import SUSPENDED
from shardproxy.errors import PgError
from shardproxy.session.limited import PIECEWISE, run_cursor, run_limited
from shardproxy.session.portals import Portal, Prepared
from shardproxy.sql import Deallocate, Kind, Select, Statement
from shardproxy.sqlstate import (
    DUPLICATE_PREPARED_STATEMENT,
    INVALID_CURSOR_NAME,
    INVALID_SQL_STATEMENT_NAME,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    PROTOCOL_VIOLATION,
    SYNTAX_ERROR,
)
from shardproxy.transaction.state import FAILED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F
from shardproxy.wire.errors import decoded
from shardproxy.wire.framing import Message

if TYPE_CHECKING:
    from shardproxy.backend.connection import Connection
    from shardproxy.session.session import Session

DUPLICATE_CURSOR = "42P03"

_SHARD_NAME = re.compile(r'(portal )?"(shardproxy_[0-9]+)"')

TEXT_AND_BINARY = (0, 1)
"""The format codes of the protocol."""

LOCAL = frozenset({
    Kind.EMPTY, Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO,
})  # fmt: skip
"""Kinds that the engine answers without preparing them on a shard."""


def _unprepared(statement: Statement) -> bool:
    """Whether a statement is never prepared on a shard.

    COPY goes to the shards as a simple query; PostgreSQL, too, looks at nothing but its grammar before Execute.
    """
    return statement.kind in LOCAL or is_copy_in(statement) or is_copy_out(statement)


TYPES = frozenset({F.PARSE, F.BIND, F.DESCRIBE, F.EXECUTE, F.CLOSE, F.FLUSH, F.SYNC})
"""The messages of the extended protocol."""

ENDING = frozenset({Kind.COMMIT, Kind.ROLLBACK})

ALLOWED_IN_FAILED = frozenset({Kind.COMMIT, Kind.ROLLBACK, Kind.ROLLBACK_TO, Kind.EMPTY})


class Extended:
    """Prepared statements, portals and the current batch of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Portal] = {}
        self._owed: list[bytes] = []
        self._unchecked: dict[bytes, Prepared] = {}  # parsed by us, not yet by a shard
        self._unbound: dict[bytes, Portal] = {}  # bound by us, not yet by a shard
        self._describing: Portal | None = None  # whose description comes behind all that is owed
        self._following: Message | None = None
        self._executed = False
        self._asked = False  # a shard was asked for what the current message wants
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
            await self._sync(message.payload)
            return
        if self.skipping:
            return
        self._asked = False
        try:
            if self._describing is not None and message.type != F.EXECUTE:
                await self._settle()
            match message.type:
                case F.PARSE:
                    await self._parse(decoded(decode.parse, message.payload))
                case F.BIND:
                    await self._bind(decoded(decode.bind, message.payload))
                case F.DESCRIBE:
                    await self._describe(decoded(decode.describe, message.payload))
                case F.EXECUTE:
                    await self._execute(decoded(decode.execute, message.payload))
                case F.CLOSE:
                    self._close(decoded(decode.close, message.payload))
                case _:
                    await self._settle()
        except PgError as error:
            self.skipping = True
            await self._failed(await self._first_error(error))

    async def end_batch(self) -> None:
        """A simple Query follows: bring what is under way to its end."""
        try:
            await self._settle()
        except PgError:
            self._give_up()
            raise
        self._executed = False
        self._statements.pop(b"", None)
        self._drop_portal(b"")
        await self._session.engine.end_implicit()

    async def _sync(self, payload: bytes) -> None:
        session = self._session
        try:
            if payload:
                raise PgError(PROTOCOL_VIOLATION, "invalid message format")
            if not self.skipping:
                await self._settle()
                await session.engine.end_implicit()
        except PgError as error:
            await self._failed(error)
        self.skipping = False
        self._executed = False
        session.ready()

    # Answers that wait.

    def _pay(self) -> None:
        """Send the answers that are owed: a shard has agreed to all that they say."""
        self._unchecked.clear()
        self._unbound.clear()
        for answer in self._owed:
            self._session.stream.write(answer)
        self._owed.clear()

    def _agreed(self, kind: int) -> None:
        """A shard has accepted the Parse or the Bind of the portal that is executed."""
        if kind == B.BIND_COMPLETE:
            self._pay()
        elif encode.PARSE_COMPLETE in self._owed:
            self._unchecked.clear()
            paid = len(self._owed) - self._owed[::-1].index(encode.PARSE_COMPLETE)
            for answer in self._owed[:paid]:
                self._session.stream.write(answer)
            del self._owed[:paid]

    async def _first_error(self, error: PgError) -> PgError:
        """Say what is owed in front of an error that no shard has said; what it waited for may fail before."""
        if not self._asked and self._owed:
            try:
                await self._settle()
            except PgError as earlier:
                return earlier
        return error

    async def _failed(self, error: PgError) -> None:
        self._say_own_names(error)
        self._give_up()
        await self._session.failed(error)

    def _say_own_names(self, error: PgError) -> None:
        """Name statements and portals in a shard's error as the client does."""
        names = {prepared.shard_name: name for name, prepared in self._statements.items() if name}
        names |= {portal.reading.name: name for name, portal in self._portals.items() if portal.reading is not None}

        def own(match: re.Match[str]) -> str:
            name = names.get(match[2].encode())
            if name is None:
                return match[0]
            what = match[1] or ""
            return f'{what}"{name.decode("utf-8", "surrogateescape")}"' if name else f"unnamed {what.rstrip()}"

        for field in "MDW":
            if field in error.fields:
                error.fields[field] = _SHARD_NAME.sub(own, error.fields[field])

    def _give_up(self) -> None:
        """Forget what no shard has agreed to, and all portals: they end with the transaction."""
        for name, prepared in self._unchecked.items():
            if self._statements.get(name) is prepared:
                del self._statements[name]
        self._unchecked.clear()
        self._owed.clear()
        self.forget_portals()

    def forget_portals(self) -> None:
        """The transaction is over."""
        for name in list(self._portals):
            self._drop_portal(name)
        self._unbound.clear()
        self._describing = None

    def _drop_portal(self, name: bytes) -> None:
        portal = self._portals.pop(name, None)
        if portal is not None and portal.reading is not None:
            portal.reading.close()
            if portal.reading.cursor:
                self._session.engine.cursor_closed(portal.reading.cursor)

    def _cursor(self, name: bytes) -> Connection | None:
        """Return where SQL has opened a cursor of this name, if it is that and no portal of ours."""
        if name in self._portals:
            return None
        return self._session.engine.cursor_at(name.decode(errors="surrogateescape"))

    async def _settle(self) -> None:
        """Have a shard check and describe what no Execute has brought to one yet, and say all that is owed."""
        if self._unchecked or self._unbound or self._describing is not None:
            for prepared in list(self._unchecked.values()):
                connection = await self._knowing(prepared)
                await self._ask(connection, prepared.prepare_on(connection))
                self._agreed(B.PARSE_COMPLETE)
            for portal in self._unbound.values():
                if portal is not self._describing:
                    connection = await self._knowing(portal.prepared)
                    await self._ask(connection, portal.bind_on(connection, b""))
            describing, self._describing = self._describing, None
            if describing is not None:
                describing.describe = False
                connection = await self._knowing(describing.prepared)
                request = describing.bind_on(connection, b"") + encode.describe(b"P", b"")
                answers = await self._ask(connection, request)
                self._pay()
                self._say_rows(answers)
        self._pay()

    def _say_rows(self, answers: list[Message]) -> None:
        for answer in answers:
            if answer.type in {B.ROW_DESCRIPTION, B.NO_DATA}:
                self._session.stream.write(encode.message(answer.type, answer.payload))

    async def _knowing(self, prepared: Prepared) -> Connection:
        """Return a connection to a shard that has the statement's relations: the home shard, if not a lone other."""
        engine = self._session.engine
        await engine.gang.open_home()
        [connection] = await engine.gang.join([await engine.resolver.knowing(prepared.statement)])
        return connection

    async def _ask(self, connection: Connection, request: bytes) -> list[Message]:
        """Send messages and a Sync to one shard; return the answers, raise its error."""
        self._asked = True
        connection.write(request + encode.SYNC)
        answers: list[Message] = []
        error: PgError | None = None
        while (message := await connection.read()).type != B.READY_FOR_QUERY:
            if message.type == B.ERROR_RESPONSE:
                error = connection.error(message)
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
        if self._unchecked or self._unbound:
            await self._settle()
        prepared = Prepared(text, statement, parse.oids, unnamed=not parse.name)
        self._statements[parse.name] = prepared
        self._owed.append(encode.PARSE_COMPLETE)
        if not _unprepared(statement):
            self._unchecked[parse.name] = prepared

    async def _bind(self, bind: decode.Bind) -> None:
        prepared = self._statement(bind.statement)
        if prepared.statement.kind not in ALLOWED_IN_FAILED:
            self._session.engine.transaction.check()
        if bind.portal and bind.portal in self._portals:
            name = bind.portal.decode(errors="surrogateescape")
            raise PgError(DUPLICATE_CURSOR, f'cursor "{name}" already exists')
        if self._unbound or any(prepared is not other for other in self._unchecked.values()):
            await self._settle()
        self._drop_portal(bind.portal)
        portal = self._portals[bind.portal] = Portal(prepared, bind)
        self._owed.append(encode.BIND_COMPLETE)
        if not _unprepared(prepared.statement):
            self._unbound[bind.portal] = portal
        if any(code not in TEXT_AND_BINARY for code in bind.param_formats):
            # Nothing can be read or routed by such a value: let a shard refuse it at once, as PostgreSQL does.
            await self._settle()

    async def _describe(self, target: decode.Target) -> None:
        if target.kind == b"P":
            cursor = self._cursor(target.name)
            if cursor is not None:
                await self._settle()
                self._session.engine.transaction.check()
                self._say_rows(await self._ask(cursor, encode.describe(b"P", target.name)))
                return
            portal = self._portal(target.name)
            if _unprepared(portal.prepared.statement):
                self._owed.append(encode.NO_DATA)
            else:
                self._session.engine.transaction.check()
                portal.describe = True
                self._describing = portal
            return
        prepared = self._statement(target.name)
        if _unprepared(prepared.statement):
            self._owed += [encode.parameter_description(()), encode.NO_DATA]
            return
        if self._unbound or any(prepared is not other for other in self._unchecked.values()):
            await self._settle()
        answers = await self._describe_statement(prepared)
        self._pay()
        for answer in answers:
            if answer.type in {B.PARAMETER_DESCRIPTION, B.ROW_DESCRIPTION, B.NO_DATA}:
                self._session.stream.write(encode.message(answer.type, answer.payload))

    async def _describe_statement(self, prepared: Prepared) -> list[Message]:
        engine = self._session.engine
        failed = engine.transaction.state == FAILED
        # In a failed transaction none can prepare it any more.
        standing = [one for one in engine.gang.connections if prepared.is_on(one)] if failed else []
        if not standing:
            engine.transaction.check()
        connection = standing[0] if standing else await self._knowing(prepared)
        request = prepared.prepare_on(connection) + encode.describe(b"S", prepared.shard_name)
        answers = await self._ask(connection, request)
        if failed and any(answer.type == B.ROW_DESCRIPTION for answer in answers):
            # As PostgreSQL, which would have to read its catalog to describe rows.
            engine.transaction.check()
        for answer in answers:
            if answer.type == B.PARAMETER_DESCRIPTION:
                prepared.oids = decode.parameter_description(answer.payload)
                prepared.described = True
        return answers

    async def _execute(self, execute: decode.Execute) -> None:
        session = self._session
        cursor = self._cursor(execute.portal)
        if cursor is not None:
            await self._settle()
            session.engine.transaction.check()
            self._asked = True
            tag = await run_cursor(session.engine, cursor, execute.portal, execute.max_rows)
            if tag == SUSPENDED:
                session.stream.write(encode.PORTAL_SUSPENDED)
            else:
                session.complete(tag)
            return
        portal = self._portal(execute.portal)
        statement = portal.prepared.statement
        if statement.kind not in ALLOWED_IN_FAILED:
            session.engine.transaction.check()
        if (
            self._describing not in {None, portal}
            or any(portal is not other for other in self._unbound.values())
            or any(portal.prepared is not other for other in self._unchecked.values())
        ):
            await self._settle()
        if _unprepared(statement):
            self._pay()
        if portal.done:
            self._again(statement, execute)
            return
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
            tag = await session.copy_in(statement, portal.prepared.text)
        else:
            tag = await self._run(portal, execute)
        if alone:
            await session.engine.end_implicit()
        self._pay()
        if tag == SUSPENDED:
            session.stream.write(encode.PORTAL_SUSPENDED)
        else:
            portal.done = True
            session.complete(tag)
        await session.stream.drain()
        if statement.kind in ENDING and not session.engine.transaction.open:
            self.forget_portals()

    def _again(self, statement: Statement, execute: decode.Execute) -> None:
        """Answer Execute of a portal that has been run to its end."""
        if statement.kind is Kind.EMPTY:
            self._session.complete(None)
            return
        if statement.kind is not Kind.SELECT:
            name = execute.portal.decode(errors="surrogateescape")
            raise PgError(OBJECT_NOT_IN_PREREQUISITE_STATE, f'portal "{name}" cannot be run')
        self._session.complete("SELECT 0")

    async def _run(self, portal: Portal, execute: decode.Execute) -> str | None:
        engine = self._session.engine
        self._describing = None
        statement = portal.prepared.statement
        if isinstance(statement, Deallocate) and self.deallocate(statement):
            self._pay()
            return statement.tag
        sets = isinstance(statement, Select) and statement.sets_config
        if portal.reading is not None or (execute.max_rows > 0 and statement.kind in PIECEWISE and not sets):
            self._asked = True
            return await run_limited(engine, portal, execute.portal, execute.max_rows, self._agreed)
        describe, portal.describe = portal.describe, False
        described = encode.describe(b"P", b"") if describe else b""

        def request(connection: Connection) -> None:
            self._asked = True
            connection.write(portal.bind_on(connection, b"") + described + encode.execute(b"") + encode.SYNC)

        prepared = portal.prepared
        return await engine.run(
            prepared.statement,
            prepared.text.encode(prepared.statement.text),
            request=request,
            params=portal.parameters(),
            describe=describe,
            on_agreed=self._agreed,
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
            self._drop_statement(target.name)
        elif (cursor := self._cursor(target.name)) is not None:
            cursor.closing.append(encode.close(b"P", target.name))
            self._session.engine.cursor_closed(target.name.decode(errors="surrogateescape"))
        else:
            self._drop_portal(target.name)
        self._owed.append(encode.CLOSE_COMPLETE)

    def _drop_statement(self, name: bytes) -> None:
        prepared = self._statements.pop(name, None)
        if prepared is not None:
            for connection in self._session.engine.gang.connections:
                prepared.close_on(connection)

    def deallocate(self, statement: Deallocate) -> bool:
        """DEALLOCATE by SQL what was prepared by protocol: one name space in PostgreSQL. Whether that was all."""
        name = (statement.name or "").encode(errors="surrogateescape")
        if not name or name not in self._statements:
            return False
        self._drop_statement(name)
        return True

    def forget_statements(self) -> None:
        """DISCARD ALL or DEALLOCATE ALL has run on the shards."""
        self._statements.clear()
        for connection in self._session.engine.gang.connections:
            connection.prepared.clear()
            connection.closing.clear()
            connection.forget_plans()

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
