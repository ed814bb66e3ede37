"""What several drivers' tests share."""

from collections.abc import Iterator

import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers, execute
from tests.support.twin import Twin


@pytest.fixture(scope="module")
def module_twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    """One PostgreSQL, and a proxy over three shards, with the same rows."""
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


@pytest.fixture
def twin(module_twin: Twin) -> Iterator[Twin]:
    """`module_twin`, whose rows are the same again after each test; what a test adds has `a` above 1000."""
    yield module_twin
    for dsn in module_twin.databases.shards:
        execute(dsn, "DELETE FROM t WHERE a > 1000")
    assert module_twin.rows()[0] == module_twin.rows()[1]
