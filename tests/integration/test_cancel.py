"""Statements that are cancelled, clients that vanish, and a proxy that is told to stop or to read its file again."""

import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.rawclient import RawClient
from tests.support.twin import TABLES, Twin

PATIENCE = 20.0  # seconds

SLOW = {
    "SELECT of several shards": "SELECT a, pg_sleep(60) FROM t",
    "SELECT of one shard": "SELECT a, pg_sleep(60) FROM t WHERE a = 1",
    "SELECT of no table": "SELECT pg_sleep(60)",
    "change": "UPDATE t SET b = pg_sleep(60)::text WHERE a = 1",
    "COPY TO": "COPY (SELECT a, pg_sleep(60) FROM t) TO STDOUT",
    "DDL on all shards": "ALTER TABLE t ADD CHECK (slow(a) > 0)",
    "several statements": "SELECT 1; SELECT pg_sleep(60); SELECT 2",
}


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, unlisted_tables="s0") as twin:
        twin.fill()
        slow = "CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length(pg_sleep(60)::text)'"
        twin.databases.execute(slow)
        yield twin


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def cancel_when_it_runs(twin: Twin, connection: psycopg.Connection[tuple[object, ...]]) -> threading.Thread:
    def cancel() -> None:
        eventually(lambda: twin.sleeping() > 0)
        connection.cancel_safe(timeout=PATIENCE)

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("sql", SLOW.values(), ids=SLOW.keys())
def test_a_running_statement_is_cancelled(twin: Twin, sql: str, extended: bool) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        thread = cancel_when_it_runs(twin, connection)
        begun = time.monotonic()
        statement = sql.split(";")[1] if extended and ";" in sql else sql
        with pytest.raises(psycopg.errors.QueryCanceled) as cancelled:
            _read(connection, statement, extended)
        thread.join()
        assert cancelled.value.diag.message_primary == "canceling statement due to user request"
        assert time.monotonic() - begun < PATIENCE
        assert twin.working() == 0
        assert len(connection.execute("SELECT a FROM t").fetchall()) == 60


def _read(connection: psycopg.Connection[tuple[object, ...]], sql: str, extended: bool) -> None:
    cursor = psycopg.RawCursor(connection) if extended else connection.cursor()
    if sql.startswith("COPY"):
        with cursor.copy(sql.encode()) as copy:
            list(copy)
    else:
        cursor.execute(sql.encode(), [] if extended else None)


def test_in_a_transaction_it_fails(twin: Twin) -> None:
    with psycopg.connect(twin.dsn) as connection:
        connection.execute("INSERT INTO ref VALUES (3001, 'x')")
        thread = cancel_when_it_runs(twin, connection)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT a, pg_sleep(60) FROM t")
        thread.join()
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1 FROM ref WHERE a = 3001").fetchall() == []


def test_copy_from_is_cancelled(twin: Twin) -> None:
    """As in PostgreSQL a COPY that waits for its client takes the cancel with the next data."""
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            _write_and_cancel(connection)
        assert len(connection.execute("SELECT a FROM t").fetchall()) == 60
    assert twin.rows()[0] == twin.rows()[1]
    eventually(lambda: twin.working() == 0)


def _write_and_cancel(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("5001\tx\n5002\tx\n5003\tx\n5004\tx\n")
        time.sleep(0.2)
        connection.cancel_safe(timeout=PATIENCE)
        for key in range(5005, 400_000):
            copy.write(f"{key}\tx\n")


def test_only_the_right_key_cancels(twin: Twin) -> None:
    with RawClient(twin.dsn) as client:
        pid, key = _key(twin)
        for wrong in (bytes(4), bytes(32), key[:3], key + b"\0"):
            _cancel(twin, pid, wrong)
        _cancel(twin, pid + 1, key)
        _cancel(twin, -1, key)
        assert client.query("SELECT pg_sleep(0.3)").tags == ["SELECT 1"]


def _key(twin: Twin) -> tuple[int, bytes]:
    """Log in by hand, for RawClient keeps no key; return it with the connection gone."""
    with socket.create_connection((twin.proxy.host, twin.proxy.port), PATIENCE) as plain:
        plain.sendall(encode.startup_message({"user": "postgres", "database": "shop"}))
        data = b""
        while b"K\0\0\0\x0c" not in data:
            data += plain.recv(65536)
        at = data.index(b"K\0\0\0\x0c")
        return decode.backend_key_data(data[at + 5 : at + 13])


def _cancel(twin: Twin, pid: int, key: bytes) -> None:
    with socket.create_connection((twin.proxy.host, twin.proxy.port), PATIENCE) as plain:
        plain.sendall(encode.cancel_request(pid, key))
        assert plain.recv(100) == b""


def test_a_late_cancel_does_not_hit_the_next_statement(twin: Twin) -> None:
    """The statement ends while the cancel is on its way to the shards: it must hit it, or nothing."""
    chance = random.Random(7)
    outcomes = {True: 0, False: 0}
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        for _ in range(60):
            timer = threading.Timer(chance.uniform(0, 0.03), connection.cancel_safe, kwargs={"timeout": PATIENCE})
            timer.start()
            try:
                connection.execute("SELECT a, pg_sleep(0.0005) FROM t")
                outcomes[False] += 1
            except psycopg.errors.QueryCanceled:
                outcomes[True] += 1
            timer.join()
            assert len(connection.execute("SELECT a FROM t").fetchall()) == 60
    assert outcomes[True]
    assert outcomes[False]


# Clients that vanish.


def _hang_up(client: RawClient, how: str) -> None:
    if how == "reset":
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sql", SLOW.values(), ids=SLOW.keys())
def test_the_work_of_a_vanished_client_is_cancelled(twin: Twin, sql: str, how: str) -> None:
    before = twin.connected()
    client = RawClient(twin.dsn)
    client.send(encode.query(sql.encode()))
    eventually(lambda: twin.working() > 0)
    _hang_up(client, how)
    eventually(lambda: twin.working() == 0 and twin.connected() <= before)


@pytest.mark.parametrize("sql", ["COPY (SELECT repeat('x', 1000) FROM t, generate_series(1, 200000)) TO STDOUT"])
def test_a_client_vanishes_from_a_copy_that_it_does_not_read(twin: Twin, sql: str) -> None:
    client = RawClient(twin.dsn)
    client.send(encode.query(sql.replace("t, gen", "one, gen").encode()))
    assert client.read() is not None
    eventually(lambda: twin.working() > 0)
    time.sleep(0.2)
    _hang_up(client, "close")
    eventually(lambda: twin.working() == 0)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("block", [False, True], ids=["alone", "in a block"])
def test_a_client_vanishes_from_a_copy_in(twin: Twin, how: str, block: bool) -> None:
    before = twin.connected()
    client = RawClient(twin.dsn)
    if block:
        client.query("BEGIN")
        client.query("INSERT INTO ref VALUES (4001, 'x')")
    client.send(encode.query(b"COPY t FROM STDIN"))
    message = client.read()
    assert message is not None
    assert message.type == B.COPY_IN_RESPONSE
    client.send(b"".join(encode.copy_data(b"%d\tx\n" % key) for key in range(6000, 7000)) + b"d\0\0")
    _hang_up(client, how)
    eventually(lambda: twin.working() == 0 and twin.connected() <= before)
    assert twin.rows()[0] == twin.rows()[1]
    assert twin.databases.rows("SELECT 1 FROM ref WHERE a = 4001") == [[]] * 3


def test_terminate_in_a_transaction_rolls_back(twin: Twin) -> None:
    client = RawClient(twin.dsn)
    client.query("BEGIN")
    for key in range(8001, 8010):
        client.query(f"INSERT INTO t VALUES ({key})")
    client.send(encode.TERMINATE)
    assert client.read() is None
    client.close()
    eventually(lambda: twin.working() == 0)
    assert twin.rows()[0] == twin.rows()[1]


# The proxy's own end, and its configuration read anew.


@pytest.fixture
def databases(servers18: Servers) -> Iterator[Databases]:
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE t (a int, b text); CREATE TABLE one (a int)")
    yield databases
    databases.drop()


def test_sigterm_drains(databases: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(databases.config(TABLES[:1]))
    idle = RawClient(proxy.dsn())
    busy = RawClient(proxy.dsn())
    running = RawClient(proxy.dsn())
    busy.query("BEGIN")
    for key in range(1, 10):
        busy.query(f"INSERT INTO t VALUES ({key})")
    running.send(encode.query(b"SELECT a, pg_sleep(0.5) FROM t WHERE a > 0; SELECT pg_sleep(0.5)"))
    proxy.signal(signal.SIGTERM)
    message = idle.read()
    assert message is not None
    fields = decode.fields(message.payload)
    assert (fields["S"], fields["C"]) == ("FATAL", "57P01")
    assert idle.read() is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn())
    for key in range(10, 20):
        assert busy.query(f"INSERT INTO t VALUES ({key})").tags == ["INSERT 0 1"]
    committed = busy.query("COMMIT")
    assert committed.tags == ["COMMIT"]
    while (message := running.read()) is not None and message.type != B.READY_FOR_QUERY:
        assert message.type != B.ERROR_RESPONSE
    for client in (busy, running):
        message = client.read()
        assert message is not None
        assert decode.fields(message.payload)["C"] == "57P01"
    # Another SIGTERM could meet it on its last way, where it has no handler any more.
    assert proxy.end() == 0
    assert sum(map(len, databases.rows("SELECT a FROM t"))) == 19
    for client in (idle, busy, running):
        client.close()


def test_sigterm_ends_what_does_not_end(databases: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(databases.config(TABLES[:1], server={"drain_timeout": 0.3}))
    with RawClient(proxy.dsn()) as client, RawClient(proxy.dsn()) as copying, RawClient(proxy.dsn()) as sleeping:
        client.query("BEGIN")
        client.query("INSERT INTO t VALUES (1)")
        copying.send(encode.query(b"COPY t FROM STDIN") + encode.copy_data(b"2\tx\n"))
        sleeping.send(encode.query(b"SELECT pg_sleep(60)"))
        assert copying.read() is not None
        begun = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - begun < 8
        for one in (client, copying, sleeping):
            message = one.read()
            assert message is not None
            assert decode.fields(message.payload)["C"] == "57P01"
    assert databases.rows("SELECT a FROM t") == [[], [], []]


def test_sigterm_does_not_wait_for_strangers(databases: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(databases.config(TABLES[:1], server={"drain_timeout": 600.0, "login_timeout": 600.0}))
    with socket.create_connection((proxy.host, proxy.port)) as silent:
        RawClient(proxy.dsn()).close()
        assert proxy.stop() == 0
        assert silent.recv(1) == b""


def test_sighup_reads_the_configuration_again(databases: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(databases.config(TABLES[:1]))
    first = proxy.config_path.read_text()
    with psycopg.connect(proxy.dsn(), autocommit=True) as before:
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            before.execute("SELECT * FROM one")
        proxy.config_path.write_text(first.replace("unlisted_tables", "unlisted"))
        proxy.signal(signal.SIGHUP)
        eventually(lambda: "the configuration was not reloaded" in proxy.log())
        psycopg.connect(proxy.dsn()).close()
        proxy.config_path.write_text(databases.config([TABLES[0], {**TABLES[2], "shard": "s2"}]))
        proxy.signal(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in proxy.log())
        before.execute("SELECT a FROM t")
        assert "no longer used" not in proxy.log()
        with psycopg.connect(proxy.dsn(), autocommit=True) as after:
            after.execute("INSERT INTO one VALUES (1)")
            after.execute("SELECT * FROM one")
    assert databases.rows("SELECT * FROM one") == [[], [], [(1,)]]
    eventually(lambda: "the former configuration of database shop is no longer used" in proxy.log())


def test_a_former_configuration_ends_with_its_last_client(databases: Databases, run_proxy: RunProxy) -> None:
    """It went on recovering on its shards, and asking them, until the proxy ended."""
    texts = [
        databases.config(TABLES[:1], commit="two-phase", entry={"deadlock_timeout": seconds}) for seconds in (50, 60)
    ]
    proxy = run_proxy(texts[0])

    def use(text: str) -> None:
        proxy.config_path.write_text(text)
        times = proxy.log().count("configuration reloaded") + 1
        proxy.signal(signal.SIGHUP)
        eventually(lambda: proxy.log().count("configuration reloaded") == times)

    def ended(times: int) -> bool:
        return proxy.log().count("no longer used") == times

    with psycopg.connect(proxy.dsn(), autocommit=True) as before:
        use(texts[1])
        before.execute("SELECT a FROM t")
        assert ended(0)
        use(texts[0])
        eventually(lambda: ended(1))
        before.execute("SELECT a FROM t")
    with psycopg.connect(proxy.dsn(), autocommit=True) as after:
        after.execute("SELECT a FROM t")
        use(texts[1])
        assert ended(1)
    eventually(lambda: ended(2))
    assert proxy.stop() == 0
