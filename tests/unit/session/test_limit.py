"""LIMIT over both shards: transcripts."""

import struct

import pytest

from tests.support.messages import (
    BOUND,
    CLOSED,
    COPY_DONE,
    FLUSH,
    PARSED,
    SUSPENDED,
    SYNC,
    Said,
    bind,
    close,
    columns,
    complete,
    copy_out,
    data,
    describe,
    error,
    execute,
    notice,
    parameters,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook
from tests.unit.session.copies import usable

THREE = "SELECT v FROM t LIMIT 3"
BY_PARAMETER = "SELECT v FROM t LIMIT $1"
COPY = "COPY (SELECT v FROM t LIMIT 3) TO STDOUT"
THERE = "shardproxy_1"
ROWS = row("a"), row("b"), row("c")


async def asked(playbook: Playbook, sql: str = THREE) -> tuple[Client, FakeShard, FakeShard]:
    client, s0, s1 = await playbook.session()
    await client.sends(query(sql))
    await s0.gets(query(sql))
    await s1.gets(query(sql))
    return client, s0, s1


async def inside(playbook: Playbook) -> tuple[Client, FakeShard, FakeShard]:
    """A client in a transaction that both shards have joined."""
    client, s0, s1 = await playbook.session()
    await client.sends(query("BEGIN"))
    await client.gets(complete("BEGIN"), ready("T"))
    sql = "SELECT id FROM t"
    await client.sends(query(sql))
    for shard in (s0, s1):
        await shard.gets(query("BEGIN"))
        await shard.sends(complete("BEGIN"), ready("T"))
    for shard in (s0, s1):
        await shard.gets(query(sql))
        await shard.sends(columns("id"), complete("SELECT 0"), ready("T"))
    await client.gets(columns("id"), complete("SELECT 0"), ready("T"))
    return client, s0, s1


async def goes_on(client: Client, s0: FakeShard, s1: FakeShard) -> None:
    """No row is left on either shard."""
    await usable(client, s0, AT[0])
    await usable(client, s1, AT[1])


async def test_the_first_rows_that_come(playbook: Playbook) -> None:
    """The rest is read and dropped, and not counted."""
    client, s0, s1 = await asked(playbook)
    await s1.sends(columns("v"), row("x"), row("y"))
    await client.gets(columns("v"), row("x"), row("y"))
    await s0.sends(columns("v"), *ROWS, complete("SELECT 3"), ready("I"))
    await client.gets(row("a"))
    await s1.sends(row("z"), complete("SELECT 3"), ready("I"))
    await client.gets(complete("SELECT 3"), ready("I"))
    await goes_on(client, s0, s1)


async def test_fewer_rows_than_the_limit(playbook: Playbook) -> None:
    client, s0, s1 = await asked(playbook)
    await s1.sends(columns("v"), row("x"), complete("SELECT 1"), ready("I"))
    await s0.sends(columns("v"), row("a"), complete("SELECT 1"), ready("I"))
    await client.gets(columns("v"), row("x"), row("a"), complete("SELECT 2"), ready("I"))


async def test_a_notice_among_rows_that_are_dropped(playbook: Playbook) -> None:
    client, s0, s1 = await asked(playbook)
    await s0.sends(columns("v"), *ROWS, complete("SELECT 3"), ready("I"))
    await client.gets(columns("v"), *ROWS)
    await s1.sends(columns("v"), row("x"), notice("look"), row("y"), complete("SELECT 2"), ready("I"))
    await client.gets(notice("look"), complete("SELECT 3"), ready("I"))
    await goes_on(client, s0, s1)


async def test_an_error_after_the_last_row_that_counts(playbook: Playbook) -> None:
    """As one server may meet that row before it has enough others."""
    client, s0, s1 = await asked(playbook)
    await s0.sends(columns("v"), *ROWS, complete("SELECT 3"), ready("I"))
    await client.gets(columns("v"), *ROWS)
    await s1.sends(columns("v"), row("x"), error("22012"), ready("I"))
    await client.gets(error("22012", D='Reported by shard "s1".'), ready("I"))
    await goes_on(client, s0, s1)


async def test_rows_of_a_cancelled_shard(playbook: Playbook) -> None:
    client, s0, s1 = await asked(playbook)
    await s1.sends(columns("v"), error("22012"))
    await s0.sends(columns("v"), row("a"), error("57014"), ready("I"))
    assert s0.cancels == 1
    await s1.sends(ready("I"))
    await client.gets(columns("v"), error("22012"), ready("I"))
    await goes_on(client, s0, s1)


@pytest.mark.parametrize("clause", ["LIMIT 0", "LIMIT -1", "LIMIT 3 OFFSET -1"])
async def test_no_rows_are_one_shards_answer(playbook: Playbook, clause: str) -> None:
    client, s0, s1 = await playbook.session()
    sql = f"SELECT v FROM t {clause}"
    await client.sends(query(sql))
    await s0.gets(query(sql))
    words = columns("v"), error("2201W", "LIMIT must not be negative"), ready("I")
    await s0.sends(*words)
    await client.gets(*words)
    await s1.gets()


@pytest.mark.parametrize(
    ("value", "count"), [("2", 2), (struct.pack("!q", 2), 2), ("9", 6), (None, 6)], ids=["text", "binary", "9", "NULL"]
)
async def test_a_parameter(playbook: Playbook, value: str | bytes | None, count: int) -> None:
    client, s0, s1 = await playbook.session()
    bound = bind("", "", value, binary=isinstance(value, bytes))
    batch = parse("", BY_PARAMETER, 20), bound, describe("P"), execute(), SYNC
    await client.sends(*batch)
    for shard in (s0, s1):
        await shard.gets(*batch)
        await shard.sends(PARSED, BOUND, columns("v"), *ROWS, complete("SELECT 3"), ready("I"))
    kept = [*ROWS, *ROWS][:count]
    await client.gets(PARSED, BOUND, columns("v"), *kept, complete(f"SELECT {count}"), ready("I"))


async def test_a_prepared_statement_has_a_limit_of_its_own_each_time(playbook: Playbook) -> None:
    """What was learnt of the first is not taken for the next."""
    client, s0, s1 = await playbook.session()
    for number, value in enumerate(("0", "1", "2", "1", "-1")):
        made = [parse("a", BY_PARAMETER, 20)] * (not number)
        batch = bind("", "a", value), execute(), SYNC
        await client.sends(*made, *batch)
        if value in {"0", "-1"}:
            await s0.gets(*made, *batch)
            await s0.sends(*[PARSED] * len(made), BOUND, complete("SELECT 0"), ready("I"))
            await client.gets(*[PARSED] * len(made), BOUND, complete("SELECT 0"), ready("I"))
            await s1.gets()
            continue
        lacking = [parse("a", BY_PARAMETER, 20)] * (number == 1)
        for shard, more in ((s0, []), (s1, lacking)):
            await shard.gets(*more, *batch)
            await shard.sends(
                *[PARSED] * len(more), BOUND, *ROWS[: int(value)], complete(f"SELECT {value}"), ready("I")
            )
        await client.gets(BOUND, *ROWS[: int(value)], complete(f"SELECT {value}"), ready("I"))


async def test_execute_by_sql(playbook: Playbook) -> None:
    client, s0, s1 = await playbook.session()
    prepare = f"PREPARE p AS {BY_PARAMETER}"
    await client.sends(query(prepare))
    await s0.gets(query(prepare))
    await s0.sends(complete("PREPARE"), ready("I"))
    await s0.gets(describe("S", "p"), SYNC)
    await s0.sends(parameters(20), columns("v"), ready("I"))
    await client.gets(complete("PREPARE"), ready("I"))
    await client.sends(query("EXECUTE p(2)"))
    await s1.gets(parse("p", f" {BY_PARAMETER}", 20), SYNC)
    await s1.sends(PARSED, ready("I"))
    for shard in (s0, s1):
        await shard.gets(query("EXECUTE p(2)"))
        await shard.sends(columns("v"), *ROWS[:2], complete("SELECT 2"), ready("I"))
    await client.gets(columns("v"), *ROWS[:2], complete("SELECT 2"), ready("I"))
    await client.sends(query("EXECUTE p(1 + 1)"))
    await client.gets(error("0A000", 'a computed LIMIT over several shards of "public.t" is not supported'), ready("I"))


# Portals that are read in pieces.


async def test_a_portal_ends_with_its_limit(playbook: Playbook) -> None:
    """A shard is asked for no more than is left; the portals there are closed at the end."""
    client, s0, s1 = await inside(playbook)
    await client.sends(parse("", THREE), bind("p", ""), describe("P", "p"), execute("p", 2), FLUSH)
    await s0.gets(parse("", THREE), bind(THERE, ""), describe("P", THERE), execute(THERE, 2), SYNC)
    await s0.sends(PARSED, BOUND, columns("v"), row("a"), complete("SELECT 1"), ready("T"))
    await client.gets(PARSED, BOUND, columns("v"), row("a"))
    await s1.gets(parse("", THREE), bind(THERE, ""), execute(THERE, 1), SYNC)
    await s1.sends(PARSED, BOUND, row("x"), SUSPENDED, ready("T"))
    await client.gets(row("x"), SUSPENDED)
    await client.sends(execute("p", 2), FLUSH)
    await s1.gets(execute(THERE, 1), SYNC)
    await s1.sends(row("y"), SUSPENDED, ready("T"))
    await client.gets(row("y"), complete("SELECT 1"))
    await client.sends(execute("p", 2), SYNC)
    await client.gets(complete("SELECT 0"), ready("T"))
    for shard, key in ((s0, AT[0]), (s1, AT[1])):
        sql = query(f"SELECT v FROM t WHERE id = {key}")
        await client.sends(sql)
        await shard.gets(close("P", THERE), SYNC, sql)
        await shard.sends(CLOSED, ready("T"), columns("v"), complete("SELECT 0"), ready("T"))
        await client.gets(columns("v"), complete("SELECT 0"), ready("T"))
    await rolled_back(client, s0, s1)


async def test_a_portal_that_is_suspended_at_its_limit(playbook: Playbook) -> None:
    """As PostgreSQL, which sees the end only when it is asked for more. No other shard is asked."""
    client, s0, s1 = await inside(playbook)
    await client.sends(parse("", THREE), bind("p", ""), execute("p", 3), execute("p", 3), SYNC)
    await s0.gets(parse("", THREE), bind(THERE, ""), execute(THERE, 3), SYNC)
    await s0.sends(PARSED, BOUND, *ROWS, SUSPENDED, ready("T"))
    await client.gets(PARSED, BOUND, *ROWS, SUSPENDED, complete("SELECT 0"), ready("T"))
    await s1.gets()
    await rolled_back(client, s0, s1, closed=[s0])


async def test_the_rest_of_a_portal_up_to_its_limit(playbook: Playbook) -> None:
    client, s0, s1 = await inside(playbook)
    await client.sends(parse("", THREE), bind("p", ""), execute("p", 1), execute("p"), SYNC)
    await s0.gets(parse("", THREE), bind(THERE, ""), execute(THERE, 1), SYNC)
    await s0.sends(PARSED, BOUND, row("a"), SUSPENDED, ready("T"))
    await client.gets(PARSED, BOUND, row("a"), SUSPENDED)
    await s0.gets(execute(THERE, 2), SYNC)
    await s0.sends(row("b"), complete("SELECT 1"), ready("T"))
    await client.gets(row("b"))
    await s1.gets(parse("", THREE), bind(THERE, ""), execute(THERE, 1), SYNC)
    await s1.sends(PARSED, BOUND, row("x"), SUSPENDED, ready("T"))
    await client.gets(row("x"), complete("SELECT 2"), ready("T"))
    await rolled_back(client, s0, s1, closed=[s0, s1])


async def rolled_back(client: Client, *shards: FakeShard, closed: list[FakeShard] | None = None) -> None:
    await client.sends(query("ROLLBACK"))
    for shard in shards:
        closing: list[Said] = [close("P", THERE), SYNC] if shard in (closed or []) else []
        await shard.gets(*closing, query("ROLLBACK"))
    for shard in shards:
        answered: list[Said] = [CLOSED, ready("T")] if shard in (closed or []) else []
        await shard.sends(*answered, complete("ROLLBACK"), ready("I"))
    await client.gets(complete("ROLLBACK"), ready("I"))


# COPY.


async def test_copy(playbook: Playbook) -> None:
    client, s0, s1 = await asked(playbook, COPY)
    for shard in (s0, s1):
        await shard.sends(copy_out(0))
    await s1.sends(data("x\n"), data("y\n"), COPY_DONE, complete("COPY 2"), ready("I"))
    await client.gets(copy_out(0), data("x\n"), data("y\n"))
    await s0.sends(data("a\n"), data("b\n"), data("c\n"), COPY_DONE, complete("COPY 3"), ready("I"))
    await client.gets(data("a\n"), COPY_DONE, complete("COPY 3"), ready("I"))
    await goes_on(client, s0, s1)


async def test_copy_with_a_header(playbook: Playbook) -> None:
    client, s0, s1 = await asked(playbook, f"{COPY} (FORMAT csv, HEADER)")
    for shard in (s0, s1):
        await shard.sends(copy_out(0), data("v\n"))
    await client.gets(copy_out(0), data("v\n"))
    await s0.sends(data("a\n"), data("b\n"), data("c\n"), COPY_DONE, complete("COPY 3"), ready("I"))
    await s1.sends(data("x\n"), COPY_DONE, complete("COPY 1"), ready("I"))
    await client.gets(data("a\n"), data("b\n"), data("c\n"), COPY_DONE, complete("COPY 3"), ready("I"))
