"""Fixtures of all tests: servers of a PostgreSQL version, fresh databases on them, a running proxy."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from shardproxy.embedded import Server
from shardproxy.embedded.installation import SCRATCH_VARIABLE
from shardproxy.embedded.server import TRUST
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

VERSIONS = (16, 18)

# A data directory has a thousand files and each database three hundred more. Where the file system has to
# journal their creation, and to pass over the inodes just deleted, it takes ten times as long as in memory.
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 2 << 30  # bytes; containers often have 64 MiB there

if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY and os.access(MEMORY, os.W_OK):
    os.environ.setdefault(SCRATCH_VARIABLE, str(MEMORY))


@pytest.fixture(scope="session")
def servers16() -> Iterator[Servers]:
    """The servers of version 16."""
    servers = Servers(16)
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def servers18() -> Iterator[Servers]:
    """The servers of version 18."""
    servers = Servers(18)
    yield servers
    servers.close()


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda version: f"pg{version}")
def pg_version(request: pytest.FixtureRequest) -> int:
    """Each version in turn; a test that needs one only takes `servers18` or parametrises this indirectly."""
    version: int = request.param
    return version


@pytest.fixture(scope="session")
def servers(pg_version: int, request: pytest.FixtureRequest) -> Servers:
    """The servers of `pg_version`."""
    found: Servers = request.getfixturevalue(f"servers{pg_version}")
    return found


@pytest.fixture
def shard_databases(servers: Servers) -> Iterator[Databases]:
    """Fresh databases on three shard servers and the oracle's."""
    databases = Databases.create(servers)
    yield databases
    databases.drop()


@pytest.fixture
def one_server(servers: Servers) -> Iterator[Databases]:
    """Fresh databases that stand for three shards and the oracle, all in one server: cheaper."""
    databases = Databases.create(servers, one_server=True)
    yield databases
    databases.drop()


class StartServer(Protocol):
    """What `start_server` is."""

    def __call__(
        self,
        version: int = 18,
        *,
        settings: Mapping[str, str] | None = None,
        encoding: str = "UTF8",
        locale: str | None = None,
        hba: str = TRUST,
    ) -> Server: ...


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start servers that the test may kill, pause or misconfigure; they end with it."""
    started: list[Server] = []

    def start(
        version: int = 18,
        *,
        settings: Mapping[str, str] | None = None,
        encoding: str = "UTF8",
        locale: str | None = None,
        hba: str = TRUST,
    ) -> Server:
        small = {"shared_buffers": "16MB", "autovacuum": "off"} | dict(settings or {})
        started.append(Server.start(version, settings=small, encoding=encoding, locale=locale, hba=hba))
        return started[-1]

    yield start
    for server in started:
        server.close()


class RunProxy(Protocol):
    """What `run_proxy` is."""

    def __call__(
        self, config: str, *, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Proxy: ...


@contextmanager
def _proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunProxy]:
    with ExitStack() as stack:

        def run(config: str, *, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Proxy:
            proxy = Proxy(tmp_path_factory.mktemp("proxy"), config, arguments=arguments, env=env)
            stack.callback(proxy.close)
            return proxy

        yield run


@pytest.fixture
def run_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunProxy]:
    """Start proxies from the text of a configuration; at the end each must stop and leave a clean log."""
    with _proxies(tmp_path_factory) as run:
        yield run


@pytest.fixture(scope="module")
def run_proxy_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunProxy]:
    """`run_proxy` for a proxy that all tests of a module share."""
    with _proxies(tmp_path_factory) as run:
        yield run
