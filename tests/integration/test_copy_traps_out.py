"""TRAPS: COPY TO STDOUT of several shards as one stream, message by message as one PostgreSQL sends it."""

import pytest

from shardproxy.wire import encode
from tests.support.differential import Arena

pytestmark = pytest.mark.newest

TABLE = "CREATE TABLE t (k int, v text, n numeric)"
OPTIONS = [
    "",
    "(FORMAT text)",
    "(FORMAT text, HEADER)",
    "(DELIMITER '|', NULL 'nil')",
    "(FORMAT csv)",
    "(FORMAT csv, HEADER)",
    "(FORMAT csv, HEADER, FORCE_QUOTE *, DELIMITER ';', NULL 'nil')",
    "(FORMAT csv, QUOTE '''', ESCAPE '!', FORCE_QUOTE (v))",
    "(FORMAT binary)",
    "(ENCODING 'latin1')",
    "(FORMAT csv, ENCODING 'sjis')",
    "CSV HEADER",
    "WITH BINARY",
    "WITH DELIMITER AS ';' NULL AS '-'",
]


def load(arena: Arena, count: int, table: str = "t") -> None:
    """The same rows on both sides: text that needs quotes and escapes, NULLs."""
    rows = (
        f"SELECT g, CASE g % 5 WHEN 0 THEN NULL WHEN 1 THEN E'a\\nb' WHEN 2 THEN 'q\"r,s;\\t' ELSE 'x' || g END, "
        f"g / 3.0 FROM generate_series(1, {count}) AS g"
    )
    arena.fill(table, rows)


@pytest.mark.parametrize("count", [0, 1, 2, 3000])
@pytest.mark.parametrize("options", OPTIONS)
def test_formats(arena: Arena, count: int, options: str) -> None:
    """One header, one signature, one trailer, one CopyData for each row, the total in the tag."""
    arena.define(TABLE)
    load(arena, count)
    outcome = arena.compare_now(f"COPY t TO STDOUT {options}")
    assert outcome.last.tags == [f"COPY {count}"]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY t (v) TO STDOUT",
        "COPY public.t (n, k) TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT k, v FROM t) TO STDOUT",
        "COPY (SELECT * FROM t WHERE k = 7) TO STDOUT (HEADER)",
        "COPY (SELECT * FROM t WHERE k = 7) TO STDOUT (FORMAT binary)",
        "COPY (SELECT * FROM t WHERE k = -1) TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT upper(v) AS u, k + 1 FROM t WHERE n > 10) TO STDOUT (FORMAT csv, HEADER)",
        "COPY (SELECT * FROM t WHERE k = 3 ORDER BY v) TO STDOUT",
        "COPY (SELECT count(*) FROM t WHERE k = 3) TO STDOUT",
        "COPY (VALUES (1), (2)) TO STDOUT (HEADER)",
        "COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)",
        "COPY (SELECT FROM t) TO STDOUT",
        "COPY (SELECT FROM t) TO STDOUT (FORMAT csv)",
    ],
)
def test_queries(arena: Arena, sql: str) -> None:
    arena.define(TABLE)
    load(arena, 50)
    outcome = arena.compare_now(sql)
    assert outcome.last.error is None


@pytest.mark.parametrize(
    "sql",
    [
        "COPY nowhere TO STDOUT",
        "COPY t (w) TO STDOUT",
        "COPY t TO STDOUT (FANCY)",
        "COPY t TO STDOUT (FORMAT xml)",
        "COPY t TO STDOUT (FORMAT csv, QUOTE 'ab')",
        "COPY t TO STDOUT (FORMAT csv, FORCE_NULL (v))",
        "COPY (SELECT w FROM t) TO STDOUT",
        "COPY (SELECT * FROM t",
        "COPY (SELECT 1 / (k - 7) FROM t WHERE k = 7) TO STDOUT",
        "COPY (SELECT 1 / (k - 7) FROM t WHERE k = 7) TO STDOUT (FORMAT csv, HEADER)",
    ],
)
def test_refusals(arena: Arena, sql: str) -> None:
    arena.define(TABLE)
    load(arena, 50)
    outcome = arena.compare_now(sql)
    assert outcome.last.error is not None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM t",
        "SELECT v, count(*) FROM t GROUP BY v",
        "SELECT DISTINCT v FROM t",
        "SELECT * FROM t LIMIT 3 OFFSET 1",
        "SELECT row_number() OVER (ORDER BY k) FROM t",
        "SELECT a.* FROM t a JOIN t b ON a.v = b.v",
        "SELECT k FROM t UNION SELECT 1",
        "SELECT * FROM t WHERE n = (SELECT max(n) FROM t)",
        "SELECT * FROM t ORDER BY k",
        "DELETE FROM t RETURNING k",
    ],
)
def test_what_shards_cannot_answer_apart_is_never_answered_wrong(arena: Arena, query: str) -> None:
    """The oracle's rows in the oracle's order, or 0A000 with a hint in front of any data."""
    arena.define(TABLE)
    load(arena, 50)
    sql = f"COPY ({query}) TO STDOUT"
    with arena.client() as client:
        reply = client.query(sql)
        assert client.usable().order == "TDCZ"
    if reply.error is not None:
        assert (reply.order, reply.error["C"]) == ("EZ", "0A000")
        assert "H" in reply.error
        return
    with arena.oracle_client() as client:
        expected = client.query(sql)
    ordered = "ORDER BY" in query
    assert (reply.data if ordered else sorted(reply.data)) == (expected.data if ordered else sorted(expected.data))


def test_error_in_the_middle(arena: Arena) -> None:
    """Rows of other shards may have come; one error ends the stream, without CopyDone."""
    arena.define(TABLE)
    load(arena, 3000)
    with arena.client() as client:
        reply = client.query("COPY (SELECT k, 1 / (k - 1717) FROM t) TO STDOUT")
        assert ((reply.error or {})["C"], reply.status) == ("22012", "I")
        assert reply.order in {"HdEZ", "HEZ"}
        assert client.usable().order == "TDCZ"


def test_reference_table_is_read_once(arena: Arena) -> None:
    arena.define("CREATE TABLE ref (k int, v text, n numeric)")
    load(arena, 40, "ref")
    outcome = arena.compare_now("COPY ref TO STDOUT (FORMAT csv, HEADER)")
    assert outcome.last.tags == ["COPY 40"]


def test_single_table_is_read_where_it_is(arena: Arena) -> None:
    arena.define("CREATE TABLE one (k int, v text, n numeric)")
    load(arena, 40, "one")
    arena.compare_now("COPY one TO STDOUT", "COPY one (k) TO STDOUT (FORMAT binary)")


def test_extended_protocol(arena: Arena) -> None:
    arena.define(TABLE)
    load(arena, 100)
    for sql in (
        b"COPY t TO STDOUT (FORMAT csv, HEADER)",
        b"COPY t TO STDOUT (FORMAT binary)",
        b"COPY nowhere TO STDOUT",
    ):
        stream = encode.parse(b"", sql) + encode.describe(b"S", b"") + encode.bind(b"", b"", (), (), ())
        stream += encode.describe(b"P", b"") + encode.execute(b"") + encode.SYNC
        arena.compare_exchange(stream)


def test_in_a_transaction(arena: Arena) -> None:
    arena.define(TABLE)
    load(arena, 20)
    arena.compare_now(
        "BEGIN",
        "DELETE FROM t WHERE k = 3",
        "COPY t TO STDOUT",
        "COPY nowhere TO STDOUT",
        "COPY t TO STDOUT",
        "ROLLBACK",
        "COPY t TO STDOUT; COPY t (k) TO STDOUT (FORMAT csv); SELECT 1",
    )


def test_wide_rows(arena: Arena) -> None:
    """Messages that are larger than a socket's buffers."""
    arena.define(TABLE)
    arena.fill("t", "SELECT g, repeat(g::text, 200000), 1 FROM generate_series(1, 12) AS g")
    arena.compare_now("COPY t TO STDOUT", "COPY t TO STDOUT (FORMAT binary)")


def test_client_that_leaves_stops_the_shards(arena: Arena) -> None:
    arena.define(TABLE)
    load(arena, 3000)
    with arena.client() as client:
        client.send(encode.query(b"COPY (SELECT repeat('x', 100000), pg_sleep(0.01) FROM t) TO STDOUT"))
        assert client.read() is not None
    arena.wait_until_idle()
