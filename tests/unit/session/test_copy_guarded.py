"""COPY FROM STDIN of a sharded table outside a transaction: a look, a guard, and the shards that get rows."""

import pytest

from shardproxy.routing.relation import Relation
from shardproxy.session import copy_held, copy_look
from shardproxy.session import copy_in as copy_in_module
from shardproxy.shard import catalog
from tests.support import playbook as playbook_module
from tests.support.messages import (
    CLOSED,
    COPY_DONE,
    PARSED,
    SYNC,
    Said,
    close,
    columns,
    complete,
    copy_fail,
    copy_in,
    data,
    error,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, REF, Client, FakeShard, Playbook, T, catalog_answer
from tests.unit.session.copies import ends, withdrawn

COPY = "COPY t FROM STDIN"
ROW_0, ROW_1 = f"{AT[0]}\ta\n", f"{AT[1]}\tb\n"
NAME = (None, "t")
LOOK = query(catalog.locked_relation_sql(NAME))
LOCK, FINGERPRINT = catalog.guard_sql(NAME)
PREPARE = parse("shardproxy_1", FINGERPRINT), SYNC
"""In front of the first guard of a connection."""

GUARD = f"{LOCK}; EXECUTE shardproxy_1(NULL)"
GUARDED = query(f"BEGIN\n;\n{GUARD}")
ALL = query(f"BEGIN\n;\n{GUARD}\n;\n{COPY}")
"""BEGIN, guard and COPY of a shard that gets rows."""


@pytest.fixture(autouse=True)
def slow_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine shall not make a COPY one that lasts, nor a look old."""
    monkeypatch.setattr(copy_look, "KEEP", 60.0)
    for module in (copy_in_module, copy_held, playbook_module):
        monkeypatch.setattr(module, "FLUSH_DELAY", 0.4)


async def looked_up(*shards: FakeShard, relation: Relation = T, fingerprint: str = "f") -> None:
    """Outside the transaction each shard tells what the table is, under the lock that COPY takes."""
    for shard in shards:
        await shard.gets(LOOK)
        answer = row(catalog_answer(relation), fingerprint)
        await shard.sends(complete("LOCK TABLE"), columns("x", "y"), answer, complete("SELECT 1"), ready("I"))


def verdict(fingerprint: str = "f") -> tuple[Said, ...]:
    """A guard's answer."""
    guard = columns("x", "y"), row(fingerprint, None), complete("SELECT 1")
    return complete("BEGIN"), complete("LOCK TABLE"), *guard


async def begins_at_home(s0: FakeShard, *prepare: Said) -> None:
    """`prepare` is what a connection gets the first time."""
    await s0.gets(*prepare, GUARDED, query(COPY))
    parsed = [PARSED, ready("I")] if prepare else []
    await s0.sends(*parsed, *verdict(), ready("T"), copy_in(0, 0))


async def started(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A COPY that waits for data, on its home shard."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    await begins_at_home(s0, *PREPARE)
    await client.gets(copy_in(0, 0))
    await s1.gets()
    return client, s0, s1


async def client_leaves(playbook: Playbook, client: Client, *shards: FakeShard) -> None:
    await client.leaves()
    for shard in shards:
        await shard.gets(copy_fail("the client is gone"))
        await shard.sends(error("57014"), ready("E"))
    await playbook.ends_lost()


async def test_a_row_for_the_home_shard(playbook: Playbook) -> None:
    """No other shard hears of the COPY."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 1"), ready("I"))
    await s1.gets()


async def test_a_row_for_another_shard(playbook: Playbook) -> None:
    """It gets BEGIN, guard, COPY and the row together; the home shard leaves the transaction."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_1), COPY_DONE)
    await withdrawn(s0)
    await s1.gets(*PREPARE, ALL, data(ROW_1), COPY_DONE)
    await s1.sends(PARSED, ready("I"), *verdict(), copy_in(0, 0), complete("COPY 1"), ready("T"))
    await ends(s1)
    await client.gets(complete("COPY 1"), ready("I"))


async def test_no_row(playbook: Playbook) -> None:
    """The home shard has the COPY to itself."""
    client, s0, s1 = await started(playbook)
    await client.sends(COPY_DONE)
    await s0.gets(COPY_DONE)
    await s0.sends(complete("COPY 0"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 0"), ready("I"))
    await s1.gets()


async def test_a_copy_that_lasts(playbook: Playbook) -> None:
    """It begins on all shards, to have its locks; those without rows are rolled back in the end."""
    client, s0, s1 = await started(playbook)
    await playbook.flushed()
    await s1.gets(*PREPARE, ALL)
    await s1.sends(PARSED, ready("I"), *verdict(), copy_in(0, 0))
    await client.sends(data(ROW_0), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await withdrawn(s1)
    await s0.sends(complete("COPY 1"), ready("T"))
    await ends(s0)
    await client.gets(complete("COPY 1"), ready("I"))


async def test_the_home_shard_has_another_table(playbook: Playbook) -> None:
    """It was altered between the look and the lock: nothing is done, and all is looked at anew."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    await s0.gets(*PREPARE, GUARDED, query(COPY))
    await s0.sends(PARSED, ready("I"), *verdict("g"), ready("T"), copy_in(0, 0))
    await s0.gets(copy_fail("another shard refused the COPY"))
    await s0.sends(error("57014"), ready("E"))
    await s0.gets(query("ROLLBACK"))
    await s0.sends(complete("ROLLBACK"), ready("I"))
    await looked_up(s0, s1)
    await begins_at_home(s0)
    await client.gets(copy_in(0, 0))
    await client_leaves(playbook, client, s0)


async def test_another_shard_has_another_table(playbook: Playbook) -> None:
    """Its rows were cut for other columns: nothing is loaded."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s1.gets(*PREPARE, ALL, data(ROW_1), COPY_DONE)
    await s1.sends(PARSED, ready("I"), *verdict("g"), copy_in(0, 0), complete("COPY 1"), ready("T"))
    await s0.sends(complete("COPY 1"), ready("T"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("55000"), ready("I"))


async def test_begin_fails_on_another_shard(playbook: Playbook) -> None:
    """COPY has not run there; whether a transaction is open is not known, so the connection is given up."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_1), COPY_DONE)
    await s1.gets(*PREPARE, ALL, data(ROW_1), COPY_DONE)
    await s1.sends(PARSED, ready("I"), error("53200"), ready("I"))
    await withdrawn(s0)
    await client.gets(error("53200", D='Reported by shard "s1".'), ready("I"))
    assert s1.wire.closed


async def test_the_guard_is_gone(playbook: Playbook) -> None:
    """A function of the client's has run DEALLOCATE ALL: it is prepared once more."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    await s0.gets(*PREPARE, GUARDED, query(COPY))
    gone = complete("BEGIN"), complete("LOCK TABLE"), error("26000"), ready("E"), error("25P02"), ready("E")
    await s0.sends(PARSED, ready("I"), *gone)
    await s0.gets(close("S", "shardproxy_1"), SYNC, query("ROLLBACK"))
    await s0.sends(CLOSED, ready("E"), complete("ROLLBACK"), ready("I"))
    await looked_up(s0, s1)
    await begins_at_home(s0, *PREPARE)
    await client.gets(copy_in(0, 0))
    await client_leaves(playbook, client, s0)


async def test_the_guard_cannot_be_prepared(playbook: Playbook) -> None:
    """The error of Parse is passed over; that of EXECUTE tells."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    for number in range(3):
        if number < 2:
            await looked_up(s0, s1)
            await s0.gets(*PREPARE, GUARDED, query(COPY))
            gone = complete("BEGIN"), complete("LOCK TABLE"), error("26000"), ready("E"), error("25P02"), ready("E")
            await s0.sends(error("42883"), ready("I"), *gone)
            await s0.gets(query("ROLLBACK"))
            await s0.sends(complete("ROLLBACK"), ready("I"))
    for shard in (s0, s1):
        await shard.gets(query(b"BEGIN\n;\n" + catalog.relations_sql([NAME]).encode()))
        await shard.sends(error("42883"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("42883"), ready("I"))


async def test_the_lock_is_refused(playbook: Playbook) -> None:
    """The role may have privileges for the columns only: the shards are asked inside the transaction instead."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    for shard in (s0, s1):
        await shard.gets(LOOK)
        await shard.sends(error("42501"), ready("I"))
    for shard in (s0, s1):
        await shard.gets(query(b"BEGIN\n;\n" + catalog.relations_sql([NAME]).encode()))
        answer = row(catalog_answer(T))
        await shard.sends(complete("BEGIN"), columns("x"), answer, complete("SELECT 1"), ready("T"))
    for shard in (s0, s1):
        await shard.gets(query(COPY))
        await shard.sends(copy_in(0, 0))
    await client.gets(copy_in(0, 0))
    await client_leaves(playbook, client, s0, s1)


async def test_the_shards_differ(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    for _ in range(2):  # DDL may have come in between
        await looked_up(s0)
        await looked_up(s1, relation=REF)
    await client.gets(error("55000"), ready("I"))
