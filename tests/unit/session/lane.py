"""Steps of the fast lane's transcripts, which begin after statements that have made plans and opened both shards."""

from tests.support.messages import (
    BOUND,
    PARSED,
    SYNC,
    Said,
    bind,
    columns,
    complete,
    describe,
    execute,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook, settle

BY_KEY = "SELECT v FROM t WHERE id = $1"
KEY_0, KEY_1 = AT
TAIL = describe("P"), execute(), SYNC
BEGIN = parse("shardproxy_begin", "BEGIN"), bind("", "shardproxy_begin"), execute()
BEGUN = PARSED, BOUND, complete("BEGIN")
"""A shard joins by messages of the same batch, so that a BEGIN that fails takes the statement with it."""


def text(key: str) -> str:
    return f"SELECT v FROM t WHERE id = {key}"


def answer(value: str = "x", status: str = "I") -> tuple[Said, ...]:
    """What comes after BindComplete."""
    return columns("v"), row(value), complete("SELECT 1"), ready(status)


async def warm(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A prepared statement "a", the same unnamed, and a simple Query: all planned, and both shards connected."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("a", BY_KEY), SYNC)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    for shard, key in ((s0, KEY_0), (s1, KEY_1)):
        await client.sends(bind("", "a", key), *TAIL)
        await settle()
        first = (parse("a", BY_KEY),) if shard is s1 else ()
        await shard.gets(*first, bind("", "a", key), *TAIL)
        await shard.sends(*([PARSED] if first else []), BOUND, *answer())
        await client.gets(BOUND, *answer())
        await client.sends(query(text(key)))
        await shard.gets(query(text(key)))
        await shard.sends(*answer())
        await client.gets(*answer())
    for peer in (client, s0, s1):
        assert peer.writes
    return client, s0, s1
