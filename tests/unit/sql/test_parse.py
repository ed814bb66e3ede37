"""Cutting a query string into statements, against PostgreSQL's own rules."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import PgError
from shardproxy.sql import Insert, Kind, ParseFailed, analyze, require_conforming_strings

PIECES = [
    "select 1",
    "select 'a;b'",
    "select E'a\\';b'",
    "select $$;$$",
    "select $x$ ; $$ ; $x$",
    'select ";" from "ta""ble;"',
    "select /* ; /* nested ; */ ; */ 2",
    "select 3 -- ; not here\n",
    "select U&'d\\0061t;'",
    "select 'é€𝄞;'",
    'select "größe" from "Straße"',
    "begin",
    "create function f() returns int begin atomic; select 1; select 2; end",
    "insert into t values (1, 'Ж;')",
    "copy t from stdin",
]
BLANKS = ["", " ", "\n\t", "/* ; */", "-- ;\n", "/* /* é */ */ "]


@given(st.lists(st.tuples(st.sampled_from(BLANKS), st.sampled_from(PIECES), st.sampled_from(BLANKS)), min_size=1))
def test_statements_are_cut_where_they_were_joined(parts: list[tuple[str, str, str]]) -> None:
    sql = ";".join(before + piece + after for before, piece, after in parts)
    statements = analyze(sql)
    assert len(statements) == len(parts)
    location = 0
    for statement, (before, piece, after) in zip(statements, parts, strict=True):
        assert statement.text == piece + after
        assert statement.location == location + len(before)
        location += len(before + piece + after) + 1
        [alone] = analyze(statement.text)
        assert alone.kind == statement.kind


@pytest.mark.parametrize("sql", ["", " \n", "-- nothing", "/* a /* b */ c */", ";", " ; ;; -- x"])
def test_nothing_but_blanks_is_an_empty_query(sql: str) -> None:
    [statement] = analyze(sql)
    assert statement.kind is Kind.EMPTY


def test_empty_statements_between_others_vanish() -> None:
    assert [one.text.strip() for one in analyze(";;select 1; ;\n-- x\n;select 2;")] == [
        "select 1",
        "select 2",
    ]


@pytest.mark.parametrize(
    ("sql", "at"),
    [
        ("selec 1", "selec"),
        ("select 1 frm x y", "x y"),
        ("select 'é', frm x y z", "y z"),
        ("select '€𝄞é' from where", "where"),
        ("/* ü */ select 1; sélect 2", "sélect"),
        ("select 'ééé", "'ééé"),
        ("select \udce9 \udce9 x", "x"),
    ],
)
def test_the_position_of_a_syntax_error_counts_characters(sql: str, at: str) -> None:
    with pytest.raises(ParseFailed) as raised:
        analyze(sql)
    assert raised.value.position == sql.rindex(at) + 1
    assert raised.value.sqlstate == "42601"
    assert raised.value.fields["P"] == str(raised.value.position)


def test_an_error_at_the_end_points_behind_the_text() -> None:
    with pytest.raises(ParseFailed, match="at end of input") as raised:
        analyze("select 'é' from ")
    assert raised.value.position == len("select 'é' from ") + 1


def test_text_of_another_client_encoding_passes() -> None:
    """LATIN1 bytes arrive as surrogate escapes; names and constants keep them, and nothing else moves."""
    sql = "/* \udcfc */ select 1; insert into \udce9t (n\udce9e) values ('\udcff')"
    first, second = analyze(sql)
    assert first.text == "select 1"
    assert second.text == "insert into \udce9t (n\udce9e) values ('\udcff')"
    assert second.tables[0].name == "\udce9t"
    assert isinstance(second, Insert)
    assert second.columns == ("n\udce9e",)


def test_foreign_bytes_beside_the_characters_they_are_moved_to() -> None:
    [statement] = analyze("select \udce9 from \u00e9t")
    assert statement.tables[0].name == "\u00e9t"
    assert statement.text == "select \udce9 from \u00e9t"


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(ParseFailed, match="zero byte"):
        analyze("select 1\0; drop table t")


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "+".join(["1"] * 2000),
        "select " + "not " * 1500 + "true",
        " union all ".join(["select 1"] * 1500),
        "select 1" + "::int" * 2000,
        "select * from t where " + " or ".join(["a = 1"] * 3000),
        "select * from t where " + " and ".join(["a = 1"] * 3000),
    ],
)
def test_depth_that_postgresql_takes_is_taken(sql: str) -> None:
    [statement] = analyze(sql)
    assert statement.kind is Kind.SELECT


@pytest.mark.parametrize("depth", [20_000, 100_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: "select " + "+".join(["1"] * n),
        lambda n: "select " + "(" * n + "1" + ")" * n,
        lambda n: " union all ".join(["select 1"] * n),
        lambda n: "select 1" + "::int" * n,
        lambda n: "select * from " + "(select * from " * n + "t" + ") x" * n,
        lambda n: "select * from t" + " join t on true" * n,
    ],
)
def test_absurd_depth_is_an_error_and_not_the_end_of_the_process(make: Callable[[int], str], depth: int) -> None:
    with suppress(ParseFailed):  # a flat list of the same length may be taken
        analyze(make(depth))


def test_many_characters_beyond_ascii_take_linear_time() -> None:
    rows = ",".join(f"({number}, 'абвгдежзиклмнопрст')" for number in range(4000))
    started = time.process_time()
    [statement] = analyze("insert into t values " + rows)
    assert time.process_time() - started < 2
    assert isinstance(statement, Insert)
    assert len(statement.rows) == 4000


def test_backslashes_are_refused_where_strings_are_not_standard() -> None:
    require_conforming_strings("select 'a'")
    with pytest.raises(PgError, match="standard_conforming_strings") as raised:
        require_conforming_strings("select '\\'; drop table t; --'")
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        r"SELECT E'a\\b', e'a\'b', $$a\b$$, $x$ \ $$ ' $x$",
        r"SELECT 'a' -- \'",
        r"SELECT /* \' /* \ */ ' \ */ 'a', 'it''s'",
        r'SELECT 1 AS "a\b"',
        r"SELECT a$b$, 'c', E'\\'",
        "SELECT '$$', E'\\\\' || '$$'",
    ],
)
def test_backslashes_that_mean_the_same_in_either_case(sql: str) -> None:
    require_conforming_strings(sql)


@pytest.mark.parametrize(
    "sql",
    [
        r"SELECT 'a\b'",
        r"SELECT 'a\'b'",
        r"SELECT E'\\', 'a\\b'",
        r"SELECT name'\'",
        r"SELECT xe'a\b'",
        r"SELECT N'\'",
        "SELECT 'a\\",
        r"SELECT /* ' */ '\'",
        r"SELECT a$$ '\' $$",
    ],
)
def test_backslashes_that_do_not(sql: str) -> None:
    with pytest.raises(PgError, match="standard_conforming_strings"):
        require_conforming_strings(sql)
