"""COPY FROM that sets bad rows aside: awkward inputs, random ones beside loads row by row, what keeps rows safe."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shardproxy.embedded.proxy import ProxyError
from shardproxy.server.check import check
from tests.conftest import RunProxy
from tests.support import bad_rows
from tests.support.databases import Databases, Servers, execute, query
from tests.support.loads import CASES, Case
from tests.support.proxy import Proxy

TABLES = (
    {"name": "sharded", "placement": "hash", "key": ["id"]},
    {"name": "listed", "placement": "list", "key": ["id"], "values": [{"shard": "s0", "in": [1]}]},
    {"name": "parent", "placement": "reference"},
    {"name": "copied", "placement": "reference"},
)

DDL = f"""
    {bad_rows.DDL};
    CREATE TABLE listed (id int, v int);
    CREATE TABLE copied (id int PRIMARY KEY, v int CHECK (v > 0));
"""

BAD_COPY_FILE_FORMAT = "22P04"


@dataclass
class Loads:
    """A proxy that sets rows aside, and its databases."""

    databases: Databases
    proxy: Proxy
    rejects: Path

    def connect(self, **settings: str) -> psycopg.Connection[Any]:
        options = "-c search_path=public,cases " + " ".join(
            f"-c shardproxy.{name}={value}" for name, value in settings.items()
        )
        return psycopg.connect(self.proxy.dsn(), autocommit=True, options=options)

    def kept(self, table: str) -> "Kept":
        """The rejects of the last load of a table."""
        return Kept(max(self.rejects.rglob(f"*.{table}.*.dat"), key=lambda path: path.stat().st_mtime_ns))

    def all_kept(self) -> set[Path]:
        return set(self.rejects.rglob("*.dat"))


class Kept:
    """The files of one load."""

    def __init__(self, dat: Path) -> None:
        self.dat = dat.read_bytes()
        self.log = dat.with_suffix(".log").read_text()
        self.facts = [json.loads(line) for line in dat.with_suffix(".jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def loads(
    servers: Servers, run_proxy_for_module: RunProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loads]:
    databases = Databases.create(servers, one_server=True)
    rejects = tmp_path_factory.mktemp("rejects") / "made on demand"
    try:
        databases.execute(DDL)
        config = databases.config(
            TABLES, unlisted_tables="s0", commit="two-phase", entry={"load": {"reject_dir": str(rejects)}}
        )
        yield Loads(databases, run_proxy_for_module(config), rejects)
    finally:
        databases.drop()


def load(connection: psycopg.Connection[Any], sql: str, *data: bytes) -> str:
    with connection.cursor() as cursor:
        with cursor.copy(sql.encode()) as copy:
            for piece in data:
                copy.write(piece)
        return cursor.statusmessage or ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_awkward_inputs(loads: Loads, case: Case) -> None:
    """Each row is stored, or set aside once, or dropped by a trigger, as PostgreSQL says of it alone."""
    if case.id == "c29":
        pytest.skip("what it is to be is said by options of `shardproxy load`")
    table = "t"
    execute(
        loads.databases.shards[0],
        f"DROP SCHEMA IF EXISTS cases CASCADE; CREATE SCHEMA cases; SET search_path = cases; {case.ddl}",
    )
    rows = case.rows
    before = loads.all_kept()
    sql = f"COPY {table} FROM STDIN WITH ({case.options})"
    with loads.connect(on_error="resume_next") as connection:
        if case.id == "c04":
            with pytest.raises(psycopg.errors.CharacterNotInRepertoire, match="UTF-16"):
                load(connection, sql, *rows)
            assert loads.all_kept() == before
            return
        tag = load(connection, sql, *rows)
    expected = {number: state for number, state in case.expect.items() if state != "SKIP"}
    if case.id == "c31":
        assert int(tag.split()[1]) == (4 if loads.databases.version >= 18 else 1)
        expected = {}
    if not expected:
        assert loads.all_kept() == before
        return
    kept = loads.kept(table)
    starts = [sum(map(len, rows[: number + case.header])) for number in range(len(rows))]
    found = {starts.index(fact["offset"]) + 1: fact["sqlstate"] for fact in kept.facts}
    assert found == expected
    header = b"".join(rows[: case.header])
    bad = [rows[number - 1 + case.header] for number in expected]
    if case.id == "c18":
        bad = [b"".join(rows[2:])]  # the quote is open to the end
    assert kept.dat.startswith(header)
    assert sorted(fact["row"] for fact in kept.facts) == sorted(row.decode("utf-8", "backslashreplace") for row in bad)


# Random inputs.


@pytest.mark.parametrize("batch_rows", [1, 7, 25000])
def test_random_rows_are_stored_as_one_by_one(loads: Loads, batch_rows: int) -> None:
    rng = random.Random(batch_rows + loads.databases.version)
    rows = bad_rows.random_rows(rng, 150)
    refused = bad_rows.row_by_row(loads.databases.oracle, rows)
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    data = b"".join(rows)
    cuts = sorted(rng.randrange(len(data)) for _ in range(5))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    with loads.connect(on_error="resume_next", batch_rows=str(batch_rows)) as connection:
        tag = load(connection, "COPY sharded FROM STDIN (FORMAT csv)", *pieces)
    assert tag == f"COPY {len(rows) - len(refused)}"
    stored = sorted(row for shard in loads.databases.rows("TABLE sharded") for row in shard)
    assert stored == sorted(query(loads.databases.oracle, "TABLE sharded"))
    kept = loads.kept("sharded")
    starts = {sum(map(len, rows[:number])): number + 1 for number in range(len(rows))}
    assert {starts[fact["offset"]]: fact["sqlstate"] for fact in kept.facts} == refused
    lines = {number: b"".join(rows[:number]).count(b"\n") for number in refused}
    assert {starts[fact["offset"]]: fact["line"] for fact in kept.facts} == lines
    assert kept.dat == b"".join(rows[number - 1] for number in sorted(refused))


@pytest.mark.newest
@pytest.mark.parametrize("batch_rows", [1, 7, 25000])
@pytest.mark.parametrize("table", ["sharded", "listed"])
def test_binary_rows(loads: Loads, batch_rows: int, table: str) -> None:
    """Each batch is a binary stream of its own, and so is the file of rejects."""
    columns = {"sharded": "id int, day date, c varchar, p int", "listed": "id int, v int"}[table]
    oracle = loads.databases.oracle
    execute(
        oracle, f"DROP TABLE IF EXISTS source, back; CREATE TABLE source ({columns}); CREATE TABLE back ({columns})"
    )
    values = {
        "sharded": "n % 90, '2024-01-01'::date, CASE WHEN n % 7 = 0 THEN 'no' ELSE 'ok' END, "
        "CASE WHEN n % 11 = 0 THEN 9 ELSE 1 END",
        "listed": "CASE WHEN n % 5 = 0 THEN 2 ELSE 1 END, n",
    }[table]
    execute(oracle, f"INSERT INTO source SELECT {values} FROM generate_series(1, 100) AS n")
    refused = "id = 2" if table == "listed" else ""
    with psycopg.connect(oracle) as connection:
        with connection.cursor().copy("COPY source TO STDOUT (FORMAT binary)") as copy:
            data = b"".join(bytes(block) for block in copy)
        if table == "sharded":
            connection.execute("TRUNCATE sharded")
            stored = 0
            for row in connection.execute("TABLE source").fetchall():
                try:
                    with connection.transaction():
                        connection.execute("INSERT INTO sharded VALUES (%s, %s, %s, %s)", row)
                    stored += 1
                except psycopg.Error:
                    continue
        else:
            [(stored,)] = connection.execute(f"SELECT count(*) FROM source WHERE NOT {refused}".encode()).fetchall()
    loads.databases.execute(f"TRUNCATE {table}", oracle=False)
    with loads.connect(on_error="resume_next", batch_rows=str(batch_rows)) as connection:
        sql = f"COPY {table} FROM STDIN (FORMAT binary)"
        assert load(connection, sql, data[:50], data[50:700], data[700:]) == f"COPY {stored}"
    found = sorted(row for shard in loads.databases.rows(f"TABLE {table}") for row in shard)
    kept = loads.kept(table)
    with psycopg.connect(oracle) as connection:
        load(connection, "COPY back FROM STDIN (FORMAT binary)", kept.dat)
    assert sorted([*found, *query(oracle, "TABLE back")]) == sorted(query(oracle, "TABLE source"))
    assert len(kept.facts) == 100 - stored


def test_a_key_is_looked_at_before_a_parent(loads: Loads) -> None:
    """A row that lacks its parent, and has the key of one before it in its batch: PostgreSQL says 23505."""
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    rows = ["1,9", "1,1", "2,9", "1,9", "2,1", "1,8", "3,1", "3,1"]
    with loads.connect(on_error="resume_next") as connection:
        data = "".join(f"{row.replace(',', ',2024-01-01,a,')}\n" for row in rows).encode()
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", data) == "COPY 3"
    found = {fact["line"]: fact["sqlstate"] for fact in loads.kept("sharded").facts}
    assert found == {1: "23503", 3: "23503", 4: "23505", 6: "23505", 8: "23505"}


@pytest.mark.newest
def test_a_row_that_a_trigger_drops_once_its_parent_is_there_is_counted_once(loads: Loads) -> None:
    """The race of those that wait: it is dropped in one round, others move in it, and all are tried again."""
    ddl = """DROP TABLE IF EXISTS tree; CREATE TABLE tree (a int PRIMARY KEY, b text, p int REFERENCES tree (a));
        CREATE OR REPLACE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.b = 'drop' AND EXISTS (SELECT FROM tree WHERE a = NEW.p) THEN RETURN NULL; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fire BEFORE INSERT ON tree FOR EACH ROW EXECUTE FUNCTION fire()"""
    execute(loads.databases.shards[0], ddl)
    data = b"50\tw\t999\n2\tdrop\t1\n3\tx\t4\n51\tw\t999\n1\tx\t\\N\n4\tx\t\\N\n"
    with loads.connect(on_error="resume_next") as connection:
        assert load(connection, "COPY tree FROM STDIN", data) == "COPY 3"
    assert query(loads.databases.shards[0], "SELECT a FROM tree ORDER BY a") == [(1,), (3,), (4,)]
    assert [fact["line"] for fact in loads.kept("tree").facts] == [1, 4]


@pytest.mark.parametrize("form", ["csv", "text"])
def test_the_corrected_file_loads(loads: Loads, form: str) -> None:
    """With the same options, by COPY that stops at the first bad row."""
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    options = "FORMAT csv, HEADER" if form == "csv" else "FORMAT text, HEADER, DELIMITER ','"
    corrections = {
        b"2,30.01.2024,b,1": b"2,2024-01-30,b,1",
        b"3,2024-01-01,no,1": b"3,2024-01-01,yes,1",
        b"4,2024-01-01": b"4,2024-01-01,d,1",
        b"1,2024-01-01,e,1": b"5,2024-01-01,e,1",
        b"6,2024-01-01,\xe9,1": "6,2024-01-01,é,1".encode(),
        b"7,2024-01-01,%b,1" % (b"x" * 500): b"7,2024-01-01,x,1",
        b"8,2024-01-01,h,9": b"8,2024-01-01,h,1",
        b"9,,i,1": b"9,2024-01-01,i,1",
    }
    rows = [b"id,day,c,p", b"1,2024-01-01,a,1", *corrections]
    with loads.connect(on_error="resume_next", max_row_bytes="400") as connection:
        assert load(connection, f"COPY sharded FROM STDIN ({options})", b"\n".join(rows)) == "COPY 1"
        dat = loads.kept("sharded").dat
        assert dat == b"\n".join([rows[0], *corrections])
        for bad, good in corrections.items():
            dat = dat.replace(bad, good)
        connection.execute("SET shardproxy.on_error = stop")
        assert load(connection, f"COPY sharded FROM STDIN ({options})", dat) == f"COPY {len(corrections)}"
    assert sorted(row[0] for shard in loads.databases.rows("TABLE sharded") for row in shard) == list(range(1, 10))


# What keeps rows safe.


def test_rows_that_only_copy_itself_can_judge_are_stored_once(loads: Loads) -> None:
    """A domain may refuse NULL, for which there is no value to ask its type about."""
    execute(
        loads.databases.shards[0],
        """DROP SCHEMA IF EXISTS cases CASCADE; CREATE SCHEMA cases; SET search_path = cases;
        CREATE DOMAIN given AS text NOT NULL; CREATE TABLE t (a int, b given)""",
    )
    with loads.connect(on_error="resume_next") as connection:
        assert load(connection, "COPY t FROM STDIN", b"1\tx\n2\t\\N\nz\tx\n3\ty\n") == "COPY 2"
    assert query(loads.databases.shards[0], "SELECT a, b::text FROM cases.t ORDER BY a") == [(1, "x"), (3, "y")]
    assert [(fact["line"], fact["sqlstate"]) for fact in loads.kept("t").facts] == [(2, "23502"), (3, "22P02")]


@pytest.mark.newest
def test_all_or_nothing_and_the_clients_own_transaction(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    rows = b"1,2024-01-01,a,1\n2,x,b,1\n3,2024-01-01,c,1\n"
    with loads.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SET LOCAL shardproxy.on_error = resume_next")
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", rows) == "COPY 2"
        connection.execute("ROLLBACK")
        assert not any(loads.databases.rows("TABLE sharded"))
        with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
            load(connection, "COPY sharded FROM STDIN (FORMAT csv)", rows)  # the setting went with its transaction
        connection.execute("BEGIN; SET LOCAL shardproxy.on_error = resume_next")
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", rows) == "COPY 2"
        connection.execute("INSERT INTO sharded VALUES (4, '2024-01-01')")
        connection.execute("COMMIT")
    assert sorted(row[0] for shard in loads.databases.rows("TABLE sharded") for row in shard) == [1, 3, 4]


@pytest.mark.newest
def test_files_of_what_is_rolled_back_are_removed(loads: Loads) -> None:
    """With the transaction, or to a savepoint; those of what is committed stay."""
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    before = loads.all_kept()

    def copy(key: int) -> None:
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", b"x\n%d,2024-01-01,a,1\n" % key) == "COPY 1"

    def kept() -> int:
        return len(loads.all_kept() - before)

    with loads.connect(on_error="resume_next") as connection:
        connection.execute("BEGIN")
        copy(1)
        connection.execute("SAVEPOINT a")
        copy(2)
        connection.execute("SAVEPOINT b")
        copy(3)
        connection.execute("RELEASE b")
        assert kept() == 3
        connection.execute("ROLLBACK TO a")
        assert kept() == 1
        copy(4)
        connection.execute("COMMIT")
        assert kept() == 2
        for failing, end in (("", "ROLLBACK"), ("SELECT 1 / 0", "COMMIT"), ("SELECT 1 / 0; COMMIT", "ROLLBACK")):
            connection.execute("BEGIN")
            copy(5)
            assert kept() == 3
            if failing:
                with pytest.raises(psycopg.errors.DivisionByZero):
                    connection.execute(failing.encode())
            connection.execute(end.encode())
            assert kept() == 2
        connection.execute("BEGIN")
        copy(6)
        connection.close()
    until(lambda: kept() == 2)
    assert sorted(row[0] for shard in loads.databases.rows("TABLE sharded") for row in shard) == [1, 4]


def test_a_reference_table_has_the_same_rows_everywhere(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE copied", oracle=False)
    with loads.connect(on_error="resume_next") as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO copied VALUES (10, 1)")
        assert load(connection, "COPY copied FROM STDIN", b"1\t1\n1\t2\n2\t0\nx\t1\n3\t1\n") == "COPY 2"
        connection.execute("COMMIT")
        assert load(connection, "COPY copied FROM STDIN", b"4\t1\n") == "COPY 1"
    assert [sorted(rows) for rows in loads.databases.rows("TABLE copied")] == [[(1, 1), (3, 1), (4, 1), (10, 1)]] * 3


@pytest.mark.newest
def test_limits_end_a_load(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE listed", oracle=False)
    before = loads.all_kept()
    with loads.connect(on_error="resume_next") as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="rows were all bad"):
            load(connection, "COPY listed FROM STDIN", b"1\tx\n" * 2000)
        connection.execute("SET shardproxy.reject_limit = 1")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match=r"reject_limit \(1\)"):
            load(connection, "COPY listed FROM STDIN", b"1\t1\n1\tx\n2\t1\n")
        connection.execute("SET shardproxy.reject_limit = '40%'")
        assert load(connection, "COPY listed FROM STDIN", b"1\t1\n1\tx\n2\t1\n") == "COPY 1"
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match=r"reject_limit \(40 %\) of 400 rows"):
            load(connection, "COPY listed FROM STDIN", b"1\t1\n1\tx\n" * 200)
        for name, value in (("on_error", "go on"), ("reject_limit", "x"), ("batch_rows", "0")):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"shardproxy.{name}"):
                connection.execute(f"SET shardproxy.{name} = '{value}'")
            connection.execute("SELECT set_config(%s, %s, false)", (f"shardproxy.{name}", value))
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"shardproxy.{name}"):
                load(connection, "COPY listed FROM STDIN", b"1\t1\n")
            connection.execute(f"RESET shardproxy.{name}")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="unrecognized") as unknown:
            connection.execute("SET SESSION shardproxy.batch_row TO 5")
        assert unknown.value.diag.message_hint == 'Did you mean "shardproxy.batch_rows"?'
        connection.execute("SET shardproxy.batch_rows TO DEFAULT")
    assert loads.databases.rows("SELECT count(*) FROM listed") == [[(1,)], [(0,)], [(0,)]]
    assert len(loads.all_kept() - before) == 1


@pytest.mark.newest
def test_rows_without_a_shard_are_judged_as_they_come(loads: Loads) -> None:
    """They are kept in memory for no longer than a batch is, and count for the limits."""
    loads.databases.execute("TRUNCATE listed", oracle=False)
    data = b"id\tv\n" + b"".join(b"7\t%07d\n" % number for number in range(150_000))
    with loads.connect(on_error="resume_next", batch_size="1000") as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="rows were all bad") as caught:
            load(
                connection,
                "COPY listed FROM STDIN (HEADER)",
                *(data[at : at + 8000] for at in range(0, len(data), 8000)),
            )
        judged = int((caught.value.diag.message_primary or "").split()[2])
        assert 1000 <= judged < 75_000
        assert load(connection, "COPY listed FROM STDIN (HEADER)", b"id\tv\n", b"7\t1\n" * 900, b"1\t1\n") == "COPY 1"
    assert loads.kept("listed").dat == b"id\tv\n" + b"7\t1\n" * 900


# PostgreSQL's own ON_ERROR.

SKIPPING = {
    "ON_ERROR ignore": b"1\t1\n2\tx\n3\ty\n",
    "ON_ERROR ignore, FORMAT csv, HEADER": b'k,v\n1,1\nx,2\n2,"\n"\n3,3\n',
    "ON_ERROR 'ignore', LOG_VERBOSITY verbose": b"1\t1\n2\tx\n3\t" + b"y" * 200 + b"\n4\t4\n",
    "LOG_VERBOSITY verbose, ON_ERROR ignore, FORMAT csv, NULL 'x'": b'1,x\n"2","y""\n"\n1.5,2\n',
    "ON_ERROR ignore, LOG_VERBOSITY silent": b"1\t1\n2\tx\n",
    "ON_ERROR ignore, REJECT_LIMIT 2": b"1\tx\n2\tx\n3\t3\n",
    "ON_ERROR ignore, REJECT_LIMIT 1": b"1\tx\n2\tx\n3\t3\n",
    "ON_ERROR ignore, REJECT_LIMIT 1, LOG_VERBOSITY verbose": b"1\t1\n2\tx\n3\ty\n4\t4\t4\n",
    "LOG_VERBOSITY verbose, REJECT_LIMIT 2, ON_ERROR ignore": b"1\tx\n2\t2\n3\t3\t3\n4\tx\n5\tx\n",
    "ON_ERROR ignore, ENCODING 'latin1'": b"1\tx\n",
    "ON_ERROR stop, LOG_VERBOSITY verbose": b"1\t1\n2\t2\n",
    "LOG_VERBOSITY silent, FORMAT csv": b"1,1\n2,x\n",
    "LOG_VERBOSITY default": b"1\t1\n",
    "ON_ERROR ignore , format csv ": b"1,1\n2,2,\n3,x\n",
    "ON_ERROR ignore, FORMAT 'text'": b"1\t1\n1\tx\n1\t2\n2\n",
}


@pytest.mark.parametrize("options", SKIPPING)
def test_rows_are_skipped_as_postgresql_18_does_it(loads: Loads, servers18: Servers, options: str) -> None:
    ddl = "DROP TABLE IF EXISTS skipping; CREATE TABLE skipping (k int, v int CHECK (v < 100))"
    execute(servers18.oracle.dsn(), ddl)
    execute(loads.databases.shards[0], ddl)

    def outcome(dsn: str) -> tuple[object, ...]:
        told: list[tuple[str | None, ...]] = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.add_notice_handler(
                lambda one: told.append((one.severity, one.sqlstate, one.message_primary, one.context))
            )
            try:
                said = load(connection, f"COPY skipping FROM STDIN WITH ({options})", SKIPPING[options])
            except psycopg.Error as error:
                said = f"{error.sqlstate} {error.diag.message_primary} {error.diag.context}"
            return said, told, connection.execute("SELECT k, v FROM skipping ORDER BY 1, 2").fetchall()

    assert outcome(loads.proxy.dsn()) == outcome(servers18.oracle.dsn())


@pytest.mark.parametrize("row", [b"2\t\\N\t3\n", b"2\t200\t3\n", b"1\t2\t3\n", b"2\t2\t1\n", b"2\t2\n"])
def test_a_constraint_that_ends_a_copy_is_named_as_postgresql_does(
    loads: Loads, servers18: Servers, row: bytes
) -> None:
    ddl = """DROP TABLE IF EXISTS skipping;
        CREATE TABLE skipping (k int PRIMARY KEY, v int NOT NULL CHECK (v < 100), u int UNIQUE)"""
    execute(servers18.oracle.dsn(), ddl)
    execute(loads.databases.shards[0], ddl)

    def told(dsn: str) -> tuple[str | None, ...]:
        with psycopg.connect(dsn, autocommit=True) as connection, pytest.raises(psycopg.Error) as raised:
            load(connection, "COPY skipping FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 2)", b"1\t1\t1\nx\t1\t2\n" + row)
        diag = raised.value.diag
        return diag.sqlstate, diag.schema_name, diag.table_name, diag.column_name, diag.constraint_name

    assert told(loads.proxy.dsn()) == told(servers18.oracle.dsn())


def test_what_on_error_does_not_skip_is_set_aside(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE listed", oracle=False)
    told: list[str] = []
    with loads.connect(on_error="resume_next") as connection:
        connection.add_notice_handler(lambda one: told.append(one.message_primary or ""))
        assert load(connection, "COPY listed FROM STDIN (ON_ERROR ignore)", b"1\t1\n1\tx\n1\n7\t1\n") == "COPY 1"
    assert [(fact["line"], fact["sqlstate"]) for fact in loads.kept("listed").facts] == [(3, "22P04"), (4, "23514")]
    assert told == ['2 rows of "listed" were set aside', "1 row was skipped due to data type incompatibility"]


@pytest.mark.newest
def test_rows_that_are_too_long_are_set_aside(loads: Loads) -> None:
    """However long they are, memory is not: what is over goes to the files as it comes."""
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    long = [b'2,2024-01-01,"' + b"x" * size + b'\n",1\n' for size in (80, 100_000, 300_000)]
    open_end = b'4,2024-01-01,"' + b"y\n" * 100_000
    rows = [b"1,2024-01-01,a,1\n", long[0], long[1], b"x,,,\n", long[2], b"3,2024-01-01,c,1\n", open_end]
    data = b"".join(rows)
    for piece in (100, 50_000, len(data)):
        loads.databases.execute("TRUNCATE sharded", oracle=False)
        with loads.connect(on_error="resume_next", max_row_bytes="60", batch_rows="1") as connection:
            pieces = (data[at : at + piece] for at in range(0, len(data), piece))
            assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", *pieces) == "COPY 2"
        assert sorted(row[0] for shard in loads.databases.rows("TABLE sharded") for row in shard) == [1, 3]
        kept = loads.kept("sharded")
        assert kept.dat == b"".join([*rows[1:5], open_end])
        found = [(fact["line"], fact["offset"], fact["sqlstate"]) for fact in kept.facts]
        at = [sum(map(len, rows[:number])) for number in range(len(rows))]
        assert found == [
            (3, at[1], "54000"),
            (5, at[2], "54000"),
            (6, at[3], "22P02"),
            (8, at[4], "54000"),
            (100_010, at[6], "54000"),
        ]
        assert "longer than max_row_bytes (60)" in kept.log
        assert "It begins on line 10." in kept.log
        assert max(len(fact["row"]) for fact in kept.facts) == 1 << 16
    with (
        loads.connect(on_error="resume_next", max_row_bytes=str(1 << 30)) as connection,
        pytest.raises(psycopg.errors.InvalidParameterValue, match=r"max_row_bytes"),
    ):
        load(connection, "COPY sharded FROM STDIN (FORMAT csv)", b"")


@pytest.mark.newest
def test_a_quote_that_is_never_closed_costs_no_memory(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE listed", oracle=False)
    begin, size = b'1,1\n1,"', 200 << 20
    before = peak = loads.proxy.rss()
    with loads.connect(on_error="resume_next", max_row_bytes=str(1 << 20)) as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY listed FROM STDIN (FORMAT csv)") as copy:
            copy.write(begin)
            for _ in range(size >> 20):
                copy.write(b"1234567\n" * (1 << 17))
                peak = max(peak, loads.proxy.rss())
        assert cursor.statusmessage == "COPY 1"
    kept = loads.kept("listed")
    assert len(kept.dat) == size + len(b'1,"')
    assert [fact["sqlstate"] for fact in kept.facts] == ["54000"]
    assert peak - before < 32 << 20


def test_an_unterminated_quote_is_told_with_its_line(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE listed", oracle=False)
    with loads.connect(on_error="resume_next") as connection:
        assert load(connection, "COPY listed FROM STDIN (FORMAT csv)", b'1,1\n1,"\n"2,3\n",4\n1,5\n') == "COPY 1"
    kept = loads.kept("listed")
    assert [(fact["line"], fact["sqlstate"]) for fact in kept.facts] == [(3, "22P04"), (6, "22P04")]
    assert "HINT: The quote that opens on line 4 is not closed." in kept.log


@pytest.mark.newest
def test_files_and_the_warning(loads: Loads) -> None:
    loads.databases.execute("TRUNCATE listed", oracle=False)
    said: list[tuple[str, str, str]] = []
    with loads.connect(on_error="resume_next") as connection:
        connection.add_notice_handler(
            lambda notice: said.append(
                (notice.severity_nonlocalized or "", notice.message_primary or "", notice.message_detail or "")
            )
        )
        tag = load(
            connection, "COPY listed FROM STDIN (FORMAT csv, HEADER)", b'id,v\r\n"1\r\n",2\r\n2,1\r\n3,"\r\n"\r\n'
        )
    assert tag == "COPY 1"
    kept = loads.kept("listed")
    assert kept.dat.startswith(b"id,v\r\n")
    assert [(fact["line"], fact["sqlstate"]) for fact in kept.facts] == [(4, "23514"), (6, "23514")]
    [(severity, message, detail)] = said
    assert (severity, message) == ("WARNING", '2 rows of "listed" were set aside')
    assert str(loads.rejects / "shop" / "public.listed.") in detail


REJECTS = """CREATE TABLE rejects (at timestamptz DEFAULT now(), load_id text, relation text, file text, line bigint,
    byte_offset bigint, data text, sqlstate text, message text, detail text, column_name text, shard text)"""


@pytest.mark.newest
def test_a_table_of_rejects(servers: Servers, run_proxy: RunProxy, tmp_path: Path) -> None:
    """It has what the files have, if the load is committed, and without it no row is asked for."""
    databases = Databases.create(servers, one_server=True)
    bad = [b"x\t1\n", b"7\t\xff\n", b"8\t\0\n", "9\tä'\\\\\n".encode()]
    rows = [*(b"%d\t1\n" % number for number in range(1, 7)), *bad]
    try:
        databases.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
        load_entry = {"reject_dir": str(tmp_path), "reject_table": "rejects", "on_error": "resume_next"}
        proxy = run_proxy(
            databases.config(
                [
                    {"name": "t", "placement": "hash", "key": ["a"]},
                    {"name": "rejects", "placement": "single", "shard": "s0"},
                ],
                entry={"load": load_entry},
            )
        )
        with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
            for ddl, state in (("", "42P01"), ("CREATE TABLE rejects (line int)", "42703")):
                databases.execute(ddl or "SELECT 1")
                with pytest.raises(psycopg.Error) as caught, connection.cursor().copy("COPY t FROM STDIN"):
                    raise AssertionError("it asks for data")
                assert caught.value.sqlstate == state
                assert "reject_table" in (caught.value.diag.message_hint or "")
            databases.execute(f"DROP TABLE rejects; {REJECTS}")
            assert load(connection, "COPY t FROM STDIN", *rows) == "COPY 6"
            with connection.transaction(force_rollback=True):
                assert load(connection, "COPY t FROM STDIN", rows[0]) == "COPY 0"
                assert connection.execute("SELECT count(*) FROM rejects").fetchone() == (5,)
            dat = min(tmp_path.rglob("*.dat"), key=lambda path: path.stat().st_mtime_ns)
            kept = Kept(dat)
            found = connection.execute(
                """SELECT line, byte_offset, data, sqlstate, message, detail, column_name, shard,
                load_id, relation, file FROM rejects ORDER BY line"""
            ).fetchall()
        names = ("line", "offset", "row", "sqlstate", "message", "detail", "column", "shard")
        load_id = dat.name.removesuffix(".dat").removeprefix("public.t.")
        told = [tuple(fact[name] for name in names) for fact in kept.facts]
        assert [(*row[:2], row[2].replace("\\x00", "\0"), *row[3:8]) for row in found] == told
        assert {row[8:] for row in found} == {(load_id, "public.t", None)}
        assert len(found) == 4
    finally:
        databases.drop()


@pytest.mark.newest
def test_a_directory_that_cannot_be_used(servers: Servers, run_proxy: RunProxy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    databases = Databases.create(servers, one_server=True)
    try:
        entry = {"load": {"reject_dir": str(tmp_path / "file" / "below")}}
        with pytest.raises(ProxyError, match="is not a directory"):
            run_proxy(databases.config(entry=entry))
        path = tmp_path / "shop.toml"
        path.write_text(databases.config(entry=entry))
        report = asyncio.run(check(path))
        assert report.exit_code == 1
        assert f'"{tmp_path}/file" is not a directory' in "\n".join(report.lines())
    finally:
        databases.drop()


@pytest.mark.newest
def test_hints(loads: Loads) -> None:
    """The WARNING has what most rows look like; an error, what the last one does; the .log, each row's own."""
    hints: list[str | None] = []
    with loads.connect(on_error="resume_next") as connection:
        connection.add_notice_handler(lambda notice: hints.append(notice.message_hint))
        loads.databases.execute("TRUNCATE sharded", oracle=False)
        rows = b'1,31/12/2024,"caf\xc3\xa9",1\n2,30/11/2024,b,1\n3,2024-01-01,\xe9,1\n4,2024-01-01,d,1\n'
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", rows) == "COPY 1"
        log = loads.kept("sharded").log
        assert log.count("date with the day first") == 2
        assert log.count("ENCODING 'WIN1252'") == 1
        assert "day first" in (hints.pop() or "")
        assert load(connection, "COPY sharded FROM STDIN (FORMAT csv)", b"x,2024-01-01,d,1\n") == "COPY 0"
        assert hints.pop() is None
        for limit in ("", "10"):
            connection.execute(f"SET shardproxy.reject_limit = '{limit}'")
            with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
                load(connection, "COPY listed FROM STDIN (FORMAT csv)", b"1,1,\n" * 2000)
            hint = "None of these rows are loaded. It looks like a row with a delimiter after its last column."
            assert caught.value.diag.message_hint == hint


@pytest.mark.newest
def test_without_a_place_for_rejects_nothing_is_loaded(servers: Servers, run_proxy: RunProxy) -> None:
    databases = Databases.create(servers, one_server=True)
    try:
        databases.execute("CREATE TABLE t (a int)")
        proxy = run_proxy(databases.config([{"name": "t", "placement": "hash", "key": ["a"]}]))
        with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
            connection.execute("SET shardproxy.on_error = resume_next")
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="needs a place"):
                load(connection, "COPY t FROM STDIN", b"1\n")
            with pytest.raises(ProxyError):
                run_proxy(
                    databases.config(
                        [{"name": "t", "placement": "hash", "key": ["a"]}], entry={"load": {"on_error": "x"}}
                    )
                )
    finally:
        databases.drop()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.newest
@pytest.mark.parametrize("how", ["cancel", "leave", "fail"])
def test_a_load_that_is_broken_off_leaves_nothing(loads: Loads, how: str) -> None:
    loads.databases.execute("TRUNCATE sharded", oracle=False)
    before = loads.all_kept()
    names = ", ".join(f"'{dsn.rsplit('/', 1)[1]}'" for dsn in loads.databases.shards)
    busy = f"SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND datname IN ({names})"
    rows = b"".join(b"%d,%s,a,1\n" % (number, b"x" if number % 10 == 0 else b"2024-01-01") for number in range(6_000))
    with loads.connect(on_error="resume_next", batch_rows="100") as connection:
        copy = connection.cursor().copy("COPY sharded FROM STDIN (FORMAT csv)")
        opened = copy.__enter__()
        opened.write(rows)
        until(lambda: query(loads.databases.oracle, busy) != [(0,)])
        if how == "cancel":
            connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                copy.__exit__(None, None, None)
        elif how == "fail":
            copy.__exit__(ValueError, ValueError("enough"), None)
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
        else:
            connection.close()
    until(lambda: query(loads.databases.oracle, busy) == [(0,)])
    assert not any(loads.databases.rows("TABLE sharded"))
    assert loads.databases.rows("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'load%'") == [[(0,)]] * 3
    assert loads.all_kept() == before
