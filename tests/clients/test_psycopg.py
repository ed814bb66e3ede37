"""psycopg 3 in its ways of talking: simple, extended, prepared, pipelines, COPY, cursors, two-phase refusals."""

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.support.twin import Twin

NEW = range(1001, 1010)


@pytest.fixture
def connection(twin: Twin) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(twin.dsn) as connection:
        yield connection


Connection = psycopg.Connection[tuple[Any, ...]]


def test_parameters_and_types(connection: Connection) -> None:
    row = connection.execute(
        "SELECT %s::int, %s::text, %s::jsonb, %s::timestamptz, %s::bytea, %s::numeric, %s::int[]",
        (1, "ü", Jsonb({"a": 1}), None, b"\0\xff", "1.50", [1, None]),
    ).fetchone()
    assert row is not None
    assert row[:6] == (1, "ü", {"a": 1}, None, b"\0\xff", row[5])
    assert row[6] == [1, None]
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        assert cursor.execute("SELECT a, b FROM t WHERE a = %s", (7,)).fetchone() == {"a": 7, "b": "row 7"}


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_statements_by_key(twin: Twin, prepare: bool, binary: bool) -> None:
    with psycopg.connect(twin.dsn) as connection, connection.cursor(binary=binary) as cursor:
        for key in NEW:
            cursor.execute("INSERT INTO t VALUES (%s, %s)", (key, f"new {key}"), prepare=prepare)
            assert cursor.rowcount == 1
        for key in NEW:
            cursor.execute("UPDATE t SET b = %b WHERE a = %b RETURNING b", ("x", key), prepare=prepare)
            assert cursor.fetchall() == [("x",)]
        connection.commit()
        for key in NEW:
            cursor.execute("DELETE FROM t WHERE a = %s", (key,), prepare=prepare)
            assert cursor.rowcount == 1
        connection.rollback()
        assert cursor.execute("SELECT b FROM t WHERE a = %s", (1005,), prepare=prepare).fetchall() == [("x",)]


def test_automatic_preparing_and_deallocating(twin: Twin) -> None:
    """psycopg prepares what runs often, and closes the least used; names come back."""
    with psycopg.connect(twin.dsn, prepare_threshold=1) as connection:
        connection.prepared_max = 3
        for turn in range(3):
            for number in range(8):
                query = sql.SQL("SELECT a + {} FROM t WHERE a = %s").format(sql.Literal(number))
                for key in (1, 2, 3):
                    assert connection.execute(query, (key,)).fetchone() == (key + number,), turn
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() is not None


def test_a_prepared_statement_survives_ddl(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        for _ in range(2):
            connection.execute("SELECT b FROM t WHERE a = %s", (1,), prepare=True)
        connection.execute("CREATE INDEX t_late ON t (b)")
        assert connection.execute("SELECT b FROM t WHERE a = %s", (1,), prepare=True).fetchone() == ("row 1",)
        connection.execute("DROP INDEX t_late")


def test_executemany_and_returning(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(key, "x") for key in NEW])
        assert cursor.rowcount == len(NEW)
        cursor.executemany("UPDATE t SET b = 'y' WHERE a = %s RETURNING a", [(key,) for key in NEW], returning=True)
        found = []
        while True:
            found += cursor.fetchall()
            if not cursor.nextset():
                break
        assert found == [(key,) for key in NEW]
    connection.commit()


def test_a_pipeline(connection: Connection) -> None:
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT b FROM t WHERE a = %s", (key,)) for key in range(1, 31)]
        connection.execute("INSERT INTO t VALUES (1001, 'x')")
        pipeline.sync()
        late = connection.execute("SELECT b FROM t WHERE a = 1001")
        assert [cursor.fetchone() for cursor in cursors] == [(f"row {key}",) for key in range(1, 31)]
        assert late.fetchone() == ("x",)
    connection.rollback()


def test_an_error_in_a_pipeline(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            _failing_pipeline(connection)
        assert connection.execute("SELECT a FROM t WHERE a > 1000").fetchall() == [(1009,)]
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def _failing_pipeline(connection: Connection) -> None:
    with connection.pipeline() as pipeline:
        connection.execute("INSERT INTO t VALUES (1009, 'stays')")
        pipeline.sync()
        for key in range(1001, 1005):
            connection.execute("INSERT INTO t VALUES (%s, 'goes')", (key,))
        failing = connection.execute("SELECT 1/0")
        skipped = connection.execute("INSERT INTO t VALUES (1006, 'goes')")
        try:
            pipeline.sync()
        finally:
            with pytest.raises(psycopg.Error):
                skipped.fetchall()
        failing.fetchall()


def test_transactions(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1001, 'x')")
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO t VALUES (1)")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO t VALUES (1002, 'x')")
        with connection.transaction("named"):
            connection.execute("INSERT INTO t VALUES (1003, 'x')")
    assert sorted(connection.execute("SELECT a FROM t WHERE a > 1000").fetchall()) == [(1001,), (1003,)]
    connection.rollback()
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.read_only = True
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("INSERT INTO t VALUES (1004)")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.rollback()


def test_errors_carry_their_fields(twin: Twin) -> None:
    found = []
    for dsn in (twin.dsn, twin.databases.oracle):
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.UniqueViolation) as raised:
            connection.execute("INSERT INTO t VALUES (1, 'x')")
        diag = raised.value.diag
        found.append((
            diag.sqlstate, diag.message_primary, diag.message_detail, diag.schema_name, diag.table_name,
            diag.constraint_name, diag.severity_nonlocalized,
        ))  # fmt: skip
    assert found[0] == found[1]


def test_several_statements_in_one(connection: Connection) -> None:
    cursor = connection.execute("SELECT 1; SELECT a FROM t WHERE a = 3; INSERT INTO t VALUES (1001)")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset()
    assert cursor.fetchall() == [(3,)]
    assert cursor.nextset()
    assert cursor.statusmessage == "INSERT 0 1"
    connection.rollback()


def test_a_server_side_cursor(connection: Connection) -> None:
    with connection.cursor("c") as cursor:
        cursor.execute("SELECT a, b FROM t WHERE a = %s", (9,))
        assert cursor.fetchall() == [(9, "row 9")]
    with connection.cursor("held", withhold=True, scrollable=True) as cursor:
        cursor.execute("SELECT a FROM ref ORDER BY a")
        connection.commit()
        cursor.itersize = 7
        assert [row[0] for row in cursor] == list(range(1, 61))
        cursor.scroll(0, "absolute")
        assert cursor.fetchone() == (1,)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused, connection.cursor("wide") as cursor:
        cursor.execute("SELECT a FROM t")
    assert refused.value.diag.message_hint


def test_streaming_row_by_row(connection: Connection) -> None:
    seen = [row[0] for row in connection.cursor().stream("SELECT a FROM t")]
    assert sorted(seen) == list(range(1, 61))
    if psycopg.pq.version() >= 170000:
        assert len(list(connection.cursor().stream("SELECT a FROM t", size=7))) == 60


@pytest.mark.parametrize("options", ["", " (FORMAT csv)", " (FORMAT binary)"])
def test_copy_rows_in_and_out(connection: Connection, options: str) -> None:
    rows = [(key, None if key % 3 else f'a "quoted", {key}\t\n\\.') for key in range(1001, 4001)]
    with connection.cursor() as cursor:
        if "csv" in options:
            with cursor.copy(f"COPY t FROM STDIN{options}".encode()) as copy:
                for key, text in rows:
                    quoted = "" if text is None else '"' + text.replace('"', '""') + '"'
                    copy.write(f"{key},{quoted}\n")
        else:
            with cursor.copy(f"COPY t FROM STDIN{options}".encode()) as copy:
                copy.set_types(["int4", "text"])
                for row in rows:
                    copy.write_row(row)
        assert cursor.statusmessage == "COPY 3000"
        assert sorted(cursor.execute("SELECT a, b FROM t WHERE a > 1000").fetchall()) == rows
        if "csv" not in options:
            with cursor.copy(f"COPY (SELECT a, b FROM t WHERE a > 1000) TO STDOUT{options}".encode()) as copy:
                copy.set_types(["int4", "text"])
                assert sorted(copy.rows()) == rows
    connection.rollback()


def test_errors_in_the_middle_of_a_copy(connection: Connection) -> None:
    for data, error in (
        ("1001\tx\nbad\tx\n" + "1002\tx\n" * 100_000, psycopg.errors.InvalidTextRepresentation),
        ("1001\tx\n1\tx\n", psycopg.errors.UniqueViolation),
        ("1001\tx\textra\n", psycopg.errors.BadCopyFileFormat),
    ):
        with pytest.raises(error) as raised, connection.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write(data)
        assert "COPY t, line" in (raised.value.diag.context or "")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.rollback()
    with pytest.raises(ZeroDivisionError):
        _give_up(connection)
    connection.rollback()
    assert connection.execute("SELECT a FROM t WHERE a > 1000").fetchall() == []


def _give_up(connection: Connection) -> None:
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("1001\tx\n")
        raise ZeroDivisionError


def test_many_threads(twin: Twin) -> None:
    def work(number: int) -> int:
        with psycopg.connect(twin.dsn) as connection:
            for step in range(5):
                key = 1001 + number * 10 + step
                connection.execute("INSERT INTO t VALUES (%s, 'x')", (key,))
                assert connection.execute("SELECT b FROM t WHERE a = %s", (key,)).fetchone() == ("x",)
            connection.rollback()
        return number

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(work, range(20))) == list(range(20))


async def test_asynchronous_connections(twin: Twin) -> None:
    async def work(number: int) -> Any:
        async with await psycopg.AsyncConnection.connect(twin.dsn) as connection:
            cursor = await connection.execute("SELECT b FROM t WHERE a = %s", (number,))
            return await cursor.fetchone()

    assert await asyncio.gather(*(work(key) for key in range(1, 21))) == [(f"row {key}",) for key in range(1, 21)]


def test_two_phase_commands_are_refused_in_words(twin: Twin) -> None:
    connection = psycopg.connect(twin.dsn)
    try:
        connection.tpc_begin(connection.xid(1, "gid", "x"))
        connection.execute("INSERT INTO t VALUES (1001)")
        with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
            connection.tpc_prepare()
        assert refused.value.diag.message_hint
    finally:
        connection.close()
