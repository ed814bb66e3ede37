"""Memory stays flat whoever is slow: a client that does not read, a shard that does not take."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from shardproxy.wire import encode
from shardproxy.wire.constants import B
from tests.conftest import RunProxy
from tests.support.databases import Servers, query
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient
from tests.support.twin import ROWS, Twin

MIB = 1 << 20
ALLOWANCE = 32 * MIB  # high-water marks of client and shards, and the allocator's ease
PATIENCE = 30.0  # seconds


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module) as twin:
        twin.databases.execute("""
            CREATE TABLE big (a int, b text);
            INSERT INTO big SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g;
            CREATE FUNCTION chatter() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE NOTICE '% %', NEW.a, repeat('x', 1000); RETURN NEW; END $$;
        """)
        twin.fill()
        yield twin


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def peak(proxy: Proxy, seconds: float) -> int:
    """The most memory that the proxy has in the next seconds."""
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, proxy.rss())
        time.sleep(0.02)
    return most


def takes(client: RawClient, data: bytes) -> bool:
    """Send; whether all went through within a second."""
    client._socket.settimeout(1.0)
    try:
        client.send(data)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "start",
    [
        encode.query(b"SELECT a, repeat(b, 2000000) FROM t"),
        encode.query(b"COPY (SELECT a, repeat(b, 2000000) FROM t) TO STDOUT"),
        encode.parse(b"", b"SELECT a, repeat(b, 2000000) FROM t")
        + encode.bind(b"", b"", (), (), ())
        + encode.describe(b"P", b"")
        + encode.execute(b"")
        + encode.SYNC,
    ],
    ids=["SELECT", "COPY TO", "extended"],
)
def test_a_client_that_does_not_read_holds_the_shards_back(twin: Twin, start: bytes) -> None:
    """60 rows of 10 MB each come from three shards."""
    before = twin.proxy.rss()
    with RawClient(twin.dsn) as client:
        client.send(start)
        eventually(lambda: twin.working("active") == 3)
        # A row is carried whole only by its shard; what is read of it is passed on at once.
        assert peak(twin.proxy, 1.0) - before < 4 * ALLOWANCE
        assert twin.working("active") == 3
        received = 0
        for _ in range(30):
            message = client.read()
            assert message is not None
            received += len(message.payload)
        assert received > 100 * MIB
        assert peak(twin.proxy, 0.3) - before < 4 * ALLOWANCE
    eventually(lambda: twin.working() == 0)


@pytest.mark.parametrize("statement", ["SELECT * FROM t WHERE b <> ''", "COPY t TO STDOUT", "COPY t TO STDOUT BINARY"])
def test_a_large_last_row_leaves_no_shard_paused(twin: Twin, statement: str) -> None:
    """The client had fallen behind when two of three shards had ended: they were paused, and never went on."""
    large = "SELECT repeat('x', 20000000)"
    try:
        with RawClient(twin.dsn) as client:
            client.query(f"UPDATE t SET b = ({large}) WHERE a = 5")
            for _ in range(3):
                assert client.query(statement).tags[0].endswith(f" {ROWS}")
        twin.compare("SELECT a FROM t")
    finally:
        twin.fill()


def test_a_flood_of_notices_waits_for_its_client(twin: Twin) -> None:
    """The client sends rows and never looks at the notices that they raise, as one that is busy sending."""
    twin.databases.execute("CREATE TRIGGER chatter BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION chatter()")
    before = twin.proxy.rss()
    client = RawClient(twin.dsn)
    try:
        client.send(encode.query(b"COPY t FROM STDIN"))
        message = client.read()
        assert message is not None
        assert message.type == B.COPY_IN_RESPONSE
        most = 0
        for start in range(100_000, 300_000, 500):
            most = max(most, twin.proxy.rss())
            rows = (b"%d\t%s\n" % (key, b"x" * 1000) for key in range(start, start + 500))
            if not takes(client, b"".join(map(encode.copy_data, rows))):
                break
        else:
            pytest.fail("the client was never paused")
        assert most - before < ALLOWANCE
    finally:
        client.close()
        eventually(lambda: twin.working() == 0)
        twin.databases.execute("DROP TRIGGER chatter ON t")


def test_a_stalled_shard_pauses_the_copy_and_nobody_else(servers18: Servers, run_proxy: RunProxy) -> None:
    with Twin.open(servers18, run_proxy) as twin:
        _stall(twin)


def _stall(twin: Twin) -> None:
    client = RawClient(twin.dsn)
    client.send(encode.query(b"COPY t FROM STDIN"))
    assert client.read() is not None
    client.send(encode.copy_data(b"1\tx\n2\tx\n3\tx\n4\tx\n5\tx\n6\tx\n"))
    pid = copying(twin, 1)
    os.kill(pid, signal.SIGSTOP)
    try:
        before = twin.proxy.rss()
        for start in range(1000, 201_000, 1000):
            rows = (b"%d\t%s\n" % (key, b"x" * 1000) for key in range(start, start + 1000))
            if not takes(client, b"".join(map(encode.copy_data, rows))):
                break
        else:
            pytest.fail("the client was never paused")
        assert peak(twin.proxy, 0.5) - before < ALLOWANCE
        with psycopg.connect(twin.dsn, autocommit=True) as other:
            other.execute("INSERT INTO one VALUES (1, 'x')")
            assert other.execute("SELECT a FROM one").fetchall() == [(1,)]
    finally:
        os.kill(pid, signal.SIGCONT)
    # The send that timed out went half through: the stream is broken off, and must leave nothing.
    client.close()
    eventually(lambda: twin.working() == 0)
    assert twin.databases.rows("SELECT a FROM t") == [[], [], []]


def test_a_stalled_shard_goes_on(twin: Twin) -> None:
    """The client, paused for a while, brings its COPY to the end."""
    with psycopg.connect(twin.dsn) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            copy.write("".join(f"{key}\tx\n" for key in range(1001, 1100)))
            pid = copying(twin, 2)
            os.kill(pid, signal.SIGSTOP)
            timer = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
            timer.start()
            begun = time.monotonic()
            for start in range(2000, 102_000, 1000):
                copy.write("".join(f"{key}\t{'x' * 300}\n" for key in range(start, start + 1000)))
        timer.join()
        assert time.monotonic() - begun > 1.0
        assert cursor.execute("SELECT a FROM t WHERE a = 101999").fetchall() == [(101_999,)]
        assert len(cursor.execute("SELECT a FROM t").fetchall()) == 60 + 99 + 100_000
        connection.rollback()


def test_a_copy_that_has_ended_leaves_nothing_behind(twin: Twin) -> None:
    """With the key last a row is held whole; neither the error nor the idle session keeps it, collected or not."""
    before = twin.proxy.rss()
    with RawClient(twin.dsn) as client:
        for end in (b"\tx\n", b"\n", b"\t7000\n"):
            reply = client.copy("COPY t (b, a) FROM STDIN", b"x" * (2 * ALLOWANCE) + end)
            assert (reply.tags == ["COPY 1"]) == (end == b"\t7000\n")
            assert twin.proxy.rss() - before < ALLOWANCE
        assert client.query("DELETE FROM t WHERE a = 7000").tags == ["DELETE 1"]


def copying(twin: Twin, shard: int) -> int:
    """The backend that a shard runs a COPY in."""
    found: list[tuple[int]] = []

    def look() -> bool:
        found[:] = query(
            twin.databases.oracle,
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%COPY t %'"
            f" AND datname = '{twin.databases.name}_s{shard}'",
        )
        return bool(found)

    eventually(look)
    return found[0][0]


def test_a_client_that_vanishes_while_a_shard_is_stalled(twin: Twin) -> None:
    """Nobody waits for the stalled shard: what the others hold is given up."""
    client = RawClient(twin.dsn)
    client.send(encode.query(b"COPY t FROM STDIN"))
    assert client.read() is not None
    client.send(encode.copy_data(b"".join(b"%d\tx\n" % key for key in range(1001, 1100))))
    pid = copying(twin, 1)
    os.kill(pid, signal.SIGSTOP)
    try:
        client.close()
        eventually(lambda: twin.working() <= 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: twin.working() == 0)
    assert twin.rows()[0] == twin.rows()[1]
