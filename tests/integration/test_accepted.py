"""What could be refused for being no plain key or no plain rows, and is answered as by one PostgreSQL."""

from collections.abc import Iterator
from struct import pack

import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.twin import ROWS, Step, Twin

pytestmark = pytest.mark.newest

NUMERIC = 1700
SEVEN_AND_A_HALF = pack("!HhHHHH", 2, 0, 0, 1, 7, 5000)
"""A numeric in binary: digits in base 10000, weight, sign, scale."""


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, unlisted_tables="reference") as twin:
        yield twin


def with_numeric(sql: str, value: bytes | None, *, binary: bool = False) -> bytes:
    """All that a driver sends for a statement with one numeric parameter."""
    return b"".join([
        encode.parse(b"", sql.encode(), (NUMERIC,)), encode.bind(b"", b"", (int(binary),), (value,), ()),
        encode.describe(b"P", b""), encode.execute(b""), encode.SYNC,
    ])  # fmt: skip


def compare(twin: Twin, *steps: Step, ignore: str = "") -> None:
    """Run the steps on both sides; the rows are the same at the end, and each is found by its key."""
    twin.fill()
    twin.compare(*steps, ignore=ignore)
    ours, theirs = twin.rows()
    assert ours == theirs
    twin.compare(*(f"SELECT b FROM t WHERE a = {a}" for a, _ in theirs if a > ROWS or a < 1))


NUMBERS = (
    "1001.0",
    "1002.5",
    "1003.49999999999999999999",
    "-1004.5",
    "1.005e3",
    "10060e-1",
    "1e10",
    "99999999999",
    ".4",
)


def test_a_numeric_constant_is_rounded_to_an_integer_key(twin: Twin) -> None:
    compare(twin, *(f"INSERT INTO t VALUES ({number}, '{number}')" for number in NUMBERS))


def test_a_numeric_parameter_is_rounded_to_an_integer_key(twin: Twin) -> None:
    insert = "INSERT INTO t VALUES ($1, 'new')"
    values = [*map(str.encode, NUMBERS), b" 1010.5 ", b"NaN", b"Infinity", b"1_011.5", None]
    compare(
        twin,
        *(with_numeric(insert, value) for value in values),
        "DELETE FROM t WHERE a = 8",
        with_numeric(insert, SEVEN_AND_A_HALF, binary=True),
    )


def with_untyped(sql: str, *values: bytes | None, binary: bool = False) -> bytes:
    """All that a driver sends for a statement whose parameters have no types."""
    return b"".join([
        encode.parse(b"", sql.encode()), encode.bind(b"", b"", (int(binary),), values, ()),
        encode.execute(b""), encode.SYNC,
    ])  # fmt: skip


NAMED_SHARD = "D"
"""Over several shards an error's DETAIL tells which one has reported it."""

MIXED = ("'5.0', 2.5", "1, '2'", "'1e1', 10.5, '11'", "'x', 2.5", "'5.0', 2", "2.0, 3", "'4'", "'4.0'", "'NaN', 1.5")


def test_values_of_a_list_have_one_type(twin: Twin) -> None:
    """A string beside a numeric is a numeric: '5.0' is 5 there, and no integer elsewhere."""
    compare(
        twin,
        *(f"SELECT * FROM t WHERE a IN ({values})" for values in MIXED),
        *(f"SELECT * FROM t WHERE a = ANY(ARRAY[{values}])" for values in MIXED),
        "SELECT * FROM t WHERE a = ANY('{1,2}') OR a = '7'",
        "SELECT * FROM t WHERE a BETWEEN '3' AND 5.5",
        "UPDATE t SET b = 'new' WHERE a IN ('5.0', 5.5)",
        "DELETE FROM t WHERE a IN ('6.0', 6)",
        "DELETE FROM t WHERE a IN ('7.0', 6.5)",
        ignore=NAMED_SHARD,
    )


def test_parameters_of_a_list_have_one_type(twin: Twin) -> None:
    compare(
        twin,
        *(with_untyped("SELECT * FROM t WHERE a IN ($1, 2.5)", value) for value in (b"5.0", b"6", b"x", b"NaN", None)),
        *(with_untyped("SELECT * FROM t WHERE a IN ($1, $2)", value, b"7") for value in (b"5.0", b"6", b"x", None)),
        with_untyped("UPDATE t SET b = 'new' WHERE a IN ($1, 2.5)", b"8.00"),
        with_untyped("DELETE FROM t WHERE a IN ($1, $2, 9.5)", b"9.0", b"9"),
        with_untyped("SELECT * FROM t WHERE a IN ($1, 2.5)", pack("!HhHHH", 1, 0, 0, 0, 7), binary=True),
    )


def test_columns_merged_by_using_have_one_type(twin: Twin) -> None:
    twin.compare("CREATE TABLE n (a numeric PRIMARY KEY, c int)", "INSERT INTO n VALUES (5, 1), (6.5, 2)")
    compare(
        twin,
        *(f"SELECT b, c FROM t JOIN n USING (a) WHERE a = {value}" for value in ("'5.0'", "5", "5.0", "'x'")),
        "SELECT b, c FROM n NATURAL JOIN t WHERE a IN ('5.0', '7')",
        ignore=NAMED_SHARD,
    )
    twin.compare("DROP TABLE n")


def test_an_integer_key_is_compared_with_a_numeric(twin: Twin) -> None:
    """It equals no other than its own value."""
    compare(
        twin,
        *(f"SELECT * FROM t WHERE a = {number}" for number in ("5.0", "5.5", "5e0", "1e30")),
        *(f"UPDATE t SET b = 'new' WHERE a = {number}" for number in ("6.0", "6.5", "1e30")),
        "DELETE FROM t WHERE a IN (7.0, 7.5)",
        *(with_numeric("SELECT * FROM t WHERE a = $1", value) for value in (b"9.0", b"9.5", b"1e30", None)),
        *(with_numeric("UPDATE t SET b = 'by' WHERE a = $1", value) for value in (b"9.0", b"9.5", b"1e30", None)),
        with_numeric("SELECT * FROM t WHERE a = $1", SEVEN_AND_A_HALF, binary=True),
    )


def test_a_conflict_may_set_the_key_to_what_it_is(twin: Twin) -> None:
    update = "DO UPDATE SET a = EXCLUDED.a, b = EXCLUDED.b"
    compare(
        twin,
        f"INSERT INTO t VALUES (5, 'new') ON CONFLICT (a) {update}",
        f"INSERT INTO t VALUES (1020, 'new') ON CONFLICT (a) {update}",
        f"INSERT INTO t VALUES (6, 'new') ON CONFLICT ON CONSTRAINT t_pkey {update} RETURNING *",
        "INSERT INTO t VALUES (7, 'new') ON CONFLICT (a) DO UPDATE SET (b, a) = (EXCLUDED.b, EXCLUDED.a)",
    )


@pytest.mark.parametrize("key", ["5", "EXCLUDED.a + 1", "t.a", "DEFAULT"])
def test_a_conflict_may_not_set_the_key_to_anything_else(twin: Twin, key: str) -> None:
    [reply] = twin.proxied(f"INSERT INTO t VALUES (5, 'x') ON CONFLICT (a) DO UPDATE SET a = {key}, b = EXCLUDED.b")
    assert reply.errors[0]["C"] == "0A000"
    assert "sets key column" in reply.errors[0]["M"]


def test_limit_0_has_no_rows_whatever_it_is_of(twin: Twin) -> None:
    compare(
        twin,
        "SELECT * FROM t LIMIT 0",
        "SELECT count(*), max(b) FROM t LIMIT 0",
        "SELECT x.a, y.b AS z FROM t x JOIN t y ON x.b = y.b ORDER BY 1 LIMIT 0",
        "SELECT DISTINCT b FROM t UNION SELECT b FROM ref LIMIT 0",
        "SELECT one.*, (SELECT max(a) FROM t) FROM one, t LIMIT 0",
        "SELECT 1 / 0 * a FROM t LIMIT 0",
        "SELECT nonsense FROM t LIMIT 0",
    )


def test_functions_that_give_rows_fill_a_reference_table(twin: Twin) -> None:
    compare(
        twin,
        "CREATE TABLE filled (id serial PRIMARY KEY, n int, at timestamptz DEFAULT now())",
        "INSERT INTO filled (n) SELECT n FROM generate_series(1, 5) AS n",
        "INSERT INTO filled (n) SELECT generate_series(1, 3)",
        "SELECT id, n FROM filled ORDER BY id",
        "CREATE MATERIALIZED VIEW counted AS SELECT n, count(*), count(DISTINCT id) AS ids FROM filled GROUP BY n",
        "SELECT * FROM counted ORDER BY n",
        "INSERT INTO filled (n) VALUES (9)",
        "REFRESH MATERIALIZED VIEW counted",
        "SELECT * FROM counted ORDER BY n",
        "DROP TABLE filled CASCADE",
    )


def untyped(sql: str, *values: bytes | None, name: bytes = b"") -> bytes:
    """All that node-postgres sends for a statement: text values without types."""
    return b"".join([
        encode.parse(name, sql.encode()), encode.bind(b"", name, (), values, ()), encode.describe(b"P", b""),
        encode.execute(b""), encode.SYNC,
    ])  # fmt: skip


SEVERAL_PLACES = (
    ("INSERT INTO t VALUES ($1, $1)", b"1001"),  # text, where int is wanted first: refused by both
    ("INSERT INTO t VALUES ($1, 'x'), ($2, $3) ON CONFLICT (a) DO UPDATE SET b = $3", b"1003", b"1003", b"y"),
    ("INSERT INTO t VALUES ($1, 'x') ON CONFLICT (a) DO UPDATE SET b = 'had ' || $1", b"1004"),
    ("INSERT INTO t (b, a) VALUES ($2, $1 ), ('again', $1)", b"1005", b"x"),
    ("SELECT count(*), $1::text FROM t WHERE a = $1", b"7"),
    ("SELECT $1, b FROM t WHERE a = $1", b"7"),
    ("SELECT max(b) FROM t WHERE a = $1 AND ($1 > 3 OR $1 IS NULL)", b"7"),
    ("SELECT max(b) FROM t WHERE a = $1 AND a + 1 > $1", b" 7 "),
    ("UPDATE t SET b = b || $2 || $2 WHERE a = $1 RETURNING *", b"8", b"z"),
    ("UPDATE t SET b = 'n' || $1 WHERE a = $1", b"9"),
    ("UPDATE t SET b = 'z' WHERE a = $1 AND $1 <> 3", b"x"),
    ("DELETE FROM t WHERE a = $1 AND length(b) < $1 * 9", b"10"),
    ("SELECT b FROM t WHERE a = $1 LIMIT $1", b"2"),
)


@pytest.mark.parametrize("statement", SEVERAL_PLACES, ids=[sql for sql, *_ in SEVERAL_PLACES])
def test_a_parameter_without_a_type_at_several_places(twin: Twin, statement: tuple[str, *tuple[bytes, ...]]) -> None:
    """Only PostgreSQL can tell its type: by that of the first place."""
    sql, *values = statement
    compare(twin, untyped(sql, *values), "BEGIN", untyped(sql, *values, name=b"s"), "COMMIT", untyped(sql, *values))


SAME_KEY = (
    "UPDATE {} SET a = a",
    "UPDATE {} SET a = a, b = 'new' WHERE a = 5",
    "UPDATE {0} x SET b = 'new', a = x.a WHERE x.a IN (5, 6) RETURNING *",
    "UPDATE {} SET (a, b) = (a, b || '!') WHERE a = 5",
)
"""What ORMs send that set every column of a row."""


def test_an_update_that_sets_the_key_to_what_it_is(twin: Twin) -> None:
    """Of what is not sharded; a sharded table's key is never set, and the row stays as it was."""
    compare(twin, *(update.format(table) for table in ("ref", "one") for update in SAME_KEY))
    assert twin.rows("one")[0] == twin.rows("one")[1]
    assert twin.copies() == twin.databases.oracle_rows("SELECT to_jsonb(ref) FROM ref ORDER BY 1")
    twin.fill()
    for reply in twin.proxied(
        *(update.format("t") for update in SAME_KEY), with_untyped("UPDATE t SET a = $1 WHERE a = $1", b"5")
    ):
        assert [error["C"] for error in reply.errors] == ["0A000"]
        assert "sets key column" in reply.errors[0]["M"]
    assert twin.rows()[0] == twin.rows()[1]


FROM_ARRAYS = (
    ("INSERT INTO {} SELECT unnest($1::int[])", b"{1001,1002,1003}"),
    ("INSERT INTO {} SELECT a, 'x' || a FROM unnest($1::int[]) AS a", b"{2001,2002}"),
    (
        "INSERT INTO {} (b, a) SELECT * FROM unnest($1::text[], $2::int[]) RETURNING a",
        b"{x,y,NULL}",
        b"{3001,3002,3003}",
    ),
    ("INSERT INTO {} SELECT * FROM unnest($1::int[], $2::text[]) ON CONFLICT DO NOTHING", b"{5,4001}", b"{x,y}"),
    ("INSERT INTO {} SELECT unnest($1::int[])", b"{}"),
    ("INSERT INTO {} SELECT unnest($1::int[])", b"{1001}"),
    ("INSERT INTO {} SELECT unnest($1::int[])", b"{1001,x}"),
)
"""How ORMs insert many rows with as many parameters as columns; of the last two, one is there and one is no array."""


def test_rows_of_arrays(twin: Twin) -> None:
    """Into a sharded table they are refused in words, for each row may be another shard's."""
    inserts = [with_untyped(sql.format(table), *values) for table in ("ref", "one") for sql, *values in FROM_ARRAYS]
    compare(twin, *inserts, ignore=NAMED_SHARD)
    assert twin.rows("one")[0] == twin.rows("one")[1]
    assert twin.copies() == twin.databases.oracle_rows("SELECT to_jsonb(ref) FROM ref ORDER BY 1")
    twin.fill()
    for reply in twin.proxied(*(with_untyped(sql.format("t"), *values) for sql, *values in FROM_ARRAYS[:-1])):
        assert [error["C"] for error in reply.errors] == ["0A000"]
        assert reply.errors[0]["M"] == 'INSERT ... SELECT into sharded table "public.t" is not supported'
        assert "VALUES" in reply.errors[0]["H"]
    assert twin.rows()[0] == twin.rows()[1]
