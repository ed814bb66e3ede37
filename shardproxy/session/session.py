"""One client behind its login: the message loop, simple queries, and COPY FROM STDIN's side of the protocol.

Statements are the engine's; the extended protocol is `extended`'s. This module decides what the client reads:
exactly one ReadyForQuery per Query or Sync, no answer written in part.

Cancellation. A client that disconnects cancels the task, except while a commit is being carried out: a commit
goes on without its client, so that it ends as all or none and never in between.
"""

import asyncio
import logging

from shardproxy.backend.stream import Stream
from shardproxy.copy.encoding import Text
from shardproxy.engine.copy_in import CopyIn, is_copy_in
from shardproxy.engine.database import Database
from shardproxy.engine.engine import Engine
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.session import extended
from shardproxy.session.cancel import CancelKeys
from shardproxy.session.extended import Extended
from shardproxy.session.login import Identity
from shardproxy.sql import CopyFrom, Deallocate, Statement, analyze
from shardproxy.sqlstate import ADMIN_SHUTDOWN, FEATURE_NOT_SUPPORTED, QUERY_CANCELED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import F
from shardproxy.wire.errors import decoded
from shardproxy.wire.framing import Message

log = logging.getLogger(__name__)

FORGETTING = frozenset({"DISCARD ALL", "DEALLOCATE ALL"})
"""Tags of what ends all prepared statements."""

ABANDON_PATIENCE = 2.0
"""Seconds that the shards have to end a COPY whose client is gone, before their connections are closed instead: the
locks that the others hold must not wait for one that stalls."""

COPY = frozenset({F.COPY_DATA, F.COPY_DONE, F.COPY_FAIL})


class Session:
    """A client that has logged in."""

    def __init__(self, stream: Stream, identity: Identity, database: Database, cancel_keys: CancelKeys) -> None:
        self.stream = stream
        self.identity = identity
        self._cancel_keys = cancel_keys
        self.engine = Engine(database, identity.settings, stream, self._parameter)
        self._extended = Extended(self)
        self._statuses: dict[str, str] = {}
        self._busy = False
        self._put_back: Message | None = None
        self._task: asyncio.Task[None] | None = None
        self._drain: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cancelling: asyncio.Task[None] | None = None

    # The life of a session.

    async def run(self) -> None:
        """Serve the client until it leaves or must."""
        self._task = asyncio.current_task()
        self.stream.on_lost = self._client_lost
        pid = None
        try:
            for name, value in (await self.engine.start()).items():
                self._parameter(name, value)
            pid, key = self._cancel_keys.add(self, self.identity.version)
            self.stream.write(encode.backend_key_data(pid, key))
            self.ready()
            while await self._next():
                pass
        except asyncio.CancelledError:
            if not self.stream.lost:
                self.stream.write(encode.error_response(_shutdown().fields))
            raise
        finally:
            self.stream.on_lost = None
            if pid is not None:
                self._cancel_keys.remove(pid)
            await asyncio.shield(self.engine.close())

    async def _next(self) -> bool:
        """Serve one message; False when the session is over."""
        message, self._put_back = self._put_back, None
        if message is None:
            draining = None if self.engine.transaction.open else self._drain
            message = await self.stream.read(until=draining)
        if message is None:
            raise _shutdown()
        if message.type in COPY:
            # What a client had under way when its COPY failed.
            return True
        if self._extended.skipping and message.type not in {F.SYNC, F.TERMINATE}:
            return True
        self.stream.untap()
        if message.type == F.TERMINATE:
            return False
        self._busy = True
        self.engine.watch.start()
        try:
            if self._cancelling is not None:
                await self._cancelling
                self._cancelling = None
                self.engine.gang.cancelled = False
            if message.type == F.QUERY:
                await self._query(message.payload)
            elif message.type in extended.TYPES:
                await self._extended.take(message)
            else:
                self.send_error(
                    PgError(
                        FEATURE_NOT_SUPPORTED,
                        "function calls by protocol message are not supported through shardproxy",
                        hint="Call the function in a SELECT.",
                    )
                )
                self.ready()
        finally:
            self._busy = False
            await self.engine.watch.stop()
        await self.stream.drain()
        return True

    def put_back(self, message: Message) -> None:
        """Serve a message that was looked at after the current one."""
        self._put_back = message

    def cancel(self) -> None:
        """Cancel what runs now, if anything does."""
        if self._busy and (self._cancelling is None or self._cancelling.done()):
            self._cancelling = asyncio.ensure_future(self.engine.cancel())

    def drain(self) -> None:
        """End the session as soon as no transaction is open."""
        if not self._drain.done():
            self._drain.set_result(None)

    def _client_lost(self) -> None:
        if self._busy and not self.engine.committing and self._task is not None:
            self._task.cancel()

    # What the client reads.

    def ready(self) -> None:
        """Say ReadyForQuery."""
        if not self.engine.transaction.open:
            self._extended.forget_portals()
        self.stream.write(encode.ready_for_query(self.engine.transaction.ready_status))

    def send_error(self, error: PgError, offset: int = 0) -> None:
        """Say ErrorResponse; `offset` characters of the query stand in front of the statement."""
        if offset and "P" in error.fields:
            error.fields["P"] = str(int(error.fields["P"]) + offset)
        self.stream.write(encode.error_response(error.fields))

    def _parameter(self, name: str, value: str) -> None:
        """Say ParameterStatus, if the client has not heard it yet."""
        if self._statuses.get(name) != value:
            self._statuses[name] = value
            self.stream.write(encode.parameter_status(name, value))

    # Statements.

    def text(self, sql: bytes) -> Text:
        """Return the client's bytes as characters, in a way that gives the same bytes back."""
        return Text(sql, self._statuses.get("client_encoding", "UTF8"))

    def analyze(self, text: Text) -> tuple[Statement, ...]:
        """Parse; ParseFailed in PostgreSQL's words."""
        conforming = self._statuses.get("standard_conforming_strings", "on") == "on"
        return analyze(text.characters, standard_conforming_strings=conforming)

    async def _query(self, payload: bytes) -> None:
        """Serve a simple query: its statements are one implicit transaction if there are several."""
        offset = 0
        try:
            await self._extended.end_batch()
            text = self.text(decoded(decode.query, payload))
            statements = self.analyze(text)
            for statement in statements:
                if self.stream.lost:
                    raise ConnectionLost("the client left between two statements")
                if len(statements) > 1:
                    # Anew behind a COMMIT among them: what follows is one transaction again.
                    self.engine.begin_implicit()
                offset = statement.location
                tag = await self.run_statement(statement, text)
                if statement is statements[-1]:
                    # As PostgreSQL: the last tag is sent behind the commit, for it may still fail.
                    await self.engine.end_implicit()
                self.complete(tag)
                await self.stream.drain()
        except PgError as error:
            await self.failed(error, offset)
        self.ready()

    def complete(self, tag: str | None) -> None:
        """Say CommandComplete; None stands for an empty query."""
        if tag in FORGETTING:
            self._extended.forget_statements()
        self.stream.write(encode.EMPTY_QUERY_RESPONSE if tag is None else encode.command_complete(tag))

    async def failed(self, error: PgError, offset: int = 0) -> None:
        """Bring the transaction to where an error leaves it, and say the error. A broken protocol ends it all."""
        if isinstance(error, ProtocolError):
            raise error
        await self.engine.statement_failed()
        self.send_error(error, offset)

    async def run_statement(self, statement: Statement, text: Text) -> str | None:
        """Run one statement of a simple query; return its tag."""
        if is_copy_in(statement):
            return await self.copy_in(statement, text)
        if isinstance(statement, Deallocate):
            self.engine.transaction.check()
            if self._extended.deallocate(statement):
                return statement.tag
        return await self.engine.run(statement, text.encode(statement.text))

    async def copy_in(self, statement: CopyFrom, text: Text) -> str:
        """Serve COPY FROM STDIN up to its tag."""
        stream = self.stream
        copy = await self.engine.copy_in(statement, text.encode(statement.text), stream)
        stream.write(encode.copy_in_response(copy.response.format, copy.response.column_formats))
        # The tap stays after a failure: it drops what the client still sends, without a look at each message.
        stream.tap(copy.feed)
        # What the shards say meanwhile (NOTICEs) waits for a client that does not read, as on one server.
        stream.on_writable = self._client_writable
        if not stream.writable:
            self._client_writable(False)
        try:
            while True:
                message = await stream.read(until=copy.failed)
                if message is None:
                    raise await copy.stop("a row was refused")
                match message.type:
                    case F.COPY_DONE:
                        stream.untap()
                        return await copy.finish()
                    case F.COPY_FAIL:
                        stream.untap()
                        raise await self._client_failed(copy, message.payload)
                    case F.FLUSH | F.SYNC:
                        stream.tap(copy.feed)
                    case _:
                        raise ProtocolError(f"unexpected message type 0x{message.type:02X} during COPY from stdin")
        except (ConnectionLost, ProtocolError, asyncio.CancelledError):
            self._client_writable(True)
            await asyncio.shield(self._abandon(copy))
            raise
        finally:
            stream.on_writable = None
            self._client_writable(True)
            self.engine.copy_ended()

    def _client_writable(self, writable: bool) -> None:
        for connection in self.engine.gang.connections:
            if writable:
                connection.stream.resume_reading(self)
            else:
                connection.stream.pause_reading(self)

    @staticmethod
    async def _client_failed(copy: CopyIn, payload: bytes) -> PgError:
        """End the COPY at the client's CopyFail and return the error to report."""
        try:
            reason, malformed = decoded(decode.copy_fail, payload), None
        except PgError as error:
            reason, malformed = "malformed CopyFail", error
        failure = await copy.stop(reason, client_fail=True)
        if malformed is None or failure.sqlstate != QUERY_CANCELED:
            return failure
        malformed.fields["W"] = failure.context or ""
        return malformed

    @staticmethod
    async def _abandon(copy: CopyIn) -> None:
        """End the COPY of a client that is gone; a shard that stalls is left to the end of its connection."""
        try:
            async with asyncio.timeout(ABANDON_PATIENCE):
                await copy.abandon()
        except TimeoutError:
            log.info("a shard does not answer to the end of a COPY whose client is gone: its connection is closed")


def _shutdown() -> PgError:
    return PgError(ADMIN_SHUTDOWN, "terminating connection due to administrator command", severity="FATAL")
