"""PostgreSQL reads the rows: what COPY stores of them is what psycopg's INSERT of the same values stores."""

import asyncio
import contextlib
import enum
import ipaddress
import struct
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from shardproxy.rows import AsyncRows, RowsIO, RowsTextIO, RowTypeError, RowValueError
from tests.support.databases import Databases, Servers
from tests.unit.rows.lists import ListCursor

Connection = psycopg.Connection[tuple[Any, ...]]


class Mood(enum.Enum):
    glad = "glad"
    sad = "it's"


LETTERS = st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\\.\t\n\r\",'{}N")
TEXT = st.text(LETTERS, max_size=8) | st.sampled_from(["", "\\.", "\\N", "NULL", "null"])
OFFSETS = st.integers(-15 * 3600, 15 * 3600).map(lambda seconds: timezone(timedelta(seconds=seconds))) | st.just(UTC)
INT4 = st.integers(-(2**31), 2**31 - 1)
INT8 = st.integers(-(2**63), 2**63 - 1)
NUMERIC = (
    st.decimals(allow_nan=True, min_value=-(10**30), max_value=10**30)
    | st.integers(-(10**50), 10**50).map(Decimal)
    | st.sampled_from(
        [
            Decimal(text)
            for text in ("1E+5", "-0", "0E-10", "1E-16383", "9" * 1000, "Infinity", "-Infinity", "sNaN", "10000.0001")
        ]
    )
)
ADDRESSES = st.ip_addresses()
NETWORKS = st.tuples(st.ip_addresses(), st.integers(0, 32)).map(
    lambda pair: ipaddress.ip_network((pair[0], pair[1] * pair[0].max_prefixlen // 32), strict=False)
)
JSON = st.dictionaries(
    TEXT, st.recursive(st.none() | st.booleans() | INT8 | TEXT, lambda values: st.lists(values, max_size=3)), max_size=3
)
MATRIX = st.integers(1, 2).flatmap(
    lambda width: st.lists(st.lists(st.none() | TEXT, min_size=width, max_size=width), max_size=2)
)

COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "truth": ("bool", st.booleans()),
    "small": ("smallint", st.integers(-(2**15), 2**15 - 1)),
    "middle": ("int4", INT4),
    "large": ("int8", INT8),
    "single": ("real", st.floats(width=32)),
    "double": ("double precision", st.floats()),
    "exact": ("numeric", NUMERIC),
    "string": ("text", TEXT),
    "length": ("varchar(10)", TEXT),
    "bytes": ("bytea", st.binary(max_size=8)),
    "day": ("date", st.dates()),
    "clock": ("time", st.times()),
    "zoned": ("timetz", st.times(timezones=OFFSETS)),
    "moment": ("timestamp", st.datetimes()),
    "instant": ("timestamptz", st.datetimes(timezones=OFFSETS)),
    "span": ("interval", st.timedeltas()),
    "id": ("uuid", st.uuids()),
    "address": ("inet", ADDRESSES),
    "network": ("cidr", NETWORKS),
    "document": ("jsonb", JSON),
    "integers": ("int8[]", st.lists(st.none() | INT8, max_size=3)),
    "matrix": ("text[]", MATRIX),
    "moments": ("timestamp[]", st.lists(st.datetimes(), max_size=2)),
    "mood": ("mood", st.sampled_from(Mood)),
    "span_of": (
        "int8range",
        st.builds(
            Range, st.none() | st.integers(0, 9), st.none() | st.integers(10, 19), st.sampled_from(["[)", "()", "[]"])
        )
        | st.just(Range(empty=True)),
    ),
}
NAMES = ["n", *COLUMNS]
TYPES = ["int4", *(kind for kind, _ in COLUMNS.values())]
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in COLUMNS.values())), min_size=1, max_size=12)
NOT_BINARY = ("span_of",)


@pytest.fixture(scope="module")
def connection(servers: Servers) -> Iterator[Connection]:
    """Tables `copied` and `inserted`; DateStyle and IntervalStyle are unusual on purpose."""
    databases = Databases.create(servers, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as connection:
        connection.execute(
            "SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Tokyo'"
        )
        connection.execute("CREATE TYPE mood AS ENUM ('glad', 'sad')")
        info = EnumInfo.fetch(connection, "mood")
        assert info is not None
        register_enum(info, connection, Mood, mapping=[(mood, mood.name) for mood in Mood])
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(NAMES, TYPES, strict=True))
        for table in ("copied", "inserted"):
            connection.execute(f"CREATE TABLE {table} ({columns})".encode())
        yield connection
    databases.drop()


def adapted(value: Any) -> Any:
    """The value as psycopg has to be given it."""
    if isinstance(value, Decimal) and value.is_nan():
        return Decimal("NaN")  # its C code writes -NaN, which PostgreSQL refuses
    return Jsonb(value) if isinstance(value, dict) else value


def stored(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    """The rows in PostgreSQL's own text, which tells apart what Python would not."""
    casts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in NAMES)
    return connection.execute(sql.SQL("SELECT {} FROM {} ORDER BY n").format(casts, sql.Identifier(table))).fetchall()


def copied(connection: Connection, data: RowsIO | RowsTextIO, options: str, columns: str = "") -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY copied {columns} FROM STDIN ({options})".encode()) as copy:
        for block in data.blocks():
            copy.write(block)


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # 25 columns take minutes to shrink
@given(ROWS)
def test_copy_stores_what_insert_stores(connection: Connection, values: list[tuple[Any, ...]]) -> None:
    rows = [(number, *row) for number, row in enumerate(values)]
    connection.execute("TRUNCATE copied, inserted")
    with connection.transaction(), connection.cursor() as cursor:
        # psycopg takes an empty list for text, and a bare smallint for one of the columns' integers.
        places = ", ".join(f"%s::{kind}" for kind in TYPES)
        cursor.executemany(
            f"INSERT INTO inserted VALUES ({places})".encode(), [[adapted(value) for value in row] for row in rows]
        )
    expected = stored(connection, "inserted")
    for format_ in ("csv", "text"):
        connection.execute("TRUNCATE copied")
        copied(connection, RowsIO(ListCursor(rows), "q", None, 5, format=format_), f"FORMAT {format_}")
        assert stored(connection, "copied") == expected
    connection.execute("TRUNCATE copied")
    kept = [index for index, name in enumerate(NAMES) if name not in NOT_BINARY]
    types = {NAMES[index]: "text" if TYPES[index] == "mood" else TYPES[index] for index in kept}
    names = [NAMES[index] for index in kept]
    cursor_ = ListCursor([[row[index] for index in kept] for row in rows], names)
    copied(
        connection,
        RowsIO(cursor_, "q", None, 5, format="binary", types=types),
        "FORMAT binary",
        f"({', '.join(names)})",
    )
    blank = [NAMES.index(name) for name in NOT_BINARY]
    assert stored(connection, "copied") == [
        tuple(None if index in blank else value for index, value in enumerate(row)) for row in expected
    ]


LITERALS = [
    "2", "true", "-5", "3", "9223372036854775807", "0.1", "NaN", "1234567890.0123456789", "a\tb\\ü\n\"'", "",
    "\\x005c", "0001-02-03", "23:59:59.999999", "01:02:03+05:30", "9999-12-31 23:59:59", "2024-02-29 12:00:00+09",
    "-3 days +00:00:01.5", "12345678-1234-5678-1234-567812345678", "10.0.0.1", "::/0", '{"a": [1, null, "\\""]}',
    "{1,NULL}", '{{a,NULL},{"","NULL"}}', "{2024-01-01}", "glad", "[1,5)",
]  # fmt: skip


def by_psycopg(dsn: str, query: str) -> str:
    with psycopg.connect(dsn) as source, source.cursor("c") as cursor:
        return RowsTextIO(cursor, query, types={"document": "jsonb"}).read()


def by_psycopg2(dsn: str, query: str) -> str:
    with contextlib.closing(psycopg2.connect(dsn)) as source, source.cursor("c") as cursor:
        return RowsTextIO(cursor, query, types={"document": "jsonb"}).read()


def by_asyncpg(dsn: str, query: str) -> str:
    async def read() -> bytes:
        source = await asyncpg.connect(dsn)
        async with source.transaction():
            data = b"".join([block async for block in AsyncRows(source, query)])
        await source.close()
        return data

    return asyncio.run(read()).decode()


@pytest.mark.newest
@pytest.mark.parametrize("read", [by_psycopg, by_psycopg2, by_asyncpg])
def test_what_drivers_give_is_what_they_were_given(connection: Connection, read: Callable[[str, str], str]) -> None:
    """From a table of all types into another one, by each driver's own Python types."""
    connection.execute("TRUNCATE copied, inserted")
    places = ", ".join(f"%s::{kind}" for kind in TYPES)
    connection.execute(f"INSERT INTO inserted VALUES ({places})".encode(), LITERALS)
    connection.execute("INSERT INTO inserted (n) VALUES (1)")
    info = connection.info
    data = read(f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}", "SELECT * FROM inserted")
    with connection.cursor() as cursor, cursor.copy("COPY copied FROM STDIN CSV") as copy:
        copy.write(data)
    assert stored(connection, "copied") == stored(connection, "inserted")


def test_json_text_and_interfaces_in_binary(connection: Connection) -> None:
    connection.execute("CREATE TEMPORARY TABLE odd (a json, b jsonb, c inet, d inet, e oid, f name, g bool)")
    row = ('{"a":  1}', [1, "é"], ipaddress.ip_interface("10.1.2.3/8"), ipaddress.ip_network("::/7"), 2**32 - 1,
           "n", 1)  # fmt: skip
    types: list[str | int | None] = ["json", "jsonb", "inet", "inet", 26, "name", "boolean"]
    with connection.cursor() as cursor, cursor.copy("COPY odd FROM STDIN (FORMAT binary)") as copy:
        copy.write(RowsIO(ListCursor([row]), "q", format="binary", types=types).read())
    found = connection.execute("SELECT a::text, b, c::text, d::text, e, f, g FROM odd").fetchone()
    assert found == ('{"a":  1}', [1, "é"], "10.1.2.3/8", "::/7", 2**32 - 1, "n", True)


def test_mysql_s_time_goes_into_a_column_of_time(connection: Connection) -> None:
    """Its drivers give timedelta for it."""
    connection.execute("CREATE TEMPORARY TABLE clocks (a time, b interval)")
    row = (timedelta(hours=1, microseconds=5), timedelta(hours=-1))
    with connection.cursor() as cursor, cursor.copy("COPY clocks FROM STDIN CSV") as copy:
        copy.write(RowsIO(ListCursor([row]), "q").read())
    assert connection.execute("SELECT a, extract(epoch FROM b) FROM clocks").fetchone() == (time(1, 0, 0, 5), -3600)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("format_", ["csv", "text", "binary"])
def test_rows_without_columns_or_none_at_all(connection: Connection, format_: Any, rows: int) -> None:
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS nothing ()")
    connection.execute("TRUNCATE nothing")
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY nothing FROM STDIN (FORMAT {format_})".encode()) as copy:
            copy.write(RowsIO(ListCursor([()] * rows), "q", format=format_, types=[]).read())
        assert cursor.rowcount == rows


@pytest.mark.parametrize("value", ["\\.", "", None, "a\n\\.\nb"])
@pytest.mark.parametrize("format_", ["csv", "text"])
def test_a_column_alone(connection: Connection, format_: Any, value: str | None) -> None:
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS alone (a text)")
    connection.execute("TRUNCATE alone")
    with connection.cursor() as cursor, cursor.copy(f"COPY alone FROM STDIN (FORMAT {format_})".encode()) as copy:
        copy.write(RowsTextIO(ListCursor([(value,), ("next",)]), "q", format=format_).read())
    assert connection.execute("SELECT a FROM alone").fetchall() == [(value,), ("next",)]


BINARY_REFUSED: list[tuple[str, Any, type[Exception], str]] = [
    ("int2", 2**15, RowValueError, "out of range for the type int2"),
    ("int8", 2**63, RowValueError, "out of range for the type int8"),
    ("int4", "1", RowTypeError, "a str is no value for the type int4"),
    ("int4", 1.0, RowTypeError, "a float is no value for the type int4"),
    ("bool", 2, RowValueError, "2 is no boolean"),
    ("real", 1e300, RowValueError, "out of range for the type float4"),
    ("numeric", Decimal("1E+131072"), RowValueError, "131072 digits before"),
    ("numeric", Decimal("1E-16384"), RowValueError, "16383 after"),
    ("text", 5, RowTypeError, "a int is no value for the type text"),
    ("text", "a\0", RowValueError, "U.0000"),
    ("text", "\ud800", RowValueError, "surrogates"),
    ("bytea", 5, RowTypeError, "a int is no value"),
    ("bytea", "5", RowTypeError, "a str is no value"),
    ("date", datetime.min, RowTypeError, "a datetime is no value for the type date"),
    ("timestamp", datetime.min.replace(tzinfo=UTC), RowTypeError, "offset-naive and offset-aware"),
    ("timestamptz", datetime.min, RowTypeError, "offset-naive and offset-aware"),
    ("timestamp", date.min, RowTypeError, "a date is no value"),
    ("time", time(1, tzinfo=UTC), RowTypeError, "needs the type timetz"),
    ("timetz", time(1), RowTypeError, "timetz needs a time whose zone"),
    ("timetz", time(1, tzinfo=timezone(timedelta(microseconds=1))), RowValueError, "whole seconds"),
    ("uuid", "0", RowTypeError, "a str is no value"),
    ("cidr", ipaddress.ip_interface("10.1.2.3/8"), RowTypeError, "a IPv4Interface is no value"),
    ("inet", ipaddress.ip_address("fe80::1%eth0"), RowValueError, "no scope"),
    ("jsonb", float("inf"), RowValueError, "JSON compliant"),
    ("int4[]", [1, "2"], RowTypeError, "a str is no value for the type int4"),
    ("int4[]", [[1], [2, 3]], RowValueError, "dimensions of an array"),
    ("int4[]", [1, [2]], RowValueError, "dimensions of an array"),
    ("int4[]", [[], [1]], RowValueError, "dimensions of an array"),
    ("int4[]", [None, [1]], RowValueError, "dimensions of an array"),
]


@pytest.mark.parametrize(("kind", "value", "error", "message"), BINARY_REFUSED, ids=lambda value: repr(value)[:30])
def test_binary_refuses_what_its_column_cannot_hold(
    kind: str, value: Any, error: type[Exception], message: str
) -> None:
    rows = RowsIO(ListCursor([(1, None), (2, value)], ["id", "what"]), "q", format="binary", types=["int8", kind])
    with pytest.raises(error, match=f'^row 2, column "what": .*{message}'):
        rows.read()


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["text", "mood"], "no type 'mood'"),
        ([25, 99999], "no type 99999"),
        (["text", "int4[][]"], "no type 'int4"),
        ({"a": "text", "b": "no"}, "no type 'no'"),
        (["text"], "types has 1 entries"),
        (["text", None], "types lacks b"),
        ({"b": "text"}, "types lacks a"),
        ({"a": "text", "b": "text", "c": "text"}, "does not have: c"),
    ],
)
def test_binary_needs_types_that_it_knows(types: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowsIO(ListCursor([("a", "b")], ["a", "b"]), "q", format="binary", types=types).read()


def test_binary_changes_nul_only_when_asked() -> None:
    row = ("a\0", ["\0"], {"\0": "b"})
    types = ["text", "text[]", "json"]
    for nul, letter in (("strip", b""), ("replace", b"\xef\xbf\xbd")):
        data = RowsIO(ListCursor([row]), "q", format="binary", types=types, nul=nul).read()  # type: ignore[arg-type]
        assert struct.pack(">i", 1 + len(letter)) + b"a" + letter in data
        assert b'{"' + letter + b'":"b"}' in data
        assert b"\\u0000" not in data


def test_uuids_of_asyncpg_are_uuids() -> None:
    """Its class is not a subclass of Python's, and says that it is."""
    from asyncpg.pgproto.pgproto import UUID

    value = UUID(bytes(15) + b"\1")
    assert RowsTextIO(ListCursor([(value,)]), "q").read() == f"{uuid.UUID(int=1)}\n"
    assert RowsIO(ListCursor([(value,)]), "q", format="binary", types=["uuid"]).read()[25:-2] == bytes(15) + b"\1"
