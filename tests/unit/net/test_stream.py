"""A stream alone: messages and taps at every cut, back-pressure, corked writes, the end."""

import asyncio

import pytest

from shardproxy.errors import ConnectionLost, ProtocolError
from shardproxy.net.stream import CORKED, HIGH_WATER, READ_AHEAD, SCRATCH_SIZE, Stream
from shardproxy.wire.constants import frontend_limit
from shardproxy.wire.framing import FrameReader
from tests.support.messages import SYNC, Said, data, joined, query, said
from tests.support.playbook import Wire, settle

FIRST, SECOND = query("SELECT 1"), query("SELECT 22")


def stream_of() -> tuple[Stream, Wire]:
    stream = Stream(FrameReader(frontend_limit))
    wire = Wire(stream, lambda _, sent: None)
    stream.connection_made(wire)
    return stream, wire


def taken(stream: Stream) -> list[Said]:
    messages = iter(stream.take, None)
    return [said(message, frontend=True) for message in messages]


# Messages.


async def test_every_cut() -> None:
    whole = joined([FIRST, SYNC, SECOND])
    for cut in range(1, len(whole)):
        stream, wire = stream_of()
        wire.send(whole[:cut])
        before = taken(stream)
        wire.send(whole[cut:])
        assert before + taken(stream) == [FIRST, SYNC, SECOND]
        assert not stream.pending


async def test_a_reader_waits_for_a_whole_message() -> None:
    stream, wire = stream_of()
    reading = asyncio.ensure_future(stream.message())
    for byte in FIRST.data[:-1]:
        wire.send(bytes([byte]))
        await settle()
        assert not reading.done()
    wire.send(FIRST.data[-1:])
    assert said(await reading, frontend=True) == FIRST


async def test_reading_with_a_limit() -> None:
    """What has come whole is given even if the limit is reached."""
    stream, wire = stream_of()
    until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    reading = asyncio.ensure_future(stream.read(until=until))
    await settle()
    until.set_result(None)
    assert await reading is None
    wire.send(FIRST.data)
    assert await stream.read(until=until) is not None
    assert await stream.read(until=until) is None


async def test_messages_before_the_end_are_read() -> None:
    stream, wire = stream_of()
    wire.send(joined([FIRST, SECOND]))
    wire.lose()
    await settle()
    assert stream.lost
    assert taken(stream) == [FIRST, SECOND]
    with pytest.raises(ConnectionLost):
        await stream.read()


async def test_a_length_that_cannot_be() -> None:
    stream, wire = stream_of()
    wire.send(FIRST.data + b"Q\0\0\0\3")
    assert said(await stream.message(), frontend=True) == FIRST
    with pytest.raises(ProtocolError):
        await stream.read()


async def test_the_reason_of_an_abort() -> None:
    stream, wire = stream_of()
    stream.abort(ConnectionLost("no answer"))
    assert wire.closed
    with pytest.raises(ConnectionLost, match="no answer"):
        await stream.read()
    stream.write(b"to no peer")
    assert wire.writes == []


# Taps.


def only_syncs(got: list[bytes], view: memoryview) -> int:
    """A sink that takes Sync, and stops in front of anything else."""
    used = 0
    while view[used : used + 5] == SYNC.data:
        used += 5
    got.append(bytes(view[:used]))
    return used


async def test_a_tap_at_every_cut() -> None:
    """It gets its messages, the reader the one that is not its own; what follows waits for both."""
    whole = joined([SYNC, SYNC, FIRST, SYNC])
    for cut in range(1, len(whole)):
        stream, wire = stream_of()
        got: list[bytes] = []
        stream.tap(lambda view, got=got: only_syncs(got, view))  # type: ignore[misc]
        wire.send(whole[:cut])
        wire.send(whole[cut:])
        assert b"".join(got) == SYNC.data * 2
        assert said(await stream.message(), frontend=True) == FIRST
        stream.tap(lambda view, got=got: only_syncs(got, view))  # type: ignore[misc]
        assert b"".join(got) == SYNC.data * 3
        assert not stream.pending


async def test_a_tap_gets_what_came_before() -> None:
    stream, wire = stream_of()
    wire.send(joined([SYNC, SYNC, FIRST]))
    got: list[bytes] = []
    stream.tap(lambda view: only_syncs(got, view))
    assert got == [SYNC.data * 2]
    assert taken(stream) == [FIRST]


async def test_what_is_put_back_comes_first() -> None:
    stream, wire = stream_of()
    stream.unread(FIRST.data[:3])
    wire.send(FIRST.data[3:])
    assert taken(stream) == [FIRST]


async def test_a_tap_that_finds_the_protocol_broken() -> None:
    def broken(_: memoryview) -> int:
        raise ProtocolError("no")

    for early in (True, False):
        stream, wire = stream_of()
        if early:
            wire.send(SYNC.data)
        stream.tap(broken)
        if not early:
            wire.send(SYNC.data)
        with pytest.raises(ProtocolError):
            await stream.read()


# Back-pressure.


async def test_messages_that_are_not_read_pause_their_sender() -> None:
    stream, wire = stream_of()
    large = data("x" * 100_000)
    sent = 0

    def held_back() -> bool:
        return stream.reading_paused and wire.paused

    while not held_back():
        wire.send(large.data)
        sent += 1
        assert sent * len(large.data) < 2 * READ_AHEAD
    while held_back():
        assert stream.take() is not None
        sent -= 1
    assert sent


async def test_a_part_of_a_message_is_not_held_back() -> None:
    """However large it is: it must come whole to be read."""
    stream, wire = stream_of()
    large = data("x" * (3 * READ_AHEAD))
    wire.send(large.data)
    assert taken(stream) == [large]


async def test_a_tap_that_leaves_a_part_of_a_message() -> None:
    """It was held back while the tap took nothing. The rest has to come when it takes what is whole."""
    stream, wire = stream_of()
    open_ = False
    got = bytearray()

    def sink(view: memoryview) -> int:
        if not open_:
            return 0
        used = 5 if not got else 0
        if len(view) - used >= len(large.data):
            used += len(large.data)
        got.extend(view[:used])
        return used

    large = data("x" * (3 * READ_AHEAD))
    stream.tap(sink)
    wire.send(SYNC.data)
    wire.send(large.data)
    assert wire.paused
    open_ = True
    stream.tap(sink)
    await settle()
    assert bytes(got) == SYNC.data + large.data


async def test_reasons_to_pause_are_counted_by_name() -> None:
    stream, wire = stream_of()
    for reason in ("a", "a", "b"):
        stream.pause_reading(reason)
    stream.resume_reading("a")
    stream.resume_reading("never")
    assert wire.paused
    stream.resume_reading("b")
    assert not stream.reading_paused


async def test_a_peer_that_reads_slowly() -> None:
    stream, wire = stream_of()
    told: list[bool] = []
    stream.on_writable = told.append
    wire.stop_reading()
    stream.write(b"x" * HIGH_WATER)
    await stream.drain()
    stream.write(b"x")
    assert told == [False]
    draining = asyncio.ensure_future(stream.drain())
    await settle()
    assert not draining.done()
    wire.read_on()
    await draining
    assert told == [False, True]


async def test_the_end_ends_a_drain() -> None:
    stream, wire = stream_of()
    wire.stop_reading()
    stream.write(b"x" * (HIGH_WATER + 1))
    draining = asyncio.ensure_future(stream.drain())
    await settle()
    wire.lose()
    await draining
    assert stream.lost


# Writes.


async def test_corked_writes_leave_together() -> None:
    stream, wire = stream_of()
    stream.cork()
    for part in (b"a", b"b", b""):
        stream.write(part)
    assert wire.writes == []
    await settle()
    stream.write(b"c")
    stream.write_now(b"d")
    stream.write(b"e")
    stream.close()
    assert wire.writes == [b"ab", b"c", b"d", b"e"]


async def test_a_large_write_is_not_held() -> None:
    """In its order."""
    stream, wire = stream_of()
    stream.cork()
    stream.write(b"a")
    stream.write(b"x" * CORKED)
    assert wire.writes == [b"a", b"x" * CORKED]
    for _ in range(CORKED):
        stream.write(b"b")
    assert wire.writes[2:] == [b"b" * CORKED]


async def test_more_than_one_read() -> None:
    stream, wire = stream_of()
    large = data("x" * (2 * SCRATCH_SIZE))
    before = stream.received
    wire.send(large.data)
    assert stream.received - before == 3
    assert taken(stream) == [large]
