"""Steps that transcripts of COPY have in common."""

from tests.support.messages import columns, complete, copy_fail, error, query, ready
from tests.support.playbook import AT, Client, FakeShard


async def ends(*shards: FakeShard, how: str = "COMMIT") -> None:
    """The transaction ends on these shards, which are all that take part."""
    if how == "COMMIT" and len(shards) > 1:
        for shard in shards:
            await shard.gets(query("SET CONSTRAINTS ALL IMMEDIATE"))
            await shard.sends(complete("SET CONSTRAINTS"), ready("T"))
    for shard in shards:
        await shard.gets(query(how))
        await shard.sends(complete(how), ready("I"))


async def withdrawn(shard: FakeShard) -> None:
    """It is in the transaction for the COPY alone, has no row, and leaves."""
    await shard.gets(copy_fail("it has no row"), query("ROLLBACK"))
    await shard.sends(error("57014"), ready("E"), complete("ROLLBACK"), ready("I"))


async def usable(client: Client, shard: FakeShard, key: str = AT[0]) -> None:
    """The session goes on: nothing of the COPY is left. The key is the shard's."""
    sql = query(f"SELECT v FROM t WHERE id = {key}")
    await client.sends(sql)
    await shard.gets(sql)
    await shard.sends(columns("v"), complete("SELECT 0"), ready("I"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))
