"""The fast lane: statements of one shard, from the client's socket to the shard's and back in one synchronous chain.

Theory of operation. `feed` is given each chunk that the client's socket has read while the session's coroutine waits
for a message. It takes whole units from its front: a Query, or [Parse] Bind [Describe] Execute [Sync], whose plan is
known (`NameCache.plans`) and whose shard is connected and needs nothing but, at most, to join the transaction. Such a
unit leaves in one write. What it does not take is left to the coroutine, which first waits for `settled`.

Each unit is a turn. Turns are answered in order, though several shards may work at once: the sink of a shard's
stream takes answers only while the first turn is that shard's; what comes earlier stays in the stream, which pauses
its shard when that is much. Answers are checked message by message against what the shard owes (`wire.replies`)
and forwarded as they are, in one write for each read.

An error ends a turn. Outside a transaction the next turns are statements of their own, and go on. Inside one they
have failed, too, whatever their shards have answered: their answers are dropped, the client reads what PostgreSQL
says in a failed transaction, and the coroutine brings the shards to where the error leaves them (`failed`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from shardproxy.combine.notices import Fields
from shardproxy.errors import PgError, ProtocolError
from shardproxy.native import MessageWalk, read_bind, rebind, run_end, shape
from shardproxy.session.client import Client
from shardproxy.session.extended import Extended
from shardproxy.session.names import Resolver
from shardproxy.session.portals import Prepared
from shardproxy.session.shards import Shards
from shardproxy.session.transactions import Transactions
from shardproxy.shard.connection import Connection
from shardproxy.transaction.state import FAILED
from shardproxy.wire import encode
from shardproxy.wire.constants import B, F, backend_limit, frontend_limit
from shardproxy.wire.framing import Message
from shardproxy.wire.replies import STEP, SWALLOWED_QUERY, Expect, Owed, Step

_walk: Final = MessageWalk([frontend_limit(kind) for kind in range(256)])
_ROW_LIMIT: Final = backend_limit(B.DATA_ROW)
_length: Final = Struct("!i").unpack_from

_DESCRIBE_UNNAMED: Final = encode.describe(b"P", b"")
_EXECUTE_UNNAMED: Final = encode.execute(b"")
_HEADER: Final = 5

_PARSE, _BIND, _DESCRIBE = Owed(Expect.PARSE), Owed(Expect.BIND), Owed(Expect.DESCRIBE_PORTAL)
_EXECUTE, _SYNC, _LAST = Owed(Expect.EXECUTE), Owed(Expect.SYNC), Owed(Expect.SYNC, forward=False)
_PREPARE = Owed(Expect.PARSE, forward=False)
_QUERY = Owed(Expect.QUERY)
_ENDS: Final = frozenset({id(_SYNC), id(_LAST), id(_QUERY)})
"""The entries whose ReadyForQuery ends a turn; another one belongs to what has joined the shard to the transaction."""

PLAIN_BEGINS: Final = frozenset({b"BEGIN", b"BEGIN TRANSACTION", b"BEGIN WORK", b"START TRANSACTION"})

_ABORTED: Final = "current transaction is aborted, commands ignored until end of transaction block"


class Turn(NamedTuple):
    """A unit under way: its shard, whether the client reads a ReadyForQuery after it, its protocol, and whether it is
    inside a transaction, which may be another one when its answer comes."""

    connection: Connection
    ready: bool
    extended: bool
    inside: bool


class Lane:
    """One session's fast lane."""

    def __init__(
        self,
        client: Client,
        shards: Shards,
        names: Resolver,
        transactions: Transactions,
        extended: Extended,
        attention: Callable[[], None],
    ) -> None:
        """`attention` is called when the session's coroutine has to see to `failed`."""
        self.failed = False
        """A turn inside a transaction has failed."""
        self.skipping = False
        """The client's messages up to the next Sync are to be skipped."""
        self._client = client
        self._shards = shards
        self._names = names
        self._transaction = shards.transaction
        self._transactions = transactions
        self._extended = extended
        self._attention = attention
        self._turns: deque[Turn] = deque()
        self._sinks: dict[Connection, Callable[[memoryview], int]] = {}
        self._advancing = False
        self._settled: asyncio.Future[None] | None = None
        shards.on_lost = self._connection_lost

    @property
    def busy(self) -> bool:
        """Whether a shard owes the client an answer."""
        return bool(self._turns)

    async def settled(self) -> None:
        """Wait until all that was taken is answered."""
        if self._turns:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    # From the client to the shards.

    def feed(self, view: memoryview) -> int:
        """Take units from the front of a chunk; return the bytes used."""
        extended = self._extended
        transaction = self._transaction
        if (
            self.failed
            or self._shards.cancelled
            or extended.skipping
            or extended.waiting
            or transaction.doomed
            or transaction.state is FAILED
        ):
            return 0
        types, starts = _walk(view)
        at, count = 0, len(types)
        while at < count:
            kind = types[at]
            if kind == F.BIND:
                taken = self._bind(view, types, starts, at)
            elif kind == F.QUERY:
                taken = self._query(view, starts, at)
            elif kind == F.PARSE:
                taken = self._parse(view, types, starts, at)
            else:
                break
            if not taken:
                break
            at += taken
        return starts[at]

    def _bind(self, view: memoryview, types: bytes, starts: list[int], at: int) -> int:
        """Take Bind and what belongs to it, for a statement that is prepared; return the number of messages."""
        start, end = starts[at] + _HEADER, starts[at + 1]
        bound = read_bind(view, start, end)
        if bound is None or bound[0]:
            return 0
        prepared = self._extended.statements.get(bound[1])
        if prepared is None:
            return 0
        return self._unit(view, types, starts, at, at, prepared, bound[2])

    def _parse(self, view: memoryview, types: bytes, starts: list[int], at: int) -> int:
        """Take Parse of the unnamed statement and what belongs to it."""
        start, end = starts[at] + _HEADER, starts[at + 1]
        if types[at + 1 : at + 2] != b"B" or view[start]:
            return 0
        plan = self._names.cache.plans.get(bytes(view[start + 1 : end]))
        if plan is None:
            return 0
        bound = read_bind(view, end + _HEADER, starts[at + 2])
        if bound is None or bound[0] or bound[1]:
            return 0
        return self._unit(view, types, starts, at, at + 1, plan.prepared, bound[2])

    def _unit(
        self, view: memoryview, types: bytes, starts: list[int], first: int, bind: int, prepared: Prepared, nparams: int
    ) -> int:
        """Take the unit whose Bind is message `bind`, and whose first one is `first`, a Parse or the Bind."""
        names = self._names
        plan = names.cache.plans.get(prepared.key)
        if plan is None:
            return 0
        execute = bind + 1
        describe = types[execute : execute + 1] == b"D"
        if describe:
            if view[starts[execute] : starts[execute + 1]] != _DESCRIBE_UNNAMED:
                return 0
            execute += 1
        if types[execute : execute + 1] != b"E" or view[starts[execute] : starts[execute + 1]] != _EXECUTE_UNNAMED:
            return 0
        start, end = starts[bind] + _HEADER, starts[bind + 1]
        shard = plan.shard(view, start, end, prepared.oids, self._shards.home)
        connection = self._shards.standing(shard) if shard is not None else None
        if shard is None or connection is None or connection.cancelling is not None or connection.statements.closes:
            return 0
        transaction, extended = self._transaction, self._extended
        synced = types[execute + 1 : execute + 2] == b"S" and starts[execute + 2] - starts[execute + 1] == _HEADER
        owed: list[Owed] = []
        data: list[bytes] = []
        if transaction.open and shard not in transaction.joined and not self._begins_plainly():
            return 0
        if transaction.open:
            # The Sync of an implicit transaction commits it: that is the coroutine's.
            ready = synced and not transaction.implicit
        else:
            ready = synced and not extended.executed
            if not ready:
                self._transactions.begin_implicit()
        if transaction.open and shard not in transaction.joined:
            data.append(encode.query(self._shards.joining(shard)))
            owed += SWALLOWED_QUERY
        statements = connection.statements
        parse = first != bind
        if parse:
            extended.statements[b""] = prepared
            statements.parsed(b"", prepared.number)
            data.append(bytes(view[starts[first] : starts[execute + 1]]))
            owed.append(_PARSE)
        else:
            if not statements.has(prepared.shard_name, prepared.number):
                statements.parsed(prepared.shard_name, prepared.number)
                data.append(prepared.parse())
                owed.append(Owed(Expect.PARSE, forward=False, name=prepared.shard_name))
            renamed = rebind(view, start, end, b"", prepared.shard_name)
            assert renamed is not None
            data += renamed, bytes(view[end : starts[execute + 1]])
        data.append(encode.SYNC)
        owed += (_BIND, _DESCRIBE, _EXECUTE) if describe else (_BIND, _EXECUTE)
        owed.append(_SYNC if ready else _LAST)
        extended.ran_unnamed(prepared, keep=transaction.open)
        extended.executed = not ready
        self._send(connection, b"".join(data), owed, Turn(connection, ready, extended=True, inside=transaction.open))
        return execute + 1 + ready - first

    def _query(self, view: memoryview, starts: list[int], at: int) -> int:
        """Take a simple Query of one statement."""
        transaction = self._transaction
        start, end = starts[at], starts[at + 1]
        if transaction.implicit or self._extended.executed or view[end - 1]:
            return 0
        found = shape(view, start + _HEADER, end - 1)
        if found is None:
            return 0
        text, kinds, texts = found
        plan = self._names.cache.queries.get((text, kinds))
        if plan is None:
            return 0
        shard = plan.shard(kinds, texts, self._shards.home)
        connection = self._shards.standing(shard) if shard is not None else None
        if shard is None or connection is None or connection.cancelling is not None or connection.statements.closes:
            return 0
        data = bytes(view[start:end])
        owed: tuple[Owed, ...] = (_QUERY,)
        if transaction.open and shard not in transaction.joined:
            if not self._begins_plainly():
                return 0
            data = encode.query(self._shards.joining(shard)) + data
            owed = (*SWALLOWED_QUERY, _QUERY)
        connection.statements.queried()
        self._extended.forget_unnamed()
        self._send(connection, data, owed, Turn(connection, ready=True, extended=False, inside=transaction.open))
        return 1

    def _begins_plainly(self) -> bool:
        """Whether a shard can join in passing: what it has to run first cannot fail."""
        log = self._transaction.log
        return len(log) == 1 and log[0].sql.upper() in PLAIN_BEGINS

    def _send(self, connection: Connection, data: bytes, owed: "list[Owed] | tuple[Owed, ...]", turn: Turn) -> None:
        sink = self._sinks.get(connection)
        if sink is None:
            sink = self._sinks[connection] = self._sink_of(connection)
        if connection.stream.sink is not sink:
            connection.stream.tap(sink)
        self._client.on_notice = self._notice
        self._turns.append(turn)
        connection.send(data, owed)

    def _notice(self, _: int, fields: Fields) -> None:
        self._client.notice(fields)

    # From the shards to the client.

    def _sink_of(self, connection: Connection) -> Callable[[memoryview], int]:
        def sink(view: memoryview) -> int:
            at = 0
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
                if not connection.usable:
                    self._lost(turn)
                elif connection.stream.pending:
                    connection.stream.tap(self._sinks[connection])
                if self._turns and self._turns[0] is turn:
                    break
        finally:
            self._advancing = False
        if not self._turns:
            self._ended()

    def _answers(self, connection: Connection, view: memoryview, at: int) -> int:
        """Take answers to the turns at the head that are this shard's; return where they end."""
        replies = connection.replies
        queue, turns = replies.queue, self._turns
        size = len(view)
        start = at  # what lies from here to `at` is to be forwarded
        pieces: list[memoryview] = []
        while at + _HEADER <= size:
            kind = view[at]
            [length] = _length(view, at + 1)
            end = at + 1 + length
            if not 4 <= length <= backend_limit(kind):
                self._broken(connection, ProtocolError(f"it sent a message of type {chr(kind)!r} and length {length}"))
                break
            if end > size:
                break
            step = STEP.get((queue[0].expect, kind)) if queue else None
            if kind == B.DATA_ROW and step is Step.STAYS:
                run = run_end(view, at, kind, _ROW_LIMIT)
                if self.failed:
                    pieces.append(view[start:at])
                    start = run
                at = run
                continue
            if step is None or step is Step.SKIPS or kind == B.ERROR_RESPONSE:
                pieces.append(view[start:at])
                self._write(pieces)
                pieces = []
                start = at = end
                if not self._unusual(connection, Message(kind, bytes(view[at - length + 4 : end]))):
                    break
                continue
            owed = queue[0]
            if step is Step.ENDS:
                queue.popleft()
            if not owed.forward or self.failed:
                pieces.append(view[start:at])
                start = end
            at = end
            if kind == B.READY_FOR_QUERY:
                connection.status = view[end - 1]
                if id(owed) in _ENDS:
                    if self.failed:
                        self._failed_turn_ends(turns[0])
                    turns.popleft()
                    if not turns or turns[0].connection is not connection:
                        break
        pieces.append(view[start:at])
        self._write(pieces)
        return at

    def _write(self, pieces: list[memoryview]) -> None:
        data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
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
            reply = connection.answer(message)
        except ProtocolError as error:
            self._broken(connection, error)
            return False
        except PgError:
            # An error by which the server ends the connection: the stream is lost, and its turns with it.
            return False
        self._fail(self._turns[0], connection.error(reply))
        return True

    @staticmethod
    def _broken(connection: Connection, error: ProtocolError) -> None:
        connection.stream.abort(error)

    def _connection_lost(self, connection: Connection) -> None:
        if self._turns:
            self._advance()

    def _lost(self, turn: Turn) -> None:
        """The shard of the first turn is lost."""
        self._turns.popleft()
        was_failed = self.failed
        if not was_failed:
            self._fail(turn, turn.connection.lost_error())
        if self.failed:
            self._failed_turn_ends(turn)
        elif turn.ready:
            self._client.write(encode.ready_for_query(b"I"))

    def _fail(self, turn: Turn, error: PgError) -> None:
        """The first turn has failed."""
        if self.failed:
            return
        if turn.extended:
            self._extended.own_names(error)
            self._extended.parse_failed(turn.connection)
        self._client.error(error)
        if turn.inside:
            self.failed = self.skipping = True
            if not self._transaction.implicit:
                self._transaction.fail()

    def _failed_turn_ends(self, turn: Turn) -> None:
        """Answer a turn as PostgreSQL does in a failed transaction; the one that failed has its error already."""
        if not self.skipping:
            self._client.error(PgError("25P02", _ABORTED))
            self.skipping = turn.extended
        if turn.ready:
            self._client.write(encode.ready_for_query(self._transaction.ready_status))
            self.skipping = False
