"""shape() against PostgreSQL's own scanner and grammar: the shape with its constants put back is the statement."""

import json
import random
import re
from functools import cache
from typing import Any

import pytest
from pglast import keywords
from pglast.parser import ParseError, parse_sql_json, scan

from shardproxy.native import SHAPE_INTEGER, SHAPE_STRING, shape
from tests.unit.native.statement_texts import READ, REFUSED

KEYWORDS = sorted(
    keywords.COL_NAME_KEYWORDS
    | keywords.RESERVED_KEYWORDS
    | keywords.TYPE_FUNC_NAME_KEYWORDS
    | keywords.UNRESERVED_KEYWORDS
)

PLACES = {"location", "stmt_len", "stmt_location", "rexpr_list_start", "rexpr_list_end", "list_start", "list_end"}

TOKEN = re.compile(r"\s+|\w+|'(?:[^']|'')*'|\"[^\"]*\"|::|[-+*/<>=~!@#%^&|`?]+|.", re.DOTALL)

_PIECES = r"""
( ) ( ) [ ] , , . ; : :: := => = = < > <= >= <> != + - - * / % ^ | || & ~ @ # ? ! -> ->> @> @- *- - .* - + 0 1
17 007 2147483648 99999999999 'x' '' 'it''s' '1' "q" "a b" a b t t.a f( now() u& U& E e n x'1' E'x' WHEN CASE
END LIKE ILIKE BETWEEN IN AS BY ORDER GROUP DISTINCT FROM RETURNING VALUES SET array row int date interval
numeric( varchar( char(3) ::int ::varchar(3) ::numeric(10,2) CAST( FETCH FIRST NEXT ROWS ONLY COLLATE AT TIME
1e5 1.5 .5 5. 0x1 1_000 1a -1 $1 -- /* */ \ é "" SELECT WHERE AND OR NOT ON LIMIT OFFSET THEN ELSE ; U&"x"
ZONE IS NULL DEFAULT UNION ALL ESCAPE SIMILAR TO SYMMETRIC OVER PARTITION RANGE PRECEDING
"""
PIECES = [*_PIECES.split(), "'a b'", '"a b"']

TEMPLATES = [
    "SELECT {k} {c}",
    "SELECT {k}({c})",
    "SELECT {k}(a, {c})",
    "SELECT {k} ({c}) {c}",
    "SELECT a {k} {c}",
    "SELECT a.{k} {c}",
    "SELECT a AS {k}, {c}",
    "SELECT a {k} ({c})",
    "SELECT a::{k} {c}",
    "SELECT a::{k}({c})",
    "SELECT a::{k} array[{c}]",
    "SELECT CAST(a AS {k}({c}))",
    "SELECT CAST({c} AS {k})",
    "SELECT {c} {k}",
    "SELECT {c} {k} {c}",
    "SELECT a FROM t WHERE {k} {c}",
    "SELECT a FROM t WHERE {k} = {c}",
    "SELECT a FROM t WHERE b {k} {c}",
    "SELECT a FROM t WHERE b = {c} {k} {c}",
    "SELECT a FROM t WHERE b {k} ({c})",
    "SELECT a FROM t WHERE b NOT {k} {c} AND {c}",
    "SELECT a FROM t WHERE b {k} {c} AND {c}",
    "SELECT a FROM t {k} {c}",
    "SELECT a FROM t {k} ({c})",
    "SELECT a FROM t {k} BY {c}",
    "SELECT a FROM t ORDER {k} {c}",
    "SELECT a FROM t FETCH {k} {c} ROWS ONLY",
    "SELECT a FROM {k}({c}) AS x(a {k}({c}))",
    "SELECT a FROM f({c}) x(a foo({c}), {k} {k}({c}))",
    "SELECT {k}(a FROM {c})",
    "SELECT {k}({c} FROM a FOR {c})",
    "SELECT f({k} {c})",
    "SELECT f({c} {k} {c})",
    "SELECT sum(a) OVER (ORDER BY b {k} {c} PRECEDING)",
    "SELECT CASE {k} {c} WHEN {c} THEN {c} END",
    "INSERT INTO t {k} ({c})",
    "INSERT INTO t ({k}) VALUES ({c})",
    "INSERT INTO t VALUES ({k} {c})",
    "UPDATE t SET {k} = {c}",
    "UPDATE t SET a = {k} {c}",
    "DELETE FROM t {k} {c}",
    "SELECT a IS {k} {c}",
    "SELECT a {k} FROM {c}",
    "SELECT a AT TIME {k} {c}",
    "SELECT {k} {k} {c}",
    "WITH {k} AS (SELECT {c}) SELECT {k} {c}",
]

CONSTANTS = ["5", "'x'", "-5", "- 5", "+5", "a -5", "(5)", "-(5)"]


def read(sql: str) -> tuple[str, bytes, tuple[bytes, ...]] | None:
    """The shape, of a text that stands inside of others."""
    data = sql.encode()
    found = shape(b"'" + data + b"'", 1, 1 + len(data))
    return None if found is None else (found[0].decode(), *found[1:])


def literal(kind: int, value: bytes) -> str:
    text = value.decode()
    assert kind in {SHAPE_INTEGER, SHAPE_STRING}
    return text if kind == SHAPE_INTEGER else "'" + text.replace("'", "''") + "'"


def tokens(sql: str, literals: list[str]) -> list[tuple[str, str]]:
    """The tokens of a text; parameters are replaced by the tokens of their constants."""
    found: list[tuple[str, str]] = []
    for token in scan(sql):
        text = sql[token.start : token.end + 1]
        found += tokens(literals[int(text[1:]) - 1], []) if token.name == "PARAM" else [(token.name, text)]
    return found


@cache
def a_const(text: str) -> Any:
    (statement,) = json.loads(parse_sql_json(f"SELECT {text}"))["stmts"]
    value = statement["stmt"]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
    del value["A_Const"]["location"]
    return value


def tree(sql: str, literals: list[str]) -> object:
    """The parse tree without places; parameters are replaced by their constants. None: a syntax error."""

    def put_back(node: Any) -> Any:
        if isinstance(node, list):
            return [put_back(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "ParamRef" in node:
            return constants[node["ParamRef"]["number"] - 1]
        return {key: put_back(value) for key, value in node.items() if key not in PLACES}

    try:
        parsed = json.loads(parse_sql_json(sql))
    except ParseError:
        return None
    constants = [a_const(text) for text in literals]
    return put_back(parsed)


def check(sql: str) -> bool:
    """Compare with PostgreSQL whatever is read; return whether it was."""
    found = read(sql)
    if found is None:
        return False
    text, kinds, values = found
    literals = [literal(*constant) for constant in zip(kinds, values, strict=True)]
    assert tokens(text, literals) == tokens(sql, []), sql
    assert tree(text, literals) == tree(sql, []), sql
    return True


@pytest.mark.parametrize("sql", READ)
def test_the_shape(sql: str) -> None:
    assert check(sql)
    text, kinds, values = READ[sql]
    assert read(sql) == (text, kinds, tuple(values))


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_certain_is_refused(sql: str) -> None:
    assert read(sql) is None


def test_limits() -> None:
    hundred = "SELECT " + ", ".join(["1"] * 100)
    assert check(hundred)
    found = read(hundred)
    assert found is not None
    assert found[0].endswith("$99, $100")
    assert read(hundred + ", 1") is None
    longest = "SELECT '" + "x" * (8192 - 9) + "'"
    assert check(longest)
    assert read(longest + " ") is None
    assert check("SELECT " + "(" * 63 + "1" + ")" * 63)
    assert read("SELECT " + "(" * 64 + "1" + ")" * 64) is None


def test_every_cut_is_another_text() -> None:
    for sql in [*READ, *REFUSED]:
        for end in range(len(sql)):
            check(sql[:end])


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_keyword(template: str) -> None:
    """A keyword of the grammar that shape() treats as a name must not change what a constant next to it means.

    Each one with a quarter of the constants, other ones in each template.
    """
    first = TEMPLATES.index(template)
    for number, keyword in enumerate(KEYWORDS, first):
        for constant in (CONSTANTS * 2)[number % len(CONSTANTS) :: 5][:2]:
            check(template.format(k=keyword, c=constant))


def mutated(rng: random.Random, sql: str) -> str:
    parts = TOKEN.findall(sql)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(parts) + 1)
        match rng.randrange(5):
            case 0:
                parts[at:at] = [rng.choice(PIECES), rng.choice(["", " ", " ", "\n"])]
            case 1:
                parts[at : at + 1] = [rng.choice(PIECES)]
            case 2:
                del parts[at : at + rng.randint(1, 3)]
            case 3:
                parts[at:at] = [" ", rng.choice(KEYWORDS), " "]
            case _:
                other = rng.randrange(len(parts) + 1)
                parts[at:at] = parts[other : other + rng.randint(1, 4)]
    return "".join(parts)


def test_random_mutations() -> None:
    rng = random.Random(7)
    corpus = [*READ, *(sql for sql in REFUSED if sql)]
    count = sum(check(mutated(rng, rng.choice(corpus))) for _ in range(10_000))
    assert count > 1_000


def test_places_outside_of_the_text_are_refused() -> None:
    for start, end in [(-1, 1), (1, 0), (0, 9)]:
        with pytest.raises(IndexError):
            shape(b"SELECT 1", start, end)
