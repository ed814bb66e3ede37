"""The answers of several shards to one statement, merged into the answer of one server.

Driven by `relay`: the statement has been sent to every connection; this reads each up to ReadyForQuery, all at
once. Rows pass from a shard's socket to the client in one synchronous call, whole messages only. A client that
reads slowly pauses every shard; the first error ends all and is the only one reported.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shardproxy.backend.connection import Connection
from shardproxy.backend.stream import Sink
from shardproxy.backend.together import each
from shardproxy.errors import PgError
from shardproxy.native import FrameMerge
from shardproxy.sqlstate import INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.wire import decode
from shardproxy.wire.constants import B
from shardproxy.wire.encode import message as encode_message
from shardproxy.wire.framing import Message

DATA_ROW = bytes((B.DATA_ROW,))
COPY_DATA = bytes((B.COPY_DATA,))
ROWS = frozenset({B.DATA_ROW, B.COPY_DATA})

OnAgreed = Callable[[int], None]
"""Told that a shard has accepted a Parse or a Bind."""


class Output(Protocol):
    """Where results go: a client's stream, or whatever collects them."""

    writable: bool
    on_writable: Callable[[bool], None] | None

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""

    async def drain(self) -> None:
        """Wait until the client has taken enough."""


@dataclass(slots=True)
class Answer:
    """What a shard has answered besides rows."""

    tag: str | None = None
    suspended: bool = False
    empty: bool = False
    error: PgError | None = None


@dataclass(slots=True, eq=False)
class Relay:
    """One statement's way back from the shards.

    `merge` knows the row messages. `rows_from` is the only shard whose rows count, or None for all.
    `forward` holds the types of other messages that the client gets, once, from whoever sends first. `on_agreed`
    is called with the type of each ParseComplete and BindComplete up to the first BindComplete.
    """

    connections: Sequence[Connection]
    output: Output
    merge: FrameMerge
    rows_from: int | None = None
    forward: frozenset[int] = frozenset({B.ROW_DESCRIPTION, B.NO_DATA})
    on_agreed: OnAgreed | None = None
    failed: PgError | None = None
    _seen: set[int] = field(default_factory=set)
    _columns: list[str] | None = None
    _cancelling: asyncio.Task[list[None]] | None = None

    async def run(self) -> list[Answer]:
        """Read everyone to ReadyForQuery; raise the first error."""
        self.output.on_writable = self._client_writable
        try:
            if not self.output.writable:
                self._client_writable(False)
            answers = await each(
                self._collect(number, connection) for number, connection in enumerate(self.connections)
            )
        finally:
            self.output.on_writable = None
            # Also those that had ended before the client fell behind: nobody else would let them go on.
            self._client_writable(True)
        if self._cancelling is not None:
            # A cancel request that arrives late would hit the connection's next statement.
            await self._cancelling
        if self.failed is not None:
            raise self.failed
        return answers

    def _client_writable(self, writable: bool) -> None:
        for connection in self.connections:
            if writable:
                connection.stream.resume_reading(self)
            else:
                connection.stream.pause_reading(self)

    async def _collect(self, number: int, connection: Connection) -> Answer:
        answer = Answer()
        sink = self._sink(number)
        connection.stream.tap(sink)
        try:
            while True:
                message = await connection.read()
                if message.type == B.READY_FOR_QUERY:
                    return answer
                if message.type in ROWS:
                    # It was buffered behind a notice, which `read` has passed on.
                    with connection.trusted():
                        used = sink(memoryview(encode_message(message.type, message.payload)))
                    if not used:
                        raise connection.unexpected(message)
                else:
                    with connection.trusted():
                        self._take(connection, message, answer)
                # What is buffered behind this message may be rows again.
                connection.stream.tap(sink)
        except PgError as error:
            self._fail(error)
            return answer
        finally:
            connection.stream.untap()
            connection.stream.resume_reading(self)

    def _sink(self, number: int) -> Sink:
        merge, write = self.merge, self.output.write
        discard = self.rows_from is not None and number != self.rows_from

        def sink(view: memoryview) -> int:
            used, rows = merge.feed(number, view)
            if rows and not discard and self.failed is None:
                write(rows)
            return used

        return sink

    def _take(self, connection: Connection, message: Message, answer: Answer) -> None:
        match message.type:
            case B.COMMAND_COMPLETE:
                answer.tag = decode.command_complete(message.payload)
            case B.EMPTY_QUERY_RESPONSE:
                answer.empty = True
            case B.PORTAL_SUSPENDED:
                answer.suspended = True
            case B.ERROR_RESPONSE:
                answer.error = connection.error(message)
                self._fail(answer.error)
            case B.PARSE_COMPLETE | B.BIND_COMPLETE:
                if self.on_agreed is not None and self.failed is None:
                    self.on_agreed(message.type)
                    if message.type == B.BIND_COMPLETE:
                        self.on_agreed = None
            case B.CLOSE_COMPLETE | B.COPY_DONE:
                pass
            case B.ROW_DESCRIPTION | B.NO_DATA | B.PARAMETER_DESCRIPTION:
                if message.type in self.forward and message.type not in self._seen and self.failed is None:
                    self._seen.add(message.type)
                    self.output.write(encode_message(message.type, message.payload))
                if message.type == B.ROW_DESCRIPTION:
                    self._compare(message.payload)
            case _:
                raise connection.unexpected(message)

    def _compare(self, description: bytes) -> None:
        """Hold a shard's columns against the first one's, before its rows come. Types of the user's have other oids."""
        names = [column.name for column in decode.row_description(description)]
        if self._columns is None:
            self._columns = names
        elif names != self._columns:
            self._fail(columns_differ())

    def _fail(self, error: PgError) -> None:
        """Note the first error and stop the others: nobody will see what they still send."""
        if self.failed is not None:
            return
        self.failed = error
        others = [connection for connection in self.connections if connection.usable]
        if len(self.connections) > 1:
            self._cancelling = asyncio.ensure_future(each(connection.cancel() for connection in others))


def columns_differ() -> PgError:
    """The error of rows that would not be of one kind."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the shards give different columns",
        hint="`shardproxy check` shows the difference.",
    )


def total_tag(tags: Sequence[str]) -> str:
    """Add the row counts of the shards' command tags: `SELECT 2`, `SELECT 3` -> `SELECT 5`; `INSERT 0 1` likewise."""
    words = tags[0].split()
    if not words or not words[-1].isdecimal():
        return tags[0]
    counts = [tag.split()[-1] if tag else "" for tag in tags]
    if not all(count.isdecimal() for count in counts):
        raise PgError(INTERNAL_ERROR, "the shards gave answers that do not add up", detail=", ".join(tags))
    total = sum(map(int, counts))
    return " ".join([*words[:-1], str(total)])
