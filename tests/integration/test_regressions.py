"""What was found by using the proxy as strangers would, each with the answer that one server gives."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from shardproxy.routing import Resolved
from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute
from tests.support.rawclient import RawClient
from tests.support.twin import ROWS, Step, Twin


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module) as opened:
        yield opened


@pytest.fixture(autouse=True)
def rows(twin: Twin) -> None:
    twin.fill()


def extended(sql: str) -> bytes:
    """A statement by the extended protocol, with Describe as drivers do it."""
    return (
        encode.parse(b"", sql.encode())
        + encode.bind(b"", b"", (), (), ())
        + encode.describe(b"P", b"")
        + encode.execute(b"")
        + encode.SYNC
    )


def test_copy_to_a_file_of_the_server(twin: Twin) -> None:
    """It answers at once: waiting for CopyOutResponse had cost the shard's connection."""
    target = twin.databases.shard_servers[1].data_dir / "copied.txt"
    statements = [f"COPY one TO '{target}'", f"COPY ref TO '{target}'", f"COPY one FROM '{target}'"]
    forms: list[Callable[[str], Step]] = [str, extended]
    for form in forms:
        steps: list[Step] = ["BEGIN", "DELETE FROM one", *map(form, statements), "TABLE one", "ROLLBACK"]
        twin.compare(*steps)
    assert twin.proxied(f"COPY t TO '{target}'")[0].errors[0]["C"] == "0A000"
    Path(target).unlink()


@pytest.mark.parametrize("column", ["ctid", "ref.xmin", "public.ref.tableoid", "x.xmax", "cmin", "cmax"])
def test_system_columns_would_make_copies_differ(twin: Twin, column: str) -> None:
    """They are each server's own."""
    alias = " x" if column.startswith("x.") else ""
    for statement in (
        f"UPDATE ref{alias} SET b = {column}::text",
        f"DELETE FROM ref{alias} WHERE {column}::text = '(0,1)'",
    ):
        [reply] = twin.proxied(statement)
        assert reply.errors[0]["C"] == "0A000"
        assert f"system column {column.rpartition('.')[2]}" in reply.errors[0]["M"]
    twin.compare("SELECT ctid IS NULL FROM ref", "SELECT xmin::text = '0' FROM t WHERE a = 5")


@pytest.mark.parametrize(
    "change",
    ["TYPE text", "TYPE bigint USING a + 1", "TYPE numeric", "TYPE public.bigint", "DROP"],
)
def test_the_key_of_a_sharded_table_is_not_rewritten(twin: Twin, change: str) -> None:
    """Rows would stay where they are, and be looked for elsewhere."""
    what = "DROP COLUMN a" if change == "DROP" else f"ALTER COLUMN a {change}"
    [reply] = twin.proxied(f"ALTER TABLE t ADD COLUMN more int, {what}")
    assert reply.errors[0]["C"] == "0A000"
    assert 'key column "a" of sharded table "public.t"' in reply.errors[0]["M"]


def test_an_integer_key_may_be_of_another_width(twin: Twin) -> None:
    """The integer types share their hash."""
    alter = "ALTER TABLE t ALTER COLUMN a TYPE"
    twin.compare("BEGIN", f"{alter} bigint", "SELECT * FROM t WHERE a = 5", f"{alter} smallint", "TABLE t", "ROLLBACK")


def test_a_table_without_its_key_can_be_altered_and_dropped(twin: Twin) -> None:
    """Through the proxy, that let it be made."""
    rename = "ALTER TABLE t RENAME COLUMN"
    reply, *_ = twin.proxied(f"{rename} a TO k", "SELECT * FROM t")[1:]
    assert reply.errors[0]["C"] == "42703"
    execute(twin.databases.oracle, f"{rename} a TO k")
    twin.compare("ANALYZE t", "COMMENT ON TABLE t IS 'x'", f"{rename} k TO a", "SELECT * FROM t WHERE a = 5")
    twin.compare("BEGIN", f"{rename} a TO k", "DROP TABLE t", "CREATE TABLE t (a int)", "TABLE t", "ROLLBACK")


@pytest.mark.parametrize(
    "change",
    [
        "ADD COLUMN c uuid DEFAULT gen_random_uuid()",
        "ADD COLUMN c timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP",
        "ADD COLUMN c timestamptz DEFAULT 'now'",
        "ADD COLUMN c serial",
        "ADD COLUMN c int GENERATED ALWAYS AS IDENTITY",
        "ALTER COLUMN b TYPE text USING random()::text",
    ],
)
def test_alter_table_keeps_the_copies_of_a_reference_table_equal(twin: Twin, change: str) -> None:
    """Each shard would fill the rows that it has in its own way."""
    [reply] = twin.proxied(f"ALTER TABLE ref {change}")
    assert reply.errors[0]["C"] == "0A000"
    assert "would make its copies differ" in reply.errors[0]["M"]
    twin.proxied("BEGIN", f"ALTER TABLE t {change}", "ROLLBACK")


def test_alter_table_of_a_reference_table(twin: Twin) -> None:
    twin.compare(
        "BEGIN",
        "ALTER TABLE ref ADD COLUMN c int DEFAULT 5, ADD d text DEFAULT upper('x'), ALTER COLUMN b TYPE varchar(9)",
        "ALTER TABLE ref ADD COLUMN e timestamptz, ALTER COLUMN e SET DEFAULT now()",
        "TABLE ref",
        "ROLLBACK",
    )


@pytest.mark.parametrize("statement", ["SELECT * FROM t WHERE b <> ''", "COPY t TO STDOUT", "COPY t TO STDOUT BINARY"])
def test_a_large_last_row_leaves_no_shard_paused(twin: Twin, statement: str) -> None:
    """The client had fallen behind when two of three shards had ended: they were paused, and never went on."""
    large = "SELECT repeat('x', 20000000)"
    with RawClient(twin.dsn) as client:
        client.query(f"UPDATE t SET b = ({large}) WHERE a = 5")
        for _ in range(3):
            assert client.query(statement).tags[0].endswith(f" {ROWS}")
    twin.compare("SELECT a FROM t")


@pytest.mark.parametrize("statement", ["SELECT * FROM t", "COPY t TO STDOUT", "COPY t TO STDOUT CSV HEADER"])
def test_rows_of_different_columns_are_not_mixed(twin: Twin, statement: str) -> None:
    """DDL on one shard alone: drivers cannot read rows that their description is not of."""
    execute(twin.databases.shards[1], "ALTER TABLE t ADD COLUMN more int")
    try:
        [reply] = twin.proxied(statement)
        assert (reply.errors[0]["C"], reply.errors[0]["M"]) == ("55000", "the shards give different columns")
        twin.compare("SELECT a, b FROM t", "COPY t (a, b) TO STDOUT")
    finally:
        execute(twin.databases.shards[1], "ALTER TABLE t DROP COLUMN more")
    twin.compare(statement)


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE TEMP VIEW shown AS SELECT * FROM t",
        "CREATE TEMP VIEW shown AS SELECT count(*) FROM (SELECT 1 FROM one) x",
        "CREATE TEMP TABLE shown () INHERITS (t)",
    ],
)
def test_a_temporary_relation_shows_no_part_of_other_shards_rows(twin: Twin, definition: str) -> None:
    """It lies on the home shard, whose part of the rows had passed for all."""
    for statement in ("SELECT * FROM shown", "SELECT count(*) FROM shown", "COPY shown FROM STDIN"):
        made, reply = twin.proxied(definition, statement)
        assert made.error is None
        assert reply.errors[0]["C"] == "0A000"
        assert "is a view, partition or child of other tables" in reply.errors[0]["M"]
    twin.compare(definition, "DROP " + " ".join(definition.split()[2:4]))


def test_temporary_views_of_what_every_shard_has(twin: Twin) -> None:
    for query in ("SELECT * FROM ref", "SELECT relname FROM pg_class WHERE relname = 'ref'", "SELECT 1 AS a"):
        twin.compare(f"CREATE TEMP VIEW shown AS {query}", "SELECT * FROM shown", "CREATE TEMP VIEW w AS TABLE shown",
                     "SELECT * FROM w")  # fmt: skip


def test_a_name_changes_its_meaning_at_commit(twin: Twin) -> None:
    """For a second the rows of a temporary table's shard had passed for all, and reference tables came apart."""
    twin.compare(
        "BEGIN",
        "CREATE TEMP TABLE t (a int, b text) ON COMMIT DROP",
        "CREATE TEMP TABLE ref (a int, b text) ON COMMIT DROP",
        "SELECT * FROM t, ref",
        "COMMIT",
        "SELECT * FROM t",
        "SELECT * FROM t WHERE a = 5",
        "UPDATE ref SET b = 'changed' WHERE a = 5",
    )
    assert twin.databases.rows("SELECT b FROM ref WHERE a = 5") == [[("changed",)]] * 3


LOCAL_PATH = ["SET LOCAL search_path = aside", "SELECT set_config('search_path', 'aside', true)"]


@pytest.mark.parametrize("change", LOCAL_PATH)
@pytest.mark.parametrize("form", ["block", "query"])
def test_a_local_search_path_ends_with_its_transaction(
    servers18: Servers, run_proxy: RunProxy, change: str, form: str
) -> None:
    """The other table of the name has another key: rows were looked for where it would have them."""
    databases = Databases.create(servers18, one_server=True)
    try:
        databases.execute("CREATE TABLE t (a int, b int); CREATE SCHEMA aside CREATE TABLE t (a int, b int)")
        proxy = run_proxy(
            databases.config(
                [
                    {"name": "t", "placement": "hash", "key": ["a"]},
                    {"name": "aside.t", "placement": "hash", "key": ["b"]},
                ]
            )
        )
        with RawClient(proxy.dsn()) as client:
            for number in range(1, 9):
                assert client.query(f"INSERT INTO t VALUES ({number}, {9 - number})").error is None
            steps = ["BEGIN", change, "SELECT * FROM t", "COMMIT"]
            for step in steps if form == "block" else [f"{change}; SELECT * FROM t"]:
                assert client.query(step).error is None
            for number in range(1, 9):
                assert client.query(f"SELECT a FROM t WHERE b = {9 - number}").rows == [[str(number).encode()]]
    finally:
        databases.drop()


def test_a_local_set_config_does_not_undo_what_the_session_has_set(twin: Twin) -> None:
    """A shard that connected later had heard of the local one alone."""
    for local in ("true", "'on'", "1 = 1"):
        twin.compare(
            "SET statement_timeout = '11s'",
            "BEGIN",
            f"SELECT set_config('statement_timeout', '12s', {local})",
            "COMMIT",
            "SELECT current_setting('statement_timeout') FROM t",
        )
    set_config = encode.parse(b"", b"SELECT set_config($1, $2, $3)") + encode.bind(
        b"", b"", (), (b"statement_timeout", b"12s", b"t"), ()
    )
    twin.compare(
        "SET statement_timeout = '11s'",
        set_config + encode.execute(b"") + encode.SYNC,
        "SELECT current_setting('statement_timeout') FROM t",
    )


@pytest.mark.parametrize(
    "statement", ["SELECT pg_notify('ch', b) FROM t", "SELECT pg_notify('ch', b) FROM t WHERE a = 5",
                  "UPDATE ref SET b = b RETURNING pg_catalog.pg_notify('ch', b)",
                  "SELECT pg_notify('ch', b) FROM one"]
)  # fmt: skip
def test_notifications_where_nobody_listens_are_refused(twin: Twin, statement: str) -> None:
    """LISTEN is on the first shard; what was said elsewhere had reached nobody."""
    [reply] = twin.proxied(statement)
    assert reply.errors[0]["C"] == "0A000"
    assert "pg_notify()" in reply.errors[0]["M"]


def test_pg_notify_is_heard(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as listener, RawClient(twin.dsn) as client:
        listener.execute("LISTEN ch")
        assert client.query("SELECT pg_notify('ch', b) FROM ref WHERE a = 5").error is None
        assert client.query("SELECT pg_notify('ch', 'alone')").error is None
        heard = [notify.payload for notify in listener.notifies(timeout=10, stop_after=2)]
    assert heard == ["row 5", "alone"]


def test_explain_execute_goes_where_the_statement_is_prepared(twin: Twin) -> None:
    for table in ("t", "one", "ref"):
        twin.compare(
            "SET enable_seqscan = off",
            f"PREPARE p (text) AS SELECT b FROM {table} WHERE a = 7 AND b <> $1",
            "EXPLAIN (COSTS OFF) EXECUTE p ('x')",
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) EXECUTE p ('x')",
            "EXPLAIN EXECUTE q",
        )


def test_statements_that_want_a_transaction_block(twin: Twin) -> None:
    """The locks would be gone at once."""
    twin.compare("SET CONSTRAINTS ALL DEFERRED", "BEGIN", "SET CONSTRAINTS ALL DEFERRED", "COMMIT")
    twin.compare("LOCK TABLE t", "LOCK TABLE ref; SELECT 1", "BEGIN", "LOCK TABLE t, ref IN SHARE MODE", "COMMIT")


def test_definitions_are_looked_up_again_when_they_are_committed(servers18: Servers, run_proxy: RunProxy) -> None:
    """A session that asked before the commit had kept the old order of the columns, and placed rows by the wrong."""
    databases = Databases.create(servers18, one_server=True)
    try:
        databases.execute("CREATE TABLE w (x int, a int)")
        proxy = run_proxy(databases.config([{"name": "w", "placement": "hash", "key": ["a"]}]))
        with RawClient(proxy.dsn()) as one, RawClient(proxy.dsn()) as other:
            for statement in ("BEGIN", "ALTER TABLE w DROP COLUMN x", "ALTER TABLE w ADD COLUMN x int"):
                assert one.query(statement).error is None
            assert other.query("UPDATE w SET x = 1").errors[0]["C"] == "0A000"
            assert one.query("COMMIT").tags == ["COMMIT"]
            for number in range(1, 9):
                assert other.query(f"INSERT INTO w VALUES ({number}, {number + 1})").error is None
                assert other.query(f"SELECT x FROM w WHERE a = {number}").rows == [[str(number + 1).encode()]]
    finally:
        databases.drop()


@pytest.mark.parametrize("what", ["PLANS", "SEQUENCES", "TEMP"])
def test_discarding_something_else_keeps_the_settings(twin: Twin, what: str) -> None:
    """A shard that connected later had not heard of them."""
    steps = ("SET statement_timeout = '11s'", f"DISCARD {what}", "SELECT current_setting('statement_timeout') FROM t")
    twin.compare(*steps)
    twin.compare("BEGIN", *steps, "COMMIT", steps[-1])


def test_session_characteristics_add_up(twin: Twin) -> None:
    """They are several settings: the second statement had taken the place of the first."""
    twin.compare(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation') FROM t",
        "DELETE FROM t WHERE a = 5",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (1000, set_config('my.x', 'y', false))",
        "UPDATE one SET b = set_config('my.x', 'y', false)",
        "SELECT set_config('my.x', b, false) FROM t WHERE a = 5",
        "SELECT set_config('my.x', b, false) FROM one WHERE a = 5",
        "CREATE TEMP TABLE made AS SELECT set_config('my.x', 'y', false)",
    ],
)
def test_set_config_beside_rows(twin: Twin, statement: str) -> None:
    """It went wherever the session had been: rows were inserted there, and home's answer was the answer."""
    *_, reply = twin.proxied("SELECT a FROM t", statement)
    assert reply.errors[0]["C"] == "0A000"
    assert "set_config()" in reply.errors[0]["M"]
    assert twin.databases.rows("SELECT a FROM t WHERE a = 1000") == [[], [], []]


def test_set_config_in_a_definition_is_no_call(twin: Twin) -> None:
    """The definition had reached the connected shards alone."""
    call = "SELECT set_config('my.x', b, false) FROM ref WHERE a = 5"
    twin.compare(f"CREATE VIEW setting AS {call}", "EXPLAIN (COSTS OFF) SELECT set_config('my.x', 'y', false)")
    assert twin.databases.rows("SELECT count(*) FROM pg_views WHERE viewname = 'setting'") == [[(1,)]] * 3
    twin.compare("DROP VIEW setting", call, "SELECT current_setting('my.x') FROM t")


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
                connection.execute("UPDATE ref SET b = b || 'x'")

    threads = [threading.Thread(target=work) for work in (insert, load, update, update)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *others = (sorted(rows) for rows in twin.databases.rows("TABLE ref"))
    assert len(first) == ROWS + 2 * rounds
    assert others == [first, first]


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
