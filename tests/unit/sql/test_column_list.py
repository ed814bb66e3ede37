"""Where a column list goes, and positions in a text that has it."""

import pytest

from shardproxy.sql import ColumnList, Insert, analyze
from shardproxy.sql.column_list import list_at

LONG = "x" * 5000


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t| VALUES (1)",
        "INSERT INTO t| (VALUES (1))",
        "INSERT INTO t|(VALUES (1))",
        'insert into "é"."ü"\n AS "x"|VALUES (1)',
        "INSERT INTO a . b . c AS values| OVERRIDING SYSTEM VALUE VALUES (1)",
        "INSERT /* ( INSERT INTO u */ INTO -- INSERT INTO u\n U&\"d!0074\" UESCAPE '!'| /* /* */ */ VALUES (1)",
        "WITH insert (c) AS (INSERT INTO u VALUES (1) RETURNING 1) INSERT INTO t| VALUES ((SELECT c FROM insert))",
        "EXPLAIN (ANALYZE, COSTS off) INSERT INTO t| VALUES (1)",
        "COPY (WITH c AS (INSERT INTO u VALUES (1) RETURNING 1) INSERT INTO t AS n| VALUES (1) RETURNING 1) TO STDOUT",
        "PREPARE insert (int) AS INSERT INTO t| VALUES ($1)",
        f"INSERT INTO /* {LONG} ' */ t| /* {LONG} */ VALUES ('{LONG}')",
        f"INSERT INTO {'a' * 985}| AS t VALUES ('{LONG}')".replace("| AS t", " AS t|"),
        f"INSERT INTO t| VALUES ('{LONG}', 'é')",
    ],
)
def test_where_it_goes(text: str) -> None:
    at = text.index("|")
    assert list_at(text.replace("|", "", 1)) == at


@pytest.mark.parametrize("size", range(980, 1010))
def test_a_long_text_is_looked_at_in_part(size: int) -> None:
    """Wherever the part ends."""
    head = f'INSERT INTO /*{"x" * (size - 16)}*/ "schema"."table" AS "alias"'
    assert list_at(f"{head} VALUES ('{LONG}')") == len(head)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t VALUES (1) LIMIT 1",
        "INSERT INTO t VALUES ((ROW(1, 2)::x).*)",
    ],
)
def test_what_gets_none(text: str) -> None:
    [statement] = analyze(text)
    assert isinstance(statement, Insert)
    assert statement.list_at is None


def test_positions() -> None:
    text = "INSERT INTO t VALUES (1)"
    listed = ColumnList(13, " (a, é)")
    longer = listed.into(text)
    assert longer == "INSERT INTO t (a, é) VALUES (1)"
    assert listed.after(2).into(f"  {text}") == f"  {longer}"
    for at, character in enumerate(longer):
        original = listed.original(at + 1) - 1
        assert original == 13 if 13 <= at < 20 else text[original] == character


def test_the_fields_of_a_composite_value_are_values_of_their_own() -> None:
    [statement] = analyze("INSERT INTO t (a, b) VALUES (1, 2), ((ROW(1, 2)::x).*)")
    assert isinstance(statement, Insert)
    assert (statement.select, statement.rows) == (True, ())
