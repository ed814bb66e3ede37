"""Several processes behind one port: clients, cancel requests to any of them, a worker that dies, the end of all."""

import os
import signal
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases
from tests.support.proxy import Proxy

TABLES = [{"name": "items", "placement": "hash", "key": ["id"]}]
WORKERS = 2


@pytest.fixture
def proxy(one_server: Databases, run_proxy: RunProxy) -> Proxy:
    return run_proxy(one_server.config(TABLES, server={"workers": WORKERS}))


def workers_of(proxy: Proxy) -> list[int]:
    """The process IDs of the proxy's workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = entry.joinpath("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == proxy.pid and b"serve" in command:
            found.append(int(entry.name))
    return found


def test_cancel_reaches_its_session_at_whichever_worker_it_arrives(proxy: Proxy) -> None:
    for _ in range(8):
        with psycopg.connect(proxy.dsn("shop"), autocommit=True) as connection:
            timer = threading.Timer(0.2, connection.cancel)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(20)")
            timer.join()
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_dead_worker_is_replaced(proxy: Proxy) -> None:
    before = workers_of(proxy)
    assert len(before) == WORKERS
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while len(set(workers_of(proxy)) - set(before)) == 0:
        assert time.monotonic() < deadline, "no new worker"
        time.sleep(0.1)
    for _ in range(4):
        with psycopg.connect(proxy.dsn("shop")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_workers_end_with_their_parent(proxy: Proxy) -> None:
    workers = workers_of(proxy)
    assert len(workers) == WORKERS
    proxy.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)
