"""What several files of integration tests share."""

from collections.abc import Iterator

import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.differential import Arena
from tests.support.twin import Twin


@pytest.fixture(scope="module")
def arena(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Arena]:
    """One PostgreSQL, and a proxy whose answer to the same COPY is compared with its own."""
    with Arena.open(servers, run_proxy_for_module) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    """One PostgreSQL 18, and a proxy over three shards, for all tests of a module."""
    with Twin.open(servers18, run_proxy_for_module) as opened:
        yield opened


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    """`module_twin` with the same rows before each test."""
    module_twin.fill()
    return module_twin
