"""Transactions over shards: transcripts."""

import asyncio

from shardproxy.shard.stop import PATIENCE
from tests.support.messages import (
    Said,
    columns,
    complete,
    error,
    query,
    ready,
    row,
    setting,
    warning,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook, settle

ON_0, ON_1 = (query(f"SELECT v FROM t WHERE id = {key} FOR UPDATE") for key in AT)
ROWS = columns("v"), row("x"), complete("SELECT 1")


async def begins(playbook: Playbook, sql: str = "BEGIN") -> tuple[Client, FakeShard, FakeShard]:
    """No shard hears of it before a statement needs one."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(sql))
    await client.gets(complete("BEGIN"), ready("T"))
    return client, s0, s1


async def joins(client: Client, shard: FakeShard, statement: Said, sql: str = "BEGIN") -> None:
    await client.sends(statement)
    await shard.gets(query(sql))
    await shard.sends(complete("BEGIN"), ready("T"))
    await runs(client, shard, statement, sent=True)


async def runs(client: Client, shard: FakeShard, statement: Said, *, sent: bool = False) -> None:
    if not sent:
        await client.sends(statement)
    await shard.gets(statement)
    await shard.sends(*ROWS, ready("T"))
    await client.gets(*ROWS, ready("T"))


async def answers(shard: FakeShard, sql: str, tag: str | None = None, status: str = "I") -> None:
    await shard.gets(query(sql))
    await shard.sends(complete(tag or sql), ready(status))


async def savepoint(client: Client, shard: FakeShard, name: str) -> None:
    """The client marks a savepoint in a transaction of one shard."""
    await client.sends(query(f"SAVEPOINT {name}"))
    await answers(shard, f"SAVEPOINT {name}", "SAVEPOINT", "T")
    await client.gets(complete("SAVEPOINT"), ready("T"))


async def rolled_back(client: Client, *shards: FakeShard) -> None:
    await client.sends(query("ROLLBACK"))
    for shard in shards:
        await answers(shard, "ROLLBACK")
    await client.gets(complete("ROLLBACK"), ready("I"))


async def test_commit_of_two_shards(playbook: Playbook) -> None:
    """One-phase: what can fail is made to fail first, then one shard after the other."""
    client, s0, s1 = await begins(playbook, "BEGIN ISOLATION LEVEL SERIALIZABLE")
    await joins(client, s1, ON_1, "BEGIN ISOLATION LEVEL SERIALIZABLE")
    await joins(client, s0, ON_0, "BEGIN ISOLATION LEVEL SERIALIZABLE")
    await client.sends(query("COMMIT"))
    for shard in (s0, s1):
        await answers(shard, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS", "T")
    for shard in (s0, s1):
        await client.gets()
        await answers(shard, "COMMIT")
    await client.gets(complete("COMMIT"), ready("I"))


async def test_a_deferred_constraint(playbook: Playbook) -> None:
    """It fails before any shard has committed: all are rolled back."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await joins(client, s1, ON_1)
    await client.sends(query("COMMIT"))
    await answers(s0, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS", "T")
    await s1.gets(query("SET CONSTRAINTS ALL IMMEDIATE"))
    await s1.sends(error("23503"), ready("E"))
    for shard in (s0, s1):
        await answers(shard, "ROLLBACK")
    await client.gets(error("23503"), ready("I"))


async def test_commit_fails_on_the_second_shard(playbook: Playbook) -> None:
    """One-phase cannot take the first one's back: the client is told what is committed."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await joins(client, s1, ON_1)
    await client.sends(query("COMMIT"))
    for shard in (s0, s1):
        await answers(shard, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS", "T")
    await answers(s0, "COMMIT")
    await s1.gets(query("COMMIT"))
    await s1.sends(error("40001"), ready("I"))
    await client.gets(error("08007"), ready("I"))


async def test_commit_of_a_transaction_that_touched_nothing(playbook: Playbook) -> None:
    client, _, _ = await begins(playbook)
    await client.sends(query("COMMIT"))
    await client.gets(complete("COMMIT"), ready("I"))


async def test_an_error_frees_the_shards(playbook: Playbook) -> None:
    """Without a savepoint nothing can come back: the locks go at once, the client's ROLLBACK or COMMIT ends it."""
    for word in ("ROLLBACK", "COMMIT"):
        client, s0, s1 = await begins(playbook)
        await joins(client, s0, ON_0)
        await client.sends(ON_1)
        await answers(s1, "BEGIN", status="T")
        await s1.gets(ON_1)
        await s1.sends(columns("v"), error("55P03"), ready("E"))
        for shard in (s0, s1):
            await answers(shard, "ROLLBACK")
        await client.gets(columns("v"), error("55P03"), ready("E"))
        await client.sends(ON_0)
        await client.gets(error("25P02"), ready("E"))
        await client.sends(query(word))
        await client.gets(complete("ROLLBACK"), ready("I"))
        await playbook.end()


async def test_savepoints_are_replayed(playbook: Playbook) -> None:
    """A shard that joins late has the same savepoints as the others, and the settings in between."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await savepoint(client, s0, "a")
    await client.sends(query("SET LOCAL TimeZone = 'CET'"))
    await s0.gets(query("SET LOCAL TimeZone = 'CET'"))
    await s0.sends(complete("SET"), setting("TimeZone", "CET"), ready("T"))
    await client.gets(complete("SET"), setting("TimeZone", "CET"), ready("T"))
    await savepoint(client, s0, "b")
    await client.sends(ON_1)
    await s1.gets(query("BEGIN\n;\nSAVEPOINT a\n;\nSET LOCAL TimeZone = 'CET'\n;\nSAVEPOINT b"))
    tags = [complete(tag) for tag in ("BEGIN", "SAVEPOINT", "SET", "SAVEPOINT")]
    await s1.sends(*tags[:3], setting("TimeZone", "CET"), tags[3], ready("T"))
    await s1.gets(ON_1)
    await s1.sends(*ROWS, ready("T"))
    await client.gets(*ROWS, ready("T"))
    await rolled_back(client, s0, s1)


async def test_rollback_to_a_savepoint_after_an_error(playbook: Playbook) -> None:
    """With a savepoint the shards stay in the failed transaction; both go back, also the one that has not failed."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await savepoint(client, s0, "a")
    await joins(client, s1, ON_1, "BEGIN\n;\nSAVEPOINT a")
    await client.sends(ON_0)
    await s0.gets(ON_0)
    await s0.sends(error("22012"), ready("E"))
    await client.gets(error("22012"), ready("E"))
    await client.sends(query("ROLLBACK TO a"))
    await answers(s0, "ROLLBACK TO a", "ROLLBACK", "T")
    await answers(s1, "ROLLBACK TO a", "ROLLBACK", "T")
    await client.gets(complete("ROLLBACK"), ready("T"))
    await runs(client, s0, ON_0)
    await rolled_back(client, s0, s1)


async def test_a_participant_is_lost_while_idle(playbook: Playbook) -> None:
    """Its part is rolled back by its server, so the others must be: COMMIT is refused."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await joins(client, s1, ON_1)
    await s1.leaves()
    await client.gets()
    await client.sends(query("COMMIT"))
    await answers(s0, "ROLLBACK")
    await client.gets(error("08006"), ready("I"))


async def test_a_lost_participant_cannot_come_back(playbook: Playbook) -> None:
    """Not even to a savepoint: a new connection would have nothing of what came before."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s1, ON_1)
    await savepoint(client, s1, "a")
    await s1.leaves()
    await client.sends(ON_1)
    await client.gets(error("08006"), ready("E"))
    await client.sends(query("ROLLBACK TO a"))
    await client.gets(error("08006"), ready("E"))
    await client.sends(query("ROLLBACK"))
    await client.gets(complete("ROLLBACK"), ready("I"))
    assert s1.connected == 1
    await s0.gets()


async def test_warnings(playbook: Playbook) -> None:
    client, _, _ = await playbook.session()
    await client.sends(query("COMMIT"))
    await client.gets(warning("25P01"), complete("COMMIT"), ready("I"))
    await client.sends(query("BEGIN"))
    await client.gets(complete("BEGIN"), ready("T"))
    await client.sends(query("BEGIN"))
    await client.gets(warning("25001"), complete("BEGIN"), ready("T"))
    await client.sends(query("SAVEPOINT a; RELEASE b"))
    await client.gets(complete("SAVEPOINT"), error("3B001"), ready("E"))


async def test_a_cancel_during_a_commit_of_several(playbook: Playbook) -> None:
    """It would hit some shards and not others: it has no effect."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await joins(client, s1, ON_1)
    await client.sends(query("COMMIT"))
    playbook.live.cancel()
    for shard in (s0, s1):
        await answers(shard, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS", "T")
    playbook.live.cancel()
    for shard in (s0, s1):
        await answers(shard, "COMMIT")
    assert (s0.cancels, s1.cancels) == (0, 0)
    await client.gets(complete("COMMIT"), ready("I"))


async def test_a_client_that_leaves_during_a_commit(playbook: Playbook) -> None:
    """The commit goes on without it, as all or none."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await joins(client, s1, ON_1)
    await client.sends(query("COMMIT"))
    await client.leaves()
    for shard in (s0, s1):
        await answers(shard, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS", "T")
    for shard in (s0, s1):
        await answers(shard, "COMMIT")
    assert (s0.cancels, s1.cancels) == (0, 0)
    await playbook.ends_lost()


async def test_a_client_that_leaves_during_a_statement(playbook: Playbook) -> None:
    """The statement is cancelled, and the connections are closed, which rolls back."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await client.sends(ON_1)
    await answers(s1, "BEGIN", status="T")
    await s1.gets(ON_1)
    await client.leaves()
    assert (s0.cancels, s1.cancels) == (0, 1)
    await s1.sends(error("57014"), ready("E"))
    await settle()
    assert s0.wire.closed
    assert s1.wire.closed
    await playbook.ends_lost()


async def test_a_cancel_that_comes_before_its_statement(playbook: Playbook) -> None:
    """The server has not read the statement yet, and cancels nothing: it is asked again, up to the end of patience."""
    client, s0, s1 = await begins(playbook)
    await joins(client, s0, ON_0)
    await client.sends(ON_1)
    await answers(s1, "BEGIN", status="T")
    await s1.gets(ON_1)
    await client.leaves()
    assert playbook.task is not None
    await asyncio.wait({playbook.task}, timeout=10)
    assert s1.wire.closed
    assert (s0.cancels, s1.cancels) == (0, len(PATIENCE))
    await playbook.ends_lost()


async def test_a_cancel_waits(playbook: Playbook) -> None:
    """One that comes between statements has no effect on the next."""
    client, s0, _ = await begins(playbook)
    await joins(client, s0, ON_0)
    playbook.live.cancel()
    assert s0.cancels == 0
    await client.sends(ON_0)
    await s0.gets(ON_0)
    playbook.live.cancel()
    await client.gets()
    assert s0.cancels == 1
    await s0.sends(error("57014"), ready("E"))
    await answers(s0, "ROLLBACK")
    await client.gets(error("57014"), ready("E"))
