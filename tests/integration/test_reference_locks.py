"""Writers of a reference table wait for each other as on one server: by rows, with the errors of their own waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.messages import SYNC, bind, describe, execute, joined, parse
from tests.support.rawclient import RawClient
from tests.support.twin import ROWS, Twin

UPDATE = "UPDATE ref SET b = 'y' WHERE a = 1"


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, commit="two-phase", unlisted_tables="reference") as opened:
        opened.databases.execute("CREATE TABLE bare (a int, b text)")
        yield opened


def test_a_parse_in_an_open_transaction_blocks_no_writer(twin: Twin) -> None:
    """Parse takes the table's ROW EXCLUSIVE lock, and keeps it until the transaction ends."""
    with RawClient(twin.dsn) as first, RawClient(twin.dsn) as second:
        for client in (first, second):
            client.query("BEGIN")
            client.exchange(joined([parse("s", "UPDATE ref SET b = $1 WHERE a = $2"), SYNC]))
        for number, client in enumerate((first, second), 1):
            reply = client.exchange(joined([bind("", "s", "z", str(number)), execute(), SYNC]))
            assert reply.tags == ["UPDATE 1"]
        third = RawClient(twin.dsn)
        assert third.exchange(joined([parse("", UPDATE), SYNC])).order == "1Z"
        third.close()
        for client in (first, second):
            assert client.query("COMMIT").tags == ["COMMIT"]


WAITS = [
    ("SET lock_timeout = '200ms'", "55P03"),
    ("SET statement_timeout = '200ms'", "57014"),
]


@pytest.mark.parametrize("table", ["ref", "bare"])
@pytest.mark.parametrize(("setting", "state"), WAITS)
@pytest.mark.parametrize("begin", ["BEGIN", "SELECT 1"])
def test_an_error_while_it_waits_reaches_the_client(
    twin: Twin, table: str, setting: str, state: str, begin: str
) -> None:
    """In extended protocol a Parse that was still owed had failed in the aborted transaction, with 25P02."""
    update = f"UPDATE {table} SET b = 'y'" + (" WHERE a = 1" if table == "ref" else "")
    with psycopg.connect(twin.dsn, autocommit=True) as holder, RawClient(twin.dsn) as client:
        with holder.transaction():
            holder.execute(update.encode())
            client.query(setting)
            client.query(begin)
            reply = client.exchange(joined([parse("", update), bind("", ""), describe("P"), execute(), SYNC]))
            assert [error["C"] for error in reply.errors] == [state]
            assert reply.status == ("E" if begin == "BEGIN" else "I")
        client.query("ROLLBACK")
        assert client.query(update).errors == []


def test_a_deadlock_is_postgresqls(twin: Twin) -> None:
    """Two sessions lock two rows crosswise: the first shard finds it after its deadlock_timeout."""
    states: list[str | None] = []
    both = threading.Barrier(2)

    def work(first: int, second: int) -> None:
        with psycopg.connect(twin.dsn) as connection:
            try:
                connection.execute("UPDATE ref SET b = 'd' WHERE a = %s", (first,))
                both.wait(10)
                connection.execute("UPDATE ref SET b = 'd' WHERE a = %s", (second,))
                connection.commit()
                states.append(None)
            except psycopg.Error as error:
                states.append(error.sqlstate)

    begun = time.monotonic()
    threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states, key=str) == ["40P01", None]
    assert time.monotonic() - begun < 10
    first, *others = (sorted(rows) for rows in twin.databases.rows("TABLE ref"))
    assert len(first) == ROWS
    assert others == [first, first]


def test_writers_of_a_table_without_a_key_take_turns(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as one, psycopg.connect(twin.dsn, autocommit=True) as other:
        one.execute("INSERT INTO bare VALUES (1, 'x')")
        other.execute("SET lock_timeout = '200ms'")
        with one.transaction():
            one.execute("INSERT INTO bare VALUES (2, 'x')")
            other.execute("INSERT INTO bare VALUES (3, 'x')")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("DELETE FROM bare")
        other.execute("DELETE FROM bare")
    assert twin.databases.rows("TABLE bare") == [[], [], []]


def test_writers_of_different_rows_do_not_wait(twin: Twin) -> None:
    with psycopg.connect(twin.dsn) as one, psycopg.connect(twin.dsn, autocommit=True) as other:
        one.execute("UPDATE ref SET b = 'one' WHERE a = 1")
        one.execute("INSERT INTO ref VALUES (2001, 'one')")
        other.execute("SET lock_timeout = '500ms'")
        other.execute("UPDATE ref SET b = 'other' WHERE a = 2")
        other.execute("INSERT INTO ref VALUES (2002, 'other')")
        other.execute("DELETE FROM ref WHERE b = 'row 3'")
        one.commit()
    first, *others = (sorted(rows) for rows in twin.databases.rows("TABLE ref"))
    assert len(first) == ROWS + 1
    assert others == [first, first]


def waiting(twin: Twin) -> bool:
    """Whether a session waits for a lock on the first shard."""
    name = f"{twin.databases.name}_s0"
    return bool(twin.databases.oracle_rows(
        f"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name}'"
    ))  # fmt: skip


UPSERT = "INSERT INTO wide (a, b) VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = 'y'"


KNOWN = 1.1  # seconds for which the former table is known, and a bit
PREPARED = joined([parse("", UPSERT), bind("", ""), execute(), SYNC])


def beside_the_end_of_a_column(twin: Twin, message: str | bytes) -> list[str]:
    """Have the shards drop a column while a write waits, and return its errors."""
    columns = "a int PRIMARY KEY, b text, c float8 DEFAULT random()"
    twin.databases.execute(f"DROP TABLE IF EXISTS wide; CREATE TABLE wide ({columns})")
    time.sleep(KNOWN)
    with ExitStack() as stack:
        shards = [stack.enter_context(psycopg.connect(dsn)) for dsn in twin.databases.shards]
        client = stack.enter_context(RawClient(twin.dsn))
        assert client.query(UPSERT).errors == []
        for shard in shards:
            shard.execute("ALTER TABLE wide DROP COLUMN c")
        client.send(encode.query(message.encode()) if isinstance(message, str) else message)
        while not waiting(twin):
            time.sleep(0.01)
        for shard in shards:
            shard.commit()
        errors = client.exchange(b"").errors
        assert client.query(UPSERT).errors == []
    assert twin.databases.rows("SELECT a, b FROM wide") == [[(1, "y")]] * 3
    assert not any("P" in error for error in errors)
    return [error["C"] for error in errors]


@pytest.mark.parametrize("message", [UPSERT, f"SELECT 1; {UPSERT}", PREPARED])
def test_a_write_that_waits_for_the_end_of_a_column(twin: Twin, message: str | bytes) -> None:
    """The race: its rows are asked for with a column of which the client's statement has no word, and which is dropped.

    One server would have gone on. A client that is told 40001 runs its transaction again. What the proxy knows of the
    table may be a second old by then, and is looked up anew: then the write waits before it, and succeeds.
    """
    seen: list[str] = []
    for _ in range(20):
        seen = beside_the_end_of_a_column(twin, message)
        assert seen in ([], ["40001"])
        if seen:
            break
    assert seen


def test_a_column_that_the_statement_itself_has_wrong(twin: Twin) -> None:
    """It is an error, whatever stands in front of the statement: a client that retries at 40001 would never end."""
    twin.databases.execute(
        "DROP TABLE IF EXISTS wide; CREATE TABLE wide (a int PRIMARY KEY, b float8 DEFAULT random())"
    )
    for sql in (
        "INSERT INTO wide (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = nope",
        f"/* {'long ' * 40} */ INSERT INTO wide (a) VALUES (nope)",
        f"{' ' * 90}INSERT INTO wide (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = nope",
    ):
        twin.compare(sql, joined([parse("", sql), bind("", ""), execute(), SYNC]))
        twin.compare(f"SELECT 1;{sql}")
