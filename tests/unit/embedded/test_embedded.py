"""Embedded servers: they answer, they can be crashed and stalled, and they never outlive their owner."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shardproxy.embedded import EmbeddedError, Server, installations
from shardproxy.embedded.installation import account
from shardproxy.embedded.supervised import Supervised, SupervisedError
from shardproxy.embedded.supervisor import children, state
from tests.conftest import StartServer
from tests.support.databases import Databases, Servers, execute, query


def alive(pid: int) -> bool:
    return state(pid) not in "XZ"  # a zombie runs nothing; whether somebody reaps it is not ours to say


def wait_until_gone(pids: list[int], directory: Path, patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while any(map(alive, pids)) or directory.exists():
        assert time.monotonic() < deadline, f"left: {[p for p in pids if alive(p)]}, {directory.exists()=}"
        time.sleep(0.02)


def test_both_versions_are_at_hand() -> None:
    assert {16, 18} <= set(installations())


def test_missing_version_says_what_to_do() -> None:
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 9 is not available.*pip install"):
        Server.start(9)


def test_serves_loopback_alone_with_the_given_settings(pg_version: int, start_server: StartServer) -> None:
    server = start_server(pg_version, settings={"max_connections": "23"})
    ((number,),) = query(server.dsn(), "SELECT current_setting('server_version_num')::int / 10000")
    assert number == server.version == pg_version
    names = ("listen_addresses", "unix_socket_directories", "max_prepared_transactions", "max_connections")
    shown = [query(server.dsn(), f"SHOW {name}")[0][0] for name in names]
    assert shown == ["127.0.0.1", "", "64", "23"]
    located = query(server.dsn(), "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database")
    assert set(located) == {("C.UTF-8", "UTF8")}


def test_other_encodings(start_server: StartServer) -> None:
    server = start_server(18, encoding="LATIN1")
    assert query(server.dsn(), "SHOW server_encoding") == [("LATIN1",)]


def test_hba_rules_can_be_given_and_changed(start_server: StartServer) -> None:
    server = start_server(18, hba="host all all 127.0.0.1/32 reject\n")
    with pytest.raises(psycopg.OperationalError, match="rejects connection"):
        psycopg.connect(server.dsn())
    server.set_hba("host all all 127.0.0.1/32 trust\n")
    deadline = time.monotonic() + 10
    while True:  # the postmaster reads the file when the signal reaches it
        try:
            query(server.dsn(), "SELECT 1")
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline


def test_runs_as_an_unprivileged_user_who_cannot_write_its_programs(start_server: StartServer) -> None:
    server = start_server()
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner == (account().uid if os.geteuid() == 0 else os.geteuid())
    assert owner != 0
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        groups = Path(f"/proc/{server.pid}/status").read_text()
        assert "\nGroups:\t \n" in groups
        for part in (server.bin / "postgres", server.bin, *server.bin.parents):
            mode = part.stat()
            assert mode.st_uid == 0
            assert not mode.st_mode & stat.S_IWOTH or mode.st_mode & stat.S_ISVTX


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_restart_keeps_data_and_port(start_server: StartServer, mode: str) -> None:
    server = start_server(settings={"synchronous_commit": "on"})
    execute(server.dsn(), "CREATE TABLE kept AS SELECT 1 AS a")
    before = server.pids()
    match mode:
        case "kill":
            server.kill()
        case "fast" | "immediate":
            server.stop(mode)
    assert not server.running
    assert not any(map(alive, before))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn())
    server.restart()
    assert query(server.dsn(), "SELECT a FROM kept") == [(1,)]


def test_settings_change_with_a_restart(start_server: StartServer) -> None:
    server = start_server()
    server.restart(settings={"max_prepared_transactions": "0"})
    assert query(server.dsn(), "SHOW max_prepared_transactions") == [("0",)]


def test_pause_stalls_every_backend_until_resume(start_server: StartServer) -> None:
    server = start_server()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        server.pause()
        assert {state(pid) for pid in server.pids()} == {"T"}
        assert connection.info.backend_pid in server.pids()
        server.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_paused_server_can_be_stopped(start_server: StartServer) -> None:
    server = start_server()
    server.pause()
    server.stop()
    assert not server.running


def test_close_removes_everything() -> None:
    server = Server.start(18)
    pids, directory = server.pids(), server.directory
    with server:
        server.pause()  # even one that cannot react
    wait_until_gone(pids, directory, patience=0.5)
    server.close()


def test_a_crash_is_noticed(start_server: StartServer) -> None:
    server = start_server()
    os.kill(server.pid, signal.SIGKILL)  # the postmaster alone: its children notice and end
    deadline = time.monotonic() + 10
    while server.running:
        assert time.monotonic() < deadline
    server.restart()
    assert query(server.dsn(), "SELECT 1") == [(1,)]


def test_a_given_data_directory_is_kept() -> None:
    # Beside our own scratch directories: pytest's are closed to other users.
    with Server.start(18) as outer:
        data = outer.directory / "kept"
        with Server.start(18, data_dir=data) as server:
            execute(server.dsn(), "CREATE TABLE kept AS SELECT 1 AS a")
        assert (data / "PG_VERSION").exists()
        with Server.start(18, data_dir=data) as server:
            assert query(server.dsn(), "SELECT a FROM kept") == [(1,)]


def test_a_taken_port_is_refused_in_words() -> None:
    with Server.start(18) as server, pytest.raises(EmbeddedError, match="could not bind"):
        Server.start(18, port=server.port)


OWNER = """
import signal, sys, time
from shardproxy.embedded import Server
signal.signal(signal.SIGINT, signal.default_int_handler)  # of a shell's background job it is ignored
server = Server.start(18)
print(server.directory, server._process._supervisor.pid, *server.pids(), flush=True)
{then}
"""


def start_owner(then: str) -> tuple["subprocess.Popen[str]", Path, int, list[int]]:
    """Run another process that owns a server; return it, the server's directory, supervisor and processes."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert owner.stdout is not None
    with owner.stdout:
        directory, supervisor, *pids = owner.stdout.readline().split()
    assert len(pids) > 4
    return owner, Path(directory), int(supervisor), [int(pid) for pid in pids]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_killed_owner(signum: signal.Signals) -> None:
    owner, directory, supervisor, pids = start_owner("time.sleep(60)")
    owner.send_signal(signum)
    owner.wait()
    wait_until_gone([supervisor, *pids], directory)


def test_nothing_outlives_a_killed_owner_when_a_child_of_his_lives_on() -> None:
    """The child inherited the pipe, so the supervisor sees no end of it and must look at its parent."""
    fork = "import os\nif os.fork(): time.sleep(60)\nelse: time.sleep(8)"
    owner, directory, supervisor, pids = start_owner(fork)
    owner.kill()
    owner.wait()
    wait_until_gone([supervisor, *pids], directory, patience=7)


def test_nothing_outlives_an_owner_who_ends_without_closing() -> None:
    owner, directory, supervisor, pids = start_owner("sys.exit(0)")
    assert owner.wait() == 0
    # The exit handler waits, so there is nothing left to wait for.
    wait_until_gone([supervisor, *pids], directory, patience=0.5)


def test_a_stalled_server_does_not_outlive_a_killed_owner() -> None:
    owner, directory, supervisor, pids = start_owner("server.pause(); time.sleep(60)")
    deadline = time.monotonic() + 10
    while state(pids[-1]) != "T":
        assert time.monotonic() < deadline
    owner.kill()
    owner.wait()
    wait_until_gone([supervisor, *pids], directory)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_postgresql_ends_when_owner_and_supervisor_are_killed_together() -> None:
    owner, directory, supervisor, pids = start_owner("time.sleep(60)")
    os.kill(supervisor, signal.SIGKILL)
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    subprocess.run(["rm", "-rf", directory], check=True)  # nobody was left to do it


def test_a_program_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    process = Supervised()
    with pytest.raises(SupervisedError, match="No such file"):
        process.start(["/nonexistent/program"], tmp_path / "log")
    process.start(["/bin/sh", "-c", "echo said; exit 3"], tmp_path / "log")
    assert process.wait(10)
    assert (process.status, (tmp_path / "log").read_text()) == (3, "said\n")
    process.close()
    with pytest.raises(SupervisedError, match="has exited"):
        process.start(["/bin/true"], tmp_path / "log")


def test_children_are_found_whatever_their_name(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "30"]) as child:
        assert child.pid in children(os.getpid())
        child.kill()


def test_fresh_databases_on_each_server(shard_databases: Databases) -> None:
    shard_databases.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    assert shard_databases.rows("SELECT a FROM t") == [[(1,)]] * 3
    assert shard_databases.oracle_rows("SELECT a FROM t") == [(1,)]
    ports = {server.port for server in [*shard_databases.shard_servers, shard_databases.oracle_server]}
    assert len(ports) == 4


def test_used_databases_are_empty_when_they_are_used_again(servers18: Servers) -> None:
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE t (a int); CREATE TYPE mood AS ENUM ('ok'); DROP SCHEMA public CASCADE")
    databases.execute("CREATE SCHEMA other; CREATE TABLE other.t (a int)")
    held = psycopg.connect(databases.shards[0], autocommit=True)
    held.execute("BEGIN; LOCK TABLE other.t")
    with psycopg.connect(databases.shards[1], autocommit=True) as connection:
        connection.execute("BEGIN; INSERT INTO other.t VALUES (1); PREPARE TRANSACTION 'left'")
    databases.drop()
    again = Databases.create(servers18, one_server=True)
    assert again.shards == databases.shards
    namespaces = "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ '^(pg|information)_'"
    assert [*again.rows(namespaces), again.oracle_rows(namespaces)] == [
        [("public", "{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}")]
    ] * 4
    assert again.oracle_rows("SELECT gid FROM pg_prepared_xacts WHERE gid = 'left'") == []
    assert held.closed or _lost(held)
    again.drop()


def _lost(connection: "psycopg.Connection[Any]") -> bool:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    return connection.closed


def test_databases_that_cannot_be_emptied_go(servers18: Servers) -> None:
    databases = Databases.create(servers18, one_server=True)
    execute(databases.shards[1], f"ALTER DATABASE {databases.name}_s1 SET work_mem = '1MB'")
    databases.drop()
    left = query(databases.oracle_server.dsn(), "SELECT datname FROM pg_database WHERE datname LIKE 't%\\_%'")
    assert databases.name not in {name for (name,) in left}
    assert not any(name.startswith(f"{databases.name}_s") for (name,) in left)


UNREADABLE = """
from shardproxy.embedded import Server
with Server.start(18) as server:
    print(server.bin)
    print(server.log().count("ready to accept connections"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a copy for another user")
@pytest.mark.parametrize("closed", ["directory", "files"])
def test_programs_that_only_root_can_read_are_copied_once(tmp_path: Path, closed: str) -> None:
    """A virtual environment below /root, or one made under umask 077."""
    source = installations()[18].parent
    libraries = source.parent.with_name(f"{source.parent.name}.libs")
    package = tmp_path / source.parent.name  # the programs look for the libraries by this name
    shutil.copytree(source, package / "install", symlinks=True, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(libraries, tmp_path / libraries.name)
    if closed == "files":
        subprocess.run(["chmod", "-R", "go-rwx", package], check=True)
    else:
        package.chmod(0o700)
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o755)
        environment = {
            **os.environ,
            "TMPDIR": temporary,
            "SHARDPROXY_POSTGRES_BIN": str(package / "install" / "bin"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = ["bash", "-c", 'umask 077; exec "$@"', "bash", sys.executable, "-c", UNREADABLE]
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in "12"]
        assert [run.stderr for run in runs] == ["", ""]
        assert runs[0].stdout == runs[1].stdout
        programs, started = Path(runs[0].stdout.split()[0]), runs[0].stdout.split()[1]
        assert started == "1"
        assert programs.is_relative_to(temporary)
        (copy,) = Path(temporary).glob("shardproxy-embedded-*/install-*")
        for path in [copy, *copy.rglob("*")]:
            state = path.lstat()
            assert state.st_uid == 0
            assert path.is_symlink() or not state.st_mode & 0o022


def test_a_cache_of_somebody_else_is_refused() -> None:
    """In a directory open to all, another user may have made ours first and put his programs there."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o755)
        planted = Path(temporary, f"shardproxy-embedded-{os.geteuid()}")
        planted.mkdir()
        planted.chmod(0o777)
        environment = {**os.environ, "TMPDIR": temporary, "PYTHONPATH": os.pathsep.join(sys.path)}
        result = subprocess.run(
            [sys.executable, "-c", UNREADABLE], env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert "is not a directory that only this user can write" in result.stderr
