"""Several processes behind one port: clients, cancel requests to any of them, a worker that dies, the end of all."""

import os
import signal
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from shardproxy.embedded.proxy import ProxyError
from tests.conftest import RunProxy, StartServer
from tests.support.databases import Databases, Servers, execute, toml
from tests.support.proxy import Proxy

TABLES: list[dict[str, object]] = [
    {"name": "items", "placement": "hash", "key": ["id"]},
    {"name": "ref", "placement": "reference"},
]
WORKERS = 2


@pytest.fixture
def databases(servers18: Servers) -> Iterator[Databases]:
    made = Databases.create(servers18, one_server=True)
    yield made
    made.drop()


@pytest.fixture
def proxy(databases: Databases, run_proxy: RunProxy) -> Proxy:
    return run_proxy(databases.config(TABLES, server={"workers": WORKERS}))


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


def test_definitions_that_one_worker_has_changed_are_new_to_all(proxy: Proxy, databases: Databases) -> None:
    """Each had kept for a second what it knew: a column's default was computed by each shard, and copies came apart."""
    with ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(proxy.dsn("shop"), autocommit=True)) for _ in range(8)]
        clients[0].execute("CREATE TABLE ref (id int PRIMARY KEY, v text DEFAULT 'x')")
        for number, client in enumerate(clients):
            for one in clients:
                one.execute("INSERT INTO ref VALUES (-1) ON CONFLICT DO NOTHING; DELETE FROM ref WHERE id = -1")
            client.execute(f"ALTER TABLE ref ALTER v SET DEFAULT {'random()::text' if number % 2 == 0 else repr('x')}")
            for other, one in enumerate(clients):
                one.execute("INSERT INTO ref VALUES (%s)", (10 * number + other,))
        rows = clients[0].execute("SELECT id, v FROM ref ORDER BY id").fetchall()
    assert len(rows) == 64
    assert databases.rows("SELECT id, v FROM ref ORDER BY id") == [rows] * 3


def replace_workers(proxy: Proxy, *, at_most: int = WORKERS) -> None:
    """Kill workers and wait until others accept clients in their place."""
    before = workers_of(proxy)
    assert len(before) == WORKERS
    for pid in before[:at_most]:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while len(set(workers_of(proxy)) - set(before)) < at_most:
        assert time.monotonic() < deadline, "no new worker"
        time.sleep(0.1)


def test_a_dead_worker_is_replaced(proxy: Proxy) -> None:
    replace_workers(proxy, at_most=1)
    for _ in range(4):
        with psycopg.connect(proxy.dsn("shop")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("edit", [lambda text: "nonsense", lambda text: text.replace('"shop"', '"edited"')])
def test_a_replaced_worker_has_the_configuration_in_force(proxy: Proxy, edit: Callable[[str], str]) -> None:
    """The file is edited, nobody has sent SIGHUP yet, and a worker dies: what it finds must not be the edit."""
    proxy.config_path.write_text(edit(proxy.config_path.read_text()))
    replace_workers(proxy)
    for _ in range(2 * WORKERS):
        with psycopg.connect(proxy.dsn("shop")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_reload_is_for_all_workers_and_those_to_come(proxy: Proxy) -> None:
    first = proxy.config_path.read_text()
    proxy.config_path.write_text(first.replace("placement", "placing"))
    proxy.signal(signal.SIGHUP)
    eventually(lambda: "the configuration was not reloaded" in proxy.log())
    for _ in range(2 * WORKERS):
        psycopg.connect(proxy.dsn("shop")).close()
    other = first.replace('"shop"', '"other"').replace("[server]", "[server]\nmax_clients = 1")
    proxy.config_path.write_text(other)
    # Shards know the database that they belong to.
    for shard in tomllib.loads(first)["databases"][0]["shards"]:
        execute(shard["dsn"], "UPDATE shardproxy.place SET database = 'other'")
    proxy.signal(signal.SIGHUP)
    eventually(lambda: "configuration reloaded" in proxy.log())
    proxy.config_path.write_text("nonsense")
    eventually(lambda: all(reaches(proxy, "other") for _ in range(4 * WORKERS)))
    assert not any(reaches(proxy, "shop") for _ in range(2 * WORKERS))
    replace_workers(proxy)
    assert all(reaches(proxy, "other") for _ in range(2 * WORKERS))
    # [server] is as it was at the start, for them, too.
    with ExitStack() as stack:
        for _ in range(WORKERS + 1):
            stack.enter_context(psycopg.connect(proxy.dsn("other")))
    assert proxy.log().count("[server] takes effect at the next start") == 1


def test_workers_that_cannot_start_end_it_all(start_server: StartServer, run_proxy: RunProxy) -> None:
    servers = [start_server(18, settings={"max_prepared_transactions": "0"}) for _ in range(2)]
    shards = toml([{"name": f"s{number}", "dsn": server.dsn()} for number, server in enumerate(servers)])
    config = f'[server]\nlisten = "127.0.0.1:0"\nworkers = 2\n[[databases]]\nname = "shop"\nshards = {shards}\n'
    with pytest.raises(ProxyError, match=r"(?s)exit status 1.*55000: prepared transactions are disabled"):
        run_proxy(config)


def reaches(proxy: Proxy, database: str) -> bool:
    try:
        psycopg.connect(proxy.dsn(database)).close()
    except psycopg.OperationalError as error:
        if f'database "{database}" does not exist' not in str(error):
            raise
        return False
    return True


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_end_with_their_parent(proxy: Proxy) -> None:
    workers = workers_of(proxy)
    assert len(workers) == WORKERS
    proxy.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)
