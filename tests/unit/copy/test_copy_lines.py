"""Whose number is the client's line in CONTEXT: not a trigger's in front of it, not the data's behind it."""

import pytest

from shardproxy.copy.lines import column_named, map_context

CASES = [
    ("COPY t, line 3", "t", "COPY t, line 1003"),
    ('COPY t, line 3, column k: "x t 5"', "t", 'COPY t, line 1003, column k: "x t 5"'),
    ("COPY t7, line 3, column t7: null input", "t7", "COPY t7, line 1003, column t7: null input"),
    ("COPY line, line 3", "line", "COPY line, line 1003"),
    ('COPY a:b"c(1), line 3', 'a:b"c(1)', 'COPY a:b"c(1), line 1003'),
    ("COPY My Table, Zeile 3, Spalte a: »1«", "My Table", "COPY My Table, Zeile 1003, Spalte a: »1«"),
    ('tのCOPY、行 3: "a"', "t", 'tのCOPY、行 1003: "a"'),
    (
        'PL/pgSQL function t() line 1 at RAISE\nCOPY t, line 3: "t 9\nCOPY t, line 4"',
        "t",
        'PL/pgSQL function t() line 1 at RAISE\nCOPY t, line 1003: "t 9\nCOPY t, line 4"',
    ),
    (
        'SQL statement "INSERT INTO t VALUES (5)"\nPL/pgSQL function t7() line 3 at SQL\nCOPY t, line 3',
        "t",
        'SQL statement "INSERT INTO t VALUES (5)"\nPL/pgSQL function t7() line 3 at SQL\nCOPY t, line 1003',
    ),
]


@pytest.mark.parametrize(("context", "relation", "mapped"), CASES)
def test_the_line_is_the_client_s(context: str, relation: str, mapped: str) -> None:
    assert map_context(context, relation, lambda line: line + 1000) == (mapped, 1003)


@pytest.mark.parametrize(
    "context", ["PL/pgSQL function t() line 1 at RAISE", "PL/pgSQL function not_t() line 1", "t", ""]
)
def test_no_line_is_none(context: str) -> None:
    assert map_context(context, "t", lambda line: line + 1000) == (context, None)


def test_a_forgotten_line_is_taken_out() -> None:
    assert map_context('COPY t, line 3: "a"', "t", lambda _: None) == ('COPY t: "a"', None)


@pytest.mark.parametrize(
    ("context", "column"),
    [
        ('COPY t, line 3, column b: "x"', "b"),
        ('COPY t, line 3, column a b: "x"', "a b"),
        ("COPY t, line 3, column b: null input", "b"),
        ("COPY t, Zeile 3, Spalte b: »x«", "b"),
        ('COPY t, line 3: "1, column b: x"', None),
        ('COPY t, line 3, column other: "column b: x"', None),
        ('SQL function "f" statement 1\nCOPY t, line 3: "b: "', None),
    ],
)
def test_the_column_whose_type_refuses_a_value(context: str, column: str | None) -> None:
    assert column_named(context, "t", ("a", "b", "a b")) == column
