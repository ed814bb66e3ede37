"""One connection to one shard: start-up, messages in order, cancel. It knows no client and no other shard.

Driven by: `connect`, then `write` and `read` until ReadyForQuery; `stream.tap` for bulk data. What a server may
send at any time (NoticeResponse, ParameterStatus, NotificationResponse) never reaches the reader: it goes to the
callbacks, also while nobody reads.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from shardproxy.backend.auth import authenticate
from shardproxy.backend.stream import Stream
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.shard.address import Address
from shardproxy.sqlstate import (
    CANT_CHANGE_RUNTIME_PARAM,
    CONNECTION_FAILURE,
    QUERY_CANCELED,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    TOO_MANY_CONNECTIONS,
)
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F
from shardproxy.wire.framing import FrameReader, Message

IDLE = ord("I")
QUERY = bytes((F.QUERY,))

SETTINGS_CLASSES = frozenset({"22", "42", CANT_CHANGE_RUNTIME_PARAM})
"""SQLSTATEs and classes of a start-up parameter that the server does not take: invalid value, unknown name, fixed."""

ENDINGS = frozenset({"FATAL", "PANIC"})
"""Severities behind which a server closes the connection."""

CANCEL_TIMEOUT = 5.0
"""Seconds for a CancelRequest, which no server answers: only the connection's end is awaited."""


PLANS = 32
"""Queries of the proxy's own that a connection keeps planned: a session uses a handful of tables at a time."""


class Connection:
    """An authenticated connection to a shard."""

    def __init__(self, address: Address, stream: Stream) -> None:
        self.address = address
        self.stream = stream
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.status = IDLE
        self.prepared: dict[bytes, int] = {}
        self.cancelled_for: PgError | None = None
        self._planned: dict[str, str] = {}  # what planned() was asked for, and the statement that has its plan
        self._plans = 0
        self.closing: list[bytes] = []  # Close messages to send in front of the next extended request
        self.on_notice: Callable[[dict[str, str]], None] | None = None
        self.on_parameter: Callable[[str, str], None] | None = None
        self.on_notification: Callable[[bytes], None] | None = None

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
        return self.usable and self.stream.on_idle_data is None

    @classmethod
    async def connect(cls, address: Address, parameters: Mapping[str, str]) -> "Connection":
        """Connect with the given start-up parameters (without user and database).

        Raises PgError: the server's own words where it refuses a parameter or has no place (53300); else 08001
        naming the shard, when it refuses the proxy or cannot be reached in `address.connect_timeout` seconds.
        """
        stream: Stream | None = None
        try:
            async with asyncio.timeout(address.connect_timeout):
                loop = asyncio.get_running_loop()
                _, stream = await loop.create_connection(lambda: Stream(FrameReader()), address.host, address.port)
                connection = cls(address, stream)
                await connection._start(parameters)
                return connection
        except (OSError, TimeoutError, ConnectionLost, PgError) as error:
            if stream is not None:
                stream.abort()
            if isinstance(error, PgError) and {error.sqlstate, error.sqlstate[:2]} & SETTINGS_CLASSES:
                error.fields["S"] = error.fields["V"] = "ERROR"
                raise
            if isinstance(error, PgError) and error.sqlstate == TOO_MANY_CONNECTIONS:
                # The client may wait and try again, as it would with one server.
                raise PgError(
                    TOO_MANY_CONNECTIONS, error.message, detail=f'Reported by shard "{address.name}".'
                ) from error
            raise PgError(
                SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
                f'could not connect to shard "{address.name}"',
                detail="it did not answer in time" if isinstance(error, TimeoutError) else str(error),
                hint="See whether the server runs and accepts connections from the proxy; "
                "`shardproxy check` tries every shard.",
            ) from error
        except BaseException:
            if stream is not None:
                stream.abort()
            raise

    async def _start(self, parameters: Mapping[str, str]) -> None:
        startup = {**parameters, "user": self.address.user, "database": self.address.database}
        self.stream.write(encode.startup_message(startup))
        await authenticate(self.stream, self.address.user, self.address.password)
        while True:
            message = await self._next()
            if message.type == B.ERROR_RESPONSE:
                raise PgError.from_fields(decode.fields(message.payload))
            if message.type == B.BACKEND_KEY_DATA:
                self.pid, self.secret = decode.backend_key_data(message.payload)
            elif message.type == B.READY_FOR_QUERY:
                return

    def write(self, data: bytes) -> None:
        """Queue whole messages that ReadyForQuery will answer."""
        # Until then what arrives is an answer, though its reader may be waiting for another shard first.
        self.stream.on_idle_data = None
        if data[:1] == QUERY:
            # A simple query destroys the unnamed statement.
            self.prepared.pop(b"", None)
        self.stream.write(data)

    async def read(self) -> Message:
        """Return the next message that answers a request; note the status of ReadyForQuery.

        A lost connection raises PgError 08006 that names the shard; so does an error by which the server ends it,
        since the client's own connection stands.
        """
        message = await self._next()
        if message.type == B.ERROR_RESPONSE:
            with self.trusted():
                error = PgError.from_fields(decode.fields(message.payload))
            if error.fields.get("V", error.fields.get("S")) in ENDINGS:
                self.abort()
                raise self.lost_error(error)
        return message

    @contextlib.contextmanager
    def trusted(self) -> Iterator[None]:
        """Read answers inside: a server that breaks the protocol loses its connection, as nobody knows where it is.

        The ProtocolError leaves as 08006: it is not the client who has broken the protocol.
        """
        try:
            yield
        except ProtocolError as error:
            self.abort()
            raise self.lost_error(error) from error

    async def _next(self) -> Message:
        while True:
            with self.trusted():
                try:
                    message = self.stream.take() or await self._wait()
                except ConnectionLost as error:
                    raise self.lost_error(error) from error
                if not self._asynchronous(message):
                    if message.type == B.READY_FOR_QUERY:
                        self.status = decode.ready_for_query(message.payload)
                        self.stream.on_idle_data = self._idle_data
                    return message

    async def _wait(self) -> Message:
        """Wait for a message as long as the server lives: a statement may take its time, a dead server may not."""
        while True:
            try:
                async with asyncio.timeout(self.address.stall_timeout):
                    return await self.stream.message()
            except TimeoutError:
                await self._probe()

    async def _probe(self) -> None:
        """Connect anew; a server that does not answer that either is given up."""
        try:
            probe = await Connection.connect(self.address, {})
        except PgError as error:
            if error.sqlstate == SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION:
                self.stream.abort(ConnectionLost("the server does not answer any more"))
            # Any other refusal is an answer.
            return
        await probe.close()

    async def execute(self, sql: str | bytes) -> str:
        """Run statements that return nothing of interest; return the last command tag.

        Reads up to ReadyForQuery; raises the server's first error.
        """
        tag, _ = await self._run(sql)
        return tag

    async def fetch(self, sql: str | bytes) -> list[list[bytes | None]]:
        """Run a query and return its rows, text format."""
        _, rows = await self._run(sql)
        return rows

    def planned(self, sql: str) -> str:
        """Return SQL for a SELECT of the proxy's own that comes again: it is planned once, which takes longest.

        That is the second time, as many a session asks but once. The plan stands until a statement that `execute`
        or `fetch` runs fails, since that one may have been to make it, or `forget_plans`. A function of the client's
        may throw it away unseen: then the SQL fails with 26000, and has to be asked for and run again. Inside a
        transaction, which could not go on, nothing is planned.
        """
        if self.status != IDLE:
            return sql
        name = self._planned.get(sql)
        if name:
            return f"EXECUTE {name}"
        if name is None:
            if len(self._planned) < PLANS:
                self._planned[sql] = ""
            return sql
        # Each has a name of its own: nobody knows whether what was forgotten is there.
        self._plans += 1
        self._planned[sql] = name = f"shardproxy_look_{self._plans}"
        return f"PREPARE {name} AS {sql}; EXECUTE {name}"

    def forget_plans(self) -> None:
        """DISCARD ALL or DEALLOCATE ALL has run."""
        self._planned.clear()

    async def fetch_row(self, sql: str | bytes, columns: int) -> list[bytes | None]:
        """Run a query whose answer is one row of that many columns; a server that sees it otherwise is given up."""
        rows = await self.fetch(sql)
        self._expect(rows, [columns])
        return rows[0]

    async def fetch_last(self, sql: str | bytes, columns: Sequence[int]) -> list[list[bytes | None]]:
        """Run several statements, the last of which answer with one row each, of `columns` columns; return these."""
        rows = (await self.fetch(sql))[-len(columns) :]
        self._expect(rows, columns)
        return rows

    def _expect(self, rows: Sequence[Sequence[bytes | None]], columns: Sequence[int]) -> None:
        with self.trusted():
            if [len(row) for row in rows] != list(columns):
                raise ProtocolError("it gave another number of rows or columns than it was asked for")

    async def describe(self, sql: bytes) -> list[decode.Column]:
        """Return what a query would answer with. It is parsed, which takes its tables' ACCESS SHARE locks, and not run.

        Unlike a query of the catalogs, this sees tables as they are now, also behind an older snapshot.
        """
        self.prepared.pop(b"", None)
        self.write(encode.parse(b"", sql) + encode.describe(b"S", b"") + encode.SYNC)
        columns: list[decode.Column] | None = None

        def take(message: Message) -> bool:
            nonlocal columns
            match message.type:
                case B.ROW_DESCRIPTION:
                    columns = decode.row_description(message.payload)
                case B.NO_DATA:
                    columns = []
                case B.PARSE_COMPLETE | B.PARAMETER_DESCRIPTION:
                    pass
                case _:
                    return False
            return True

        end = await self._until_ready(take)
        if columns is None:
            raise self.unexpected(end)
        return columns

    async def _run(self, sql: str | bytes) -> tuple[str, list[list[bytes | None]]]:
        self.write(encode.query(sql.encode() if isinstance(sql, str) else sql))
        tag: str | None = None
        rows: list[list[bytes | None]] = []

        def take(message: Message) -> bool:
            nonlocal tag
            match message.type:
                case B.COMMAND_COMPLETE:
                    tag = decode.command_complete(message.payload)
                case B.DATA_ROW:
                    rows.append(decode.data_row(message.payload))
                case B.EMPTY_QUERY_RESPONSE:
                    tag = tag or ""
                case B.ROW_DESCRIPTION:
                    pass
                case _:
                    return False
            return True

        try:
            end = await self._until_ready(take)
        except PgError:
            self.forget_plans()
            raise
        if tag is None:
            raise self.unexpected(end)
        return tag, rows

    async def _until_ready(self, take: Callable[[Message], bool]) -> Message:
        """Give each answer to `take`, which says whether it belongs there; return ReadyForQuery.

        Raises the server's error, the first if there are several, behind its end.
        """
        error: PgError | None = None
        while True:
            message = await self.read()
            match message.type:
                case B.READY_FOR_QUERY if error is not None:
                    raise error
                case B.READY_FOR_QUERY:
                    return message
                case B.ERROR_RESPONSE:
                    error = error or self.error(message)
                case _:
                    with self.trusted():
                        expected = take(message)
                    if not expected:
                        raise self.unexpected(message)

    async def cancel(self) -> None:
        """Ask the server to cancel what this connection runs; whether it came in time is not known.

        The request opens a connection of its own, as the protocol wants it.
        """
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
                try:
                    writer.write(encode.cancel_request(self.pid, self.secret))
                    await writer.drain()
                    await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            # The server is gone or hangs: then the statement's own connection tells, or its deadline does.
            return

    async def close(self) -> None:
        """Say Terminate and close."""
        self.stream.on_idle_data = None
        self.stream.write(encode.TERMINATE)
        self.stream.close()

    def abort(self) -> None:
        """Close at once: the server rolls back what is open."""
        self.stream.abort()

    def error(self, message: Message) -> PgError:
        """Return what an ErrorResponse says; of a statement that the proxy has cancelled, why it has."""
        error = PgError.from_fields(decode.fields(message.payload))
        reason, self.cancelled_for = self.cancelled_for, None
        return reason if reason is not None and error.sqlstate == QUERY_CANCELED else error

    def lost_error(self, cause: Exception) -> PgError:
        """Return the error of a connection that broke."""
        return PgError(CONNECTION_FAILURE, f'connection to shard "{self.name}" was lost', detail=str(cause) or None)

    def unexpected(self, message: Message) -> PgError:
        """Return the error of a message that the protocol does not allow here, and give the connection up."""
        self.abort()
        return self.lost_error(ProtocolError(f"it sent an unexpected message of type {chr(message.type)!r}"))

    def _asynchronous(self, message: Message) -> bool:
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

    def _idle_data(self) -> None:
        """Take what came while nobody reads. Anything but the asynchronous messages ends an idle connection."""
        try:
            while (message := self.stream.take()) is not None:
                if not self._asynchronous(message):
                    error: Exception = ConnectionLost("the server ended the connection")
                    if message.type == B.ERROR_RESPONSE:
                        with contextlib.suppress(ProtocolError):
                            error = ConnectionLost(str(PgError.from_fields(decode.fields(message.payload))))
                    self.stream.abort(error)
                    return
        except ProtocolError as error:
            self.stream.abort(ConnectionLost(str(error)))

    def __repr__(self) -> str:
        return f"<Connection {self.name} pid={self.pid} {chr(self.status)} {self.stream!r}>"
