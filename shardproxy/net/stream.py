"""One socket, for a client or a shard: whole messages for the coroutine that reads, raw bytes for a tap.

All of the package's reads and writes of protocol traffic pass through here. A `Stream` never interprets a
message. Two ways to read:

- `await read()` gives one whole message at a time;
- `tap(sink)` hands every arriving chunk to `sink` in the same call that read it from the socket. The sink
  returns how many bytes it took; it stops in front of a message that is not its own, and that one goes to
  `read()`. This is the COPY path: no task, future or queue per chunk.

Ownership: the memoryview that a sink gets lies in a scratch buffer shared by all streams of the event loop and
is valid during the call only. Whatever must outlive it is copied by the sink.

Back-pressure: `pause_reading(reason)` holds the peer back until every reason is gone; `on_writable(False)` tells
that this peer reads too slowly. A stream pauses itself when no reader takes the messages that it has buffered.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import cast
from weakref import WeakKeyDictionary

from shardproxy.errors import ConnectionLost, ProtocolError
from shardproxy.wire.encode import message as encode_message
from shardproxy.wire.framing import FrameReader, LimitOf, Message

SCRATCH_SIZE = 256 * 1024
"""Bytes per socket read: where the cost of a read call stops mattering (measured; 512 KiB gains nothing)."""

HIGH_WATER = 1024 * 1024
"""Bytes waiting to be sent before the source is paused: one is in flight while the next is filled."""

LOW_WATER = 256 * 1024
"""Bytes waiting to be sent when the source may go on."""

READ_AHEAD = 1024 * 1024
"""Bytes of unread messages before the peer is paused."""

CORKED = 16 * 1024
"""Bytes from which a write is not held for others: copying it would cost more than a call of its own."""

Sink = Callable[[memoryview], int]

_scratch: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def _scratch_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The loop's one read buffer: get_buffer and buffer_updated follow each other without a switch."""
    view = _scratch.get(loop)
    if view is None:
        # A memoryview, not the bytearray itself: asyncio's TLS slices what get_buffer returns, and a slice of
        # a bytearray is a copy, so decrypted bytes would be lost.
        view = _scratch[loop] = memoryview(bytearray(SCRATCH_SIZE))
    return view


class Stream(asyncio.BufferedProtocol):
    """A connected socket. Create it through `asyncio.create_connection` or a server's protocol factory."""

    def __init__(self, frames: FrameReader, on_connect: Callable[["Stream"], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = _scratch_of(self._loop)
        self._frames = frames
        self._on_connect = on_connect
        self._transport: asyncio.Transport | None = None
        self.sink: Sink | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused: set[Hashable] = set()
        self._error: Exception | None = None
        self.lost = True
        """Whether the connection is gone, or not there yet."""
        self.writable = True
        self.on_writable: Callable[[bool], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.on_idle_data: Callable[[], None] | None = None
        self.received = 0
        """Counts reads: who sees the same number again has heard nothing since."""
        self._closed: asyncio.Future[None] | None = None
        self._corked: list[bytes] | None = None
        self._corked_size = 0

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self.lost = self._error is not None
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        if self._on_connect is not None:
            self._on_connect(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the event loop reads to."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what the event loop has read."""
        self.received += 1
        view = self._scratch[:nbytes]
        if self.sink is None or self._frames.buffered:
            self._frames.feed(view)
            if self.sink is not None and self._frames.whole:
                self._pour()
        else:
            try:
                used = self.sink(view)
            except ProtocolError as error:
                self.fail(error)
                return
            if used == nbytes:
                return
            self._frames.feed(view[used:])
        if not self._frames.buffered:
            return
        if self._waiter is not None:
            if self._frames.whole:
                self._wake()
        elif self.on_idle_data is not None:
            self.on_idle_data()
        if self._frames.buffered > READ_AHEAD and self._waiter is None and self._frames.whole:
            self.pause_reading(self)

    def eof_received(self) -> bool:
        """Treat a half-closed connection as closed, as PostgreSQL does."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End every wait."""
        if self._error is None:
            self._error = ConnectionLost(str(exc) if exc else "the connection was closed")
        self._transport = None
        self.lost = True
        self._wake()
        self._end_drain()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Note that the peer reads too slowly."""
        self.writable = False
        if self.on_writable is not None:
            self.on_writable(False)

    def resume_writing(self) -> None:
        """Note that the peer has caught up."""
        self.writable = True
        self._end_drain()
        if self.on_writable is not None:
            self.on_writable(True)

    # The reader's side.

    async def read(self, until: "asyncio.Future[None] | None" = None) -> Message | None:
        """Return the next message; None once `until` is done and no whole message waits.

        Raises ConnectionLost after the last message of a closed connection, ProtocolError for a malformed one.
        """
        while True:
            message = self.take()
            if message is not None:
                return message
            if self._error is not None:
                raise self._error
            if until is not None and until.done():
                return None
            if until is None:
                await self._wait()
                continue
            until.add_done_callback(self._wake)
            try:
                await self._wait()
            finally:
                until.remove_done_callback(self._wake)

    async def _wait(self) -> None:
        """Wait until there may be something to read."""
        self.resume_reading(self)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def arrival(self) -> None:
        """Wait until a message has arrived whole, or the connection is lost."""
        while not self._frames.whole and self._error is None:
            await self._wait()

    def take_expected(self, expected: bytes) -> bool:
        """Drop these whole messages if they have arrived and are the next; tell whether they were."""
        return self._frames.take(expected)

    async def message(self) -> Message:
        """Return the next message; the exceptions are those of `read`."""
        message = await self.read()
        if message is None:
            raise AssertionError("read() without a limit returned nothing")
        return message

    def limit(self, limit_of: LimitOf) -> None:
        """Set which message types and lengths may come from now on."""
        self._frames.limit_of = limit_of

    def put_back(self, message: Message) -> None:
        """Have a message read again, before all that has come since."""
        rest = self._frames.take_rest()
        self._frames.feed(encode_message(message.type, message.payload) + rest)

    def unread(self, data: bytes) -> None:
        """Take bytes back that a tap has swallowed and left unused."""
        if data:
            self._frames.feed(data)

    def take(self) -> Message | None:
        """Return a message that has arrived whole, without waiting."""
        message = self._frames.next()
        if message is not None and self in self._paused and self._frames.buffered < READ_AHEAD // 2:
            self.resume_reading(self)
        return message

    def tap(self, sink: Sink) -> None:
        """Give all that arrives to `sink` from now on, first what has been buffered."""
        self.sink = sink
        if self._frames.buffered:
            self._pour()

    def _pour(self) -> None:
        """Give what has been buffered to the sink, and keep what it leaves."""
        rest = self._frames.take_rest()
        assert self.sink is not None
        try:
            used = self.sink(memoryview(rest))
        except ProtocolError as error:
            self.fail(error)
            return
        if used < len(rest):
            self._frames.feed(memoryview(rest)[used:])
        if self in self._paused and (self._frames.buffered < READ_AHEAD // 2 or not self._frames.whole):
            # A part of one message, however large, is not what the sink has left: the rest of it must come.
            self.resume_reading(self)

    def untap(self) -> None:
        """Read messages again."""
        self.sink = None

    def pause_reading(self, reason: Hashable) -> None:
        """Stop reading from the peer until `reason` and all others are gone. Idempotent."""
        if not self._paused and self._transport is not None:
            self._transport.pause_reading()
        self._paused.add(reason)

    def resume_reading(self, reason: Hashable) -> None:
        """Take `reason` back. Idempotent."""
        if reason not in self._paused:
            return
        self._paused.discard(reason)
        if not self._paused and self._transport is not None:
            self._transport.resume_reading()

    # The writer's side.

    def write(self, data: bytes) -> None:
        """Queue bytes. On a lost connection they vanish; the reader learns of the loss."""
        if self._transport is None or not data:
            return
        if self._corked is None:
            self._transport.write(data)
        elif len(data) >= CORKED:
            self.flush()
            self._transport.write(data)
        else:
            if not self._corked:
                self._loop.call_soon(self.flush)
            self._corked.append(data)
            self._corked_size += len(data)
            if self._corked_size >= CORKED:
                self.flush()

    def write_now(self, data: bytes) -> None:
        """Send bytes after what is corked."""
        if self._corked:
            self.flush()
        if self._transport is not None:
            self._transport.write(data)

    def cork(self) -> None:
        """Let small writes of one turn of the event loop leave together."""
        self._corked = []

    def flush(self) -> None:
        """Send what is corked now."""
        if self._corked:
            data, self._corked, self._corked_size = b"".join(self._corked), [], 0
            if self._transport is not None:
                self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken enough. Returns at once on a lost connection."""
        self.flush()
        if self.writable or self._transport is None:
            return
        if self._drained is None:
            self._drained = self._loop.create_future()
        await asyncio.shield(self._drained)

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(level, option, value)

    def close(self) -> None:
        """Send what is queued, then close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; `error` is what the reader gets. Lost from here on, not from the loop's next turn."""
        if self._error is None:
            self._error = error or ConnectionLost("the connection was given up")
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    async def closed(self) -> None:
        """Wait until the peer has closed the connection; what it sends before is read and dropped."""
        self.tap(len)
        if self._transport is None:
            return
        self._closed = self._loop.create_future()
        await self._closed

    @property
    def next_type(self) -> int | None:
        """The type byte of the message that has arrived whole and will be read next, if there is one."""
        return self._frames.next_type

    @property
    def pending(self) -> bool:
        """Whether a whole message waits to be read."""
        return self._frames.whole

    @property
    def reading_paused(self) -> bool:
        """Whether this side holds the peer back."""
        return bool(self._paused)

    @property
    def error(self) -> Exception | None:
        """Why the connection is lost, once it is."""
        return self._error

    @property
    def peer(self) -> tuple[str, int] | None:
        """The peer's address and port, if it has one."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return (name[0], name[1]) if name else None

    def fail(self, error: ProtocolError) -> None:
        """Let the reader see a protocol error that a sink has found."""
        self.lost = True
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self, *_: object) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def __repr__(self) -> str:
        state = "lost" if self.lost else "paused" if self._paused else "open"
        return f"<Stream {self.peer} {state}{' tapped' if self.sink else ''}>"
