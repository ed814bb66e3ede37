"""Many executions of one write of a reference table that come together: transcripts."""

import asyncio

from tests.support.messages import (
    BOUND,
    NO_DATA,
    PARSED,
    SYNC,
    Said,
    bind,
    columns,
    complete,
    describe,
    error,
    execute,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import Client, FakeShard, Playbook

INSERT = "INSERT INTO ref VALUES ($1::int, 'x')"
DELETE = "DELETE FROM ref WHERE id = $1::int"
ONE = complete("INSERT 0 1")


async def first(playbook: Playbook, sql: str, tag: str, *more: Said) -> tuple[Client, FakeShard, FakeShard]:
    """A statement with the parameter 1 goes the general way; `more` come with it, and a Sync."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("s", sql), bind("", "s", "1"), execute(), *more, SYNC)
    for shard in (s0, s1):
        await shard.gets(query("BEGIN"))
        await shard.sends(complete("BEGIN"), ready("T"))
    for shard in (s0, s1):
        await shard.gets(parse("s", sql), bind("", "s", "1"), execute(), SYNC)
        await shard.sends(PARSED, BOUND, complete(tag), ready("T"))
    await client.gets(PARSED, BOUND, complete(tag))
    return client, s0, s1


async def committed(client: Client, *shards: FakeShard) -> None:
    for word in ("SET CONSTRAINTS ALL IMMEDIATE", "COMMIT"):
        for shard in shards:
            await shard.gets(query(word))
            await shard.sends(complete(word), ready("I" if word == "COMMIT" else "T"))
    await client.gets(ready("I"))


async def failed(client: Client, sqlstate: str, *shards: FakeShard) -> None:
    for shard in shards:
        await shard.gets(query("ROLLBACK"))
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(error(sqlstate), ready("I"))


async def test_one_batch_for_each_shard(playbook: Playbook) -> None:
    """What a driver's executemany sends: as many round trips as for two statements."""
    more = bind("", "s", "2"), describe("P"), execute(), bind("", "s", "3"), execute("", 1)
    client, s0, s1 = await first(playbook, INSERT, "INSERT 0 1", *more)
    for shard in (s0, s1):
        await shard.gets(bind("", "s", "2"), execute(), bind("", "s", "3"), execute(), SYNC)
        await client.gets()
        await shard.sends(BOUND, ONE, BOUND, ONE, ready("T"))
    await client.gets(BOUND, NO_DATA, ONE, BOUND, ONE)
    await committed(client, s0, s1)


async def test_what_changes_nothing_on_the_first_shard_is_not_sent_to_the_others(playbook: Playbook) -> None:
    more = bind("", "s", "2"), execute(), bind("", "s", "3"), execute()
    client, s0, s1 = await first(playbook, DELETE, "DELETE 1", *more)
    await s0.gets(*more, SYNC)
    await s0.sends(BOUND, complete("DELETE 0"), BOUND, complete("DELETE 1"), ready("T"))
    await s1.gets(query("SAVEPOINT shardproxy_batch"), bind("", "s", "3"), execute(), SYNC)
    await s1.sends(complete("SAVEPOINT"), ready("T"), BOUND, complete("DELETE 1"), ready("T"))
    await s1.gets(query("RELEASE shardproxy_batch"))
    await s1.sends(complete("RELEASE"), ready("T"))
    await client.gets(BOUND, complete("DELETE 0"), BOUND, complete("DELETE 1"))
    await committed(client, s0, s1)


async def test_another_statement_ends_a_batch(playbook: Playbook) -> None:
    """So does what the general way is to refuse: here a parameter too many."""
    more = bind("", "s", "2"), execute(), bind("", "s", "3", "4"), execute()
    client, s0, s1 = await first(playbook, INSERT, "INSERT 0 1", *more)
    for shard in (s0, s1):
        await shard.gets(bind("", "s", "2"), execute(), SYNC)
        await shard.sends(BOUND, ONE, ready("T"))
    await client.gets(BOUND, ONE)
    await failed(client, "08P01", s0, s1)


async def test_an_error_of_the_first_shard(playbook: Playbook) -> None:
    """What came before it is answered, the others have nothing to do, and what comes after it is skipped."""
    more = bind("", "s", "2"), execute(), bind("", "s", "3"), describe("P"), execute(), bind("", "s", "4"), execute()
    client, s0, s1 = await first(playbook, INSERT, "INSERT 0 1", *more)
    await s0.gets(bind("", "s", "2"), execute(), bind("", "s", "3"), execute(), bind("", "s", "4"), execute(), SYNC)
    await s0.sends(BOUND, ONE, BOUND, error("23505"), ready("E"))
    await client.gets(BOUND, ONE, BOUND, NO_DATA)
    await failed(client, "23505", s0, s1)


async def test_another_shard_that_changes_less(playbook: Playbook) -> None:
    """Only what is about a row of a key can have come too early."""
    client, s0, s1 = await first(playbook, INSERT, "INSERT 0 1", bind("", "s", "2"), execute())
    for shard, tag in ((s0, ONE), (s1, complete("INSERT 0 0"))):
        await shard.gets(bind("", "s", "2"), execute(), SYNC)
        await shard.sends(BOUND, tag, ready("T"))
    await failed(client, "40001", s0, s1)


async def test_a_row_that_another_shard_does_not_show_yet(playbook: Playbook) -> None:
    """The race: the first shard has committed a row, and another is about to, when two of a batch are about it.

    The second may find it where the first has not: both are done again, in their order.
    """
    more = bind("", "s", "2"), execute(), bind("", "s", "2"), execute()
    client, s0, s1 = await first(playbook, DELETE, "DELETE 1", *more)
    await s0.gets(*more, SYNC)
    await s0.sends(BOUND, complete("DELETE 1"), BOUND, complete("DELETE 1"), ready("T"))
    await s1.gets(query("SAVEPOINT shardproxy_batch"), *more, SYNC)
    await s1.sends(complete("SAVEPOINT"), ready("T"))
    await s1.sends(BOUND, complete("DELETE 0"), BOUND, complete("DELETE 1"), ready("T"))
    await s1.gets(query("ROLLBACK TO shardproxy_batch; RELEASE shardproxy_batch"))
    await s1.sends(complete("ROLLBACK"), complete("RELEASE"), ready("T"))
    await s1.gets(bind("", "s", "2"), execute(), SYNC)
    await s1.sends(BOUND, complete("DELETE 0"), ready("T"))
    await s1.gets(query("SHOW transaction_isolation"))
    await s1.sends(columns("transaction_isolation"), row("read committed"), complete("SHOW"), ready("T"))
    await asyncio.sleep(0.01)
    for _ in range(2):
        await s1.gets(bind("", "s", "2"), execute(), SYNC)
        await s1.sends(BOUND, complete("DELETE 1"), ready("T"))
    await client.gets(BOUND, complete("DELETE 1"), BOUND, complete("DELETE 1"))
    await committed(client, s0, s1)
