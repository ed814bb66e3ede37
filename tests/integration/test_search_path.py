"""Names without a schema, where the search_path finds a table of one shard before that of another schema."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

TABLES = (
    {"name": "t", "placement": "hash", "key": ["id"]},
    {"name": "a.x", "placement": "single", "shard": "s1"},
    {"name": "b.x", "placement": "reference"},
    {"name": "a.h", "placement": "single", "shard": "s2"},
    {"name": "b.h", "placement": "hash", "key": ["id"]},
)

DDL = """
    CREATE SCHEMA a; CREATE SCHEMA b;
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE TABLE b.x (id int PRIMARY KEY, w text);
    CREATE TABLE b.h (id int PRIMARY KEY, w text);
"""

STEPS = [
    "INSERT INTO x VALUES (1, 'a')",
    "UPDATE x SET w = 'changed' WHERE id = 1 RETURNING w",
    "INSERT INTO h VALUES (2, 'a')",
    "CREATE INDEX made ON x (w)",
    "COMMENT ON TABLE h IS 'of a'",
]


@pytest.fixture(params=["error", "s0", "s1"])
def shop(servers18: Servers, run_proxy: RunProxy, request: pytest.FixtureRequest) -> Iterator[tuple[Databases, Proxy]]:
    databases = Databases.create(servers18, one_server=True)
    try:
        databases.execute(DDL)
        yield databases, run_proxy(databases.config(TABLES, unlisted_tables=request.param))
    finally:
        databases.drop()


def test_a_table_of_one_shard_hides_those_of_later_schemas(shop: tuple[Databases, Proxy]) -> None:
    """What the shard has that was asked was read, written, altered and dropped in its place."""
    databases, proxy = shop
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE a.x (id int PRIMARY KEY, w text)")
        connection.execute("CREATE TABLE a.h (id int PRIMARY KEY, w text)")
        connection.execute("INSERT INTO b.x VALUES (1, 'b')")
        connection.execute("SET search_path = a, b, public")
        for step in STEPS:
            connection.execute(step.encode())
        with connection.transaction():
            for key in range(1, 6):
                connection.execute(f"SELECT FROM t WHERE id = {key}".encode())
            assert connection.execute("SELECT w FROM x").fetchall() == [("changed",)]
            with connection.cursor().copy("COPY h FROM STDIN") as copy:
                copy.write_row((3, "copied"))
        with connection.cursor().copy("COPY h (id, w) FROM STDIN") as copy:
            copy.write_row((4, "copied"))
        assert connection.execute("SELECT w FROM h ORDER BY id").fetchall() == [("a",), ("copied",), ("copied",)]
        connection.execute("ALTER TABLE x ADD added int")
        connection.execute("DROP TABLE h")
        assert connection.execute("SELECT w FROM b.x").fetchall() == [("b",)]
        connection.execute("SET search_path = b, a, public")
        assert connection.execute("SELECT w FROM x").fetchall() == [("b",)]
    assert databases.rows("SELECT count(*) FROM b.h") == [[(0,)]] * 3
    assert databases.rows("SELECT to_regclass('a.h') IS NULL, count(*) FROM pg_attribute WHERE attname = 'added'") == [
        [(True, 0)], [(True, 1)], [(True, 0)],
    ]  # fmt: skip
