"""Shards that are lost between two answers: transcripts."""

from tests.support.messages import (
    BOUND,
    FLUSH,
    PARSED,
    SYNC,
    bind,
    columns,
    complete,
    describe,
    error,
    execute,
    parameters,
    parse,
    query,
    ready,
)
from tests.support.playbook import AT, Playbook

BY_KEY = "SELECT v FROM t WHERE id = $1"
KEY_0, KEY_1 = AT


async def test_no_statement_runs_without_what_the_session_held(playbook: Playbook) -> None:
    """LISTEN is lost while a statement runs on another shard: the next one would go on with a new connection."""
    client, s0, s1 = await playbook.session()
    await client.sends(query("LISTEN news"))
    await s0.gets(query("LISTEN news"))
    await s0.sends(complete("LISTEN"), ready("I"))
    await client.gets(complete("LISTEN"), ready("I"))
    both = [f"SELECT v FROM t WHERE id = {key}" for key in (KEY_1, KEY_0)]
    await client.sends(query(";".join(both)))
    await s1.gets(query("BEGIN"))
    await s1.sends(complete("BEGIN"), ready("T"))
    await s1.gets(query(both[0]))
    await s0.leaves()
    await s1.sends(columns("v"), complete("SELECT 0"), ready("T"))
    assert s0.connected == 1
    await client.gets(columns("v"), complete("SELECT 0"))
    await playbook.ends_by("08006")


async def test_what_comes_after_an_error_is_not_answered(playbook: Playbook) -> None:
    """A Parse fails that has waited for Flush, together with another: that one, too, is skipped."""
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), parse("b", f"{BY_KEY} AND v = 'x'"), FLUSH)
    await s0.gets(parse("a", BY_KEY), SYNC)
    await s0.sends(error("42883"), ready("I"))
    await client.gets(error("42883"))
    await client.sends(SYNC)
    await client.gets(ready("I"))


async def test_a_shard_that_is_lost_after_the_answer_to_flush(playbook: Playbook) -> None:
    """The client waits for nothing more, and must not read an error: asyncpg takes that for the end."""
    client, s0, _ = await playbook.session()
    await client.sends(parse("a", BY_KEY), describe("S", "a"), FLUSH)
    await s0.gets(parse("a", BY_KEY), describe("S", "a"), SYNC)
    await s0.sends(PARSED, parameters(23), columns("v"))
    await s0.leaves()
    await client.gets(PARSED, parameters(23), columns("v"))
    await client.sends(bind("", "a", KEY_0), execute(), SYNC)
    assert s0.connected == 2
    await s0.gets(parse("a", BY_KEY, 23), bind("", "a", KEY_0), execute(), SYNC)
    await s0.sends(PARSED, BOUND, complete("SELECT 0"), ready("I"))
    await client.gets(BOUND, complete("SELECT 0"), ready("I"))
