"""Merging servers' COPY OUT: whole messages in, at every cut, one header and no trailer out."""

import itertools
import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import ProtocolError
from shardproxy.native import FrameMerge
from tests.support.reference_splitter import SIGNATURE

HEAD = SIGNATURE + bytes(8)
ROW = b"\0\1\0\0\0\1"


def message(payload: bytes, kind: bytes = b"d") -> bytes:
    return kind + struct.pack(">I", len(payload) + 4) + payload


def merge(merger: FrameMerge, feeds: list[tuple[int, bytes]]) -> bytes:
    out = b""
    for source, data in feeds:
        taken, got = merger.feed(source, data)
        assert taken == len(data)
        out += got
    return out


def messages(data: bytes) -> list[bytes]:
    """The payloads of whole messages."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data, 1)
        found.append(data[5 : length + 1])
        assert len(data) > length
        data = data[length + 1 :]
    return found


@pytest.mark.parametrize("cut", range(24))
def test_rows_are_forwarded_whole_as_they_arrive(cut: int) -> None:
    merger = FrameMerge(2, b"d")
    a, b = message(b"a\n") + message(b"") + message(b"aa\n"), message(b"b\n")
    feeds = [(0, a[:cut]), (1, b[: cut // 4]), (0, a[cut:]), (1, b[cut // 4 :])]
    out = merge(merger, feeds)
    assert sorted(messages(out)) == sorted([b"a\n", b"", b"aa\n", b"b\n"])
    assert merger.rows == 4
    assert merger.tail() == b""


def test_byte_by_byte() -> None:
    merger = FrameMerge(2, b"D")
    stream = message(b"row", b"D") + message(b"", b"D")
    out = merge(merger, [(source, stream[i : i + 1]) for i in range(len(stream)) for source in (0, 1)])
    assert messages(out) == [b"row", b"row", b"", b""]


def test_stops_in_front_of_another_message() -> None:
    merger = FrameMerge(1, b"d")
    assert merger.feed(0, message(b"a") + b"c\0\0\0\4") == (6, message(b"a"))
    assert merger.feed(0, b"c\0\0\0\4") == (0, b"")
    assert merger.feed(0, b"d\0\0\0") == (4, b"")
    assert merger.feed(0, b"\6xyC") == (3, message(b"xy"))
    assert merger.feed(0, b"") == (0, b"")


def test_one_header_line() -> None:
    merger = FrameMerge(3, b"d", "csv", header=True)
    shard = [message(b"id\n"), message(b"1\n"), message(b"2\n")]
    assert merge(merger, [(1, shard[0]), (0, b"".join(shard)), (1, shard[1]), (2, shard[0])]) == b"".join(
        [shard[0], shard[1], shard[2], shard[1]]
    )
    assert merger.rows == 3


@pytest.mark.parametrize("first", [0, 1, 2])
def test_binary_has_one_signature_and_no_trailer(first: int) -> None:
    merger = FrameMerge(3, b"d", "binary")
    streams = [
        message(HEAD + ROW + b"a") + message(ROW + b"b") + message(b"\xff\xff"),
        message(HEAD + b"\xff\xff"),
        message(HEAD) + message(ROW + b"c") + message(b"\xff\xff"),
    ]
    order = [first, *(i for i in range(3) if i != first)]
    out = merge(merger, [(i, streams[i]) for i in order])
    rows = messages(out)
    assert len(rows) == merger.rows == 3
    assert b"".join(rows).count(SIGNATURE) == 1
    assert rows[0].startswith(HEAD + ROW)
    assert sorted(b"".join(rows)[19:].split(ROW)[1:]) == [b"a", b"b", b"c"]
    assert merger.tail() == message(b"\xff\xff")


def test_binary_without_rows() -> None:
    merger = FrameMerge(2, b"d", "binary")
    assert merge(merger, [(0, message(HEAD + b"\xff\xff")), (1, message(HEAD + b"\xff\xff"))]) == b""
    assert merger.tail() == message(HEAD + b"\xff\xff")
    assert FrameMerge(1, b"d", "binary").tail() == message(HEAD + b"\xff\xff")


def test_binary_row_of_no_columns() -> None:
    merger = FrameMerge(1, b"d", "binary")
    out = merge(merger, [(0, message(HEAD + b"\0\0") + message(b"\0\0") + message(b"\xff\xff"))])
    assert messages(out) == [HEAD + b"\0\0", b"\0\0"]


@pytest.mark.parametrize("limit", range(5))
def test_rows_after_the_limit_are_read_and_dropped(limit: int) -> None:
    merger = FrameMerge(2, b"D", limit=limit)
    stream = message(b"row", b"D") + message(b"", b"D")
    out = merge(merger, [(source, stream[i : i + 1]) for i in range(len(stream)) for source in (0, 1)])
    assert messages(out) == [b"row", b"row", b"", b""][:limit]
    assert merger.rows == limit


def test_a_limit_stops_in_front_of_another_message() -> None:
    merger = FrameMerge(1, b"D", limit=1)
    row = message(b"row", b"D")
    assert merger.feed(0, row * 3 + b"C\0\0\0\4") == (3 * len(row), row)
    assert merger.feed(0, row + b"C\0\0\0\4") == (len(row), b"")


def test_a_header_line_is_no_row() -> None:
    merger = FrameMerge(2, b"d", "csv", header=True, limit=1)
    shard = message(b"id\n") + message(b"1\n") + message(b"2\n")
    assert messages(merge(merger, [(0, shard), (1, shard)])) == [b"id\n", b"1\n"]
    assert merger.rows == 1


@pytest.mark.parametrize("limit", range(1, 5))
def test_a_limit_of_binary_rows(limit: int) -> None:
    """What begins a stream is read and demanded of each shard, whether its rows get through or not."""
    merger = FrameMerge(2, b"d", "binary", limit=limit)
    stream = message(HEAD + ROW + b"a") + message(ROW + b"b") + message(b"\xff\xff")
    out = merge(merger, [(source, stream[i : i + 1]) for source in (0, 1) for i in range(len(stream))])
    assert messages(out) == [HEAD + ROW + b"a", ROW + b"b", ROW + b"a", ROW + b"b"][:limit]
    assert merger.tail() == message(b"\xff\xff")
    with pytest.raises(ProtocolError):
        FrameMerge(1, b"d", "binary", limit=0).feed(0, message(ROW))


def test_signature_is_demanded() -> None:
    with pytest.raises(ProtocolError):
        FrameMerge(1, b"d", "binary").feed(0, message(ROW))


@pytest.mark.parametrize("length", [0, 3, 0x40000000, 0xFFFFFFFF])
@pytest.mark.parametrize("cut", [0, 3, 5])
def test_illegal_length(length: int, cut: int) -> None:
    merger = FrameMerge(1, b"d")
    data = b"d" + struct.pack(">I", length) + b"x"
    merger.feed(0, data[:cut]) if cut < 5 else None
    with pytest.raises(ProtocolError):
        merger.feed(0, data[cut if cut < 5 else 0 :])


@given(st.lists(st.lists(st.binary(max_size=20), max_size=6), min_size=1, max_size=3), st.data())
def test_any_interleaving(sources: list[list[bytes]], data: st.DataObject) -> None:
    kinds: list[tuple[Literal["text", "binary"] | None, bool]] = [(None, False), ("text", True), ("binary", False)]
    for kind, head in kinds:
        merger = FrameMerge(len(sources), b"d", kind, header=head)
        rows = [[ROW + row for row in source] for source in sources]
        left = []
        for source in rows:
            payloads = [b"header", *source] if head else list(source)
            if kind == "binary":
                payloads = [*payloads, b"\xff\xff"]
                payloads[0] = HEAD + payloads[0]
            left.append(b"".join(map(message, payloads)))
        out = b""
        while any(left):
            i = data.draw(st.sampled_from([i for i, rest in enumerate(left) if rest]))
            size = data.draw(st.integers(1, len(left[i])))
            taken, got = merger.feed(i, left[i][:size])
            assert taken == size
            out += got
            left[i] = left[i][size:]
        got_rows = messages(out + merger.tail())
        if kind == "text":
            assert got_rows.pop(0) == b"header"
        if kind == "binary":
            assert got_rows[0].startswith(HEAD)
            got_rows[0] = got_rows[0][len(HEAD) :]
            assert got_rows.pop() == b"\xff\xff"
        assert sorted(got_rows) == sorted(itertools.chain(*rows))
