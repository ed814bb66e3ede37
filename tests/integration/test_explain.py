"""`shardproxy explain`: where statements go, without running them."""

from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from shardproxy.cli import main
from tests.conftest import RunProxy
from tests.support.databases import Databases

pytestmark = pytest.mark.newest

TABLES: list[Mapping[str, object]] = [
    {"name": "users", "placement": "hash", "key": ["id"]},
    {"name": "countries", "placement": "reference"},
]


@pytest.fixture
def config(one_server: Databases, tmp_path: Path) -> Path:
    one_server.execute("CREATE TABLE users (id bigint, name text); CREATE TABLE countries (code text)")
    path = tmp_path / "shop.toml"
    path.write_text(one_server.config(TABLES))
    return path


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM users WHERE id = 5", "is bound to one shard"),
        ("SELECT name FROM users", "all shards (s0, s1, s2)"),
        ("SELECT name FROM users LIMIT 3", "the first 3 of the shards' rows that arrive"),
        ("SELECT name FROM users FETCH FIRST $1 ROWS ONLY", "the first $1 of the shards' rows that arrive"),
        ("INSERT INTO countries VALUES ('de')", "every shard makes the same change"),
        ("SELECT * FROM pg_class", "one shard, the session's home shard"),
    ],
)
def test_tells_where(config: Path, capsys: pytest.CaptureFixture[str], sql: str, words: str) -> None:
    assert main(["explain", "-c", str(config), sql]) == 0
    assert words in capsys.readouterr().out


def test_runs_nothing(config: Path, one_server: Databases) -> None:
    assert (
        main(["explain", "-c", str(config), "INSERT INTO users VALUES (1, 'a'); DELETE FROM users WHERE id = 1"]) == 0
    )
    assert one_server.rows("SELECT count(*) FROM users") == [[(0,)], [(0,)], [(0,)]]


def test_a_refusal_exits_1_and_gives_the_way_out(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", str(config), "SELECT count(*) FROM users"]) == 1
    shown = capsys.readouterr().out
    assert "0A000" in shown
    assert "hint:" in shown


@pytest.mark.parametrize(
    "sql",
    [
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "FETCH c",
        "CLOSE c",
        "SELECT count(*) FROM users",
        "EXPLAIN ANALYZE SELECT * FROM users",
        "DECLARE c CURSOR FOR SELECT * FROM users",
        "DO $$BEGIN END$$",
        "UPDATE users SET name = 'x'",
        "SELECT users.count FROM users",
    ],
)
def test_explain_refuses_what_the_proxy_refuses(
    config: Path, run_proxy: RunProxy, capsys: pytest.CaptureFixture[str], sql: str
) -> None:
    proxy = run_proxy(config.read_text())
    with psycopg.connect(proxy.dsn("shop"), autocommit=True) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(sql.encode())
    assert main(["explain", "-c", str(config), sql]) == 1
    shown = capsys.readouterr().out
    assert f"refused:  {refused.value.sqlstate}: {refused.value.diag.message_primary}" in shown


def test_statements_that_depend_on_each_other(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "DECLARE c CURSOR FOR SELECT * FROM users WHERE id = 5; FETCH c; VACUUM"
    assert main(["explain", "-c", str(config), sql]) == 0
    shown = capsys.readouterr().out
    assert "the cursor is there" in shown
    assert "PostgreSQL refuses it inside a transaction block" in shown


def test_a_database_must_exist(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", str(config), "--database", "nope", "SELECT 1"]) == 2
    assert "nope" in capsys.readouterr().err
