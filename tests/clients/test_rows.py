"""`RowsIO`, `RowsTextIO` and `AsyncRows` in the hands of the drivers: a query's rows from one server into the proxy."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import aiosqlite
import asyncpg
import psycopg
import psycopg2
import pytest

from shardproxy import AsyncRows, RowsIO, RowsTextIO
from shardproxy.rows import RowTypeError
from shardproxy.rows.errors import FailedEarlierError
from tests.support.twin import Twin

pytestmark = pytest.mark.newest

QUERY = "SELECT a + 1000, b || '\t\"' FROM t WHERE a <= %s ORDER BY a"
NUMBERED = QUERY.replace("%s", "$1")
LAST = 50
EXPECTED = [(1000 + number, f'row {number}\t"') for number in range(1, LAST + 1)]
TYPES = ["int4", "text"]


def arrived(twin: Twin) -> list[tuple[Any, ...]]:
    """What the test has added, by the proxy."""
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        return sorted(connection.execute("SELECT a, b FROM t WHERE a > 1000").fetchall())


def copy_of(format_: str) -> str:
    return f"COPY t (a, b) FROM STDIN (FORMAT {format_})"


@pytest.fixture
def sqlite(twin: Twin) -> Iterator[sqlite3.Connection]:
    """The same table in SQLite; asyncpg reads a file in another thread."""
    with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", twin.databases.oracle_rows("SELECT a, b FROM t"))
        yield connection


@pytest.mark.parametrize(("name", "format_"), [("", "csv"), ("server_side", "text"), ("server_side", "binary")])
def test_psycopg(twin: Twin, format_: Literal["csv", "text", "binary"], name: str) -> None:
    with (
        psycopg.connect(twin.databases.oracle) as source,
        source.cursor(name) if name else source.cursor() as cursor,
        RowsIO(cursor, QUERY, (LAST,), 7, format=format_, types=TYPES) as rows,
        psycopg.connect(twin.dsn) as target,
        target.cursor() as loading,
    ):
        with loading.copy(copy_of(format_).encode()) as copy:
            copy.write(rows.read(100))
            copy.write(rows.readline())
            for block in rows.blocks():
                copy.write(block)
        assert loading.rowcount == rows.rows == LAST
    assert arrived(twin) == EXPECTED


def psycopg2_connection(dsn: str) -> Any:
    return contextlib.closing(psycopg2.connect(dsn))


@pytest.mark.parametrize(("name", "format_"), [(None, "text"), ("server_side", "csv"), ("server_side", "binary")])
def test_psycopg2(twin: Twin, format_: Literal["csv", "text", "binary"], name: str | None) -> None:
    with psycopg2_connection(twin.databases.oracle) as source, psycopg2_connection(twin.dsn) as target:
        cursor = source.cursor(name)
        loading = target.cursor()
        if format_ == "binary":
            rows: RowsIO | RowsTextIO = RowsIO(cursor, QUERY, (LAST,), 7, format=format_, types=TYPES)
        else:
            rows = RowsTextIO(cursor, QUERY, (LAST,), 7, format=format_)
        loading.copy_expert(copy_of(format_), rows, size=50)
        target.commit()
        assert loading.rowcount == rows.rows == LAST
    assert arrived(twin) == EXPECTED


@pytest.mark.parametrize("format_", ["csv", "text", "binary"])
async def test_asyncpg_reads_a_file(
    twin: Twin, sqlite: sqlite3.Connection, format_: Literal["csv", "text", "binary"]
) -> None:
    rows = RowsIO(sqlite.cursor(), QUERY.replace("%s", "?"), (LAST,), 7, format=format_, types=TYPES)
    target = await asyncpg.connect(twin.dsn)
    tag = await target.copy_to_table("t", source=rows, columns=["a", "b"], format=format_)
    await target.close()
    assert tag == f"COPY {LAST}"
    assert arrived(twin) == EXPECTED


Opened = Callable[[Twin, dict[str, Any]], contextlib.AbstractAsyncContextManager[AsyncRows]]


@contextlib.asynccontextmanager
async def of_asyncpg(twin: Twin, options: dict[str, Any]) -> AsyncIterator[AsyncRows]:
    source = await asyncpg.connect(twin.databases.oracle)
    async with source.transaction():
        yield AsyncRows(source, NUMBERED, (LAST,), 7, **options)
    await source.close()


@contextlib.asynccontextmanager
async def of_asyncpg_s_cursor(twin: Twin, options: dict[str, Any]) -> AsyncIterator[AsyncRows]:
    source = await asyncpg.connect(twin.databases.oracle)
    async with source.transaction():
        yield AsyncRows(source.cursor(NUMBERED, LAST), None, None, 7, **options)
    await source.close()


@contextlib.asynccontextmanager
async def of_psycopg(twin: Twin, options: dict[str, Any]) -> AsyncIterator[AsyncRows]:
    async with await psycopg.AsyncConnection.connect(twin.databases.oracle) as source, source.cursor("x") as cursor:
        yield AsyncRows(cursor, QUERY, (LAST,), 7, **options)


@contextlib.asynccontextmanager
async def of_aiosqlite(twin: Twin, options: dict[str, Any]) -> AsyncIterator[AsyncRows]:
    async with aiosqlite.connect(":memory:") as source, source.cursor() as cursor:
        await cursor.execute("CREATE TABLE t (a, b)")
        await cursor.executemany("INSERT INTO t VALUES (?, ?)", twin.databases.oracle_rows("SELECT a, b FROM t"))
        yield AsyncRows(cursor, QUERY.replace("%s", "?"), (LAST,), 7, **options)


SOURCES: list[tuple[Opened, Literal["csv", "text", "binary"]]] = [
    (of_asyncpg, "csv"),
    (of_asyncpg_s_cursor, "text"),
    (of_psycopg, "binary"),
    (of_aiosqlite, "csv"),
]


@pytest.mark.parametrize(("opened", "format_"), SOURCES)
async def test_into_asyncpg(twin: Twin, opened: Opened, format_: Literal["csv", "text", "binary"]) -> None:
    """It iterates by itself."""
    async with opened(twin, {"format": format_, "types": TYPES}) as rows:
        target = await asyncpg.connect(twin.dsn)
        tag = await target.copy_to_table("t", source=rows, columns=["a", "b"], format=format_)
        await target.close()
        assert tag == f"COPY {rows.rows}" == f"COPY {LAST}"
        assert [block async for block in rows] == []
    assert arrived(twin) == EXPECTED


@pytest.mark.parametrize(("opened", "format_"), SOURCES)
async def test_into_psycopg(twin: Twin, opened: Opened, format_: Literal["csv", "text", "binary"]) -> None:
    async with (
        opened(twin, {"format": format_, "types": TYPES}) as rows,
        rows,
        await psycopg.AsyncConnection.connect(twin.dsn) as target,
        target.cursor() as loading,
        loading.copy(copy_of(format_).encode()) as copy,
    ):
        async for block in rows:
            await copy.write(block)
    assert arrived(twin) == EXPECTED


async def test_no_rows_are_a_header_and_a_trailer(twin: Twin) -> None:
    async with await psycopg.AsyncConnection.connect(twin.databases.oracle) as source, source.cursor() as cursor:
        rows = AsyncRows(cursor, "SELECT WHERE false", format="binary", types=[])
        assert [len(block) async for block in rows] == [19 + 2]


BAD = "SELECT a + 1000, CASE WHEN a < 30 THEN b END FROM t ORDER BY a"


class Fails:
    """A cursor whose driver gives a type that PostgreSQL does not have, in the thirtieth row."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def execute(self, *query: Any) -> None:
        self._cursor.execute(*query)

    def fetchmany(self, size: int) -> list[Any]:
        return [(a, 1j if b is None else b) for a, b in self._cursor.fetchmany(size)]


async def test_a_row_that_cannot_be_written_fails_the_copy(twin: Twin, sqlite: sqlite3.Connection) -> None:
    """With each driver, nothing is stored and the connection is of use afterwards."""

    def rows() -> RowsIO:
        return RowsIO(Fails(sqlite.cursor()), BAD, None, 7)

    with psycopg.connect(twin.dsn) as target, target.cursor() as loading:
        with (
            pytest.raises(RowTypeError, match=r"^row 30, "),
            loading.copy(copy_of("csv").encode()) as copy,
        ):
            copy.write(rows().read())
        target.rollback()
        assert target.execute("SELECT 1").fetchone() == (1,)
    with psycopg2_connection(twin.dsn) as old:
        failing = rows()
        with pytest.raises(psycopg2.errors.QueryCanceled, match="row 30"):
            old.cursor().copy_expert(copy_of("csv"), failing)
        with pytest.raises(FailedEarlierError):
            failing.read()
        old.rollback()
        old.cursor().execute("SELECT 1")
    other = await asyncpg.connect(twin.dsn)
    with pytest.raises(RowTypeError, match=r"^row 30, "):
        await other.copy_to_table("t", source=rows(), columns=["a", "b"], format="csv")
    assert await other.fetchval("SELECT 1") == 1
    await other.close()
    assert arrived(twin) == []


async def test_what_is_no_asynchronous_cursor_is_refused(sqlite: sqlite3.Connection) -> None:
    with pytest.raises(TypeError, match="a Cursor is not asynchronous: it needs RowsIO"):
        await anext(AsyncRows(sqlite.cursor(), "SELECT 1"))
    with pytest.raises(TypeError, match="a Cursor is not asynchronous: it needs RowsIO"):
        await anext(AsyncRows(sqlite.execute("SELECT 1"), None))


async def test_after_a_failure_an_iteration_has_no_end(twin: Twin) -> None:
    async with await psycopg.AsyncConnection.connect(twin.databases.oracle) as source, source.cursor() as cursor:
        rows = AsyncRows(cursor, "SELECT 1, 1 / 0")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await anext(rows)
        with pytest.raises(FailedEarlierError):
            await anext(rows)
