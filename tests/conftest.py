"""Fixtures of all tests: servers of a PostgreSQL version, fresh databases on them, a running proxy."""

import gc
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import hypothesis
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

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Of two cores 1.2 were busy with one worker, as tests wait for processes to start and for deadlines to pass; four
# workers were no faster than three. Each costs about 7 seconds of CPU, for imports and for collecting everything, and
# has servers of its own.
WORKERS_PER_CORE = 1.5
MOST_WORKERS = 8
FILES_WORTH_IT = 20  # fewer are done before more workers have started


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run much in several processes, and little in this one, where output and a debugger work as ever."""
    chosen = [Path(argument.partition("::")[0]) for argument in config.args]
    files = sum(1 for path in chosen if path.is_dir() for _ in path.rglob("test_*.py"))
    if config.option.capture == "no" or files < FILES_WORTH_IT:
        return 0
    return min(int(WORKERS_PER_CORE * len(os.sched_getaffinity(0))), MOST_WORKERS)


SERVER_FIXTURES = {"servers", "servers16", "servers18", "start_server"}
"""A test that uses one of them, directly or not, gets the mark `server`; `make test-fast` leaves it out."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "server: starts PostgreSQL servers (set by the fixtures that do)")
    config.addinivalue_line("markers", "newest: runs on the newest version alone, as nothing in it depends on one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg_version" in metafunc.fixturenames:
        newest = metafunc.definition.get_closest_marker("newest") is not None
        versions = VERSIONS[-1:] if newest else VERSIONS
        metafunc.parametrize(
            "pg_version", versions, indirect=True, scope="session", ids=[f"pg{version}" for version in versions]
        )


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what lasts: modules and thousands of tests, which take it 100 ms each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES & set(item.fixturenames):
            item.add_marker("server")


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


@pytest.fixture(scope="session")
def pg_version(request: pytest.FixtureRequest) -> int:
    """Each version in turn; the newest alone where the test has the mark `newest`."""
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
