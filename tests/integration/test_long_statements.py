"""Statements so long that to parse them takes seconds: answered as PostgreSQL does, while other clients go on."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

SHARE = 0.4
"""Of the time that a long statement takes, what another client may wait for one answer."""

TIMES_THE_TEXT = 30
"""What long texts may add to the proxy's memory, which keeps some of what it has freed. Parsed in it: 60 times."""

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


def most_memory(proxy: Proxy) -> int:
    """Bytes that the proxy had resident at most since it started: proc(5)."""
    figures = Path(f"/proc/{proxy.pid}/status").read_text().splitlines()
    [line] = [line for line in figures if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/PID/status is Linux's")
@pytest.mark.parametrize(("table", "width"), [("ref", 80), ("one", 12_000_000)], ids=["rows", "one row"])
def test_memory_is_in_proportion_to_the_text(servers18: Servers, run_proxy: RunProxy, table: str, width: int) -> None:
    """What it takes to parse them is another process's, and several, one after the other, take no more than one."""
    with Twin.open(servers18, run_proxy) as twin, RawClient(twin.dsn) as client:
        assert client.query(f"SELECT a FROM {table}").order == "TCZ"
        idle = most_memory(twin.proxy)
        rows = max(4_000_000 // (width + 15), 1)
        for block in range(3):
            keys = range(block * rows, (block + 1) * rows)
            sql = f"INSERT INTO {table} VALUES " + ", ".join(f"({key}, '{'x' * width}')" for key in keys)
            assert client.query(sql).tags == [f"INSERT 0 {rows}"]
        ratio = (most_memory(twin.proxy) - idle) / len(sql)
        print(f"{ratio:.1f} times the text")
        assert ratio < TIMES_THE_TEXT
