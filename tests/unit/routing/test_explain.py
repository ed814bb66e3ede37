"""`explain` says what `route` does, of every statement that the routing tests know."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import Memory
from shardproxy.routing.explain import Explanation, explain
from shardproxy.sql import analyze
from tests.unit.routing.tables import NSHARDS, context, places_of, routed, tables_of, written_of
from tests.unit.routing.test_route import REFUSED, REMEMBERED, ROUTES

NAMES = [f"s{number}" for number in range(NSHARDS)]


def explained(sql: str, memory: Memory = REMEMBERED, nshards: int = NSHARDS) -> Explanation:
    [statement] = analyze(sql)
    known = context((), nshards, places_of(statement), written_of(statement))
    return explain(statement, tables_of(statement), known, memory, NAMES[:nshards])


EVERYWHERE = [(sql, NSHARDS) for sql, _ in ROUTES]
ALONE = [(sql, 1) for sql, _ in ROUTES if not any(name in sql for name in ("solo3", " c"))]


@pytest.mark.parametrize(("sql", "nshards"), EVERYWHERE + ALONE)
def test_explain_agrees_with_route(sql: str, nshards: int) -> None:
    found = explained(sql, nshards=nshards)
    assert found.plan == routed(sql, nshards=nshards, memory=REMEMBERED)
    assert len(found.why) > 10
    assert found.where


@pytest.mark.parametrize("sql", REFUSED)
def test_explain_refuses_what_route_refuses(sql: str) -> None:
    with pytest.raises(PgError) as told:
        explained(sql)
    with pytest.raises(PgError) as refused:
        routed(sql, memory=REMEMBERED)
    assert told.value.fields == refused.value.fields


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT * FROM users", "the shards' rows concatenated"),
        ("SELECT * FROM users LIMIT 7", "the first 7 of the shards' rows that arrive"),
        ("SELECT * FROM users LIMIT $2 OFFSET 0", "the first $2 of the shards' rows that arrive"),
        ("COPY (SELECT * FROM users LIMIT 7) TO STDOUT", "the first 7 of the shards' rows that arrive"),
        ("SELECT * FROM users LIMIT ALL", "the shards' rows concatenated"),
    ],
)
def test_how_the_answer_is_made(sql: str, answer: str) -> None:
    assert (explained(sql).answer or "").startswith(answer)


@pytest.mark.parametrize(
    ("sql", "where", "why"),
    [
        ("SELECT * FROM solo3", "s3", "public.solo3 lies on one shard"),
        ("SELECT * FROM users WHERE id = 1", "s", "the key (id) of public.users is bound to one shard"),
        ("INSERT INTO users (id) VALUES (1)", "s", "the key (id) of public.users of every row belongs to one shard"),
        ("SELECT name FROM users", "all shards (s0, s1, s2, s3)", "rows of public.users come from every shard"),
        ("SELECT * FROM country WHERE code IN ('de', 'fr')", "s0, s1", "the key (code) is bound to 2 shards"),
        ("INSERT INTO ref2 VALUES (1, 'x')", "all shards", "public.ref2 is a reference table: every shard makes the"),
        ("COPY ref2 FROM STDIN", "all shards", "every shard gets every row"),
        ("COPY users FROM STDIN", "all shards", "each row goes to the shard of its key (id)"),
        (
            "SELECT * FROM nowhere",
            "one shard, the",
            "public.nowhere does not exist; the home shard reports the error",
        ),
        (
            "SELECT * FROM users WHERE id = NULL",
            "one shard, the",
            "no row of any shard satisfies the conditions",
        ),
        ("INSERT INTO users (id) VALUES ('x')", "one shard, the", "PostgreSQL refuses a key value"),
        ("EXPLAIN SELECT name FROM users", "s0", "the plan of the first of its shards; as a statement: rows of"),
        ("EXPLAIN SELECT * FROM solo3", "s3", "EXPLAIN goes with its statement: public.solo3 lies on one shard"),
        ("FETCH c", "s2", "the cursor is there"),
        ("VACUUM users", "all shards", "one shard after the other, in no transaction"),
        ("LOCK TABLE users", "one shard, the", "an error or a warning outside a transaction block"),
        ("BEGIN", "the proxy", "transaction control"),
        ("CREATE TABLE n (a int)", "all shards", "definitions and utility statements are carried out on every shard"),
        ("NOTIFY x", "s0", "notifications pass through one shard"),
        ("SELECT pg_notify('x', '')", "s0", "pg_notify() passes through one shard"),
        ("CREATE TEMP TABLE n (a int)", "one shard, the", "temporary relations are on"),
    ],
)
def test_words(sql: str, where: str, why: str) -> None:
    found = explained(sql)
    assert found.where.startswith(where)
    assert why in found.why
