"""Statements under way, answered in the client's order: from the shards' sockets to the client's, synchronously.

Theory of operation. Each unit that the lane has sent is a turn. Turns are answered in order, though several shards
may work at once: the sink of a shard's stream takes answers only while the first turn is that shard's; what comes
earlier stays in the stream, which pauses its shard when that is much. Answers are checked message by message against
what the shard owes (`wire.replies`) and forwarded as they are, in one write for each read.

An error ends a turn. Outside a transaction the next turns are statements of their own, and go on. Inside one they
have failed, too, whatever their shards have answered: their answers are dropped, the client reads what PostgreSQL
says in a failed transaction, and the session's coroutine brings the shards to where the error leaves them (`failed`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from struct import Struct
from typing import Final, NamedTuple

from shardproxy.combine.notices import Fields
from shardproxy.errors import PgError, ProtocolError
from shardproxy.native import run_end
from shardproxy.session.client import Client
from shardproxy.session.extended import Extended
from shardproxy.session.portals import Prepared
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.shard.errors import TimedOut
from shardproxy.sql import ColumnList
from shardproxy.sqlstate import IN_FAILED_SQL_TRANSACTION
from shardproxy.transaction.single_shard import lost_alone
from shardproxy.transaction.state import IMPLICIT
from shardproxy.wire import encode
from shardproxy.wire.constants import HEADER_SIZE, B, backend_limit
from shardproxy.wire.framing import Message
from shardproxy.wire.replies import Expect, Owed, Step
from shardproxy.wire.usertypes import TypeMap

LIMITS: Final = [backend_limit(kind) for kind in range(256)]
"""The greatest length word of each message type of a server."""

_length: Final = Struct("!i").unpack_from

SYNC: Final = Owed(Expect.SYNC)
"""The end of a turn whose ReadyForQuery the client reads."""
LAST: Final = Owed(Expect.SYNC, forward=False)
"""The end of a turn in the middle of the client's batch."""
QUERY: Final = Owed(Expect.QUERY)
ENDS: Final = frozenset({id(SYNC), id(LAST), id(QUERY)})
"""The entries whose ReadyForQuery ends a turn; another one belongs to what has joined the shard to the transaction."""

_ABORTED: Final = "current transaction is aborted, commands ignored until end of transaction block"


def _unsynced(owed: Owed) -> bool:
    return owed.expect is not Expect.SYNC


def _described(types: TypeMap, message: memoryview) -> memoryview:
    payload = types.description_now(bytes(message[HEADER_SIZE:]))
    return memoryview(bytes(message[:HEADER_SIZE]) + payload)


class Turn(NamedTuple):
    """A unit under way.

    `ready`: the client reads a ReadyForQuery after it. `inside`: it is inside a transaction, which may be another one
    when its answer comes. `overlaps`: it may be under way together with others on other shards. `parsed` is the
    statement of its Parse. `listed` was put into the client's text. `stores`: its lost answer leaves the client in
    doubt, unless it is `inside`.
    """

    connection: Connection
    ready: bool
    extended: bool
    inside: bool
    overlaps: bool
    parsed: Prepared | None = None
    listed: ColumnList | None = None
    stores: bool = False


class Turns:
    """One session's statements under way."""

    def __init__(self, client: Client, shards: Shards, extended: Extended, attention: Callable[[], None]) -> None:
        """`attention` is called when the session's coroutine has to see to `failed`."""
        self.failed = False
        """A turn inside a transaction has failed."""
        self.skipping = False
        """The client's messages up to the next Sync are to be skipped."""
        self._client = client
        self._transaction = shards.transaction
        self._extended = extended
        self._attention = attention
        self._turns: deque[Turn] = deque()
        self._sinks: dict[Connection, Callable[[memoryview], int]] = {}
        self._answered: list[bytes] = []  # for the client, from several turns
        self._collecting = False
        self._held: dict[Connection, list[bytes]] = {}
        self._advancing = False
        self._overlapping = self._several = False
        """Whether all that is under way may overlap, and whether it is on several shards."""
        self._settled: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a shard owes the client an answer."""
        return bool(self._turns)

    @property
    def first(self) -> Connection | None:
        """The shard that owes the client its next answer."""
        return self._turns[0].connection if self._turns else None

    @property
    def inside(self) -> bool:
        """Whether that answer, and so all that are owed, are to statements of one transaction."""
        return bool(self._turns) and self._turns[0].inside

    def admits(self, connection: Connection, overlaps: bool) -> bool:
        """Whether a statement may be sent to a shard now.

        Statements for one shard are carried out in order there. On several shards they would not be: one that waits
        for a lock must hold those after it back, or others see them first, or wait for each other crosswise.
        """
        if not self._turns or (self._turns[-1].connection is connection and not self._several):
            return True
        return overlaps and self._overlapping

    async def settled(self) -> None:
        """Wait until all that was sent is answered."""
        if self._turns:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    def send(self, request: bytes, owed: tuple[Owed, ...], turn: Turn) -> None:
        """Have a unit sent to its shard by the next `flush`; the last of `owed` is SYNC, LAST or QUERY."""
        connection = turn.connection
        sink = self._sinks.get(connection)
        if sink is None:
            sink = self._sinks[connection] = self._sink_of(connection)
        if connection.stream.sink is not sink:
            connection.stream.tap(sink)
        self._client.on_notice = self._notice
        if not self._turns:
            self._overlapping, self._several = turn.overlaps, False
        else:
            self._overlapping = self._overlapping and turn.overlaps
            self._several = self._several or self._turns[-1].connection is not connection
        self._turns.append(turn)
        connection.expect(owed)
        if connection in self._held:
            self._held[connection].append(request)
        else:
            self._held[connection] = [request]

    def flush(self) -> None:
        """Send what `send` has taken: what one chunk of the client's has for a shard leaves in one write."""
        for connection, requests in self._held.items():
            connection.stream.write(requests[0] if len(requests) == 1 else b"".join(requests))
        self._held.clear()

    def _notice(self, _: int, fields: Fields) -> None:
        self._client.notice(fields)

    # From the shards to the client.

    def _sink_of(self, connection: Connection) -> Callable[[memoryview], int]:
        def sink(view: memoryview) -> int:
            at = 0
            outermost, self._collecting = not self._collecting, True
            while self._turns and self._turns[0].connection is connection:
                before = len(self._turns)
                at = self._answers(connection, view, at)
                if len(self._turns) == before:
                    break
                if not self._turns:
                    self._ended()
                    break
                if self._turns[0].connection is not connection:
                    self._advance()
            if outermost:
                self._collecting = False
                self._release()
            return at

        return sink

    def _advance(self) -> None:
        """Let the shards whose turns have come say what they had said before."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._turns:
                turn = self._turns[0]
                connection = turn.connection
                if connection.stream.pending:
                    # Also of a connection that is lost: what it has answered is done.
                    connection.stream.tap(self._sinks[connection])
                    if not self._turns or self._turns[0] is not turn:
                        continue
                if connection.usable:
                    break
                # Nothing more will come, or what has come was what has ended the connection.
                self._lost(turn)
        finally:
            self._advancing = False
        if not self._collecting:
            self._release()
        if not self._turns:
            self._ended()

    def _answers(self, connection: Connection, view: memoryview, at: int) -> int:
        """Take answers to the turns at the head that are this shard's; return where they end."""
        replies = connection.replies
        queue, turns = replies.queue, self._turns
        size = len(view)
        start = at  # what lies from here to `at` is to be forwarded
        pieces: list[memoryview] = []
        while at + HEADER_SIZE <= size:
            kind = view[at]
            [length] = _length(view, at + 1)
            end = at + 1 + length
            if not 4 <= length <= LIMITS[kind]:
                self._broken(connection, ProtocolError(f"it sent a message of type {chr(kind)!r} and length {length}"))
                break
            if end > size:
                break
            step = queue[0].steps.get(kind) if queue else None
            if kind == B.DATA_ROW and step is Step.STAYS:
                run = run_end(view, at, kind, LIMITS[kind])
                if self.failed or not queue[0].forward:
                    pieces.append(view[start:at])
                    start = run
                at = run
                continue
            if step is None or step is Step.SKIPS or kind == B.ERROR_RESPONSE:
                pieces.append(view[start:at])
                self._answered += map(bytes, pieces)
                self._release()
                pieces = []
                start = at = end
                if not self._unusual(connection, Message(kind, bytes(view[at - length + 4 : end]))):
                    break
                continue
            owed = queue[0]
            if kind == B.ROW_DESCRIPTION and owed.forward and not self.failed:
                types = connection.statements.types
                if types is not None and types.map is not None:
                    pieces += view[start:at], _described(types.map, view[at:end])
                    start = end
            if step is Step.ENDS:
                queue.popleft()
            if not owed.forward or self.failed:
                pieces.append(view[start:at])
                start = end
            at = end
            if kind == B.READY_FOR_QUERY:
                connection.status = view[end - 1]
                if id(owed) in ENDS:
                    if self.failed:
                        self._failed_turn_ends(turns[0])
                    turns.popleft()
                    if not turns or turns[0].connection is not connection:
                        break
        pieces.append(view[start:at])
        self._answered += map(bytes, pieces)
        return at

    def _release(self) -> None:
        """Send the client what has been collected for it, in one write."""
        if self._answered:
            data = b"".join(self._answered)
            self._answered.clear()
            if data:
                self._client.stream.write_now(data)

    def _ended(self) -> None:
        """No turn is left."""
        if self.failed:
            self._attention()
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
        self._settled = None

    # What goes wrong.

    def _unusual(self, connection: Connection, message: Message) -> bool:
        """Take what is neither plain nor expected; False if the connection is lost by it."""
        try:
            if connection.asynchronous(message):
                return True
            queue = connection.replies.queue
            unparsed = any(owed.expect is Expect.PARSE for owed in takewhile(_unsynced, queue))
            connection.answer(message)
        except ProtocolError as error:
            self._broken(connection, error)
            return False
        except PgError:
            # An error by which the server ends the connection: the stream is lost, and its turns with it.
            return False
        self._fail(self._turns[0], connection.error(), unparsed=unparsed)
        return True

    @staticmethod
    def _broken(connection: Connection, error: ProtocolError) -> None:
        connection.stream.abort(error)

    def connection_lost(self, connection: Connection) -> None:
        """A shard has ended a connection, or it broke."""
        if self._turns:
            self._advance()
        if all(turn.connection is not connection for turn in self._turns):
            self._sinks.pop(connection, None)

    def _lost(self, turn: Turn) -> None:
        """The shard of the first turn is lost."""
        if isinstance(turn.connection.lost_error(), TimedOut):
            # The session ends.
            self._turns.clear()
            return
        self._release()
        self._turns.popleft()
        was_failed = self.failed
        if not was_failed:
            error = turn.connection.lost_error()
            if turn.stores and not turn.inside:
                error = lost_alone(turn.connection, error)
            self._fail(turn, error, unparsed=True)
        if self.failed:
            self._failed_turn_ends(turn)
        elif turn.ready:
            self._client.write(encode.ready_for_query(b"I"))

    def _fail(self, turn: Turn, error: PgError, *, unparsed: bool) -> None:
        """The first turn has failed, with its Parse or before it if `unparsed`."""
        if self.failed:
            return
        names, parsed = self._extended.names, None if unparsed else turn.parsed
        if turn.extended:
            names.own_names(error)
        if turn.listed is not None:
            names.lists.place(None, turn.listed, error)
        if turn.inside and any(one.parsed is not None and one is not turn for one in self._turns):
            # Those after it have not replaced the unnamed statement.
            names.unnamed_is(parsed)
        elif turn.parsed is not None and parsed is None:
            names.parse_failed(turn.parsed)
        self._client.error(error)
        if turn.inside:
            self.failed = self.skipping = True
            if self._transaction.state is not IMPLICIT:
                self._transaction.fail()

    def _failed_turn_ends(self, turn: Turn) -> None:
        """Answer a turn as PostgreSQL does in a failed transaction; the one that failed has its error already."""
        self._release()
        if not self.skipping:
            self._client.error(PgError(IN_FAILED_SQL_TRANSACTION, _ABORTED))
            if turn.parsed is not None:
                self._extended.names.unnamed_is(None)
            self.skipping = turn.extended
        if turn.ready:
            self._client.write(encode.ready_for_query(self._transaction.ready_status))
            self.skipping = False
