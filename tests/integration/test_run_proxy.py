"""The fixture that other tests stand on: a proxy that starts, stops and crashes as told, and words when it cannot."""

import signal

import psycopg
import pytest

from shardproxy.embedded.proxy import ProxyError
from tests.conftest import RunProxy
from tests.support.databases import Databases, execute, query

TABLES = [{"name": "t", "placement": "hash", "key": ["a"]}]


def test_it_serves_and_stops_cleanly(one_server: Databases, run_proxy: RunProxy) -> None:
    one_server.execute("CREATE TABLE t (a int, b text)")
    proxy = run_proxy(one_server.config(TABLES))
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write("".join(f"{number}\tx\n" for number in range(100)))
        assert sorted(connection.execute("SELECT a FROM t").fetchall()) == [(number,) for number in range(100)]
    assert sum(len(rows) for rows in one_server.rows("SELECT a FROM t")) == 100
    assert proxy.stop() == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn())


def test_it_restarts_after_a_kill(one_server: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(one_server.config(TABLES))
    proxy.kill()
    assert (proxy.running, proxy.status) == (False, -signal.SIGKILL)
    proxy.start()
    one_server.execute("CREATE TABLE t (a int)")
    execute(proxy.dsn(), "INSERT INTO t VALUES (1)")
    assert query(proxy.dsn(), "SELECT a FROM t") == [(1,)]
    assert proxy.rss() > 1 << 20


def test_a_configuration_that_is_refused_is_in_the_error(one_server: Databases, run_proxy: RunProxy) -> None:
    with pytest.raises(ProxyError, match=r"exit status 2(.|\n)*placment"):
        run_proxy(one_server.config([{"name": "t", "placment": "hash", "key": ["a"]}]))
