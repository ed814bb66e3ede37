"""Reference tables: no statement may make their copies differ, and writers come in one order on every shard."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import sql

from shardproxy.routing import Resolved
from tests.support.twin import ROWS, Twin


def copies(twin: Twin) -> list[tuple[Any, ...]]:
    """The rows of `ref`, the same on every shard."""
    first, *others = (sorted(rows) for rows in twin.databases.rows("TABLE ref"))
    assert others == [first, first]
    return first


@pytest.mark.parametrize("column", ["ctid", "ref.xmin", "public.ref.tableoid", "x.xmax", "cmin", "cmax"])
def test_system_columns_are_the_first_shards(twin: Twin, column: str) -> None:
    """They are each server's own."""
    alias = " x" if column.startswith("x.") else ""
    for statement in (
        f"UPDATE ref{alias} SET b = {column}::text WHERE a < 4",
        f"DELETE FROM ref{alias} WHERE {column}::text = '(0,1)'",
    ):
        [reply] = twin.proxied(statement)
        assert not reply.errors
        assert copies(twin)
    twin.compare("SELECT ctid IS NULL FROM ref", "SELECT xmin::text = '0' FROM t WHERE a = 5")


def test_alter_table_of_an_empty_reference_table(twin: Twin) -> None:
    """There is nothing to fill."""
    changes = ["c uuid DEFAULT gen_random_uuid()", "d timestamptz NOT NULL DEFAULT now()", "e serial"]
    twin.compare(
        "BEGIN", "DELETE FROM ref", *(f"ALTER TABLE ref ADD COLUMN {change}" for change in changes), "ROLLBACK"
    )


def test_alter_table_of_a_reference_table(twin: Twin) -> None:
    twin.compare(
        "BEGIN",
        "ALTER TABLE ref ADD COLUMN c int DEFAULT 5, ADD d text DEFAULT upper('x'), ALTER COLUMN b TYPE varchar(9)",
        "ALTER TABLE ref ADD COLUMN e timestamptz, ALTER COLUMN e SET DEFAULT now()",
        "TABLE ref",
        "ROLLBACK",
    )


def test_writers_of_a_reference_table_are_in_the_same_order_everywhere(twin: Twin) -> None:
    """UPDATE had met a new row on some shards and not yet on others: in a third of the rows the copies came apart."""
    rounds = 40

    def insert() -> None:
        with psycopg.connect(twin.dsn, autocommit=True) as connection:
            for number in range(1001, 1001 + rounds):
                connection.execute("INSERT INTO ref VALUES (%s, 'z')", (number,))

    def load() -> None:
        with psycopg.connect(twin.dsn, autocommit=True) as connection:
            for number in range(2001, 2001 + rounds):
                with connection.cursor().copy("COPY ref FROM STDIN") as copy:
                    copy.write_row((number, "z"))

    def update() -> None:
        with psycopg.connect(twin.dsn, autocommit=True) as connection:
            for _ in range(rounds):
                # Two of them may deadlock on one server as well: each goes by the places of rows in its own snapshot.
                with suppress(psycopg.errors.DeadlockDetected):
                    connection.execute("UPDATE ref SET b = b || 'x'")

    threads = [threading.Thread(target=work) for work in (insert, load, update, update)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies(twin)) == ROWS + 2 * rounds


@pytest.mark.parametrize(
    "change", ["UPDATE ref SET b = upper(b || random()) WHERE a < 9", "DELETE FROM ref WHERE a < 9 AND random() < 2"]
)
def test_a_row_that_one_shard_does_not_have_yet_is_waited_for(twin: Twin, change: str) -> None:
    """Others of the same statement were there, and are changed once."""
    *ahead, behind = [psycopg.connect(dsn, autocommit=True) for dsn in twin.databases.shards]
    with behind, psycopg.connect(twin.dsn, autocommit=True) as client:
        for connection in ahead:
            connection.execute("INSERT INTO ref VALUES (0, 'new')")
            connection.close()
        behind.execute("BEGIN; INSERT INTO ref VALUES (0, 'new')")
        with ThreadPoolExecutor(1) as pool:
            changing = pool.submit(client.execute, change)
            time.sleep(0.3)
            assert not changing.done()
            behind.execute("COMMIT")
            assert changing.result(timeout=30).rowcount == 9
        assert copies(twin)
        client.execute("DELETE FROM ref WHERE a = 0")


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_the_lock_names_any_table(twin: Twin, encoding: str) -> None:
    table = Resolved("reference", "public", 'Länder \\ \\00e9 "x"')
    with psycopg.connect(twin.databases.oracle, client_encoding=encoding) as connection:
        connection.execute(sql.SQL("CREATE TABLE {} (a int)").format(sql.Identifier(table.name)))
        connection.execute(table.locked("SHARE ROW EXCLUSIVE").encode("ascii"))
        locks = "SELECT relation::regclass = %s::regclass FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'"
        name = '"' + table.name.replace('"', '""') + '"'
        assert connection.execute(locks, (name,)).fetchall() == [(True,)]
        connection.rollback()
