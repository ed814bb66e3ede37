"""The splitter against the slow reference: whole, byte by byte, at every pair of cuts, on every SIMD path."""

import dataclasses
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardproxy.native import (
    ALL_SHARDS,
    KEY_INT4,
    KEY_INT8,
    KEY_TEXT,
    Placement,
    SplitError,
    Splitter,
)
from tests.support.reference_splitter import SIGNATURE, Options, Result, lines_of, split

NSHARDS = 3
TEXT_KEY = Placement.hash(NSHARDS, [KEY_TEXT])
CSV = Options(format="csv", delimiter=b",", null=b"")
TEXT = Options()
BINARY = Options(format="binary")

pytestmark = pytest.mark.usefixtures("simd_path")


def message(payload: bytes) -> bytes:
    return b"d" + struct.pack(">I", len(payload) + 4) + payload


def pieces(payload: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(payload)]
    return [payload[a:b] for a, b in itertools.pairwise(edges)]


def payloads(sealed: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """What each shard's sealed messages hold, their framing checked."""
    shards = [b""] * NSHARDS
    for shard, data in sealed:
        at = 0
        while at < len(data):
            kind, length = struct.unpack_from(">cI", data, at)
            assert kind == b"d"
            assert length > 4
            assert at + 1 + length <= len(data)
            for target in range(NSHARDS) if shard == ALL_SHARDS else (shard,):
                shards[target] += data[at + 5 : at + 1 + length]
            at += 1 + length
    return shards


def attempt(work: Callable[[], object]) -> SplitError | None:
    try:
        work()
    except SplitError as refused:
        return refused
    return None


def run(feeds: Iterable[bytes], options: Options, placement: Placement, buffer_size: int = 262144) -> Result:
    splitter = Splitter(placement, buffer_size=buffer_size, **dataclasses.asdict(options))
    refusals = []
    for data in feeds:
        taken: list[int] = []
        refused = attempt(lambda data=data, taken=taken: taken.append(splitter.feed(data)))  # type: ignore[misc]
        refusals.append(refused)
        assert (refused.consumed if refused else taken[0]) == len(data)
    sealed: list[tuple[int, bytes]] = []
    refusals.append(attempt(lambda: sealed.extend(splitter.finish())))
    sealed += splitter.ready()
    errors = [(e.sqlstate, e.message, e.line) for e in refusals if e is not None]
    assert len(errors) < 2
    error = errors[0] if errors else None
    assert not splitter.pending
    shards = payloads(sealed)
    result = Result(shards, [[] for _ in shards], splitter.rows, splitter.lines, splitter.poison, error)
    if options.format == "binary":
        numbers = [list(range(1, splitter.rows_of(shard) + 1)) for shard in range(NSHARDS)]
    else:
        numbers = [lines_of(shard, options) for shard in shards]
    for shard, lines in enumerate(numbers):
        for number in lines:
            line = splitter.client_line(shard, number)
            assert line is not None
            result.client_lines[shard].append(line)
    return result


def check(feeds: Iterable[bytes], expected: Result, options: Options, placement: Placement, **how: int) -> None:
    got = run(feeds, options, placement, **how)
    assert got.error is None or expected.error is not None, got.error
    if expected.error is not None:
        assert got.error is not None, expected.error
        assert (got.error[0], got.error[2]) == (expected.error[0], expected.error[2])
        if expected.error[1]:
            assert got.error[1] == expected.error[1]
    assert got.shards == expected.shards
    assert (got.rows, got.lines) == (expected.rows, expected.lines)
    # Behind the whole rows there may be the begin of the one that is refused.
    assert [one[: len(all_)] for one, all_ in zip(got.client_lines, expected.client_lines, strict=True)] == (
        expected.client_lines
    )
    assert got.poison == expected.poison[:16]


def check_cuts(payload: bytes, options: Options, placement: Placement = TEXT_KEY, *, pairs: bool = True) -> Result:
    expected = split(payload, options, placement.nshards, placement.place)
    check([message(payload)], expected, options, placement)
    check([message(payload[i : i + 1]) for i in range(len(payload))], expected, options, placement)
    stream = message(payload)
    check([stream[i : i + 1] for i in range(len(stream))], expected, options, placement, buffer_size=64)
    rows = payload.splitlines(keepends=True)
    check([b"".join(map(message, rows))], expected, options, placement)
    cuts = range(len(payload) + 1)
    chosen = itertools.combinations(cuts, 2) if pairs and len(payload) < 48 else ((cut, cut) for cut in cuts)
    for cut in chosen:
        check([b"".join(map(message, pieces(payload, cut)))], expected, options, placement)
    return expected


TEXT_CASES = {
    "rows": b"1\ta\n2\tb\n",
    "last row without newline": b"1\ta\n2\tb",
    "backslash-newline is data": b"a\\\nb\tx\nc\ty\n",
    "backslash carriage return newline": b"a\\\r\nb\n",
    "escapes in keys": b"\\t\\x31\\061\\N\\x\\xg\\b\\f\\n\\r\\v\\\\\\,\tz\n\\N\tnull\n",
    "delimiter escaped": b"a\\\tb\tc\nd\n",
    "empty lines": b"\n\n\na\n\n",
    "crlf": b"1\ta\r\n2\tb\r\n3",
    "cr": b"1\ta\r2\tb\r3",
    "cr at the end of all": b"1\ta\r",
    "lf then cr": b"1\ta\n2\tb\r\n",
    "crlf then lf": b"1\ta\r\n2\tb\n3\r\n",
    "crlf then cr": b"1\ta\r\n2\rb\r\n",
    "cr then lf": b"1\r2\n",
    "crlf then cr at the end": b"1\r\n2\r",
    "marker": b"1\ta\n\\.\n2\tb\n",
    "marker first": b"\\.\nrest\\",
    "marker at the end without newline": b"1\n\\.",
    "marker crlf": b"1\r\n\\.\r\nrest",
    "marker crlf corrupt": b"1\r\n\\.\rx",
    "marker wrong style": b"1\n\\.\r\n",
    "marker lf in crlf": b"1\r\n\\.\n",
    "marker cr": b"1\r\\.\r2\r",
    "marker behind data": b"1\na\\.\n2\n",
    "marker behind data, first line": b"a\\.\r\nb",
    "marker with more": b"1\n\\.x\n",
    "escaped backslash and dot": b"\\\\.\n1\n",
    "lone backslash at the end": b"a\nb\\",
    "lone backslash behind NULL": b"\\N\\",
    "two backslashes at the end": b"a\nb\\\\",
    "nul bytes": b"a\0b\tc\n\0\n",
}

CSV_CASES = {
    "rows": b"1,a\n2,b\n",
    "last row without newline": b"1,a\n2,b",
    "quotes toggle anywhere": b'1"x,y"z,2\n"a""b","c\n',
    "newline in quotes": b'a,"x\ny\nz"\n"k\n1",b\nc,d\n',
    "carriage return in quotes": b'a,"x\ry"\nb,"\r\n"\nc,"\n"\nd\n',
    "crlf in quotes": b'a,"x\r\ny"\r\nb,"\r\n"\r\nc\r\n',
    "cr in quotes": b'a,"x\ry"\rb,"\r"\rc',
    "empty lines": b"\n\na\n\n",
    "empty and quoted empty": b'a,\na,""\n,\n"",x\n',
    "unterminated quote": b'1\n2,"x\ny\n',
    "unterminated quote in one row": b'"',
    "lf then unquoted cr": b"1\n2\r\n",
    "crlf then lf": b"1\r\n2\n",
    "crlf then cr": b"1\r\n2\r3\r\n",
    "cr then lf": b"1\r2\n",
    "cr last": b"1\r\n2\r",
    "marker": b"1,a\n\\.\n2,b\n",
    "marker first": b"\\.\n2,b\n",
    "marker without newline": b"1\n\\.",
    "marker crlf": b"1\r\n\\.\r\n2\r\n",
    "marker wrong style": b"1\n\\.\r\n",
    "marker not alone": b"1\n\\.x\n\\,\n\\\n",
    "marker quoted": b'"\\."\n2\n',
    "marker cr": b"1\r\\.\r2",
    "nul bytes": b'a\0b,"c\0"\n',
    "byte order mark": b"\xef\xbb\xbf1,a\n",
}


@pytest.mark.parametrize("version", [17, 18])
@pytest.mark.parametrize("name", TEXT_CASES)
def test_text(name: str, version: int) -> None:
    check_cuts(TEXT_CASES[name], dataclasses.replace(TEXT, server_version=version))


@pytest.mark.parametrize("version", [17, 18])
@pytest.mark.parametrize("name", CSV_CASES)
def test_csv(name: str, version: int) -> None:
    check_cuts(CSV_CASES[name], dataclasses.replace(CSV, server_version=version))


@pytest.mark.parametrize(
    "payload", [b'id,"na\nme"\n1,"a\nb"\n2,c\n', b"id\n", b"id", b'"id\n', b"", b"id\r\n1\r\n", b"\\.\n1\n"]
)
@pytest.mark.parametrize("version", [17, 18])
def test_csv_header_goes_to_every_shard(payload: bytes, version: int) -> None:
    check_cuts(payload, dataclasses.replace(CSV, header=True, server_version=version))


@pytest.mark.parametrize("payload", [b"id\tname\n1\ta\n2\n", b"i\\\nd\n1\n", b"id", b"id\\"])
def test_text_header(payload: bytes) -> None:
    check_cuts(payload, dataclasses.replace(TEXT, header=True))


@pytest.mark.parametrize(
    "payload",
    [b"a,'x\\'y\nz',b\n'\\\\',c\nd\\'e,'f\n'\n", b"'\\", b"'a\\\\'\n'b\\n'\nc\\\n", b"\\'a\nb'\n", b"\\.\n1\n"],
)
@pytest.mark.parametrize("version", [17, 18])
def test_csv_with_its_own_escape(payload: bytes, version: int) -> None:
    options = dataclasses.replace(CSV, quote=b"'", escape=b"\\", server_version=version)
    check_cuts(payload, options)


@pytest.mark.parametrize("quote", [b"\\", b".", b"\n", b"\r"])
def test_odd_quotes(quote: bytes) -> None:
    options = dataclasses.replace(CSV, quote=quote, escape=quote, delimiter=b";")
    check_cuts(b"a;" + quote + b"x;y" + quote + b"\r\nb;" + quote * 3 + b"z\r\n", options)


def test_null_default_and_forced() -> None:
    base = dataclasses.replace(CSV, null=b"nil", default=b"\\D", default_values=[b"dflt"])
    rows = b'nil\n"nil"\n\\D\n"\\D"\ndflt\n\n""\n'
    for force_null, force_not_null in itertools.product(([False], [True]), repeat=2):
        check_cuts(rows, dataclasses.replace(base, force_null=force_null, force_not_null=force_not_null))
    check_cuts(b"\\N\n\\D\n\\\\N\ndflt\n", dataclasses.replace(TEXT, default=b"\\D", default_values=[None]))


def test_missing_key_field_is_sent_on_as_poison() -> None:
    expected = check_cuts(b"a\tb\nc\nd\te\n", dataclasses.replace(TEXT, key_fields=[1]))
    assert expected.poison == [(0, 2)]


def test_several_keys_in_any_order() -> None:
    placement = Placement.hash(NSHARDS, [KEY_INT4, KEY_TEXT])
    options = dataclasses.replace(CSV, key_fields=[2, 0])
    expected = check_cuts(b'a,x,1\n"b",y,2\nc,z,bad\n,,\n', options, placement, pairs=False)
    assert expected.poison == [(0, 3)]


def test_no_partition_names_the_line_and_the_values() -> None:
    placement = Placement.list(NSHARDS, KEY_TEXT, [(b"de", 0), (b"fr", 2)])
    payload = b'"x\ny",de\nz,fr\na,"i\nt"\nb,de\n'
    options = dataclasses.replace(CSV, key_fields=[1])
    expected = check_cuts(payload, options, placement, pairs=False)
    assert expected.error == ("23514", "", 4)
    with pytest.raises(SplitError) as refused:
        Splitter(placement, format="csv", key_fields=[1]).feed(message(payload))
    assert refused.value.key_values == [b"i\nt"]
    # Short messages are put together in a buffer; what follows the refused row must not overwrite its value there.
    rows = [b"a,de\n"] * 3000 + [b"a,it\n"] + [b"a,fr\n"] * 6000
    with pytest.raises(SplitError) as refused:
        Splitter(placement, format="csv", key_fields=[1]).feed(b"".join(map(message, rows)))
    assert (refused.value.line, refused.value.key_values) == (3001, [b"it"])


def binary(*rows: Sequence[bytes | None], trailer: bool = True, extension: bytes = b"") -> bytes:
    body = b"".join(
        struct.pack(">h", len(row))
        + b"".join(struct.pack(">i", -1) if v is None else struct.pack(">i", len(v)) + v for v in row)
        for row in rows
    )
    head = SIGNATURE + bytes(4) + struct.pack(">i", len(extension)) + extension
    return head + body + (b"\xff\xff" if trailer else b"")


BINARY_CASES = {
    "rows": binary([b"a", b"b"], [b"c", None], [None, b""]),
    "no trailer": binary([b"a"], [b"b"], trailer=False),
    "no rows": binary(),
    "nothing": b"",
    "header extension": binary([b"a"], extension=b"xyz"),
    "no columns": binary([], []),
    "key missing": binary([b"a", b"b"], []),
    "empty fields": binary([b"", b""], [b"", b""]),
    "data behind the trailer": binary([b"a"]) + b"x",
    "one byte of a count": binary([b"a"], trailer=False) + b"\0",
    "cut in a row": binary([b"a", b"bcd"])[:-4],
    "cut in a length": binary([b"a", b"bcd"], trailer=False) + b"\0\2\0",
    "negative count": binary([b"a"], trailer=False) + b"\xff\xfe" + b"anything",
    "negative length": binary([b"a"], trailer=False) + b"\0\2\0\0\0\1z\xff\xff\xff\xfe" + b"anything",
    "length over a gigabyte": binary([b"a"], trailer=False) + b"\0\1\x3f\xff\xff\xff" + b"anything",
    "bad signature": b"PGCOPY\n\xff\r\n\1" + bytes(8),
    "short signature": SIGNATURE[:5],
    "with oids": SIGNATURE + b"\0\1\0\0" + bytes(4),
    "critical flags": SIGNATURE + b"\0\2\0\0" + bytes(4),
    "missing flags": SIGNATURE + b"\0",
    "missing length": SIGNATURE + bytes(6),
    "negative extension": SIGNATURE + bytes(4) + b"\xff\xff\xff\xff",
    "extension cut": SIGNATURE + bytes(4) + b"\0\0\0\5ab",
}


@pytest.mark.parametrize("name", BINARY_CASES)
def test_binary(name: str) -> None:
    placement = Placement.hash(NSHARDS, [KEY_TEXT])
    options = BINARY
    payload = BINARY_CASES[name]
    expected = split(payload, options, NSHARDS, lambda values: placement.place(values, binary=True))
    for feeds in (
        [message(payload)],
        [message(payload[i : i + 1]) for i in range(len(payload))],
        [message(payload)[i : i + 1] for i in range(len(payload) + 5)],
        *([b"".join(map(message, pieces(payload, (cut,))))] for cut in range(len(payload))),
    ):
        check(feeds, expected, options, placement)


def test_reference_placement_shares_one_buffer() -> None:
    splitter = Splitter(Placement.reference(NSHARDS), format="csv", header=True)
    splitter.feed(message(b"id\n1\n2\n"))
    assert splitter.finish() == [(ALL_SHARDS, message(b"id\n1\n2\n"))]
    assert [splitter.rows_of(shard) for shard in range(NSHARDS)] == [2, 2, 2]
    assert splitter.client_line(2, 3) == 3


def test_single_placement() -> None:
    splitter = Splitter(Placement.single(NSHARDS, 1))
    splitter.feed(message(b"1\n2"))
    assert splitter.finish() == [(1, message(b"1\n2"))]


def test_constant_key() -> None:
    placement = Placement.hash(NSHARDS, [KEY_INT8])
    splitter = Splitter(placement, key_fields=[-1], constants=[b"42"])
    splitter.feed(message(b"a\nb\n"))
    assert splitter.finish() == [(placement.place([b"42"]), message(b"a\nb\n"))]


def test_feed_stops_in_front_of_other_messages() -> None:
    splitter = Splitter(TEXT_KEY, key_fields=[0])
    data = message(b"a\n") + b"c\0\0\0\4d"
    assert splitter.feed(data) == len(message(b"a\n"))
    assert splitter.feed(b"c") == 0
    assert splitter.feed(b"d\0\0") == 3  # a header may be cut
    assert splitter.feed(b"\0\6b") == 3
    assert splitter.feed(b"\nX") == 1
    assert splitter.rows == 2


@pytest.mark.parametrize("length", [0, 3, 0x3FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_illegal_lengths(length: int) -> None:
    splitter = Splitter(TEXT_KEY, key_fields=[0])
    with pytest.raises(SplitError) as refused:
        splitter.feed(b"d" + struct.pack(">I", length) + b"xyz")
    assert refused.value.sqlstate == "08P01"


def test_after_an_error_the_rest_is_dropped_and_earlier_rows_are_kept() -> None:
    splitter = Splitter(Placement.single(NSHARDS, 0))
    data = message(b"a\nb\r\nc\n") + message(b"d\n") + b"c\0\0\0\4"
    with pytest.raises(SplitError) as refused:
        splitter.feed(data)
    assert refused.value.consumed == len(data) - 5
    assert (refused.value.sqlstate, refused.value.line) == ("22P04", 2)
    assert refused.value.hint == 'Use "\\r" to represent carriage return.'
    assert splitter.feed(message(b"e\n")) == 7
    assert splitter.flush() == [(0, message(b"a\nb"))]


def test_a_sealed_buffer_that_is_held_is_never_written_again() -> None:
    """Full buffers are filled again once nobody holds them; those that a slow socket holds must stay as they are."""
    splitter = Splitter(Placement.single(NSHARDS, 1), buffer_size=64)
    held: list[tuple[int, bytes]] = []
    sent = b""
    for number in range(1000):
        row = b"%d\tabc\n" % number
        splitter.feed(message(row))
        ready = splitter.ready()
        sent += row
        held += ready
        if number % 7 == 0:  # the socket has taken all but the last few
            copies = [(shard, bytes(bytearray(data))) for shard, data in held]
            held = copies[:-2] + held[-2:]
    held += splitter.finish()
    assert payloads(held)[1] == sent


def test_a_shard_gets_the_begin_of_a_row_that_is_refused_by_its_line_end() -> None:
    """One server has looked at these bytes first, and may have found them not to be in their encoding."""
    splitter = Splitter(TEXT_KEY, format="csv", key_fields=[0])
    with pytest.raises(SplitError) as refused:
        splitter.feed(message(b'a,1\rb,2\r"\xff\r\r",x\n'))
    assert (refused.value.sqlstate, refused.value.line) == ("22P04", 5)
    got = payloads(splitter.flush())
    assert got[0].endswith(b'"\xff\r\r",x')
    first = got[0].count(b"\r") - 1  # the line of the shard on which the row begins
    assert [splitter.client_line(0, first + more) for more in range(3)] == [3, 4, 5]


def test_flush_gives_what_is_there() -> None:
    splitter = Splitter(Placement.single(NSHARDS, 2))
    splitter.feed(message(b"a\nb"))
    assert splitter.pending
    assert splitter.ready() == []
    assert splitter.flush() == [(2, message(b"a\n"))]
    assert splitter.finish() == [(2, message(b"b"))]


@pytest.mark.parametrize("options", [TEXT, CSV], ids=["text", "csv"])
def test_long_rows_stream_once_their_key_is_known(options: Options) -> None:
    quoted = b'"' + b"x" * 70 + b'\n"",\r' + b"y" * 90000 + b'"'
    long = quoted if options.format == "csv" else (b"x" * 58 + b"\\\n") * 1500
    payload = b"".join(b"%d%s%s\n" % (i, options.delimiter, long) for i in range(3)) + b"9\n"
    expected = split(payload, options, NSHARDS, TEXT_KEY.place)
    for frame in (8191, 70001, 1 << 20):
        feeds = [message(payload[i : i + frame]) for i in range(0, len(payload), frame)]
        check(feeds, expected, options, TEXT_KEY)
    splitter = Splitter(TEXT_KEY, **dataclasses.asdict(options))
    splitter.feed(message(payload[:80000]))
    assert sum(len(data) for _, data in splitter.flush()) > 79990


def test_long_binary_rows_stream() -> None:
    payload = binary([b"a", b"x" * 200000], [b"b", b"y"], [b"c" * 100000, None])
    expected = split(payload, BINARY, NSHARDS, lambda values: TEXT_KEY.place(values, binary=True))
    for frame in (1000, 70001, 1 << 20):
        feeds = [message(payload[i : i + frame]) for i in range(0, len(payload), frame)]
        check(feeds, expected, BINARY, TEXT_KEY)


def test_transcode() -> None:
    latin = [bytes([i]).decode("latin-1").encode() for i in range(256)]
    placement = Placement.hash(NSHARDS, [KEY_TEXT])
    for options in (TEXT, CSV):
        for key in (b"caf\xe9", b"\xff\xfe\xfd", b"plain"):
            splitter = Splitter(placement, transcode=latin, **dataclasses.asdict(options))
            splitter.feed(message(key + options.delimiter + b"\xe9\n"))
            ((shard, data),) = splitter.finish()
            assert data == message(key + options.delimiter + b"\xe9\n")
            assert shard == placement.place([key.decode("latin-1").encode()])


def test_client_line_is_forgotten_in_bounded_memory() -> None:
    splitter = Splitter(Placement.single(64, 5))
    rows = 3 << 20
    splitter.feed(message(b"\n" * rows))
    assert splitter.client_line(5, rows) == rows
    assert splitter.client_line(5, rows - 500000) == rows - 500000
    assert splitter.client_line(5, 1) is None
    assert splitter.client_line(5, rows + 1) is None
    splitter.finish()
    assert splitter.client_line(5, rows + 1) == rows + 1


@st.composite
def streams(draw: st.DrawFn, alphabet: bytes) -> bytes:
    """Structure-heavy bytes, now and then stretched over several blocks."""
    tokens = st.sampled_from([bytes([c]) for c in alphabet] + [b"\r\n", b"abcdefgh", b"x" * 61, b"1", b"\xc3\xa9"])
    return b"".join(draw(st.lists(tokens, max_size=60)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_text(data: st.DataObject) -> None:
    payload = data.draw(streams(b"\t\n\n\n\\\\.;a\0"))
    options = Options(
        delimiter=data.draw(st.sampled_from([b"\t", b";"])),
        null=data.draw(st.sampled_from([b"\\N", b"", b"1"])),
        key_fields=[data.draw(st.integers(0, 3))],
        header=data.draw(st.booleans()),
        server_version=data.draw(st.sampled_from([17, 18])),
    )
    expected = split(payload, options, NSHARDS, TEXT_KEY.place)
    cut = data.draw(st.lists(st.integers(0, len(payload)), max_size=6))
    check([b"".join(map(message, pieces(payload, cut)))], expected, options, TEXT_KEY, buffer_size=97)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_csv(data: st.DataObject) -> None:
    payload = data.draw(streams(b',\n\n\n""\'\\\\.;a\r\0'))
    options = Options(
        format="csv",
        delimiter=data.draw(st.sampled_from([b",", b";", b"a"])),
        quote=data.draw(st.sampled_from([b'"', b"'"])),
        escape=data.draw(st.sampled_from([b'"', b"'", b"\\", b"x"])),
        null=data.draw(st.sampled_from([b"", b"1"])),
        key_fields=[data.draw(st.integers(0, 3))],
        header=data.draw(st.booleans()),
        force_null=[data.draw(st.booleans())],
        force_not_null=[data.draw(st.booleans())],
        server_version=data.draw(st.sampled_from([17, 18])),
    )
    expected = split(payload, options, NSHARDS, TEXT_KEY.place)
    cut = data.draw(st.lists(st.integers(0, len(payload)), max_size=6))
    check([b"".join(map(message, pieces(payload, cut)))], expected, options, TEXT_KEY, buffer_size=97)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.binary(max_size=90)), max_size=4), max_size=8),
    st.booleans(),
    st.integers(0, 2),
    st.data(),
)
def test_random_binary(rows: list[list[bytes | None]], trailer: bool, key: int, data: st.DataObject) -> None:
    payload = binary(*rows, trailer=trailer)
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload)))]
    options = dataclasses.replace(BINARY, key_fields=[key])
    expected = split(payload, options, NSHARDS, lambda values: TEXT_KEY.place(values, binary=True))
    cut = data.draw(st.lists(st.integers(0, len(payload)), max_size=6))
    check([b"".join(map(message, pieces(payload, cut)))], expected, options, TEXT_KEY, buffer_size=64)
