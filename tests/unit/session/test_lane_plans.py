"""Which statements may be under way on several shards at once."""

import pytest

from shardproxy.routing import Context
from shardproxy.session.lane_plans import Overlap, overlap_of
from shardproxy.sql import analyze

STATEMENTS = {
    "SELECT v FROM t WHERE id = $1": Overlap.ALWAYS,
    "SELECT count(*), pg_catalog.lower(v) FROM t WHERE id = $1 GROUP BY 2": Overlap.ALWAYS,
    "SELECT v FROM t WHERE id = $1 FOR UPDATE": Overlap.NEVER,
    "SELECT v FROM t WHERE id = $1 for/**/share": Overlap.NEVER,
    "SELECT pg_advisory_xact_lock(id) FROM t WHERE id = $1": Overlap.NEVER,
    "SELECT mine.lower(v) FROM t WHERE id = $1": Overlap.NEVER,
    "SELECT v FROM t WHERE id = $1 AND check_it(v)": Overlap.NEVER,
    "INSERT INTO t VALUES ($1, 'x')": Overlap.INSIDE,
    "INSERT INTO t VALUES ($1, now()) RETURNING upper(v)": Overlap.INSIDE,
    "INSERT INTO t VALUES ($1, take_lock())": Overlap.NEVER,
    "INSERT INTO t VALUES ($1, (SELECT pg_advisory_lock(1)))": Overlap.NEVER,
    "INSERT INTO t VALUES ($1, (SELECT v FROM u WHERE id = 1 FOR UPDATE))": Overlap.NEVER,
    "WITH c AS (DELETE FROM u RETURNING v) INSERT INTO t VALUES ($1, 'x')": Overlap.NEVER,
    "WITH c AS (UPDATE u SET v = 1 RETURNING v) SELECT v FROM t WHERE id = $1": Overlap.NEVER,
    "INSERT INTO t VALUES ($1, 'x') ON CONFLICT DO NOTHING": Overlap.NEVER,
    "INSERT INTO t VALUES ($1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y'": Overlap.NEVER,
    "INSERT INTO t SELECT $1, v FROM t WHERE id = $1": Overlap.NEVER,
    "UPDATE t SET v = 'x' WHERE id = $1": Overlap.NEVER,
    "DELETE FROM t WHERE id = $1": Overlap.NEVER,
}

BUILTIN = frozenset({"count", "lower", "now", "pg_advisory_lock", "pg_advisory_xact_lock", "upper"})


@pytest.mark.parametrize("sql", STATEMENTS)
def test_overlap(sql: str) -> None:
    [statement] = analyze(sql)
    assert overlap_of(statement, Context(nshards=2, builtin=BUILTIN)) is STATEMENTS[sql]


def test_a_name_that_the_user_has_overloaded_may_lock() -> None:
    [statement] = analyze("SELECT lower(v) FROM t WHERE id = $1")
    assert overlap_of(statement, Context(nshards=2, builtin=BUILTIN - {"lower"})) is Overlap.NEVER
