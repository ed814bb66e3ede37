"""A shard that lies: whatever it sends, the client gets a valid answer, and nothing is committed on a part."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from shardproxy.wire import encode
from shardproxy.wire.constants import F
from tests.faults.cell import Cell
from tests.faults.matrix import SMALL
from tests.support.databases import Databases, Servers
from tests.support.faultproxy import STARTUP, Fault, Rule, When

PATIENCE = 20.0
MIB = 1 << 20
READY = encode.ready_for_query(b"T")
IDLE = encode.ready_for_query(b"I")
REFUSED = encode.error_response({"S": "ERROR", "V": "ERROR", "C": "22P02", "M": "no"})
NOTICE = {"S": "NOTICE", "V": "NOTICE", "C": "00000"}
ONE = (encode.row_description([("a", 25)]), encode.data_row([b"7"]))
SELECTED = encode.command_complete("SELECT 1")
Lie = Callable[[bytes], bytes]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers18: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cell]:
    databases = await asyncio.to_thread(Databases.create, servers18)
    async with Cell.over(databases.shards, tmp_path_factory.mktemp("cell")) as made:
        yield made
    await asyncio.to_thread(databases.drop)


@pytest_asyncio.fixture(loop_scope="module")
async def cell(shared: Cell) -> AsyncIterator[Cell]:
    """One cell for all lies; each test begins with an honest one."""
    yield shared
    await shared.heal()


def instead(*messages: bytes) -> Lie:
    return lambda _: b"".join(messages)


def before(*messages: bytes) -> Lie:
    return lambda answer: b"".join([*messages, answer])


LIES: dict[str, tuple[int, bytes, Lie]] = {
    "the login is garbage": (STARTUP, b"", instead(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20)),
    "BEGIN ends in another state": (F.QUERY, b"BEGIN", instead(encode.command_complete("BEGIN"), b"Z\0\0\0\5?")),
    "BEGIN is not answered": (F.QUERY, b"BEGIN", instead(READY)),
    "COPY is answered by CopyOutResponse": (F.QUERY, b"COPY loads", instead(encode.copy_out_response(0, [0]))),
    "COPY is answered by CopyBothResponse": (F.QUERY, b"COPY loads", instead(b"W\0\0\0\7\0\0\0")),
    "COPY is complete at once": (F.QUERY, b"COPY loads", instead(encode.command_complete("COPY 20"), READY)),
    "COPY has other formats": (F.QUERY, b"COPY loads", instead(b"G\0\0\0\x09\7\0\1\xff\x05")),
    "a forged length": (F.QUERY, b"COPY loads", instead(b"G\x7f\xff\xff\xff")),
    "a length that is too short": (F.QUERY, b"COPY loads", instead(b"G\0\0\0\1")),
    "too many rows": (F.COPY_DONE, b"", instead(encode.command_complete("COPY 999999"), READY)),
    "a tag without a number": (F.COPY_DONE, b"", instead(encode.command_complete("COPY"), READY)),
    "a tag of another statement": (F.COPY_DONE, b"", instead(encode.command_complete("DELETE 3"), READY)),
    "an empty tag": (F.COPY_DONE, b"", instead(encode.command_complete(""), READY)),
    "no tag": (F.COPY_DONE, b"", instead(READY)),
    "the transaction is over": (F.COPY_DONE, b"", instead(encode.command_complete("COPY 20"), IDLE)),
    "an error, and the transaction is over": (F.COPY_DONE, b"", instead(REFUSED, IDLE)),
    "rows after the data": (F.COPY_DONE, b"", before(encode.data_row([b"1"]))),
    "an error without fields": (F.COPY_DONE, b"", instead(b"E\0\0\0\5\0", READY)),
    "an error that is cut": (F.COPY_DONE, b"", instead(b"E\0\0\0\7SEx", READY)),
    "a probe without rows": (F.QUERY, b"pg_current_xact_id", instead(encode.command_complete("SELECT 0"), READY)),
    "a probe of one column": (F.QUERY, b"pg_current_xact_id", instead(*ONE, SELECTED, READY)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lie_commits_nothing(cell: Cell, lie: tuple[int, bytes, Lie]) -> None:
    code, text, words = lie
    load = next(cell.numbers)
    rule = Rule(Fault.LIE, code, text, when=When.ANSWERED, application="liar", lie=words)
    cell.faults[2].add(rule)
    async with await cell.connect("liar") as client:
        outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
        assert rule.fired.is_set()
        await cell.heal()
        assert not outcome.acknowledged
        assert outcome.sqlstate not in {"lost", "XX000"} or "s2" in outcome.said
        assert await cell.judge(load, SMALL, outcome) == []
        # The same session, and it gets no answers of the earlier conversation.
        load = next(cell.numbers)
        outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
        assert outcome.acknowledged, outcome
        assert await cell.judge(load, SMALL, outcome) == []


async def test_a_prepare_that_rolls_back_and_does_not(cell: Cell) -> None:
    """A failed transaction answers PREPARE with ROLLBACK: nothing to undo. If that is a lie, recovery undoes it."""
    load = next(cell.numbers)
    lie = instead(encode.command_complete("ROLLBACK"), IDLE)
    cell.faults[2].add(Rule(Fault.LIE, F.QUERY, b"PREPARE TRANSACTION", when=When.ANSWERED, lie=lie))
    async with await cell.connect() as client:
        outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
    assert outcome.sqlstate == "40000"
    await cell.settle(PATIENCE)
    assert await cell.judge(load, SMALL, outcome) == []


async def test_a_commit_prepared_that_says_something_else(cell: Cell) -> None:
    """Behind the decision nothing can be refused any more: success, at most with a warning, and all rows."""
    load = next(cell.numbers)
    lie = instead(encode.command_complete("ROLLBACK PREPARED"), IDLE)
    cell.faults[1].add(Rule(Fault.LIE, F.QUERY, b"COMMIT PREPARED", when=When.ANSWERED, lie=lie))
    async with await cell.connect() as client:
        outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
    assert outcome.acknowledged
    await cell.heal()
    assert await cell.judge(load, SMALL, outcome) == []


async def test_a_ready_too_many(cell: Cell) -> None:
    """What was not asked for ends the shard's connection; the session goes on."""
    cell.faults[2].add(Rule(Fault.LIE, F.QUERY, b"BEGIN", when=When.ANSWERED, lie=lambda answer: answer + READY))
    async with await cell.connect() as client:
        load, next_load = next(cell.numbers), next(cell.numbers)
        first = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
        await cell.heal()
        assert await cell.judge(load, SMALL, first) == []
        again = await asyncio.wait_for(cell.copy(client, next_load, SMALL), PATIENCE)
        assert again.acknowledged, again
        assert await cell.judge(next_load, SMALL, again) == []


@pytest.fixture
def databases(servers18: Servers) -> Iterator[Databases]:
    made = Databases.create(servers18)
    yield made
    made.drop()


async def test_notices_without_end(databases: Databases, tmp_path: Path) -> None:
    """45 MiB of them, and a client that does not read: the shard waits, and other sessions do not notice."""
    # The fault proxies run here, and are busy with the notices: a short deadline would take them for dead.
    async with Cell.over(databases.shards, tmp_path, seconds=PATIENCE) as cell:
        await _flood(cell)


async def _flood(cell: Cell) -> None:
    notices = [encode.notice_response({**NOTICE, "M": f"{number} {'x' * 300}"}) for number in range(150_000)]
    cell.faults[2].add(
        Rule(Fault.LIE, F.QUERY, b"COPY loads", when=When.ANSWERED, application="flooded", lie=before(*notices))
    )
    at_first = cell.proxy.rss()
    reader, writer = await asyncio.open_connection(cell.proxy.host, cell.proxy.port)
    words = {"user": "postgres", "database": "shop", "application_name": "flooded"}
    writer.write(encode.startup_message(words) + encode.query(b"COPY loads FROM STDIN"))
    async with await cell.connect("bystander") as bystander:
        for _ in range(30):
            await asyncio.wait_for(bystander.execute("SELECT 1"), PATIENCE)
            assert cell.proxy.rss() - at_first < 48 * MIB
            await asyncio.sleep(0.1)
    # When it does read, nothing is missing.
    response = encode.copy_in_response(0, [0, 0, 0])
    answer = (
        bytearray()
    )  # grown in place: copies of 45 MiB would keep the fault proxies, which run here too, from serving
    last = f"{len(notices) - 1} {'x' * 300}".encode()
    while response not in answer or last not in answer[-(2 << 20) :]:
        chunk = await asyncio.wait_for(reader.read(1 << 20), PATIENCE)
        assert chunk
        answer += chunk
    assert answer.count(b"x" * 300) == len(notices)
    writer.write(encode.copy_fail("enough"))
    assert b"C57014" in await asyncio.wait_for(reader.readuntil(b"Z\0\0\0\5I"), PATIENCE)
    writer.close()
