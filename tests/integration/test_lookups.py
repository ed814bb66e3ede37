"""A session that has loaded a table often has its look-up planned on the shards; what changes must be seen at once."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from shardproxy.config import parse
from shardproxy.routing import Written
from shardproxy.server.explain import NoClient
from shardproxy.session.database import Database
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.sql import Statement, analyze
from tests.conftest import RunProxy
from tests.support.databases import Databases, execute, query

pytestmark = pytest.mark.newest

TABLES = [{"name": "t", "placement": "hash", "key": ["id"]}]
OFTEN = 4
"""The look-up is sent as it is, then planned, then executed from its plan."""


def load(connection: psycopg.Connection, *rows: tuple[object, ...]) -> int:
    with connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return cursor.rowcount


@pytest.fixture
def connection(one_server: Databases, run_proxy: RunProxy) -> Iterator[psycopg.Connection]:
    with psycopg.connect(run_proxy(one_server.config(TABLES)).dsn("shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int, v text)")
        for number in range(OFTEN):
            assert load(connection, (number, "old")) == 1
        yield connection


def on_shards(databases: Databases, statement: str) -> None:
    for dsn in databases.shards:
        execute(dsn, statement)


def misplaced(databases: Databases) -> int:
    """Rows that lie where PostgreSQL would not put them."""
    parent = "(SELECT oid FROM pg_class WHERE relname = 'parent')"
    total = 0
    for number, dsn in enumerate(databases.shards):
        execute(dsn, "CREATE TABLE parent (LIKE t) PARTITION BY HASH (id)")
        placed = f"satisfies_hash_partition({parent}, {len(databases.shards)}, {number}, id)"
        [(count,)] = query(dsn, f"SELECT count(*) FROM t WHERE NOT {placed}")
        total += count
    return total


def test_another_key_made_outside_the_proxy(connection: psycopg.Connection, one_server: Databases) -> None:
    on_shards(one_server, "DROP TABLE t; CREATE TABLE t (v text, id text)")
    assert load(connection, *(("new", str(number)) for number in range(50))) == 50
    assert misplaced(one_server) == 0


def test_a_column_added_on_one_shard(connection: psycopg.Connection, one_server: Databases) -> None:
    execute(one_server.shards[2], "ALTER TABLE t ADD w int")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='"s2"'):
        load(connection, *((number, "x") for number in range(20)))
    assert [query(dsn, "SELECT count(*) FROM t WHERE v = 'x'") for dsn in one_server.shards] == [[(0,)]] * 3
    execute(one_server.shards[2], "ALTER TABLE t DROP w")
    assert load(connection, *((number, "x") for number in range(20))) == 20


@pytest.mark.parametrize("statement", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_plans_thrown_away(connection: psycopg.Connection, statement: str) -> None:
    for _ in range(2):
        connection.execute(statement)
        for number in range(OFTEN):
            assert load(connection, (number, "x")) == 1


def test_plans_thrown_away_unseen(connection: psycopg.Connection) -> None:
    """Nobody tells the proxy that its plans are gone."""
    connection.execute("""
        CREATE FUNCTION tidy() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN (SELECT count(*) FROM pg_prepared_statements); END $$""")
    for _ in range(2):
        assert connection.execute("SELECT tidy()").fetchone() == (0,)
        for number in range(OFTEN):
            assert load(connection, (number, "x")) == 1
    connection.execute("SELECT tidy()")
    with connection.transaction():
        connection.execute("SELECT set_config('application_name', 'loader', true)")
        assert load(connection, (1, "x")) == 1
        connection.execute("SELECT tidy()")
        assert load(connection, (1, "x")) == 1
    connection.execute("SELECT tidy()")
    with connection.transaction():
        assert load(connection, (1, "x")) == 1
    assert connection.execute("SELECT id FROM t WHERE id = 1 AND v = 'x'").fetchall() == [(1,)] * (2 + 3)


def test_a_temporary_table_of_the_name(connection: psycopg.Connection, one_server: Databases) -> None:
    connection.execute("CREATE TEMP TABLE t (line text)")
    for _ in range(OFTEN):
        assert load(connection, ("temporary",), ("temporary",)) == 2
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2 * OFTEN,)
    connection.execute("DROP TABLE pg_temp.t")
    assert load(connection, (100, "sharded")) == 1
    counts = [query(dsn, "SELECT count(*) FROM t")[0][0] for dsn in one_server.shards]
    assert sum(counts) == OFTEN + 1


def test_a_schema_on_the_path(connection: psycopg.Connection) -> None:
    connection.execute("CREATE SCHEMA other")
    connection.execute("SET search_path = other")
    with pytest.raises(psycopg.errors.UndefinedTable):
        load(connection, (1, "x"))
    connection.execute("SET search_path = other, public")
    assert load(connection, (1, "x")) == 1


def test_in_the_clients_transaction(connection: psycopg.Connection, one_server: Databases) -> None:
    """DDL of its own counts, settings and savepoints reach the shards that join by a look-up, and ROLLBACK undoes."""
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('application_name', 'loader', true)")
        connection.execute("SAVEPOINT a")
        assert load(connection, (1, "x")) == 1
        connection.execute("ALTER TABLE t ADD w int DEFAULT 5")
        assert load(connection, (2, "y", 6)) == 1
        connection.execute("ROLLBACK TO a")
        assert load(connection, (3, "z")) == 1
    assert [len(query(dsn, "SELECT * FROM t WHERE v <> 'old'")) for dsn in one_server.shards] == [0, 0, 0]
    assert load(connection, (1, "x")) == 1


# While a session waits for an answer of the catalogs, another may find what is known too old, or change it.


async def written_meanwhile(database: Database, statement: Statement, changed: list[str]) -> Written | None:
    """Ask what has to be known of a reference table, while definitions change on the shards."""
    shards = Shards(database.addresses, {}, NoClient(), lambda shard, connection: None, {}, database.deadlocks)
    names = Resolver(database, shards)
    try:
        tables = await names.resolve(statement)
        connection = await shards.open_home()
        asked = asyncio.ensure_future(names.written(tables))
        for _ in range(3):
            await asyncio.sleep(0)
        assert connection.busy
        database.definitions_changed()
        assert names.cache.written == {}  # as another session that looks something up
        await asked
        for number, sql in enumerate(changed):
            await (await shards.open([number]))[0].execute(sql)
        return await names.written(tables)
    finally:
        shards.close()


def test_definitions_that_change_while_they_are_asked_for(one_server: Databases) -> None:
    one_server.execute("CREATE TABLE ref (id int PRIMARY KEY, at timestamptz DEFAULT now())", oracle=False)
    config = parse(one_server.config([{"name": "ref", "placement": "reference"}]))
    [statement] = analyze("INSERT INTO ref (id) VALUES (1)")
    changed = ["ALTER TABLE ref ALTER at DROP DEFAULT"] * len(one_server.shards)
    written = asyncio.run(written_meanwhile(Database(config.databases[0]), statement, changed))
    assert written is not None
    assert [column.default for column in written.columns] == [None, None]
