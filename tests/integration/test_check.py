"""`shardproxy check` against real servers: each thing that may be wrong is told, with a remedy and an exit code."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from shardproxy import cli
from shardproxy.routing.relation import Relation
from shardproxy.shard import catalog
from shardproxy.transaction.gid import lock_key
from tests.conftest import StartServer
from tests.support.databases import Databases, Servers, execute, query, toml

USERS = {"name": "users", "placement": "hash", "key": ["id"]}


class Check:
    """Runs the command on a configuration's text."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._path = directory / "shardproxy.toml"
        self._capsys = capsys

    def __call__(self, config: str, *arguments: str) -> tuple[int, str]:
        """Return the exit code and all that was printed."""
        self._path.write_text(config)
        code = cli.main(["check", "-c", str(self._path), *arguments])
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(tmp_path, capsys)


def remedies(text: str) -> list[tuple[str, str]]:
    """Each error and warning, as `subject: message`, with its remedy."""
    return re.findall(r"^  (?:error|warning) +(.*)\n +-> (.*)$", text, re.MULTILINE)


def config(dsns: Sequence[str], tables: Sequence[Mapping[str, object]] = (), **database: object) -> str:
    shards = [{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(dsns)]
    facts = {"name": "shop", "shards": shards, **database}
    lines = ["[[databases]]", *(f"{key} = {toml(value)}" for key, value in facts.items())]
    for table in tables:
        lines += ["[[databases.tables]]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines)


def test_all_is_well(shard_databases: Databases, check: Check) -> None:
    shard_databases.execute(
        "CREATE TABLE users (gone int, id bigint PRIMARY KEY, name text);"
        "ALTER TABLE users DROP COLUMN gone;"
        "CREATE TABLE countries (code char(2) PRIMARY KEY); CREATE TABLE log (line text)"
    )
    tables: list[Mapping[str, object]] = [
        USERS,
        {"name": "countries", "placement": "reference"},
        {"name": "log", "placement": "single", "shard": "s1"},
    ]
    code, text = check(shard_databases.config(tables, commit="two-phase"), "--fix")
    assert code == 0, text
    assert not remedies(text)
    assert "table public.users: hash by id, on all 3 shards" in text
    assert "table public.log: single, on s1" in text
    assert len(re.findall(rf"ok +shard s\d: .*PostgreSQL {shard_databases.version}\.", text)) == 3
    assert text.endswith("0 errors, 0 warnings\n")


def test_a_table_that_is_dropped_meanwhile(
    one_server: Databases, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found, and is gone when its privileges are asked for: it is not there. `serve` asks in the same way."""
    one_server.execute("CREATE TABLE users (id bigint PRIMARY KEY)")
    found = catalog.parse_relations

    def dropping(answer: str) -> list[Relation | None]:
        relations = found(answer)
        one_server.execute("DROP TABLE IF EXISTS users")
        return relations

    monkeypatch.setattr(catalog, "parse_relations", dropping)
    code, text = check(one_server.config([USERS]))
    assert code == 1, text
    assert "table public.users: does not exist on any shard" in text


def test_everything_wrong_with_tables_at_once(one_server: Databases, check: Check) -> None:
    one_server.execute(
        """
        CREATE TABLE users (id bigint, name text);
        CREATE TABLE doc (id json, g int GENERATED ALWAYS AS (1 + 1) STORED);
        CREATE VIEW seen AS SELECT 1 AS id;
        CREATE TABLE orders (id int PRIMARY KEY, customer int, UNIQUE (id, customer));
        CREATE TABLE parts (id int) PARTITION BY RANGE (id);
        CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (1) TO (2);
        CREATE COLLATION bytes (LOCALE = 'C.UTF-8');
        CREATE TABLE ranged (name text COLLATE "C", other text COLLATE bytes);
        CREATE TABLE numbers (n int);
        CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
        CREATE FOREIGN TABLE afar (id int) SERVER far
        """
    )
    psql(one_server.shards[1], "ALTER TABLE users ADD COLUMN extra int")
    psql(
        one_server.shards[2],
        "DROP TABLE users; DROP TABLE orders; CREATE TABLE orders (id int, customer int DEFAULT 3)",
    )
    tables: list[Mapping[str, object]] = [
        {"name": "users", "placement": "hash", "key": ["nr"]},
        {"name": "doc", "placement": "hash", "key": ["id", "g"]},
        {"name": "seen", "placement": "hash", "key": ["id"]},
        {"name": "orders", "placement": "hash", "key": ["customer"]},
        {"name": "part1", "placement": "hash", "key": ["id"]},
        {"name": "nowhere", "placement": "reference"},
        {"name": "afar", "placement": "reference"},
        {
            "name": "ranged",
            "placement": "range",
            "key": ["other"],
            "bounds": [{"shard": "s0", "from": ["a"], "to": ["b"]}],
        },
        {"name": "numbers", "placement": "list", "key": ["n"], "values": [{"shard": "s0", "in": ["1", "one"]}]},
    ]
    code, text = check(one_server.config(tables))
    assert code == 1, text
    found = dict(remedies(text))
    for expected in (
        'table public.users: key column "nr" does not exist (on s0)',
        "table public.users: does not exist on s2",
        "table public.users: differs between shards: s0 has (id bigint, name text), "
        "s1 has (id bigint, name text, extra integer)",
        'table public.doc: key column "id" has type json, which cannot be a sharding key',
        'table public.doc: key column "g" is generated from other columns',
        "table public.seen: it is a view",
        'table public.orders: unique index "public.orders_pkey" does not contain the key, so it is enforced within '
        "each shard only (on s0, s1)",
        'table public.orders: column "id" differs in its NOT NULL: set on s0, not set on s2',
        'table public.orders: column "customer" differs in its default: none on s0, 3 on s2',
        "table public.part1: it is a partition of another table, through which it also gets rows",
        "table public.nowhere: does not exist on any shard",
        "table public.afar: it is a foreign table",
        'table public.ranged: key column "other" sorts by collation "bytes", which the proxy cannot compare by',
    ):
        assert found.get(expected), text
    assert any(subject.startswith("table public.numbers: ") and "one" in subject for subject in found), text
    assert 'unique index "public.orders_id_customer_key"' not in text


def psql(dsn: str, statements: str) -> None:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def test_shards_that_differ_or_cannot_be_reached(servers16: Servers, servers18: Servers, check: Check) -> None:
    with_latin1 = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    utf8 = Databases.create(servers18, shards=1)
    latin1 = Databases.create(servers16, shards=1, options=with_latin1)
    try:
        dsn = utf8.shards[0]
        dsns = [
            dsn,
            latin1.shards[0],
            dsn.replace("127.0.0.1", "localhost"),
            "postgresql://nobody@127.0.0.1:1/shop",
            dsn + "_absent",
            servers18.oracle.dsn(user="missing:hunter2"),
        ]
        code, text = check(config(dsns, [USERS]))
        assert code == 1
        found = dict(remedies(text))
        assert found["database shop: the shards have different encodings: UTF8 (s0, s2), LATIN1 (s1)"]
        assert found["database shop: the shards have different major versions: 18 (s0, s2), 16 (s1)"]
        assert found["shard s2: is the same database as shard s0, under another address"]
        reached = {subject.partition(":")[0]: subject for subject in found if "cannot be reached" in subject}
        assert set(reached) == {"shard s3", "shard s4", "shard s5"}
        assert "does not exist" in reached["shard s4"]
        assert 'role "missing" does not exist' in reached["shard s5"]
        assert "hunter2" not in text
    finally:
        utf8.drop()
        latin1.drop()


def test_two_phase_needs_prepared_transactions(start_server: StartServer, check: Check) -> None:
    server = start_server(settings={"max_prepared_transactions": "0"})
    code, text = check(config([server.dsn()]))
    assert code == 1
    assert "shard s0: max_prepared_transactions is 0" in remedies(text)[0][0]
    code, text = check(config([server.dsn()], commit="one-phase"))
    assert (code, remedies(text)) == (0, [])


def test_a_shard_that_does_not_answer(start_server: StartServer, check: Check) -> None:
    server = start_server()
    server.pause()
    try:
        code, text = check(config([server.dsn()], connect_timeout=0.5))
    finally:
        server.resume()
    assert code == 1
    assert "did not answer in time" in remedies(text)[0][0]


def test_privileges_and_passwords(start_server: StartServer, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_server(hba="host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    psql(server.dsn(), "CREATE USER app PASSWORD 'a@b/c''d'; CREATE TABLE users (id int); GRANT SELECT ON users TO app")
    dsn = server.dsn(user="app").replace("app@", "app:${APP_PASSWORD}@")
    monkeypatch.setenv("APP_PASSWORD", "a@b/c'd")
    code, text = check(config([dsn], [USERS]))
    assert code == 0, text
    assert remedies(text)[0][0] == "table public.users: the dsn's user lacks the privileges INSERT, UPDATE, DELETE"
    monkeypatch.setenv("APP_PASSWORD", "wrong-secret")
    code, text = check(config([dsn], [USERS]))
    assert code == 1
    assert 'password authentication failed for user "app"' in text
    assert "wrong-secret" not in text
    # What libpq would take from the environment has no say: the proxy's own connections do not look there.
    monkeypatch.setenv("PGPASSWORD", "a@b/c'd")
    code, text = check(config([server.dsn(user="app")], [USERS]))
    assert code == 1, text


def test_two_phase_tables_are_made_by_fix_alone(one_server: Databases, check: Check) -> None:
    there = "SELECT to_regclass('shardproxy.decisions') IS NOT NULL"
    code, text = check(one_server.config(commit="two-phase"))
    assert code == 0
    assert len(remedies(text)) == 3
    assert one_server.rows(there) == [[(False,)]] * 3
    code, text = check(one_server.config(commit="two-phase"), "--fix")
    assert (code, remedies(text)) == (0, [])
    assert one_server.rows(there) == [[(True,)]] * 3


def test_the_sql_for_a_dba_is_printed_and_mends_it(
    start_server: StartServer, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [start_server() for _ in range(2)]
    for server in servers:
        execute(server.dsn(), 'CREATE ROLE "the app" LOGIN')
    text = config([server.dsn().replace("postgres@", "the%20app@") for server in servers])
    for arguments, expected in ((), (0, "0 errors, 2 warnings")), (("--fix",), (1, "2 errors, 0 warnings")):
        code, printed = check(text, *arguments)
        assert (code, printed.splitlines()[-1]) == expected
        assert printed.count("SQL: CREATE SCHEMA") == 2
    sql = printed.split("SQL: ")[1].split("  error ")[0]
    for server in servers:
        execute(server.dsn(), sql)
    assert check(text)[1].endswith("0 errors, 0 warnings\n")


def test_one_phase_says_what_it_risks(one_server: Databases, check: Check) -> None:
    code, text = check(one_server.config(commit="one-phase"))
    assert code == 0
    assert "some committed and others not" in text


def test_transactions_in_doubt_are_counted(one_server: Databases, check: Check) -> None:
    config = one_server.config(commit="two-phase")
    check(config, "--fix")
    anchor, participant = (one_server.rows("SELECT id FROM shardproxy.identity")[number][0][0] for number in range(2))
    execute(
        one_server.shards[1],
        f"BEGIN; CREATE TABLE doubt (); PREPARE TRANSACTION 'shardproxy_{anchor}_{'0' * 32}_{participant}'",
    )
    code, text = check(config)
    assert code == 0
    assert re.search(r"\b1 transaction in doubt, the oldest prepared \d+ s ago", text)
    # A commit under way is in doubt to no client.
    with psycopg.connect(one_server.shards[0]) as committer:
        committer.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key("0" * 32),))
        assert "in doubt" not in check(config)[1]


def test_a_transaction_whose_anchor_has_left_is_shown(one_server: Databases, check: Check) -> None:
    """Nobody can end it but by hand, and it keeps its locks."""
    config = one_server.config(commit="two-phase")
    check(config, "--fix")
    [(participant,)] = query(one_server.shards[1], "SELECT id FROM shardproxy.identity")
    gid = f"shardproxy_{'a' * 32}_{'0' * 32}_{participant}"
    execute(one_server.shards[1], f"BEGIN; CREATE TABLE doubt (); PREPARE TRANSACTION '{gid}'")
    code, text = check(config)
    assert code == 0
    assert f"with an anchor that is none of these shards ({'a' * 32})" in text


def test_what_two_phase_commit_has_left_behind_is_shown_of_one_phase(one_server: Databases, check: Check) -> None:
    check(one_server.config(commit="two-phase"), "--fix")
    anchor, participant = (one_server.rows("SELECT id FROM shardproxy.identity")[number][0][0] for number in range(2))
    gid = f"shardproxy_{anchor}_{'0' * 32}_{participant}"
    execute(one_server.shards[1], f"BEGIN; CREATE TABLE doubt (); PREPARE TRANSACTION '{gid}'")
    assert "1 transaction in doubt" in check(one_server.config(commit="one-phase"))[1]


def test_nothing_is_changed(one_server: Databases, check: Check) -> None:
    one_server.execute("CREATE TABLE users (id int)")
    before = query(one_server.shards[0], "SELECT oid, xmin::text FROM pg_class ORDER BY oid")
    assert check(one_server.config([USERS]))[0] == 0
    assert query(one_server.shards[0], "SELECT oid, xmin::text FROM pg_class ORDER BY oid") == before


def test_a_wrong_file_exits_2_with_every_line(tmp_path: Path, check: Check) -> None:
    code, text = check('[server]\nlisten = "0.0.0.0:5432"\nwrokers = 1\n')
    assert code == 2
    path = tmp_path / "shardproxy.toml"
    assert re.findall(rf"{re.escape(str(path))}:(\d+): (\S+):", text) == [
        ("1", "databases"),
        ("2", "server.listen"),
        ("3", "server.wrokers"),
    ]
    assert 'Did you mean "workers"?' in text
    assert text.endswith("3 errors\n")
