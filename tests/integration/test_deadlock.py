"""Deadlocks between shards."""

import asyncio
import itertools
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import pytest

from shardproxy.errors import PgError
from shardproxy.server.explain import NoClient
from shardproxy.session.deadlock import DeadlockWatch
from shardproxy.session.shards import Shards
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from shardproxy.shard.locks import Blocked, LockView
from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

pytestmark = pytest.mark.newest

TABLES = [{"name": "items", "placement": "hash", "key": ["id"]}]


def keys_on_different_shards(databases: Databases) -> tuple[int, int]:
    rows = databases.rows("SELECT min(id) FROM items")
    return rows[0][0][0], rows[1][0][0]


FOUND = 3.0
"""Seconds within which a cycle is broken: two, and one for a machine that runs other tests as well."""


class Side(threading.Thread):
    """A statement of a session in a transaction, then COMMIT, and how that ended."""

    def __init__(self, connection: psycopg.Connection, statement: LiteralString, *values: object) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._statement = statement
        self._values = values
        self.error: psycopg.Error | None = None
        self.took = 0.0

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self._connection.execute(self._statement, self._values)
            self._connection.commit()
        except psycopg.Error as error:
            self.error = error
            self._connection.rollback()
        self.took = time.monotonic() - begun


def run_all(sides: Sequence[Side]) -> list[str | None]:
    """Begin one after the other, wait for all; return their SQLSTATEs."""
    for side in sides:
        side.start()
        time.sleep(0.1)
    for side in sides:
        side.join(30)
        assert not side.is_alive()
    return [None if side.error is None else side.error.sqlstate for side in sides]


@dataclass
class Items:
    """A table with a row on each shard, and two proxies in front of it that know nothing of each other."""

    databases: Databases
    proxies: tuple[Proxy, Proxy]
    keys: list[int]
    sessions: ExitStack

    def session(self, proxy: int = 0) -> psycopg.Connection:
        return self.sessions.enter_context(psycopg.connect(self.proxies[proxy].dsn("shop")))

    def spare(self) -> list[int]:
        """A second key on each shard."""
        return [rows[0][0] for rows in self.databases.rows("SELECT max(id) FROM items")]

    def values(self) -> list[int]:
        return [n for rows in self.databases.rows("SELECT n FROM items ORDER BY id LIMIT 1") for (n,) in rows]


STORM = 600
"""Statements: some did deadlock in 245."""

UPDATE = "UPDATE items SET n = %s WHERE id = %s"


@pytest.fixture
def items(servers18: Servers, run_proxy: RunProxy) -> Iterator[Items]:
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE items (id int PRIMARY KEY, n int)", oracle=False)
    config = databases.config(TABLES)
    proxies = run_proxy(config), run_proxy(config)
    with ExitStack() as sessions:
        with psycopg.connect(proxies[0].dsn("shop")) as one, one.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(30):
                copy.write_row((number, 0))
        keys = [rows[0][0] for rows in databases.rows("SELECT min(id) FROM items")]
        yield Items(databases, proxies, keys, sessions)
    databases.drop()


@pytest.mark.parametrize("proxy", [0, 1], ids=["one proxy", "two proxies"])
def test_the_youngest_of_a_deadlock_between_shards_is_cancelled(items: Items, proxy: int) -> None:
    """Two transactions lock a row each and then want the other's, on another shard, so no server sees a cycle."""
    first, second, _ = items.keys
    older, younger = items.session(), items.session(proxy)
    older.execute(UPDATE, (1, first))
    time.sleep(0.1)
    younger.execute(UPDATE, (2, second))
    sides = [Side(older, UPDATE, 1, second), Side(younger, UPDATE, 2, first)]
    assert run_all(sides) == [None, "40P01"]
    assert items.values() == [1, 1, 0]
    assert max(side.took for side in sides) < FOUND
    error = sides[1].error
    assert error is not None
    assert error.diag.message_primary == "deadlock detected"
    lines = (error.diag.message_detail or "").splitlines()
    pattern = r'Process \d+ of shard "s[01]" waits for ShareLock on transaction \d+; blocked by process \d+\.'
    assert len(lines) == 2
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_the_younger_is_cancelled_also_if_it_waited_first(items: Items) -> None:
    first, second, _ = items.keys
    older, younger = items.session(0), items.session(1)
    older.execute(UPDATE, (1, first))
    time.sleep(0.1)
    younger.execute(UPDATE, (2, second))
    assert run_all([Side(younger, UPDATE, 2, first), Side(older, UPDATE, 1, second)]) == ["40P01", None]


def test_a_deadlock_of_three_over_three_shards_has_one_victim(items: Items) -> None:
    sessions = [items.session(number % 2) for number in range(3)]
    for number, session in enumerate(sessions):
        session.execute(UPDATE, (number, items.keys[number]))
        time.sleep(0.1)
    sides = [Side(session, UPDATE, 9, items.keys[(number + 1) % 3]) for number, session in enumerate(sessions)]
    assert run_all(sides) == [None, None, "40P01"]
    assert max(side.took for side in sides) < FOUND


def test_a_deadlock_that_passes_through_a_session_of_one_server_is_found(items: Items) -> None:
    """The older waits for a session that has come without a proxy, and that for the younger."""
    first, second, _ = items.keys
    older, younger = items.session(0), items.session(1)
    direct = items.sessions.enter_context(psycopg.connect(items.databases.shards[1]))
    older.execute(UPDATE, (1, first))
    time.sleep(0.1)
    younger.execute(UPDATE, (2, second))
    other = items.spare()[1]
    direct.execute(UPDATE, (3, other))
    sides = [Side(direct, UPDATE, 3, second), Side(older, UPDATE, 1, other), Side(younger, UPDATE, 2, first)]
    assert run_all(sides) == [None, None, "40P01"]


def test_what_waits_in_no_cycle_goes_on_waiting(items: Items) -> None:
    """A chain of three over two shards, longer than any look: nobody is cancelled."""
    first, second, third = items.keys
    last, middle, waiter = items.session(0), items.session(1), items.session(0)
    last.execute(UPDATE, (1, third))
    middle.execute(UPDATE, (2, second))
    waiter.execute(UPDATE, (3, first))
    sides = [Side(middle, UPDATE, 2, third), Side(waiter, UPDATE, 3, second)]
    for side in sides:
        side.start()
    time.sleep(3.0)
    assert all(side.is_alive() for side in sides)
    last.commit()
    for side in sides:
        side.join(10)
    assert [side.error for side in sides] == [None, None]
    assert items.values() == [3, 3, 2]


def test_nothing_is_left_on_the_shards(items: Items) -> None:
    """What proxies tell each other about waits goes with the waits."""
    first, second, _ = items.keys
    older, younger = items.session(0), items.session(1)
    older.execute(UPDATE, (1, first))
    younger.execute(UPDATE, (2, second))
    run_all([Side(older, UPDATE, 1, second), Side(younger, UPDATE, 2, first)])
    left = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database WHERE locktype = 'advisory'"
    deadline = time.monotonic() + 5
    while any(row != (0,) for [row] in items.databases.rows(f"{left} AND datname = current_database()")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_pipelines_that_insert_the_same_keys_crosswise_end(items: Items) -> None:
    """Each sends two INSERTs without reading; the first of each has come first on its shard."""
    first, second, _ = items.spare()
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(proxy.dsn("shop"))) for proxy in items.proxies]
        for client in clients:
            # From the second time on the INSERT goes by the fast lane.
            for key in (first, second):
                assert client.query(f"DELETE FROM items WHERE id = {key}").tags[0].startswith("DELETE")
                assert client.exchange(insert(key) + encode.SYNC).tags == ["INSERT 0 1"]
                assert client.query(f"DELETE FROM items WHERE id = {key}").tags == ["DELETE 1"]
        clients[0].send(insert(first))
        clients[1].send(insert(second))
        time.sleep(0.3)
        clients[0].send(insert(second) + encode.SYNC)
        clients[1].send(insert(first) + encode.SYNC)
        begun = time.monotonic()
        replies = [client.exchange(b"") for client in clients]
        assert sorted(reply.error["C"] if reply.error else "" for reply in replies) == ["", "40P01"]
        assert time.monotonic() - begun < FOUND


def insert(key: int) -> bytes:
    """Return the messages of an INSERT of this key, up to Execute."""
    bind = encode.bind(b"", b"", (), [b"%d" % key], ())
    return encode.parse(b"", b"INSERT INTO items VALUES ($1, 1)", [23]) + bind + encode.execute(b"")


def test_copy_and_truncate_side_by_side_do_not_deadlock(servers18: Servers, run_proxy: RunProxy) -> None:
    """Both take their locks on the first shard first, whichever shards have rows; 10,000 statements ran as well."""
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE items (id bigint, n int)", oracle=False)
    proxy = run_proxy(databases.config(TABLES))
    statements = itertools.count()
    errors: list[psycopg.Error] = []

    def session(seed: int | None) -> None:
        rows = random.Random(seed)
        with psycopg.connect(proxy.dsn("shop"), autocommit=True) as connection:
            while next(statements) < STORM:
                try:
                    if seed is None:
                        connection.execute("TRUNCATE items")
                        continue
                    with connection.cursor().copy("COPY items FROM STDIN") as copy:
                        for _ in range(rows.choice((1, 2, 3, 10, 200))):
                            copy.write_row((rows.randrange(10**9), 1))
                except psycopg.Error as error:
                    errors.append(error)

    threads = [threading.Thread(target=session, args=(seed,)) for seed in (1, 2, 3, None, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
    databases.drop()


def test_a_cycle_that_no_proxy_can_see_ends_by_the_timeout(one_server: Databases, run_proxy: RunProxy) -> None:
    """The other side is two sessions of a client that has come without a proxy."""
    one_server.execute("CREATE TABLE items (id int PRIMARY KEY, n int)", oracle=False)
    config = one_server.config(TABLES).replace('name = "shop"', 'name = "shop"\ndeadlock_timeout = 2.0', 1)
    proxy = run_proxy(config)
    with psycopg.connect(proxy.dsn("shop")) as one, psycopg.connect(one_server.shards[1]) as direct:
        with one.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(30):
                copy.write_row((number, 0))
        one.commit()
        first, second = keys_on_different_shards(one_server)
        direct.execute(UPDATE, (2, second))
        one.execute(UPDATE, (1, first))
        begun = time.monotonic()
        with pytest.raises(psycopg.errors.DeadlockDetected, match="not granted for 2 seconds"):
            one.execute(UPDATE, (1, second))
        assert 1.0 < time.monotonic() - begun < 5.0


async def test_a_cancel_that_came_too_late_leaves_no_reason(
    one_server: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the lock is granted while the watch asks, so the cancel meets nothing; the next one is the user's."""
    info = psycopg.conninfo.conninfo_to_dict(one_server.shards[0])
    address = Address("s0", str(info["host"]), int(info["port"] or 0), str(info["user"]), str(info["dbname"]))
    watch = DeadlockWatch([address, address], 0.2)
    shards = Shards([address, address], {}, NoClient(), lambda *_: None, {}, watch)

    async def blocked(_: LockView, pids: Sequence[int]) -> list[Blocked]:
        return [Blocked(pid, (1,), {"locktype": "other", "mode": "ShareLock"}) for pid in pids]

    monkeypatch.setattr(LockView, "blocked", blocked)
    shards.transaction.begin()
    connection = (await shards.join([0, 1]))[0]
    sleeping = asyncio.ensure_future(
        connection.execute("DO $$ BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END $$")
    )
    await asyncio.sleep(0.5)
    await watch.close()
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
