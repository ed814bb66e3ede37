"""pg_dump through the proxy, in the default configuration: what clients see, and nothing of the proxy's own."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, query
from tests.support.proxy import Proxy

TABLES: list[Mapping[str, object]] = [
    {"name": "t", "placement": "hash", "key": ["a"]},
    {"name": "r", "placement": "reference"},
]
DEFINITIONS = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE t (a int PRIMARY KEY, b text, c mood DEFAULT 'ok');
    CREATE TABLE r (x serial PRIMARY KEY, y text UNIQUE);
    CREATE INDEX ON t (b);
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
    COMMENT ON TABLE t IS 'spread'
"""


@pytest.fixture
def proxy(one_server: Databases, run_proxy: RunProxy) -> Proxy:
    one_server.execute(DEFINITIONS, oracle=False)
    proxy = run_proxy(one_server.config(TABLES, commit="two-phase"))
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        with client.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write("".join(f"{number}\tx{number}\tok\n" for number in range(100)))
        client.execute("INSERT INTO r VALUES (7, 'seven')")
    return proxy


def run(command: Sequence[str], *, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def pg_dump(databases: Databases, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the pg_dump of the servers' version."""
    return run([str(databases.psql.with_name("pg_dump")), *arguments])


def test_a_dump_has_all_but_the_proxys_own(one_server: Databases, proxy: Proxy) -> None:
    dumped = pg_dump(one_server, proxy.dsn())
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert "shardproxy" not in dumped.stdout
    psql = [str(one_server.psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", one_server.oracle]
    restored = run(psql, text=dumped.stdout)
    assert (restored.returncode, restored.stderr) == (0, "")
    for sql in ("SELECT * FROM t ORDER BY a", "SELECT * FROM r"):
        rows = {row for shard in one_server.rows(sql) for row in shard}
        assert one_server.oracle_rows(sql) == sorted(rows)
    assert len(one_server.oracle_rows("SELECT * FROM t")) == 100


def test_several_jobs_are_refused_in_words(one_server: Databases, proxy: Proxy, tmp_path: Path) -> None:
    dumped = pg_dump(one_server, "-Fd", "-j", "2", "-f", str(tmp_path / "dump"), proxy.dsn())
    assert dumped.returncode != 0
    assert "pg_export_snapshot() is not supported over several shards" in dumped.stderr
    assert "pg_dump without --jobs" in dumped.stderr


def test_the_catalogs_do_not_show_it(one_server: Databases, proxy: Proxy) -> None:
    hidden = (
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'shard%'",
        "SELECT c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname IN ('decisions', 'identity', 'place')",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shardproxy'",
        "SELECT typname FROM pg_type WHERE typname = 'decisions'",
    )
    for prepare in (False, True):
        with psycopg.connect(proxy.dsn(), autocommit=True) as client:
            for sql in hidden:
                for _ in range(3):
                    assert client.execute(sql.encode(), prepare=prepare).fetchall() == [], sql
                assert query(one_server.shards[0], sql) != [], sql
            row = client.execute("SELECT relname FROM pg_class WHERE relname = %s", ["t"], prepare=prepare).fetchone()
            assert row == ("t",)
    commands = [argument for command in (r"\dn", r"\dt *.*", r"\d t") for argument in ("-c", command)]
    listed = run([str(one_server.psql), "-X", "-A", "-t", *commands, proxy.dsn()])
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "shardproxy" not in listed.stdout
    assert "public|t|table" in listed.stdout


def test_an_error_stands_where_the_client_wrote_it(one_server: Databases, proxy: Proxy) -> None:
    sql = "SELECT 1 FROM pg_class c, pg_namespace n WHERE nothing = 1"
    for dsn in (one_server.shards[0], proxy.dsn()):
        for prepare in (False, True):
            with (
                psycopg.connect(dsn, autocommit=True) as client,
                pytest.raises(psycopg.errors.UndefinedColumn) as refused,
            ):
                client.execute(sql, prepare=prepare)
            assert refused.value.diag.statement_position == str(sql.index("nothing") + 1)


def test_a_sequence_is_read_on_one_shard(proxy: Proxy) -> None:
    assert query(proxy.dsn(), "SELECT last_value, is_called FROM r_x_seq") == [(1, False)]
