"""`RowsIO` and `RowsTextIO` as files: each way to read gives the same data, and no way loses some."""

import io
import sqlite3
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardproxy
from shardproxy import RowsIO, RowsTextIO
from shardproxy.rows.errors import FailedEarlierError
from tests.unit.rows.lists import ListCursor

ROWS = [(number, "x" * (number % 7), None if number % 3 else "a\nü") for number in range(40)]
TEXT = RowsTextIO(ListCursor(ROWS), "q").read()
DATA = TEXT.encode()

READS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "read1", "readinto", "readinto1"]), st.integers(0, 60)), max_size=40
)


def opened(rows_per_fetch: int = 3, rows: Sequence[Any] = ROWS) -> RowsIO:
    return RowsIO(ListCursor(rows), "q", None, rows_per_fetch)


@settings(max_examples=50)
@given(READS, st.integers(1, 50))
def test_any_way_of_reading_bytes(reads: list[tuple[str, int]], rows_per_fetch: int) -> None:
    """Beside a BytesIO of the same data; read1 and readinto1 may give less, but something."""
    rows, expected = opened(rows_per_fetch), io.BytesIO(DATA)
    for name, size in reads:
        if name.startswith("readinto"):
            buffer = bytearray(b"?" * size)
            count = getattr(rows, name)(buffer)
            got = bytes(buffer[:count])
            assert buffer[count:] == b"?" * (size - count)
        else:
            got = getattr(rows, name)(size)
        if name.endswith("1"):
            assert len(got) <= size
            assert bool(got) == bool(size and expected.tell() < len(DATA))
            assert got == expected.read(len(got))
        else:
            assert got == (expected.readline(size) if name == "readline" else expected.read(size))
    assert rows.read() == expected.read()
    assert rows.read() == rows.read(5) == rows.readline() == b""
    assert rows.rows == len(ROWS)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["read", "readline"]), st.integers(-1, 60)), max_size=20), st.integers(1, 50))
def test_any_way_of_reading_text(reads: list[tuple[str, int]], rows_per_fetch: int) -> None:
    rows, expected = RowsTextIO(ListCursor(ROWS), "q", None, rows_per_fetch), io.StringIO(TEXT, newline="")
    for name, size in reads:
        assert getattr(rows, name)(size) == getattr(expected, name)(size)
    assert rows.read(None) == expected.read(None)


def test_lines_and_blocks() -> None:
    assert list(opened()) == io.BytesIO(DATA).readlines()
    assert list(RowsTextIO(ListCursor(ROWS), "q")) == TEXT.splitlines(keepends=True)
    rows = opened(25)
    assert rows.read(1) == DATA[:1]
    blocks = list(rows.blocks())
    assert len(blocks) == 2
    assert b"".join(blocks) == DATA[1:]
    assert next(iter(RowsTextIO(ListCursor(ROWS), "q").blocks())) == TEXT


def test_it_is_what_io_takes() -> None:
    rows: Any = opened()
    assert io.TextIOWrapper(rows, "utf-8", newline="").read() == TEXT
    assert io.BufferedReader(opened()).read() == DATA
    for rows in (opened(), RowsTextIO(ListCursor(ROWS), "q")):
        assert rows.readable()
        assert not rows.writable()
        assert not rows.seekable()
        with pytest.raises(io.UnsupportedOperation):
            rows.seek(0)


def test_closed_it_reads_no_more_and_the_cursor_stays_open() -> None:
    with sqlite3.connect(":memory:") as connection:
        cursor = connection.cursor()
        with RowsIO(cursor, "SELECT 1") as rows, RowsTextIO(ListCursor([]), "q") as text:
            assert rows.read(1) == b"1"
        assert rows.closed
        assert not rows.readable()
        for closed in (rows, text):
            reads: list[Callable[[], object]] = [closed.read, closed.readline, closed.blocks, closed.__next__]
            for read in reads:
                with pytest.raises(ValueError, match="closed"):
                    read()
        with pytest.raises(ValueError, match="closed"):
            rows.readinto(bytearray(1))
        assert cursor.execute("SELECT 2").fetchall() == [(2,)]
    connection.close()


def test_no_more_than_one_batch_is_fetched_before_it_is_asked_for() -> None:
    cursor = ListCursor(ROWS)
    rows = RowsIO(cursor, "q", None, 10)
    assert not cursor.fetched
    rows.read(1)
    rows.readline()
    assert cursor.fetched == [10]
    rows.read()
    assert cursor.fetched == [10] * 5


def test_memory_holds_a_batch_not_the_result() -> None:
    class Endless:
        def __init__(self) -> None:
            self.left = 100

        def fetchmany(self, size: int) -> list[tuple[int, str]]:
            self.left -= 1
            return [(number, str(number) * 10) for number in range(size)] if self.left else []

    rows = RowsIO(Endless(), None, None, 100)
    size = 0
    tracemalloc.start()
    try:
        while data := rows.read(4096):
            size += len(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.rows == 99 * 100
    assert peak < size / 4


def test_the_query_runs_as_the_driver_takes_it() -> None:
    cases: list[tuple[tuple[Any, ...], list[Any]]] = [
        (("q",), [("q",)]),
        (("q", {"a": 1}), [("q", {"a": 1})]),
        (("q", ()), [("q", ())]),
        ((None,), []),
    ]
    for arguments, executed in cases:
        cursor = ListCursor([])
        assert RowsIO(cursor, *arguments).read() == b""
        assert cursor.executed == executed
        assert cursor.arraysize == 500


def test_a_cursor_needs_nothing_but_execute_and_fetchmany() -> None:
    class Fixed:
        __slots__ = ("rows",)
        arraysize = property(lambda self: 1)  # cannot be set

        def execute(self, query: str) -> None:
            self.rows: list[tuple[int]] | None = [(1,)]

        def fetchmany(self, size: int) -> Any:  # some give None at the end
            rows, self.rows = self.rows, None
            return rows

    assert RowsIO(Fixed(), "q").read() == b"1\n"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_there_is_no_end(failure: type[BaseException]) -> None:
    """The batch is lost: if the next read told the end, the COPY would commit a part as the whole."""

    class Fails(ListCursor):
        def fetchmany(self, size: int) -> Sequence[Any]:
            if len(self.fetched) == 1:
                self.fetched.append(size)
                raise failure
            return super().fetchmany(size)

    rows = RowsIO(Fails(ROWS), "q", None, 10)
    rows.read(1)
    with pytest.raises(failure):
        rows.read()
    reads: list[Callable[[], object]] = [rows.read, rows.readline, rows.read1, rows.blocks().__next__]
    for read in reads:
        with pytest.raises(FailedEarlierError):
            read()


def test_an_unknown_name_of_the_package_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rows'"):
        shardproxy.Rows  # noqa: B018
