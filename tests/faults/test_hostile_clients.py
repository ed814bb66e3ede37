"""Strangers who want harm: forged lengths, floods, one byte a second, guessed keys and passwords."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.faults.cell import config
from tests.faults.slow_loris import measure
from tests.support.databases import Databases, Servers, execute
from tests.support.proxy import Proxy

PATIENCE = 10.0
MIB = 1 << 20
STARTUP = encode.startup_message({"user": "postgres", "database": "shop"})
TABLE = "CREATE TABLE loads (load int8, id int8, note text)"


@pytest.fixture(scope="module")
def databases(servers18: Servers) -> Iterator[Databases]:
    made = Databases.create(servers18, one_server=True)
    made.execute(TABLE, oracle=False)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def proxy(databases: Databases, run_proxy_for_module: RunProxy) -> Proxy:
    return run_proxy_for_module(config(databases.shards, commit="one-phase", seconds=5.0))


@contextlib.asynccontextmanager
async def stranger(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # `close` would wait for a proxy that does not read


async def answer_to(proxy: Proxy, data: bytes) -> bytes:
    """Send bytes and return all that comes until the proxy closes."""
    async with stranger(proxy) as (reader, writer):
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionError:
            return b""


def forged(code: bytes, length: int) -> bytes:
    return code + struct.pack("!I", length % (1 << 32))


@pytest.mark.parametrize("length", [-1, 0, 3, 10_005, 2**30, 2**31 - 1, -(2**31)])
async def test_a_forged_startup_length(proxy: Proxy, length: int) -> None:
    """Closed at once, without memory for what was announced."""
    before = proxy.rss()
    for _ in range(20):
        answer = await answer_to(proxy, forged(b"", length) + b"x" * 64)
        assert answer == b"" or (answer[:1] == b"E" and answer.count(b"SFATAL\0") == 1)
    assert proxy.rss() - before < 8 * MIB


@pytest.mark.parametrize("code", [b"Q", b"P", b"B", b"d", b"X", b"\0", b"\xff"])
@pytest.mark.parametrize("length", [-1, 0, 3, 2**31 - 1])
async def test_a_forged_message_length(proxy: Proxy, code: bytes, length: int) -> None:
    """The end, as PostgreSQL: after an unknown type with a FATAL error, after a bad length without one."""
    before = proxy.rss()
    answer = await answer_to(proxy, STARTUP + forged(code, length) + b"x" * 64)
    ready = encode.ready_for_query(b"I")
    rest = answer[answer.index(ready) + len(ready) :]
    assert rest == b"" or (rest.count(b"SFATAL\0") == 1 and b"C08P01\0" in rest)
    assert (rest != b"") == (code in {b"\0", b"\xff"})
    assert proxy.rss() - before < 8 * MIB


async def test_a_message_that_is_announced_and_never_sent(proxy: Proxy) -> None:
    """A hundred clients announce 512 MiB each: they are not allocated."""
    before = proxy.rss()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(100):
            _, writer = await stack.enter_async_context(stranger(proxy))
            writer.write(STARTUP + forged(b"Q", 512 * MIB) + b"SELECT")
        await asyncio.sleep(1.0)
        assert proxy.rss() - before < 32 * MIB


async def test_a_flood_of_half_startups(databases: Databases, run_proxy: RunProxy) -> None:
    """They fill the places for a moment; the deadline throws them out, and good clients come in again."""
    limits = "max_clients = 100\nlogin_timeout = 3.0"  # longer than 300 connects take a busy machine
    proxy = run_proxy(config(databases.shards, commit="one-phase", server=limits))
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(stranger(proxy)) for _ in range(300)]
        for _, writer in held:
            writer.write(STARTUP[:9])
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            await psycopg.AsyncConnection.connect(proxy.dsn(), sslmode="disable")
        begun = time.monotonic()
        for reader, _ in held:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), PATIENCE)
        assert time.monotonic() - begun < PATIENCE
        async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as good:
            await good.execute("SELECT 1")


async def test_one_byte_a_second(proxy: Proxy) -> None:
    """Two hundred of them here, a thousand in the long form; generous, for the machine is shared."""
    figures = await measure(proxy, connections=200, seconds=2.0)
    assert figures.dropped == 0
    assert figures.ratio < 4 or figures.during < 0.025, figures


async def test_guessed_cancel_keys(databases: Databases, proxy: Proxy) -> None:
    """The process ID is right, the key never: the query waits on, and ends when it gets its lock."""
    lock = "SELECT pg_advisory_lock(1)"
    async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as client:
        with contextlib.ExitStack() as held:
            for dsn in databases.shards:
                held.enter_context(psycopg.connect(dsn, autocommit=True)).execute(lock)
            job = asyncio.ensure_future(client.execute(lock))
            for number in range(1000):
                key = struct.pack("!I", number * 4_294_967 % 2**32)
                assert await answer_to(proxy, encode.cancel_request(client.info.backend_pid, key)) == b""
            assert not job.done()
        await job


async def test_wrong_passwords(databases: Databases, run_proxy: RunProxy) -> None:
    """Fifty tries, known users and unknown ones: all look the same, none gets in, the right one does."""
    users = '[[users]]\nname = "app"\npassword = "right"\ndatabases = ["shop"]\n'
    proxy = run_proxy(config(databases.shards, commit="one-phase") + users)
    said = set()
    for number in range(50):
        user = "app" if number % 2 else "stranger"
        with pytest.raises(psycopg.OperationalError) as caught:
            await psycopg.AsyncConnection.connect(proxy.dsn(user=user, password=f"wrong{number}"))
        said.add(str(caught.value).rpartition("FATAL:")[2].replace(user, "USER").strip())
    assert said == {'password authentication failed for user "USER"'}
    async with await psycopg.AsyncConnection.connect(proxy.dsn(user="app", password="right")) as good:
        await good.execute("SELECT 1")
    log = proxy.log()
    assert "wrong" not in log
    assert "right" not in log


async def test_a_newline_in_a_name_writes_no_log_line(databases: Databases, run_proxy: RunProxy) -> None:
    users = '[[users]]\nname = "app"\npassword = "right"\ndatabases = ["shop"]\n'
    proxy = run_proxy(config(databases.shards, commit="one-phase") + users)
    for name in ("user", "database", "application_name"):
        words = {"user": "app", "database": "shop", name: "x\n2026-01-01 00:00:00,000 ERROR injected\r\x1b[2J"}
        async with stranger(proxy) as (reader, writer):
            writer.write(encode.startup_message(words) + encode.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=a"))
            writer.write(encode.sasl_response(b"c=biws,r=a,p=AAAA"))
            await asyncio.wait_for(reader.read(), PATIENCE)
    lines = proxy.log().splitlines()
    assert not [line for line in lines if "injected" in line and not line.startswith("20")]
    assert not [line for line in lines if line.endswith("ERROR injected")]
    assert "\x1b" not in proxy.log()


async def test_a_client_that_never_reads(databases: Databases, proxy: Proxy) -> None:
    """It asks for much and reads nothing: the proxy holds the shards back instead of its memory."""
    execute(databases.shards[0], "INSERT INTO loads SELECT 1, n, repeat('x', 1000) FROM generate_series(1, 60000) n")
    before = proxy.rss()
    async with stranger(proxy) as (_, writer):
        writer.write(STARTUP + encode.query(b"SELECT * FROM loads") * 3)
        await asyncio.sleep(2.0)
        assert proxy.rss() - before < 24 * MIB
