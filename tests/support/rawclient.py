"""A client that speaks the protocol itself, message by message, for what drivers hide or never do.

Synchronous sockets, trust authentication, `shardproxy.wire` for the messages. `RawClient.query` and
`RawClient.copy` run one exchange each, up to its ReadyForQuery or the end of the connection, and return a
`Reply` with all that the server said. They send and read at the same time, so neither side can block the other.
"""

import re
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import Auth, B
from shardproxy.wire.framing import FrameReader, Message

PATIENCE = 30.0  # seconds for the next byte; a test that hangs fails instead

Protocol = Literal["simple", "extended", "extended, early Sync", "pipelined", "pipelined, extended"]
"""How a COPY is asked for. "extended, early Sync" is libpq's way: a Sync behind Execute, and one at the end.
The pipelined ways send everything without waiting for CopyInResponse."""

PROTOCOLS: tuple[Protocol, ...] = (
    "simple",
    "extended",
    "extended, early Sync",
    "pipelined",
    "pipelined, extended",
)

_SILENT = {B.PARAMETER_STATUS, B.NOTICE_RESPONSE}  # not part of the order of answers: kept apart


@dataclass
class Reply:
    """All that was said in one exchange."""

    order: str = ""  # the messages' types in order, runs of rows as one letter, notices and parameters left out
    tags: list[str] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    rows: list[list[bytes | None]] = field(default_factory=list)
    parameters: list[tuple[str, str]] = field(default_factory=list)  # ParameterStatus
    data: list[bytes] = field(default_factory=list)  # payloads of CopyData
    copies: list[decode.CopyResponse] = field(default_factory=list)
    status: str | None = None  # of the last ReadyForQuery
    closed: bool = False  # the server ended the connection

    def add(self, message: Message) -> None:
        """Note a message."""
        if message.type not in _SILENT:
            letter = chr(message.type)
            if not (self.order.endswith(letter) and message.type in {B.DATA_ROW, B.COPY_DATA}):
                self.order += letter
        match message.type:
            case B.COMMAND_COMPLETE:
                self.tags.append(decode.command_complete(message.payload))
            case B.ERROR_RESPONSE:
                self.errors.append(decode.fields(message.payload))
            case B.NOTICE_RESPONSE:
                self.notices.append(decode.fields(message.payload))
            case B.PARAMETER_STATUS:
                self.parameters.append(decode.parameter_status(message.payload))
            case B.DATA_ROW:
                self.rows.append(decode.data_row(message.payload))
            case B.COPY_DATA:
                self.data.append(message.payload)
            case B.COPY_IN_RESPONSE | B.COPY_OUT_RESPONSE:
                self.copies.append(decode.copy_response(message.payload))
            case B.READY_FOR_QUERY:
                self.status = chr(decode.ready_for_query(message.payload))

    @property
    def error(self) -> dict[str, str] | None:
        """The first error."""
        return self.errors[0] if self.errors else None

    @property
    def line(self) -> int | None:
        """The line of the client's input that the first error is about."""
        found = re.search(r"^COPY .*, line (\d+)", (self.error or {}).get("W", ""), re.MULTILINE)
        return int(found[1]) if found else None


class RawClient:
    """One connection."""

    def __init__(self, dsn: str, settings: dict[str, str] | None = None) -> None:
        """Connect and log in; `settings` go into the StartupMessage."""
        facts = conninfo_to_dict(dsn)
        self._socket = socket.create_connection((str(facts["host"]), int(str(facts["port"]))), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = FrameReader()
        parameters = {"user": str(facts["user"]), "database": str(facts["dbname"]), "client_encoding": "UTF8"}
        try:
            self._login(parameters | (settings or {}))
        except BaseException:
            self._socket.close()
            raise

    cancel_key: tuple[int, bytes]
    """Process id and key for a CancelRequest."""

    @property
    def address(self) -> tuple[str, int]:
        """The server's."""
        host, port = self._socket.getpeername()[:2]
        return host, port

    def _login(self, parameters: dict[str, str]) -> None:
        self.greeting = Reply()
        self.send(encode.startup_message(parameters))
        while self.greeting.status is None:
            message = self.read()
            if message is None:
                raise ConnectionError(f"refused: {self.greeting.errors}")
            if message.type == B.AUTHENTICATION and decode.authentication(message.payload)[0] != Auth.OK:
                raise ConnectionError("a password is wanted")
            if message.type == B.BACKEND_KEY_DATA:
                self.cancel_key = decode.backend_key_data(message.payload)
            self.greeting.add(message)

    def close(self) -> None:
        """Hang up without Terminate."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Bytes.

    def send(self, data: bytes) -> None:
        """Send, without reading: for little that fits the sockets' buffers."""
        self._socket.sendall(data)

    def read(self) -> Message | None:
        """Return the next message; None at the end of the connection."""
        while (message := self._frames.next()) is None:
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames.feed(data)
        return message

    def _converse(self, reply: Reply, segments: Iterable[bytes]) -> None:
        """Send the segments, each in a call of its own, and note what comes meanwhile."""
        self._socket.setblocking(False)
        try:
            for segment in segments:
                rest = memoryview(segment)
                while rest and not reply.closed:
                    readable, writable, _ = select.select([self._socket], [self._socket], [], PATIENCE)
                    if not readable and not writable:
                        raise TimeoutError("the server neither reads nor answers")
                    if readable:
                        self._receive(reply)
                    if writable and not reply.closed:
                        rest = rest[self._try_send(rest, reply) :]
                if reply.closed:
                    return
        finally:
            self._socket.settimeout(PATIENCE)

    def _try_send(self, data: memoryview, reply: Reply) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self._socket.settimeout(PATIENCE)
            while (message := self.read()) is not None:
                reply.add(message)
            reply.closed = True
            return 0

    def _receive(self, reply: Reply) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        reply.closed = not data
        self._frames.feed(data)
        while (message := self._frames.next()) is not None:
            reply.add(message)

    def _read_until(self, reply: Reply, *types: int) -> int | None:
        """Note messages up to one of these types and return it; None if the connection ended before."""
        while not reply.closed:
            message = self.read()
            if message is None:
                reply.closed = True
                break
            reply.add(message)
            if message.type in types:
                return message.type
        return None

    # Exchanges.

    def exchange(self, data: bytes) -> Reply:
        """Send messages that lead to one ReadyForQuery and return what comes up to it."""
        reply = Reply()
        self._converse(reply, [data])
        if reply.status is None:
            self._read_until(reply, B.READY_FOR_QUERY)
        return reply

    def query(self, sql: str | bytes) -> Reply:
        """Run a simple query."""
        return self.exchange(encode.query(sql.encode() if isinstance(sql, str) else sql))

    def usable(self) -> Reply:
        """See that nothing unasked for is on its way, and that a query is answered."""
        return self.query("SELECT 1")

    def read_to_end(self) -> Reply:
        """Return what comes up to the end of the connection."""
        reply = Reply()
        self._read_until(reply)
        return reply

    def copy(
        self,
        sql: str | bytes,
        data: bytes,
        *,
        frames: Sequence[int] = (),
        segments: Sequence[int] = (),
        protocol: Protocol = "simple",
        end: bytes | None = None,
        pause: float = 0.0,
    ) -> Reply:
        """Run one COPY FROM STDIN.

        `frames` are the offsets in `data` where one CopyData ends and the next begins, `segments` those in the
        stream of messages where one send ends. `end` replaces the CopyDone; with nothing that ends a COPY in
        it the reply is complete when the server closes the connection. `pause` seconds go by between sends.
        """
        text = sql.encode() if isinstance(sql, str) else sql
        extended = protocol in {"extended", "extended, early Sync", "pipelined, extended"}
        start = encode.query(text)
        if extended:
            start = (
                encode.parse(b"", text)
                + encode.bind(b"", b"", (), (), ())
                + encode.describe(b"P", b"")
                + encode.execute(b"")
            )
        stream = b"".join(map(encode.copy_data, _cut(data, frames))) if data or frames else b""
        stream += encode.COPY_DONE if end is None else end
        stream += encode.SYNC if extended else b""
        reply = Reply()
        if protocol.startswith("pipelined"):
            stream = start + stream
        else:
            # A shard's DDL may be refused before CopyInResponse; then no data are sent.
            start += {"simple": b"", "extended": encode.FLUSH}.get(protocol, encode.SYNC)
            self._converse(reply, [start])
            begun = chr(B.COPY_IN_RESPONSE) in reply.order
            if not begun:
                wanted = [B.COPY_IN_RESPONSE, B.ERROR_RESPONSE if protocol == "extended" else B.READY_FOR_QUERY]
                begun = reply.status is None and self._read_until(reply, *wanted) == B.COPY_IN_RESPONSE
            if not begun:
                if protocol == "extended" and reply.errors:
                    self._converse(reply, [encode.SYNC])
                if reply.status is None:
                    self._read_until(reply, B.READY_FOR_QUERY)
                return reply
        self._converse(reply, _paced(_cut(stream, segments), pause))
        if reply.status is None:
            self._read_until(reply, B.READY_FOR_QUERY)
        return reply


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut at the offsets; equal ones make empty pieces."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def _paced(pieces: list[bytes], pause: float) -> Iterable[bytes]:
    for piece in pieces:
        yield piece
        if pause:
            time.sleep(pause)
