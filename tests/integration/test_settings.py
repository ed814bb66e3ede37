"""What a session has set reaches every shard that it uses, whenever that connects, and nothing more does."""

import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

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


def test_defaults_of_a_session_are_those_that_it_began_with(servers18: Servers, run_proxy: RunProxy) -> None:
    """They are changed while it has no connection to the other shards yet."""
    databases = Databases.create(servers18, one_server=True)
    keys = range(1, 17)
    try:
        databases.execute("CREATE TABLE t (a int, b int); CREATE SCHEMA aside CREATE TABLE t (a int, b int)")
        tables = [{"name": name, "placement": "hash", "key": ["a"]} for name in ("t", "aside.t")]
        proxy = run_proxy(databases.config(tables))
        with RawClient(proxy.dsn()) as client:
            assert client.query("SHOW TimeZone").error is None
            databases.execute(
                """DO $$ BEGIN
                    EXECUTE format('ALTER DATABASE %I SET search_path = aside', current_database());
                    EXECUTE format('ALTER DATABASE %I SET DateStyle = SQL', current_database());
                END $$""",
                oracle=False,
            )
            for number in keys:
                assert client.query(f"INSERT INTO t VALUES ({number}, 1)").error is None
            assert client.query("RESET search_path").error is None
            for number in keys:
                assert client.query(f"INSERT INTO t VALUES ({number}, 2)").error is None
            dates = {row[0] for row in client.query("SELECT date '2026-11-26'::text FROM t").rows}
            assert dates == {b"2026-11-26"}
        found = [row for rows in databases.rows("SELECT a FROM public.t") for row in rows]
        assert sorted(found) == sorted((number,) for number in keys for _ in range(2))
        assert databases.rows("TABLE aside.t") == [[], [], []]
        # A new session has the new ones.
        with RawClient(proxy.dsn()) as client:
            assert client.query("SHOW search_path").rows == [[b"aside"]]
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


@pytest.mark.parametrize(
    "reset", ["RESET ALL", "BEGIN; RESET ALL; COMMIT", "SELECT set_config('r' || 'ole', 'lesser', false); RESET ALL"]
)
def test_reset_all_leaves_the_role(twin: Twin, reset: str) -> None:
    """Shards that were connected to afterwards ran statements as the role of the proxy."""
    execute(twin.databases.oracle, "DROP ROLE IF EXISTS lesser")
    execute(twin.databases.oracle, "CREATE ROLE lesser")
    twin.databases.execute("GRANT SELECT ON t TO lesser")
    twin.fill()
    try:
        twin.compare("SET ROLE lesser", reset, *(f"SELECT current_user FROM t WHERE a = {key}" for key in range(1, 9)))
        twin.compare("SET ROLE lesser", reset, "RESET ROLE", "DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = 2")
        twin.compare("SET ROLE lesser", "DISCARD ALL", *(f"DELETE FROM t WHERE a = {key}" for key in range(3, 9)))
    finally:
        twin.databases.execute("REVOKE ALL ON t FROM lesser")
        execute(twin.databases.oracle, "DROP ROLE lesser")


@pytest.mark.parametrize(
    "change",
    ["SET default_text_search_config = mine", "SELECT set_config('default_text_search_config', 'mine', false)"],
)
def test_a_setting_that_one_shard_refuses_is_set_on_none(twin: Twin, change: str) -> None:
    """The shards that had taken it kept it, though the client was told that it was refused."""
    twin.fill()
    execute(twin.databases.shards[0], "CREATE TEXT SEARCH CONFIGURATION mine (COPY = simple)")
    try:
        shown = "SELECT DISTINCT current_setting('default_text_search_config') FROM t WHERE a = "
        before = "SET default_text_search_config = english"
        _, _, failed, *replies = twin.proxied(
            before, "SELECT a FROM t", change, *(f"{shown}{key}" for key in range(1, 9))
        )
        assert failed.errors[0]["C"] == "22023"
        assert {value for reply in replies for row in reply.rows for value in row} == {b"pg_catalog.english"}
    finally:
        execute(twin.databases.shards[0], "DROP TEXT SEARCH CONFIGURATION mine")


LOOK_UPS = tuple(f"SELECT b FROM t WHERE a = {key}" for key in range(1, 5))
"""They use every shard."""


@pytest.mark.parametrize("before", [(), LOOK_UPS[:2], LOOK_UPS], ids=["new", "some shards", "all shards"])
@pytest.mark.parametrize(
    "refused", ["SET nonsense = 1", "SET DateStyle = nonsense", "SET ROLE nobody_at_all", "RESET nonsense"]
)
def test_a_setting_that_all_refuse_changes_nothing(twin: Twin, before: tuple[str, ...], refused: str) -> None:
    """Giving it back failed as well, and the connections were given up with all that the session had there."""
    twin.compare(
        *before,
        "CREATE TEMP TABLE mine (a int)",
        "SET search_path = public, pg_catalog",
        "SELECT * FROM nowhere",
        refused,
        "SELECT * FROM nowhere",
        "TABLE mine",
        *LOOK_UPS,
    )


def test_a_connection_in_place_of_a_lost_one_tells_no_defaults(twin: Twin) -> None:
    """The client read those that the new connection had before it got the session's settings."""
    with RawClient(twin.dsn) as client:
        for step in ("SET search_path = public, pg_catalog", *LOOK_UPS):
            assert client.query(step).error is None
        twin.databases.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            oracle=False,
        )
        replies = [client.query(step) for step in LOOK_UPS]
        assert [(reply.error, reply.parameters) for reply in replies] == [(None, [])] * 4


FAILING = [
    "SELECT 1/(a - a) FROM t WHERE a = 1",
    "SELECT 1/(a - a) FROM t WHERE a = 3",
    "SELECT nothing FROM t",
    "SELEC",
]


@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("savepoint", ["x", '"Ä ""b"""'])
def test_an_error_takes_back_what_was_set_since_the_savepoint(twin: Twin, failing: str, savepoint: str) -> None:
    """It was told at ROLLBACK TO, unless the error was of the shard that tells the settings."""
    for before in (LOOK_UPS[:1], LOOK_UPS):
        twin.compare(
            *before,
            "BEGIN",
            "SET TimeZone = 'Asia/Tokyo'",
            f"SAVEPOINT {savepoint}",
            "SET TimeZone = 'Europe/Berlin'",
            failing,
            "SELECT 1",
            f"ROLLBACK TO {savepoint}",
            "SHOW TimeZone",
            failing,
            "ROLLBACK",
            "SHOW TimeZone",
        )


@pytest.mark.parametrize("failing", FAILING)
def test_an_error_frees_the_rows_locked_since_the_savepoint(twin: Twin, failing: str) -> None:
    """Of shards where nothing had failed they stayed locked until ROLLBACK TO."""
    for dsn in (twin.dsn, twin.databases.oracle):
        with RawClient(dsn) as first, RawClient(dsn) as second:
            for step in ("BEGIN", "SAVEPOINT x", *(f"UPDATE t SET b = 'x' WHERE a = {key}" for key in range(1, 5))):
                assert first.query(step).error is None
            assert first.query(failing).status == "E"
            assert second.query("SET lock_timeout = '5s'").error is None
            for key in range(1, 5):
                assert second.query(f"UPDATE t SET b = 'y' WHERE a = {key}").error is None
            assert first.query("ROLLBACK TO x").error is None
            assert first.query("SELECT DISTINCT b FROM t WHERE a = 1").rows == [[b"y"]]
            assert first.query("COMMIT").error is None


UPDATE_SETTINGS = "UPDATE pg_settings SET setting = '11s' WHERE name = 'statement_timeout'"
"""By a rule it is a call of set_config()."""


def test_update_of_pg_settings_is_for_every_shard(twin: Twin) -> None:
    """It was the home shard's alone, and the others had never heard of it."""
    shown = tuple(f"SELECT current_setting('statement_timeout') FROM t WHERE a = {key}" for key in range(1, 5))
    with_parameter = encode.parse(b"", UPDATE_SETTINGS.replace("'11s'", "$1").encode()) + encode.bind(
        b"", b"", (), (b"12s",), ()
    )
    for update in (UPDATE_SETTINGS, with_parameter + encode.execute(b"") + encode.SYNC):
        twin.compare(update, *shown)
        twin.compare(*shown, update, *shown, "RESET ALL", *shown)
        twin.compare("BEGIN", update, *shown, "ROLLBACK", *shown)
    twin.compare(UPDATE_SETTINGS.replace("11s", "nonsense"), *shown)
    [reply] = twin.proxied(UPDATE_SETTINGS.replace("WHERE", "FROM ref WHERE"))
    assert reply.errors[0]["C"] == "0A000"


@pytest.mark.parametrize("change", ["SET SESSION AUTHORIZATION lesser", "SET LOCAL SESSION AUTHORIZATION lesser"])
def test_a_change_of_the_session_user_commits_on_several_shards(
    servers18: Servers, run_proxy: RunProxy, change: str
) -> None:
    """The decision was refused to the other user when the transaction was to commit (42501)."""
    with Twin.open(servers18, run_proxy, commit="two-phase") as twin:
        execute(twin.databases.oracle, "DROP ROLE IF EXISTS lesser")
        execute(twin.databases.oracle, "CREATE ROLE lesser")
        twin.databases.execute("GRANT ALL ON t TO lesser")
        try:
            inserts = [f"INSERT INTO t VALUES ({key}, 'x')" for key in range(1001, 1009)]
            users = "SELECT session_user, current_user"
            twin.compare("BEGIN", change, *inserts, "COMMIT", users, "RESET SESSION AUTHORIZATION", users)
            assert sum(map(len, twin.databases.rows("SELECT FROM t WHERE a > 1000"))) == 8
        finally:
            twin.databases.execute("REVOKE ALL ON t FROM lesser")
            execute(twin.databases.oracle, "DROP ROLE lesser")
