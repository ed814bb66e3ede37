"""One connection to a shard: transcripts without a session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shardproxy.errors import ConnectionLost, PgError
from shardproxy.net import dial
from shardproxy.net.stream import Stream
from shardproxy.shard.address import Address
from shardproxy.shard.connect import connect
from shardproxy.shard.connection import Connection
from shardproxy.wire.framing import FrameReader
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed
from tests.support.messages import (
    BOUND,
    CLOSED,
    EMPTY,
    NO_DATA,
    PARSED,
    SUSPENDED,
    SYNC,
    Said,
    bind,
    close,
    columns,
    complete,
    copy_in,
    copy_out,
    data,
    describe,
    error,
    execute,
    fatal,
    joined,
    notice,
    notification,
    parameters,
    parse,
    query,
    ready,
    row,
    setting,
)
from tests.support.playbook import FakeShard, Wire, settle

STALL = 0.05  # seconds

ASYNCHRONOUS = notice("look"), setting("TimeZone", "CET"), notification(b"\0\0\0\x07news\0\0")


class Link:
    """A connection and its server."""

    def __init__(self, server: FakeShard, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.heard: list[str] = []
        connection.on_notice = lambda fields: self.heard.append(fields["M"])
        connection.on_parameter = lambda name, value: self.heard.append(f"{name}={value}")
        connection.on_notification = lambda payload: self.heard.append(payload[4:8].decode())

    async def refuses(self, job: Awaitable[object], sqlstate: str, detail: str | None = None) -> PgError:
        with pytest.raises(PgError) as caught:
            await job
        assert caught.value.sqlstate == sqlstate
        if detail is not None:
            assert detail in (caught.value.detail or "")
        return caught.value


Dial = Callable[[], Awaitable[Link]]


@pytest.fixture(params=[None, 1], ids=["whole", "byte by byte"])
async def link(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    server = FakeShard("s0", 100)
    server.cut = request.param

    async def dialled(host: str, port: int) -> Stream:
        assert (host, port) == ("somewhere", 5432)
        if server.refuses:
            raise ConnectionRefusedError("refused")
        stream = Stream(FrameReader())
        server.accept(stream)
        return stream

    monkeypatch.setattr(dial, "dial", dialled)
    address = Address("s0", "somewhere", 5432, "me", "shop", stall_timeout=STALL)
    connection = await connect(address, {})
    yield Link(server, connection)
    connection.abort()
    await settle()


async def test_log_in(link: Link) -> None:
    assert link.connection.pid == 100
    assert link.connection.parameters["client_encoding"] == "UTF8"
    assert link.connection.usable
    assert not link.connection.busy


async def test_execute(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute("SET a = 1"))
    await link.server.gets(query("SET a = 1"))
    assert link.connection.busy
    await link.server.sends(complete("SET"), ready("T"))
    assert await job == "SET"
    assert link.connection.status == ord("T")
    assert not link.connection.busy


FORESEEN = complete("COMMIT"), ready("I")


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        (FORESEEN, "COMMIT"),
        ((notice("look"), *FORESEEN), "COMMIT"),
        ((complete("ROLLBACK"), ready("I")), "ROLLBACK"),
        ((complete("COMMIT"), ready("T")), "COMMIT"),
    ],
)
async def test_a_foreseen_answer(link: Link, said: tuple[Said, ...], tag: str) -> None:
    """It is read at once where it has come as it was foreseen, and whole; any other is still to be read."""
    link.connection.query(b"COMMIT")
    job = asyncio.ensure_future(link.connection.answered_by(joined(FORESEEN)))
    await link.server.sends(*said)
    if await job:
        assert said == FORESEEN
    else:
        assert said != FORESEEN or link.server.cut
        assert await link.connection.completed() == tag
    assert not link.connection.busy
    assert link.connection.status == said[-1].data[-1]
    await link.server.gets(query("COMMIT"))


async def test_a_foreseen_answer_that_does_not_come(link: Link) -> None:
    link.connection.query(b"COMMIT")
    job = asyncio.ensure_future(link.connection.answered_by(joined(FORESEEN)))
    await link.server.leaves()
    assert not await job
    await link.refuses(link.connection.completed(), "08006")
    await link.server.gets(query("COMMIT"))


async def test_a_statement_of_the_proxys_own(link: Link) -> None:
    """It is prepared once, and again after it was closed; its answers are passed over."""
    for number in range(4):
        link.connection.prepare(b"a", 1, b"SELECT 1")
        link.connection.query(b"EXECUTE a")
        parsing = [parse("a", "SELECT 1"), SYNC] if number in {0, 2} else []
        closing = [close("S", "a")] if number == 2 else []
        await link.server.gets(*closing, *parsing, query("EXECUTE a"))
        answers = [CLOSED] if closing else []
        answers += [PARSED, ready("I")] if parsing else []
        await link.server.sends(*answers, complete("SELECT 1"), ready("I"))
        assert await link.connection.completed() == "SELECT 1"
        if number == 1:
            link.connection.statements.close(b"a")


async def test_a_statement_of_the_proxys_own_is_refused(link: Link) -> None:
    for _ in range(2):
        link.connection.prepare(b"a", 1, b"SELECT 1")
        link.connection.query(b"EXECUTE a")
        await link.server.gets(parse("a", "SELECT 1"), SYNC, query("EXECUTE a"))
        await link.server.sends(error("42883"), ready("I"), error("26000"), ready("I"))
        await link.refuses(link.connection.completed(), "26000")


async def test_fetch(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1; SELECT 2"))
    await link.server.gets(query("SELECT 1; SELECT 2"))
    await link.server.sends(columns("a"), row("1"), complete("SELECT 1"), columns("a"), row(None))
    await link.server.sends(complete("SELECT 1"), ready("I"))
    assert await job == [[b"1"], [None]]


async def test_the_first_error_after_its_end(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1/0"))
    await link.server.gets(query("SELECT 1/0"))
    await link.server.sends(columns("a"), error("22012"))
    assert not job.done()
    await link.server.sends(ready("E"))
    await link.refuses(job, "22012")
    assert link.connection.usable
    assert link.connection.status == ord("E")


async def test_asynchronous_messages_at_every_place(link: Link) -> None:
    said = columns("a"), row("1"), complete("SELECT 1"), ready("I")
    for place in range(len(said) + 1):
        link.heard.clear()
        job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
        await link.server.gets(query("SELECT 1"))
        await link.server.sends(*said[:place], *ASYNCHRONOUS, *said[place:])
        assert await job == [[b"1"]]
        await settle()
        assert link.heard == ["look", "TimeZone=CET", "news"]
    assert link.connection.parameters["TimeZone"] == "CET"


async def test_asynchronous_messages_while_idle(link: Link) -> None:
    await link.server.sends(*ASYNCHRONOUS)
    assert link.heard == ["look", "TimeZone=CET", "news"]
    assert link.connection.usable


async def test_an_error_while_idle(link: Link) -> None:
    """A server that ends an idle connection says why: the next user is told."""
    await link.server.sends(fatal("57P01"))
    assert not link.connection.usable
    await link.refuses(link.connection.execute("SELECT 1"), "08006", "57P01")


@pytest.mark.parametrize("said", [ready("I"), row("1"), data("x"), PARSED], ids=repr)
async def test_an_answer_while_idle(link: Link, said: Said) -> None:
    await link.server.sends(said)
    assert not link.connection.usable


QUERIED = columns("a"), row("1"), complete("SELECT 1"), ready("I")


@pytest.mark.parametrize("place", range(len(QUERIED)))
async def test_fatal_at_every_place(link: Link, place: int) -> None:
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.sends(*QUERIED[:place], fatal("57P01"))
    await link.refuses(job, "08006", "57P01")
    assert not link.connection.usable
    link.server.inbox.clear()


@pytest.mark.parametrize("state", ["25P03", "25P04", "57P05"])
async def test_a_time_out_of_the_session_keeps_its_words(link: Link, state: str) -> None:
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.sends(fatal(state))
    refusal = await link.refuses(job, state)
    assert refusal.fields["S"] == "FATAL"
    link.server.inbox.clear()


@pytest.mark.parametrize("place", range(len(QUERIED)))
async def test_lost_at_every_place(link: Link, place: int) -> None:
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.sends(*QUERIED[:place])
    await link.server.leaves()
    await link.refuses(job, "08006")


@pytest.mark.parametrize("place", range(len(QUERIED)))
@pytest.mark.parametrize("wrong", [PARSED, SUSPENDED, b"\0\0\0\0\4", b"Z\0\0\0\2", b"T\0\0\0\5x"], ids=repr)
async def test_garbage_at_every_place(link: Link, place: int, wrong: Said | bytes) -> None:
    """The state of a server that breaks the protocol is not known: the connection is given up."""
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.sends_bytes(joined(QUERIED[:place]) + (wrong if isinstance(wrong, bytes) else wrong.data))
    await link.server.leaves()
    await link.refuses(job, "08006")
    assert not link.connection.usable


BATCH = parse("a", "SELECT 1"), bind("", "a"), describe("P"), execute(), SYNC
BATCH_OWED = (
    Owed(Expect.PARSE, name=b"a"),
    Owed(Expect.BIND),
    Owed(Expect.DESCRIBE_PORTAL),
    Owed(Expect.EXECUTE),
    SWALLOWED_SYNC,
)
BATCH_SAID = PARSED, BOUND, columns("a"), complete("SELECT 0"), ready("I")


def send_batch(connection: Connection) -> None:
    connection.statements.parsed(b"a", 1)
    connection.send(joined(BATCH), BATCH_OWED)


@pytest.mark.parametrize("place", range(5))
async def test_an_error_at_each_owed_answer(link: Link, place: int) -> None:
    """What it drops is not answered; the statement is prepared only if its Parse was."""
    send_batch(link.connection)
    await link.server.gets(*BATCH)
    await link.server.sends(*BATCH_SAID[:place], error("57014"), ready("I"))
    await link.refuses(link.connection.complete(), "57014")
    assert not link.connection.busy
    assert link.connection.statements.has(b"a", 1) == (place > 0)
    send_batch(link.connection)
    await link.server.gets(*BATCH)
    await link.server.sends(*BATCH_SAID)
    assert [reply.type for reply in await link.connection.complete()] == [one.data[0] for one in BATCH_SAID]


@pytest.mark.parametrize("place", range(5))
async def test_lost_at_each_owed_answer(link: Link, place: int) -> None:
    send_batch(link.connection)
    await link.server.sends(*BATCH_SAID[:place])
    await link.server.leaves()
    await link.refuses(link.connection.complete(), "08006")


@pytest.mark.parametrize("said", [copy_in(0), copy_out(0)], ids=["CopyInResponse", "CopyOutResponse"])
async def test_a_copy_that_was_not_asked_for(link: Link, said: Said) -> None:
    job = asyncio.ensure_future(link.connection.execute("COPY t FROM STDIN"))
    await link.server.gets(query("COPY t FROM STDIN"))
    await link.server.sends(said)
    await link.refuses(job, "08006")
    assert not link.connection.usable


async def test_nothing_is_an_answer(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute(""))
    await link.server.gets(query(""))
    await link.server.sends(EMPTY, ready("I"))
    assert await job == ""


async def test_an_end_without_a_tag(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute("SET a = 1"))
    await link.server.gets(query("SET a = 1"))
    await link.server.sends(ready("I"))
    await link.refuses(job, "08006")


async def test_rows_that_were_not_asked_for(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.fetch_row("SELECT 1", 2))
    await link.server.gets(query("SELECT 1"))
    await link.server.sends(*QUERIED)
    await link.refuses(job, "08006")


async def test_describe(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.describe(b"SELECT * FROM t"))
    await link.server.gets(parse("", "SELECT * FROM t"), describe("S"), SYNC)
    await link.server.sends(PARSED, parameters(), columns("a", "b"), ready("I"))
    assert [column.name for column in await job] == ["a", "b"]
    job = asyncio.ensure_future(link.connection.describe(b"SET a = 1"))
    await link.server.gets(parse("", "SET a = 1"), describe("S"), SYNC)
    await link.server.sends(PARSED, parameters(), NO_DATA, ready("I"))
    assert await job == []


async def test_close_in_front_of_a_query(link: Link) -> None:
    """Its answers are passed over; those of the Query are the reader's."""
    statements = link.connection.statements
    for number, name in enumerate((b"a", b"b")):
        statements.parsed(name, number)
    statements.close(b"a")
    statements.close_portal(b"p")
    statements.close(b"never")
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.gets(close("S", "a"), close("P", "p"), SYNC, query("SELECT 1"))
    await link.server.sends(CLOSED, CLOSED, ready("I"), *QUERIED)
    assert await job == [[b"1"]]
    assert statements.has(b"b", 1)
    assert not statements.has(b"a", 0)
    job = asyncio.ensure_future(link.connection.fetch("SELECT 1"))
    await link.server.gets(query("SELECT 1"))
    await link.server.sends(*QUERIED)
    await job


async def test_a_query_ends_the_unnamed_statement(link: Link) -> None:
    link.connection.statements.parsed(b"", 1)
    job = asyncio.ensure_future(link.connection.execute("SET a = 1"))
    await link.server.gets(query("SET a = 1"))
    await link.server.sends(complete("SET"), ready("I"))
    await job
    assert not link.connection.statements.has(b"", 1)


# Cancel.


async def test_cancel_is_waited_for(link: Link) -> None:
    """One request at a time; when it has ended, what is sent next is safe from it."""
    connection = link.connection
    job = asyncio.ensure_future(connection.execute("SELECT pg_sleep(9)"))
    await link.server.gets(query("SELECT pg_sleep(9)"))
    under_way = connection.cancel()
    assert connection.cancel() is under_way
    await under_way
    assert link.server.cancels == 1
    assert not job.done()
    await settle()
    assert connection.cancelling is None
    await link.server.sends(error("57014"), ready("I"))
    await link.refuses(job, "57014")


async def test_a_reason_for_a_cancel(link: Link) -> None:
    """The error of a statement that the proxy has cancelled is why it has; the next statement's is its own."""
    connection = link.connection
    for expected in ("40P01", "57014"):
        job = asyncio.ensure_future(connection.execute("LOCK t"))
        await link.server.gets(query("LOCK t"))
        if expected == "40P01":
            connection.cancelled_for = PgError("40P01", "deadlock detected")
        await link.server.sends(error("57014"), ready("E"))
        await link.refuses(job, expected)


async def test_a_cancel_that_came_too_late(link: Link) -> None:
    connection = link.connection
    job = asyncio.ensure_future(connection.execute("LOCK t"))
    await link.server.gets(query("LOCK t"))
    connection.cancelled_for = PgError("40P01", "deadlock detected")
    await link.server.sends(complete("LOCK TABLE"), ready("T"))
    await job
    job = asyncio.ensure_future(connection.execute("SELECT 1"))
    await link.server.gets(query("SELECT 1"))
    await link.server.sends(error("57014"), ready("E"))
    await link.refuses(job, "57014")


async def test_a_server_that_cannot_be_reached_needs_no_cancel(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute("SELECT 1"))
    await link.server.gets(query("SELECT 1"))
    link.server.refuses = True
    await link.connection.cancel()
    assert link.server.cancels == 0
    await link.server.leaves()
    await link.refuses(job, "08006")


# A server that does not answer.


async def test_a_silent_server_that_lives(link: Link) -> None:
    """It answers a new connection: the statement goes on, as long as it takes."""
    first = link.server.wire
    job = asyncio.ensure_future(link.connection.execute("SELECT pg_sleep(9)"))
    await link.server.gets(query("SELECT pg_sleep(9)"))
    await link.server.connects(3)
    link.server.inbox.clear()
    link.server.wire = first
    await link.server.sends(complete("SELECT 1"), ready("I"))
    assert await job == "SELECT 1"


async def test_a_silent_server_that_is_gone(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute("SELECT pg_sleep(9)"))
    await link.server.gets(query("SELECT pg_sleep(9)"))
    link.server.refuses = True
    await link.refuses(asyncio.wait_for(job, 10), "08006", "does not answer")


async def test_an_idle_server_is_not_asked(link: Link) -> None:
    job = asyncio.ensure_future(link.connection.execute("SELECT 1"))
    await link.server.gets(query("SELECT 1"))
    await link.server.sends(complete("SELECT 1"), ready("I"))
    await job
    await asyncio.sleep(3 * STALL)
    assert link.server.connected == 1


async def test_a_server_that_the_proxy_holds_back_is_not_asked(link: Link) -> None:
    """Its silence is the client's, who does not read."""
    link.connection.query(b"SELECT 1")
    await link.server.gets(query("SELECT 1"))
    link.connection.stream.pause_reading("the client")
    await asyncio.sleep(3 * STALL)
    assert link.server.connected == 1
    link.connection.stream.resume_reading("the client")


async def test_connect_is_refused(link: Link) -> None:
    link.server.refuses = True
    await link.refuses(connect(link.connection.address, {}), "08001", "refused")


async def test_connect_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes the connection instead of a log-in."""

    async def dialled(host: str, port: int) -> Stream:
        stream = Stream(FrameReader())
        stream.connection_made(Wire(stream, lambda wire, _: wire.lose()))
        return stream

    monkeypatch.setattr(dial, "dial", dialled)
    with pytest.raises(PgError) as caught:
        await connect(Address("s0", "somewhere", 5432, "me", "shop"), {})
    assert caught.value.sqlstate == "08001"
    assert isinstance(caught.value.__cause__, ConnectionLost)
