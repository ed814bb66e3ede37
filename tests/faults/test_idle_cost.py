"""Idle clients are cheap, and nothing is left of those that have disconnected."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardproxy.config import load
from shardproxy.server.listener import Listener
from shardproxy.session.database import Database
from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.faults import idle_cost
from tests.faults.cell import config
from tests.support.databases import Databases, Servers

KIB_EACH = 64.0


@pytest.fixture
def databases(servers18: Servers) -> Iterator[Databases]:
    made = Databases.create(servers18, one_server=True)
    yield made
    made.drop()


async def test_idle_clients_and_many_connects(databases: Databases, run_proxy: RunProxy) -> None:
    proxy = run_proxy(config(databases.shards, commit="one-phase"))
    figures = await idle_cost.measure(proxy, clients=500, connects=2000)
    assert figures.each < KIB_EACH
    assert figures.descriptors[1] <= figures.descriptors[0]
    assert figures.resident[1] - figures.resident[0] < 4 << 20


async def test_no_task_stays_behind(databases: Databases, tmp_path: Path) -> None:
    """The listener in this process, whose tasks can be counted."""
    path = tmp_path / "shardproxy.toml"
    path.write_text(config(databases.shards, commit="one-phase"))
    path.chmod(0o600)
    loaded = load(path)
    listener = Listener(loaded, {database.name: Database(database) for database in loaded.databases})
    host, port = await listener.start()

    async def visit(query: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(idle_cost.STARTUP)
        await reader.readuntil(idle_cost.READY)
        if query:
            writer.write(encode.query(query))
            await reader.readuntil(idle_cost.READY)
        writer.close()
        await writer.wait_closed()

    for number in range(300):
        await visit(b"SELECT 1" if number % 10 == 0 else b"")
    await asyncio.sleep(0.5)
    assert listener.sessions == {}
    own = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not own] == []
    await listener.drain(1.0)
