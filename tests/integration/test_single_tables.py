"""`single` tables that exist on their own shard alone."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, execute, query

TABLES = [{"name": "log", "placement": "single", "shard": "s2"}]


@pytest.fixture
def connection(one_server: Databases, run_proxy: RunProxy) -> Iterator[psycopg.Connection]:
    execute(one_server.shards[2], "CREATE TABLE log (id int PRIMARY KEY, line text)")
    with psycopg.connect(run_proxy(one_server.config(TABLES)).dsn("shop"), autocommit=True) as connection:
        yield connection


def test_is_found_there_by_either_protocol(connection: psycopg.Connection, one_server: Databases) -> None:
    connection.execute("INSERT INTO log VALUES (1, 'a')")
    connection.execute("INSERT INTO log VALUES (%s, %s)", (2, "b"))
    with connection.cursor().copy("COPY log FROM STDIN") as copy:
        copy.write_row((3, "c"))
    rows = connection.execute("SELECT line FROM log WHERE id > %s ORDER BY id", (0,), prepare=True).fetchall()
    assert rows == [("a",), ("b",), ("c",)]
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (3,)
    assert query(one_server.shards[2], "SELECT count(*) FROM log") == [(3,)]


def test_may_be_dropped(connection: psycopg.Connection, one_server: Databases) -> None:
    connection.execute("DROP TABLE log")
    assert query(one_server.shards[2], "SELECT to_regclass('log') IS NULL") == [(True,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM log")


@pytest.mark.parametrize("unlisted", ["s0", "reference"])
def test_what_belongs_to_one_is_found_with_it(one_server: Databases, run_proxy: RunProxy, unlisted: str) -> None:
    proxy = run_proxy(one_server.config(TABLES, unlisted_tables=unlisted))
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        client.execute("CREATE TABLE log (id int PRIMARY KEY, line text)")
        client.execute("CREATE VIEW lines AS SELECT id, line FROM log")
        client.execute("CREATE VIEW few AS SELECT id FROM lines WHERE id < 3")
        client.execute("CREATE TABLE more () INHERITS (log)")
        client.execute("INSERT INTO lines VALUES (1, 'a')")
        client.execute("INSERT INTO more VALUES (%s, %s)", (2, "b"), prepare=True)
        with client.cursor().copy("COPY more FROM STDIN") as copy:
            copy.write_row((3, "c"))
        client.execute("CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM lines")
        assert client.execute("TABLE few ORDER BY id").fetchall() == [(1,), (2,)]
        assert client.execute("TABLE kept").fetchall() == [(3,)]
        assert client.execute("SELECT count(*) FROM log, few").fetchall() == [(6,)]
        assert query(one_server.shards[2], "SELECT id FROM ONLY more ORDER BY id") == [(2,), (3,)]
        client.execute("DROP VIEW few")
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.execute("TABLE few")


def test_a_view_of_one_is_refused_where_views_are(connection: psycopg.Connection) -> None:
    connection.execute("CREATE VIEW lines AS SELECT id, line FROM log")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute("TABLE lines")
