"""Where a COPY FROM begins: on the home shard, and on each other one when there are rows for it, or when it lasts."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.conftest import RunProxy, StartServer
from tests.support.databases import Databases, execute, query
from tests.support.rawclient import RawClient

pytestmark = pytest.mark.newest

TABLES = [{"name": "t", "placement": "hash", "key": ["a"]}]
MANY = 30
PATIENCE = 20.0
TRIGGER = """
    CREATE TABLE t (a int, b text);
    CREATE TABLE fired (at timestamptz DEFAULT now());
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO fired DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER note AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note()"""

PLAIN = "COPY t FROM STDIN"
HEADER = "COPY t FROM STDIN (FORMAT csv, HEADER)"
BINARY = "COPY t FROM STDIN (FORMAT binary)"


def text(key: int) -> bytes:
    return f"{key}\tx\n".encode()


def binary(key: int) -> bytes:
    return b"\0\2\0\0\0\4" + key.to_bytes(4, "big") + b"\0\0\0\1x"


FORMATS: dict[str, tuple[str, bytes, Callable[[int], bytes], bytes]] = {
    "text": (PLAIN, b"", text, b""),
    "CSV with a header": (HEADER, b"a,b\n", lambda key: b"%d,x\n" % key, b""),
    "binary": (BINARY, b"PGCOPY\n\377\r\n\0" + bytes(8), binary, b"\377\377"),
}


@pytest.fixture
def databases(one_server: Databases) -> Databases:
    one_server.execute(TRIGGER, oracle=False)
    return one_server


@pytest.fixture
def connection(databases: Databases, run_proxy: RunProxy) -> Iterator[psycopg.Connection]:
    with psycopg.connect(run_proxy(databases.config(TABLES)).dsn("shop"), autocommit=True) as connection:
        yield connection


def load(connection: psycopg.Connection, sql: str, *data: bytes) -> int:
    with connection.cursor() as cursor:
        with cursor.copy(sql.encode()) as copy:
            copy.write(b"".join(data))
        return cursor.rowcount


def counts(databases: Databases, table: str) -> list[int]:
    return [found for dsn in databases.shards for (found,) in query(dsn, f"SELECT count(*)::int FROM {table}")]


def sessions(databases: Databases, condition: str) -> int:
    """How many sessions of a database that is a shard are in this state."""
    names = ", ".join(f"'{psycopg.conninfo.conninfo_to_dict(dsn)['dbname']}'" for dsn in databases.shards)
    sql = f"SELECT count(*)::int FROM pg_stat_activity WHERE datname IN ({names}) AND {condition}"
    return int(query(databases.shards[0], sql)[0][0])


@pytest.mark.parametrize("name", FORMATS)
def test_statement_triggers_fire_where_rows_go(connection: psycopg.Connection, databases: Databases, name: str) -> None:
    """As often as there are shards with rows of the COPY, and once for a COPY without rows."""
    sql, head, row, tail = FORMATS[name]
    expected = 0
    for key in range(MANY):
        assert load(connection, sql, head, row(key), tail) == 1
        expected += 1
    assert sum(counts(databases, "fired")) == expected
    assert load(connection, sql, head, tail) == 0
    assert sum(counts(databases, "fired")) == expected + 1
    before = counts(databases, "fired")
    assert load(connection, sql, head, *map(row, range(MANY)), tail) == MANY
    assert counts(databases, "fired") == [count + 1 for count in before]
    rows = counts(databases, "t")
    assert sum(rows) == 2 * MANY
    assert all(rows)


def test_a_table_made_in_the_transaction(connection: psycopg.Connection, databases: Databases) -> None:
    """Its shards are all in the transaction before the COPY, which fires its triggers on all."""
    with connection.transaction():
        connection.execute("ALTER TABLE t ADD c int DEFAULT 7")
        assert load(connection, PLAIN, b"1\tx\t8\n") == 1
    assert sum(counts(databases, "t")) == 1
    assert counts(databases, "fired") == [1, 1, 1]


def test_shards_without_rows_stay_out_of_the_transaction(connection: psycopg.Connection, databases: Databases) -> None:
    load(connection, PLAIN, *map(text, range(MANY)))
    for key in range(MANY):
        with connection.transaction():
            connection.execute("SAVEPOINT a")
            assert load(connection, PLAIN, text(key)) == 1
            assert sessions(databases, "state = 'idle in transaction'") == 1
            connection.execute("ROLLBACK TO a")
            assert load(connection, PLAIN, text(key)) == 1
            assert connection.execute("SELECT count(*) FROM t WHERE a = %s", (key,)).fetchone() == (2,)
            connection.execute("UPDATE t SET b = 'y' WHERE a = %s", ((key + 1) % MANY,))
    assert sum(counts(databases, "t")) == 2 * MANY
    assert sum(counts(databases, "t WHERE b = 'y'")) >= MANY


def test_a_copy_that_lasts_begins_everywhere(connection: psycopg.Connection, databases: Databases) -> None:
    """So it has its locks early: DDL that comes later waits for it on every shard alike."""
    copying = "state = 'active' AND query LIKE '%COPY t FROM%' AND pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        with cursor.copy(PLAIN) as copy:
            deadline = time.monotonic() + PATIENCE
            while sessions(databases, copying) != len(databases.shards):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            copy.write(text(1))
        assert cursor.rowcount == 1
    assert sum(counts(databases, "t")) == 1
    assert sum(counts(databases, "fired")) == 1


def test_no_more_than_the_privilege_for_the_columns(connection: psycopg.Connection, databases: Databases) -> None:
    """Such a role may not lock the table in front of the COPY."""
    role = f"columns_{time.time_ns()}"
    databases.execute("DROP TRIGGER note ON t", oracle=False)
    execute(databases.shards[0], f"CREATE ROLE {role}")
    databases.execute(f"GRANT INSERT (a, b) ON t TO {role}", oracle=False)
    connection.execute(f"SET ROLE {role}")
    for key in range(3):
        assert load(connection, "COPY t (a, b) FROM STDIN", text(key)) == 1
    with connection.transaction():
        assert load(connection, "COPY t (a, b) FROM STDIN", *map(text, range(MANY))) == MANY
    assert sum(counts(databases, "t")) == 3 + MANY
    connection.execute("RESET ROLE")
    databases.execute(f"REVOKE ALL ON t FROM {role}", oracle=False)
    execute(databases.shards[0], f"DROP ROLE {role}")


def test_a_bad_row_rolls_back_every_shard(connection: psycopg.Connection, databases: Databases) -> None:
    """On shards where the COPY begins only because another line was refused, too; the earliest line is reported."""
    with pytest.raises(psycopg.errors.BadCopyFileFormat) as caught:
        load(connection, PLAIN, *map(text, range(MANY)), b"5\tx\ty\n", *map(text, range(MANY)), b"9\n")
    assert f"line {MANY + 1}" in (caught.value.diag.context or "")
    assert counts(databases, "t") == counts(databases, "fired") == [0, 0, 0]
    assert sessions(databases, "state LIKE 'idle in transaction%'") == 0
    assert load(connection, PLAIN, text(1)) == 1


@pytest.mark.parametrize("setting", ["0", "1"], ids=["disabled", "all in use"])
def test_a_shard_that_cannot_prepare_is_told_before_any_data(
    start_server: StartServer, run_proxy: RunProxy, setting: str
) -> None:
    """The server has been started anew since the proxy was: what it said then does not count."""
    server = start_server(settings={"max_prepared_transactions": "9"})
    names = [f"shard_{number}" for number in range(3)]
    for name in names:
        execute(server.dsn(), f"CREATE DATABASE {name}")
        execute(server.dsn(name), "CREATE TABLE t (a int, b text)")
    shards = [server.dsn(name) for name in names]
    databases = Databases(18, "none", shards, server.dsn(), server.psql, [server], server)
    proxy = run_proxy(databases.config(TABLES, commit="two-phase"))
    server.restart(settings={"max_prepared_transactions": setting})
    if setting == "1":
        with psycopg.connect(server.dsn(), autocommit=True) as other:
            other.execute("BEGIN; CREATE TABLE x (); PREPARE TRANSACTION 'not ours'")
    sqlstate = {"0": "55000", "1": "53200"}[setting]
    rows = b"".join(map(text, range(30)))
    with RawClient(proxy.dsn()) as client:
        for protocol in ("simple", "extended"):
            reply = client.copy(PLAIN, rows, protocol=protocol)
            assert (reply.copies, [error["C"] for error in reply.errors]) == ([], [sqlstate])
            assert client.usable().order == "TDCZ"
    assert not any(databases.rows("TABLE t"))
