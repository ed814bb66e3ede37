"""Rows as COPY text: what comes out of PostgreSQL again is what went in."""

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardproxy.native import copy_text
from shardproxy.rows.text import TextEncoder
from tests.support.databases import Servers

TEXTS = st.one_of(
    st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.text("\\\t\n\rNab.")
)


@given(st.integers(0, 4).flatmap(lambda width: st.lists(st.tuples(*[TEXTS] * width))))
def test_it_writes_what_the_encoder_in_python_writes(rows: list[tuple[str | None, ...]]) -> None:
    expected = TextEncoder().encode(rows) if rows else b""
    assert copy_text(rows) == expected
    assert copy_text([tuple(None if one is None else one.encode() for one in row) for row in rows]) == expected


@settings(max_examples=300)
@given(st.lists(st.binary()))
def test_each_byte_stands_for_itself_or_is_escaped(values: list[bytes]) -> None:
    data = copy_text([(value,) for value in values])
    lines = data.split(b"\n")
    assert lines.pop() == b""
    for value, line in zip(values, lines, strict=True):
        assert b"\t" not in line
        assert b"\r" not in line
        read = line.replace(b"\\\\", b"\0\0").replace(b"\\t", b"\t").replace(b"\\n", b"\n").replace(b"\\r", b"\r")
        assert read.replace(b"\0\0", b"\\") == value.replace(b"\0\0", b"\\")


def test_numbers_are_as_postgresql_reads_them() -> None:
    assert copy_text([(1, -(2**70), 0.1, 1e300, float("inf"), None)]) == (
        b"1\t-1180591620717411303424\t0.1\t1e+300\tinf\t\\N\n"
    )


def test_a_text_that_is_no_utf_8_is_left_to_the_server() -> None:
    assert copy_text([("a\ud800",)]) == b"a\xed\xa0\x80\n"


@pytest.mark.parametrize("value", [True, bytes, object(), [1]])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="copy_text"):
        copy_text([(value,)])


def test_a_row_is_a_tuple() -> None:
    with pytest.raises(TypeError):
        copy_text([["a"]])  # type: ignore[list-item]


def test_postgresql_reads_it_back(servers18: Servers) -> None:
    values = ["", "\\N", "\\.", "a\tb", "\r\n", "\\", "\b\f\v", "é\U0001f600", "x" * 100_000 + "\\" * 9, None]
    with psycopg.connect(servers18.oracle.dsn()) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (n int, v text)")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write(copy_text(list(enumerate(values))))
        assert connection.execute("SELECT v FROM t ORDER BY n").fetchall() == [(value,) for value in values]
