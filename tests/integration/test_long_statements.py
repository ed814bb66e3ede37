"""Statements so long that to parse them takes seconds: answered as PostgreSQL does, while other clients go on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

SHARE = 0.4
"""Of the time that a long statement takes, what another client may wait for one answer."""

LONG = {
    "rows of one shard": "INSERT INTO one VALUES " + ", ".join(f"({at}, 'row {at}')" for at in range(1000, 16000)),
    "rows of every shard": "INSERT INTO ref VALUES " + ", ".join(f"({at}, 'row {at}')" for at in range(1000, 11000)),
    "one row": f"INSERT INTO t VALUES (5000, '{'long ' * 500_000}')",
    "a list": f"SELECT * FROM t WHERE a IN ({', '.join(map(str, range(50_000)))})",
    "many statements": "SELECT a FROM one WHERE a = 1;" * 1500,
}

WRONG = {
    "syntax": "SELECT " + "1, " * 40_000 + "FROM FROM t",
    "a name": "SELECT " + "1, " * 40_000 + "nothing FROM one",
    "a value": "INSERT INTO one VALUES " + ", ".join(f"({at}, 'row {at}')" for at in range(1000, 9000)) + ", ('x', '')",
}


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, entry={"max_statement_size": 3_000_000}) as opened:
        yield opened


@contextmanager
def another(twin: Twin) -> Iterator[list[float]]:
    """How long another client has waited for each of its answers, one after the other."""
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with psycopg.connect(twin.proxy.dsn(), autocommit=True) as connection:
            connection.execute("SELECT b FROM t WHERE a = 1")
            asking.set()
            while not over.is_set():
                started = time.monotonic()
                connection.execute("SELECT b FROM t WHERE a = 1")
                waits.append(time.monotonic() - started)

    asking = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert asking.wait(30)
    try:
        yield waits
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", LONG)
def test_other_clients_do_not_wait(twin: Twin, name: str) -> None:
    started = time.monotonic()
    with another(twin) as waits:
        twin.compare(LONG[name], "SELECT count(*) FROM one", "SELECT count(*) FROM ref")
    took = time.monotonic() - started
    assert len(waits) >= 10
    assert max(waits) < SHARE * took


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_the_server_s(twin: Twin, name: str) -> None:
    twin.compare(WRONG[name], "SELECT 1")


def test_extended_protocol(twin: Twin) -> None:
    sql = LONG["a list"].encode() + b" AND b <> $1"
    batch = encode.parse(b"", sql) + encode.bind(b"", b"", [], [b"none"], []) + encode.execute(b"") + encode.SYNC
    twin.compare(batch, batch)


def test_a_statement_beyond_the_limit(twin: Twin) -> None:
    """The session goes on, and what follows its Parse is skipped up to Sync."""
    sql = f"SELECT '{'x' * 3_000_000}'"
    with RawClient(twin.proxy.dsn()) as client:
        for answer in (client.query(sql), client.exchange(encode.parse(b"", sql.encode()) + encode.SYNC)):
            assert answer.error is not None
            assert answer.error["C"] == "54000"
            assert "max_statement_size" in answer.error["H"]
        assert client.query("SELECT 1").rows == [[b"1"]]
