"""Deadlocks between shards."""

import asyncio
import threading
import time

import psycopg
import pytest

from shardproxy.errors import PgError
from shardproxy.server.explain import NoClient
from shardproxy.session.deadlock import DeadlockWatch
from shardproxy.session.shards import Shards
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from tests.conftest import RunProxy
from tests.support.databases import Databases

TABLES = [{"name": "items", "placement": "hash", "key": ["id"]}]


def keys_on_different_shards(databases: Databases) -> tuple[int, int]:
    rows = databases.rows("SELECT min(id) FROM items")
    return rows[0][0][0], rows[1][0][0]


def test_a_deadlock_between_shards_is_ended(one_server: Databases, run_proxy: RunProxy) -> None:
    """Two transactions lock a row each and then want the other's, on another shard, so no server sees a cycle."""
    one_server.execute("CREATE TABLE items (id int PRIMARY KEY, n int)", oracle=False)
    config = one_server.config(TABLES).replace('name = "shop"', 'name = "shop"\ndeadlock_timeout = 2.0', 1)
    proxy = run_proxy(config)
    with psycopg.connect(proxy.dsn("shop")) as one, psycopg.connect(proxy.dsn("shop")) as other:
        with one.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(30):
                copy.write_row((number, 0))
        one.commit()
        first, second = keys_on_different_shards(one_server)
        one.execute("UPDATE items SET n = 1 WHERE id = %s", (first,))
        other.execute("UPDATE items SET n = 2 WHERE id = %s", (second,))
        outcomes: list[str] = []

        def want(connection: psycopg.Connection, key: int, value: int, delay: float) -> None:
            time.sleep(delay)
            try:
                connection.execute("UPDATE items SET n = %s WHERE id = %s", (value, key))
                connection.commit()
                outcomes.append("committed")
            except psycopg.errors.DeadlockDetected:
                connection.rollback()
                outcomes.append("deadlock")

        threads = [
            threading.Thread(target=want, args=(one, second, 1, 0.0)),
            threading.Thread(target=want, args=(other, first, 2, 1.0)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) == ["committed", "deadlock"]
        found = one.execute("SELECT n FROM items WHERE id IN (%s, %s)", (first, second)).fetchall()
        assert len(set(found)) == 1


async def test_a_cancel_that_came_too_late_leaves_no_reason(
    one_server: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the lock is granted while the watch asks, so the cancel meets nothing; the next one is the user's."""
    info = psycopg.conninfo.conninfo_to_dict(one_server.shards[0])
    address = Address("s0", str(info["host"]), int(info["port"] or 0), str(info["user"]), str(info["dbname"]))
    watch = DeadlockWatch(0.2)
    shards = Shards([address, address], {}, NoClient(), lambda *_: None, {}, watch)

    async def waits(_: Connection) -> bool:
        return True

    monkeypatch.setattr(watch, "_waiting", waits)
    shards.transaction.begin()
    connection = (await shards.join([0, 1]))[0]
    sleeping = asyncio.ensure_future(
        connection.execute("DO $$ BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END $$")
    )
    await asyncio.sleep(0.5)
    watch.close()
    await sleeping
    with pytest.raises(PgError) as caught:
        await asyncio.gather(connection.execute("SELECT pg_sleep(60)"), _cancel_soon(connection))
    assert caught.value.sqlstate == "57014"
    await shards.rollback()
    shards.close()


async def _cancel_soon(connection: Connection) -> None:
    await asyncio.sleep(0.2)
    await connection.cancel()


def test_a_wait_of_one_shard_is_left_to_postgresql(one_server: Databases, run_proxy: RunProxy) -> None:
    one_server.execute("CREATE TABLE items (id int PRIMARY KEY, n int)", oracle=False)
    config = one_server.config(TABLES).replace('name = "shop"', 'name = "shop"\ndeadlock_timeout = 1.0', 1)
    proxy = run_proxy(config)
    with psycopg.connect(proxy.dsn("shop")) as one, psycopg.connect(proxy.dsn("shop")) as other:
        one.execute("INSERT INTO items VALUES (1, 0)")
        one.commit()
        one.execute("UPDATE items SET n = 1 WHERE id = 1")
        waited = threading.Thread(target=lambda: other.execute("UPDATE items SET n = 2 WHERE id = 1"))
        waited.start()
        time.sleep(2.5)
        assert waited.is_alive()
        one.commit()
        waited.join(10)
        other.commit()
        assert one.execute("SELECT n FROM items WHERE id = 1").fetchone() == (2,)


@pytest.mark.parametrize("rows", [20_000])
def test_two_copies_that_lock_each_other_end(one_server: Databases, run_proxy: RunProxy, rows: int) -> None:
    """Each COPY inserts a key of one shard first and then one that the other COPY has inserted on another shard."""
    one_server.execute("CREATE TABLE items (id int PRIMARY KEY, n int)", oracle=False)
    config = one_server.config(TABLES).replace('name = "shop"', 'name = "shop"\ndeadlock_timeout = 2.0', 1)
    proxy = run_proxy(config)
    with psycopg.connect(proxy.dsn("shop")) as one:
        with one.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(30):
                copy.write_row((number, 0))
        one.commit()
        first, second = keys_on_different_shards(one_server)
        one.execute("TRUNCATE items")
        one.commit()
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def load(keys: tuple[int, int]) -> None:
        with psycopg.connect(proxy.dsn("shop")) as connection:
            try:
                connection.execute("INSERT INTO items VALUES (%s, 1)", (keys[0],))
                barrier.wait(10)
                with connection.cursor().copy("COPY items FROM STDIN") as copy:
                    copy.write_row((keys[1], 1))
                    for number in range(rows):
                        copy.write_row((1000 + keys[0] * rows + number, 1))
                connection.commit()
                outcomes.append("committed")
            except (psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation) as error:
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=load, args=(keys,)) for keys in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "DeadlockDetected" in outcomes
    assert len(outcomes) == 2
