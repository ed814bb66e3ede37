"""FrameReader: at every cut, with forged lengths, and for many small messages at a time."""

import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import ProtocolError
from shardproxy.wire import encode
from shardproxy.wire.constants import (
    MAX_BACKEND_LARGE_LENGTH,
    PG_MAX_AUTH_TOKEN_LENGTH,
    PQ_LARGE_MESSAGE_LIMIT,
    PQ_SMALL_MESSAGE_LIMIT,
    B,
    F,
    authentication_limit,
    backend_limit,
    frontend_limit,
)
from shardproxy.wire.errors import SilentProtocolError
from shardproxy.wire.framing import FrameReader, LimitOf, Message
from tests.unit.wire.samples import ALL, BACKEND, BARE_BACKEND, BARE_FRONTEND, FRONTEND, OPEN_ENDED

CLIENT = [sample.message for sample in FRONTEND if sample.message[0] != F.PASSWORD]
CLIENT += [message for _, message in BARE_FRONTEND]
SERVER = [sample.message for sample in BACKEND + OPEN_ENDED] + [message for _, message in BARE_BACKEND]


def drain(reader: FrameReader) -> list[Message]:
    messages = []
    while (message := reader.next()) is not None:
        messages.append(message)
    return messages


def split(messages: list[bytes]) -> list[Message]:
    return [Message(message[0], message[5:]) for message in messages]


@pytest.mark.parametrize(("limit_of", "messages"), [(frontend_limit, CLIENT), (None, SERVER)])
class TestCuts:
    def test_whole(self, limit_of: LimitOf | None, messages: list[bytes]) -> None:
        reader = FrameReader(limit_of)
        reader.feed(b"".join(messages))
        assert drain(reader) == split(messages)
        assert reader.buffered == 0

    def test_every_cut(self, limit_of: LimitOf | None, messages: list[bytes]) -> None:
        stream = b"".join(messages)
        for cut in range(len(stream) + 1):
            reader = FrameReader(limit_of)
            reader.feed(stream[:cut])
            got = drain(reader)
            assert reader.buffered == cut - sum(len(message.payload) + 5 for message in got)
            reader.feed(stream[cut:])
            assert got + drain(reader) == split(messages), cut

    def test_byte_by_byte(self, limit_of: LimitOf | None, messages: list[bytes]) -> None:
        reader = FrameReader(limit_of)
        got = []
        for byte in b"".join(messages):
            reader.feed(bytes([byte]))
            got += drain(reader)
        assert got == split(messages)

    def test_rest_is_exactly_what_was_not_returned(self, limit_of: LimitOf | None, messages: list[bytes]) -> None:
        stream = b"".join(messages)
        for cut in range(len(stream) + 1):
            for taken in (0, 1, len(messages)):
                reader = FrameReader(limit_of)
                reader.feed(stream[:cut])
                got: list[Message] = []
                while len(got) < taken and (message := reader.next()) is not None:
                    got.append(message)
                reader.feed(stream[cut:])
                used = sum(len(message.payload) + 5 for message in got)
                assert reader.take_rest() == stream[used:]
                assert reader.buffered == 0
                assert reader.take_rest() == b""
                assert reader.next() is None
                reader.feed(stream)
                assert drain(reader) == split(messages)


@given(data=st.data())
def test_any_cuts_give_the_same_messages(data: st.DataObject) -> None:
    payloads = data.draw(st.lists(st.binary(max_size=300), max_size=20))
    stream = b"".join(map(encode.copy_data, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = FrameReader(frontend_limit)
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(memoryview(stream)[start:end])
        for _ in range(data.draw(st.integers(0, 3))):
            message = reader.next()
            if message is not None:
                got.append(message)
    got += drain(reader)
    assert got == [Message(F.COPY_DATA, payload) for payload in payloads]


@pytest.mark.parametrize("limit_of", [frontend_limit, authentication_limit, None])
@given(chunks=st.lists(st.binary(max_size=40), max_size=10))
def test_random_bytes_give_messages_or_a_violation(limit_of: LimitOf | None, chunks: list[bytes]) -> None:
    reader = FrameReader(limit_of)
    got = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            got += drain(reader)
    except ProtocolError:
        assert reader.buffered == 0
    else:
        seen = b"".join(encode.message(*message) for message in got)
        assert seen + reader.take_rest() == b"".join(chunks)


def test_the_caller_s_buffer_may_be_reused() -> None:
    scratch = bytearray(encode.query(b"SELECT 1") + encode.SYNC[:2])
    reader = FrameReader(frontend_limit)
    reader.feed(memoryview(scratch))
    scratch[:] = b"\xff" * len(scratch)
    reader.feed(encode.SYNC[2:])
    assert drain(reader) == [Message(F.QUERY, b"SELECT 1\0"), Message(F.SYNC, b"")]


# Lengths and types.

FORGED = [-1, 0, 3, -(2**31), 2**31 - 1]


@pytest.mark.parametrize("limit_of", [frontend_limit, None])
@pytest.mark.parametrize("length", FORGED)
def test_impossible_lengths_close_without_an_answer(limit_of: LimitOf | None, length: int) -> None:
    reader = FrameReader(limit_of)
    tracemalloc.start()
    try:
        reader.feed(struct.pack("!ci", b"d", length))
        with pytest.raises(SilentProtocolError, match="invalid message length"):
            reader.next()
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("limit_of", "kind", "limit"),
    [
        (frontend_limit, F.QUERY, PQ_LARGE_MESSAGE_LIMIT),
        (frontend_limit, F.COPY_DATA, PQ_LARGE_MESSAGE_LIMIT),
        (frontend_limit, F.SYNC, PQ_SMALL_MESSAGE_LIMIT),
        (frontend_limit, F.EXECUTE, PQ_SMALL_MESSAGE_LIMIT),
        (authentication_limit, F.PASSWORD, PG_MAX_AUTH_TOKEN_LENGTH),
        (backend_limit, B.DATA_ROW, MAX_BACKEND_LARGE_LENGTH),
        (backend_limit, B.AUTHENTICATION, PG_MAX_AUTH_TOKEN_LENGTH),
        (backend_limit, B.COMMAND_COMPLETE, 30_000),
    ],
)
def test_the_limit_of_a_type_is_inclusive(limit_of: LimitOf, kind: int, limit: int) -> None:
    reader = FrameReader(limit_of)
    reader.feed(struct.pack("!BI", kind, limit))
    assert reader.next() is None
    reader = FrameReader(limit_of)
    reader.feed(struct.pack("!BI", kind, limit + 1))
    with pytest.raises(SilentProtocolError):
        reader.next()


@pytest.mark.parametrize("limit_of", [frontend_limit, authentication_limit])
def test_unknown_frontend_types_are_refused(limit_of: LimitOf) -> None:
    known = {value for name, value in vars(F).items() if name.isupper()} - {F.PASSWORD}
    if limit_of is authentication_limit:
        known = {F.PASSWORD, F.TERMINATE}
    for kind in range(256):
        reader = FrameReader(limit_of)
        reader.feed(encode.message(kind, b""))
        if kind in known:
            assert reader.next() == Message(kind, b"")
        else:
            with pytest.raises(ProtocolError, match=f"invalid frontend message type {kind}$") as caught:
                reader.next()
            assert not isinstance(caught.value, SilentProtocolError)


def test_unknown_backend_types_are_refused() -> None:
    reader = FrameReader()
    reader.feed(encode.message(ord("Q"), b"SELECT 1\0"))
    with pytest.raises(ProtocolError, match="invalid backend message type 81"):
        reader.next()


def test_a_length_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    reader = FrameReader(authentication_limit)
    reader.feed(encode.message(F.PASSWORD, b"x" * PG_MAX_AUTH_TOKEN_LENGTH)[:5])
    with pytest.raises(SilentProtocolError):
        reader.next()


def test_limits_change_with_the_conversation() -> None:
    reader = FrameReader(authentication_limit)
    reader.feed(encode.password_message(b"s") + encode.query(b"SELECT 1"))
    assert reader.next() == Message(F.PASSWORD, b"s\0")
    reader.limit_of = frontend_limit
    assert reader.next() == Message(F.QUERY, b"SELECT 1\0")
    reader.feed(encode.password_message(b"s"))
    with pytest.raises(ProtocolError, match="invalid frontend message type 112"):
        reader.next()


def test_an_error_is_final() -> None:
    reader = FrameReader(frontend_limit)
    reader.feed(encode.SYNC + b"\xff\0\0\0\4" + encode.SYNC)
    assert reader.next() == Message(F.SYNC, b"")
    for _ in range(2):
        with pytest.raises(ProtocolError, match="invalid frontend message type 255"):
            reader.next()
        reader.feed(encode.SYNC)
    assert reader.buffered == 0
    assert reader.take_rest() == b""


# Cost.


def seconds(feeds: list[bytes]) -> float:
    reader = FrameReader(frontend_limit)
    start = time.process_time()
    for feed in feeds:
        reader.feed(feed)
        while reader.next() is not None:
            pass
    return time.process_time() - start


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


ROW = encode.copy_data(b"1\n")


@pytest.mark.parametrize(
    "feeds",
    [
        pytest.param(lambda n: [ROW * n], id="many messages a feed"),
        pytest.param(lambda n: [ROW] * n, id="a message a feed"),
        pytest.param(lambda n: in_pieces(ROW * n, 13), id="messages cut by every feed"),
        pytest.param(lambda n: in_pieces(encode.copy_data(b"x" * n * 20), 20), id="one message in pieces"),
    ],
)
def test_cost_grows_with_the_bytes_and_not_with_their_square(feeds: Callable[[int], list[bytes]]) -> None:
    """Ten times the bytes take about ten times as long, however they come; a square would take a hundred."""
    small, large = feeds(10_000), feeds(100_000)
    least = min(seconds(small) for _ in range(3))
    assert seconds(large) < 40 * least + 0.05


def test_a_large_message_is_not_kept_once_it_is_read() -> None:
    reader = FrameReader(frontend_limit)
    size = 8 * 1024 * 1024
    tracemalloc.start()
    try:
        reader.feed(encode.copy_data(b"x" * size))
        assert reader.next() is not None
        assert tracemalloc.get_traced_memory()[0] < size // 2
    finally:
        tracemalloc.stop()


def test_every_sample_passes_the_limits_of_its_side() -> None:
    assert all(
        backend_limit(s.message[0]) or frontend_limit(s.message[0]) or authentication_limit(s.message[0]) for s in ALL
    )


def test_repr_says_where_it_stands() -> None:
    reader = FrameReader(frontend_limit)
    reader.feed(b"Q")
    assert repr(reader) == "<FrameReader of frontend messages, 1 bytes>"
    reader.feed(b"\xff\xff\xff\xff")
    with pytest.raises(SilentProtocolError):
        reader.next()
    assert "failed: invalid message length" in repr(reader)


@pytest.mark.parametrize("rest", [b"", encode.NO_DATA, encode.NO_DATA[:3]])
def test_foreseen_messages(rest: bytes) -> None:
    """They are taken whole, if they are what has come first, and nothing else is."""
    wanted = encode.command_complete("COMMIT") + encode.ready_for_query(b"I")
    for start in (b"", encode.NO_DATA):
        reader = FrameReader()
        reader.feed(start + wanted + rest)
        if start:
            assert not reader.take(wanted)
            assert reader.next() == Message(start[0], b"")
        assert reader.take(wanted)
        assert reader.buffered == len(rest)
        reader.feed(encode.NO_DATA[len(rest) :] if len(rest) == 3 else b"")
        assert len(drain(reader)) == (1 if rest else 0)
    for cut in range(len(wanted)):
        reader = FrameReader()
        reader.feed(wanted[:cut])
        assert not reader.take(wanted)
        reader.feed(wanted[cut:])
        assert drain(reader) == split([wanted[:-6], wanted[-6:]])
