"""One connection to one shard: messages in order, and what the server still owes. It knows no client, no other shard.

Driven by `connect.connect`; then `send` with what will be answered, and `read` up to ReadyForQuery, or a tap on
`stream` for bulk data. What a server may send at any time (NoticeResponse, ParameterStatus, NotificationResponse)
never reaches the reader: it goes to the callbacks, also while no statement runs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.net import dial
from shardproxy.net.stream import Stream
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.shard.statements import Statements
from shardproxy.sqlstate import QUERY_CANCELED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.framing import Message
from shardproxy.wire.replies import HOUSEKEEPING, SWALLOWED_QUERY, SWALLOWED_SYNC, Expect, Owed, Replies

IDLE, IN_TRANSACTION = b"IT"

READY_SIZE = len(encode.ready_for_query(b"I"))

ENDINGS = frozenset({"FATAL", "PANIC"})
"""Severities after which a server closes the connection."""


class Reply(NamedTuple):
    """A message that answers a request."""

    type: int
    payload: bytes
    owed: Owed


class Connection:
    """An authenticated connection to a shard."""

    def __init__(self, address: Address, stream: Stream, alive: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self.address = address
        self.stream = stream
        self.replies = Replies()
        self.parameters: dict[str, str] = {}
        self.statements = Statements(self.parameters)
        self.pid = 0
        self.secret = b""
        self.status = IDLE
        self.cancelling: asyncio.Task[None] | None = None
        self.cancelled_for: PgError | None = None
        """Why the proxy has cancelled what runs: the error to report."""
        self.on_notice: Callable[[dict[str, str]], None] | None = None
        self.on_parameter: Callable[[str, str], None] | None = None
        self.on_notification: Callable[[bytes], None] | None = None
        self._alive = alive
        self._reported: PgError | None = None
        self._stalled: asyncio.TimerHandle | None = None
        stream.on_idle_data = self.idle_data
        self._probing: asyncio.Future[bool] | None = None

    @property
    def name(self) -> str:
        """The shard's name in the configuration."""
        return self.address.name

    @property
    def usable(self) -> bool:
        """Whether the connection still stands."""
        return not self.stream.lost

    @property
    def busy(self) -> bool:
        """Whether the server owes an answer."""
        return bool(self.replies.queue) and self.usable

    # Requests and answers.

    def send(self, data: bytes, owed: Iterable[Owed]) -> None:
        """Queue whole messages, and note what the server will answer to them."""
        self.expect(owed)
        self.stream.write(data)

    def expect(self, owed: Iterable[Owed]) -> None:
        """Note what the server will answer to messages that are about to be written to the stream."""
        if not self.replies.queue:
            # A cancel that came too late does not give its reason to what comes next.
            self.cancelled_for = None
        self.replies.expect(owed)
        if self._stalled is None:
            self.watch_stall()

    def query(self, sql: bytes, owed: Iterable[Owed] = SWALLOWED_QUERY, data: bytes = b"") -> None:
        """Queue a simple Query, after the Close messages that wait; `data` are COPY's messages that come after it."""
        self.statements.queried()
        if self.statements.closes:
            self._aside()
        self.send(encode.query(sql) + data, owed)

    def _aside(self, data: bytes = b"", owed: Iterable[Owed] = ()) -> None:
        """Queue the Close messages that wait, and others that `read` is to pass over."""
        closing = self.statements.closing()
        close, sync = HOUSEKEEPING
        self.send(b"".join(closing) + data + encode.SYNC, [*[close] * len(closing), *owed, sync])

    def prepare(self, name: bytes, number: int, sql: bytes) -> None:
        """Have the server prepare a statement of the proxy's own, if it has not. If it cannot, EXECUTE fails: 26000."""
        if not self.statements.has(name, number):
            self.statements.parsed(name, number)
            self._aside(encode.parse(name, sql), [Owed(Expect.PARSE, forward=False, name=name, aside=True)])

    async def read(self) -> Reply:
        """Return the next message that answers a request; note the status of ReadyForQuery.

        A lost connection raises PgError 08006 that names the shard; so does an error by which the server ends it,
        since the client's own connection stands.
        """
        stream = self.stream
        # As `trusted`, which is a call of its own for each message.
        try:
            while True:
                message = stream.take() or await stream.message()
                if not self.asynchronous(message):
                    reply = self.answer(message)
                    if not reply.owed.aside:
                        return reply
        except ConnectionLost as error:
            raise self.lost_error(error) from error
        except ProtocolError as error:
            self.abort()
            raise self.lost_error(error) from error

    async def answered_by(self, expected: bytes) -> bool:
        """Wait for the answer to a Query, and read at once what was foreseen; tell whether it was that.

        `expected` are whole messages, to the answer's end if the last is ReadyForQuery. All else is left to `read`.
        """
        await self.stream.arrival()
        queue = self.replies.queue
        if not queue or queue[0].expect is not Expect.QUERY or not self.stream.take_expected(expected):
            return False
        if expected[-READY_SIZE] == B.READY_FOR_QUERY:
            queue.popleft()
            self._ready(expected[-1])
        return True

    def _ready(self, status: int) -> None:
        """A ReadyForQuery has come."""
        self.status = status
        if not self.replies.queue and self.stream.pending:
            # It has come together with what answers nothing, a notification or the reason of an end.
            asyncio.get_running_loop().call_soon(self.idle_data)

    def answer(self, message: Message) -> Reply:
        """Move on by one answer; ProtocolError for one that nothing asked for, 08006 for one that ends it all."""
        owed = self.replies.take(message.type)
        if message.type == B.READY_FOR_QUERY:
            self._ready(decode.ready_for_query(message.payload))
        elif message.type == B.ERROR_RESPONSE:
            for dropped in self.replies.dropped:
                self.statements.dropped(dropped)
            self.replies.dropped = ()
            self._reported = PgError.from_fields(decode.fields(message.payload))
            if self._reported.fields.get("V", self._reported.fields.get("S")) in ENDINGS:
                self.abort(ended := errors.Ended(self._reported))
                raise self.lost_error(ended)
        return Reply(message.type, message.payload, owed)

    @contextlib.contextmanager
    def trusted(self) -> Iterator[None]:
        """Read answers inside: a server that breaks the protocol loses its connection, as its state is unknown.

        The ProtocolError leaves as 08006: it is not the client who has broken the protocol.
        """
        try:
            yield
        except ProtocolError as error:
            self.abort()
            raise self.lost_error(error) from error

    # A server that does not answer.

    def watch_stall(self) -> None:
        """Look again after `stall_timeout` whether anything has been heard. One timer, not one for each request."""
        heard = self.stream.received
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self.address.stall_timeout, self._look, heard)

    def _look(self, heard: int) -> None:
        self._stalled = None
        if not self.busy:
            return
        if heard == self.stream.received and not self.stream.reading_paused and self._probing is None:
            self._probing = asyncio.ensure_future(self._alive())
            self._probing.add_done_callback(self._probed)
        self.watch_stall()

    def _probed(self, probing: asyncio.Future[bool]) -> None:
        self._probing = None
        if not probing.cancelled() and not probing.result():
            self.stream.abort(ConnectionLost("The server does not answer any more."))

    # The proxy's own statements.

    async def execute(self, sql: str | bytes) -> str:
        """Run statements that return nothing of interest; return the last command tag.

        Reads up to ReadyForQuery; raises the server's first error.
        """
        return (await self._run(sql))[0]

    async def fetch(self, sql: str | bytes) -> list[list[bytes | None]]:
        """Run a query and return its rows, text format."""
        return (await self._run(sql))[1]

    async def fetch_row(self, sql: str | bytes, columns: int) -> list[bytes | None]:
        """Run a query whose answer is one row of that many columns; a server that sees it otherwise is given up."""
        self._expect(rows := await self.fetch(sql), [columns])
        return rows[0]

    async def fetch_last(self, sql: str | bytes, columns: Sequence[int]) -> list[list[bytes | None]]:
        """Run several statements, the last of which answer with one row each, of `columns` columns; return these."""
        self.query(sql.encode() if isinstance(sql, str) else sql)
        return await self.completed_last(columns)

    def _expect(self, rows: Sequence[Sequence[bytes | None]], columns: Sequence[int]) -> None:
        with self.trusted():
            if [len(row) for row in rows] != list(columns):
                raise ProtocolError("it gave another number of rows or columns than it was asked for")

    async def describe(self, sql: bytes) -> list[decode.FieldDescription]:
        """Return what a query would answer with. It is parsed, which takes its tables' ACCESS SHARE locks, and not run.

        Unlike a query of the catalogs, this sees tables as they are now, also with an older snapshot.
        """
        self.statements.queried()
        self.send(encode.parse(b"", sql) + encode.describe(b"S", b"") + encode.SYNC, _DESCRIBED)
        columns: list[decode.FieldDescription] = []
        for reply in await self.complete():
            if reply.type == B.ROW_DESCRIPTION:
                with self.trusted():
                    columns = decode.row_description(reply.payload)
        return columns

    async def completed(self) -> str:
        """Read the answer to statements that return nothing of interest, as `execute`: they were sent before."""
        return (await self._answered())[0]

    async def completed_row(self, columns: int) -> list[bytes | None]:
        """Read the answer to a query of one row, as `fetch_row`: it was sent before."""
        self._expect(rows := (await self._answered())[1], [columns])
        return rows[0]

    async def completed_last(self, columns: Sequence[int]) -> list[list[bytes | None]]:
        """Read the answers to several statements, as `fetch_last`: they were sent before."""
        rows = (await self._answered())[1][-len(columns) :]
        self._expect(rows, columns)
        return rows

    async def _run(self, sql: str | bytes) -> tuple[str, list[list[bytes | None]]]:
        self.query(sql.encode() if isinstance(sql, str) else sql)
        return await self._answered()

    async def _answered(self) -> tuple[str, list[list[bytes | None]]]:
        tag: str | None = None
        rows: list[list[bytes | None]] = []
        replies = await self.complete()
        with self.trusted():
            for reply in replies:
                if reply.type == B.COMMAND_COMPLETE:
                    tag = decode.command_complete(reply.payload)
                elif reply.type == B.DATA_ROW:
                    rows.append(decode.data_row(reply.payload))
                elif reply.type == B.EMPTY_QUERY_RESPONSE:
                    tag = tag or ""
            if tag is None:
                raise ProtocolError("it ended a statement without a CommandComplete")
        return tag, rows

    async def complete(self) -> list[Reply]:
        """Read until nothing is owed any more; return the answers, raise the first error after their end."""
        error: PgError | None = None
        replies: list[Reply] = []
        while self.replies.queue:
            reply = await self.read()
            if reply.type == B.ERROR_RESPONSE:
                error = error or self.error()
            elif reply.type in COPYING:
                # Data would have to be sent or read: no statement of the proxy's own does that.
                raise self.unexpected(reply)
            else:
                replies.append(reply)
        if error is not None:
            raise error
        return replies

    # The end.

    def cancel(self) -> asyncio.Task[None]:
        """Ask the server to cancel what this connection runs; whether it came in time is not known.

        Until the returned task has ended nothing else may be sent, or the request could hit that.
        """
        if self.cancelling is None:
            request = dial.cancel(self.address.host, self.address.port, self.pid, self.secret)
            self.cancelling = asyncio.ensure_future(request)
            self.cancelling.add_done_callback(self._cancel_sent)
        return self.cancelling

    def _cancel_sent(self, _: asyncio.Task[None]) -> None:
        self.cancelling = None

    def close(self) -> None:
        """Send Terminate and close."""
        self._stop()
        self.stream.on_idle_data = None
        self.stream.write(encode.TERMINATE)
        self.stream.close()

    def abort(self, cause: Exception | None = None) -> None:
        """Close at once, and have `cause` as the reason: the server rolls back what is open."""
        self._stop()
        self.stream.abort(cause)

    def _stop(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._probing is not None:
            self._probing.cancel()

    # Errors.

    def error(self) -> PgError:
        """Return what the ErrorResponse that was just read means; of what the proxy has cancelled, why it has."""
        error, self._reported = self._reported, None
        assert error is not None
        reason, self.cancelled_for = self.cancelled_for, None
        return reason if reason is not None and error.sqlstate == QUERY_CANCELED else error

    def lost_error(self, cause: BaseException | None = None) -> PgError:
        """Return the error of a connection that broke."""
        return errors.lost(self.name, cause or self.stream.error)

    def unexpected(self, reply: Message | Reply) -> PgError:
        """Return the error of a message that has no place here, and give the connection up."""
        self.abort()
        return self.lost_error(ProtocolError(f"it sent an unexpected message of type {chr(reply.type)!r}"))

    # What comes at any time.

    def asynchronous(self, message: Message) -> bool:
        """Take a message that answers nothing; False if it is none of these."""
        match message.type:
            case B.NOTICE_RESPONSE:
                if self.on_notice is not None:
                    self.on_notice(decode.fields(message.payload))
            case B.PARAMETER_STATUS:
                name, value = decode.parameter_status(message.payload)
                self.parameters[name] = value
                if self.on_parameter is not None:
                    self.on_parameter(name, value)
            case B.NOTIFICATION_RESPONSE:
                if self.on_notification is not None:
                    self.on_notification(message.payload)
            case _:
                return False
        return True

    def idle_data(self) -> None:
        """Take what came while no statement runs. Anything but the asynchronous messages ends the connection."""
        if self.replies.queue:
            # An answer, though its reader may be waiting for another shard first.
            return
        try:
            while (message := self.stream.take()) is not None:
                if not self.asynchronous(message):
                    error: Exception = ConnectionLost("the server ended the connection")
                    if message.type == B.ERROR_RESPONSE:
                        with contextlib.suppress(ProtocolError):
                            error = errors.Ended(PgError.from_fields(decode.fields(message.payload)))
                    self.stream.abort(error)
                    return
        except ProtocolError as error:
            self.stream.abort(ConnectionLost(str(error)))

    def __repr__(self) -> str:
        return f"<Connection {self.name} pid={self.pid} {chr(self.status)} {self.replies!r} {self.stream!r}>"


COPYING = frozenset({B.COPY_IN_RESPONSE, B.COPY_OUT_RESPONSE})

_DESCRIBED = (
    Owed(Expect.PARSE, forward=False),
    Owed(Expect.DESCRIBE_STATEMENT, forward=False),
    SWALLOWED_SYNC,
)
