"""COPY's options as the grammar and PostgreSQL 18 read them, from real statements."""

import pytest

from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.sql import CopyFrom, CopyTo, analyze


def options(rest: str) -> CopyOptions:
    [statement] = analyze(f"COPY t {rest}")
    assert isinstance(statement, CopyFrom | CopyTo)
    return statement.options


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("FROM STDIN", {"format": "text", "delimiter": "\t", "null": "\\N", "quote": "", "header": "none"}),
        ("TO STDOUT", {"direction": "to", "format": "text"}),
        ("FROM STDIN CSV", {"format": "csv", "delimiter": ",", "null": "", "quote": '"', "escape": '"'}),
        ("FROM STDIN BINARY", {"format": "binary", "delimiter": "", "null": ""}),
        ("FROM STDIN WITH BINARY", {"format": "binary"}),
        ("FROM STDIN (FORMAT CSV)", {"format": "csv"}),
        ("FROM STDIN (FORMAT Csv, QUOTE '''')", {"format": "csv", "quote": "'", "escape": "'"}),
        ("FROM STDIN (FORMAT 'csv', ESCAPE E'\\\\')", {"format": "csv", "quote": '"', "escape": "\\"}),
        ("FROM STDIN CSV HEADER DELIMITER ';'", {"format": "csv", "header": "true", "delimiter": ";"}),
        ("FROM STDIN DELIMITERS '|' WITH NULL AS ''", {"delimiter": "|", "null": ""}),
        ("FROM STDIN USING DELIMITERS '|'", {"delimiter": "|"}),
        ("FROM STDIN (DELIMITER E'\\t', NULL '')", {"delimiter": "\t", "null": ""}),
        ("FROM STDIN (DELIMITER U&'\\007C')", {"delimiter": "|"}),
        ("FROM STDIN (DELIMITER $$~$$)", {"delimiter": "~"}),
        ("FROM STDIN (NULL *)", {"null": "*"}),
        ("FROM STDIN (NULL (a, b))", {"null": "a.b"}),
        ("FROM STDIN (DEFAULT '\\D')", {"default": "\\D"}),
        ("FROM STDIN (ENCODING 'latin1')", {"encoding": "latin1"}),
        ("FROM STDIN WITH ENCODING 'SJIS'", {"encoding": "SJIS"}),
        ("FROM STDIN FREEZE", {"freeze": True}),
        ("FROM STDIN (FREEZE off)", {"freeze": False}),
        ('FROM STDIN (FORMAT csv, FORCE_NULL (a, "B"))', {"force_null": ("a", "B")}),
        ("FROM STDIN (FORMAT csv, FORCE_NULL *)", {"force_null": STAR}),
        ("FROM STDIN CSV FORCE NOT NULL a, b", {"force_not_null": ("a", "b")}),
        ("TO STDOUT CSV FORCE QUOTE *", {"force_quote": STAR}),
        ("FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 5)", {"on_error": "ignore", "reject_limit": 5}),
        ("FROM STDIN (ON_ERROR ignore, REJECT_LIMIT '5')", {"reject_limit": 5}),
        ("FROM STDIN (ON_ERROR 'IGNORE', LOG_VERBOSITY VERBOSE)", {"log_verbosity": "verbose"}),
    ],
)
def test_options_are_read(rest: str, expected: dict[str, object]) -> None:
    read = options(rest)
    assert {name: getattr(read, name) for name in expected} == expected
    assert not read.opaque


@pytest.mark.parametrize(
    ("spelled", "header"),
    [
        ("", "true"),
        ("true", "true"),
        ("ON", "true"),
        ("1", "true"),
        ("'True'", "true"),
        ("'on'", "true"),
        ("false", "none"),
        ("off", "none"),
        ("0", "none"),
        ("'0'", "none"),
        ("match", "match"),
        ("'MATCH'", "match"),
    ],
)
def test_header_spellings(spelled: str, header: str) -> None:
    read = options(f"FROM STDIN (FORMAT csv, HEADER {spelled})")
    assert (read.header, read.opaque) == (header, False)


@pytest.mark.parametrize(
    "rest",
    [
        "FROM STDIN (FORMAT 'CSV')",
        "FROM STDIN (FORMAT xml)",
        "FROM STDIN (FORMAT csv, FORMAT csv)",
        "FROM STDIN (nonsense)",
        "FROM STDIN (FORMAT csv, HEADER 2)",
        "FROM STDIN (FORMAT csv, HEADER maybe)",
        "FROM STDIN (DELIMITER 'ab')",
        "FROM STDIN (DELIMITER 'é')",
        "FROM STDIN (DELIMITER '')",
        "FROM STDIN (DELIMITER 'a')",
        "FROM STDIN (DELIMITER E'\\n')",
        "FROM STDIN (DELIMITER)",
        "FROM STDIN (NULL E'a\\rb')",
        "FROM STDIN (DELIMITER ',', NULL 'a,b')",
        "FROM STDIN (QUOTE '''')",
        "FROM STDIN (FORMAT csv, QUOTE ',')",
        "FROM STDIN (FORMAT csv, QUOTE 'ab')",
        "FROM STDIN (FORMAT csv, NULL '\"')",
        "FROM STDIN (FORMAT csv, ESCAPE 'ab')",
        "FROM STDIN (FORMAT csv, DEFAULT '')",
        "FROM STDIN (FORMAT binary, DELIMITER ',')",
        "FROM STDIN (FORMAT binary, HEADER)",
        "FROM STDIN (FORMAT binary, ON_ERROR ignore)",
        "FROM STDIN (FORCE_NULL (a))",
        "FROM STDIN (FORMAT csv, FORCE_QUOTE (a))",
        "FROM STDIN (REJECT_LIMIT 5)",
        "FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 0)",
        "FROM STDIN (ON_ERROR whatever)",
        "TO STDOUT (HEADER match)",
        "TO STDOUT (FREEZE)",
        "TO STDOUT (DEFAULT 'x')",
        "TO STDOUT (ON_ERROR stop)",
        "TO STDOUT (FORMAT csv, FORCE_NULL (a))",
    ],
)
def test_what_postgresql_18_refuses_is_opaque(rest: str) -> None:
    assert options(rest).opaque
