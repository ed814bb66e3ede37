"""Two-phase commit as clients of a running proxy see it."""

import threading
import time

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, execute, query

pytestmark = pytest.mark.newest

TABLES = [{"name": "t", "placement": "hash", "key": ["id"]}]
ROWS = 300
DEFERRED = (
    "CREATE TABLE t (id int PRIMARY KEY, load int);"
    "CREATE TABLE loads (load int PRIMARY KEY); INSERT INTO loads VALUES (0);"
    "ALTER TABLE t ADD FOREIGN KEY (load) REFERENCES loads DEFERRABLE INITIALLY DEFERRED"
)
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"


def prepared(databases: Databases) -> list[tuple[str]]:
    return [row for dsn in databases.shards for row in query(dsn, PREPARED)]


def copy(connection: psycopg.Connection, load: int) -> None:
    with connection.cursor().copy("COPY t FROM STDIN") as stream:
        stream.write("".join(f"{load * ROWS + row}\t{load}\n" for row in range(ROWS)))


def counts(databases: Databases) -> dict[int, int]:
    """Rows of each load, on all shards together."""
    found: dict[int, int] = {}
    for rows in databases.rows("SELECT load, count(*) FROM t GROUP BY load"):
        for load, count in rows:
            found[load] = found.get(load, 0) + count
    return found


def test_copy_and_transactions(shard_databases: Databases, run_proxy: RunProxy) -> None:
    shard_databases.execute("CREATE TABLE t (id int PRIMARY KEY, load int)")
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        copy(connection, 0)
        with connection.transaction():
            copy(connection, 1)
            connection.execute("INSERT INTO t VALUES (100000, 2)")
        assert counts(shard_databases) == {0: ROWS, 1: ROWS, 2: 1}
        with pytest.raises(psycopg.errors.UniqueViolation):
            copy(connection, 1)
    assert prepared(shard_databases) == []
    assert proxy.stop() == 0
    # What all participants have confirmed has been forgotten, at the latest by a clean stop.
    assert shard_databases.rows("SELECT gid FROM shardproxy.decisions") == [[], [], []]


def test_a_failed_commit_says_nothing_besides_its_error(shard_databases: Databases, run_proxy: RunProxy) -> None:
    """One server rolls back by itself: there is no WARNING that no transaction is in progress."""
    shard_databases.execute(DEFERRED)
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        said: list[str | None] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
        copy(connection, 0)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            copy(connection, 1)
        assert said == []


def test_a_deferred_constraint(shard_databases: Databases, run_proxy: RunProxy) -> None:
    shard_databases.execute(DEFERRED)
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        copy(connection, 0)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            copy(connection, 1)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert counts(shard_databases) == {0: ROWS}
    assert prepared(shard_databases) == []


SLOW = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"""


def test_the_proxy_is_told_to_stop_in_a_commit(shard_databases: Databases, run_proxy: RunProxy) -> None:
    """The drain is over while shards prepare: the commit goes on to its end, and its client hears of it."""
    shard_databases.execute("CREATE TABLE t (id int PRIMARY KEY, load int)")
    execute(shard_databases.shards[2], SLOW)
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase", server={"drain_timeout": 0.0}))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("BEGIN")
        for number in range(10):
            connection.execute(f"INSERT INTO t VALUES ({number}, 0)")
        stopping = threading.Thread(target=lambda: proxy.stop() if _is_prepared(shard_databases) else None)
        stopping.start()
        said = connection.execute("COMMIT").statusmessage
        stopping.join()
    assert said == "COMMIT"
    assert counts(shard_databases) == {0: 10}
    assert prepared(shard_databases) == []


def _is_prepared(databases: Databases) -> bool:
    """Wait until something is; the commit has its own deadline."""
    deadline = time.monotonic() + 30
    while not (found := prepared(databases)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(found)


FAILING = """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()"""


@pytest.mark.parametrize("shard", range(3))
def test_settings_of_a_transaction_that_could_not_commit(
    shard_databases: Databases, run_proxy: RunProxy, shard: int
) -> None:
    """To PostgreSQL a PREPARE makes them last, whatever becomes of the transaction; a client's COMMIT has failed."""
    shard_databases.execute("CREATE TABLE t (id int PRIMARY KEY, load int); CREATE SCHEMA other")
    shard_databases.execute("CREATE TABLE other.t (LIKE t INCLUDING ALL)")
    execute(shard_databases.shards[shard], FAILING)
    proxy = run_proxy(shard_databases.config([*TABLES, {**TABLES[0], "name": "other.t"}], commit="two-phase"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("SET work_mem = '5MB'")
        connection.execute("BEGIN")
        for number in range(10):
            connection.execute(f"INSERT INTO t VALUES ({number}, 0)")
        connection.execute("SET search_path = other")
        connection.execute("SET work_mem = '6MB'")
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("COMMIT")
        kept = "SELECT current_setting('search_path'), current_setting('work_mem') FROM t"
        for dsn in shard_databases.shards:
            execute(dsn, "DROP TRIGGER IF EXISTS fail ON t")
        for number in range(10):
            connection.execute(f"INSERT INTO t VALUES ({number}, 0)")
        assert set(connection.execute(kept).fetchall()) == {('"$user", public', "5MB")}
        assert len(connection.execute(kept).fetchall()) == 10


def test_definitions_of_a_transaction_that_could_not_commit(shard_databases: Databases, run_proxy: RunProxy) -> None:
    """The session has seen the table without its first column; behind the failed COMMIT the column is there again."""
    shard_databases.execute(DEFERRED.replace("(id int PRIMARY KEY,", "(note int, id int PRIMARY KEY,"))
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase"))
    ids = range(100, 120)
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("ALTER TABLE t DROP COLUMN note")
        for number in range(10):
            connection.execute(f"INSERT INTO t VALUES ({number}, 1)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("COMMIT")
        for number in ids:
            connection.execute(f"INSERT INTO t VALUES ({number - 100}, {number}, 0)")
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        found = [connection.execute(f"SELECT note FROM t WHERE id = {number}").fetchall() for number in ids]
    assert found == [[(number - 100,)] for number in ids]


def test_the_proxy_is_killed(shard_databases: Databases, run_proxy: RunProxy) -> None:
    """SIGKILL under load, again and again: each load is there as a whole or not at all, and an answer is true."""
    shard_databases.execute("CREATE TABLE t (id int PRIMARY KEY, load int)")
    proxy = run_proxy(shard_databases.config(TABLES, commit="two-phase"))
    numbers = iter(range(1, 100_000))
    acknowledged: set[int] = set()
    tried: set[int] = set()
    lock = threading.Lock()
    ended = threading.Event()

    def client() -> None:
        while not ended.is_set():
            try:
                with psycopg.connect(proxy.dsn(), autocommit=True, connect_timeout=5) as connection:
                    while not ended.is_set():
                        with lock:
                            load = next(numbers)
                            tried.add(load)
                        copy(connection, load)
                        with lock:
                            acknowledged.add(load)
            except psycopg.OperationalError:
                time.sleep(0.02)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(5):
            time.sleep(0.7)
            proxy.kill()
            proxy.start()
            begun = time.monotonic()
            # Those of the killed process; what the clients have begun since is not in doubt.
            old = set(prepared(shard_databases))
            while old & set(prepared(shard_databases)):
                assert time.monotonic() - begun < 5
                time.sleep(0.05)
    finally:
        ended.set()
        for thread in clients:
            thread.join()
    found = counts(shard_databases)
    assert set(found) <= tried
    assert acknowledged <= set(found)
    assert {load: count for load, count in found.items() if count != ROWS} == {}
    assert len(acknowledged) > 10
    assert prepared(shard_databases) == []
