"""Where sessions have backends: on the shards whose rows they read, and evenly where any shard would do."""

from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from shardproxy.wire import encode
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

pytestmark = pytest.mark.newest

CLIENTS = 15
LOOKING = 3
"""Sessions that may have looked a table up on another shard than their key's: at most one in a second does."""


@pytest.fixture(scope="module")
def twin(module_twin: Twin) -> Twin:
    module_twin.fill()
    return module_twin


def backends(twin: Twin) -> list[int]:
    """How many the proxy's sessions have on each shard."""
    counted = dict(
        twin.databases.oracle_rows(
            "SELECT datname, count(*) FROM pg_stat_activity WHERE application_name = 'counted' GROUP BY datname"
        )
    )
    return [counted.get(f"{twin.databases.name}_s{shard}", 0) for shard in range(3)]


def keys(twin: Twin, shard: int) -> list[int]:
    """Keys of rows on a shard."""
    return sorted(a for a, _ in twin.databases.rows("TABLE t")[shard])


def simple(client: RawClient, key: int) -> None:
    assert client.query(f"SELECT b FROM t WHERE a = {key}").tags == ["SELECT 1"]


def free(client: RawClient, key: int) -> None:
    """What any shard answers goes where the session is."""
    simple(client, key)
    for statement in ("SELECT 1", "SELECT now(), upper('x')", "SHOW DateStyle", "SET DateStyle = 'German'", "SELEC"):
        client.query(statement)
    client.query(f"BEGIN; SELECT b FROM t WHERE a = {key}; SELECT 2; SHOW transaction_isolation; COMMIT")
    run = encode.parse(b"", b"SELECT $1::int") + encode.describe(b"S", b"") + encode.SYNC
    assert client.exchange(run).order == "1tTZ"


def bound(client: RawClient, key: int) -> None:
    """As drivers that send all at once."""
    run = encode.parse(b"", b"SELECT b FROM t WHERE a = $1") + encode.bind(b"", b"", (), (b"%d" % key,), ())
    assert client.exchange(run + encode.execute(b"") + encode.SYNC).tags == ["SELECT 1"]


@pytest.mark.parametrize("read", [simple, bound, free])
@pytest.mark.parametrize("shard", range(3))
def test_a_session_has_a_backend_where_its_row_is(
    twin: Twin, read: Callable[[RawClient, int], None], shard: int
) -> None:
    key = keys(twin, shard)[0]
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            read(stack.enter_context(RawClient(twin.dsn, {"application_name": "counted"})), key)
        counted = backends(twin)
    assert counted[shard] == CLIENTS
    assert sum(counted) <= CLIENTS + LOOKING


def test_sessions_spread_where_no_key_is_known(twin: Twin) -> None:
    """As drivers that have each statement described before they give its parameters."""
    key = keys(twin, 1)[0]
    described = encode.parse(b"by_key", b"SELECT b FROM t WHERE a = $1") + encode.describe(b"S", b"by_key")
    run = encode.bind(b"", b"by_key", (), (b"%d" % key,), ()) + encode.execute(b"") + encode.SYNC
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(RawClient(twin.dsn, {"application_name": "counted"}))
            assert client.exchange(described + encode.SYNC).order == "1tTZ"
            assert client.exchange(run).tags == ["SELECT 1"]
        counted = backends(twin)
    assert counted[1] == CLIENTS
    assert max(counted[0], counted[2]) <= CLIENTS / 3 + LOOKING


def test_a_session_that_does_nothing_has_no_backend(twin: Twin) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(RawClient(twin.dsn, {"application_name": "counted"}))
        simple(first, 1)  # its server has reported its settings
        before = backends(twin)
        for _ in range(CLIENTS):
            stack.enter_context(RawClient(twin.dsn, {"application_name": "counted"}))
        assert backends(twin) == before


def test_the_catalogs_are_those_of_one_shard_wherever_the_session_is(twin: Twin) -> None:
    """OIDs differ from shard to shard, and a client may keep them."""
    seen = set()
    for shard in range(3):
        with RawClient(twin.dsn) as client:
            simple(client, keys(twin, shard)[0])
            for sql in ("SELECT 't'::regclass::oid", "SELECT oid FROM pg_class WHERE relname = 't'",
                        "SELECT to_regclass('t')::oid", "SELECT current_database()"):  # fmt: skip
                seen.add((sql, str(client.query(sql).rows)))
    assert len(seen) == 4


def test_what_one_shard_alone_has_is_found_from_all(twin: Twin) -> None:
    """Temporary relations, tables of one shard, and those that only home has and that are not listed."""
    with psycopg.connect(twin.databases.shards[0]) as connection:
        connection.execute("CREATE TABLE stray (a int)")
    for shard in range(3):
        key = keys(twin, shard)[0]
        with RawClient(twin.dsn) as client:
            simple(client, key)
            assert client.query("SELECT count(*) FROM one").rows == [[b"60"]]
            assert client.query("TABLE stray").errors[0]["C"] == "0A000"
            assert client.query("TABLE nowhere").errors[0]["C"] == "42P01"
            client.query("BEGIN")
            simple(client, key)
            assert client.query("CREATE TEMP TABLE own AS SELECT 1 AS x").error is None
            assert client.query("TABLE own").rows == [[b"1"]]
            simple(client, key)
            client.query("COMMIT")
            assert client.query("TABLE own").rows == [[b"1"]]
