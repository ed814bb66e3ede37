"""DDL of sharded tables: what would leave rows on the wrong shard is refused, what changes is seen at once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from shardproxy.session.name_cache import KEEP
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient
from tests.support.twin import Twin


@pytest.mark.parametrize(
    "change",
    ["TYPE text", "TYPE bigint USING a + 1", "TYPE numeric", "TYPE public.bigint", "DROP"],
)
def test_the_key_of_a_sharded_table_is_not_rewritten(twin: Twin, change: str) -> None:
    """Rows would stay where they are, and be looked for elsewhere."""
    what = "DROP COLUMN a" if change == "DROP" else f"ALTER COLUMN a {change}"
    [reply] = twin.proxied(f"ALTER TABLE t ADD COLUMN more int, {what}")
    assert reply.errors[0]["C"] == "0A000"
    assert 'key column "a" of sharded table "public.t"' in reply.errors[0]["M"]


def test_an_integer_key_may_be_of_another_width(twin: Twin) -> None:
    """The integer types share their hash."""
    alter = "ALTER TABLE t ALTER COLUMN a TYPE"
    twin.compare("BEGIN", f"{alter} bigint", "SELECT * FROM t WHERE a = 5", f"{alter} smallint", "TABLE t", "ROLLBACK")


def test_a_table_without_its_key_can_be_altered_and_dropped(twin: Twin) -> None:
    """Through the proxy, that let it be made."""
    rename = "ALTER TABLE t RENAME COLUMN"
    reply, *_ = twin.proxied(f"{rename} a TO k", "SELECT * FROM t")[1:]
    assert reply.errors[0]["C"] == "42703"
    execute(twin.databases.oracle, f"{rename} a TO k")
    twin.compare("ANALYZE t", "COMMENT ON TABLE t IS 'x'", f"{rename} k TO a", "SELECT * FROM t WHERE a = 5")
    twin.compare("BEGIN", f"{rename} a TO k", "DROP TABLE t", "CREATE TABLE t (a int)", "TABLE t", "ROLLBACK")


@pytest.mark.parametrize("statement", ["SELECT * FROM t", "COPY t TO STDOUT", "COPY t TO STDOUT CSV HEADER"])
def test_rows_of_different_columns_are_not_mixed(twin: Twin, statement: str) -> None:
    """DDL on one shard alone: drivers cannot read rows that their description is not of."""
    execute(twin.databases.shards[1], "ALTER TABLE t ADD COLUMN more int")
    try:
        [reply] = twin.proxied(statement)
        assert (reply.errors[0]["C"], reply.errors[0]["M"]) == ("55000", "the shards give different columns")
        twin.compare("SELECT a, b FROM t", "COPY t (a, b) TO STDOUT")
    finally:
        execute(twin.databases.shards[1], "ALTER TABLE t DROP COLUMN more")
    twin.compare(statement)


def test_definitions_are_looked_up_again_when_they_are_committed(servers18: Servers, run_proxy: RunProxy) -> None:
    """A session that asked before the commit had kept the old order of the columns, and placed rows by the wrong."""
    databases = Databases.create(servers18, one_server=True)
    try:
        databases.execute("CREATE TABLE w (x int, a int)")
        proxy = run_proxy(databases.config([{"name": "w", "placement": "hash", "key": ["a"]}]))
        with RawClient(proxy.dsn()) as one, RawClient(proxy.dsn()) as other:
            for statement in ("BEGIN", "ALTER TABLE w DROP COLUMN x", "ALTER TABLE w ADD COLUMN x int"):
                assert one.query(statement).error is None
            assert other.query("UPDATE w SET x = 1").errors[0]["C"] == "0A000"
            assert one.query("COMMIT").tags == ["COMMIT"]
            for number in range(1, 9):
                assert other.query(f"INSERT INTO w VALUES ({number}, {number + 1})").error is None
                assert other.query(f"SELECT x FROM w WHERE a = {number}").rows == [[str(number + 1).encode()]]
    finally:
        databases.drop()


def test_a_table_that_another_proxy_has_made_is_found_at_once(servers18: Servers, run_proxy: RunProxy) -> None:
    """That it does not exist was remembered for a second, in which rows came to the home shard alone."""
    databases = Databases.create(servers18, one_server=True)
    try:
        tables: list[dict[str, object]] = [
            {"name": "ref", "placement": "reference"},
            {"name": "t", "placement": "hash", "key": ["a"]},
        ]
        one, other = (run_proxy(databases.config(tables)) for _ in range(2))
        with RawClient(one.dsn()) as makes, RawClient(other.dsn()) as writes:
            for table in ("ref", "t"):
                assert writes.query(f"TABLE {table}").errors[0]["C"] == "42P01"
                assert makes.query(f"CREATE TABLE {table} (a int PRIMARY KEY)").error is None
                for key in range(1, 9):
                    assert writes.query(f"INSERT INTO {table} VALUES ({key})").error is None
            assert databases.rows("SELECT count(*) FROM ref") == [[(8,)]] * 3
            assert sum(count > 0 for [(count,)] in databases.rows("SELECT count(*) FROM t")) > 1
            assert all(writes.query(f"SELECT a FROM t WHERE a = {key}").rows for key in range(1, 9))
    finally:
        databases.drop()


Pair = tuple[Databases, Proxy, Proxy]
"""Two proxies over the same shards."""


@pytest.fixture(scope="module")
def pair(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Pair]:
    databases = Databases.create(servers18, one_server=True)
    tables: list[dict[str, object]] = [{"name": name, "placement": "reference"} for name in ("ref", "made")]
    config = databases.config([*tables, {"name": "spread", "placement": "hash", "key": ["a"]}])
    yield databases, run_proxy_for_module(config), run_proxy_for_module(config)
    databases.drop()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one proxy", "two proxies"])
@pytest.mark.parametrize(
    ("change", "write", "overtaken"),
    [
        ("ALTER b SET DEFAULT random()::text", "INSERT INTO ref (a) VALUES (1001)", True),
        ("ADD c float, ALTER c SET DEFAULT random()", "INSERT INTO ref (a, b) VALUES (1001, 'x')", True),
        ("ADD c text DEFAULT 'y'", "INSERT INTO ref (a, b) VALUES (1001, now()::text)", True),
        ("ALTER b SET DEFAULT 'y'", "INSERT INTO ref (a) VALUES (1001)", False),
        ("ADD c int", "INSERT INTO ref (a, b) VALUES (1001, 'x')", False),
    ],
)
def test_a_write_that_has_waited_for_ddl_leaves_copies_equal(
    pair: Pair, change: str, write: str, *, overtaken: bool, elsewhere: bool
) -> None:
    """It had been planned by the old definition: each shard computed the new default for itself."""
    databases, one, other = pair
    with (
        psycopg.connect(one.dsn()) as ddl,
        psycopg.connect((other if elsewhere else one).dsn(), autocommit=True) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        ddl.execute("DROP TABLE IF EXISTS ref; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        ddl.commit()
        time.sleep(KEEP if elsewhere else 0)
        writer.execute(write.replace("1001", "1000").encode())
        ddl.execute(f"ALTER TABLE ref {change}".encode())
        writing = pool.submit(writer.execute, write.encode())
        time.sleep(0.3)
        ddl.commit()
        if overtaken:
            with pytest.raises(psycopg.errors.SerializationFailure, match="change of a definition"):
                writing.result()
            writer.execute(write.encode())
        else:
            writing.result()
    rows = databases.rows("SELECT to_jsonb(ref) FROM ref ORDER BY a")
    assert rows == [rows[0]] * 3
    assert len(rows[0]) == 2


OLDER = [
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.b = random(); RETURN NEW; END'; "
        "CREATE TRIGGER f BEFORE INSERT OR UPDATE ON ref FOR EACH ROW EXECUTE FUNCTION f()",
        "UPDATE ref SET b = 'x' WHERE a = 1",
    ),
    ("ALTER TABLE ref ALTER b SET DEFAULT random()::text", "INSERT INTO ref (a) VALUES (2)"),
    ("ALTER TABLE ref ALTER b SET DEFAULT random()::text", "COPY ref (a) FROM STDIN"),
    ("ALTER TABLE spread ALTER a SET DEFAULT 7", "INSERT INTO spread (b) VALUES (1)"),
]


@pytest.mark.parametrize(("change", "write"), OLDER)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_write_in_a_snapshot_from_before_ddl(pair: Pair, change: str, write: str, level: str) -> None:
    """It saw the old trigger, default or key in the catalogs, and so did other sessions after it."""
    databases, proxy, _ = pair

    def run(connection: psycopg.Connection) -> None:
        with connection.cursor() as cursor:
            if write.startswith("COPY"):
                with cursor.copy(write.encode()) as copy:
                    copy.write(b"2\n")
            else:
                cursor.execute(write.encode())

    with psycopg.connect(proxy.dsn(), autocommit=True) as ddl, psycopg.connect(proxy.dsn()) as old:
        ddl.execute("DROP TABLE IF EXISTS ref, made; DROP FUNCTION IF EXISTS f; DROP TABLE IF EXISTS spread")
        ddl.execute("CREATE TABLE ref (a int PRIMARY KEY, b text); CREATE TABLE made (LIKE ref INCLUDING ALL)")
        ddl.execute("CREATE TABLE spread (a int, b int)")
        ddl.execute("INSERT INTO ref VALUES (1, 'x')")
        old.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        old.execute("SELECT * FROM made")
        ddl.execute("CREATE TEMP TABLE IF NOT EXISTS own (a int)")
        ddl.execute("ALTER TABLE own ADD b int")
        ddl.execute("DROP TABLE own")
        old.execute("INSERT INTO made VALUES (3, 'x')")
        ddl.execute(change.encode())
        with pytest.raises(psycopg.errors.SerializationFailure, match="change of a definition"):
            run(old)
        old.rollback()
        run(ddl)
    rows = databases.rows("SELECT to_jsonb(ref) FROM ref ORDER BY a")
    assert rows == [rows[0]] * 3


def test_reads_go_on_in_a_snapshot_from_before_ddl_and_so_do_writes_after_ddl_of_its_own(pair: Pair) -> None:
    databases, proxy, _ = pair
    with psycopg.connect(proxy.dsn(), autocommit=True) as ddl, psycopg.connect(proxy.dsn()) as old:
        ddl.execute("DROP TABLE IF EXISTS ref, made; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        ddl.execute("CREATE TABLE made (LIKE ref INCLUDING ALL)")
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT * FROM made")
        ddl.execute("ALTER TABLE ref ALTER b SET DEFAULT 'x'")
        assert old.execute("SELECT * FROM ref").fetchall() == []
        old.rollback()
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT * FROM ref")
        old.execute("ALTER TABLE ref ALTER b SET DEFAULT random()::text")
        old.execute("INSERT INTO ref (a) VALUES (1)")
        old.commit()
    rows = databases.rows("SELECT to_jsonb(ref) FROM ref ORDER BY a")
    assert rows == [rows[0]] * 3
    assert len(rows[0]) == 1


def test_a_name_that_the_user_has_overloaded_is_not_postgresqls_alone(pair: Pair) -> None:
    """Each shard computed it for itself, as if it were the function of PostgreSQL's."""
    databases, proxy, _ = pair
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ref; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        connection.execute("INSERT INTO ref VALUES (1, upper('x'))")
        connection.execute("CREATE FUNCTION upper(int) RETURNS text LANGUAGE sql AS 'SELECT random()::text'")
        connection.execute("INSERT INTO ref VALUES (2, upper(5))")
        connection.execute("UPDATE ref SET b = upper(6) WHERE a = 1")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function upper\(\)"):
            connection.execute("CREATE TABLE made AS SELECT upper(5) FROM ref")
        connection.execute("ALTER TABLE ref ADD c text DEFAULT upper(5), ALTER b TYPE text USING upper(a)")
        connection.execute("ALTER TABLE ref DROP c; DROP FUNCTION upper(int)")
        connection.execute("INSERT INTO ref VALUES (3, upper('y'))")
    rows = databases.rows("SELECT * FROM ref ORDER BY a")
    assert rows == [rows[0]] * 3
    assert rows[0][2] == (3, "Y")


def test_an_overload_that_did_not_pass_through_the_proxy(pair: Pair) -> None:
    """It was noticed at the next change of a definition only."""
    databases, proxy, other = pair
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection, psycopg.connect(other.dsn()) as elsewhere:
        connection.execute("DROP TABLE IF EXISTS ref; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        connection.execute("INSERT INTO ref VALUES (1, lower('X'))")
        elsewhere.execute("CREATE FUNCTION lower(int) RETURNS text LANGUAGE sql AS 'SELECT random()::text'")
        elsewhere.commit()
        time.sleep(KEEP * 1.1)
        connection.execute("INSERT INTO ref VALUES (2, lower(5))")
        connection.execute("DROP FUNCTION lower(int)")
    rows = databases.rows("SELECT * FROM ref ORDER BY a")
    assert rows == [rows[0]] * 3


def test_create_table_as_that_has_waited_for_ddl(pair: Pair) -> None:
    """Each shard computed for itself what had been PostgreSQL's own function when it was planned."""
    databases, one, other = pair
    with (
        psycopg.connect(one.dsn()) as ddl,
        psycopg.connect(other.dsn(), autocommit=True) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        ddl.execute("DROP TABLE IF EXISTS ref, made; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        ddl.execute("INSERT INTO ref VALUES (1, 'x')")
        ddl.commit()
        time.sleep(KEEP)
        ddl.execute("ALTER TABLE ref ADD c int")
        ddl.execute("CREATE FUNCTION abs(text) RETURNS text LANGUAGE sql AS 'SELECT random()::text'")
        create = "CREATE TABLE made AS SELECT a, abs('1') FROM ref"
        writing = pool.submit(writer.execute, create)
        deadline = time.monotonic() + 10
        while not databases.oracle_rows("SELECT FROM pg_locks WHERE NOT granted"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        ddl.commit()
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function abs\(\)"):
            writing.result()
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function abs\(\)"):
            writer.execute("CREATE TABLE made2 AS SELECT abs('1') FROM ref")
        writer.execute("DROP FUNCTION abs(text)")


@pytest.mark.parametrize(
    "query",
    [
        "TABLE v",
        "SELECT a, random(), now(), gen_random_uuid() AS id FROM ref",
        "SELECT a, b FROM ref ORDER BY random() LIMIT 2",
        "SELECT a, nextval('numbers'), clock_timestamp() - now() AS took FROM ref WHERE a < 3",
    ],
)
def test_create_table_as_of_what_each_shard_computes(views: Proxy, pair: Pair, query: str) -> None:
    databases, *_ = pair
    with psycopg.connect(views.dsn(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS made")
        assert connection.execute(f"CREATE TABLE made AS {query}".encode()).statusmessage in {"SELECT 5", "SELECT 2"}
        connection.execute("CREATE TABLE IF NOT EXISTS made AS SELECT 1")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("CREATE MATERIALIZED VIEW seen AS SELECT random() FROM ref")
        connection.execute("CREATE MATERIALIZED VIEW seen AS SELECT random() FROM ref WITH NO DATA")
        connection.execute("DROP MATERIALIZED VIEW seen; INSERT INTO made SELECT * FROM made")
    rows = databases.rows("SELECT to_jsonb(made) FROM made ORDER BY 1")
    assert rows == [rows[0]] * 3
    assert len(rows[0]) in {4, 10}


@pytest.fixture(scope="module")
def views(pair: Pair, run_proxy_for_module: RunProxy) -> Proxy:
    databases, *_ = pair
    proxy = run_proxy_for_module(databases.config([], unlisted_tables="reference"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ref, made CASCADE; CREATE TABLE ref (a int PRIMARY KEY, b text)")
        connection.execute("INSERT INTO ref SELECT generate_series(1, 5), 'x'")
        connection.execute("CREATE VIEW v AS SELECT a, random() FROM ref; CREATE SEQUENCE numbers")
    return proxy
