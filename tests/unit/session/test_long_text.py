"""The process that parses long texts: the same facts, and what ends it."""

import asyncio
import errno
import os
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.session.long_text import LONG, SHORT, LongTexts, is_long
from shardproxy.session.parse_process import KEEP
from shardproxy.sql import Insert, ParseFailed, Select, analyze, packed
from shardproxy.sql.packed import PIECE
from tests.support.messages import complete, query, ready
from tests.support.playbook import Playbook

ROWS = 3 * PIECE + 7


@pytest_asyncio.fixture
async def texts() -> AsyncIterator[LongTexts]:
    texts = LongTexts(memory=256 << 20)
    yield texts
    await texts.close()


async def test_the_facts_are_those_of_analyze(texts: LongTexts) -> None:
    sql = "INSERT INTO t VALUES " + ", ".join(f"({row}, $1, E'\\n', DEFAULT, now())" for row in range(ROWS))
    [found], [expected] = await texts.analyze(sql), analyze(sql)
    assert isinstance(found, Insert)
    assert isinstance(expected, Insert)
    assert len(found.rows) == ROWS
    assert tuple(found.rows) == expected.rows
    assert [found.rows[at] for at in (0, PIECE, -1)] == [expected.rows[at] for at in (0, PIECE, -1)]
    assert found.rows[1:3] == expected.rows[1:3]
    assert (found.functions, found.params, found.target) == (expected.functions, expected.params, expected.target)


async def test_many_statements_and_long_lists(texts: LongTexts) -> None:
    numbers = ", ".join(map(str, range(ROWS)))
    sql = f"SELECT * FROM t WHERE id IN ({numbers});" + "SELECT 'é';" * ROWS
    found, expected = await texts.analyze(sql), analyze(sql)
    assert len(found) == len(expected) == ROWS + 1
    assert [(one.text, one.location) for one in found] == [(one.text, one.location) for one in expected]
    assert isinstance(found[0], Select)
    assert isinstance(expected[0], Select)
    assert list(found[0].bindings[0].values) == list(expected[0].bindings[0].values)


async def test_an_error_has_its_position(texts: LongTexts) -> None:
    sql = "SELECT 'é', '\udcff', " + "1, " * 9000 + "FROM"
    with pytest.raises(ParseFailed) as expected:
        analyze(sql)
    with pytest.raises(PgError) as raised:
        await texts.analyze(sql)
    assert raised.value.fields == expected.value.fields
    [again] = await texts.analyze("SELECT 1")
    assert again.text == "SELECT 1"


async def test_a_text_that_needs_too_much_memory(texts: LongTexts) -> None:
    """The next one has a new process."""
    with pytest.raises(PgError, match="too complex") as raised:
        await texts.analyze(f"SELECT {'1, ' * 300_000}1")
    assert raised.value.sqlstate == "54001"
    assert len(await texts.analyze("SELECT 1; SELECT 2")) == 2


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that have been started."""
    started: list[Process] = []
    start = asyncio.create_subprocess_exec

    async def starting(*command: str, **options: Any) -> Process:
        started.append(await start(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starting)
    return started


async def test_one_stays_however_large_the_proxy_is(texts: LongTexts, started: list[Process]) -> None:
    """Linux counts the peak of the process that has started another as the other's own."""
    large = b"x" * (KEEP + (64 << 20))
    for _ in range(3):
        await texts.analyze("SELECT 1")
    assert len(started) == 1
    assert large


async def test_one_that_was_killed_while_it_waited(texts: LongTexts, started: list[Process]) -> None:
    """By the kernel for lack of memory, which tells nothing of the next text."""
    await texts.analyze("SELECT 1")
    for seen in (False, True):
        started[-1].kill()
        if seen:
            await started[-1].wait()
        assert len(await texts.analyze("SELECT 1; SELECT 2")) == 2
    assert len(started) == 3


@pytest.mark.parametrize(("number", "sqlstate"), [(errno.ENOMEM, "53200"), (errno.EMFILE, "53000")])
async def test_none_can_be_started(
    texts: LongTexts, monkeypatch: pytest.MonkeyPatch, number: int, sqlstate: str
) -> None:
    async def starting(*command: str, **options: Any) -> Process:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", starting)
        with pytest.raises(PgError, match="could not start a process") as raised:
            await texts.analyze("SELECT 1")
    assert raised.value.sqlstate == sqlstate
    assert raised.value.hint
    assert len(await texts.analyze("SELECT 1")) == 1


async def test_a_client_that_is_gone_ends_it(texts: LongTexts) -> None:
    parsing = asyncio.ensure_future(texts.analyze(f"SELECT {'1, ' * 100_000}1"))
    await asyncio.sleep(0.05)
    parsing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parsing
    assert len(await texts.analyze("SELECT 1; SELECT 2")) == 2


async def test_one_at_a_time(texts: LongTexts) -> None:
    found = await asyncio.gather(*(texts.analyze(f"SELECT {number}") for number in range(5)))
    assert [statement.text for [statement] in found] == [f"SELECT {number}" for number in range(5)]


async def test_a_text_of_seconds_is_not_waited_for_by_shorter_ones(texts: LongTexts) -> None:
    long = asyncio.ensure_future(texts.analyze(f"SELECT {'1, ' * 60_000}1"))
    await texts.analyze("SELECT 1")
    assert not long.done()
    await long


def test_a_text_is_long_by_what_it_says() -> None:
    """A long string is one value, a thousand short ones take as long as a text of many KiB."""
    assert not is_long(f"SELECT '{'x, ' * (LONG // 4)}'")
    assert is_long("SELECT " + "1, " * (SHORT // 2) + "1")
    assert not is_long("SELECT " + "1, " * (SHORT // 4) + "1")
    assert is_long("x" * LONG)


ONE_SHARD = [
    number for number in range(20_000) if not native.Placement.hash(2, [native.KEY_INT4]).place((b"%d" % number,))
]
"""Keys of rows that lie on the first shard."""

INSERT = "INSERT INTO {} (id, v) VALUES " + ", ".join(f"({number}, 'row')" for number in ONE_SHARD)

STATEMENTS = {
    "rows of one shard": INSERT.format("t"),
    "a list": f"SELECT v FROM t WHERE id IN ({', '.join(map(str, ONE_SHARD))})",
    "a short dense text": "SELECT v FROM t WHERE id IN (" + "1, " * 2000 + "1)",
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_the_loop_looks_at_no_row(playbook: Playbook, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is done by the process, or by a thread that gives other clients their turns."""
    unpack, parse = packed.unpack, sys.modules["shardproxy.sql.analyze"].parse
    in_loop: list[str] = []

    def unpacking(data: bytes) -> object:
        if threading.current_thread() is threading.main_thread():
            in_loop.append("a piece")
        return unpack(data)

    def parsing(sql: str) -> object:
        if len(sql) > SHORT:
            in_loop.append(f"a text of {len(sql)}")
        return parse(sql)

    monkeypatch.setattr(packed, "unpack", unpacking)
    monkeypatch.setattr(sys.modules["shardproxy.sql.analyze"], "parse", parsing)
    client, s0, s1 = await playbook.session()
    await client.sends(query(STATEMENTS[name]))
    shards = [s0] if name != "a list" else [s0, s1]
    for shard in shards:
        await shard.waits()
        await shard.gets(query(STATEMENTS[name]))
        await shard.sends(complete("SELECT 0"), ready("I"))
    await client.waits()
    await client.gets(complete("SELECT 0"), ready("I"))
    assert in_loop == []
    await playbook.database.long_texts.close()
