"""A few hundred damaged client sessions in each run, other ones each time."""

import random

import pytest

from tests.conftest import RunProxy
from tests.faults import fuzz_clients
from tests.faults.cell import config
from tests.support.databases import Databases, Servers

SESSIONS = 300


async def test_damaged_sessions(servers18: Servers, run_proxy: RunProxy) -> None:
    seed = random.SystemRandom().randrange(1 << 31)
    databases = Databases.create(servers18)
    databases.execute(fuzz_clients.TABLE, oracle=False)
    proxy = run_proxy(config(databases.shards, seconds=10.0))
    try:
        report = await fuzz_clients.fuzz(proxy, SESSIONS, seed)
    except* fuzz_clients.DefectError as defects:
        pytest.fail(f"seed {seed}: {defects.exceptions[0]}")
    assert report.sessions >= SESSIONS
    proxy.stop()
    databases.drop()
