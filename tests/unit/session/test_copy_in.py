"""COPY FROM STDIN that asks its shards inside the transaction, as one with WHERE does: transcripts."""

from shardproxy.routing.relation import Relation
from shardproxy.shard import catalog
from tests.support.messages import (
    BOUND,
    COPY_DONE,
    FLUSH,
    PARSED,
    SYNC,
    bind,
    columns,
    complete,
    copy_fail,
    copy_in,
    data,
    describe,
    error,
    execute,
    notice,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, REF, Client, FakeShard, Playbook, T, described, found
from tests.unit.session.copies import ends, usable, withdrawn

COPY = "COPY t FROM STDIN WHERE true"
KEY_0, KEY_1 = AT
ROW_0, ROW_1 = f"{KEY_0}\ta\n", f"{KEY_1}\tb\n"

LOOK = b"%s\n;\n%s" % (b"BEGIN", catalog.relations_sql([(None, "t")]).encode())
"""A shard joins and is asked what the table is, in one round trip."""

DESCRIBE = describe("S"), SYNC

UNENDING = data("x" * 16)
"""In front of CopyFail: PostgreSQL looks at a last row in CR only when more has come."""


async def looked_up(*shards: FakeShard, relation: Relation | None = T, question: bytes = LOOK) -> None:
    for shard in shards:
        await shard.gets(query(question))
        await shard.sends(complete("BEGIN"), columns("x"), found(relation), complete("SELECT 1"), ready("T"))


async def started(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A COPY that waits for data."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    for shard in (s0, s1):
        await client.gets()
        await shard.gets(query(COPY))
        await shard.sends(copy_in(0, 0))
    await client.gets(copy_in(0, 0))
    return client, s0, s1


async def confirmed(*shards: FakeShard, relation: Relation = T) -> None:
    """Each shard says once more what its columns are, now under the COPY's lock."""
    for shard in shards:
        await shard.gets(parse("", f'SELECT * FROM "public"."{relation.name}"'), *DESCRIBE)
        await shard.sends(PARSED, *described(relation), ready("T"))


async def test_rows_to_two_shards(playbook: Playbook) -> None:
    """Rows as they came, each on its shard; the tag is the total, after the commit."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0), data(ROW_1 + ROW_0), data(ROW_1), COPY_DONE)
    await s0.gets(data(ROW_0 + ROW_0), COPY_DONE)
    await s1.gets(data(ROW_1 + ROW_1), COPY_DONE)
    await s1.sends(complete("COPY 2"), ready("T"))
    await s0.sends(complete("COPY 2"), ready("T"))
    await confirmed(s0, s1)
    await client.gets()
    await ends(s0, s1)
    await client.gets(complete("COPY 4"), ready("I"))
    await usable(client, s0)


async def test_the_table_is_missing_on_a_shard(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0)
    await looked_up(s1, relation=None)
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("42P01", D='It does not exist on shard "s1".'), ready("I"))
    await usable(client, s0)


async def test_a_shard_refuses_at_the_start(playbook: Playbook) -> None:
    """The other one, which waits for data, is ended; the client never reads CopyInResponse."""
    client, s0, s1 = await playbook.session()
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    await s0.gets(query(COPY))
    await s1.gets()
    await s0.sends(copy_in(0, 0))
    await s1.gets(query(COPY))
    await s1.sends(error("42501"))
    await s0.gets()
    await s1.sends(ready("E"))
    await client.gets()
    await s0.gets(copy_fail("another shard refused the COPY"))
    await s0.sends(error("57014"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("42501"), ready("I"))
    # What a client sends that has not waited.
    await client.sends(data(ROW_0), COPY_DONE)
    await client.gets()
    await usable(client, s0)


async def test_a_shard_refuses_a_row(playbook: Playbook) -> None:
    """The client's line, not the shard's; the other shard is ended after what it has got."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_0 + ROW_1), FLUSH)
    await s0.gets()
    await client.sends(data(ROW_0), SYNC)
    await playbook.flushed()
    await s0.gets(data(ROW_0 * 3))
    await s1.gets(data(ROW_1))
    await s1.sends(error("22P02", W='COPY t, line 1, column id: "b"'))
    await s0.gets(UNENDING, copy_fail("a row was refused"))
    await s1.gets(UNENDING, copy_fail("a row was refused"))
    await s0.sends(error("57014", W="COPY t, line 4"), ready("E"))
    await client.gets()
    await s1.sends(ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    refused = error("22P02", W='COPY t, line 3, column id: "b"', D='Reported by shard "s1".')
    await client.gets(refused, ready("I"))
    await client.sends(data(ROW_0), data(ROW_1), COPY_DONE)
    await client.gets()
    await usable(client, s0)


async def test_the_earliest_line_is_the_answer(playbook: Playbook) -> None:
    """The shard that is ended finds a row of an earlier line: one server would have stopped there."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1))
    await playbook.flushed()
    await s0.gets(data(ROW_0))
    await s1.gets(data(ROW_1))
    await s1.sends(error("22P02", W="COPY t, line 1"))
    for shard in (s0, s1):
        await shard.gets(UNENDING, copy_fail("a row was refused"))
    await s0.sends(error("23505", W="COPY t, line 1"), ready("E"))
    await s1.sends(ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("23505", W="COPY t, line 1"), ready("I"))


async def test_a_shard_refuses_at_the_end(playbook: Playbook) -> None:
    """The other has accepted all its rows, and is rolled back."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s1.gets(data(ROW_1), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await s1.sends(error("23503"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("23503", D='Reported by shard "s1".'), ready("I"))
    await usable(client, s0)


async def test_copy_fail(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), copy_fail("no more"))
    await s0.gets(data(ROW_0), UNENDING, copy_fail("no more"))
    await s1.gets(data(ROW_1), UNENDING, copy_fail("no more"))
    for shard in (s0, s1):
        await shard.sends(error("57014", "COPY from stdin failed: no more"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    context = "COPY t, line 3"
    await client.gets(error("57014", "COPY from stdin failed: no more", W=context), ready("I"))
    await usable(client, s0)


async def test_a_key_that_cannot_be(playbook: Playbook) -> None:
    """Its row goes to shard 0, which refuses it in PostgreSQL's words."""
    client, s0, s1 = await started(playbook)
    await client.sends(data("abc\tx\n"), COPY_DONE)
    await s0.gets(data("abc\tx\n"), COPY_DONE)
    await withdrawn(s1)
    await s0.sends(error("22P02", W='COPY t, line 1, column id: "abc"'), ready("E"))
    await ends(s0, how="ROLLBACK")
    await client.gets(error("22P02", W='COPY t, line 1, column id: "abc"'), ready("I"))


async def test_a_shard_counts_other_rows(playbook: Playbook) -> None:
    """More than it was sent: nothing is committed."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s1.gets(data(ROW_1), COPY_DONE)
    await s0.sends(complete("COPY 1"), ready("T"))
    await s1.sends(complete("COPY 2"), ready("T"))
    await confirmed(s0, s1)
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("XX000"), ready("I"))


async def test_the_definition_has_changed(playbook: Playbook) -> None:
    """DDL came between the look and the COPY's lock."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1), COPY_DONE)
    for shard, of_it in ((s0, ROW_0), (s1, ROW_1)):
        await shard.gets(data(of_it), COPY_DONE)
        await shard.sends(complete("COPY 1"), ready("T"))
    await confirmed(s0)
    await s1.gets(parse("", 'SELECT * FROM "public"."t"'), *DESCRIBE)
    await s1.sends(PARSED, *described(REF), ready("T"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("40001"), ready("I"))


async def test_a_query_inside(playbook: Playbook) -> None:
    """PostgreSQL loses the protocol there: the COPY fails, the session ends, and the shards are rolled back."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0), query("SELECT 1"))
    await s0.gets(data(ROW_0), copy_fail("unexpected message"))
    await s1.gets(copy_fail("unexpected message"))
    for shard in (s0, s1):
        await shard.sends(error("57014"), ready("E"))
    await client.gets(error("08P01", W="COPY t, line 2"))
    await playbook.ends_by("08P01")


async def test_a_query_after_a_row_that_is_refused(playbook: Playbook) -> None:
    """The row's error ends the COPY before PostgreSQL reads the Query, which is then one like any other."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0), query("SHOW work_mem"))
    await s0.gets(data(ROW_0), copy_fail("unexpected message"))
    await s1.gets(copy_fail("unexpected message"))
    await s0.sends(error("22P02", W="COPY t, line 1, column v"), ready("E"))
    await s1.sends(error("57014"), ready("E"))
    for shard in (s0, s1):
        await shard.gets(query("ROLLBACK"))
        await shard.sends(complete("ROLLBACK"), ready("I"))
    await client.gets(error("22P02", W="COPY t, line 1, column v"), ready("I"))
    await s0.gets(query("SHOW work_mem"))
    await s0.sends(columns("work_mem"), row("4MB"), complete("SHOW"), ready("I"))
    await client.gets(columns("work_mem"), row("4MB"), complete("SHOW"), ready("I"))


async def test_the_client_leaves(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0))
    await client.leaves()
    for shard in (s0, s1):
        await shard.gets(copy_fail("the client is gone"))
        await shard.sends(error("57014"), ready("E"))
    await playbook.ends_lost()


async def test_a_shard_is_lost(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1))
    await playbook.flushed()
    await s0.gets(data(ROW_0))
    await s1.gets(data(ROW_1))
    await s1.leaves()
    await s0.gets(UNENDING, copy_fail("a row was refused"))
    await s0.sends(error("57014"), ready("E"))
    await ends(s0, how="ROLLBACK")
    await client.gets(error("08006", 'connection to shard "s1" was lost'), ready("I"))


async def test_notices_of_triggers(playbook: Playbook) -> None:
    """They pass while rows are sent, with the client's lines, once where all shards say them."""
    client, s0, s1 = await started(playbook)
    await client.sends(data(ROW_0 + ROW_1))
    await playbook.flushed()
    await s0.gets(data(ROW_0))
    await s1.gets(data(ROW_1))
    await s0.sends(notice("statement"), notice("row", W="COPY t, line 1"))
    await client.gets(notice("statement"), notice("row", W="COPY t, line 1"))
    await s1.sends(notice("statement"), notice("other", W="COPY t, line 1"))
    await client.gets(notice("other", W="COPY t, line 2"))
    await client.sends(COPY_DONE)
    for shard in (s0, s1):
        await shard.gets(COPY_DONE)
        await shard.sends(complete("COPY 1"), ready("T"))
    await confirmed(s0, s1)
    await ends(s0, s1)
    await client.gets(complete("COPY 2"), ready("I"))


async def test_in_a_transaction(playbook: Playbook) -> None:
    """An error leaves it failed; the shards are left at once, as nothing of it can come back."""
    client, s0, s1 = await playbook.session()
    await client.sends(query("BEGIN"))
    await client.gets(complete("BEGIN"), ready("T"))
    await client.sends(query(COPY))
    await looked_up(s0, s1)
    for shard in (s0, s1):
        await shard.gets(query(COPY))
        await shard.sends(copy_in(0, 0))
    await client.gets(copy_in(0, 0))
    await client.sends(copy_fail("x"))
    for shard in (s0, s1):
        await shard.gets(copy_fail("x"))
        await shard.sends(error("57014"), ready("E"))
    await ends(s0, s1, how="ROLLBACK")
    await client.gets(error("57014"), ready("E"))
    await client.sends(query(COPY))
    await client.gets(error("25P02"), ready("E"))
    await client.sends(query("COMMIT"))
    await client.gets(complete("ROLLBACK"), ready("I"))


async def test_by_the_extended_protocol(playbook: Playbook) -> None:
    """Parse and Bind reach no shard; Sync and Flush in the data do nothing; the Sync after CopyDone commits."""
    client, s0, s1 = await playbook.session()
    await client.sends(parse("", COPY), bind("", ""), execute(), SYNC)
    await looked_up(s0, s1)
    for shard in (s0, s1):
        await shard.gets(query(COPY))
        await shard.sends(copy_in(0, 0))
    await client.gets(PARSED, BOUND, copy_in(0, 0))
    await client.sends(data(ROW_0), FLUSH, data(ROW_1), SYNC, COPY_DONE)
    await s0.gets(data(ROW_0), COPY_DONE)
    await s1.gets(data(ROW_1), COPY_DONE)
    for shard in (s0, s1):
        await shard.sends(complete("COPY 1"), ready("T"))
    await confirmed(s0, s1)
    await client.gets(complete("COPY 2"))
    await client.sends(SYNC)
    await ends(s0, s1)
    await client.gets(ready("I"))


async def test_a_shard_that_reads_slowly_holds_the_client_back(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    s1.stops_reading()
    many = ROW_1 * 50_000
    for _ in range(8):
        await client.sends(data(many))
    assert client.held_back()
    assert s1.wire.unread < 2 << 20
    await s1.reads_on()
    assert not client.held_back()
    await client.sends(COPY_DONE)
    sent = [message for message in s1.inbox if message != COPY_DONE]
    assert b"".join(message.data[5:] for message in sent) == (many * 8).encode()
    s1.inbox.clear()
    await withdrawn(s0)
    await s1.sends(complete("COPY 400000"), ready("T"))
    await confirmed(s1)
    await ends(s1)
    await client.gets(complete("COPY 400000"), ready("I"))
