"""Rows found by the native splitter and by the scanner are the same, wherever the reads cut the data."""

import random
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.copy.binary import HEADER
from shardproxy.copy.options import CopyOptions
from shardproxy.loader.input import Alterations, Chunk, InputError, Reading, read
from shardproxy.loader.input.dialect import copy_dialect
from shardproxy.loader.input.frames import line_frames
from shardproxy.loader.input.scan import Frame, Position, Scanner
from tests.support.reference_splitter import LineReader, Options, RefusedError
from tests.unit.loader.conftest import ReadBytes, options

LIMIT = 1 << 20


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return (data[begin:end] for begin, end in pairwise(at))


def scanner(copy: CopyOptions, limit: int = LIMIT) -> Scanner:
    dialect = copy_dialect(copy, str.encode)
    return Scanner("file", dialect, Position(), limit, Alterations(), marked=copy.format == "text")


def rows_of(frames: Iterator[Frame], copy: CopyOptions) -> tuple[list[bytes], str | None]:
    """All rows, and how it ended."""
    found: list[bytes] = []
    row = copy_dialect(copy, str.encode).row
    try:
        for frame in frames:
            before = len(found)
            at = 0
            while at < len(frame.data):
                match = row.match(frame.data, at)
                end = len(frame.data) if match is None else match.end()
                found.append(frame.data[at:end])
                at = end
            assert len(found) - before == frame.rows
    except InputError as error:
        return found, error.sqlstate
    return found, None


def reference(data: bytes, copy: CopyOptions) -> tuple[list[bytes], str | None]:
    """As PostgreSQL finds them."""
    given = Options(
        format=copy.format,
        delimiter=copy.delimiter.encode(),
        quote=copy.quote.encode(),
        escape=copy.escape.encode(),
    )
    found = []
    try:
        for line in LineReader(data, given):
            found.append(line.data + line.newline)  # noqa: PERF401 -- what was found before an error counts
    except RefusedError as error:
        return found, error.sqlstate
    return found, None


def until_error(path: Path, reading: Reading) -> tuple[list[Chunk], InputError | None]:
    """The chunks given, and the error after them."""
    chunks: list[Chunk] = []
    try:
        for file in read([str(path)], reading, None, Alterations()):
            for chunk in file.chunks:
                chunks.append(chunk)  # noqa: PERF402 -- those before an error count
    except InputError as error:
        return chunks, error
    return chunks, None


COPIES = [
    options(),
    options(quote="'", escape="\\", delimiter=";"),
    CopyOptions.read("from", []),
]


@pytest.mark.parametrize("copy", COPIES, ids=["csv", "escape", "text"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "scanner"])
@given(
    data=st.lists(
        st.sampled_from([b"a", b",", b'"', b"'", b"\\", b"\n", b"\r\n", b"\r", b"bc", b" "]), max_size=30
    ).map(b"".join),
    places=st.lists(st.integers(0, 60), max_size=4),
)
def test_rows_are_postgresql_s(native: bool, copy: CopyOptions, data: bytes, places: list[int]) -> None:
    one = scanner(copy)
    pieces = cut(data, places)
    frames = line_frames(pieces, one, copy, b"") if native else one.frames(pieces)
    found = rows_of(frames, copy)
    expected = reference(data, copy)
    assert found == expected


@pytest.mark.parametrize("seed", range(8))
def test_long_rows_among_short_ones(seed: int) -> None:
    """A row over 64 KiB is given out by the splitter before its end; a frame must not end there."""
    numbers = random.Random(seed)
    copy = options()
    rows = [
        b'1,"' + b"x\n" * (numbers.choice([1, 10, 20_000, 40_000, 100_000]) if numbers.random() < 0.2 else 1) + b'"\n'
        for _ in range(60)
    ]
    data = b"".join(rows)
    places = [numbers.randrange(len(data)) for _ in range(numbers.randrange(20))]
    one = scanner(copy)
    found, ended = rows_of(line_frames(cut(data, places), one, copy, b""), copy)
    assert (found == rows, ended) == (True, None)
    assert (one.position.line, one.position.offset) == (1 + data.count(b"\n"), len(data))


def test_a_header_sets_the_style(read_bytes: ReadBytes) -> None:
    with pytest.raises(InputError, match="ends in LF where the lines before end in CR LF") as caught:
        read_bytes(b"a,b\r\n1,2\n", copy={"header": True})
    assert (caught.value.line, caught.value.offset) == (2, 5)


@pytest.mark.parametrize("style", [b"\n", b"\r\n", b"\r"])
def test_any_line_end_is_read_and_another_is_an_error_with_its_line(style: bytes, tmp_path: Path) -> None:
    rows = [b'1,"x%by"' % style, b"2,z", b"3,w"]
    other = b"\n" if style == b"\r" else b"\r"
    path = tmp_path / "file"
    path.write_bytes(style.join(rows) + style + b"4,v" + other + b"5,u" + style)
    chunks: list[Chunk] = []
    with pytest.raises(InputError, match="where the lines before end in") as caught:
        chunks.extend(
            chunk for file in read([str(path)], Reading(options()), None, Alterations()) for chunk in file.chunks
        )
    assert caught.value.line == 5
    assert b"".join(chunk.data for chunk in chunks) == style.join(rows) + style
    assert [chunk.place(row).line for chunk in chunks for row in range(chunk.rows)] == [1, 3, 4]


def test_f01_a_row_of_many_megabytes_among_short_ones(read_bytes: ReadBytes) -> None:
    long = b"1," + b"x" * (10 << 20) + b"\n"
    short = b"2,%b\n" % (b"y" * 76)
    made = read_bytes(short + long + short * 10)
    assert made.rows == [short, long, *[short] * 10]
    assert [place.offset for place in made.places][1:3] == [len(short), len(short) + len(long)]
    sizes = [len(chunk.data) for _, chunks in made.files for chunk in chunks]
    assert max(sizes) <= len(long) + (2 << 20)


@pytest.mark.parametrize("limit", [50, 100_000, 1_500_000])
def test_f02_a_row_over_the_limit_ends_the_reading_after_those_before_it(limit: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fits, over = b"1," + b"x" * (limit - 3) + b"\n", b"1," + b"x" * (limit - 2) + b"\n"
    for rows in ([fits, fits], [fits, b"2,y\n", over, b"3,z\n"], [over]):
        path.write_bytes(b"".join(rows))
        chunks, error = until_error(path, Reading(options(), max_row_bytes=limit))
        good = rows[: rows.index(over)] if over in rows else rows
        assert [chunk.text(row) for chunk in chunks for row in range(chunk.rows)] == good
        assert (error is not None) == (over in rows)
        if error is not None:
            expected = ("54000", len(good) + 1, sum(map(len, good)))
            assert (error.sqlstate, error.line, error.offset) == expected


@pytest.mark.parametrize("trim", [False, True])
def test_a_row_over_the_limit_is_in_memory_as_far_as_the_limit(tmp_path: Path, trim: bool) -> None:
    """With a copy of it, where it is put together of what was read."""
    path, limit = tmp_path / "long.csv", 8 << 20
    path.write_bytes(b"1,a\n2," + b"x" * (6 * limit) + b"\n")
    tracemalloc.start()
    try:
        _, error = until_error(path, Reading(options(), max_row_bytes=limit, trim=trim))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is not None
    assert error.sqlstate == "54000"
    assert peak < 2.5 * limit


def test_a_text_s_end_marker_ends_the_file(read_bytes: ReadBytes) -> None:
    made = read_bytes(b"1\tx\n2\ty\n\\.\nrest\nof it\n", copy={"format": "text"})
    assert made.rows == [b"1\tx\n", b"2\ty\n"]
    assert made.counts == {"AFTER_END_MARKER": 11}
    assert not read_bytes(b"1\tx\n\\.\n", copy={"format": "text"}).counts


def binary(rows: list[list[bytes | None]]) -> list[bytes]:
    return [
        len(row).to_bytes(2, "big")
        + b"".join(b"\xff" * 4 if one is None else len(one).to_bytes(4, "big") + one for one in row)
        for row in rows
    ]


@pytest.mark.parametrize("extension", [b"", b"extension"])
@pytest.mark.parametrize("trailer", [b"\xff\xff", b""])
def test_binary_rows(extension: bytes, trailer: bytes, read_bytes: ReadBytes) -> None:
    rows = binary([[b"x" * (number % 7), None] for number in range(100)] + [[b"y" * 200_000, None], [b"z", None]])
    header = HEADER[:-4] + len(extension).to_bytes(4, "big") + extension
    made = read_bytes(header + b"".join(rows) + trailer, copy={"format": "binary"})
    assert made.rows == rows
    [(file, _)] = made.files
    assert (file.head, file.tail) == (HEADER, b"\xff\xff")
    assert [place.line for place in made.places] == list(range(1, 103))
    assert made.places[0].offset == len(header)


def test_binary_input_that_is_none(read_bytes: ReadBytes) -> None:
    for data, message in ((b"1,x\n", "signature not recognized"), (HEADER[:12], "cut short")):
        with pytest.raises(InputError, match=message):
            read_bytes(data, copy={"format": "binary"})
    row = binary([[b"abc"]])[0]
    assert read_bytes(HEADER + row + row[:5], copy={"format": "binary"}).rows == [row, row[:5]]
    with pytest.raises(InputError, match="after EOF marker"):
        read_bytes(HEADER + row + b"\xff\xff" + row, copy={"format": "binary"})
