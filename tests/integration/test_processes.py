"""A client's process ID is its session's: pg_backend_pid(), pg_cancel_backend() and pg_terminate_backend() know it."""

import threading
import time
from contextlib import ExitStack

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

pytestmark = pytest.mark.newest

S = encode.SYNC
SLEEP = "SELECT pg_sleep(20)"

PIDS = {
    "alone": "SELECT pg_backend_pid()",
    "with an alias": "SELECT pg_backend_pid() AS mine",
    "in capitals, with its schema": "SELECT PG_CATALOG.PG_BACKEND_PID ( )",
    "beside constants": "SELECT 1 AS one, pg_backend_pid(), 'ä', pg_backend_pid() AS again, 2",
    "after another statement": "SELECT 'ä'; SELECT pg_backend_pid()",
    "before an error": "SELECT pg_backend_pid(), 1 + missing",
    "in a long text": f"SELECT pg_backend_pid(), '{'x' * 50_000}'",
    "prepared by SQL": "PREPARE mine AS SELECT pg_backend_pid(); EXECUTE mine",
}


@pytest.fixture(scope="module")
def twin(module_twin: Twin) -> Twin:
    """Its tables are not looked at."""
    return module_twin


def told(client: RawClient, steps: bytes) -> list[object]:
    """The answer, with `mine` for the client's process ID."""
    reply = client.exchange(steps)
    mine = str(client.cancel_key[0]).encode(), client.cancel_key[0].to_bytes(4)
    rows = [[b"mine" if value in mine else value for value in row] for row in reply.rows]
    errors = [{code: text for code, text in error.items() if code not in "FLR"} for error in reply.errors]
    return [reply.order, reply.tags, rows, errors, [notice["C"] for notice in reply.notices]]


@pytest.mark.parametrize("name", PIDS)
def test_pg_backend_pid_is_the_process_id_of_backend_key_data(twin: Twin, name: str) -> None:
    with RawClient(twin.dsn) as ours, RawClient(twin.databases.oracle) as theirs:
        for _ in range(2):  # the second time it might be the fast lane's
            steps = encode.query(PIDS[name].encode() + b"; DEALLOCATE ALL" * ("PREPARE" in PIDS[name]))
            expected = told(theirs, steps)
            assert told(ours, steps) == expected
            assert b"mine" in str(expected).encode() or "error" in name


def test_pg_backend_pid_in_the_extended_protocol(twin: Twin) -> None:
    parse = encode.parse(b"mine", b"SELECT pg_backend_pid(), $1::int") + encode.describe(b"S", b"mine") + S
    with RawClient(twin.dsn) as ours, RawClient(twin.databases.oracle) as theirs:
        assert told(ours, parse) == told(theirs, parse)
        for formats in ((0,), (1,)):
            run = encode.bind(b"", b"mine", (), (b"7",), formats) + encode.describe(b"P", b"") + encode.execute(b"") + S
            for _ in range(2):
                expected = told(theirs, run)
                assert told(ours, run) == expected
                assert b"mine" in expected[2][0]  # type: ignore[index]


def test_pg_backend_pid_beside_what_the_catalogs_tell_is_the_backends(twin: Twin) -> None:
    with psycopg.connect(twin.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()").fetchone()
    assert found == (1,)


def ways(function: str, pid: int, timeout: str = "") -> dict[str, bytes]:
    """A call in each protocol, with the process ID as a constant, and as a parameter in text and binary."""
    call = f"SELECT {function}($1{timeout})".encode()
    run = encode.describe(b"P", b"") + encode.execute(b"") + S
    return {
        "simple": encode.query(f"SELECT {function}({pid}{timeout})".encode()),
        "extended": encode.parse(b"", call) + encode.bind(b"", b"", (), (str(pid).encode(),), ()) + run,
        "binary": encode.parse(b"", call, (23,)) + encode.bind(b"", b"", (1,), (pid.to_bytes(4),), (1,)) + run,
        "constant": encode.parse(b"", call.replace(b"$1", b"%d" % pid)) + encode.bind(b"", b"", (), (), ()) + run,
        "row by row": encode.parse(b"", call)
        + encode.bind(b"", b"", (), (str(pid).encode(),), ())
        + encode.describe(b"P", b"")
        + encode.execute(b"", 1)
        + encode.execute(b"", 1)
        + S,
    }


WAYS = tuple(ways("f", 0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout", ["", ", 5000"])
@pytest.mark.parametrize("state", ["idle", "in a transaction", "at work"])
def test_pg_terminate_backend_ends_the_session(twin: Twin, way: str, timeout: str, state: str) -> None:
    """Its transaction is rolled back, and its client is told as by PostgreSQL."""
    seen = []
    for dsn in (twin.databases.oracle, twin.dsn):
        with RawClient(dsn) as victim, RawClient(dsn) as other:
            if state != "idle":
                victim.query("BEGIN")
                victim.query("INSERT INTO t VALUES (1001, 'x')")
                victim.query("INSERT INTO t VALUES (1002, 'x')")
            if state == "at work":
                victim.send(encode.query(SLEEP.encode()))
                time.sleep(0.2)
            answer = told(other, ways("pg_terminate_backend", victim.cancel_key[0], timeout)[way])
            end = victim.read_to_end()
            rows = other.query("SELECT a FROM t WHERE a = 1001").rows
            errors = [{code: text for code, text in error.items() if code not in "FLR"} for error in end.errors]
            seen.append((answer, end.order.lstrip("T"), errors, end.closed, rows))
    assert seen[0] == seen[1]
    assert seen[0][2][0]["C"] == "57P01"
    assert seen[0][4] == []


@pytest.mark.parametrize("way", WAYS)
def test_pg_cancel_backend_cancels_what_the_session_runs(twin: Twin, way: str) -> None:
    seen = []
    for dsn in (twin.databases.oracle, twin.dsn):
        with RawClient(dsn) as victim, RawClient(dsn) as other:
            victim.send(encode.query(SLEEP.encode()))
            time.sleep(0.2)
            answer = told(other, ways("pg_cancel_backend", victim.cancel_key[0])[way])
            cancelled = told(victim, b"")
            idle = told(other, ways("pg_cancel_backend", victim.cancel_key[0])[way])
            seen.append((answer, cancelled, idle, victim.query("SELECT 1").tags))
    assert seen[0] == seen[1]
    assert "57014" in str(seen[0][1])


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_session_signals_itself(twin: Twin, function: str) -> None:
    for sql in (f"SELECT {function}(pg_backend_pid())", f"BEGIN; SELECT {function}(pg_backend_pid()) AS x"):
        seen = []
        for dsn in (twin.databases.oracle, twin.dsn):
            with RawClient(dsn) as client:
                seen.append((told(client, encode.query(sql.encode()))[3], client.query("ROLLBACK").closed))
        assert seen[0] == seen[1]


def test_a_process_id_that_is_no_sessions_goes_to_the_shard(twin: Twin) -> None:
    """A backend's ends the backend; what is no process's is left to PostgreSQL."""
    with RawClient(twin.dsn) as client, psycopg.connect(twin.databases.shards[0]) as direct:
        for way in WAYS:
            assert told(client, ways("pg_terminate_backend", 2**31 - 1)[way])[2:] == [
                [[b"\0" if way == "binary" else b"f"]], [], ["01000"],
            ]  # fmt: skip
        assert client.query(f"SELECT pg_terminate_backend({direct.info.backend_pid})").rows == [[b"t"]]
        with pytest.raises(psycopg.OperationalError):
            direct.execute("SELECT 1")


def test_signals_in_a_failed_transaction_are_refused(twin: Twin) -> None:
    with RawClient(twin.dsn) as victim, RawClient(twin.dsn) as client:
        client.query("BEGIN; SELECT 1/0")
        for call in ways("pg_terminate_backend", victim.cancel_key[0]).values():
            assert client.exchange(call).errors[0]["C"] == "25P02"
        assert victim.query("SELECT 1").rows == [[b"1"]]


def test_a_session_signals_those_of_the_same_user_only(twin: Twin) -> None:
    with RawClient(twin.dsn) as victim, psycopg.connect(twin.dsn, user="other", autocommit=True) as other:
        for function in ("pg_cancel_backend", "pg_terminate_backend"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied to"):
                other.execute(f"SELECT {function}({victim.cancel_key[0]})")
        assert victim.query("SELECT 1").rows == [[b"1"]]


def test_sessions_of_all_workers_are_signalled(servers18: Servers, run_proxy: RunProxy) -> None:
    """The process ID tells which worker has the session."""
    databases = Databases.create(servers18, one_server=True)
    try:
        config = databases.config([{"name": "t", "placement": "hash", "key": ["a"]}], server={"workers": 2})
        dsn = run_proxy(config).dsn()
        with ExitStack() as stack:
            sessions: list[psycopg.Connection] = []
            pids: list[int] = []
            # The kernel deals connections out as by dice.
            while len(sessions) < 8 or len({pid >> 22 for pid in pids}) < 2:
                assert len(sessions) < 60, "all sessions are at one worker"
                sessions.append(stack.enter_context(psycopg.connect(dsn, autocommit=True)))
                pids.append(sessions[-1].info.backend_pid)
            assert [session.execute("SELECT pg_backend_pid()").fetchone() for session in sessions] == [
                (pid,) for pid in pids
            ]
            first, *others = sessions
            for victim, pid in zip(others[:3], pids[1:4], strict=True):
                timer = threading.Timer(0.3, first.execute, ["SELECT pg_cancel_backend(%s)", [pid]])
                timer.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    victim.execute(SLEEP.encode())
                timer.join()
            for victim, pid in zip(others, pids[1:], strict=True):
                found = first.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone()
                assert found == (True,)
                with pytest.raises(psycopg.errors.AdminShutdown):
                    victim.execute("SELECT 1")
            assert first.execute("SELECT pg_terminate_backend(%s)", [pids[1]]).fetchone() == (False,)
    finally:
        databases.drop()
