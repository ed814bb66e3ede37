"""One request's way back: every shard is read to its end, and the client gets the answer of one server.

Rows pass from a shard's socket to the client in one synchronous call, whole messages only; what else comes is
`combine.Answers`'. A client that reads slowly pauses the shards (`shards.Shards` sees to that). The first error
cancels the other shards, and is the only one reported, after all have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from shardproxy.combine.answers import Answer, Answers
from shardproxy.errors import PgError, ProtocolError
from shardproxy.native import FrameMerge
from shardproxy.net.gather import each
from shardproxy.net.stream import Sink
from shardproxy.session.typed import DESCRIPTIONS, Carrying, described
from shardproxy.shard.connection import Connection, Reply
from shardproxy.shard.errors import reported_by
from shardproxy.shard.types import ShardTypes
from shardproxy.transaction.single_shard import lost_alone
from shardproxy.wire.constants import B
from shardproxy.wire.encode import message as encode_message
from shardproxy.wire.replies import Expect, Owed
from shardproxy.wire.usertypes import UnknownOidError

DATA_ROW = bytes((B.DATA_ROW,))
COPY_DATA = bytes((B.COPY_DATA,))
ROWS = frozenset({B.DATA_ROW, B.COPY_DATA})


GRANTED = 0.5
"""Seconds between questions whether the first of several shards waits for a lock. Two must find that it does not: on a
busy machine the first may come before its server has begun."""

ASKED = 2

EVERYWHERE = frozenset({"08", "0A", "25", "26", "34", "42"})
"""Classes of errors that are about the statement, and the same on whichever shard they are seen first."""


BEHIND: Final = Owed(Expect.QUERY, forward=False)
"""The answer to a question of the proxy's that was sent after the client's request: a Relay leaves it."""


class Output(Protocol):
    """Where results go: a client's stream, or whatever collects them."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""


class Discard:
    """An output that drops all."""

    def write(self, data: bytes) -> None:
        """Drop the bytes."""


class Kept:
    """An output that keeps the bytes: at most a row, or a description."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Keep the bytes."""
        self.data += data


class Relay:
    """The answers of `connections` on their way to `output`.

    `merge` knows the row messages. `rows_from` is the only shard whose rows count, or None for all. After `limit` rows
    of all shards the rest are read and dropped.
    With `name_shard` an error of one of several shards tells which. `alone`: what it is asked commits by itself, and
    may have done so if its connection is lost. `asks`: it is only told about a statement, and where all is told, but
    for ReadyForQuery, a lost connection is no error: the client has its answer, and may wait for nothing more.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        output: Output,
        merge: FrameMerge | None = None,
        rows_from: int | None = None,
        *,
        limit: int | None = None,
        name_shard: bool = True,
        alone: bool = False,
        asks: bool = False,
    ) -> None:
        self.connections = connections
        self._output = output
        self._merge = merge or FrameMerge(len(connections), DATA_ROW, limit=limit)
        self._rows_from = rows_from
        self._name_shard = name_shard
        self._alone = alone
        self._asks = asks
        self._answers = Answers(len(connections))
        self._carrying: dict[int, Carrying] = {}
        self._failed: PgError | None = None
        self.failed_by: Connection | None = None
        """Whose error `run` raises, or in whose answer it lies."""
        self._cancelling: set[asyncio.Task[None]] = set()

    @property
    def completed(self) -> list[Connection]:
        """The shards that have done it, also if others have not."""
        shards = zip(self.connections, self._answers.shards, strict=True)
        return [connection for connection, answer in shards if answer.tag is not None]

    async def ask(self, request: Callable[[Connection], object]) -> list[Answer]:
        """Send every shard the request, then as `run`."""
        for connection in self.connections:
            request(connection)
        return await self.run()

    async def run(self) -> list[Answer]:
        """Read every shard until it owes nothing, but for `BEHIND`; raise the first error."""
        await each(self._collect(number, connection) for number, connection in enumerate(self.connections))
        return await self._ended()

    async def _ended(self) -> list[Answer]:
        if self._cancelling:
            # A cancel request that arrives late would hit the connection's next statement.
            await asyncio.wait(self._cancelling)
        if self._failed is not None:
            raise self._failed
        return self._answers.shards

    async def in_order(
        self, send: Callable[[Connection], None], waits: Callable[[Connection], Awaitable[bool]]
    ) -> list[Answer]:
        """Send the request to the first shard, and to the others once that has its locks; then as `run`.

        Who comes first there comes first everywhere: sessions that all do so never wait for each other crosswise. The
        first has its locks if it has answered, or takes its time and, as `waits` tells, not for a lock.
        """
        first, *others = self.connections
        granted = asyncio.Event()

        async def lead() -> None:
            try:
                await self._collect(0, first)
            finally:
                granted.set()

        async def ask() -> None:
            at_work = 0
            while at_work < ASKED:
                try:
                    async with asyncio.timeout(GRANTED):
                        await granted.wait()
                    return
                except TimeoutError:
                    at_work = 0 if await waits(first) else at_work + 1
            granted.set()

        async def follow(number: int, connection: Connection) -> None:
            await granted.wait()
            if self._failed is not None:
                return
            try:
                send(connection)
            except PgError as error:
                self._fail(connection, error, reported=False)
            else:
                await self._collect(number, connection)

        send(first)
        await each([lead(), ask(), *(follow(number, one) for number, one in enumerate(others, 1))])
        return await self._ended()

    async def _collect(self, number: int, connection: Connection) -> None:
        sink = self._sink(number, connection)
        stream, queue = connection.stream, connection.replies.queue
        stream.tap(sink)
        left = len(queue)
        try:
            while (left := len(queue)) and queue[0] is not BEHIND:
                reply = await connection.read()
                with connection.trusted():
                    if reply.type in ROWS:
                        # It was buffered after a notice, which `read` has passed on.
                        if not sink(memoryview(encode_message(reply.type, reply.payload))):
                            raise ProtocolError(f"unexpected message of type {chr(reply.type)!r}")
                    elif reply.type == B.ERROR_RESPONSE:
                        self._fail(connection, connection.error())
                    else:
                        types = connection.statements.types
                        if types is not None and reply.type in DESCRIPTIONS:
                            stream.untap()
                            await self._translate(number, connection, types, reply)
                        else:
                            self._take(number, connection, reply)
                # What is buffered after this message may be rows again.
                stream.tap(sink)
        except PgError as error:
            if not (self._asks and left == 1):
                self._fail(connection, lost_alone(connection, error) if self._alone else error)
        finally:
            stream.untap()

    def _sink(self, number: int, connection: Connection) -> Sink:
        merge, write = self._merge, self._output.write
        discard = self._rows_from is not None and number != self._rows_from

        def sink(view: memoryview) -> int:
            used, rows = merge.feed(number, view)
            if rows and not discard and self._failed is None:
                write(rows)
            return used

        types = connection.statements.types
        if types is None:
            return sink

        def translating(view: memoryview) -> int:
            carrying = self._carrying.get(number)
            if carrying is None or self._failed is not None:
                return sink(view)
            try:
                used, rows = carrying.rows(view)
            except UnknownOidError as error:
                self._fail(connection, types.missing(carrying.types, error.oid, canonical=False), reported=False)
                return sink(view)
            if rows and sink(memoryview(rows)) != len(rows):
                raise ProtocolError("rows came where none may")
            return used

        return translating

    async def _translate(self, number: int, connection: Connection, types: ShardTypes, reply: Reply) -> None:
        """Take a description with the types as the client knows them."""
        self._carrying.pop(number, None)
        try:
            reply, carrying = await described(types, reply)
        except ProtocolError:
            raise
        except PgError as error:
            self._fail(connection, error, reported=False)
            return
        if carrying is not None:
            self._carrying[number] = carrying
        self._take(number, connection, reply)

    def carry(self, number: int, carrying: Carrying) -> None:
        """Translate what a shard's rows have inside, which nothing describes: those of COPY."""
        self._carrying[number] = carrying

    def _take(self, number: int, connection: Connection, reply: Reply) -> None:
        try:
            self._write(self._answers.take(number, reply.type, reply.payload, reply.owed))
        except ProtocolError:
            raise
        except PgError as error:
            # The shards' answers do not agree. This one, too, is read to its end.
            self._fail(connection, error, reported=False)

    def _write(self, data: bytes) -> None:
        if data and self._failed is None:
            self._output.write(data)

    def _fail(self, connection: Connection, error: PgError, *, reported: bool = True) -> None:
        """Note the first error and stop the others: what they still send has no reader.

        `reported` tells whether it is the shard's own, by which its statement has ended.
        """
        if self._failed is not None:
            return
        self._failed, self.failed_by = error, connection
        if len(self.connections) == 1:
            error.tag = self._answers.shards[0].tag
        error.described = any(answer.columns is not None for answer in self._answers.shards)
        if len(self.connections) > 1:
            others = [one for one in self.connections if one.busy and (one is not connection or not reported)]
            self._cancelling = {one.cancel() for one in others}
            if reported and connection.usable and self._name_shard and error.sqlstate[:2] not in EVERYWHERE:
                reported_by(error, connection.name)
