"""COPY TO STDOUT: transcripts."""

from tests.support.messages import (
    BOUND,
    COPY_DONE,
    PARSED,
    SYNC,
    Said,
    bind,
    columns,
    complete,
    copy_out,
    data,
    error,
    execute,
    notice,
    parse,
    query,
    ready,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook
from tests.unit.session.copies import usable

COPY = "COPY t TO STDOUT"
CSV = "COPY t TO STDOUT (FORMAT csv, HEADER)"
END = COPY_DONE, complete("COPY 1"), ready("I")


async def started(playbook: Playbook, sql: str = COPY) -> tuple[Client, FakeShard, FakeShard]:
    client, s0, s1 = await playbook.session()
    await client.sends(query(sql))
    await s0.gets(query(sql))
    await s1.gets(query(sql))
    return client, s0, s1


async def test_rows_of_two_shards(playbook: Playbook) -> None:
    """Rows as they come, once both have begun; one CopyDone, one tag."""
    client, s0, s1 = await started(playbook)
    await s1.sends(copy_out(0, 0))
    await client.gets()
    await s0.sends(copy_out(0, 0))
    await client.gets(copy_out(0, 0))
    await s1.sends(data("3\tb\n"), *END)
    await client.gets(data("3\tb\n"))
    await s0.sends(data("1\ta\n"))
    await client.gets(data("1\ta\n"))
    await s0.sends(data("2\tc\n"), COPY_DONE, complete("COPY 2"), ready("I"))
    await client.gets(data("2\tc\n"), COPY_DONE, complete("COPY 3"), ready("I"))


async def test_one_header(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook, CSV)
    await s1.sends(copy_out(0, 0))
    await s0.sends(copy_out(0, 0))
    await s1.sends(data("id,v\n"), data("3,b\n"))
    await s0.sends(data("id,v\n"), data("1,a\n"), *END)
    await s1.sends(*END)
    await client.gets(
        copy_out(0, 0), data("id,v\n"), data("3,b\n"), data("1,a\n"), COPY_DONE, complete("COPY 2"), ready("I")
    )


async def test_columns_differ(playbook: Playbook) -> None:
    """Found before the client reads anything: both are cancelled and read to their ends."""
    client, s0, s1 = await started(playbook)
    await s0.sends(copy_out(0, 0), data("1\ta\n"))
    await s1.sends(copy_out(0, 0, 0), data("3\tb\tc\n"))
    assert (s0.cancels, s1.cancels) == (1, 1)
    for shard in (s0, s1):
        await client.gets()
        await shard.sends(error("57014"), ready("I"))
    await client.gets(error("55000", "the shards give different columns"), ready("I"))
    await usable(client, s0, AT[0])
    await usable(client, s1, AT[1])


async def test_a_shard_refuses(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    await s0.sends(copy_out(0, 0), data("1\ta\n"))
    await s1.sends(error("42501"), ready("I"))
    assert (s0.cancels, s1.cancels) == (1, 0)
    await s0.sends(error("57014"), ready("I"))
    await client.gets(error("42501"), ready("I"))
    await usable(client, s0, AT[0])


async def test_a_shard_that_has_ended_before_another_refuses(playbook: Playbook) -> None:
    """Its rows and its tag are read and dropped."""
    client, s0, s1 = await started(playbook)
    await s0.sends(copy_out(0, 0), data("1\ta\n"), *END)
    await s1.sends(error("42501"), ready("I"))
    await client.gets(error("42501"), ready("I"))
    await usable(client, s0, AT[0])


async def test_an_error_in_the_middle(playbook: Playbook) -> None:
    """No row comes after it is seen, and no CopyDone."""
    client, s0, s1 = await started(playbook)
    for shard in (s0, s1):
        await shard.sends(copy_out(0, 0))
    await s0.sends(data("1\ta\n"))
    await s1.sends(error("22012"))
    await s0.sends(data("2\ta\n"), error("57014"), ready("I"))
    await client.gets(copy_out(0, 0), data("1\ta\n"))
    await s1.sends(ready("I"))
    await client.gets(error("22012", D='Reported by shard "s1".'), ready("I"))
    await usable(client, s1, AT[1])


async def test_a_notice_between_rows(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    await s0.sends(copy_out(0, 0))
    await s1.sends(copy_out(0, 0), data("3\tb\n"), notice("look"), data("4\tb\n"), *END)
    await client.gets(copy_out(0, 0), data("3\tb\n"), notice("look"), data("4\tb\n"))
    await s0.sends(*END)
    await client.gets(COPY_DONE, complete("COPY 2"), ready("I"))


async def test_a_shard_that_ends_without_copy_done(playbook: Playbook) -> None:
    """It has broken the protocol: its connection is given up."""
    client, s0, s1 = await started(playbook)
    for shard in (s0, s1):
        await shard.sends(copy_out(0, 0))
    await s1.sends(columns("v"), copy_out(0, 0))
    await s0.sends(error("57014"), ready("I"))
    await client.gets(copy_out(0, 0), error("08006"), ready("I"))
    assert s1.wire.closed


async def test_by_the_extended_protocol(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    batch = parse("", COPY), bind("", ""), execute(), SYNC
    await client.sends(*batch)
    for shard in (s0, s1):
        await shard.gets(query(COPY))
    for shard in (s0, s1):
        await shard.sends(copy_out(0, 0), data("1\ta\n"), *END)
    rows: tuple[Said, ...] = data("1\ta\n"), data("1\ta\n")
    await client.gets(PARSED, BOUND, copy_out(0, 0), *rows, COPY_DONE, complete("COPY 2"), ready("I"))


async def test_a_client_that_reads_slowly_holds_the_shards_back(playbook: Playbook) -> None:
    client, s0, s1 = await started(playbook)
    for shard in (s0, s1):
        shard.cut = None
        await shard.sends(copy_out(0, 0))
    client.stops_reading()
    rows = [data("x" * 1000 + "\n")] * 5000
    for shard in (s0, s1):
        await shard.sends(*rows, COPY_DONE, complete("COPY 5000"), ready("I"))
    assert s0.held_back()
    assert s1.held_back()
    assert client.wire.unread < 4 << 20
    await client.reads_on()
    await client.gets(copy_out(0, 0), *rows, *rows, COPY_DONE, complete("COPY 10000"), ready("I"))
    assert not s0.held_back()
