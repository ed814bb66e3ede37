"""Functions that a statement calls without naming them: an operator's, a cast's, one in functional notation."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.integration.test_reference_writes import Shop
from tests.support.databases import Databases, Servers

DDL = """
    CREATE FUNCTION varies(int, int) RETURNS int LANGUAGE sql AS $$ SELECT (random() * 1e9)::int $$;
    CREATE FUNCTION sums(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 + $2 $$;
    CREATE TABLE log (at int);
    CREATE FUNCTION logs(int, int) RETURNS int LANGUAGE sql AS
        $$ INSERT INTO log VALUES ($1); SELECT (random() * 1e9)::int $$;
    CREATE SCHEMA other;
    CREATE OPERATOR +? (LEFTARG = int, RIGHTARG = int, FUNCTION = varies);
    CREATE OPERATOR other.+! (LEFTARG = int, RIGHTARG = int, FUNCTION = logs);
    CREATE OPERATOR +# (LEFTARG = int, RIGHTARG = int, FUNCTION = sums);
    CREATE TYPE gram AS (n float8);
    CREATE FUNCTION weighed(int) RETURNS gram LANGUAGE sql AS $$ SELECT ROW(random())::gram $$;
    CREATE CAST (int AS gram) WITH FUNCTION weighed(int) AS ASSIGNMENT;
    CREATE TABLE item (id int PRIMARY KEY, n int, w gram);
    CREATE TABLE defaulted (id int PRIMARY KEY, n int DEFAULT 1 +? 2, m int DEFAULT 3 OPERATOR(other.+!) 4);
    CREATE TABLE bag (n int);
    CREATE TABLE wide (id int PRIMARY KEY, ws gram[]);
    CREATE FUNCTION drawn(item) RETURNS int LANGUAGE sql AS $$ SELECT (random() * 1e9)::int $$;
"""

pytestmark = pytest.mark.newest


@pytest.fixture(scope="module")
def module_shop(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers, one_server=True)
    try:
        databases.execute(DDL, oracle=False)
        yield Shop(databases, run_proxy_for_module(databases.config(unlisted_tables="reference", commit="one-phase")))
    finally:
        databases.drop()


@pytest.fixture
def shop(module_shop: Shop) -> Shop:
    fill = """
        TRUNCATE item, defaulted, bag, log, wide;
        ALTER TABLE wide DROP COLUMN IF EXISTS filled;
        INSERT INTO item SELECT g, g FROM generate_series(1, 9) AS g;
        INSERT INTO bag VALUES (1), (2);
        INSERT INTO wide VALUES (1)
    """
    module_shop.databases.execute(fill, oracle=False)
    return module_shop


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO item (id, n) VALUES (10, 1 +? 2)",
        "INSERT INTO item (id, n) VALUES (10, 1 OPERATOR(public.+?) 2)",
        "UPDATE item SET n = n +? 1",
        "UPDATE item SET n = n +? 1 WHERE id = 3",
        "UPDATE item SET n = 0 WHERE 100000000 < ANY (ARRAY[n +? 1, n])",
        "DELETE FROM item WHERE n +? 1 < 500000000",
        "UPDATE item SET w = 5",
        "UPDATE item SET w = 5::gram",
        "INSERT INTO item VALUES (10, 1, 5)",
        "UPDATE item SET n = item.drawn",
        "UPDATE item SET n = (item).drawn WHERE id = 3",
        "INSERT INTO bag VALUES (1 +? 2)",
        "ALTER TABLE wide ADD COLUMN filled int DEFAULT 1 +? 2",
        "UPDATE wide SET ws = ARRAY[1, 2]",
    ],
)
def test_what_it_computes_is_computed_once(shop: Shop, statement: str) -> None:
    with shop.connect() as connection:
        connection.execute(statement.encode())
    assert all(shop.copies(table) for table in ("item", "bag", "wide"))


def test_in_the_condition_of_a_copy(shop: Shop) -> None:
    with shop.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("COPY item (id, n) FROM STDIN WHERE n +? 1 < 500000000") as copy:
            copy.write("".join(f"{number}\t1\n" for number in range(100, 200)))
        assert cursor.rowcount == len(shop.copies("item")) - 9


@pytest.mark.parametrize("statement", ["UPDATE bag SET n = n +? 1", "CREATE TABLE made AS SELECT 1 +? 2 AS n"])
def test_what_cannot_be_computed_once_is_refused(shop: Shop, statement: str) -> None:
    with shop.connect() as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function varies\(\)"):
            connection.execute(statement.encode())
        assert shop.copies("bag") == ["(1)", "(2)"]


@pytest.mark.parametrize(
    "statement", ["UPDATE item SET n = 1 OPERATOR(other.+!) 2", "INSERT INTO defaulted (id) VALUES (1)"]
)
def test_one_that_writes_another_table_is_refused(shop: Shop, statement: str) -> None:
    with shop.connect() as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function logs\(\)"):
            connection.execute(statement.encode())
        assert shop.copies("log") == []


def test_an_operator_made_in_the_same_transaction(shop: Shop) -> None:
    with shop.connect() as connection, connection.transaction(force_rollback=False):
        connection.execute("UPDATE item SET n = 1 WHERE id = 1")
        connection.execute("CREATE OPERATOR +?? (LEFTARG = int, RIGHTARG = int, FUNCTION = varies)")
        connection.execute("UPDATE item SET n = n +?? 1")
    with shop.connect() as connection:
        connection.execute("DROP OPERATOR +?? (int, int)")
    assert len(shop.copies("item")) == 9


def test_an_immutable_operator_is_like_postgresqls(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("UPDATE bag SET n = n +# 1")
    assert shop.copies("bag") == ["(2)", "(3)"]
