"""A COPY of a statement that has just run: its client is answered first, and the shards begin with the rows in hand."""

import threading
import time
from collections.abc import Iterator, Sequence

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute, query
from tests.support.rawclient import Protocol, RawClient, Reply
from tests.support.twin import Twin

COPY = "COPY t FROM STDIN"
KEYS = range(1, 31)
PATIENCE = 20.0
REORDER = "ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN x int"
RENAME = "ALTER TABLE t RENAME a TO y; ALTER TABLE t RENAME x TO a; ALTER TABLE t RENAME y TO x"
REPLACE = "DROP TABLE t; CREATE TABLE t (a int, x int)"
FUNCTIONS = """
    CREATE FUNCTION hide() RETURNS void LANGUAGE sql AS 'CREATE TEMP TABLE t (a int, x int)';
    CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$;
"""
PROTOCOLS: list[Protocol] = ["simple", "extended", "pipelined", "pipelined, extended"]


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, commit="two-phase") as twin:
        twin.databases.execute(FUNCTIONS)
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.databases.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (x int, a int)")
    return module_twin


@pytest.fixture
def client(twin: Twin) -> Iterator[RawClient]:
    """A session that has run the COPY."""
    with RawClient(twin.dsn) as client:
        assert client.copy(COPY, b"").tags == ["COPY 0"]
        yield client


def lines(keys: Sequence[int]) -> bytes:
    return "".join(f"{key}\t{key + 1000}\n" for key in keys).encode()


def rows(databases: Databases) -> int:
    return sum(map(len, databases.rows("TABLE t")))


def well_placed(twin: Twin) -> None:
    """Each row is found by its key."""
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        keys = [key for found in twin.databases.rows("SELECT a FROM t") for (key,) in found]
        assert all(connection.execute("SELECT 1 FROM t WHERE a = %s", (key,)).fetchall() for key in keys)
    at_rest(twin)


def at_rest(twin: Twin) -> None:
    """No session is left in a transaction; one that has just been closed may take a moment."""
    deadline = time.monotonic() + PATIENCE
    while twin.working():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("ddl", [REORDER, RENAME, REPLACE])
def test_ddl_outside_the_proxy(twin: Twin, client: RawClient, ddl: str, protocol: Protocol) -> None:
    """The shards find it in front of the rows, which are placed anew by the columns of now."""
    for number in range(3):
        assert client.copy(COPY, lines(KEYS[:number]), protocol=protocol).tags == [f"COPY {number}"]
    twin.databases.execute(ddl, oracle=False)
    assert client.copy(COPY, lines(KEYS), protocol=protocol).tags == [f"COPY {len(KEYS)}"]
    well_placed(twin)


@pytest.mark.parametrize("where", range(3))
def test_ddl_on_one_shard(twin: Twin, client: RawClient, where: int) -> None:
    execute(twin.databases.shards[where], "ALTER TABLE t ADD z int")
    reply = client.copy(COPY, lines(KEYS))
    assert reply.error is not None
    assert reply.error["C"] == "55000"
    assert rows(twin.databases) == 0
    execute(twin.databases.shards[where], "ALTER TABLE t DROP z")
    assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
    well_placed(twin)


@pytest.mark.parametrize("ddl", [REORDER, RENAME])
def test_ddl_that_the_copy_waits_for(twin: Twin, client: RawClient, ddl: str) -> None:
    replies: list[Reply] = []
    changes = [psycopg.connect(shard) for shard in twin.databases.shards]
    for change in changes:
        change.execute(ddl.encode())
    thread = threading.Thread(target=lambda: replies.append(client.copy(COPY, lines(KEYS))))
    thread.start()
    until_one_waits(twin)
    for change in changes:
        change.commit()
        change.close()
    thread.join(PATIENCE)
    assert [reply.tags for reply in replies] == [[f"COPY {len(KEYS)}"]]
    well_placed(twin)


def waiting(twin: Twin) -> list[int]:
    """The backends that wait for a lock."""
    return [pid for (pid,) in twin.databases.oracle_rows("SELECT pid FROM pg_locks WHERE NOT granted")]


def until_one_waits(twin: Twin) -> None:
    deadline = time.monotonic() + PATIENCE
    while not waiting(twin):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_shard_is_lost_on_the_way(twin: Twin, client: RawClient) -> None:
    """Its backend is ended while it waits in front of the COPY: nothing is loaded, and the next COPY goes well."""
    replies: list[Reply] = []
    with psycopg.connect(twin.databases.shards[1]) as blocker:
        blocker.execute("LOCK TABLE t")
        thread = threading.Thread(target=lambda: replies.append(client.copy(COPY, lines(KEYS))))
        thread.start()
        until_one_waits(twin)
        for pid in waiting(twin):
            query(twin.databases.oracle, f"SELECT pg_terminate_backend({pid})")
        thread.join(PATIENCE)
    assert [reply.error["C"] for reply in replies if reply.error] == ["08006"]
    assert rows(twin.databases) == 0
    assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
    well_placed(twin)


def test_the_table_is_dropped(twin: Twin, client: RawClient) -> None:
    twin.databases.execute("DROP TABLE t", oracle=False)
    reply = client.copy(COPY, lines(KEYS))
    assert reply.error is not None
    assert reply.error["C"] == "42P01"
    assert reply.status == "I"


def test_the_privilege_is_revoked(twin: Twin) -> None:
    role = f"late_{time.time_ns()}"
    execute(twin.databases.oracle, f"CREATE ROLE {role}")
    twin.databases.execute(f"GRANT INSERT ON t TO {role}", oracle=False)
    with RawClient(twin.dsn) as client:
        client.query(f"SET ROLE {role}")
        assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
        twin.databases.execute(f"REVOKE INSERT ON t FROM {role}", oracle=False)
        reply = client.copy(COPY, lines(KEYS))
        assert reply.error is not None
        assert reply.error["C"] == "42501"
    assert rows(twin.databases) == len(KEYS)
    twin.databases.execute(f"DROP OWNED BY {role}", oracle=False)
    execute(twin.databases.oracle, f"DROP ROLE {role}")


def test_another_table_of_the_name(twin: Twin, client: RawClient) -> None:
    """One of the session's own, whichever way it has come."""
    with RawClient(twin.dsn) as other:
        assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
        assert client.query("SELECT hide()").error is None
        assert other.copy(COPY, b"").tags == ["COPY 0"]
        assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
        assert rows(twin.databases) == len(KEYS)
    assert client.query("SELECT count(*) FROM t").rows == [[b"%d" % len(KEYS)]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bad_row(twin: Twin, client: RawClient, protocol: Protocol) -> None:
    """The client's line, the earliest of all shards'; a transaction block fails, and goes on after ROLLBACK TO."""
    data = lines(KEYS) + b"x\t7\n" + lines(KEYS) + b"8\n"
    for _ in range(2):
        reply = client.copy(COPY, data, protocol=protocol)
        assert (reply.error or {})["C"] == "22P02"
        assert reply.line == len(KEYS) + 1
        assert client.copy(COPY, b"1\t2\n", protocol=protocol).tags == ["COPY 1"]
    client.query("BEGIN")
    client.query("SAVEPOINT a")
    assert client.copy(COPY, data).status == "E"
    client.query("ROLLBACK TO a")
    assert client.copy(COPY, lines(KEYS), protocol=protocol).tags == [f"COPY {len(KEYS)}"]
    assert client.query("COMMIT").tags == ["COMMIT"]
    assert rows(twin.databases) == 2 + len(KEYS)
    well_placed(twin)


@pytest.mark.parametrize("size", [100, 70_000, 300_000, 3_000_000])
@pytest.mark.parametrize("end", [encode.COPY_DONE, encode.copy_fail("no more")])
def test_sizes(twin: Twin, client: RawClient, size: int, end: bytes) -> None:
    """What can be held, and what cannot: each row once, in any frames."""
    data = lines(range(size // 11))
    count = data.count(b"\n")
    reply = client.copy(COPY, data, frames=range(0, len(data), 40_000), end=end)
    if end == encode.COPY_DONE:
        assert reply.tags == [f"COPY {count}"]
        assert rows(twin.databases) == count
    else:
        assert (reply.error or {})["C"] == "57014"
        assert reply.line == count + 1
        assert rows(twin.databases) == 0
    at_rest(twin)


def test_a_client_that_takes_its_time(twin: Twin, client: RawClient) -> None:
    """Its locks are taken early, as those of any COPY that lasts."""
    reply = client.copy(COPY, lines(KEYS), segments=[20, 40, 60], pause=0.15)
    assert reply.tags == [f"COPY {len(KEYS)}"]
    well_placed(twin)


def test_the_encoding_changes(twin: Twin, client: RawClient) -> None:
    twin.databases.execute("DROP TABLE t; CREATE TABLE t (a text, x int)", oracle=False)
    for encoding in ("UTF8", "LATIN1", "UTF8", "LATIN1"):
        client.query(f"SET client_encoding = '{encoding}'")
        data = "".join(f"é{key}\t1\n" for key in KEYS).encode(encoding)
        assert client.copy(COPY, data).tags == [f"COPY {len(KEYS)}"]
    found = [sorted(key for (key,) in part) for part in twin.databases.rows("SELECT a FROM t")]
    assert sum(map(len, found)) == 4 * len(KEYS)
    assert sum(len(set(part)) for part in found) == len(KEYS)


def test_a_header_that_must_match(twin: Twin, client: RawClient) -> None:
    sql = "COPY t FROM STDIN (FORMAT csv, HEADER match)"
    for _ in range(2):
        assert client.copy(sql, b"x,a\n1,2\n").tags == ["COPY 1"]
        assert client.copy(sql, b"x,a\n").tags == ["COPY 0"]
        for data in (b"a,x\n1,2\n", b"a,x\n"):
            reply = client.copy(sql, data)
            assert (reply.error or {})["C"] == "22P04"
            assert reply.line == 1


def test_deallocate_and_discard(twin: Twin, client: RawClient) -> None:
    for sql in ("DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS", "SELECT forget()"):
        assert client.query(sql).error is None
        for _ in range(3):
            assert client.copy(COPY, lines(KEYS)).tags == [f"COPY {len(KEYS)}"]
    well_placed(twin)
