"""A COPY of a few rows of one shard, with one-phase commit: guard, COPY and rows are a transaction of their own.

There is no COMMIT whose answer could be foreseen, so what could be found after it has to fail on the shard, in front of
the COPY.
"""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers, execute
from tests.support.rawclient import Protocol, RawClient, Reply
from tests.support.twin import Twin

COPY = "COPY t FROM STDIN"
DDL = """
    CREATE TABLE t (x int, a int, CONSTRAINT once UNIQUE (a, x) DEFERRABLE INITIALLY DEFERRED, CHECK (x < 1000));
    CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
"""
PATIENCE = 20.0
PROTOCOLS: list[Protocol] = ["simple", "extended", "pipelined", "pipelined, extended"]


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, commit="one-phase") as twin:
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.databases.execute("DROP TABLE IF EXISTS t; DROP FUNCTION IF EXISTS drop_row(); " + DDL)
    return module_twin


@pytest.fixture
def client(twin: Twin) -> Iterator[RawClient]:
    """A session that has run the COPY."""
    with RawClient(twin.dsn) as client:
        assert client.copy(COPY, b"").tags == ["COPY 0"]
        yield client


def stored(twin: Twin) -> list[tuple[int, int]]:
    return sorted(row for rows in twin.databases.rows("SELECT x, a FROM t") for row in rows)


def beginnings(twin: Twin) -> set[str]:
    """The words with which the last requests of the shards' sessions begin."""
    sql = "SELECT substring(query FROM '[A-Z]+') FROM pg_stat_activity WHERE query LIKE '%COPY t FROM STDIN'"
    return {word for (word,) in twin.databases.oracle_rows(sql)}


def test_there_is_no_begin_and_no_commit(twin: Twin, client: RawClient) -> None:
    assert client.copy(COPY, b"1\t2\n").tags == ["COPY 1"]
    assert beginnings(twin) == {"LOCK"}
    client.query("BEGIN")
    for key in range(1, 9):
        assert client.copy(COPY, b"1\t%d\n" % key).tags == ["COPY 1"]
    assert "LOCK" not in beginnings(twin)
    assert client.query("ROLLBACK").status == "I"
    assert stored(twin) == [(1, 2)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ddl_outside_the_proxy(twin: Twin, client: RawClient, protocol: Protocol) -> None:
    """What a row of before would have had in another column is not stored: the COPY begins anew."""
    twin.databases.execute("ALTER TABLE t DROP x; ALTER TABLE t ADD x int", oracle=False)
    for key in range(1, 9):
        assert client.copy(COPY, b"%d\t7\n" % key, protocol=protocol).tags == ["COPY 1"]
    assert stored(twin) == [(7, key) for key in range(1, 9)]
    with psycopg.connect(twin.dsn) as other:
        assert all(other.execute("SELECT x FROM t WHERE a = %s", (key,)).fetchall() == [(7,)] for key in range(1, 9))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("data", "sqlstate"), [(b"1\t2\nx\t2\n", "22P02"), (b"1\t2\n1\t2\n", "23505"), (b"1000\t2\n", "23514")]
)
def test_what_is_refused(twin: Twin, client: RawClient, data: bytes, sqlstate: str, protocol: Protocol) -> None:
    """A row, or the end: nothing is stored, and the session goes on."""
    with RawClient(twin.databases.oracle) as oracle:
        expected = oracle.copy(COPY, data, protocol=protocol)
    reply = client.copy(COPY, data, protocol=protocol)
    assert (reply.error or {})["C"] == (expected.error or {})["C"] == sqlstate
    assert (reply.status, reply.tags) == (expected.status, expected.tags)
    assert stored(twin) == []
    assert client.copy(COPY, b"1\t2\n", protocol=protocol).tags == ["COPY 1"]
    assert stored(twin) == [(1, 2)]


def test_a_trigger_that_drops_rows(twin: Twin, client: RawClient) -> None:
    twin.databases.execute(
        "CREATE TRIGGER z BEFORE INSERT ON t FOR EACH ROW WHEN (new.x > 5) EXECUTE FUNCTION drop_row()"
    )
    assert client.copy(COPY, b"1\t2\n").tags == ["COPY 1"]
    assert client.copy(COPY, b"6\t2\n5\t2\n7\t2\n").tags == ["COPY 1"]
    assert stored(twin) == [(1, 2), (5, 2)]


def test_settings_of_transactions_hold(twin: Twin, client: RawClient) -> None:
    client.query("SET default_transaction_read_only = on")
    assert (client.copy(COPY, b"1\t2\n").error or {})["C"] == "25006"
    client.query("SET default_transaction_read_only = off")
    assert client.copy(COPY, b"1\t2\n").tags == ["COPY 1"]
    assert client.query("BEGIN READ ONLY").status == "T"
    assert (client.copy(COPY, b"1\t2\n").error or {})["C"] == "25006"
    assert client.query("ROLLBACK").status == "I"
    assert stored(twin) == [(1, 2)]


def test_a_shard_that_ends_it_has_rolled_it_back(twin: Twin, client: RawClient) -> None:
    """It has said FATAL. A connection that is lost without a word leaves its client in doubt: test_copy_held.py."""
    replies: list[Reply] = []
    [shard] = [one for one in twin.databases.shards if client.copy(COPY, b"1\t2\n").tags and found(one)]
    with psycopg.connect(shard) as blocker:
        blocker.execute("LOCK TABLE t")
        thread = threading.Thread(target=lambda: replies.append(client.copy(COPY, b"2\t2\n")))
        thread.start()
        end_what_waits(twin)
        thread.join(PATIENCE)
    assert [reply.error["C"] for reply in replies if reply.error] == ["08006"]
    assert client.copy(COPY, b"3\t2\n").tags == ["COPY 1"]
    assert (2, 2) not in stored(twin)


def found(shard: str) -> bool:
    with psycopg.connect(shard) as connection:
        return bool(connection.execute("SELECT FROM t").fetchall())


def end_what_waits(twin: Twin) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (pids := twin.databases.oracle_rows("SELECT pid FROM pg_locks WHERE NOT granted")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for (pid,) in pids:
        execute(twin.databases.oracle, f"SELECT pg_terminate_backend({pid})")
