"""Walking messages and reading Bind, against slow references, at every cut."""

import itertools
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import ProtocolError
from shardproxy.native import MessageWalk, bind_parameter, read_bind, rebind, run_end
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import MAX_BACKEND_LARGE_LENGTH, B, F, frontend_limit

LIMITS = [frontend_limit(kind) for kind in range(256)]
walk = MessageWalk(LIMITS)

BINDS = [
    encode.bind(b"", b"", [], [], []),
    encode.bind(b"portal", b"statement", [1], [b"\0\0\0\7", None], [0, 1]),
    encode.bind(b"", b"s", [0, 1, 0], [b"17", b"", None], [1]),
    encode.bind(b"p", b"", [-1], [b"x" * 300], []),
]
BATCH = encode.parse(b"s", b"SELECT 1") + BINDS[2] + encode.execute(b"", 0) + encode.SYNC + encode.query(b"SELECT 2")


def slow_walk(data: bytes, position: int, limits: list[int]) -> tuple[bytes, list[int]]:
    types, starts = b"", [position]
    while len(data) - position >= 5:
        kind, length = struct.unpack_from("!BI", data, position)
        if not 4 <= length <= limits[kind] or position + 1 + length > len(data):
            break
        position += 1 + length
        types += bytes([kind])
        starts.append(position)
    return types, starts


def slow_run_end(data: bytes, position: int, kind: int, limit: int) -> int:
    types, starts = slow_walk(data, position, [limit] * 256)
    return starts[len(list(itertools.takewhile(lambda found: found == kind, types)))]


def slow_bind(payload: bytes) -> decode.Bind | None:
    try:
        return decode.bind(payload)
    except ProtocolError:
        return None


def slow_parameter(bind: decode.Bind | None, n: int) -> tuple[int, bytes | None] | None:
    if bind is None or not 1 <= n <= len(bind.params):
        return None
    formats = bind.param_formats
    return (formats[n - 1] if len(formats) > 1 else formats[0] if formats else 0), bind.params[n - 1]


def slow_rebind(payload: bytes, portal: bytes, statement: bytes) -> bytes | None:
    names = payload.split(b"\0", 2)
    if len(names) < 3:
        return None
    renamed = b"\0".join([portal, statement, names[2]])
    return b"B" + struct.pack("!i", 4 + len(renamed)) + renamed


def changed(rng: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed: mostly counts and lengths become others."""
    out = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        if out:
            out[rng.randrange(len(out))] = rng.choice([0, 0, 1, 2, 4, 5, 255, rng.randrange(256)])
    at = rng.randint(0, len(out))
    return bytes(out[: rng.choice([at, len(out)])] + out[at : rng.choice([at, at, at + 3])])


def payloads() -> Iterator[bytes]:
    """Payloads of Bind: whole, at every cut, with trailing bytes, and mutated."""
    for message in BINDS:
        payload = message[5:]
        yield from (payload[:end] for end in range(len(payload) + 1))
        yield payload + b"\0"
    rng = random.Random(5)
    for _ in range(20_000):
        yield changed(rng, rng.choice(BINDS)[5:])


def check_bind(payload: bytes) -> bool:
    bind, data = slow_bind(payload), b"\1" + payload + b"\0\0\0"
    place = 1, 1 + len(payload)
    assert read_bind(data, *place) == (bind and (bind.portal, bind.statement, len(bind.params)))
    for n in range(5):
        assert bind_parameter(data, *place, n) == slow_parameter(bind, n)
    assert rebind(data, *place, b"P", b"") == slow_rebind(payload, b"P", b"")
    return bind is not None


def test_walk_a_batch() -> None:
    types, starts = walk(BATCH)
    assert types == bytes([F.PARSE, F.BIND, F.EXECUTE, F.SYNC, F.QUERY])
    assert starts[0] == 0
    assert BATCH[starts[1] : starts[2]] == BINDS[2]
    assert BATCH[starts[3] : starts[4]] == encode.SYNC
    assert starts[-1] == len(BATCH)


def test_walk_at_every_cut() -> None:
    for start, end in itertools.combinations(range(len(BATCH) + 1), 2):
        data = BATCH[:end]
        assert walk(data, start) == slow_walk(data, start, LIMITS)


@pytest.mark.parametrize("length", [-1, 0, 3, 10_001])
def test_walk_stops_at_an_illegal_length(length: int) -> None:
    data = encode.SYNC + bytes([F.SYNC]) + struct.pack("!i", length) + b"\0" * 10_001
    assert walk(data) == (b"S", [0, 5])


def test_walk_stops_at_an_unknown_type() -> None:
    assert walk(encode.SYNC + b"!\0\0\0\4") == (b"S", [0, 5])


def test_walk_needs_a_limit_for_each_type() -> None:
    with pytest.raises(ValueError, match="256"):
        MessageWalk([4] * 255)
    with pytest.raises(OverflowError):
        MessageWalk([-1] * 256)


@pytest.mark.parametrize("position", [-1, 6])
def test_positions_outside_are_refused(position: int) -> None:
    with pytest.raises(IndexError):
        walk(encode.SYNC, position)
    with pytest.raises(IndexError):
        run_end(encode.SYNC, position, F.SYNC, 4)
    with pytest.raises(IndexError):
        read_bind(encode.SYNC, 0, position)
    with pytest.raises(IndexError):
        bind_parameter(encode.SYNC, 0, position, 1)
    with pytest.raises(IndexError):
        rebind(encode.SYNC, 0, position, b"", b"")


@given(
    st.lists(st.tuples(st.sampled_from(b"BESdD"), st.binary(max_size=9)), max_size=9), st.binary(max_size=9), st.data()
)
def test_any_messages(messages: list[tuple[int, bytes]], rest: bytes, draw: st.DataObject) -> None:
    data = b"".join(encode.message(kind, payload) for kind, payload in messages) + rest
    position = draw.draw(st.integers(0, len(data)))
    limits = draw.draw(st.sampled_from([LIMITS, [8] * 256]))
    some = MessageWalk(limits)
    for chunk in (data, bytearray(data), memoryview(data)):
        assert some(chunk, position) == slow_walk(data, position, limits)
        for kind in b"dDS":
            assert run_end(chunk, position, kind, limits[kind]) == slow_run_end(data, position, kind, limits[kind])


def test_a_run_ends_before_another_type_and_before_what_is_not_whole() -> None:
    rows = encode.message(B.DATA_ROW, b"\0\0") * 3
    limit = MAX_BACKEND_LARGE_LENGTH
    assert run_end(rows + encode.message(B.COMMAND_COMPLETE, b"SELECT 3\0"), 0, B.DATA_ROW, limit) == len(rows)
    for end in range(len(rows) + 1):
        assert run_end(rows[:end], 0, B.DATA_ROW, limit) == end // 7 * 7
    assert run_end(rows, 0, B.DATA_ROW, 5) == 0


def test_bind() -> None:
    data = BINDS[1]
    assert read_bind(data, 5, len(data)) == (b"portal", b"statement", 2)
    assert bind_parameter(data, 5, len(data), 1) == (1, b"\0\0\0\7")
    assert bind_parameter(data, 5, len(data), 2) == (1, None)
    assert bind_parameter(data, 5, len(data), 3) is None
    assert bind_parameter(data, 5, len(data), 0) is None
    assert rebind(data, 5, len(data), b"portal", b"statement") == data
    renamed = encode.bind(b"", b"shard_1", [1], [b"\0\0\0\7", None], [0, 1])
    assert rebind(data, 5, len(data), b"", b"shard_1") == renamed


def test_a_name_holds_no_zero_byte() -> None:
    for names in [(b"\0", b""), (b"", b"a\0b")]:
        with pytest.raises(ValueError, match="zero byte"):
            rebind(BINDS[0], 5, len(BINDS[0]), *names)


def test_bind_equals_the_slow_reader() -> None:
    whole = sum(map(check_bind, payloads()))
    assert whole > 1_000


@given(st.binary(max_size=60))
def test_any_bytes_as_bind(payload: bytes) -> None:
    check_bind(payload)


def test_counts_are_read_as_unsigned() -> None:
    params: list[bytes | None] = [b"%d" % i for i in range(65_535)]
    message = encode.bind(b"", b"", [0, *([1] * 65_534)], params, [])
    assert read_bind(message, 5, len(message)) == (b"", b"", 65_535)
    assert bind_parameter(message, 5, len(message), 65_535) == (1, b"65534")
