"""Rows in the text and CSV formats: what each value becomes, and what is refused."""

import enum
import ipaddress
import re
import sqlite3
import uuid
from collections import namedtuple
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import asyncpg
import psycopg2.extras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.range import Range

from shardproxy.rows import RowError, RowsIO, RowsTextIO, RowTypeError, RowValueError
from shardproxy.rows.encoder import Nul, Types
from tests.unit.rows.lists import ListCursor

FORMATS: tuple[Literal["csv", "text"], ...] = ("csv", "text")


def written(
    rows: Sequence[Any], format_: Literal["csv", "text"] = "csv", nul: Nul = "error", types: Types | None = None
) -> str:
    return RowsTextIO(ListCursor(rows), "q", format=format_, nul=nul, types=types).read()


class Mood(enum.Enum):
    GLAD = 1
    SAD = "x"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    HELLO = "hello, you"


class Mixed(str, enum.Enum):  # noqa: UP042 -- not the same as StrEnum
    A = "a"


WEST = timezone(-timedelta(hours=3, minutes=30))
LITERALS = [
    (None, r"\N"),
    ("", ""),
    ("a", "a"),
    (True, "t"),
    (False, "f"),
    (-(2**70), "-1180591620717411303424"),
    (Level.HIGH, "3"),
    (1.5, "1.5"),
    (1e300, "1e+300"),
    (float("nan"), "nan"),
    (float("-inf"), "-inf"),
    (Decimal("-0.00"), "-0.00"),
    (Decimal("1E+5"), "1E+5"),
    (Decimal("-sNaN12"), "NaN"),
    (Decimal("-Infinity"), "-Infinity"),
    (date.min, "0001-01-01"),
    (date.max, "9999-12-31"),
    (datetime.min, "0001-01-01 00:00:00"),
    (datetime.max, "9999-12-31 23:59:59.999999"),
    (datetime(2024, 2, 29, 1, 2, 3, 45, WEST), "2024-02-29 01:02:03.000045-03:30"),
    (datetime(1900, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")), "1900-01-01 00:00:00+00:19:32"),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=16))), "2023-12-31 08:00:00+00:00"),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))), "2024-01-01 00:00:00.000001+00:00"),
    (time(1, 2, 3), "01:02:03"),
    (time(1, 2, 3, 4, UTC), "01:02:03.000004+00:00"),
    (timedelta(), "00:00:00"),
    (timedelta(hours=23, minutes=4, seconds=5, microseconds=6), "23:04:05.000006"),
    (timedelta(days=1), "P1DT0S"),
    (timedelta(microseconds=-1), "P-1DT86399.999999S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (b"\0a\\", r"\\x00615c"),
    (bytearray(b""), r"\\x"),
    (memoryview(b"\xff"), r"\\xff"),
    (ipaddress.ip_address("::1"), "::1"),
    (ipaddress.ip_interface("10.0.0.1/8"), "10.0.0.1/8"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (Mood.GLAD, "GLAD"),
    (Mood.SAD, "SAD"),
    (Word.HELLO, "hello, you"),
    (Mixed.A, "a"),
    ([], "{}"),
    ([1, None, 2.5, True, Decimal("1.0")], "{1,NULL,2.5,t,1.0}"),
    ([[1], (2,)], "{{1},{2}}"),
    (["NULL", "", 'a"b', "c\\d", None], r'{"NULL","","a\\"b","c\\\\d",NULL}'),
    ([b"\1", date.min, {"a": '"'}], r'{"\\\\x01","0001-01-01","{\\"a\\":\\"\\\\\\"\\"}"}'),
    ({"a": [1, None, "é\n"]}, r'{"a":[1,null,"é\\n"]}'),
    (Range(1, None, "[)"), '["1",)'),
    (Range(empty=True), "empty"),
    (Range('a"', "b", "(]"), r'("a\\"","b"]'),
    (asyncpg.Range(1, 2, lower_inc=False, upper_inc=True), '("1","2"]'),
    (psycopg2.extras.NumericRange(1, 2), '["1","2")'),
]


@pytest.mark.parametrize(("value", "text"), LITERALS, ids=lambda value: type(value).__name__)
def test_a_value_is_written_as_postgresql_reads_it(value: object, text: str) -> None:
    assert written([(value,)], "text") == text + "\n"


def test_a_value_is_written_alike_in_mixed_company() -> None:
    """A column of one type and one of many are converted in different ways."""
    rows = [(value,) for value, _ in LITERALS]
    assert written(rows, "text") == "".join(f"{text}\n" for _, text in LITERALS)


@pytest.mark.parametrize(
    ("row", "csv", "text"),
    [
        ((None, ""), ',""', "\\N\t"),
        (("", None), '"",', "\t\\N"),
        ((None,), "", "\\N"),
        (("\\N",), "\\N", "\\\\N"),
        (("\\.",), '"\\."', "\\\\."),
        (("\\.", "a\\."), '"\\.",a\\.', "\\\\.\ta\\\\."),
        (("a\tb\nc\rd\\e",), '"a\tb\nc\rd\\e"', r"a\tb\nc\rd\\e"),
        (('"', ",", " a "), '"""",",", a ', '"\t,\t a '),
        (("\b\f\v\x7f\u2028",), "\b\f\v\x7f\u2028", "\b\f\v\x7f\u2028"),
        ((b"",), "\\x", "\\\\x"),
        (([1, 2],), '"{1,2}"', "{1,2}"),
        (({"a": 1},), '"{""a"":1}"', '{"a":1}'),
        ((), "", ""),
    ],
)
def test_what_means_something_to_copy_is_escaped(row: tuple[object, ...], csv: str, text: str) -> None:
    assert written([row], "csv") == csv + "\n"
    assert written([row], "text") == text + "\n"


def test_rows_of_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    values = [(1, "a", None), (2, "", 1.5), (None, "ü\n", b"\0"), ("x", 2, "y")]
    connection.execute("CREATE TABLE t (a, b, c)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", values)
    rows = RowsTextIO(connection.cursor(), "SELECT * FROM t WHERE a IS NOT ?", (2,), 2)
    assert rows.read() == '1,a,\n,"ü\n",\\x00\nx,2,y\n'
    assert rows.rows == 3
    connection.close()


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.none() | st.text(alphabet='\\.",\t\n\rN ax{}é', max_size=4), st.none() | st.integers())),
    size=st.integers(1, 5),
)
def test_batches_do_not_change_the_data(format_: Literal["csv", "text"], rows: list[Any], size: int) -> None:
    alone = "".join(written([row], format_) for row in rows)
    assert RowsTextIO(ListCursor(rows), "q", None, size, format=format_).read() == alone


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "row", [(1, "x"), [1, "x"], {"a": 1, "b": "x"}, Pair(1, "x")], ids=lambda row: type(row).__name__
)
def test_rows_of_any_kind(row: Any) -> None:
    assert written([row, row]) == "1,x\n1,x\n"


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([(1,), "ab"], None, "row 2: it is a str, and not a sequence of values"),
        ([(1,), 5], None, "row 2: it is a int, and not a sequence of values"),
        ([(1,), None], None, "row 2: it is a NoneType, and not a sequence of values"),
        ([(1,), (1, 2)], None, "row 2: it has 2 values, and the result 1 columns"),
        ([(1, 2), (1,)], None, "row 2: it has 1 values, and the result 2 columns"),
        ([{"a": 1}], ["a", "a"], "row 1: it has 1 values, and the result 2 columns; columns of the same name are one"),
    ],
)
def test_a_row_that_is_none_is_refused(rows: list[Any], names: list[str] | None, message: str) -> None:
    with pytest.raises(RowError, match=re.escape(message)):
        RowsIO(ListCursor(rows, names), "q").read()


class Unknown:
    pass


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1j, RowTypeError, "no PostgreSQL form is known for the Python type complex: cast it in the query"),
        (Unknown(), RowTypeError, "the Python type Unknown"),
        ([1, {2}], RowTypeError, "the Python type set"),
        (range(3), RowTypeError, "the Python type range"),
        ({"a": Unknown()}, RowTypeError, "Unknown is not JSON serializable"),
        ({"a": float("nan")}, RowValueError, "not JSON compliant"),
        ("a\0b", RowValueError, "cannot hold the character U+0000"),
        (["a", ["\0"]], RowValueError, "cannot hold the character U+0000"),
        ("\ud800", RowValueError, "surrogates not allowed"),
        ({"a": "\udfff"}, RowValueError, "surrogates not allowed"),
        (time(1, tzinfo=ZoneInfo("Europe/Berlin")), RowValueError, "Europe/Berlin has no offset without a date"),
    ],
)
def test_a_value_that_cannot_be_written_is_named(
    format_: Literal["csv", "text"], value: object, error: type[RowError], message: str
) -> None:
    """Its row counts from the start of the result, not of the batch."""
    cursor = ListCursor([(1, "a"), (2, None), (3, "b"), (4, value), (5, value)], ["id", "what"])
    rows = RowsIO(cursor, "q", None, 2, format=format_)
    with pytest.raises(error, match=re.escape(message)) as caught:
        rows.read()
    assert str(caught.value).startswith('row 4, column "what": ')
    assert (caught.value.row, caught.value.column) == (4, "what")
    assert isinstance(caught.value, TypeError if error is RowTypeError else ValueError)


def test_without_a_description_a_column_has_its_number() -> None:
    with pytest.raises(RowTypeError, match=r'^row 1, column "2": '):
        written([(1, 1j)])


def test_names_of_a_result_and_of_its_rows() -> None:
    class Result(ListCursor):
        def keys(self) -> list[str]:
            return ["id", "what"]

    for cursor in (Result([(1, 1j)]), ListCursor([{"id": 1, "what": 1j}])):
        with pytest.raises(RowTypeError, match=r'^row 1, column "what": '):
            RowsIO(cursor, None).read()


@pytest.mark.parametrize(("nul", "letter"), [("strip", ""), ("replace", "\ufffd")])
def test_nul_is_changed_only_when_asked(nul: Nul, letter: str) -> None:
    rows = [("a\0b", ["\0", ["x\0"]], {"k\0": ["\0v"]}), ("\0", None, b"\0"), ("ok", "\0", None)]
    empty = letter or '""'
    assert written(rows, "csv", nul) == (
        f'a{letter}b,"{{""{letter}"",{{""x{letter}""}}}}","{{""k{letter}"":[""{letter}v""]}}"\n'
        f"{empty},,\\x00\n"
        f"ok,{empty},\n"
    )


def test_json_holds_nul_by_its_own_escape() -> None:
    assert written([({"a": "\0"},)], "text") == '{"a":"\\\\u0000"}\n'


@pytest.mark.parametrize("types", [["jsonb", None, None], {"a": "JSON"}, [114, None, "int[]"]])
def test_in_a_column_of_json_a_list_is_no_array(types: Types) -> None:
    rows = [([1, "x"], [1], "y"), (True, None, "y"), ('{"already": "JSON"}', None, None), (None, None, None)]
    data = RowsTextIO(ListCursor(rows, ["a", "b", "c"]), "q", format="text", types=types).read()
    assert data == '[1,"x"]\t{1}\ty\ntrue\t\\N\ty\n{"already": "JSON"}\t\\N\t\\N\n\\N\t\\N\t\\N\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "json"}, "format must be"),
        ({"format": "binary"}, "needs the columns' types"),
        ({"format": "binary", "types": ["text"]}, "it needs RowsIO"),
        ({"nul": "keep"}, "nul must be one of 'error', 'strip', 'replace'"),
        ({"rows_per_fetch": 0}, "at least 1"),
    ],
)
def test_arguments_are_checked_before_the_query_runs(arguments: dict[str, Any], message: str) -> None:
    cursor = ListCursor([])
    with pytest.raises(ValueError, match=re.escape(message)):
        RowsTextIO(cursor, "q", **arguments)
    assert not cursor.executed


@pytest.mark.parametrize(
    ("types", "message"), [({"b": "json"}, "does not have: b"), (["json", None], "types has 2 entries")]
)
def test_types_must_fit_the_result(types: Types, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowsTextIO(ListCursor([(1,)], ["a"]), "q", types=types).read()
