"""What one warm SELECT by key costs the proxy: Python calls, and system calls on its sockets.

Counted, not timed, so that the figures are the same on every machine. The client sends Bind, Describe, Execute and
Sync in one write, as libpq and pgbench do for a prepared statement.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.profile import Profile
from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

# Two writes: one to the shard, one to the client. 29 calls are counted; the rest is room for changes beside the way.
MOST_CALLS = 70
READS, MOST_WRITES = 2, 2

TIMES = 20  # statements of a block: what the counting itself costs vanishes in the average
BLOCKS = 5  # of which the least counts: now and then a session looks its tables up again
WARM_UP = 10
KEY = b"17"

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
