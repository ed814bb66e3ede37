"""asyncpg: prepared statements with a cache, binary formats, cursors, COPY, transactions, reset, pool."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.twin import Twin

NEW = range(1001, 1010)


Connection = Any  # asyncpg.Connection is generic over its record class in the stubs only


@pytest.fixture
async def connection(twin: Twin) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(twin.dsn)
    yield connection
    await connection.close()


async def test_fetching(connection: Connection) -> None:
    assert await connection.fetchval("SELECT 1") == 1
    assert (await connection.fetchrow("SELECT * FROM t WHERE a = $1", 7))["b"] == "row 7"
    assert await connection.fetchrow("SELECT * FROM t WHERE a = $1", 70_000) is None
    assert sorted(row["a"] for row in await connection.fetch("SELECT a FROM t")) == list(range(1, 61))
    row = await connection.fetchrow("SELECT a FROM t")
    assert 1 <= row["a"] <= 60
    assert await connection.execute("SELECT 1; SELECT 2") == "SELECT 1"
    assert await connection.fetchval("SHOW server_version") == connection.get_settings().server_version


async def test_changes(connection: Connection) -> None:
    for key in NEW:
        assert await connection.execute("INSERT INTO t VALUES ($1, $2)", key, f"new {key}") == "INSERT 0 1"
    assert await connection.fetchval("UPDATE t SET b = $2 WHERE a = $1 RETURNING b", 1001, "y") == "y"
    assert await connection.fetchrow("DELETE FROM t WHERE a = $1 RETURNING a", 1002) == (1002,)
    await connection.executemany("DELETE FROM t WHERE a = $1", [(key,) for key in NEW])
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(key, "x") for key in range(1001, 1301)])
    assert len(await connection.fetch("SELECT a FROM t WHERE a > 1000")) == 300
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(2001, "x"), (2002, "x"), (1, "x")])
    assert await connection.fetch("SELECT a FROM t WHERE a > 2000") == []
    many = await connection.fetchmany("INSERT INTO t VALUES ($1) RETURNING a", [(3001,), (3002,), (3003,)])
    assert [row["a"] for row in many] == [3001, 3002, 3003]


async def test_prepared_statements(connection: Connection) -> None:
    statement = await connection.prepare("SELECT b, $2::int + 1 AS n FROM t WHERE a = $1")
    assert [parameter.name for parameter in statement.get_parameters()] == ["int4", "int4"]
    assert [attribute.name for attribute in statement.get_attributes()] == ["b", "n"]
    for key in range(1, 11):
        assert await statement.fetchrow(key, key) == (f"row {key}", key + 1)
    assert await statement.fetchval(3, 0) == "row 3"
    assert len(await statement.fetch(3, 0)) == 1
    assert statement.get_statusmsg() == "SELECT 1"
    assert await statement.explain(3, 0)


async def test_a_limit_over_several_shards(connection: Connection) -> None:
    """As a parameter in binary, with fetchrow()'s row limit, and in a cursor."""
    few = "SELECT a FROM t LIMIT $1"
    for limit in (3, 60, 0, 1, None, 61):
        rows = {row["a"] for row in await connection.fetch(few, limit)}
        assert len(rows) == min(60 if limit is None else limit, 60)
        assert rows <= set(range(1, 61))
    assert await connection.fetchrow(few, 3)
    assert await connection.fetchval("SELECT true FROM t WHERE a > $1 LIMIT 1", 50)
    async with connection.transaction():
        assert len({row["a"] async for row in connection.cursor(few, 50, prefetch=7)}) == 50
    with pytest.raises(asyncpg.InvalidRowCountInLimitClauseError):
        await connection.fetch(few, -1)


async def test_types(connection: Connection) -> None:
    await connection.execute("CREATE TEMP TABLE types (i int, c text[], j jsonb)")
    await connection.execute("INSERT INTO types VALUES ($1, $2, $3)", 1, ["a", None], '{"x": 1}')
    assert await connection.fetchrow("SELECT * FROM types") == (1, ["a", None], '{"x": 1}')
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=len)
    assert await connection.fetchval("SELECT j FROM types") == len('{"x": 1}')


async def test_cursors(connection: Connection) -> None:
    async with connection.transaction():
        seen = [row["a"] async for row in connection.cursor("SELECT a FROM t", prefetch=7)]
        assert sorted(seen) == list(range(1, 61))
        cursor = await connection.cursor("SELECT a FROM t WHERE a > $1", 10)
        assert len(await cursor.fetch(5)) == 5
        assert await cursor.fetchrow() is not None
        assert len(await cursor.fetch(100)) == 44
        assert await cursor.fetchrow() is None
        two = [await connection.cursor("SELECT a FROM t WHERE a = 1"), await connection.cursor("SELECT a FROM ref")]
        assert await two[0].fetchrow() == (1,)
        assert len(await two[1].fetch(3)) == 3
        assert await two[1].forward(10) == 10
    assert await connection.fetchval("SELECT 1") == 1


async def test_copy(connection: Connection) -> None:
    records = [(key, None if key % 3 else f"x\t\n{key}") for key in range(1001, 6001)]
    assert await connection.copy_records_to_table("t", records=records) == "COPY 5000"
    assert sorted(map(tuple, await connection.fetch("SELECT a, b FROM t WHERE a > 1000"))) == records
    csv = io.BytesIO(b"".join(b"%d,line %d\n" % (key, key) for key in range(6001, 9001)))
    assert await connection.copy_to_table("t", source=csv, format="csv", columns=["a", "b"]) == "COPY 3000"
    out = io.BytesIO()
    assert await connection.copy_from_query("SELECT a FROM t WHERE a > 6000", output=out, format="csv") == "COPY 3000"
    assert sorted(map(int, out.getvalue().split())) == list(range(6001, 9001))
    binary = io.BytesIO()
    assert await connection.copy_from_table("t", output=binary, format="binary") == "COPY 8060"
    await connection.execute("CREATE TEMP TABLE again (a int, b text)")
    binary.seek(0)
    assert await connection.copy_to_table("again", source=binary, format="binary") == "COPY 8060"
    assert await connection.fetchval("SELECT count(*) FROM again") == 8060


async def test_copy_errors(connection: Connection) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.copy_records_to_table("t", records=[(1001, "x"), (1, "x")])
    with pytest.raises(asyncpg.BadCopyFileFormatError):
        await connection.copy_to_table("t", source=io.BytesIO(b"1001\tx\ty\n" * 100_000))

    async def broken() -> AsyncIterator[bytes]:
        yield b"1001\tx\n"
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, asyncpg.QueryCanceledError)):
        await connection.copy_to_table("t", source=broken())
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.copy_records_to_table("nobody", records=[(1,)])
    assert await connection.fetch("SELECT a FROM t WHERE a > 1000") == []


async def _nested(connection: Connection, key: int) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES ($1, 'x')", key)
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1, 'x')")


async def test_transactions_and_savepoints(connection: Connection) -> None:
    async with connection.transaction(isolation="serializable"):
        await connection.execute("INSERT INTO t VALUES (1001, 'x')")
        for key in (1002, 1003, 1004):
            with pytest.raises(asyncpg.UniqueViolationError):
                await _nested(connection, key)
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1005, 'x')")
    assert sorted(await connection.fetch("SELECT a FROM t WHERE a > 1000")) == [(1001,), (1005,)]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with connection.transaction(readonly=True):
            await connection.execute("INSERT INTO t VALUES (1006, 'x')")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM t WHERE a = $1", 1001)
    await transaction.rollback()
    assert len(await connection.fetch("SELECT a FROM t WHERE a > 1000")) == 2


async def test_the_statement_cache(twin: Twin) -> None:
    """Statements fall out of the cache and come back; DDL makes cached plans wrong."""
    connection: Connection = await asyncpg.connect(twin.dsn, statement_cache_size=3)
    try:
        for _ in range(3):
            for number in range(8):
                assert await connection.fetchval(f"SELECT a + {number} FROM t WHERE a = $1", 5) == 5 + number
        assert await connection.fetch("SELECT * FROM ref WHERE a = 1") == [(1, "row 1")]
        await connection.execute("ALTER TABLE ref ADD c int")
        try:
            assert await connection.fetch("SELECT * FROM ref WHERE a = $1", 1) == [(1, "row 1", None)]
            assert await connection.fetch("SELECT * FROM ref WHERE a = 1") == [(1, "row 1", None)]
        finally:
            await connection.execute("ALTER TABLE ref DROP c")
        assert await connection.fetch("SELECT * FROM ref WHERE a = $1", 1) == [(1, "row 1")]
    finally:
        await connection.close()


async def test_reset(connection: Connection) -> None:
    await connection.execute("SET work_mem = '13MB'")
    await connection.execute("LISTEN news")
    await connection.execute("SELECT pg_advisory_lock(5)")
    await connection.reset()
    assert await connection.fetchval("SHOW work_mem") == "4MB"
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO t VALUES (1001, 'x')")
    await connection.reset()
    assert await connection.fetch("SELECT a FROM t WHERE a > 1000") == []


async def test_settings_and_listeners(twin: Twin) -> None:
    listener = await asyncpg.connect(twin.dsn, server_settings={"application_name": "mine", "search_path": "public"})
    speaker = await asyncpg.connect(twin.dsn)
    try:
        assert await listener.fetchval("SHOW application_name") == "mine"
        heard: asyncio.Queue[str] = asyncio.Queue()
        await listener.add_listener("news", lambda *arguments: heard.put_nowait(arguments[3]))
        await speaker.execute("SELECT pg_notify('news', $1)", "hello")
        assert await asyncio.wait_for(heard.get(), 10) == "hello"
        notices: list[str] = []
        listener.add_log_listener(lambda _, message: notices.append(message.message))
        await listener.execute("SELECT say('a'); SELECT say('b')")
        assert notices == ["a", "b"]
    finally:
        await listener.close()
        await speaker.close()


async def test_timeouts_cancel(connection: Connection) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT a, pg_sleep(30) FROM t", timeout=0.2)
        assert await connection.fetchval("SELECT 1") == 1
    task = asyncio.ensure_future(connection.fetch("SELECT a, pg_sleep(30) FROM t"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await connection.fetch("SELECT a FROM t")) == 60


async def test_a_pool(twin: Twin) -> None:
    async with asyncpg.create_pool(twin.dsn, min_size=2, max_size=6) as pool:

        async def work(number: int) -> None:
            async with pool.acquire() as connection, connection.transaction():
                key = 1001 + number
                await connection.execute("INSERT INTO t VALUES ($1, 'x')", key)
                assert await connection.fetchval("SELECT b FROM t WHERE a = $1", key) == "x"

        await asyncio.gather(*(work(number) for number in range(60)))
        assert len(await pool.fetch("SELECT a FROM t WHERE a > 1000")) == 60


async def test_errors(connection: Connection) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await connection.fetch("SELEC 1")
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.prepare("SELECT * FROM nobody")
    with pytest.raises(asyncpg.FeatureNotSupportedError) as refused:
        await connection.fetch("SELECT a FROM t ORDER BY a LIMIT $1", 3)
    assert refused.value.hint
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("SELECT * FROM t WHERE a = $1", "x")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetch("SELECT 1 / (a - 7) FROM t")
    assert await connection.fetchval("SELECT 1") == 1


async def test_a_timeout_ends_a_batch_between_its_statements_too(connection: Connection) -> None:
    """executemany is one batch; its cancel may come when no shard works, just before the next statement."""
    rows = [(1001 + number, "x") for number in range(2000)]
    for table in ("ref", "t"):
        insert = f"INSERT INTO {table} VALUES ($1, pg_sleep(0.001) || $2)"  # 2 s, and a cancel takes some ms
        for number in range(1, 13):
            with pytest.raises(TimeoutError):
                await connection.executemany(insert, rows, timeout=0.02 * number)
            assert not await connection.fetch(f"SELECT a FROM {table} WHERE a > 1000")
    assert connection.is_in_transaction() is False
