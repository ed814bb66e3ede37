"""Names as SQL has them (PostgreSQL's own scanner is the oracle) and the lines of a TOML document's parts."""

import tomllib

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.config.names import parse_identifier, parse_relation
from shardproxy.config.positions import Positions


@pytest.mark.parametrize(
    ("text", "schema", "relation"),
    [
        ("users", "public", "users"),
        ("Public.USERS", "public", "users"),
        ('"Weird.Name"."x"', "Weird.Name", "x"),
        ('a."b""c"', "a", 'b"c'),
        ("straße.ÄÖ", "straße", "ÄÖ"),
        ("a$1._b", "a$1", "_b"),
        ("user.order", "user", "order"),
    ],
)
def test_names(text: str, schema: str, relation: str) -> None:
    assert parse_relation(text) == (schema, relation)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a b", "a-b", '"a', '""', '"a"b', "1a", "a.b.c", "a . b", "$a", "x" * 64, "é" * 32, "a\0"],
)
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_relation(text)


@given(st.text('aZ_1$"é.', min_size=1, max_size=6))
def test_plain_names_are_read_as_postgresql_does(text: str) -> None:
    try:
        [statement] = pglast.parse_sql(f"SELECT x AS {text}")
        assert isinstance(statement.stmt, pglast.ast.SelectStmt)
        [target] = statement.stmt.targetList or ()
        expected = target.name
    except pglast.parser.ParseError:
        expected = None
    try:
        found = parse_identifier(text)
    except ValueError:
        found = None
    assert found == expected


DOCUMENT = '''\
top = 1
"quoted\\u0041".b = { x = [1,
  { y = 2 }], z.w = """m
ulti""" }   # comment
[server]
listen = "x"
[[db]]
name = 1
[[db.t]] # again
key = [ # comment
  "a",

  'b' ]
[[db.t]]
[db.t.deep]
x = 1
[[db]]
[[db.t]]
name = 5
'''


def test_positions() -> None:
    positions = Positions(DOCUMENT)
    expected = {
        ("top",): 1,
        ("quotedA",): 2,
        ("quotedA", "b"): 2,
        ("quotedA", "b", "x", 0): 2,
        ("quotedA", "b", "x", 1): 3,
        ("quotedA", "b", "x", 1, "y"): 3,
        ("quotedA", "b", "z", "w"): 3,
        ("server", "listen"): 6,
        ("db",): 7,
        ("db", 0): 7,
        ("db", 0, "name"): 8,
        ("db", 0, "t", 0): 9,
        ("db", 0, "t", 0, "key"): 10,
        ("db", 0, "t", 0, "key", 0): 11,
        ("db", 0, "t", 0, "key", 1): 13,
        ("db", 0, "t", 1): 14,
        ("db", 0, "t", 1, "deep", "x"): 16,
        ("db", 1, "t", 0, "name"): 19,
        ("db", 1, "t", 0, "absent"): 18,
        ("absent", 3): 1,
    }
    assert {path: positions.line(path) for path in expected} == expected


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def test_every_part_of_a_document_has_its_own_place() -> None:
    positions = Positions(DOCUMENT)
    assert set(places(tomllib.loads(DOCUMENT))) <= positions._lines.keys()
