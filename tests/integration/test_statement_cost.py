"""What statements cost the proxy: Python calls, and system calls on its sockets.

Counted, not timed, so that the figures are the same on every machine. For a SELECT by key the client sends Bind,
Describe, Execute and Sync in one write, as libpq and pgbench do for a prepared statement.
"""

import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from benchmarks.profile import Profile, module
from shardproxy.wire import encode
from shardproxy.wire.constants import B
from tests.conftest import RunProxy
from tests.support.databases import Databases
from tests.support.proxy import Proxy
from tests.support.rawclient import Protocol, RawClient

# Two writes: one to the shard, one to the client. 29 calls are counted; the rest is room for changes beside the way.
MOST_CALLS = 70
READS, MOST_WRITES = 2, 2

TIMES = 20  # statements of a block: what the counting itself costs vanishes in the average
BLOCKS = 5  # of which the least counts: now and then a session looks its tables up again
WARM_UP = 10
KEY = b"17"

SKIPPED = 20_000  # pairs of Bind and Execute behind an error
FAILING = {
    "no such statement": encode.bind(b"", b"nobody", (), (KEY,), ()),
    "unique violation": encode.bind(b"", b"add", (), (KEY,), ()) + encode.execute(b""),
}

# Log-in, SELECT and end: 1,240 calls, 5 reads and 7 writes are counted.
MOST_CALLS_OF_A_VISIT = 2000
MOST_READS_OF_A_VISIT, MOST_WRITES_OF_A_VISIT = 7, 9

MADE = "shardproxy/net/stream", "connection_made"

ANY_TABLES = 1.1
"""Most that a COPY may take where many tables are listed: the same, and what two runs differ by."""

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/PID/io is Linux's"),
    pytest.mark.newest,
]


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile(tmp_path / "profile")


@pytest.fixture
def proxy(one_server: Databases, run_proxy: RunProxy, profile: Profile) -> Proxy:
    one_server.execute("CREATE TABLE t (a bigint PRIMARY KEY, b text)")
    config = one_server.config([{"name": "t", "placement": "hash", "key": ["a"]}])
    return run_proxy(config, env=profile.environment())


@pytest.fixture
def client(proxy: Proxy) -> Iterator[RawClient]:
    """A client whose statement is prepared and has run."""
    with RawClient(proxy.dsn()) as client:
        assert client.query("INSERT INTO t VALUES (17, 'x')").tags == ["INSERT 0 1"]
        parse = encode.parse(b"by_key", b"SELECT b FROM t WHERE a = $1")
        assert client.exchange(parse + encode.SYNC).order == "1Z"
        for _ in range(WARM_UP):
            select(client)
        yield client


def select(client: RawClient) -> None:
    batch = encode.bind(b"", b"by_key", (), (KEY,), ()) + encode.describe(b"P", b"") + encode.execute(b"") + encode.SYNC
    reply = client.exchange(batch)
    assert (reply.order, reply.rows) == ("2TDCZ", [[b"x"]])


def system_calls(pid: int) -> tuple[int, int]:
    """Calls of read(2) and write(2) and their vector forms, which are uvloop's on sockets: proc(5)."""
    figures = Path(f"/proc/{pid}/io").read_text()
    reads, writes = (int(found) for found in re.findall(r"^sysc[rw]: (\d+)$", figures, re.MULTILINE))
    return reads, writes


def test_python_calls(proxy: Proxy, client: RawClient, profile: Profile) -> None:
    blocks = []
    for _ in range(BLOCKS):
        with profile.of(proxy.pid):
            for _ in range(TIMES):
                select(client)
        blocks.append(profile.calls())
    python, native = min(blocks)
    print(f"{python / TIMES:.1f} calls of Python functions, {native / TIMES:.1f} of functions in C")
    assert 0 < round(python / TIMES) <= MOST_CALLS


def test_reads_and_writes(proxy: Proxy, client: RawClient) -> None:
    pytest.importorskip("uvloop", reason="asyncio's own loop uses recv(2) and send(2), which proc(5) does not count")
    blocks = []
    for _ in range(BLOCKS):
        before = system_calls(proxy.pid)
        for _ in range(TIMES):
            select(client)
        blocks.append([(now - then) / TIMES for now, then in zip(system_calls(proxy.pid), before, strict=True)])
    reads, writes = min(blocks)
    print(f"{reads:.2f} reads, {writes:.2f} writes")
    assert round(reads) == READS
    assert 2 <= round(writes) <= MOST_WRITES


def connect_anew(proxy: Proxy) -> None:
    """What a client without a pool does for each of its statements."""
    with RawClient(proxy.dsn()) as visitor:
        assert visitor.query("SELECT b FROM t WHERE a = 17").rows == [[b"x"]]
        visitor.send(encode.TERMINATE)
        assert visitor.read() is None


def test_a_client_that_comes_for_one_statement(proxy: Proxy, client: RawClient, profile: Profile) -> None:
    """Log-in, SELECT by key, end: it is connected to one shard."""
    for _ in range(WARM_UP):
        connect_anew(proxy)
    blocks, made = [], []
    for _ in range(BLOCKS):
        with profile.of(proxy.pid):
            for _ in range(TIMES):
                connect_anew(proxy)
        blocks.append(profile.calls()[0] / TIMES)
        made.append(sum(cost.calls for (file, _, name), cost in profile.costs.items() if (module(file), name) == MADE))
    python = min(blocks)
    print(f"{python:.1f} calls of Python functions, {min(made) / TIMES:.2f} connections")
    assert 0 < python <= MOST_CALLS_OF_A_VISIT
    assert min(made) == 2 * TIMES  # the client's, and the one to its shard


def test_writes_of_a_client_that_comes_for_one_statement(proxy: Proxy, client: RawClient) -> None:
    pytest.importorskip("uvloop", reason="asyncio's own loop uses recv(2) and send(2), which proc(5) does not count")
    for _ in range(WARM_UP):
        connect_anew(proxy)
    blocks = []
    for _ in range(BLOCKS):
        before = system_calls(proxy.pid)
        for _ in range(TIMES):
            connect_anew(proxy)
        blocks.append([(now - then) / TIMES for now, then in zip(system_calls(proxy.pid), before, strict=True)])
    reads, writes = min(blocks)
    print(f"{reads:.2f} reads, {writes:.2f} writes")
    assert 0 < round(reads) <= MOST_READS_OF_A_VISIT
    assert 0 < round(writes) <= MOST_WRITES_OF_A_VISIT


@pytest.mark.parametrize("failing", FAILING)
def test_what_a_pipeline_has_after_its_error(client: RawClient, proxy: Proxy, profile: Profile, failing: str) -> None:
    """It is skipped in one pass of each chunk: a message of it costs no call, nor one of the session's turns."""
    assert client.exchange(encode.parse(b"add", b"INSERT INTO t VALUES ($1, 'y')") + encode.SYNC).order == "1Z"
    one = encode.bind(b"", b"add", (), (b"18",), ()) + encode.execute(b"")
    with profile.of(proxy.pid):
        client.send(FAILING[failing] + encode.FLUSH)
        while (message := client.read()) is not None and message.type != B.ERROR_RESPONSE:
            pass
        reply = client.exchange(one * SKIPPED + encode.SYNC)
    python, _ = profile.calls()
    print(f"{python} calls of Python functions for {2 * SKIPPED} messages")
    assert reply.order == "Z"
    assert 0 < python < SKIPPED / 4
    assert client.query("SELECT count(*) FROM t WHERE a = 18").rows == [[b"0"]]


@pytest.mark.parametrize("form", ["simple", "extended"])
def test_a_copy_costs_the_same_with_any_number_of_tables(
    one_server: Databases, run_proxy: RunProxy, profile: Profile, form: Protocol
) -> None:
    one_server.execute("CREATE TABLE t (a bigint PRIMARY KEY, b text)")
    keys = count(1)
    costs = []
    for listed in (1, 1000):
        tables = [{"name": f"listed{at}", "placement": "hash", "key": ["a"]} for at in range(1, listed)]
        config = one_server.config([*tables, {"name": "t", "placement": "hash", "key": ["a"]}])
        proxy = run_proxy(config, env=profile.environment())
        with RawClient(proxy.dsn()) as client:

            def load(client: RawClient = client) -> None:
                data = b"%d\tx\n" % next(keys)
                assert client.copy("COPY t FROM STDIN", data, protocol=form).tags == ["COPY 1"]

            for _ in range(WARM_UP):
                load()
            blocks = []
            for _ in range(BLOCKS):
                with profile.of(proxy.pid):
                    for _ in range(TIMES):
                        load()
                blocks.append(sum(profile.calls()) / TIMES)
            costs.append(min(blocks))
    few, many = costs
    print(f"{few:.1f} calls with one table listed, {many:.1f} with a thousand")
    assert few > 0
    assert many < few * ANY_TABLES
