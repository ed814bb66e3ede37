"""COPY FROM STDIN of a statement that has begun well a moment ago: the client is answered at once."""

import pytest

from shardproxy.session import copy_held, copy_look
from shardproxy.session import copy_in as copy_in_module
from shardproxy.transaction import ahead
from tests.support import playbook as playbook_module
from tests.support.messages import (
    BOUND,
    COPY_DONE,
    FLUSH,
    PARSED,
    SYNC,
    TERMINATE,
    Said,
    bind,
    columns,
    complete,
    copy_fail,
    copy_in,
    data,
    error,
    execute,
    parse,
    query,
    ready,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook
from tests.unit.session.copies import ends, withdrawn
from tests.unit.session.test_copy_guarded import (
    ALL,
    COPY,
    GUARDED,
    LOCK,
    PREPARE,
    ROW_0,
    ROW_1,
    begins_at_home,
    looked_up,
    started,
    verdict,
)

REFUSED = error("57014"), ready("E")


@pytest.fixture(autouse=True)
def slow_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine shall not make a COPY one that lasts, nor a look old."""
    monkeypatch.setattr(copy_look, "KEEP", 60.0)
    for module in (copy_in_module, copy_held, playbook_module):
        monkeypatch.setattr(module, "FLUSH_DELAY", 0.4)


async def warm(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A session that has run the COPY."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await s1.gets(*PREPARE, ALL, data(ROW_1), COPY_DONE)
    await s1.sends(PARSED, ready("I"), *verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"))
    await ends(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))
    assert s0.writes > 1
    assert s1.writes > 1
    return client, s0, s1


async def held(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A COPY whose client was answered, and of which no shard has heard."""
    client, s0, s1 = await warm(playbook)
    await client.sends(query(COPY))
    await client.gets(copy_in(0, 0))
    return client, s0, s1


CHECK = query("SET CONSTRAINTS ALL IMMEDIATE")
CHECKED = complete("SET CONSTRAINTS"), ready("T")
SKIPPED = error("25P02"), ready("E")


async def loads(shard: FakeShard, rows: str, tag: str, *asked: Said) -> None:
    """BEGIN, guard, COPY, data and CopyDone come in one write, and what the commit will ask of several shards."""
    await shard.gets(ALL, *([data(rows)] if rows else []), COPY_DONE, *asked)
    assert shard.writes == 1
    await shard.sends(*verdict(), copy_in(0, 0), complete(tag), ready("T"), *(CHECKED if asked else ()))


WHOLE = query(f"{LOCK}; EXECUTE shardproxy_1('f')\n;\n{COPY}")
"""Guard and COPY of a shard that is alone in getting rows: a transaction of its own, which the guard can fail."""

_, *WELL = verdict()


async def loads_alone(shard: FakeShard, rows: str, tag: str) -> None:
    """Guard, COPY, data and CopyDone come in one write, and are committed."""
    await shard.gets(WHOLE, *([data(rows)] if rows else []), COPY_DONE)
    assert shard.writes == 1
    await shard.sends(*WELL, copy_in(0, 0), complete(tag), ready("I"))


async def commits(*shards: FakeShard) -> None:
    """Their constraints have been checked."""
    for shard in shards:
        await shard.gets(query("COMMIT"))
        await shard.sends(complete("COMMIT"), ready("I"))


async def test_a_row(playbook: Playbook) -> None:
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1), COPY_DONE)
    await loads_alone(s1, ROW_1, "COPY 1")
    await client.gets(complete("COPY 1"), ready("I"))
    await s0.gets()


async def test_a_row_that_is_refused(playbook: Playbook) -> None:
    """There is nothing to roll back, and the next COPY is well."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0), COPY_DONE)
    await s0.gets(WHOLE, data(ROW_0), COPY_DONE)
    await s0.sends(*WELL, copy_in(0, 0), error("22P02", W="COPY t, line 1"), ready("I"))
    await client.gets(error("22P02", W="COPY t, line 1"), ready("I"))
    await client.sends(query(COPY))
    await client.gets(copy_in(0, 0))
    await client.sends(data(ROW_1), COPY_DONE)
    await loads_alone(s1, ROW_1, "COPY 1")
    await client.gets(complete("COPY 1"), ready("I"))


async def test_a_row_for_a_table_that_has_changed(playbook: Playbook) -> None:
    """The guard has failed, so that nothing after it was done."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1), COPY_DONE)
    await s1.gets(WHOLE, data(ROW_1), COPY_DONE)
    await s1.sends(complete("LOCK TABLE"), error("22P02"), ready("I"))
    await looked_up(s0, s1)
    await begins_at_home(s0)
    await withdrawn(s0)
    await loads_late(s1, ROW_1)
    await ends(s1)
    await client.gets(complete("COPY 1"), ready("I"))


async def test_the_shard_of_a_row_is_lost(playbook: Playbook) -> None:
    """It may have committed."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1), COPY_DONE)
    await s1.gets(WHOLE, data(ROW_1), COPY_DONE)
    await s1.leaves()
    await client.gets(error("08007"), ready("I"))
    await s0.gets()


async def test_rows_of_both_shards(playbook: Playbook) -> None:
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0 + ROW_1), FLUSH, data(ROW_1), SYNC, COPY_DONE)
    await loads(s0, ROW_0, "COPY 1", CHECK)
    await loads(s1, ROW_1 * 2, "COPY 2", CHECK)
    await commits(s0, s1)
    await client.gets(complete("COPY 3"), ready("I"))


async def test_the_lock_of_the_first_shard_comes_before_the_others(playbook: Playbook) -> None:
    """Sessions that all do so do not wait for each other crosswise."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1 + ROW_0), COPY_DONE)
    await s0.gets(ALL, data(ROW_0), COPY_DONE, CHECK)
    await s1.gets()
    await s0.sends(*verdict(), copy_in(0, 0))
    await loads(s1, ROW_1, "COPY 1", CHECK)
    await s0.sends(complete("COPY 1"), ready("T"), *CHECKED)
    await commits(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))


async def test_no_row(playbook: Playbook) -> None:
    client, s0, s1 = await held(playbook)
    await client.sends(COPY_DONE)
    await loads_alone(s0, "", "COPY 0")
    await client.gets(complete("COPY 0"), ready("I"))
    await s1.gets()


async def test_a_row_is_refused(playbook: Playbook) -> None:
    """The earliest line of the client's is the answer; nothing is committed."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0 + ROW_1 + ROW_0), COPY_DONE)
    await s0.gets(ALL, data(ROW_0 * 2), COPY_DONE, CHECK)
    await s0.sends(*verdict(), copy_in(0, 0), error("23505", W="COPY t, line 2"), ready("E"), *SKIPPED)
    await s1.gets(ALL, data(ROW_1), COPY_DONE, CHECK)
    await s1.sends(*verdict(), copy_in(0, 0), error("22P02", W="COPY t, line 1"), ready("E"), *SKIPPED)
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("22P02", W="COPY t, line 2"), ready("I"))


async def test_a_constraint_is_refused(playbook: Playbook) -> None:
    """A deferred one, which is checked with the COPY, before any shard commits."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await loads(s0, ROW_0, "COPY 1", CHECK)
    await s1.gets(ALL, data(ROW_1), COPY_DONE, CHECK)
    refused = error("23503"), ready("E")
    await s1.sends(*verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"), *refused)
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("23503"), ready("I"))


async def test_the_commit_asks_again(playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are old are no use: a decision has to follow them in a limited time."""
    monkeypatch.setattr(ahead, "AGE", 0.0)
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await loads(s0, ROW_0, "COPY 1", CHECK)
    await loads(s1, ROW_1, "COPY 1", CHECK)
    await ends(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))


async def test_another_statement_of_the_query(playbook: Playbook) -> None:
    """What follows may mend what a deferred constraint would refuse: nothing is asked ahead."""
    client, s0, s1 = await warm(playbook)
    await client.sends(query(f"{COPY}; SELECT v FROM t WHERE id = {AT[0]}"))
    await client.gets(copy_in(0, 0))
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await loads(s0, ROW_0, "COPY 1")
    await loads(s1, ROW_1, "COPY 1")
    await client.gets(complete("COPY 2"))
    select = query(f"SELECT v FROM t WHERE id = {AT[0]}")
    await s0.gets(select)
    await s0.sends(columns("v"), complete("SELECT 0"), ready("T"))
    await ends(s0, s1)
    await client.gets(columns("v"), complete("SELECT 0"), ready("I"))


async def test_the_statement_is_refused(playbook: Playbook) -> None:
    """What has changed since is found after CopyInResponse."""
    client, s0, _ = await held(playbook)
    await client.sends(data(ROW_0), COPY_DONE)
    await s0.gets(WHOLE, data(ROW_0), COPY_DONE)
    await s0.sends(error("55P03"), ready("I"))
    await client.gets(error("55P03", D='Reported by shard "s0".'), ready("I"))


@pytest.mark.parametrize("changed", [0, 1])
async def test_the_table_has_changed(playbook: Playbook, changed: int) -> None:
    """On any shard: all is taken back, looked at anew, and done again with the rows that were held."""
    client, *shards = await held(playbook)
    s0, s1 = shards
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    begun = shards[: changed + 1]
    for shard, rows in zip(begun, (ROW_0, ROW_1), strict=False):
        await shard.gets(ALL, data(rows), COPY_DONE, CHECK)
        fingerprint = "g" if shard is shards[changed] else "f"
        await shard.sends(*verdict(fingerprint), copy_in(0, 0), complete("COPY 1"), ready("T"), *CHECKED)
    await ends(*begun, how="ROLLBACK")
    await looked_up(s0, s1)
    await begins_at_home(s0)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await loads_late(s1, ROW_1)
    await ends(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))


async def loads_late(shard: FakeShard, rows: str) -> None:
    await shard.gets(ALL, data(rows), COPY_DONE)
    await shard.sends(*verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"))


async def test_the_lock_is_refused(playbook: Playbook) -> None:
    """What the proxy's own LOCK TABLE meets is no error of the COPY's."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0), COPY_DONE)
    await s0.gets(WHOLE, data(ROW_0), COPY_DONE)
    await s0.sends(error("42P01"), ready("I"))
    await looked_up(s0, s1)
    await begins_at_home(s0)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 1"), ready("I"))


async def test_a_client_that_takes_its_time(playbook: Playbook) -> None:
    """The COPY begins on all shards, and goes on as any other."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0))
    await playbook.flushed()
    await begins_at_home(s0)
    await s0.gets(data(ROW_0))
    await s1.gets(ALL)
    await s1.sends(*verdict(), copy_in(0, 0))
    await client.sends(data(ROW_1), COPY_DONE)
    await s1.gets(data(ROW_1), COPY_DONE)
    await s0.gets(COPY_DONE)
    for shard in (s0, s1):
        await shard.sends(complete("COPY 1"), ready("T"))
    await ends(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))


async def test_many_rows(playbook: Playbook) -> None:
    """More than may be held: the COPY begins, and none of it is lost or sent twice."""
    client, s0, s1 = await held(playbook)
    many = ROW_0 * 30_000
    await client.sends(data(many), data(ROW_1))
    await begins_at_home(s0)
    await s1.gets(ALL, data(ROW_1))
    await s1.sends(*verdict(), copy_in(0, 0))
    await client.sends(data(ROW_0), COPY_DONE)
    await s1.gets(COPY_DONE)
    await s1.sends(complete("COPY 1"), ready("T"))
    assert s0.inbox.pop() == COPY_DONE
    assert b"".join(message.data[5:] for message in s0.inbox) == (many + ROW_0).encode()
    s0.inbox.clear()
    await s0.sends(complete("COPY 30001"), ready("T"))
    await ends(s0, s1)
    await client.gets(complete("COPY 30002"), ready("I"))


async def test_the_client_goes_on_while_the_copy_begins(playbook: Playbook) -> None:
    """A lock may take long: what comes is held, up to a bound, and then the client waits."""
    client, s0, s1 = await held(playbook)
    many = ROW_0 * 50_000
    await client.sends(data(many))
    await s0.gets(GUARDED, query(COPY))
    for _ in range(8):
        await client.sends(data(many))
    assert client.held_back()
    await s0.sends(*verdict(), ready("T"), copy_in(0, 0))
    await s1.gets(ALL)
    await s1.sends(*verdict(), copy_in(0, 0))
    assert not client.held_back()
    await client.sends(COPY_DONE)
    await withdrawn(s1)
    assert s0.inbox.pop() == COPY_DONE
    assert b"".join(message.data[5:] for message in s0.inbox) == (many * 9).encode()
    s0.inbox.clear()
    await s0.sends(complete("COPY 450000"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 450000"), ready("I"))


async def test_copy_fail(playbook: Playbook) -> None:
    """As on one server, which would have looked at the rows by now."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1), copy_fail("no more"))
    await begins_at_home(s0)
    await s0.gets(copy_fail("no more"))
    await s0.sends(*REFUSED)
    await s1.gets(ALL, data(ROW_1), copy_fail("no more"))
    await s1.sends(*verdict(), copy_in(0, 0), *REFUSED)
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("57014", "COPY from stdin failed: no more"), ready("I"))


async def test_the_client_leaves(playbook: Playbook) -> None:
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0))
    await client.leaves()
    await playbook.ends_lost()
    await s0.gets(TERMINATE)
    await s1.gets(TERMINATE)


async def test_a_query_inside(playbook: Playbook) -> None:
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_1), query("SELECT 1"))
    await begins_at_home(s0)
    await s0.gets(copy_fail("unexpected message"))
    await s0.sends(*REFUSED)
    await s1.gets(ALL, data(ROW_1), copy_fail("unexpected message"))
    await s1.sends(*verdict(), copy_in(0, 0), *REFUSED)
    await client.gets(error("08P01", W="COPY t, line 2"))
    await playbook.ends_by("08P01")
    await s0.gets(TERMINATE)
    await s1.gets(TERMINATE)


async def test_a_shard_is_lost(playbook: Playbook) -> None:
    """Whether its part came through does not matter: it is not committed."""
    client, s0, s1 = await held(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await s0.gets(ALL, data(ROW_0), COPY_DONE, CHECK)
    await s0.sends(*verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"), *CHECKED)
    await s1.gets(ALL, data(ROW_1), COPY_DONE, CHECK)
    await s1.leaves()
    await ends(s0, how="ROLLBACK")
    await client.gets(error("08006", 'connection to shard "s1" was lost'), ready("I"))


async def test_in_a_transaction(playbook: Playbook) -> None:
    client, s0, s1 = await warm(playbook)
    await client.sends(query("BEGIN ISOLATION LEVEL SERIALIZABLE"))
    await client.gets(complete("BEGIN"), ready("T"))
    await client.sends(query(COPY))
    await client.gets(copy_in(0, 0))
    await client.sends(data(ROW_0), COPY_DONE)
    [sent] = [message.data for message in s0.inbox if message.data[:1] == b"Q"]
    assert sent[5:].startswith(b"BEGIN ISOLATION LEVEL SERIALIZABLE\n;\n")
    s0.inbox.clear()
    await s0.sends(*verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"))
    await client.gets(complete("COPY 1"), ready("T"))
    await client.sends(query("COMMIT"))
    await ends(s0)
    await client.gets(complete("COMMIT"), ready("I"))
    await s1.gets()


async def test_by_the_extended_protocol(playbook: Playbook) -> None:
    """The Sync after CopyDone commits."""
    client, s0, s1 = await warm(playbook)
    await client.sends(parse("", COPY), bind("", ""), execute(), SYNC)
    await client.gets(PARSED, BOUND, copy_in(0, 0))
    await client.sends(data(ROW_0), COPY_DONE, SYNC)
    await loads(s0, ROW_0, "COPY 1")
    await client.gets(complete("COPY 1"))
    await ends(s0)
    await client.gets(ready("I"))
    await s1.gets()


async def test_after_a_definition(playbook: Playbook) -> None:
    """What passes through the proxy is known to have changed."""
    client, s0, s1 = await warm(playbook)
    playbook.database.definitions_changed()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    await begins_at_home(s0)
    await client.gets(copy_in(0, 0))
    await client.sends(COPY_DONE)
    await s0.gets(COPY_DONE)
    await s0.sends(complete("COPY 0"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 0"), ready("I"))


async def test_after_set(playbook: Playbook) -> None:
    """The role may be another one: what it may do is found before data are asked for."""
    client, s0, s1 = await warm(playbook)
    await client.sends(query("SET ROLE other"))
    for shard in (s0, s1):
        await shard.gets(query("SET ROLE other"))
        await shard.sends(complete("SET"), ready("I"))
    await client.gets(complete("SET"), ready("I"))
    await client.sends(query(COPY))
    await begins_at_home(s0)
    await client.gets(copy_in(0, 0))
    await client.sends(data(f"{AT[0]}\tx\n"), COPY_DONE)
    await s0.gets(data(f"{AT[0]}\tx\n"), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 1"), ready("I"))
