"""Shards know their place: a configuration that gives them another one is refused, by every command and a reload."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from shardproxy import cli
from shardproxy.embedded.proxy import ProxyError
from tests.conftest import RunProxy, StartServer
from tests.support.databases import Databases, execute, query, toml

TABLES = [{"name": "t", "placement": "hash", "key": ["a"]}]
PLACE = "SELECT database, number, shards FROM shardproxy.place"

PATIENCE = 20.0  # seconds

pytestmark = pytest.mark.newest

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command on a configuration; return its exit code and all that it has printed."""
    path = tmp_path / "shardproxy.toml"

    def run(name: str, config: str, *arguments: str) -> tuple[int, str]:
        path.write_text(config)
        code = cli.main([name, "-c", str(path), *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def config(dsns: Sequence[str], *, database: str = "shop", commit: str = "two-phase") -> str:
    shards = [{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(dsns)]
    facts = {"name": database, "commit": commit, "shards": shards}
    lines = ["[server]", 'listen = "127.0.0.1:0"', "[[databases]]"]
    lines += [f"{key} = {toml(value)}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


COMMITS = pytest.mark.parametrize("commit", ["one-phase", "two-phase"])


@COMMITS
def test_the_first_start_tells_the_shards_their_place(one_server: Databases, run_proxy: RunProxy, commit: str) -> None:
    run_proxy(one_server.config(TABLES, commit=commit)).stop()
    assert one_server.rows(PLACE) == [[("shop", number, 3)] for number in range(3)]


@COMMITS
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda dsns: config([dsns[1], dsns[0], dsns[2]]),
            r'shard "s0" is number 1 of 3 of database "shop" .* number 0 of 3 of database "shop"',
        ),
        (lambda dsns: config(dsns[:2]), r'shard "s0" is number 0 of 3 of .* but number 0 of 2 of'),
        (lambda dsns: config(dsns[2:]), r'shard "s0" is number 2 of 3 of .* but number 0 of 1 of'),
        (lambda dsns: config(dsns, database="mall"), r'of database "shop" .* of database "mall" by the configuration'),
    ],
    ids=["order", "number", "one", "database"],
)
def test_another_place_is_refused(
    one_server: Databases,
    run_proxy: RunProxy,
    command: Command,
    commit: str,
    other: Callable[[Sequence[str]], str],
    message: str,
) -> None:
    run_proxy(one_server.config(TABLES, commit=commit)).stop()
    text = other(one_server.shards).replace("two-phase", commit)
    with pytest.raises(ProxyError, match=rf"exit status 1(.|\n)*{message}(.|\n)*check --renumber"):
        run_proxy(text)
    for arguments in ((), ("--fix",)):
        code, printed = command("check", text, *arguments)
        assert code == 1
        assert "check --renumber" in printed
    code, printed = command("recover", text)
    assert code == 1
    assert "by its table shardproxy.place" in printed
    assert one_server.rows(PLACE) == [[("shop", number, 3)] for number in range(3)]


@COMMITS
def test_a_reload_with_another_order_is_refused(one_server: Databases, run_proxy: RunProxy, commit: str) -> None:
    one_server.execute("CREATE TABLE t (a int PRIMARY KEY)")
    proxy = run_proxy(one_server.config(TABLES, commit=commit))
    text = proxy.config_path.read_text()
    first, second = one_server.shards[:2]
    proxy.config_path.write_text(text.replace(first, "#").replace(second, first).replace("#", second))
    proxy.signal(signal.SIGHUP)
    eventually(lambda: "the configuration was not reloaded" in proxy.log())
    assert 'shard "s0" is number 1 of 3' in proxy.log()
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        client.execute("INSERT INTO t VALUES (1)")
        assert client.execute("SELECT a FROM t WHERE a = 1").fetchall() == [(1,)]


def test_renumber_writes_the_places_on_purpose(one_server: Databases, run_proxy: RunProxy, command: Command) -> None:
    run_proxy(one_server.config(TABLES)).stop()
    text = config(list(reversed(one_server.shards)), database="mall")
    code, printed = command("check", text, "--renumber")
    assert code == 0, printed
    assert 'shard s0 is number 0 of 3 of database "mall"; it was number 2 of 3 of database "shop"' in printed
    assert one_server.rows(PLACE) == [[("mall", 2 - number, 3)] for number in range(3)]
    run_proxy(text).stop()
    with pytest.raises(ProxyError, match=r"shardproxy\.place"):
        run_proxy(one_server.config(TABLES))


def test_shards_from_before_there_were_places_get_theirs(one_server: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(one_server.config(TABLES, commit="two-phase"))
    proxy.stop()
    identities = one_server.rows("SELECT id FROM shardproxy.identity")
    one_server.execute("DROP TABLE shardproxy.place", oracle=False)
    proxy.start()
    assert one_server.rows(PLACE) == [[("shop", number, 3)] for number in range(3)]
    assert one_server.rows("SELECT id FROM shardproxy.identity") == identities


def test_two_databases_of_the_proxy_over_one(one_server: Databases, run_proxy: RunProxy, command: Command) -> None:
    text = config(one_server.shards) + config(one_server.shards, database="mall").partition('0"\n')[2]
    code, printed = command("check", text)
    assert code == 1
    assert printed.count('it is a shard of database "shop" of this file, too') == 3
    with pytest.raises(ProxyError, match='is number 0 of 3 of database "shop"'):
        run_proxy(text)


def test_two_proxies_that_start_at_once(one_server: Databases, run_proxy: RunProxy) -> None:
    """Each has the shards in another order. The race: each writes the place of its own first shard, and none starts."""
    texts = [config(one_server.shards), config(list(reversed(one_server.shards)))] * 2

    def start(text: str) -> str:
        try:
            run_proxy(text)
        except ProxyError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(texts)) as pool:
        errors = list(pool.map(start, texts))
    assert sorted(map(bool, errors)) == [False, False, True, True]
    assert bool(errors[0]) == bool(errors[2])
    assert all("shardproxy.place" in error for error in errors if error)
    assert {tuple(place[0]) for place in one_server.rows(PLACE)} == {("shop", number, 3) for number in range(3)}


@COMMITS
def test_a_role_that_may_create_no_schema(
    start_server: StartServer, run_proxy: RunProxy, command: Command, commit: str
) -> None:
    """One-phase commit works, and `check` warns; with the SQL that it shows, the shard gets its place."""
    server = start_server(settings={"max_prepared_transactions": "5"})
    execute(server.dsn(), "CREATE ROLE app LOGIN; CREATE TABLE t (a int); GRANT ALL ON t TO app")
    for name in ("one", "two"):
        execute(server.dsn(), f"CREATE DATABASE {name}")
    text = config([server.dsn(name, user="app") for name in ("one", "two")], commit=commit)
    code, printed = command("check", text)
    assert code == 0
    if commit == "one-phase":
        assert printed.count('cannot be told its place: role "app" may not write shardproxy.place') == 2
        proxy = run_proxy(text)
        assert query(proxy.dsn(), "SELECT 1") == [(1,)]
        assert "cannot be told its place" in proxy.log()
        proxy.stop()
    sql = printed.split("SQL: ")[1].split("  warning ")[0]
    for name in ("one", "two"):
        execute(server.dsn(name), sql)
    run_proxy(text).stop()
    assert [query(server.dsn(name), PLACE) for name in ("one", "two")] == [[("shop", 0, 2)], [("shop", 1, 2)]]


def test_a_shard_that_returns_is_asked_before_it_is_used(start_server: StartServer, run_proxy: RunProxy) -> None:
    """It was unreachable at the start, so it could not be refused then."""
    servers = [start_server() for _ in range(2)]
    for server in servers:
        execute(server.dsn(), "CREATE TABLE t (a int PRIMARY KEY)")
    text = config([server.dsn() for server in servers], commit="one-phase")
    text += '[[databases.tables]]\nname = "t"\nplacement = "hash"\nkey = ["a"]\n'
    run_proxy(text).stop()
    execute(servers[1].dsn(), "UPDATE shardproxy.place SET shards = 3")
    servers[1].stop()
    proxy = run_proxy(text)
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        with pytest.raises(psycopg.OperationalError, match="could not connect"):
            client.execute("SELECT a FROM t")
        servers[1].restart()
        with pytest.raises(psycopg.Error, match='shard "s1" is number 1 of 3'):
            client.execute("SELECT a FROM t")
        execute(servers[1].dsn(), "UPDATE shardproxy.place SET shards = 2")
        assert client.execute("SELECT a FROM t").fetchall() == []
