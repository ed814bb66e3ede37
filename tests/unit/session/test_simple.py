"""The simple query protocol: transcripts."""

from unittest import mock

import pytest

from shardproxy.wire import decode
from tests.support.messages import (
    CLOSED,
    EMPTY,
    PARSED,
    SYNC,
    close,
    columns,
    complete,
    error,
    notice,
    parse,
    query,
    ready,
    row,
    warning,
)  # fmt: skip
from tests.support.playbook import AT, Playbook
from tests.unit.session.copies import ends

ON_0, ON_1 = (f"SELECT v FROM t WHERE id = {key}" for key in AT)
ALL = "SELECT v FROM t"


async def test_one_statement(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(query(ON_1))
    await s1.gets(query(ON_1))
    await s1.sends(columns("v"), row("b"), complete("SELECT 1"), ready("I"))
    await client.gets(columns("v"), row("b"), complete("SELECT 1"), ready("I"))
    await s0.gets()


async def test_rows_of_all_shards(playbook: Playbook) -> None:
    """One RowDescription, rows as they come, one tag."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(ALL))
    await s0.gets(query(ALL))
    await s1.gets(query(ALL))
    await s1.sends(columns("v"), row("b"))
    await client.gets(columns("v"), row("b"))
    await s0.sends(columns("v"), row("a"), row("c"), complete("SELECT 2"), ready("I"))
    await client.gets(row("a"), row("c"))
    await s1.sends(complete("SELECT 1"), ready("I"))
    await client.gets(complete("SELECT 3"), ready("I"))


async def test_an_error_is_read_once(playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one shard and of several, and of a COPY."""
    reading = mock.Mock(wraps=decode.fields)
    monkeypatch.setattr(decode, "fields", reading)
    client, s0, s1 = await playbook.session()
    for sql, refusing in ((ON_1, s1), (ALL, s1), ("COPY t TO STDOUT", s1)):
        reading.reset_mock()
        await client.sends(query(sql))
        await s1.gets(query(sql))
        if sql != ON_1:
            await s0.gets(query(sql))
            await s0.sends(*([columns("v")] if sql == ALL else []), error("57014"), ready("I"))
        await refusing.sends(error("22012", "division by zero"), ready("I"))
        assert reading.call_count == (1 if sql == ON_1 else 2), sql
        client.inbox.clear()


async def test_columns_differ(playbook: Playbook) -> None:
    """The shard whose columns are others is read to its end: its rows do not answer the next statement."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(ALL))
    await s0.gets(query(ALL))
    await s1.gets(query(ALL))
    await s0.sends(columns("v"), row("a"), complete("SELECT 1"), ready("I"))
    await client.gets(columns("v"), row("a"))
    await s1.sends(columns("w"), row("b"))
    await client.gets()
    assert (s0.cancels, s1.cancels) == (0, 1)
    await s1.sends(row("c"), error("57014"), ready("I"))
    await client.gets(error("55000", "the shards give different columns"), ready("I"))
    await client.sends(query(ON_1))
    await s1.gets(query(ON_1))
    await s1.sends(columns("v"), complete("SELECT 0"), ready("I"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))


async def test_an_error_cancels_the_others(playbook: Playbook) -> None:
    """The first error is the answer, after all have ended; the cancelled shard's own error is not."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(ALL))
    await s0.gets(query(ALL))
    await s1.gets(query(ALL))
    await s1.sends(columns("v"), error("22012", "division by zero"))
    await client.gets(columns("v"))
    assert (s0.cancels, s1.cancels) == (1, 0)
    await s1.sends(ready("I"))
    await client.gets()
    await s0.sends(columns("v"), row("a"), error("57014"), ready("I"))
    await client.gets(error("22012", "division by zero", D='Reported by shard "s1".'), ready("I"))


async def test_an_error_of_one_shard_alone_is_forwarded_as_it_is(playbook: Playbook) -> None:
    client, _, s1 = await playbook.session()
    await client.sends(query(ON_1))
    await s1.gets(query(ON_1))
    refused = error("22012", "division by zero", W="while it ran", Z="a field of the future")
    await s1.sends(columns("v"), refused, ready("I"))
    await client.gets(columns("v"), refused, ready("I"))


async def test_nothing(playbook: Playbook) -> None:
    client, _, _ = await playbook.session()
    for text in ("", "  -- nothing\n", ";;"):
        await client.sends(query(text))
        await client.gets(EMPTY, ready("I"))


async def test_a_syntax_error_is_answered_in_a_shard_s_words(playbook: Playbook) -> None:
    """It is asked to parse the text, never to run it."""
    client, s0, _ = await playbook.session()
    await client.sends(query("SELEC 1"))
    await s0.gets(parse("shardproxy_1", "SELEC 1"), SYNC)
    await s0.sends(error("42601", "Syntaxfehler", P="1", H="hint"), ready("I"))
    await client.gets(error("42601", "Syntaxfehler", P="1", H="hint"), ready("I"))


async def test_what_a_shard_s_grammar_takes_is_not_run(playbook: Playbook) -> None:
    """A newer server may know more; it forgets the statement before what is sent to it next."""
    client, s0, _ = await playbook.session()
    await client.sends(query("SELEC 1"))
    await s0.gets(parse("shardproxy_1", "SELEC 1"), SYNC)
    await s0.sends(PARSED, ready("I"))
    await client.gets(error("42601", 'syntax error at or near "SELEC"', P="1"), ready("I"))
    await client.sends(query("SHOW work_mem"))
    await s0.gets(close("S", "shardproxy_1"), SYNC, query("SHOW work_mem"))
    await s0.sends(CLOSED, ready("I"), columns("work_mem"), row("4MB"), complete("SHOW"), ready("I"))
    await client.gets(columns("work_mem"), row("4MB"), complete("SHOW"), ready("I"))


async def test_a_syntax_error_while_no_shard_can_be_reached(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await s0.leaves()
    s0.refuses = s1.refuses = True
    await client.sends(query("SELEC 1"))
    await client.gets(error("42601", 'syntax error at or near "SELEC"', P="1"), ready("I"))


async def test_several_statements_are_one_transaction(playbook: Playbook) -> None:
    """Each shard joins when a statement first needs it; the last tag is sent after the commit."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(f"{ON_0}; {ON_1}"))
    await s0.gets(query("BEGIN"))
    await s1.gets()
    await s0.sends(complete("BEGIN"), ready("T"))
    await s0.gets(query(ON_0))
    await s0.sends(columns("v"), row("a"), complete("SELECT 1"), ready("T"))
    await client.gets(columns("v"), row("a"), complete("SELECT 1"))
    await s1.gets(query("BEGIN"))
    await s1.sends(complete("BEGIN"), ready("T"))
    await s1.gets(query(ON_1))
    await s1.sends(columns("v"), row("b"), complete("SELECT 1"), ready("T"))
    await client.gets(columns("v"), row("b"))
    for shard in (s0, s1):
        await shard.gets(query("SET CONSTRAINTS ALL IMMEDIATE"))
        await shard.sends(complete("SET CONSTRAINTS"), ready("T"))
    await s0.gets(query("COMMIT"))
    await s1.gets()
    await s0.sends(complete("COMMIT"), ready("I"))
    await s1.gets(query("COMMIT"))
    await client.gets()
    await s1.sends(complete("COMMIT"), ready("I"))
    await client.gets(complete("SELECT 1"), ready("I"))


async def test_an_error_in_the_second_statement(playbook: Playbook) -> None:
    """The first is rolled back, the third is not run; the position counts from the text's beginning."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(f"{ON_0}; {ON_1}; {ON_0}"))
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    await s0.gets(query(ON_0))
    await s0.sends(columns("v"), complete("SELECT 0"), ready("T"))
    await client.gets(columns("v"), complete("SELECT 0"))
    await s1.gets(query("BEGIN"))
    await s1.sends(complete("BEGIN"), ready("T"))
    await s1.gets(query(ON_1))
    await s1.sends(error("22003", P="8"), ready("E"))
    for shard in (s0, s1):
        await shard.gets(query("ROLLBACK"))
        await client.gets()
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(error("22003", P=str(len(f"{ON_0}; ") + 8)), ready("I"))


async def test_commit_among_statements(playbook: Playbook) -> None:
    """What follows the COMMIT is another transaction: its failure leaves what came before."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(f"{ON_0}; COMMIT; {ON_1}"))
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    await s0.gets(query(ON_0))
    await s0.sends(columns("v"), complete("SELECT 0"), ready("T"))
    await client.gets(columns("v"), complete("SELECT 0"), warning("25P01"))
    await s0.gets(query("COMMIT"))
    await s0.sends(complete("COMMIT"), ready("I"))
    await client.gets(complete("COMMIT"))
    await s1.gets(query("BEGIN"))
    await s1.sends(complete("BEGIN"), ready("T"))
    await s1.gets(query(ON_1))
    await s1.sends(error("22003"), ready("E"))
    await s1.gets(query("ROLLBACK"))
    await s1.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(error("22003"), ready("I"))
    await s0.gets()


async def test_begin_among_statements(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(query(f"BEGIN; {ON_0}"))
    await client.gets(complete("BEGIN"))
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    await s0.gets(query(ON_0))
    await s0.sends(columns("v"), complete("SELECT 0"), ready("T"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("T"))
    await client.sends(query("ROLLBACK"))
    await s0.gets(query("ROLLBACK"))
    await s0.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(complete("ROLLBACK"), ready("I"))


async def test_a_failed_commit_is_the_answer(playbook: Playbook) -> None:
    """A deferred constraint fails at the end of the Query: no tag of the last statement."""
    client, s0, _ = await playbook.session()
    await client.sends(query(f"{ON_0}; {ON_0}"))
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    for _ in range(2):
        await s0.gets(query(ON_0))
        await s0.sends(columns("v"), complete("SELECT 0"), ready("T"))
    await client.gets(columns("v"), complete("SELECT 0"), columns("v"))
    await s0.gets(query("COMMIT"))
    await s0.sends(error("23503"), ready("I"))
    await client.gets(error("23503"), ready("I"))


async def test_a_definition_has_its_locks_on_the_first_shard_first(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    truncate = query("TRUNCATE t")
    await client.sends(truncate)
    for shard in (s0, s1):
        await shard.gets(query("BEGIN"))
        await shard.sends(complete("BEGIN"), ready("T"))
    await s0.gets(truncate)
    await s1.gets()
    await s0.sends(complete("TRUNCATE TABLE"), ready("T"))
    await s1.gets(truncate)
    await s1.sends(complete("TRUNCATE TABLE"), ready("T"))
    await ends(s0, s1)
    await client.gets(complete("TRUNCATE TABLE"), ready("I"))


async def test_a_definition_that_the_first_shard_refuses_reaches_no_other(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    truncate = query("TRUNCATE t")
    await client.sends(truncate)
    for shard in (s0, s1):
        await shard.gets(query("BEGIN"))
        await shard.sends(complete("BEGIN"), ready("T"))
    await s0.gets(truncate)
    await s0.sends(error("55P03"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("55P03", D='Reported by shard "s0".'), ready("I"))


async def test_notices_of_several_shards_are_merged(playbook: Playbook) -> None:
    """Once what all say, as often as one says it, before that shard's rows."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(ALL))
    await s0.gets(query(ALL))
    await s1.gets(query(ALL))
    await s0.sends(notice("once"), notice("twice"), columns("v"), notice("mine"), row("a"))
    await client.gets(notice("once"), notice("twice"), columns("v"), notice("mine"), row("a"))
    await s1.sends(notice("once"), notice("twice"), notice("twice"), columns("v"), row("b"), notice("late"))
    await client.gets(notice("twice"), row("b"), notice("late"))
    await s0.sends(complete("SELECT 1"), ready("I"))
    await s1.sends(complete("SELECT 1"), ready("I"))
    await client.gets(complete("SELECT 2"), ready("I"))


async def test_notices_of_the_next_statement_are_others(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    for _ in range(2):
        await client.sends(query(ON_0))
        await s0.gets(query(ON_0))
        await s0.sends(notice("again"), columns("v"), complete("SELECT 0"), ready("I"))
        await client.gets(notice("again"), columns("v"), complete("SELECT 0"), ready("I"))


async def test_a_lost_shard_is_the_answer(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(query(ALL))
    await s0.gets(query(ALL))
    await s1.gets(query(ALL))
    await s0.sends(columns("v"), row("a"))
    await client.gets(columns("v"), row("a"))
    await s1.leaves()
    assert s0.cancels == 1
    await s0.sends(error("57014"), ready("I"))
    await client.gets(error("08006", 'connection to shard "s1" was lost'), ready("I"))
    await client.sends(query(ON_1))
    assert s1.connected == 2
    await s1.gets(query(ON_1))
    await s1.sends(columns("v"), complete("SELECT 0"), ready("I"))
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))


async def test_an_unreachable_shard(playbook: Playbook) -> None:
    client, _, s1 = await playbook.session()
    s1.refuses = True
    await client.sends(query(ON_1))
    await client.gets(error("08001", 'could not connect to shard "s1"'), ready("I"))
