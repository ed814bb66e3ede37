"""What a session has on one shard alone: with the connection it is lost, and the session ends, as on one server."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute, query
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

pytestmark = pytest.mark.newest

TABLES: list[dict[str, object]] = [
    {"name": "t", "placement": "hash", "key": ["id"]},
    {"name": "ref", "placement": "reference"},
]


@dataclass
class Shop:
    """A proxy over three shards, and what ends backends there."""

    databases: Databases
    proxy: Proxy

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.proxy.dsn("shop"), autocommit=True)

    def end_backends(self, *, shard: int | None = None) -> None:
        """As an administrator does, or a restart; the proxy's own connections are left alone."""
        for number, dsn in enumerate(self.databases.shards):
            if shard is None or number == shard:
                ended = (
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                )
                query(dsn, f"{ended} AND pid <> pg_backend_pid() AND application_name NOT LIKE 'shardproxy%'")


@pytest.fixture
def shop(servers18: Servers, run_proxy: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers18, one_server=True)
    databases.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE ref (id int PRIMARY KEY, v text);"
        "CREATE SEQUENCE s; INSERT INTO ref SELECT n, 'x' FROM generate_series(1, 5) AS n;"
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';"
        "CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE FUNCTION mixed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE FUNCTION mixed(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
    )
    yield Shop(databases, run_proxy(databases.config(TABLES)))
    databases.drop()


HELD = {
    "an advisory lock": "SELECT pg_advisory_lock(7)",
    "an advisory lock that was tried": "SELECT pg_try_advisory_lock(7)",
    "LISTEN": "LISTEN news",
    "a temporary table": "CREATE TEMPORARY TABLE mine (n int)",
    "a table made by SELECT INTO": "SELECT 1 AS n INTO TEMPORARY mine",
    "a cursor WITH HOLD": "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM ref",
    "what a function may have left": "SELECT f(1)",
    "what one of its name may have left": "SELECT mixed(1)",
    "an advisory lock in an error": "SELECT pg_advisory_lock(7), 1 / (SELECT count(*) FROM ref WHERE id = 0)",
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_a_session_that_has_lost_something_ends(shop: Shop, held: str) -> None:
    """It reads the server's reason at once, before it asks for anything, as a client of one server does."""
    with RawClient(shop.proxy.dsn("shop")) as client:
        client.query(held)
        shop.end_backends()
        reply = client.read_to_end()
        assert reply.closed
        assert reply.error is not None
        assert (reply.error["S"], reply.error["C"]) == ("FATAL", "57P01")
        assert reply.error["M"] == "terminating connection due to administrator command"
        assert "has lost" in reply.error["D"]
    with psycopg.connect(shop.databases.oracle, autocommit=True) as oracle:
        oracle_client = RawClient(shop.databases.oracle)
        oracle_client.query(held)
        oracle.execute("SELECT pg_terminate_backend(%s)", (oracle_client.cancel_key[0],))
        expected = oracle_client.read_to_end().error
        oracle_client.close()
        assert expected is not None
        assert (expected["S"], expected["C"], expected["M"]) == ("FATAL", "57P01", reply.error["M"])


LET_GO = {
    "nothing": "SELECT v FROM ref",
    "a function of PostgreSQL's": "SELECT upper(v), now() FROM ref",
    "an immutable function": "SELECT pure(id), public.pure(1) FROM ref",
    "an immutable function of a key": "SELECT pure(id) FROM t WHERE id = 5",
    "a lock of a transaction": "SELECT pg_advisory_xact_lock(7)",
    "a sequence": "SELECT nextval('s')",
    "a setting": "SET work_mem = '5MB'",
    "a lock, let go": "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock_all()",
    "LISTEN, taken back": "LISTEN news; UNLISTEN *",
    "a cursor, closed": "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM ref; CLOSE c",
    "a row": "INSERT INTO t VALUES (1, 'x')",
}


@pytest.mark.parametrize("statements", LET_GO.values(), ids=LET_GO)
def test_a_session_that_has_lost_nothing_goes_on(shop: Shop, statements: str) -> None:
    with shop.connect() as connection:
        for statement in statements.split("; "):
            connection.execute(statement.encode())
        shop.end_backends()
        time.sleep(0.1)
        assert connection.execute("SELECT count(*) FROM ref").fetchone() == (5,)


@pytest.mark.parametrize(
    "statements",
    ["LISTEN news; BEGIN; UNLISTEN *; ROLLBACK", "CREATE TEMP TABLE mine (n int); BEGIN; DISCARD TEMP; ROLLBACK"],
)
def test_what_a_rollback_brings_back_is_held(shop: Shop, statements: str) -> None:
    with RawClient(shop.proxy.dsn("shop")) as client:
        for statement in statements.split("; "):
            assert client.query(statement).error is None
        shop.end_backends()
        reply = client.read_to_end()
        assert reply.error is not None
        assert "has lost" in reply.error["D"]


def test_a_prepared_statement_is_prepared_again(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("PREPARE p(int) AS SELECT v FROM ref WHERE id = $1")
        shop.end_backends()
        time.sleep(0.1)
        assert connection.execute("EXECUTE p(3)").fetchall() == [("x",)]


def test_after_discard_all_nothing_is_left_to_lose(shop: Shop) -> None:
    with shop.connect() as connection:
        for held in HELD.values():
            if "1 / (" not in held and "INTO" not in held:
                connection.execute(held.encode())
        connection.execute("DISCARD ALL")
        shop.end_backends()
        time.sleep(0.1)
        assert connection.execute("SELECT count(*) FROM ref").fetchone() == (5,)


def test_it_ends_for_the_shard_that_has_it_only(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("SELECT * FROM t")
        connection.execute("SELECT pg_advisory_lock(7)")
        shop.end_backends(shard=2)
        time.sleep(0.1)
        assert connection.execute("SELECT * FROM t").fetchall() == []
        shop.end_backends(shard=0)
        time.sleep(0.1)
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            connection.execute("SELECT 1")
        assert connection.closed


def test_an_idle_session_timeout_of_a_shard_is_told(shop: Shop) -> None:
    execute(shop.databases.shards[0], f"ALTER DATABASE {shop.databases.name}_s0 SET idle_session_timeout = '300ms'")
    with RawClient(shop.proxy.dsn("shop")) as holder, RawClient(shop.proxy.dsn("shop")) as other:
        holder.query("LISTEN news")
        other.query("SELECT * FROM t")  # its other connections stand
        error = holder.read_to_end().error
        assert error is not None
        assert (error["S"], error["C"]) == ("FATAL", "57P05")
        assert other.usable().rows == [[b"1"]]


def test_the_fast_lane_notes_a_lock_as_well(shop: Shop) -> None:
    with shop.connect() as first, shop.connect() as second:
        for connection in (first, first, first, second):
            connection.execute("SELECT pg_try_advisory_lock(%s::int8)", (7,), prepare=True)
        shop.end_backends()
        time.sleep(0.1)
        for connection in (first, second):
            with pytest.raises(psycopg.OperationalError, match="administrator command"):
                connection.execute("SELECT 1")


def test_a_session_in_a_transaction_ends_as_well(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(7)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1, 'x')")
        shop.end_backends()
        time.sleep(0.1)
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            connection.execute("COMMIT")
    assert shop.databases.rows("SELECT * FROM t") == [[], [], []]


# What has one owner.


def test_a_sequence_gives_a_value_once_whatever_becomes_of_connections(shop: Shop) -> None:
    """The session's other connections stand: none of them becomes the sequence's."""
    given: list[object] = []
    with shop.connect() as first, shop.connect() as second:
        for connection in (first, second) * 3:
            connection.execute("SELECT * FROM t")
            given += [value for (value,) in connection.execute("SELECT nextval('s')").fetchall()]
            shop.end_backends(shard=0)
            time.sleep(0.1)
    assert given == [1, 2, 3, 4, 5, 6]
    assert shop.databases.rows("SELECT last_value, is_called FROM s")[1:] == [[(1, False)], [(1, False)]]


@pytest.mark.parametrize("lost", [False, True], ids=["stands", "lost"])
def test_a_job_of_a_reference_table_goes_to_one_session(shop: Shop, lost: bool) -> None:
    job = "SELECT id FROM ref ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
    with shop.connect() as first, shop.connect() as second:
        for connection in (first, second):
            connection.execute("SELECT * FROM t")
            connection.execute("SELECT * FROM ref")
        if lost:
            shop.end_backends(shard=0)
            time.sleep(0.1)
        jobs = []
        for connection in (first, second):
            connection.execute("BEGIN")
            jobs += connection.execute(job.encode()).fetchall()
        assert jobs == [(1,), (2,)]


def test_rows_of_a_reference_table_are_not_locked_elsewhere(shop: Shop) -> None:
    """On the shard of another table's key they were locked for a session though another had locked them already."""
    joined = "SELECT ref.v FROM t JOIN ref USING (id) WHERE t.id = %s FOR UPDATE"
    with shop.connect() as one, shop.connect() as other:
        one.autocommit = False
        for key in range(1, 6):
            other.execute("INSERT INTO t VALUES (%s, 'y')", (key,))
            one.execute("SELECT v FROM ref WHERE id = %s FOR UPDATE", (key,))
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="FOR UPDATE of reference table"):
                other.execute(joined, (key,))
            assert other.execute(f"{joined} OF t".encode(), (key,)).fetchone() == ("x",)


def test_an_advisory_lock_has_one_owner(shop: Shop) -> None:
    with shop.connect() as first, shop.connect() as second:
        first.execute("SELECT * FROM t")
        shop.end_backends(shard=0)
        time.sleep(0.1)
        assert first.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (True,)
        assert second.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (False,)


# A function over several shards.


def test_what_a_function_writes_over_several_shards_is_undone_together(shop: Shop) -> None:
    """It raises for one row of one shard; on one server nothing would be left either."""
    shop.databases.execute(
        "CREATE TABLE log (id int); CREATE FUNCTION wr(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log VALUES (n); IF n = 7 THEN RAISE 'no' USING ERRCODE = 'P0001'; END IF; RETURN n; END $$"
    )
    with shop.connect() as connection:
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(30):
                copy.write_row((number, "x"))
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.RaiseException):
                connection.execute("SELECT wr(id) FROM t WHERE id >= %s", (0,), prepare=prepare)
            assert shop.databases.rows("SELECT count(*) FROM log") == [[(0,)]] * 3
        with (
            pytest.raises(psycopg.errors.RaiseException),
            connection.cursor().copy("COPY (SELECT wr(id) FROM t) TO STDOUT") as copy_out,
        ):
            list(copy_out)
        assert shop.databases.rows("SELECT count(*) FROM log") == [[(0,)]] * 3
        assert len(connection.execute("SELECT wr(id) FROM t WHERE id <> 7").fetchall()) == 29
        assert sum(rows[0][0] for rows in shop.databases.rows("SELECT count(*) FROM log")) == 29
