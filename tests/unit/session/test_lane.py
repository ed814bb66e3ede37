"""The fast lane, statements by themselves: transcripts. Each begins after statements that have made the plans."""

import pytest

from shardproxy.net.stream import READ_AHEAD
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
    fatal,
    joined,
    notice,
    parse,
    query,
    ready,
    row,
    setting,
)
from tests.support.playbook import Client, FakeShard, Playbook, settle
from tests.unit.session.lane import BEGIN, BEGUN, BY_KEY, KEY_0, KEY_1, TAIL, answer, text, warm


async def once(client: Client, shard: FakeShard, sent: list[Said], got: list[Said], answers: list[Said]) -> None:
    """One statement of one shard: one write each way."""
    await client.sends(*sent)
    await shard.gets(*got)
    assert shard.writes == 1
    for peer in (client, shard):
        peer.cut = None
    await shard.sends(*answers)
    await client.gets(*(one for one in answers if sent[0].data[:1] != b"B" or one is not PARSED))
    assert client.writes == 1


async def test_prepared(playbook: Playbook) -> None:
    client, _, s1 = await warm(playbook)
    for _ in range(2):
        sent, got = [bind("", "a", KEY_1), *TAIL], [bind("", "a", KEY_1), *TAIL]
        await once(client, s1, sent, got, [BOUND, *answer()])


async def test_unnamed(playbook: Playbook) -> None:
    client, _, s1 = await warm(playbook)
    batch = [parse("", BY_KEY), bind("", "", KEY_1), *TAIL]
    for _ in range(2):
        await once(client, s1, batch, batch, [PARSED, BOUND, *answer()])


async def test_simple(playbook: Playbook) -> None:
    """A text never seen before, of the shape of one seen."""
    client, _, s1 = await warm(playbook)
    await once(
        client, s1, [query("SELECT v FROM t WHERE id = 3")], [query("SELECT v FROM t WHERE id = 3")], [*answer()]
    )


async def test_answers_of_two_shards_in_the_wrong_order(playbook: Playbook) -> None:
    """All are sent at once; the client reads them in its own order, whole."""
    client, s0, s1 = await warm(playbook)
    await client.sends(
        bind("", "a", KEY_0),
        *TAIL,
        bind("", "a", KEY_1),
        *TAIL,
        bind("", "a", KEY_0),
        *TAIL,
        bind("", "a", KEY_1),
        *TAIL,
    )
    await s0.gets(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_0), *TAIL)
    await s1.gets(bind("", "a", KEY_1), *TAIL, bind("", "a", KEY_1), *TAIL)
    await s1.sends(BOUND, *answer("2"), BOUND, *answer("4"))
    await client.gets()
    await s0.sends(BOUND, *answer("1"))
    await client.gets(BOUND, *answer("1"), BOUND, *answer("2"))
    await s0.sends(BOUND, *answer("3"))
    await client.gets(BOUND, *answer("3"), BOUND, *answer("4"))


async def test_queries_of_two_shards_in_the_wrong_order(playbook: Playbook) -> None:
    client, s0, s1 = await warm(playbook)
    await client.sends(query(text(KEY_0)), query(text(KEY_1)))
    await s0.gets(query(text(KEY_0)))
    await s1.gets(query(text(KEY_1)))
    await s1.sends(*answer("2"))
    await client.gets()
    await s0.sends(*answer("1"))
    await client.gets(*answer("1"), *answer("2"))


async def test_what_is_not_the_lanes_waits_for_it(playbook: Playbook) -> None:
    """A statement of all shards after one of the lane's: its answer comes after."""
    client, s0, s1 = await warm(playbook)
    await client.sends(query(text(KEY_0)), query("SELECT v FROM t"))
    await s0.gets(query(text(KEY_0)))
    await s1.gets()
    await s0.sends(*answer("1"))
    await client.gets(*answer("1"))
    for shard in (s0, s1):
        await shard.gets(query("SELECT v FROM t"))
        await shard.sends(columns("v"), complete("SELECT 0"), ready("I"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))


async def test_an_error_outside_a_transaction(playbook: Playbook) -> None:
    """Statements of their own: the next ones go on."""
    client, s0, s1 = await warm(playbook)
    await client.sends(
        bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL, query(text(KEY_0)), bind("", "a", KEY_0), *TAIL
    )
    await s0.gets(bind("", "a", KEY_0), *TAIL, query(text(KEY_0)), bind("", "a", KEY_0), *TAIL)
    await s1.gets(bind("", "a", KEY_1), *TAIL)
    await s0.sends(error("22012"), ready("I"), error("22003"), ready("I"), BOUND, *answer("4"))
    await client.gets(error("22012"), ready("I"))
    await s1.sends(BOUND, *answer("2"))
    await client.gets(BOUND, *answer("2"), error("22003"), ready("I"), BOUND, *answer("4"))


async def test_a_lost_shard(playbook: Playbook) -> None:
    """In the middle of its answer: what came stays, the next turns go on."""
    client, s0, s1 = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await s1.gets(bind("", "a", KEY_1), *TAIL)
    await s1.sends(BOUND, *answer("2"))
    await s0.sends(BOUND, columns("v"))
    await client.gets(BOUND, columns("v"))
    await s0.leaves()
    await client.gets(error("08006", 'connection to shard "s0" was lost'), ready("I"), BOUND, *answer("2"))


async def test_a_lost_shard_whose_turn_has_not_come(playbook: Playbook) -> None:
    client, s0, s1 = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL, bind("", "a", KEY_0), *TAIL)
    await s0.gets(*(bind("", "a", KEY_0), *TAIL) * 2)
    await s1.gets(bind("", "a", KEY_1), *TAIL)
    await s1.leaves()
    await client.gets()
    await s0.sends(BOUND, *answer("1"), BOUND, *answer("3"))
    lost = error("08006", 'connection to shard "s1" was lost')
    await client.gets(BOUND, *answer("1"), lost, ready("I"), BOUND, *answer("3"))


async def test_an_error_that_ends_the_connection(playbook: Playbook) -> None:
    """The server's reason is told."""
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await s0.sends(fatal("57P01"))
    detail = "FATAL:  57P01: refused"
    await client.gets(error("08006", 'connection to shard "s0" was lost', D=detail), ready("I"))


@pytest.mark.parametrize("statements", [1, 3])
async def test_an_error_that_ends_a_connection_whose_turn_has_not_come(playbook: Playbook, statements: int) -> None:
    """The connection is lost before its answer is read: nothing more will come, also for the statements after it."""
    client, s0, s1 = await warm(playbook)
    second = [bind("", "a", KEY_1), *TAIL] * statements
    await client.sends(bind("", "a", KEY_0), *TAIL, *second)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await s1.gets(*[bind("", "a", KEY_1), *TAIL] * statements)
    await s1.sends(fatal("57P01"))
    await s1.leaves()
    await client.gets()
    await s0.sends(BOUND, *answer("1"))
    await client.gets(BOUND, *answer("1"), *[error("08006"), ready("I")] * statements)


@pytest.mark.parametrize("answered", [0, 1, 2, 3, 4])
async def test_a_message_that_has_no_place(playbook: Playbook, answered: int) -> None:
    """The connection is given up; nothing of the message reaches the client."""
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    known = (BOUND, *answer())[:answered]
    await s0.sends(*known, PARSED)
    await client.gets(*known, error("08006"), ready("I"))
    assert s0.wire.closed


async def test_notices_and_settings_in_between(playbook: Playbook) -> None:
    """In their place; the home shard's settings are the client's."""
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    said = notice("1"), BOUND, notice("2"), columns("v"), setting("TimeZone", "CET"), row("a")
    last = notice("3"), row("b"), complete("SELECT 2"), notice("4"), ready("I")
    await s0.sends(*said, *last)
    await client.gets(*said, *last)


async def test_a_row_larger_than_what_is_read_ahead(playbook: Playbook) -> None:
    """Of the shard whose turn is the second: it is held back, and goes on when its turn has come."""
    client, s0, s1 = await warm(playbook)
    s1.cut = None
    await client.sends(bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await s1.gets(bind("", "a", KEY_1), *TAIL)
    large = columns("v"), row("x" * (3 * READ_AHEAD)), row("y"), complete("SELECT 2"), ready("I")
    await s1.sends(BOUND, *large)
    assert s1.held_back()
    await client.gets()
    await s0.sends(BOUND, *answer("1"))
    await client.gets(BOUND, *answer("1"), BOUND, *large)
    assert not s1.held_back()


async def test_a_client_that_reads_slowly(playbook: Playbook) -> None:
    client, s0, _ = await warm(playbook)
    s0.cut = None
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    client.stops_reading()
    rows = [row("x" * 1000)] * 10_000
    await s0.sends(BOUND, columns("v"), *rows, complete("SELECT 10000"), ready("I"))
    assert s0.held_back()
    assert client.wire.unread < 4 * READ_AHEAD
    await client.reads_on()
    await client.gets(BOUND, columns("v"), *rows, complete("SELECT 10000"), ready("I"))


async def test_every_cut(playbook: Playbook) -> None:
    """Of the client's bytes: the same messages each way, wherever the cut is but between Execute and Sync."""
    client, s0, s1 = await warm(playbook)
    sent = joined([bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL])
    half = len(sent) // 2
    for cut in range(1, len(sent)):
        if 0 <= half - cut <= len(SYNC.data) or 0 < len(sent) - cut <= len(SYNC.data):
            continue
        await client.sends_bytes(sent, cut)
        for shard, key in ((s0, KEY_0), (s1, KEY_1)):
            await shard.gets(bind("", "a", key), *TAIL)
            await shard.sends(BOUND, *answer(key))
        await client.gets(BOUND, *answer(KEY_0), BOUND, *answer(KEY_1))


@pytest.mark.parametrize("missing", range(1, 6))
async def test_a_sync_that_comes_later(playbook: Playbook, missing: int) -> None:
    """Execute may not be the last of its transaction: one begins, in the same write, and Sync commits it."""
    client, s0, _ = await warm(playbook)
    sent = joined([bind("", "a", KEY_0), *TAIL])
    await client.sends_bytes(sent[:-missing])
    await s0.gets(*BEGIN, bind("", "a", KEY_0), *TAIL)
    assert s0.writes == 1
    await s0.sends(*BEGUN, BOUND, *answer(status="T"))
    await client.gets(BOUND, *answer()[:-1])
    await client.sends_bytes(sent[-missing:])
    await s0.gets(query("COMMIT"))
    await s0.sends(complete("COMMIT"), ready("I"))
    await client.gets(ready("I"))


async def test_a_parse_that_fails(playbook: Playbook) -> None:
    """The unnamed statement is none then."""
    client, s0, _ = await warm(playbook)
    batch = parse("", BY_KEY), bind("", "", KEY_0), *TAIL
    await client.sends(*batch)
    await s0.gets(*batch)
    await s0.sends(PARSED, BOUND, *answer())
    await client.gets(PARSED, BOUND, *answer())
    await client.sends(*batch)
    await s0.gets(*batch)
    await s0.sends(error("42703"), ready("I"))
    await client.gets(error("42703"), ready("I"))
    await client.sends(bind("", "", KEY_0), *TAIL)
    await client.gets(error("26000"), ready("I"))


async def test_a_cancel(playbook: Playbook) -> None:
    """It reaches the shards that work; the statement after it is not cancelled."""
    client, s0, s1 = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    playbook.live.cancel()
    await settle()
    assert (s0.cancels, s1.cancels) == (1, 0)
    await s0.sends(error("57014"), ready("I"))
    await client.gets(error("57014"), ready("I"))
    for _ in range(2):
        await client.sends(bind("", "a", KEY_0), *TAIL)
        await s0.gets(bind("", "a", KEY_0), *TAIL)
        await s0.sends(BOUND, *answer())
        await client.gets(BOUND, *answer())


async def test_a_client_that_leaves(playbook: Playbook) -> None:
    """What runs for it is cancelled, and its connections are closed."""
    client, s0, s1 = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await client.leaves()
    assert (s0.cancels, s1.cancels) == (1, 0)
    await s0.sends(error("57014"), ready("I"))
    await settle()
    assert s0.wire.closed
    await playbook.ends_lost()


async def test_a_drain_lets_statements_end(playbook: Playbook) -> None:
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    playbook.live.drain()
    await client.gets()
    await s0.sends(BOUND, *answer())
    await client.gets(BOUND, *answer())
    await playbook.ends_by("57P01")


async def test_a_statement_of_all_shards_in_the_middle(playbook: Playbook) -> None:
    """Lane, coroutine, lane: in the client's order."""
    client, s0, s1 = await warm(playbook)
    everything = query("SELECT v FROM t")
    await client.sends(query(text(KEY_1)), everything, query(text(KEY_0)))
    await s1.gets(query(text(KEY_1)))
    await s0.gets()
    await s1.sends(*answer("1"))
    await client.gets(*answer("1"))
    for shard in (s0, s1):
        await shard.gets(everything)
        await shard.sends(columns("v"), complete("SELECT 0"), ready("I"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))
    await s0.gets(query(text(KEY_0)))
    await s0.sends(*answer("3"))
    await client.gets(*answer("3"))


async def test_a_close_that_waits_goes_first(playbook: Playbook) -> None:
    client, s0, _ = await warm(playbook)
    await client.sends(close("S", "a"), SYNC)
    await client.gets(CLOSED, ready("I"))
    batch = parse("", BY_KEY), bind("", "", KEY_0), *TAIL
    await client.sends(*batch)
    await s0.gets(close("S", "a"), *batch)
    await s0.sends(CLOSED, PARSED, BOUND, *answer())
    await client.gets(PARSED, BOUND, *answer())


async def test_what_is_skipped_after_an_error(playbook: Playbook) -> None:
    """Everything up to Sync, a Query and a message in pieces among it; then all is as ever."""
    client, s0, _ = await warm(playbook)
    await client.sends(bind("", "nobody"), *[bind("", "a", KEY_0), describe("P"), execute()] * 3, query("SELECT 1"))
    await client.gets(error("26000"))
    sent = joined([*[bind("", "a", KEY_0), execute()] * 3, SYNC])
    for piece in (sent[:1], sent[1:7], sent[7:-1]):
        await client.sends_bytes(piece)
        await client.gets()
    await client.sends_bytes(sent[-1:])
    await client.gets(ready("I"))
    await client.sends(bind("", "a", KEY_0), *TAIL)
    await s0.gets(bind("", "a", KEY_0), *TAIL)
    await s0.sends(BOUND, *answer())
    await client.gets(BOUND, *answer())
