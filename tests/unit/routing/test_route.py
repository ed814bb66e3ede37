"""Where statements go, and what is refused, over four shards."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import (
    ByKey,
    Copies,
    CopyFromClient,
    CopyToClient,
    Gather,
    Home,
    Local,
    Memory,
    OneShard,
    ParamValue,
    Plan,
    Replicate,
    Settings,
    ShardByShard,
)
from tests.unit.routing.tables import NSHARDS, routed, shard_of

HOME = Home()
ALL = Gather(tuple(range(NSHARDS)))
WRITING = Gather(tuple(range(NSHARDS)), writes=True)
SAME = Replicate("whatever")
REMEMBERED = Memory(cursors={"c": 2})


def user(number: int) -> OneShard:
    return OneShard(shard_of("users", str(number).encode()))


def order(number: int) -> OneShard:
    return OneShard(shard_of("orders", str(number).encode()))


def two_apart() -> tuple[int, int]:
    """Two numbers of users on different shards."""
    other = next(n for n in range(2, 100) if user(n) != user(1))
    return 1, other


def two_together() -> tuple[int, int]:
    other = next(n for n in range(2, 100) if user(n) == user(1))
    return 1, other


ONE, FAR = two_apart()
NEAR = two_together()[1]
BOTH = Gather(tuple(sorted((user(ONE).shard, user(FAR).shard))))

ROUTES = [
    # no user table
    ("", Local()),
    ("SELECT 1", HOME),
    ("SELECT version(), now()", HOME),
    ("SHOW server_version", HOME),
    # what one shard has for all sessions, or a function that may ask for it
    ("SELECT currval('s'), now()", OneShard(0)),
    ("SELECT pg_try_advisory_lock(1)", OneShard(0)),
    ("SELECT pg_advisory_xact_lock(id) FROM ref", OneShard(0)),
    ("SELECT f(name) FROM ref", OneShard(0)),
    ("SELECT extra.f()", OneShard(0)),
    ("SELECT lo_create(0)", OneShard(0)),
    # a function that may write does so on all shards or on none
    ("SELECT f(id) FROM users", WRITING),
    ("SELECT u.f FROM users u", WRITING),
    ("SELECT u.ctid, upper(u.name) FROM users u", ALL),
    ("SELECT lo_unlink(age) FROM users", WRITING),
    ("COPY (SELECT f(id) FROM users) TO STDOUT", CopyToClient(WRITING)),
    ("SELECT relname FROM pg_class ORDER BY 1 LIMIT 5", HOME),
    ("SELECT count(*) FROM pg_class a JOIN pg_class b USING (oid)", HOME),
    ("SELECT set_config('search_path', '', false)", Settings("search_path")),
    ("SET search_path TO a", Settings("search_path")),
    ("RESET ALL", Settings("all")),
    ("DISCARD ALL", Settings(None)),
    ("BEGIN", Local()),
    ("LISTEN x", OneShard(0)),
    ("SELECT pg_notify('x', name) FROM ref", OneShard(0)),
    ("SELECT pg_notify('x', name) FROM solo0", OneShard(0)),
    ("FETCH 5 FROM c", OneShard(2)),
    ("EXECUTE q", HOME),
    # reference and single tables
    ("SELECT * FROM ref", HOME),
    ("SELECT DISTINCT name FROM ref LEFT JOIN ref2 USING (id) ORDER BY 1 LIMIT 3", HOME),
    ("SELECT * FROM ref, pg_class", HOME),
    ("SELECT * FROM ref FOR UPDATE", OneShard(0)),
    ("SELECT * FROM (SELECT * FROM ref FOR SHARE) AS x", OneShard(0)),
    ("SELECT setval('s', max(id)) FROM ref", OneShard(0)),
    ("SELECT nextval('s')", OneShard(0)),
    ("SELECT * FROM pg_listening_channels()", OneShard(0)),
    ("SELECT pg_advisory_lock(1)", OneShard(0)),
    ("SELECT * FROM ref WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED", OneShard(0)),
    ("SELECT count(*) FROM solo3 ORDER BY 1", OneShard(3)),
    ("SELECT * FROM solo3 FULL JOIN ref USING (id)", OneShard(3)),
    ("SELECT * FROM ref WHERE id IN (SELECT id FROM solo3)", OneShard(3)),
    ("SELECT * FROM ref UNION SELECT * FROM solo0", OneShard(0)),
    # sharded tables, concatenated
    ("SELECT * FROM users", ALL),
    ("SELECT name || 'x', upper(name) FROM users u WHERE u.age > 5", ALL),
    ("SELECT * FROM users WHERE id > 5 OR id = 1", ALL),
    ("SELECT * FROM users FOR UPDATE", ALL),
    ("SELECT * FROM users JOIN ref USING (name) FOR UPDATE OF users", ALL),
    ("SELECT * FROM users AS u JOIN ref AS r USING (name) FOR UPDATE OF u FOR SHARE OF r", ALL),
    ("SELECT * FROM solo0 JOIN ref USING (id) FOR UPDATE", OneShard(0)),
    ("SELECT * FROM solo3 JOIN (SELECT * FROM ref) AS r USING (id) FOR KEY SHARE", OneShard(3)),
    ("SELECT * FROM users JOIN ref USING (name)", ALL),
    ("SELECT * FROM users, ref, ref2", ALL),
    ("SELECT * FROM users LEFT JOIN ref ON ref.id = age", ALL),
    ("SELECT * FROM ref RIGHT JOIN users ON ref.id = age", ALL),
    ("SELECT * FROM (ref LEFT JOIN ref2 USING (id)) JOIN users ON true", ALL),
    ("SELECT * FROM (ref JOIN users ON true) LEFT JOIN ref2 ON true", ALL),
    ("SELECT users.name, (users).age, u.anything FROM users, f() u", WRITING),
    ("SELECT * FROM users, generate_series(1, age)", ALL),
    ("SELECT * FROM users WHERE age IN (SELECT id FROM ref)", ALL),
    ("WITH x AS (SELECT id FROM ref) SELECT * FROM users WHERE age IN (TABLE x)", ALL),
    ("TABLE users", ALL),
    ("COPY users TO STDOUT", CopyToClient(ALL)),
    ("COPY (SELECT name FROM users) TO STDOUT", CopyToClient(ALL)),
    # one shard by the key
    (f"SELECT count(*), max(age) FROM users WHERE id = {ONE} ORDER BY 1 LIMIT 1", user(ONE)),
    (f"SELECT * FROM users u WHERE u.id = {ONE} AND age > 5", user(ONE)),
    (f"SELECT * FROM public.users WHERE public.users.id = {ONE}", user(ONE)),
    (f"SELECT * FROM users WHERE {ONE} = id", user(ONE)),
    (f"SELECT * FROM users WHERE id = '{ONE}'", user(ONE)),
    (f"SELECT * FROM users WHERE id = ' +0{ONE} '", user(ONE)),
    (f"SELECT * FROM users WHERE id = {ONE}::bigint", user(ONE)),
    (f"SELECT * FROM users WHERE id = '{ONE}'::smallint", user(ONE)),
    (f"SELECT DISTINCT name FROM users WHERE id IN ({ONE}, {NEAR})", user(ONE)),
    (f"SELECT * FROM users WHERE id IN ({ONE}, {FAR}) AND id = {FAR}", user(FAR)),
    (f"SELECT * FROM users FULL JOIN ref USING (id) WHERE users.id = {ONE}", user(ONE)),
    (f"SELECT * FROM ref LEFT JOIN users USING (id) WHERE id = {ONE}", user(ONE)),
    (f"SELECT * FROM users JOIN pg_class ON true WHERE id = {ONE}", user(ONE)),
    (f"SELECT *, (SELECT count(*) FROM ref) FROM users WHERE id = {ONE}", user(ONE)),
    (f"SELECT * FROM users a, users b WHERE a.id = {ONE} AND b.id = {NEAR}", user(ONE)),
    (f"SELECT * FROM users a JOIN users b ON a.id = b.id WHERE a.id = {ONE}", user(ONE)),
    (f"SELECT * FROM users u JOIN orders o ON u.id = o.user_id WHERE u.id = {ONE}", user(ONE)),
    (
        f"SELECT * FROM users u LEFT JOIN orders o ON o.user_id = {ONE} WHERE u.id = {ONE} AND o.user_id = {ONE}",
        user(ONE),
    ),
    (f"SELECT * FROM users a JOIN users b USING (id) WHERE id = {ONE}", user(ONE)),
    (f"SELECT name FROM users a JOIN users b ON a.id = {ONE} AND b.id = a.id", user(ONE)),
    (f"SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = {ONE}", user(ONE)),
    (
        f"SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.user_id = {ONE} AND u.id = {ONE}",
        user(ONE),
    ),
    (f"SELECT * FROM orders RIGHT JOIN users ON user_id = id WHERE id = {ONE}", user(ONE)),
    (f"SELECT * FROM users LEFT JOIN orders ON user_id = {NEAR} WHERE id = {ONE}", user(ONE)),
    (f"SELECT * FROM users LEFT JOIN orders ON user_id = NULL WHERE id = {FAR}", user(FAR)),
    (
        f"SELECT * FROM users u LEFT JOIN (orders JOIN users v ON v.id = user_id) ON v.id = u.id WHERE u.id = {ONE}",
        user(ONE),
    ),
    (f"SELECT * FROM ref LEFT JOIN users ON users.id = {ONE}", user(ONE)),
    (f"SELECT sum(total) FROM users JOIN orders ON id = user_id WHERE id = {ONE}", user(ONE)),
    ("SELECT * FROM pair WHERE (a, b) = (5, 'x')", OneShard(shard_of("pair", b"5", b"x"))),
    ("SELECT * FROM pair WHERE b = 'x'::text AND a = 5", OneShard(shard_of("pair", b"5", b"x"))),
    ("SELECT * FROM pair WHERE b = 'é' AND a = 5", OneShard(shard_of("pair", b"5", "é".encode()))),
    ("SELECT * FROM pair WHERE b = 09999999999::text AND a = 5", OneShard(shard_of("pair", b"5", b"9999999999"))),
    ("INSERT INTO pair VALUES (5, 00000008888888888)", OneShard(shard_of("pair", b"5", b"8888888888"))),
    ("SELECT * FROM country WHERE code = 'fr'", OneShard(1)),
    ("SELECT * FROM country WHERE code IN ('fr', 'xx')", OneShard(1)),
    ("SELECT * FROM event WHERE day = DATE '2020-05-05'", OneShard(0)),
    (f"COPY (SELECT * FROM users WHERE id = {ONE} ORDER BY name) TO STDOUT", CopyToClient(user(ONE))),
    (f"EXPLAIN ANALYZE SELECT * FROM users WHERE id = {ONE}", user(ONE)),
    (f"DECLARE c CURSOR FOR SELECT * FROM users WHERE id = {ONE}", user(ONE)),
    ("PREPARE p AS SELECT * FROM users WHERE id = $1", HOME),
    # some shards
    (f"SELECT * FROM users WHERE id IN ({ONE}, {FAR})", BOTH),
    (f"SELECT * FROM users WHERE id IN ({ONE}, {FAR}) LIMIT 1", Gather(BOTH.shards, limit=1)),
    (f"SELECT * FROM users WHERE id = {ONE} LIMIT 1 + 1 OFFSET 1", user(ONE)),
    ("COPY (SELECT * FROM users LIMIT 3) TO STDOUT", CopyToClient(Gather(ALL.shards, limit=3))),
    ("EXPLAIN SELECT * FROM users LIMIT 3", OneShard(0)),
    ("SELECT * FROM country WHERE code IN ('de', 'fr')", Gather((0, 1))),
    # numerics, and integers for keys
    ("SELECT * FROM users WHERE id = 1.0", user(1)),
    ("INSERT INTO users (id) VALUES (1.5)", user(2)),
    ("INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id", user(1)),
    # no row at all
    ("SELECT * FROM users WHERE id = 1.5", HOME),
    ("SELECT name, count(*) FROM users GROUP BY name LIMIT 0", HOME),
    ("SELECT * FROM users, solo3 LIMIT 0", OneShard(3)),
    ("SELECT * FROM users WHERE id = NULL", HOME),
    ("SELECT count(*) FROM users WHERE id = 'not a number'", HOME),
    ("SELECT * FROM orders WHERE user_id = 99999999999", HOME),
    ("SELECT * FROM country WHERE code = 'xx'", HOME),
    ("DELETE FROM event WHERE day = '1999-01-01'", HOME),
    # not bound, so all
    ("SELECT * FROM users WHERE id = '1'::numeric", ALL),
    ("SELECT * FROM users WHERE id = $1", ALL),
    ("SELECT * FROM pair WHERE a = 5", ALL),
    ("SELECT * FROM pair WHERE a = 5 AND b = 'x '::bpchar", ALL),
    ("SELECT * FROM pair WHERE a = 5 AND c = 'x'", ALL),
    ("SELECT * FROM moment WHERE at = '1/2/2020'", ALL),
    ("SELECT * FROM users u WHERE u.id = age", ALL),
    ("SELECT * FROM event WHERE day = '2020-01-01'::timestamp", ALL),
    # changes
    (f"INSERT INTO users VALUES ({ONE}, 'x', 5, 1)", user(ONE)),
    (f"INSERT INTO users (name, id) VALUES (now(), {ONE}), (random()::text, {NEAR})", user(ONE)),
    (f"INSERT INTO users (id) VALUES ('{ONE}') ON CONFLICT (id) DO UPDATE SET name = 'x' RETURNING *", user(ONE)),
    ("INSERT INTO users (id) VALUES (NULL)", OneShard(shard_of("users", None))),
    ("INSERT INTO users (name) VALUES ('x')", OneShard(shard_of("users", None))),
    ("INSERT INTO pair (b, a) VALUES (5, 1)", OneShard(shard_of("pair", b"1", b"5"))),
    ("INSERT INTO fixed (k) OVERRIDING SYSTEM VALUE VALUES (7)", OneShard(shard_of("fixed", b"7"))),
    ("INSERT INTO fixed (v) VALUES (1)", OneShard(shard_of("fixed", b"7"))),
    ("INSERT INTO fixed VALUES (DEFAULT, 1)", OneShard(shard_of("fixed", b"7"))),
    ("INSERT INTO fixed DEFAULT VALUES", OneShard(shard_of("fixed", b"7"))),
    ("INSERT INTO country VALUES (NULL, 'x')", OneShard(2)),
    ("INSERT INTO event VALUES ('2020-01-01', 'x')", OneShard(0)),
    ("INSERT INTO users (id) VALUES ('x')", HOME),
    ("INSERT INTO orders (user_id) VALUES (99999999999)", HOME),
    (f"UPDATE users SET name = 'x' WHERE id = {ONE}", user(ONE)),
    (f"UPDATE users u SET name = r.name FROM ref r WHERE u.id = {ONE} AND r.id = u.age", user(ONE)),
    (f"UPDATE users SET name = now() FROM orders WHERE id = user_id AND id = {ONE}", user(ONE)),
    (f"DELETE FROM users WHERE id IN ({ONE}, {NEAR})", user(ONE)),
    (f"DELETE FROM users USING ref WHERE users.id = {ONE}", user(ONE)),
    ("DELETE FROM users WHERE id = NULL", HOME),
    ("INSERT INTO solo3 SELECT * FROM ref", OneShard(3)),
    ("UPDATE solo3 SET name = now()", OneShard(3)),
    ("MERGE INTO solo3 USING ref ON true WHEN MATCHED THEN DELETE", OneShard(3)),
    ("WITH x AS (DELETE FROM solo3 RETURNING *) SELECT * FROM x", OneShard(3)),
    ("INSERT INTO ref2 VALUES (1, lower('X')), ($1, DEFAULT)", SAME),
    ("INSERT INTO ref (id, name, serial) VALUES (1, 'x', 5) RETURNING *", SAME),
    ("INSERT INTO ref2 SELECT * FROM ref2 ON CONFLICT DO NOTHING", SAME),
    ("UPDATE ref SET name = 'x' FROM ref2 WHERE ref.id = ref2.id", SAME),
    ("DELETE FROM ref", SAME),
    ("MERGE INTO ref2 USING ref ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", SAME),
    # COPY FROM
    ("COPY users FROM STDIN", CopyFromClient(ByKey())),
    ("COPY ref2 (id) FROM STDIN CSV", CopyFromClient(SAME)),
    ("COPY ref FROM STDIN", CopyFromClient(SAME)),
    ("COPY solo3 FROM STDIN", CopyFromClient(OneShard(3))),
    ("COPY solo3 FROM '/x'", OneShard(3)),
    ("COPY ref TO STDOUT", CopyToClient(HOME)),
    ("COPY ref TO '/x'", HOME),
    ("COPY pg_class TO STDOUT", CopyToClient(HOME)),
    # definitions
    ("CREATE TABLE stranger (a int)", SAME),
    ("ALTER TABLE users ADD x int", SAME),
    ("TRUNCATE users, ref", SAME),
    ("DROP TABLE solo3", OneShard(3)),
    ("CREATE INDEX ON solo3 (id)", OneShard(3)),
    ("LOCK TABLE users", HOME),
    ("VACUUM users", ShardByShard()),
    ("VACUUM solo3", OneShard(3)),
    ("ANALYZE", ShardByShard()),
    ("CREATE VIEW v AS SELECT count(*) FROM users", SAME),
    ("CREATE TEMP TABLE n (a int)", HOME),
    ("CREATE TABLE ref2 AS SELECT * FROM ref", SAME),
    ("SELECT * INTO nowhere FROM ref", SAME),
    ("CREATE TEMP TABLE nowhere AS SELECT now() FROM ref", OneShard(0)),
    ("CREATE TABLE solo3 AS SELECT now()", OneShard(3)),
    ("EXPLAIN SELECT * FROM users", OneShard(0)),
    (f"EXPLAIN SELECT * FROM users WHERE id IN ({ONE}, {FAR})", OneShard(BOTH.shards[0])),
    ("EXPLAIN UPDATE ref SET name = 'x'", OneShard(0)),
    ("DECLARE c CURSOR FOR SELECT * FROM ref ORDER BY 1", HOME),
    # PostgreSQL is to say that it does not exist
    ("SELECT * FROM nowhere JOIN users ON true", HOME),
]


def without_lock(plan: Plan) -> Plan:
    """The plan as ROUTES gives it; the locks have a test of their own."""
    if isinstance(plan, CopyFromClient) and isinstance(plan.rows, Replicate):
        return CopyFromClient(SAME)
    return SAME if isinstance(plan, Replicate | Copies) else plan


@pytest.mark.parametrize(("sql", "expected"), ROUTES, ids=[sql for sql, _ in ROUTES])
def test_route(sql: str, expected: Plan) -> None:
    assert without_lock(routed(sql, memory=REMEMBERED)) == expected


REFUSED = [
    "SELECT * FROM users JOIN ref USING (name) FOR UPDATE",
    "SELECT * FROM users JOIN ref USING (name) WHERE users.id = 1 FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT * FROM users AS u JOIN ref AS r USING (name) WHERE u.id = 1 FOR UPDATE OF r FOR SHARE OF u",
    "SELECT * FROM solo3 JOIN (SELECT * FROM ref) AS r USING (id) FOR UPDATE",
    "UPDATE solo3 SET name = 'x' WHERE id = (SELECT id FROM ref LIMIT 1 FOR UPDATE)",
    "WITH job AS (SELECT id FROM ref LIMIT 1 FOR UPDATE) DELETE FROM users USING job WHERE users.id = 1",
    # an answer that only all rows together have
    "SELECT count(*) FROM users",
    "SELECT max(age) FROM users",
    "SELECT pg_catalog.sum(age) FROM users",
    "SELECT * FROM users ORDER BY id",
    "SELECT * FROM users ORDER BY id LIMIT 1",
    "SELECT * FROM users LIMIT 1 + 1",
    "SELECT * FROM users LIMIT (SELECT 1)",
    "SELECT * FROM users LIMIT 1::float8",
    "SELECT * FROM users LIMIT 1 FOR UPDATE",
    "SELECT * FROM users FETCH FIRST ROW ONLY FOR SHARE SKIP LOCKED",
    "SELECT f(id) FROM users LIMIT 1",
    "SELECT pg_try_advisory_lock(id) FROM users LIMIT 1",
    "SELECT * FROM users OFFSET 1",
    "SELECT * FROM users LIMIT 1 OFFSET 1",
    "COPY (SELECT * FROM users LIMIT 1 OFFSET 1) TO STDOUT",
    "DECLARE c CURSOR FOR SELECT * FROM users LIMIT 1",
    "EXPLAIN ANALYZE SELECT * FROM users LIMIT 1",
    "SELECT DISTINCT name FROM users",
    "SELECT name FROM users GROUP BY name",
    "SELECT row_number() OVER () FROM users",
    "SELECT name FROM users UNION ALL SELECT name FROM ref",
    f"SELECT count(*) FROM users WHERE id IN ({ONE}, {FAR})",
    f"SELECT * FROM users WHERE id IN ({ONE}, {FAR}) ORDER BY 1",
    "SELECT * FROM users WHERE id = $1 ORDER BY 1",
    "SELECT nextval('s'), * FROM users",
    "SELECT users.count FROM users",
    "SELECT (users).max FROM users",
    "SELECT * FROM (users AS x CROSS JOIN ref AS r) AS y CROSS JOIN users AS x WHERE x.id = 5",
    "COPY (SELECT * FROM users ORDER BY 1) TO STDOUT",
    "COPY (SELECT count(*) FROM users) TO STDOUT",
    # joins and sub-queries that no single shard can answer
    "SELECT * FROM users JOIN orders ON id = user_id",
    "SELECT * FROM users a, users b",
    f"SELECT * FROM users a, users b WHERE a.id = {ONE}",
    f"SELECT * FROM users a, users b WHERE a.id = {ONE} AND b.id = {FAR}",
    f"SELECT * FROM users a LEFT JOIN users b ON a.id = b.id AND b.id = {ONE}",
    f"SELECT * FROM users a LEFT JOIN users b ON a.id = b.id AND a.id = {ONE}",
    f"SELECT * FROM users a LEFT JOIN users b ON a.id = {ONE} AND b.id = {ONE} ORDER BY 1",
    f"SELECT * FROM users a FULL JOIN users b ON a.id = b.id WHERE a.id = {ONE}",
    f"SELECT * FROM users a LEFT JOIN users b ON b.id = {FAR} WHERE a.id = {ONE}",
    f"SELECT * FROM users u JOIN pair p ON u.id = p.c WHERE u.id = {ONE}",
    f"SELECT * FROM users u JOIN token t ON u.name = t.n WHERE u.id = {ONE}",
    "SELECT * FROM ref LEFT JOIN users USING (id)",
    "SELECT * FROM users RIGHT JOIN ref USING (id)",
    "SELECT * FROM users FULL JOIN ref USING (id)",
    "SELECT * FROM ref2 LEFT JOIN (users JOIN ref ON true) ON true",
    "SELECT * FROM generate_series(1, 3) LEFT JOIN users ON true",
    "SELECT * FROM (SELECT * FROM users) x",
    f"SELECT * FROM (SELECT * FROM users WHERE id = {ONE}) x",
    f"WITH x AS (SELECT * FROM users WHERE id = {ONE}) SELECT * FROM x",
    "SELECT * FROM ref WHERE id IN (SELECT id FROM users)",
    f"SELECT (SELECT count(*) FROM orders) FROM users WHERE id = {ONE}",
    f"SELECT * FROM users WHERE id = {ONE} AND age IN (SELECT oid FROM orders)",
    "SELECT * FROM users, (SELECT * FROM ref LIMIT 1) x",
    "SELECT * FROM users, (SELECT * FROM ref) x",
    "SELECT * FROM users WHERE age IN (SELECT id FROM ref LIMIT 1)",
    "SELECT * FROM users TABLESAMPLE system (1)",
    "SELECT * FROM users, pg_class",
    "SELECT * FROM users, solo3",
    "SELECT * FROM solo0, solo3",
    f"SELECT * FROM users, solo3 WHERE users.id = {next(n for n in range(99) if user(n) != OneShard(3))}",
    # changes
    f"INSERT INTO users (id) VALUES ({ONE}), ({FAR})",
    "INSERT INTO users SELECT * FROM ref",
    "INSERT INTO users VALUES (1) ORDER BY 1",
    "INSERT INTO users (id) VALUES (random())",
    "INSERT INTO users (id) VALUES (true)",
    "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.age",
    "INSERT INTO users (id) VALUES ($1)",
    "INSERT INTO users (id) VALUES ((SELECT 1))",
    "INSERT INTO users (id, name) VALUES (1, (SELECT name FROM orders LIMIT 1))",
    "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
    "INSERT INTO computed (v) VALUES (1)",
    "INSERT INTO users (id) OVERRIDING USER VALUE VALUES (1)",
    "INSERT INTO computed VALUES (DEFAULT)",
    "INSERT INTO moment VALUES ('1/2/2020')",
    "UPDATE users SET name = 'x'",
    "UPDATE users SET name = 'x' WHERE name = 'y'",
    f"UPDATE users SET name = 'x' WHERE id IN ({ONE}, {FAR})",
    f"UPDATE users SET id = 5 WHERE id = {ONE}",
    f"UPDATE users SET (name, id) = ('x', 5) WHERE id = {ONE}",
    f"UPDATE users SET name = (SELECT 'x' FROM orders) WHERE id = {ONE}",
    f"UPDATE users SET name = 'x' FROM orders WHERE id = {ONE}",
    "DELETE FROM users",
    "DELETE FROM users WHERE id > 5",
    "DELETE FROM users WHERE CURRENT OF c",
    f"DELETE FROM users USING solo3 WHERE users.id = {next(n for n in range(99) if user(n) != OneShard(3))}",
    "MERGE INTO users USING ref ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (INSERT INTO users VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM ref RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM ref RETURNING *) INSERT INTO ref2 SELECT id, name FROM x",
    # writes of a reference table that read elsewhere
    "INSERT INTO ref2 SELECT id, name FROM users",
    "INSERT INTO ref2 SELECT * FROM solo3",
    "DELETE FROM ref USING users WHERE ref.id = users.id",
    # files of a server
    "COPY users FROM '/x'",
    "COPY users TO PROGRAM 'x'",
    "COPY ref FROM '/x'",
    "COPY (SELECT * FROM users) TO '/x'",
    "COPY (DELETE FROM ref RETURNING *) TO STDOUT",
    # new tables
    "CREATE TABLE nowhere AS SELECT * FROM users",
    f"CREATE TABLE nowhere AS SELECT * FROM users WHERE id = {ONE}",
    "SELECT * INTO nowhere FROM users",
    "CREATE TEMP TABLE nowhere AS SELECT * FROM users",
    "CREATE TEMP TABLE nowhere AS SELECT * FROM solo3",
    "CREATE MATERIALIZED VIEW nowhere AS SELECT count(*) FROM users",
    "CREATE TABLE nowhere AS SELECT mine.now()",
    "CREATE TABLE nowhere AS EXECUTE p",
    "CREATE TABLE users AS SELECT 1",
    "CREATE TABLE stranger AS SELECT 1",
    # statements of more than one shard that must be one
    "EXPLAIN ANALYZE SELECT * FROM users",
    "EXPLAIN ANALYZE DELETE FROM ref",
    "EXPLAIN SELECT count(*) FROM users",
    "DECLARE c CURSOR FOR SELECT * FROM users",
    "DECLARE c CURSOR FOR SELECT count(*) FROM users",
    "DO $$BEGIN END$$",
    "CALL p()",
    "SELECT * FROM stranger",
    "INSERT INTO stranger VALUES (1)",
    "COPY stranger FROM STDIN",
    "COPY stranger TO STDOUT",
    "EXPLAIN SELECT * FROM stranger",
]


def test_a_value_is_read_by_the_type_of_the_column_that_it_is_compared_with() -> None:
    """0.1 is another number as float4 than as float8, where equal columns have equal hashes."""
    with pytest.raises(PgError, match="are not bound to one shard"):
        routed("SELECT * FROM real4 a JOIN real8 b ON a.k = b.k WHERE a.k = '0.1' AND b.v IS NULL")
    one = routed("SELECT * FROM real4 a JOIN real4 b ON a.k = b.k WHERE a.k = '0.1'")
    assert one == OneShard(shard_of("real4", b"0.1"))


@pytest.mark.parametrize("sql", REFUSED)
def test_refused(sql: str) -> None:
    with pytest.raises(PgError) as raised:
        routed(sql, memory=REMEMBERED)
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint


ONE_SHARD_ONLY = [sql for sql in REFUSED if "stranger" not in sql]


@pytest.mark.parametrize("sql", ONE_SHARD_ONLY)
def test_with_one_shard_nothing_is_refused(sql: str) -> None:
    plan = routed(sql, nshards=1)
    rows = plan.rows if isinstance(plan, CopyFromClient | CopyToClient) else plan
    assert isinstance(rows, Home | OneShard | ByKey)


def test_no_partition_is_postgresqls_own_error() -> None:
    with pytest.raises(PgError, match='no partition of relation "country" found for row') as raised:
        routed("INSERT INTO country VALUES ('xx', 'y')")
    assert raised.value.sqlstate == "23514"
    assert raised.value.detail == "Partition key of the failing row contains (code) = (xx)."


def test_an_unlisted_table_names_the_remedy() -> None:
    with pytest.raises(PgError, match='"public\\.stranger" is not listed') as raised:
        routed("SELECT * FROM stranger")
    assert raised.value.hint is not None
    assert "[[databases.tables]]" in raised.value.hint


INT8, INT4, INT2, TEXT, VARCHAR, NUMERIC, FLOAT8, UUID = 20, 23, 21, 25, 1043, 1700, 701, 2950
TOKEN = bytes(range(16))
TOKEN_SHARD = OneShard(shard_of("token", TOKEN.hex().encode()))


def pair(second: str) -> OneShard:
    return OneShard(shard_of("pair", b"1", second.encode()))


@pytest.mark.parametrize(
    ("sql", "value", "expected"),
    [
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT8, 0, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(0, 0, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(705, 0, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT8, 1, (1).to_bytes(8)), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT4, 1, (1).to_bytes(4)), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT2, 1, (1).to_bytes(2)), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(0, 1, (1).to_bytes(8)), user(1)),
        ("SELECT * FROM users WHERE id = $1::int4", ParamValue(0, 1, (1).to_bytes(4)), user(1)),
        ("SELECT * FROM users WHERE id = $1::bigint", ParamValue(TEXT, 1, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT8, 0, None), HOME),
        ("SELECT * FROM users WHERE id IN ($1, 1)", ParamValue(INT8, 0, b"1"), user(1)),
        ("INSERT INTO users (id, name) VALUES ($1, 'x')", ParamValue(INT8, 1, (7).to_bytes(8)), user(7)),
        ("DELETE FROM users WHERE id = $1", ParamValue(INT4, 0, b"1"), user(1)),
        ("SELECT * FROM orders WHERE user_id = $1", ParamValue(INT8, 1, (5).to_bytes(8)), order(5)),
        ("SELECT * FROM price WHERE n = $1", ParamValue(NUMERIC, 0, b"5.7"), OneShard(shard_of("price", b"5.7"))),
        ("SELECT * FROM price WHERE n = $1::int", ParamValue(0, 0, b"5"), OneShard(shard_of("price", b"5"))),
        ("SELECT * FROM token WHERE u = $1", ParamValue(UUID, 1, TOKEN), TOKEN_SHARD),
        ("SELECT * FROM pair WHERE a = 1 AND b = $1", ParamValue(VARCHAR, 0, "é".encode()), pair("é")),
        ("SELECT * FROM pair WHERE a = 1 AND b = $1", ParamValue(TEXT, 1, b"x"), pair("x")),
        # no value that is certainly the key's
        ("SELECT * FROM price WHERE n = $1::int", ParamValue(NUMERIC, 0, b"5.7"), Gather(tuple(range(NSHARDS)))),
        ("SELECT * FROM users WHERE id = $1", ParamValue(NUMERIC, 0, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $1", ParamValue(FLOAT8, 1, bytes(8)), ALL),
        ("SELECT * FROM users WHERE id = $1", ParamValue(TEXT, 0, b"1"), ALL),
        ("SELECT * FROM users WHERE id = $1", ParamValue(INT8, 1, b"123"), ALL),
        ("SELECT * FROM users WHERE id = $1::numeric", ParamValue(0, 0, b"1"), ALL),
        ("SELECT * FROM users WHERE age = $1 AND id = $1", ParamValue(0, 0, b"1"), ALL),
        ("SELECT * FROM users WHERE age = $1 AND id = $1", ParamValue(INT8, 0, b"1"), user(1)),
        ("SELECT * FROM users WHERE id = $2", ParamValue(INT8, 0, b"1"), ALL),
        ("SELECT * FROM pair WHERE a = 1 AND b = $1", ParamValue(TEXT, 0, b"\xff"), ALL),
        ("SELECT * FROM pair WHERE a = 1 AND b = $1", ParamValue(1042, 0, b"x "), ALL),
        ("SELECT * FROM token WHERE u = $1", ParamValue(UUID, 1, b"short"), ALL),
    ],
)  # fmt: skip
def test_parameters(sql: str, value: ParamValue, expected: Plan) -> None:
    assert routed(sql, value) == expected


def test_every_shard_is_some_users() -> None:
    """The tables above distinguish nothing unless the numbers do spread."""
    assert {user(number).shard for number in range(100)} == set(range(NSHARDS))


@pytest.mark.parametrize(
    ("sql", "locks"),
    [
        ("COPY ref2 FROM STDIN", {"ref2": "ROW EXCLUSIVE"}),
        ("CREATE TABLE made AS SELECT ref.id, ref2.name FROM ref2 JOIN ref ON true", {"ref": "SHARE", "ref2": "SHARE"}),
        ("CREATE TABLE made AS SELECT 1 AS id", {}),
        ("SELECT * FROM ref2", {}),
        ("INSERT INTO users VALUES (1)", {}),
    ],
)
def test_what_is_done_on_all_shards_at_once_takes_turns(sql: str, locks: dict[str, str]) -> None:
    """What reads or adds rows must meet the same ones on every shard."""
    wanted = [f'LOCK TABLE "public"."{name}" IN {mode} MODE' for name, mode in locks.items()]
    plan = routed(sql)
    change = plan.rows if isinstance(plan, CopyFromClient) else plan
    assert (change.lock if isinstance(change, Replicate) else None) == ("; ".join(wanted) or None)
