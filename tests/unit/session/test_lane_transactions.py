"""The fast lane inside transactions, those of a batch too: transcripts. Each begins with plans and both shards open."""

import pytest

from tests.support.messages import (
    BOUND,
    CLOSED,
    PARSED,
    SYNC,
    Said,
    bind,
    close,
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
from tests.support.playbook import Client, FakeShard, Playbook, settle
from tests.unit.session.lane import BEGIN, BEGUN, BY_KEY, KEY_0, KEY_1, TAIL, answer, text, warm


async def begin(client: Client) -> None:
    await client.sends(query("BEGIN"))
    await client.gets(complete("BEGIN"), ready("T"))
    assert client.writes


async def rolled_back(client: Client, *shards: FakeShard) -> None:
    for shard in shards:
        await shard.gets(query("ROLLBACK"))
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets()
    await client.sends(query("ROLLBACK"))
    await client.gets(complete("ROLLBACK"), ready("I"))


async def committed(client: Client, *shards: FakeShard) -> None:
    for word in ("SET CONSTRAINTS ALL IMMEDIATE", "COMMIT"):
        for shard in shards:
            await shard.gets(query(word))
            await shard.sends(complete(word), ready("I" if word == "COMMIT" else "T"))
    await client.gets(ready("I"))


async def learn(playbook: Playbook, sql: str) -> tuple[Client, FakeShard, FakeShard]:
    """As `warm`, with another statement "b", prepared on both shards."""
    client, s0, s1 = await warm(playbook)
    await client.sends(parse("b", sql), SYNC)
    await s0.gets(parse("b", sql), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(PARSED, ready("I"))
    for shard, key in ((s0, KEY_0), (s1, KEY_1)):
        await client.sends(bind("", "b", key), *TAIL)
        await settle()
        first = (parse("b", sql),) if shard is s1 else ()
        await shard.gets(*first, bind("", "b", key), *TAIL)
        await shard.sends(*([PARSED] if first else []), BOUND, *answer())
        await client.gets(BOUND, *answer())
    for peer in (client, s0, s1):
        assert peer.writes
    return client, s0, s1


async def test_a_transaction(playbook: Playbook) -> None:
    """A shard joins in passing: BEGIN and the statement in one write."""
    client, s0, s1 = await warm(playbook)
    await begin(client)
    await client.sends(bind("", "a", KEY_1), *TAIL)
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    assert s1.writes == 1
    await s1.sends(*BEGUN, BOUND, *answer(status="T"))
    await client.gets(BOUND, *answer(status="T"))
    await client.sends(query(text(KEY_1)))
    await s1.gets(query(text(KEY_1)))
    await s1.sends(*answer(status="T"))
    await client.gets(*answer(status="T"))
    await client.sends(query("COMMIT"))
    await s1.gets(query("COMMIT"))
    await s1.sends(complete("COMMIT"), ready("I"))
    await client.gets(complete("COMMIT"), ready("I"))
    await s0.gets()


async def test_an_error_in_a_transaction(playbook: Playbook) -> None:
    """Later turns have failed, too, whatever their shards have answered: each has its own Sync, and its own 25P02."""
    client, s0, s1 = await warm(playbook)
    await begin(client)
    await client.sends(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL, query(text(KEY_0)))
    await s0.gets(*BEGIN, bind("", "a", KEY_0), *TAIL, query(text(KEY_0)))
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer(status="T"))
    await client.gets()
    await s0.sends(*BEGUN, BOUND, columns("v"), error("22012"), ready("E"))
    await client.gets(BOUND, columns("v"), error("22012"), ready("E"), error("25P02"), ready("E"))
    await s0.sends(error("25P02"), ready("E"))
    await client.gets(error("25P02"), ready("E"))
    await rolled_back(client, s0, s1)


async def test_an_error_in_a_batch(playbook: Playbook) -> None:
    """No Sync in between: the client skips to it, and reads nothing of the later turns."""
    client, s0, s1 = await warm(playbook)
    one, two = (describe("P"), execute()), TAIL
    await client.sends(bind("", "a", KEY_0), *one, bind("", "a", KEY_1), *one, bind("", "a", KEY_0), *two)
    await s0.gets(*BEGIN, *(bind("", "a", KEY_0), *TAIL) * 2)
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer(status="T"))
    await s0.sends(*BEGUN, error("22P02"), ready("E"), error("25P02"), ready("E"))
    for shard in (s0, s1):
        await client.gets(*([error("22P02")] if shard is s0 else []))
        await shard.gets(query("ROLLBACK"))
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(ready("I"))


async def test_a_batch(playbook: Playbook) -> None:
    """Two statements between Syncs are one transaction, which the coroutine commits."""
    client, s0, s1 = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL[:-1], bind("", "a", KEY_1), *TAIL)
    await s0.gets(*BEGIN, bind("", "a", KEY_0), *TAIL)
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer("2", "T"))
    await s0.sends(*BEGUN, BOUND, *answer("1", "T"))
    await client.gets(BOUND, *answer("1")[:-1], BOUND, *answer("2")[:-1])
    await committed(client, s0, s1)


async def test_a_lost_shard_in_a_transaction(playbook: Playbook) -> None:
    client, s0, s1 = await warm(playbook)
    await begin(client)
    await client.sends(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL)
    await s0.gets(*BEGIN, bind("", "a", KEY_0), *TAIL)
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer("2", "T"))
    await s0.leaves()
    await client.gets(error("08006"), ready("E"), error("25P02"), ready("E"))
    await rolled_back(client, s1)


@pytest.mark.parametrize("end", [(SYNC,), (close("P"), SYNC)])
async def test_the_unnamed_portal_ends_with_its_transaction(playbook: Playbook, end: tuple[Said, ...]) -> None:
    """Or by Close; what the lane has run by it cannot be executed again."""
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), execute())
    await s0.gets(*BEGIN, bind("", "a", KEY_0), execute(), SYNC)
    await s0.sends(*BEGUN, BOUND, row("x"), complete("SELECT 1"), ready("T"))
    await client.gets(BOUND, row("x"), complete("SELECT 1"))
    await client.sends(*end)
    await s0.gets(query("COMMIT"))
    await s0.sends(complete("COMMIT"), ready("I"))
    await client.gets(*[CLOSED] * (len(end) - 1), ready("I"))
    await client.sends(execute(), SYNC)
    await client.gets(error("34000"), ready("I"))


OTHER = "SELECT v FROM t WHERE v = 'y' AND id = $1"
UNIT = parse("", BY_KEY), bind("", "", KEY_0), describe("P"), execute()
UNIT_OF_OTHER = parse("", OTHER), bind("", "", KEY_0), describe("P"), execute()


async def warm_both(client: Client, s0: FakeShard) -> None:
    """Plans of BY_KEY and OTHER as the unnamed statement."""
    for unit in (UNIT, UNIT_OF_OTHER, UNIT_OF_OTHER):
        await client.sends(*unit, SYNC)
        await s0.gets(*unit, SYNC)
        await s0.sends(PARSED, BOUND, *answer())
        await client.gets(PARSED, BOUND, *answer())


async def test_a_skipped_parse_leaves_the_unnamed_statement(playbook: Playbook) -> None:
    """One that an error comes before, up to Sync."""
    client, s0, _ = await warm(playbook)
    await warm_both(client, s0)
    await client.sends(*UNIT, *UNIT_OF_OTHER, SYNC)
    await s0.gets(*BEGIN, *UNIT, SYNC, *UNIT_OF_OTHER, SYNC)
    await s0.sends(*BEGUN, PARSED, BOUND, error("22012"), ready("E"), error("25P02"), ready("E"))
    await s0.gets(query("ROLLBACK"))
    await s0.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(PARSED, BOUND, error("22012"), ready("I"))
    await client.sends(bind("", "", KEY_0), *TAIL)
    await s0.gets(*UNIT, SYNC)
    await s0.sends(PARSED, BOUND, *answer())
    await client.gets(BOUND, *answer())


async def test_a_parse_in_a_failed_transaction_drops_the_unnamed_statement(playbook: Playbook) -> None:
    client, s0, _ = await warm(playbook)
    await warm_both(client, s0)
    await begin(client)
    await client.sends(*UNIT, SYNC, *UNIT_OF_OTHER, SYNC)
    await s0.gets(*BEGIN, *UNIT, SYNC, *UNIT_OF_OTHER, SYNC)
    await s0.sends(*BEGUN, PARSED, BOUND, error("22012"), ready("E"), error("25P02"), ready("E"))
    await s0.gets(query("ROLLBACK"))
    await s0.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(PARSED, BOUND, error("22012"), ready("E"), error("25P02"), ready("E"))
    await client.sends(bind("", "", KEY_0), *TAIL)
    await client.gets(error("26000"), ready("E"))


async def test_a_shard_lost_in_a_batch_after_an_error(playbook: Playbook) -> None:
    """The error came first and is the answer; up to Sync nothing else is."""
    client, s0, s1 = await warm(playbook)
    one = describe("P"), execute()
    await client.sends(bind("", "a", KEY_0), *one, bind("", "a", KEY_1), *one, SYNC)
    await s0.gets(*BEGIN, bind("", "a", KEY_0), *TAIL)
    await s1.gets(*BEGIN, bind("", "a", KEY_1), *TAIL)
    await s0.sends(*BEGUN, BOUND, error("22012"), ready("E"))
    await client.gets(BOUND, error("22012"))
    await s1.leaves()
    await s0.gets(query("ROLLBACK"))
    await s0.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(ready("I"))


INSERT = "INSERT INTO t (id, v) VALUES ($1, 'x')"


async def test_inserts_of_a_batch_do_not_wait_for_each_other(playbook: Playbook) -> None:
    """What is for one shard leaves in one write, and so do the answers that come together."""
    client, s0, s1 = await learn(playbook, INSERT)
    one = describe("P"), execute()
    keys = (KEY_0, KEY_1, KEY_0, KEY_1)
    await client.sends(*(message for key in keys for message in (bind("", "b", key), *one)), SYNC)
    for shard, key in ((s0, KEY_0), (s1, KEY_1)):
        await shard.gets(*BEGIN, *(bind("", "b", key), *TAIL) * 2)
        assert shard.writes == 1
    for peer in (client, s0, s1):
        peer.cut = None
    await s1.sends(*BEGUN, *(BOUND, *answer("1", "T")) * 2)
    await client.gets()
    await s0.sends(*BEGUN, *(BOUND, *answer("0", "T")) * 2)
    await client.gets(*(BOUND, *answer("0")[:-1], BOUND, *answer("1")[:-1]) * 2)
    assert client.writes == 1
    await committed(client, s0, s1)


async def test_an_insert_that_fails_fails_those_after_it(playbook: Playbook) -> None:
    client, s0, s1 = await learn(playbook, INSERT)
    one = describe("P"), execute()
    await client.sends(bind("", "b", KEY_0), *one, bind("", "b", KEY_1), *one, SYNC)
    await s0.gets(*BEGIN, bind("", "b", KEY_0), *TAIL)
    await s1.gets(*BEGIN, bind("", "b", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer("1", "T"))
    await s0.sends(*BEGUN, BOUND, columns("v"), error("23505"), ready("E"))
    await client.gets(BOUND, columns("v"), error("23505"))
    for shard in (s0, s1):
        await shard.gets(query("ROLLBACK"))
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(ready("I"))


async def test_inserts_that_commit_alone_do_wait(playbook: Playbook) -> None:
    """Or else others could see the second without the first."""
    client, s0, s1 = await learn(playbook, INSERT)
    await client.sends(bind("", "b", KEY_0), *TAIL, bind("", "b", KEY_1), *TAIL)
    await s0.gets(bind("", "b", KEY_0), *TAIL)
    await s1.gets()
    await s0.sends(BOUND, *answer("0"))
    await s1.gets(bind("", "b", KEY_1), *TAIL)
    await s1.sends(BOUND, *answer("1"))
    await client.gets(BOUND, *answer("0"), BOUND, *answer("1"))


@pytest.mark.parametrize(
    "sql",
    [
        f"{INSERT} ON CONFLICT DO NOTHING",
        "UPDATE t SET v = 'x' WHERE id = $1",
        "SELECT v FROM t WHERE id = $1 FOR UPDATE",
    ],
)
async def test_what_locks_rows_waits(playbook: Playbook, sql: str) -> None:
    """Two sessions that lock the same rows in the same order must not wait for each other crosswise."""
    client, s0, s1 = await learn(playbook, sql)
    one = describe("P"), execute()
    await client.sends(bind("", "b", KEY_0), *one, bind("", "b", KEY_1), *one, SYNC)
    await s0.gets(*BEGIN, bind("", "b", KEY_0), *TAIL)
    await s1.gets()
    await s0.sends(*BEGUN, BOUND, *answer("0", "T"))
    await client.gets(BOUND, *answer("0")[:-1])
    await s1.gets(*BEGIN, bind("", "b", KEY_1), *TAIL)
    await s1.sends(*BEGUN, BOUND, *answer("1", "T"))
    await client.gets(BOUND, *answer("1")[:-1])
    await committed(client, s0, s1)
