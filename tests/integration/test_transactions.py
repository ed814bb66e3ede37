"""Transactions and settings of a session over several shards, held against one PostgreSQL."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute
from tests.support.rawclient import RawClient
from tests.support.twin import Step, Twin

pytestmark = pytest.mark.newest

NEW = range(1001, 1007)  # keys on all three shards


@pytest.fixture(scope="module")
def module_twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Iterator[Twin]:
    yield module_twin
    execute(module_twin.databases.oracle, "DELETE FROM t WHERE a > 1000")
    for shard in module_twin.databases.shards:
        execute(shard, "DELETE FROM t WHERE a > 1000")


def inserts(keys: Iterator[int] | range = NEW) -> list[Step]:
    return [f"INSERT INTO t VALUES ({key}, 'new')" for key in keys]


MODES = "SELECT name, setting FROM pg_settings WHERE name LIKE 'transaction%' ORDER BY 1"
LISTING = "SELECT a, b FROM t WHERE a > 1000"

CASES: dict[str, list[Step]] = {
    "commit": ["BEGIN", *inserts(), LISTING, "COMMIT", LISTING],
    "rollback": ["BEGIN", *inserts(), LISTING, "ROLLBACK", LISTING],
    "end and abort": ["START TRANSACTION", *inserts(), "END", "BEGIN", *inserts(range(1007, 1009)), "ABORT", LISTING],
    "begin in a transaction": ["BEGIN", "BEGIN", *inserts(range(1001, 1002)), "COMMIT", LISTING],
    "commit outside": ["COMMIT", "ROLLBACK", "SELECT 1"],
    "failed": [
        "BEGIN", *inserts(), "SELECT 1/0", "SELECT 1", "BEGIN", "SAVEPOINT x", "RELEASE x", "SET work_mem = '1MB'",
        "DISCARD ALL", "COPY t FROM STDIN", "LISTEN x", "SELEC", "", "COMMIT", LISTING,
    ],
    "failed by a duplicate key": ["BEGIN", *inserts(), "INSERT INTO t VALUES (1)", "COMMIT", LISTING],
    "failed before any shard": ["BEGIN", "SELEC 1", "SELECT 1", "ROLLBACK", "SELECT 1"],
    "rollback of a failed one": ["BEGIN", *inserts(), "SELECT nix", "ROLLBACK", LISTING],
    "and chain": ["BEGIN", *inserts(range(1001, 1003)), "COMMIT AND CHAIN", *inserts(range(1003, 1005)),
                  "ROLLBACK AND CHAIN", *inserts(range(1005, 1007)), "COMMIT", LISTING],
    "and chain keeps the options": ["BEGIN READ ONLY", "COMMIT AND CHAIN", *inserts(range(1001, 1002)), "ROLLBACK"],
    "and chain keeps what SET TRANSACTION has set": [
        "BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", "SELECT a FROM t WHERE a = 1",
        "COMMIT AND CHAIN", MODES, *inserts(range(1001, 1002)), "ROLLBACK AND CHAIN", MODES, "ROLLBACK", MODES,
    ],
    "and chain before any shard": [
        "BEGIN", "SET transaction_isolation = 'repeatable read'", "COMMIT AND CHAIN", "COMMIT AND CHAIN", MODES,
        "ROLLBACK",
    ],
    "and chain of a failed one keeps nothing": [
        "BEGIN ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY", "SELECT 1/0", "ROLLBACK AND CHAIN", MODES,
        "COMMIT",
    ],
    "and chain of a failed one with a savepoint": [
        "BEGIN READ ONLY", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK AND CHAIN", MODES, "COMMIT",
    ],
    "and chain after ROLLBACK TO": [
        "BEGIN", "SAVEPOINT a", "SET TRANSACTION READ ONLY", "ROLLBACK TO a", "COMMIT AND CHAIN", MODES, "COMMIT",
    ],
    "begin with modes inside": [
        "BEGIN", "BEGIN READ ONLY, DEFERRABLE", MODES, "SELECT a FROM t WHERE a = 1",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK",
    ],
    "begin with modes after a query": ["SELECT 1; BEGIN READ ONLY; SELECT 2", MODES, "ROLLBACK"],
    "begin that fails after a query opens nothing": [
        "SELECT 1; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 2", "ROLLBACK", "SELECT 1",
    ],
    "begin with another isolation after a query": [
        "BEGIN", "SELECT a FROM t WHERE a = 1", "BEGIN ISOLATION LEVEL REPEATABLE READ", "ROLLBACK",
    ],
    "and chain outside": ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1"],
    "and chain of a failed one": ["BEGIN", "SELECT 1/0", "COMMIT AND CHAIN", *inserts(), "COMMIT", LISTING],
    "read only": ["BEGIN READ ONLY", *inserts(range(1001, 1002)), "ROLLBACK"],
    "read only by SET": ["BEGIN", "SET TRANSACTION READ ONLY", *inserts(range(1003, 1004)), "ROLLBACK"],
    "isolation": [
        "BEGIN ISOLATION LEVEL REPEATABLE READ", "SHOW transaction_isolation", "SELECT a FROM t WHERE a = 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK",
    ],
    "savepoint": [
        "BEGIN", *inserts(range(1001, 1003)), "SAVEPOINT x", *inserts(range(1003, 1007)), "ROLLBACK TO x", LISTING,
        *inserts(range(1003, 1005)), "RELEASE x", "COMMIT", LISTING,
    ],
    "savepoint before any shard": [
        "BEGIN", "SAVEPOINT x", *inserts(), "ROLLBACK TO x", *inserts(range(1001, 1003)), "COMMIT", LISTING,
    ],
    "savepoint and an error": [
        "BEGIN", *inserts(range(1001, 1004)), "SAVEPOINT x", "INSERT INTO t VALUES (1)", "SELECT 1", "ROLLBACK TO x",
        LISTING, *inserts(range(1004, 1007)), "COMMIT", LISTING,
    ],
    "savepoints of one name": [
        "BEGIN", "SAVEPOINT x", *inserts(range(1001, 1003)), "SAVEPOINT x", *inserts(range(1003, 1005)),
        "ROLLBACK TO x", LISTING, "RELEASE x", "ROLLBACK TO x", LISTING, "COMMIT",
    ],
    "nested savepoints": [
        "BEGIN", "SAVEPOINT x", *inserts(range(1001, 1003)), "SAVEPOINT y", *inserts(range(1003, 1007)), "RELEASE x",
        "ROLLBACK TO y", "ROLLBACK TO x", "COMMIT", LISTING,
    ],
    "quoted savepoint": ['BEGIN', 'SAVEPOINT "A b"', *inserts(), 'ROLLBACK TO "A b"', 'ROLLBACK TO "a b"', "ROLLBACK"],
    "unknown savepoint": ["BEGIN", "ROLLBACK TO nix", "SELECT 1", "ROLLBACK"],
    "savepoint outside": ["SAVEPOINT x", "ROLLBACK TO x", "RELEASE x"],
    "set is rolled back": ["BEGIN", "SET work_mem = '13MB'", "SHOW work_mem", "ROLLBACK", "SHOW work_mem"],
    "set is committed": ["BEGIN", "SET work_mem = '13MB'", "COMMIT", "SHOW work_mem", "RESET work_mem",
                         "SHOW work_mem"],
    "set local": ["BEGIN", "SET LOCAL work_mem = '13MB'", "SHOW work_mem", "COMMIT", "SHOW work_mem"],
    "set local outside": ["SET LOCAL work_mem = '13MB'", "SHOW work_mem"],
    "set local and session": ["BEGIN", "SET work_mem = '13MB'", "SET LOCAL work_mem = '14MB'", "SHOW work_mem",
                              "COMMIT", "SHOW work_mem"],
    "set behind a savepoint": [
        "BEGIN", "SET work_mem = '13MB'", "SAVEPOINT x", "SET work_mem = '14MB'", "ROLLBACK TO x", "SHOW work_mem",
        "COMMIT", "SHOW work_mem",
    ],
    "reset all": ["SET work_mem = '13MB'", "SET statement_timeout = 7000", "RESET ALL", "SHOW work_mem",
                  "SHOW statement_timeout"],
    "session characteristics": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", *inserts(range(1001, 1002)),
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", *inserts(range(1001, 1002)),
    ],
    "chained after a change of the default": [
        "BEGIN", "SET default_transaction_isolation = serializable", "SET default_transaction_read_only = on",
        "COMMIT AND CHAIN",
        *(f"SELECT current_setting('transaction_isolation') FROM t WHERE a = {key}" for key in (1, 2, 3)),
        *inserts(), "COMMIT AND CHAIN", "SHOW transaction_read_only", "COMMIT", "SHOW transaction_isolation",
        "RESET default_transaction_isolation", "RESET default_transaction_read_only",
    ],
    "chained after a change of the characteristics": [
        "BEGIN ISOLATION LEVEL REPEATABLE READ", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE",
        "COMMIT AND CHAIN", "SHOW transaction_isolation", "SHOW transaction_deferrable", *inserts(), "COMMIT",
        "SHOW transaction_read_only",
    ],
    "chained after set_config": [
        "BEGIN READ ONLY", "SELECT set_config('default_transaction_' || 'read_only', 'off', false)", "COMMIT AND CHAIN",
        *inserts(), "ROLLBACK AND CHAIN", *inserts(), "ROLLBACK",
    ],
    "time zone": ["SET TIME ZONE 'Europe/Berlin'", "SHOW TimeZone", "SET TIME ZONE LOCAL", "SHOW TimeZone"],
    "discard all": ["SET work_mem = '13MB'", "CREATE TEMP TABLE x (a int)", "DISCARD ALL", "SHOW work_mem", "TABLE x"],
    "temporary table": [
        "CREATE TEMP TABLE x (a int, b text)", "INSERT INTO x VALUES (1), (2)", "SELECT * FROM x ORDER BY a DESC",
        "SELECT count(*) FROM x", "UPDATE x SET b = 'y'", "DELETE FROM x WHERE a = 1", "SELECT * FROM x",
        "DROP TABLE x", "SELECT * FROM x",
    ],
    "temporary table of a transaction": [
        "BEGIN", *inserts(), "CREATE TEMP TABLE x (a int) ON COMMIT DROP", "INSERT INTO x VALUES (1)", "TABLE x",
        "ROLLBACK", "TABLE x",
    ],
    "cursor": [
        "DECLARE c CURSOR FOR SELECT 1", "BEGIN", "DECLARE c CURSOR FOR SELECT a FROM t WHERE a = 7", "FETCH c",
        "FETCH c", "MOVE BACKWARD ALL c", "FETCH ALL FROM c", "CLOSE c", "FETCH c", "ROLLBACK",
    ],
    "cursor with hold": [
        "BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 3) g", "COMMIT", "FETCH 2 c",
        "FETCH 2 c", "CLOSE c", "FETCH c", "CLOSE ALL",
    ],
    "prepare": [
        "PREPARE p AS SELECT b FROM one WHERE a = $1", "EXECUTE p(3)", "EXECUTE p(4)", "DEALLOCATE p", "EXECUTE p(3)",
        "DEALLOCATE ALL",
    ],
    "search path": [
        "CREATE SCHEMA s; CREATE TABLE s.ref (a int)", "SET search_path = s, public", "SELECT count(1) FROM public.ref",
        "RESET search_path", "SELECT count(1) FROM ref", "DROP SCHEMA s CASCADE",
    ],
    "advisory locks": ["SELECT pg_advisory_lock(77)", "SELECT pg_advisory_unlock(77)", "SELECT pg_advisory_unlock(77)"],
    "current user": ["SELECT current_user, session_user", "SET ROLE nobody_there"],
    "DDL in a transaction": [
        "BEGIN", "CREATE TABLE d (a int)", "ALTER TABLE d ADD b int DEFAULT 3", "ROLLBACK", "SELECT 'd'::regclass",
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_as_on_one_server(twin: Twin, steps: list[Step]) -> None:
    twin.compare(*steps)
    assert twin.rows()[0] == twin.rows()[1]


def test_settings_reach_shards_that_connect_later(twin: Twin) -> None:
    shown = "SELECT current_setting('app.x') FROM t WHERE a = {}"
    with RawClient(twin.dsn) as client:
        assert client.query("SET app.x = 'early'").tags == ["SET"]
        client.query("BEGIN")
        client.query("SET LOCAL app.x = 'local'")
        assert {client.query(shown.format(key)).rows[0][0] for key in range(1, 4)} == {b"local"}
        client.query("SAVEPOINT x")
        client.query("SET app.x = 'later'")
        assert {client.query(shown.format(key)).rows[0][0] for key in range(1, 10)} == {b"later"}
        client.query("ROLLBACK TO x")
        assert {client.query(shown.format(key)).rows[0][0] for key in range(1, 10)} == {b"local"}
        client.query("COMMIT")
        assert {client.query(shown.format(key)).rows[0][0] for key in range(1, 10)} == {b"early"}


def test_a_shard_that_joins_late_is_in_the_same_transaction(twin: Twin) -> None:
    with RawClient(twin.dsn) as client:
        client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for key in range(1, 10):
            [row] = client.query(
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
                f" FROM t WHERE a = {key}"
            ).rows
            assert row == [b"repeatable read", b"on"]


def test_a_failed_transaction_lets_its_locks_go_on_every_shard(twin: Twin) -> None:
    """As on one server: a client that sits in its failed transaction keeps nobody waiting."""
    with psycopg.connect(twin.dsn) as first, psycopg.connect(twin.dsn, autocommit=True) as second:
        second.execute("SET statement_timeout = '5s'")
        for key in NEW:
            second.execute("INSERT INTO t VALUES (%s, 'new')", (key,))
        for key in NEW:
            first.execute("UPDATE t SET b = 'changed' WHERE a = %s", (key,))
        with pytest.raises(psycopg.errors.DivisionByZero):
            first.execute("SELECT 1/0")
        for key in NEW:
            second.execute("UPDATE t SET b = b || '!' WHERE a = %s", (key,))
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            first.execute("SELECT 1")
        first.rollback()
        assert sorted(second.execute(LISTING)) == [(key, "new!") for key in NEW]
        first.execute("INSERT INTO t VALUES (1007, 'on')")
        first.commit()
        assert second.execute("SELECT b FROM t WHERE a = 1007").fetchall() == [("on",)]


@pytest.fixture(scope="module")
def words(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    """Both sides, with a table that is placed by words."""
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE words (k text PRIMARY KEY, v int)")
    table = {"name": "words", "placement": "hash", "key": ["k"]}
    yield Twin(databases, run_proxy_for_module(databases.config([table])))
    databases.drop()


ENCODINGS = {"LATIN1": "é", "WIN1251": "ж", "SJIS": "表", "EUC_JP": "表", "SQL_ASCII": "é"}


@pytest.mark.parametrize(("encoding", "word"), ENCODINGS.items(), ids=ENCODINGS)
def test_identifiers_beyond_ascii(twin: Twin, encoding: str, word: str) -> None:
    codec = "utf-8" if encoding == "SQL_ASCII" else {"WIN1251": "cp1251"}.get(encoding, encoding)
    statements = (
        f'CREATE TEMPORARY TABLE "{word}" ("a{word}" int)',
        f"INSERT INTO {word} VALUES (1)",
        f"SELECT a{word} AS b{word}, '{word}' FROM {word}",
        f"SELECT b AS {word} FROM t WHERE a = 1",
        f"SELECT * FROM not{word}",
        f"SELECT not{word} FROM {word}",
        f"PREPARE p{word} AS SELECT 1",
        f"EXECUTE p{word}",
        f"DROP TABLE {word}",
    )
    settings = {"client_encoding": encoding}
    twin.compare(*(encode.query(one.encode(codec)) for one in statements), settings=settings)


@pytest.mark.parametrize(("encoding", "word"), ENCODINGS.items(), ids=ENCODINGS)
def test_keys_beyond_ascii(words: Twin, encoding: str, word: str) -> None:
    """By constants and by parameters, and found by a client of another encoding; not by a guess at a conversion."""
    twin = words
    codec = "utf-8" if encoding == "SQL_ASCII" else {"WIN1251": "cp1251"}.get(encoding, encoding)
    settings = {"client_encoding": encoding}
    by_constant = (
        encode.query(f"INSERT INTO words VALUES ('{word}', 1)".encode(codec)),
        encode.query(f"UPDATE words SET v = 2 WHERE k = '{word}'".encode(codec)),
        encode.query(f"SELECT * FROM words WHERE k = '{word}'".encode(codec)),
    )
    if encoding == "EUC_JP":
        inserted, updated, selected = twin.proxied(*by_constant, settings=settings)
        assert [reply.errors[0]["C"] for reply in (inserted, updated)] == ["0A000", "0A000"]
        assert selected.tags == ["SELECT 0"]
        return
    twin.compare(*by_constant, settings=settings)
    if encoding != "SJIS":
        select = encode.parse(b"", b"SELECT * FROM words WHERE k = $1", ()) + encode.bind(
            b"", b"", (), [word.encode(codec)], ()
        )
        twin.compare(select + encode.execute(b"") + encode.SYNC, settings=settings)
    twin.compare(f"SELECT v FROM words WHERE k = '{word}'", f"DELETE FROM words WHERE k = '{word}'")


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "SJIS"])
def test_client_encodings(twin: Twin, encoding: str) -> None:
    text = "ソ表" if encoding == "SJIS" else "é"  # SJIS: their second bytes are backslashes
    codec = {"LATIN1": "latin-1", "WIN1252": "cp1252", "SJIS": "cp932"}[encoding]
    statements: list[Step] = [
        f"INSERT INTO t VALUES (1001, '{text}')".encode(codec).decode("latin-1"),
        "SELECT b FROM t WHERE a = 1001",
        f"SELECT a FROM t WHERE b = '{text}' AND a > 1000".encode(codec).decode("latin-1"),
        f"SELECT '{text}', nix".encode(codec).decode("latin-1"),
    ]
    steps = [encode.query(str(step).encode("latin-1")) for step in statements]
    replies = twin.compare(*steps, settings={"client_encoding": encoding})
    assert replies[1].rows == [[text.encode(codec)]]
    twin.compare(f"SET client_encoding = '{encoding}'", steps[1], "DELETE FROM t WHERE a = 1001")


@pytest.mark.parametrize(("meant", "codec"), [("LATIN1", "latin-1"), ("UTF8", "utf-8"), ("WIN1252", "cp1252")])
def test_a_statement_means_what_it_meant_in_the_encoding_of_its_parse(twin: Twin, meant: str, codec: str) -> None:
    """Each change of client_encoding comes before a shard has it prepared: the constant's bytes would be others."""
    text = "SELECT a, 'é', length('é'), b || 'ü' FROM t WHERE a = $1".encode(codec)
    steps: list[Step] = [encode.parse(b"p", text, (23,)) + encode.SYNC]
    for key in range(1, 9):
        run = encode.bind(b"", b"p", (), (b"%d" % key,), ()) + encode.describe(b"P", b"") + encode.execute(b"")
        steps += [f"SET client_encoding = '{('UTF8', 'LATIN1', 'LATIN9')[key % 3]}'", run + encode.SYNC]
    replies = twin.compare(*steps, settings={"client_encoding": meant})
    assert [reply.rows[0][2] for reply in replies[2::2]] == [b"1"] * 8
    twin.compare("BEGIN", *steps, "COMMIT", settings={"client_encoding": meant})


def test_parameters_are_reported(twin: Twin) -> None:
    settings = {"application_name": "it's me", "DateStyle": "German", "options": "-c IntervalStyle=iso_8601"}
    with psycopg.connect(twin.dsn) as ours, psycopg.connect(twin.databases.oracle) as theirs:
        names = ["server_version", "server_encoding", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
                 "integer_datetimes", "standard_conforming_strings", "application_name", "is_superuser"]  # fmt: skip
        for name in names:
            assert ours.info.parameter_status(name) == theirs.info.parameter_status(name), name
    with RawClient(twin.dsn, settings) as client:
        [row] = client.query(
            "SELECT current_setting('application_name'), current_setting('DateStyle'), current_setting('IntervalStyle')"
        ).rows
        assert row == [b"it's me", b"German, DMY", b"iso_8601"]
    with psycopg.connect(twin.dsn, application_name="other") as connection:
        assert connection.info.parameter_status("application_name") == "other"
        connection.execute("SET DateStyle = 'SQL, DMY'")
        assert connection.info.parameter_status("DateStyle") == "SQL, DMY"
        connection.execute("ROLLBACK")
        assert connection.info.parameter_status("DateStyle") == "ISO, MDY"


def test_a_setting_that_is_refused_at_login(twin: Twin) -> None:
    for settings in ({"nobody_knows": "1"}, {"work_mem": "much"}):
        messages = []
        for dsn in (twin.dsn, twin.databases.oracle):
            with pytest.raises(ConnectionError, match=r"'S': 'FATAL'.*'C': '(42704|22023)'") as refused:
                RawClient(dsn, settings)
            messages.append(re.findall("'M': [^,]*", str(refused.value)))
        assert messages[0] == messages[1]


def test_statements_that_want_a_transaction_block(twin: Twin) -> None:
    """The locks would be gone at once."""
    twin.compare("SET CONSTRAINTS ALL DEFERRED", "BEGIN", "SET CONSTRAINTS ALL DEFERRED", "COMMIT")
    twin.compare("LOCK TABLE t", "LOCK TABLE ref; SELECT 1", "BEGIN", "LOCK TABLE t, ref IN SHARE MODE", "COMMIT")


def test_now_is_the_same_all_through_a_transaction(twin: Twin) -> None:
    """Whichever shard a session that is connected nowhere asks first, it goes on asking that one."""
    for _ in range(6):
        with psycopg.connect(twin.dsn) as connection:
            began = connection.execute("SELECT now()").fetchone()
            for statement in (
                "SELECT 1 FROM ref",
                "SELECT 1 FROM t WHERE a = 5",
                "SELECT 1 FROM t",
                "SELECT 1 FROM one",
            ):
                connection.execute(statement.encode())
                assert connection.execute("SELECT now()").fetchone() == began
