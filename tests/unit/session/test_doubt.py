"""A statement that commits by itself, on a shard that is lost before its answer: its client is left in doubt, 08007.

Unless the shard has said that it has ended it, or there is nothing to be in doubt about: transcripts.
"""

import pytest

from tests.support.messages import (
    BOUND,
    NO_DATA,
    PARSED,
    SYNC,
    bind,
    complete,
    describe,
    error,
    execute,
    fatal,
    parse,
    query,
    ready,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook

_, KEY = AT
STORES = (
    f"INSERT INTO t (id, v) VALUES ({KEY}, 'x')",
    f"UPDATE t SET v = 'x' WHERE id = {KEY}",
    f"DELETE FROM t WHERE id = {KEY}",
    f"INSERT INTO t (id, v) VALUES ({KEY}, 'x') ON CONFLICT DO NOTHING RETURNING v",
    f"WITH c AS (SELECT 1) DELETE FROM t WHERE id = {KEY}",
    f"EXPLAIN ANALYZE DELETE FROM t WHERE id = {KEY}",
)
READS = f"SELECT v FROM t WHERE id = {KEY}"
DOUBT = error("08007", 'outcome of the transaction is unknown: shard "s1" does not answer')
LOST = error("08006", 'connection to shard "s1" was lost')
PREPARED = "UPDATE t SET v = 'x' WHERE id = $1"
BATCH = parse("", PREPARED), bind("", "", KEY), describe("P"), execute(), SYNC


async def planned(client: Client, shard: FakeShard, sql: str) -> None:
    """Run it once: the fast lane takes it from then on, where it takes such statements."""
    await client.sends(query(sql))
    await shard.gets(query(sql))
    await shard.sends(complete("UPDATE 1"), ready("I"))
    await client.gets(complete("UPDATE 1"), ready("I"))


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("sql", STORES)
async def test_a_query(playbook: Playbook, sql: str, again: bool) -> None:
    client, _, s1 = await playbook.session()
    if again:
        await planned(client, s1, sql)
    await client.sends(query(sql))
    await s1.gets(query(sql))
    await s1.leaves()
    await client.gets(DOUBT, ready("I"))


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
async def test_a_query_that_stores_nothing(playbook: Playbook, again: bool) -> None:
    client, _, s1 = await playbook.session()
    if again:
        await planned(client, s1, READS)
    await client.sends(query(READS))
    await s1.gets(query(READS))
    await s1.leaves()
    await client.gets(LOST, ready("I"))


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("answered", [False, True])
async def test_extended(playbook: Playbook, again: bool, answered: bool) -> None:
    """CommandComplete is no answer yet: the commit comes with Sync."""
    client, _, s1 = await playbook.session()
    if again:
        await client.sends(*BATCH)
        await s1.gets(*BATCH)
        await s1.sends(PARSED, BOUND, NO_DATA, complete("UPDATE 1"), ready("I"))
        await client.gets(PARSED, BOUND, NO_DATA, complete("UPDATE 1"), ready("I"))
    await client.sends(*BATCH)
    await s1.gets(*BATCH)
    said = [PARSED, BOUND, NO_DATA, complete("UPDATE 1")] if answered else []
    await s1.sends(*said)
    if again:
        await client.gets(*said)
        said = []
    await s1.leaves()
    await client.gets(*said, DOUBT, ready("I"))


async def test_several_under_way(playbook: Playbook) -> None:
    """What is answered is done; of all others nobody knows."""
    client, _, s1 = await playbook.session()
    sql = STORES[0]
    await planned(client, s1, sql)
    await client.sends(query(sql), query(sql))
    await s1.gets(query(sql), query(sql))
    await s1.sends(complete("INSERT 0 1"), ready("I"))
    await client.gets(complete("INSERT 0 1"), ready("I"))
    await s1.leaves()
    await client.gets(DOUBT, ready("I"))


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
async def test_a_shard_that_has_ended_it(playbook: Playbook, again: bool) -> None:
    """FATAL instead of an answer: the server has rolled it back."""
    client, _, s1 = await playbook.session()
    if again:
        await planned(client, s1, STORES[0])
    await client.sends(query(STORES[0]))
    await s1.gets(query(STORES[0]))
    await s1.sends(fatal("57P01"))
    await s1.leaves()
    await client.gets(error("08006", 'connection to shard "s1" was lost', D="FATAL:  57P01: refused"), ready("I"))


async def test_in_a_transaction(playbook: Playbook) -> None:
    """The shard has rolled it back with the rest."""
    client, _, s1 = await playbook.session()
    await client.sends(query("BEGIN"), query(STORES[0]))
    await client.gets(complete("BEGIN"), ready("T"))
    await s1.gets(query("BEGIN"))
    await s1.sends(complete("BEGIN"), ready("T"))
    await s1.gets(query(STORES[0]))
    await s1.leaves()
    await client.gets(LOST, ready("E"))
