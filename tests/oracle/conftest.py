"""The arena that all of these tests share."""

from collections.abc import Iterator

import pytest

from tests.conftest import RunProxy
from tests.oracle.arena import Arena
from tests.support.databases import Servers


@pytest.fixture(scope="module")
def arena(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Arena]:
    with Arena.open(servers18, run_proxy_for_module) as arena:
        yield arena
