"""Statements over shards that are servers of their own: shards that are away, die, refuse the proxy or ask for a
password; and what goes to all shards at once."""

import asyncio
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from shardproxy.embedded import Server
from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.shard.connect import connect
from shardproxy.wire import encode
from tests.conftest import RunProxy, StartServer
from tests.support.databases import Servers, execute, query, toml
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient
from tests.support.twin import TABLES, Twin

DDL = (
    "CREATE TABLE t (a int PRIMARY KEY, b text); CREATE TABLE ref (a int PRIMARY KEY, b text); CREATE TABLE one (a int)"
)
SMALL = {"max_connections": "20", "max_prepared_transactions": "10"}


def config(dsns: list[str], **more: object) -> str:
    shards = toml([{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(dsns)])
    tables = TABLES[: len(dsns)]  # the third is on the second shard
    listed = "".join(
        "[[databases.tables]]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in table.items())
        for table in tables
    )
    head = '[server]\nlisten = "127.0.0.1:0"\ndrain_timeout = 2.0\n[[databases]]\nname = "shop"\ncommit = "one-phase"\n'
    rest = "".join(f"{name} = {toml(value)}\n" for name, value in more.items())
    return f"{head}{rest}shards = {shards}\n{listed}"


def key_of(shard: int) -> int:
    """A key that lies there (three shards): PostgreSQL's hash of 1, 2, 3 ... modulo 3, found by asking the shards."""
    return KEYS[shard]


KEYS: dict[int, int] = {}


@pytest.fixture
def shards(start_server: StartServer) -> list[Server]:
    servers = [start_server(settings=SMALL) for _ in range(3)]
    for server in servers:
        execute(server.dsn(), DDL)
    return servers


@pytest.fixture
def proxy(shards: list[Server], run_proxy: RunProxy) -> Proxy:
    proxy = run_proxy(config([server.dsn() for server in shards]))
    with psycopg.connect(proxy.dsn()) as connection, connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("".join(f"{key}\tx\n" for key in range(1, 31)))
    for number, server in enumerate(shards):
        [(KEYS[number],)] = query(server.dsn(), "SELECT min(a) FROM t")
    return proxy


def fields(client: RawClient, sql: str) -> tuple[str, str, str]:
    reply = client.query(sql)
    assert reply.error is not None, reply
    assert reply.order.endswith("EZ")
    assert reply.error["S"] == "ERROR"
    return reply.error["C"], reply.error["M"], reply.status or ""


def test_a_shard_that_is_away(shards: list[Server], proxy: Proxy) -> None:
    shards[1].stop()
    with RawClient(proxy.dsn()) as client:
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(0)}").rows == [[b"x"]]
        away = ("08001", 'could not connect to shard "s1"', "I")
        assert fields(client, f"SELECT b FROM t WHERE a = {key_of(1)}") == away
        assert fields(client, "SELECT b FROM t") == away
        assert fields(client, "COPY t FROM STDIN") == away
        assert fields(client, "UPDATE ref SET b = 'x'") == away
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(2)}").rows == [[b"x"]]
        client.query("BEGIN")
        assert client.query(f"UPDATE t SET b = 'y' WHERE a = {key_of(0)}").tags == ["UPDATE 1"]
        assert fields(client, f"UPDATE t SET b = 'y' WHERE a = {key_of(1)}") == (*away[:2], "E")
        assert client.query("COMMIT").tags == ["ROLLBACK"]
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(0)}").rows == [[b"x"]]
        shards[1].restart()
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(1)}").rows == [[b"x"]]
        assert len(client.query("SELECT b FROM t").rows) == 30


def test_the_first_shard_is_away_at_login(shards: list[Server], proxy: Proxy) -> None:
    shards[0].stop()
    # A setting of its own, so that nothing is known of such a session and a shard must be asked.
    with RawClient(proxy.dsn(), {"work_mem": "5MB"}) as client:
        assert client.query("SHOW work_mem").rows == [[b"5MB"]]
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(2)}").rows == [[b"x"]]
        assert fields(client, f"SELECT b FROM t WHERE a = {key_of(0)}")[0] == "08001"
    for server in shards[1:]:
        server.stop()
    with pytest.raises(psycopg.OperationalError, match='could not connect to shard "s2"'):
        psycopg.connect(proxy.dsn(), options="-c work_mem=6MB")
    for server in shards:
        server.restart()
    with psycopg.connect(proxy.dsn(), options="-c work_mem=6MB") as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("6MB",)


@pytest.mark.parametrize("how", ["terminate", "kill the server"])
def test_a_shard_dies_in_a_transaction(shards: list[Server], proxy: Proxy, how: str) -> None:
    with RawClient(proxy.dsn()) as client:
        client.query("BEGIN")
        for shard in range(3):
            assert client.query(f"UPDATE t SET b = 'y' WHERE a = {key_of(shard)}").tags == ["UPDATE 1"]
        _die(shards[1], how)
        time.sleep(0.2)
        lost = ("08006", 'connection to shard "s1" was lost', "E")
        assert fields(client, f"UPDATE t SET b = 'z' WHERE a = {key_of(1)}") == lost
        assert fields(client, "SELECT 1")[0] == "25P02"
        assert client.query("ROLLBACK").status == "I"
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(0)}").rows == [[b"x"]]
        client.query("BEGIN")
        assert client.query(f"UPDATE t SET b = 'y' WHERE a = {key_of(0)}").tags == ["UPDATE 1"]
        if how == "terminate":
            assert client.query(f"UPDATE t SET b = 'y' WHERE a = {key_of(1)}").tags == ["UPDATE 1"]
            client.query("SAVEPOINT x")
            _die(shards[1], how)
            time.sleep(0.2)
            code, message, status = fields(client, "COMMIT")
            assert (code, status) == ("08006", "I")
            assert "rolled back" in message
    if how == "terminate":
        assert {row for server in shards for row in query(server.dsn(), "SELECT DISTINCT b FROM t")} == {("x",)}


@pytest.mark.parametrize("how", ["terminate", "kill the server"])
def test_a_shard_dies_in_a_statement(shards: list[Server], proxy: Proxy, how: str) -> None:
    with RawClient(proxy.dsn()) as client:
        client.query("SELECT a FROM t")
        client.send(b"Q\0\0\0\x26SELECT a, pg_sleep(30) FROM t    \0")
        deadline = time.monotonic() + 10
        active = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
        while not query(shards[1].dsn(), active):
            assert time.monotonic() < deadline
        _die(shards[1], how)
        seen = []
        while (message := client.read()) is not None and message.type != ord("Z"):
            seen.append(message)
        assert seen[-1].type == ord("E")
        assert b"C08006\0" in seen[-1].payload
        assert b'shard "s1"' in seen[-1].payload
        assert b"SERROR\0" in seen[-1].payload
        assert client.query(f"SELECT b FROM t WHERE a = {key_of(0)}").rows == [[b"x"]]
        assert not query(shards[0].dsn(), active + " AND state = 'active'")


def _die(server: Server, how: str) -> None:
    if how == "terminate":
        name = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
        query(server.dsn(), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {name}")
    else:
        server.kill()


def test_idle_connections_that_a_shard_closes_are_opened_again(shards: list[Server], proxy: Proxy) -> None:
    with RawClient(proxy.dsn()) as client:
        client.query("SET work_mem = '7MB'")
        assert len(client.query("SELECT a FROM t").rows) == 30
        for server in shards:
            _die(server, "terminate")
        time.sleep(0.2)
        assert len(client.query("SELECT a FROM t").rows) == 30
        shown = f"SELECT current_setting('work_mem') FROM t WHERE a = {key_of(1)}"
        assert client.query(shown).rows == [[b"7MB"]]


def test_a_shard_with_no_connection_left(shards: list[Server], proxy: Proxy) -> None:
    held = []
    try:
        while True:
            held.append(psycopg.connect(shards[1].dsn()))
    except psycopg.OperationalError:
        pass
    try:
        with RawClient(proxy.dsn()) as client:
            reply = client.query(f"SELECT b FROM t WHERE a = {key_of(1)}")
            assert reply.error is not None
            assert (reply.error["S"], reply.error["C"], reply.status) == ("ERROR", "53300", "I")
            assert "s1" in reply.error["D"]
            assert client.query(f"SELECT b FROM t WHERE a = {key_of(0)}").rows == [[b"x"]]
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
def test_passwords_towards_shards(start_server: StartServer, run_proxy: RunProxy, method: str) -> None:
    hba = f"host all app all {method}\nhost all all all trust\n"
    server = start_server(
        settings=SMALL | {"password_encryption": "md5" if method == "md5" else "scram-sha-256"}, hba=hba
    )
    execute(server.dsn(), "CREATE ROLE app LOGIN PASSWORD 's3cret ü' SUPERUSER")
    execute(server.dsn(), DDL)
    location = server.dsn().split("@")[1]
    for secret, works in (("s3cret%20%C3%BC", True), ("wrong", False)):
        proxy = run_proxy(config([f"postgresql://app:{secret}@{location}"]))
        if works:
            with psycopg.connect(proxy.dsn()) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("app",)
        else:
            with pytest.raises(psycopg.OperationalError, match='could not connect to shard "s0"'):
                psycopg.connect(proxy.dsn())
        proxy.stop()
        assert "s3cret" not in proxy.log()


async def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    """AuthenticationOk in the middle of SCRAM: whoever sits at the shard's address wants to be believed."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(encode.authentication_sasl(["SCRAM-SHA-256"]))
        await reader.read(1000)
        writer.write(encode.authentication_ok() + encode.ready_for_query(b"I"))
        await reader.read(1000)
        writer.close()
        await writer.wait_closed()
        told.set()

    told = asyncio.Event()
    async with await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PgError) as refused:
            await connect(Address("s0", "127.0.0.1", port, "app", "shop", "s3cret"), {})
        await told.wait()
    assert refused.value.sqlstate == "08001"
    assert "without proving itself" in (refused.value.detail or "")


# One server for all shards is enough for these.


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, unlisted_tables="reference") as twin:
        twin.fill()
        yield twin


def test_ddl_is_on_all_shards_or_on_none(twin: Twin) -> None:
    twin.compare("CREATE TABLE d (a int, b text)", "CREATE INDEX ON d (b)", "COMMENT ON TABLE d IS 'x'")
    execute(twin.databases.shards[2], "DROP TABLE d")
    execute(twin.databases.oracle, "DROP TABLE d")
    twin.compare("DROP TABLE d", ignore="D")
    assert twin.databases.rows("SELECT to_regclass('d') IS NULL") == [[(False,)], [(False,)], [(True,)]]
    twin.proxied("DROP TABLE IF EXISTS d")
    assert twin.databases.rows("SELECT to_regclass('d') IS NULL") == [[(True,)]] * 3


def test_what_lock_table_does_not_take(twin: Twin) -> None:
    twin.compare(
        "CREATE MATERIALIZED VIEW made AS SELECT 7001 AS a, 'x' AS b", "CREATE SEQUENCE numbers",
        "INSERT INTO ref SELECT * FROM made", "UPDATE ref SET b = made.b || 'y' FROM made WHERE made.a = ref.a",
        "SELECT b FROM ref WHERE a = 7001", "INSERT INTO made VALUES (1, 'x')", "COPY made FROM STDIN",
        "COPY numbers FROM STDIN", "DELETE FROM numbers", "DELETE FROM ref WHERE a = 7001",
        "DROP MATERIALIZED VIEW made", "DROP SEQUENCE numbers", ignore="D",
    )  # fmt: skip


def test_what_runs_in_no_transaction_block(twin: Twin) -> None:
    twin.compare("VACUUM ref", "VACUUM t", "ANALYZE", "CREATE INDEX CONCURRENTLY t_late ON t (b)", "REINDEX TABLE t",
                 "DROP INDEX CONCURRENTLY t_late", "CHECKPOINT")  # fmt: skip
    execute(twin.databases.shards[1], "CREATE INDEX taken ON t (b)")
    [reply] = twin.proxied("CREATE INDEX CONCURRENTLY taken ON t (b)")
    assert reply.errors[0]["C"] == "42P07"
    assert "already done, and not undone, on: s0" in reply.errors[0]["D"]
    for shard in twin.databases.shards[:2]:
        execute(shard, "DROP INDEX taken")


def test_sighup_is_no_end(twin: Twin) -> None:
    with RawClient(twin.dsn) as client:
        client.query("BEGIN")
        client.query("INSERT INTO ref VALUES (5001, 'x')")
        twin.proxy.signal(signal.SIGHUP)
        time.sleep(0.3)
        assert client.query("SELECT b FROM ref WHERE a = 5001").rows == [[b"x"]]
        client.query("ROLLBACK")
