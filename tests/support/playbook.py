"""Scripted peers: a client and its shards as transcripts, with the proxy's session between them and no socket.

    client, s0, s1 = await playbook.session()
    await client.sends(query("SELECT 1"))
    await s0.gets(query("SELECT 1"))
    await s0.sends(columns("a"), row("1"), complete("SELECT 1"), ready("I"))
    await client.gets(columns("a"), row("1"), complete("SELECT 1"), ready("I"))

Steps happen in the order in which they are written: so does the order of answers of several shards. `gets` names all
that has come since this peer's last `gets`, no more and no less; so an empty one says that nothing has.

What a server does whatever the test answers by itself: log-in, and questions to its catalogs about the tables that it
`has`. A CancelRequest is counted in `cancels`.
"""

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

import pytest

from shardproxy.config import parse
from shardproxy.errors import ConnectionLost, PgError
from shardproxy.net import dial
from shardproxy.net.stream import HIGH_WATER, LOW_WATER, Stream
from shardproxy.routing.relation import Column, Relation
from shardproxy.session import pieces, portals
from shardproxy.session.cancel import CancelKeys
from shardproxy.session.copy_in import FLUSH_DELAY
from shardproxy.session.database import Database
from shardproxy.session.login import Identity
from shardproxy.session.session import Session
from shardproxy.shard import catalog
from shardproxy.shard.actions import actions_sql
from shardproxy.shard.objects import objects_sql
from shardproxy.shard.written import written_sql
from shardproxy.wire import encode
from shardproxy.wire.constants import B, frontend_limit
from shardproxy.wire.framing import FrameReader
from shardproxy.wire.startup import CancelRequest, StartupReader
from tests.support.messages import TERMINATE, Said, complete, joined, parameters, ready, row, said

TURNS = 30
"""Turns of the event loop without a socket after which nothing more happens: no chain of tasks here is as long."""

PATIENCE = 5.0
"""Seconds for a session whose connections are all lost to end, before its test fails."""

SETTINGS = {
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "search_path": '"$user", public',
}
"""What a server reports at log-in."""

CONFIG = """
[server]
listen = "127.0.0.1:0"

[[databases]]
name = "shop"
commit = "one-phase"
unlisted_tables = "error"
shards = [
  { name = "s0", dsn = "postgresql://postgres@127.0.0.1:1/shop" },
  { name = "s1", dsn = "postgresql://postgres@127.0.0.1:2/shop" },
]

[[databases.tables]]
name = "t"
placement = "hash"
key = ["id"]

[[databases.tables]]
name = "ref"
placement = "reference"
"""

INT4, TEXT = 23, 25


def relation(name: str, oid: int, *more: Column) -> Relation:
    """A table of `id int, v text` as its catalog shows it."""
    own = Column("id", 1, INT4, "integer"), Column("v", 2, TEXT, "text", collation="default")
    return Relation(oid, "public", name, "r", (*own, *more), 18, "UTF8")


T = relation("t", 1001)
"""Hash by id: see AT."""

REF = relation("ref", 1002)

AT = ("1", "3")
"""An id that belongs to shard 0 of two, and one that belongs to shard 1."""


class Wire(asyncio.Transport):
    """The transport of one of the proxy's streams: its other end is the test."""

    def __init__(self, stream: Stream, on_data: Callable[["Wire", bytes], None]) -> None:
        super().__init__()
        self.stream = stream
        self.writes: list[bytes] = []
        self.paused = False
        """Whether the proxy does not read."""
        self.closed = False
        self.on_data = on_data
        self._unread: list[bytes] | None = None
        self._unsent: deque[bytes] = deque()
        self._full = False

    # The proxy's side.

    def write(self, data: Any) -> None:
        if self.closed:
            # As asyncio's transports: the loss is told by `connection_lost`.
            return
        self.writes.append(bytes(data))
        if self._unread is None:
            self.on_data(self, bytes(data))
            return
        self._unread.append(bytes(data))
        if not self._full and self.unread > HIGH_WATER:
            self._full = True
            self.stream.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (HIGH_WATER, LOW_WATER)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        if self._unsent:
            asyncio.get_running_loop().call_soon(self._deliver)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.lose()

    # The test's side.

    @property
    def unread(self) -> int:
        """Bytes that the proxy has written and this end has not read."""
        return sum(map(len, self._unread or ()))

    def stop_reading(self) -> None:
        self._unread = []

    def read_on(self) -> None:
        unread, self._unread = self._unread or [], None
        for data in unread:
            self.on_data(self, data)
        if self._full:
            self._full = False
            self.stream.resume_writing()

    def send(self, data: bytes) -> None:
        """Have bytes arrive, in one read of the proxy's if it reads; or as soon as it does."""
        self._unsent.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._unsent and not self.paused and not self.closed:
            data = self._unsent.popleft()
            buffer = self.stream.get_buffer(-1)
            if len(data) > len(buffer):
                self._unsent.appendleft(data[len(buffer) :])
                data = data[: len(buffer)]
            buffer[: len(data)] = data
            self.stream.buffer_updated(len(data))

    def lose(self) -> None:
        """End the connection."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.stream.connection_lost, None)


class Peer:
    """A client or a shard: what it sends, and what it gets."""

    def __init__(self, name: str, *, frontend: bool) -> None:
        self.name = name
        self.wire: Wire
        self.cut: int | None = None
        """Bytes of what it sends that arrive in one read; None for all."""
        self.inbox: list[Said] = []
        self._frontend = frontend  # whether what it gets are a client's messages
        self._frames = FrameReader(frontend_limit if frontend else None)
        self._seen = 0
        self._come = asyncio.Event()

    def take(self, _: Wire, data: bytes) -> None:
        self._frames.feed(data)
        while (message := self._frames.next()) is not None:
            self._got(said(message, frontend=self._frontend))
        assert not self._frames.buffered, f"{self.name} was sent a part of a message: {data!r}"

    def _got(self, message: Said) -> None:
        self.inbox.append(message)
        self._come.set()

    async def waits(self) -> None:
        """Wait for a message that takes its time."""
        self._come.clear()
        async with asyncio.timeout(PATIENCE):
            while not self.inbox:
                await self._come.wait()

    async def sends(self, *messages: Said) -> None:
        """Have messages arrive at the proxy, together."""
        await self.sends_bytes(joined(messages))

    async def sends_bytes(self, data: bytes, *cuts: int) -> None:
        """Have bytes arrive, in several reads if they are cut."""
        at = sorted({0, *cuts, *(range(0, len(data), self.cut) if self.cut else ())})
        for start, end in zip(at, [*at[1:], len(data)], strict=True):
            self.wire.send(data[start:end])
            await asyncio.sleep(0)
        await settle()

    async def gets(self, *messages: Said) -> None:
        """See that these have come, and nothing else."""
        await settle()
        got, self.inbox = self.inbox, []
        if got != list(messages):
            pytest.fail(f"{self.name} expects\n{_listed(messages)}\nand gets\n{_listed(got)}")

    @property
    def writes(self) -> int:
        """How many writes of the proxy's have brought what came since the last look."""
        seen, self._seen = self._seen, len(self.wire.writes)
        return self._seen - seen

    async def leaves(self) -> None:
        """Lose the connection."""
        self.wire.lose()
        await settle()

    def held_back(self) -> bool:
        """Whether the proxy does not read what this peer sends."""
        return self.wire.paused

    def stops_reading(self) -> None:
        self.wire.stop_reading()

    async def reads_on(self) -> None:
        self.wire.read_on()
        await settle()


class Client(Peer):
    """The client of one session."""

    def __init__(self) -> None:
        super().__init__("the client", frontend=False)


class FakeShard(Peer):
    """A server that does what the test says."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(name, frontend=True)
        self.pid = pid
        self.refuses = False
        """Whether it is unreachable."""
        self.connected = 0
        self.cancels = 0
        self.on_message: Callable[[Said], None] | None = None
        """Takes what it gets instead of the test, for a server that answers by itself."""
        self.settings = dict(SETTINGS)
        self._connecting: asyncio.Future[None] | None = None
        self._catalog: dict[bytes, tuple[Said, ...]] = {}

    def has(self, *relations: Relation) -> None:
        """Answer questions about these tables by itself, as long as they are asked for one at a time."""
        for one in relations:
            for schema in (None, one.schema):
                searched = json.dumps([one.schema]).encode().hex()
                answer = (row(catalog_answer(one), "read committed", searched),)
                self._catalog[catalog.relations_and_isolation_sql([(schema, one.name)]).encode()] = answer
                fact = [one.schema, one.name, one.kind, one.oid, None]
                found = json.dumps([one.schema, [fact]]).encode().hex()
                self._catalog[objects_sql([("relation", schema, one.name)]).encode()] = (row(found),)
            self._catalog[catalog.relatives_sql(one.oid).encode()] = (row(b"[]".hex()),)
            self._catalog[actions_sql(one.schema, one.name).encode()] = (row(b"[]".hex()),)
            facts = {
                "kind": one.kind, "version": 180000, "key": ["id"], "columns": [["id", 23], ["v", 25]],
                "triggers": None, "rules": False, "cascades": False, "given": None, "referenced": None,
                "refers": None, "can_silence": False, "unique": ["id"], "late": None, "recursive": False,
                "inherited": False, "moving": None, "hidden": (),
            }  # fmt: skip
            asked = written_sql(one.schema, one.name, 0)
            self._catalog[asked.encode()] = (row(json.dumps(facts).encode().hex()),)

    async def connects(self, times: int) -> None:
        """Wait until so many connections have been made in all."""
        while self.connected < times:
            self._connecting = asyncio.get_running_loop().create_future()
            await self._connecting

    def accept(self, stream: Stream) -> None:
        """Take a connection: a session, or a CancelRequest."""
        reader = StartupReader()

        def start(wire: Wire, data: bytes) -> None:
            reader.feed(data)
            packet = reader.next()
            if isinstance(packet, CancelRequest):
                assert packet.pid == self.pid
                self.cancels += 1
                wire.lose()
                return
            self.wire = wire
            self.connected += 1
            if self._connecting is not None and not self._connecting.done():
                self._connecting.set_result(None)
            self._frames = FrameReader(frontend_limit)
            self._seen = len(wire.writes)
            wire.on_data = self.take
            login = [encode.authentication_ok(), *(encode.parameter_status(*one) for one in self.settings.items())]
            login += encode.backend_key_data(self.pid, b"secr"), encode.ready_for_query(b"I")
            asyncio.get_running_loop().call_soon(wire.send, b"".join(login))

        stream.connection_made(Wire(stream, start))

    def _got(self, message: Said) -> None:
        answer = self._catalog.get(message.data[5:-1])
        if answer is None:
            (self.on_message or super()._got)(message)
            return
        whole = joined([*answer, complete("SELECT 1"), ready(self._status)])
        asyncio.get_running_loop().call_soon(self.wire.send, whole)

    _status = "I"

    async def sends(self, *messages: Said) -> None:
        for message in messages:
            if message.data[:1] == b"Z":
                self._status = message.data[5:].decode()
        await super().sends(*messages)


def found(one: Relation | None) -> Said:
    """The row by which a catalog answers for a relation."""
    return row(catalog_answer(one))


def catalog_answer(one: Relation | None) -> str:
    if one is None:
        return json.dumps([None]).encode().hex()
    facts: dict[str, Any] = {
        "oid": one.oid,
        "schema": one.schema,
        "name": one.name,
        "kind": one.kind,
        "columns": [asdict(column) for column in one.columns],
        "server_version": str(one.server_version * 10000),
        "server_encoding": one.server_encoding,
        "database_collation_is_c": one.database_collation_is_c,
    }
    return json.dumps([facts]).encode().hex()


def described(one: Relation) -> tuple[Said, ...]:
    """What a server answers to Describe of `SELECT * FROM` a table: ParameterDescription and RowDescription."""
    names = b"".join(
        column.name.encode() + struct.pack("!xihihih", one.oid, column.attnum, column.type_oid, -1, column.typmod, 0)
        for column in one.columns
    )
    rows = encode.message(B.ROW_DESCRIPTION, struct.pack("!h", len(one.columns)) + names)
    return parameters(), Said(rows, frontend=False)


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _listed(messages: Sequence[Said]) -> str:
    return "\n".join(f"    {message!r}" for message in messages) or "    nothing"


class Playbook:
    """A client, its session and its shards."""

    def __init__(self, patch: pytest.MonkeyPatch, cut: int | None = None) -> None:
        self.task: asyncio.Task[None] | None = None
        self.database: Database
        self.live: Session
        self._cut = cut
        self._client = Client()
        self._shards: list[FakeShard] = []
        patch.setattr(dial, "dial", self._dial)
        # Names on the shards count from 1 in each test.
        for module in (portals, pieces):
            patch.setattr(module, "_numbers", count(1))

    async def _dial(self, host: str, port: int) -> Stream:
        shard = self._shards[port - 1]
        if shard.refuses:
            raise ConnectionRefusedError("refused")
        stream = Stream(FrameReader())
        shard.accept(stream)
        return stream

    async def session(self, config: str = CONFIG, **settings: str) -> tuple[Client, FakeShard, FakeShard]:
        """Log a client in, with start-up parameters; both shards have `t` and `ref`."""
        self._shards = [FakeShard(f"s{number}", 100 + number) for number in range(2)]
        for shard in self._shards:
            shard.cut = self._cut
            shard.has(T, REF)
        self.database = Database(parse(config).databases[0])
        client = self._client
        stream = Stream(FrameReader(frontend_limit))
        client.wire = Wire(stream, client.take)
        stream.connection_made(client.wire)
        self.live = Session(stream, Identity("me", "shop", (3, 0), settings), self.database, CancelKeys())
        self.task = asyncio.ensure_future(self.live.run())
        await settle()
        assert client.inbox.pop() == ready("I")
        client.inbox.clear()
        s0, s1 = self._shards
        return client, s0, s1

    async def flushed(self) -> None:
        """Wait until a COPY has sent on what it had gathered."""
        await asyncio.sleep(2 * FLUSH_DELAY)

    async def ends_by(self, sqlstate: str) -> None:
        """See that the session has ended by this error, which the listener tells the client."""
        with pytest.raises(PgError) as caught:
            await self._ended()
        assert caught.value.sqlstate == sqlstate

    async def ends_lost(self) -> None:
        """See that the session of a client that is gone has ended."""
        with pytest.raises((ConnectionLost, asyncio.CancelledError)):
            await self._ended()

    async def _ended(self) -> None:
        await settle()
        assert self.task is not None
        assert self.task.done(), "the session goes on"
        task, self.task = self.task, None
        task.result()

    async def end(self) -> None:
        """Have the client leave, and see that nothing was sent that no `gets` has named."""
        if self.task is not None:
            if not self._client.wire.closed:
                await self._client.sends(TERMINATE)
            await settle()
            if not self.task.done():
                for peer in (*self._shards, self._client):
                    peer.wire.lose()
                await asyncio.wait({self.task}, timeout=PATIENCE)
                pytest.fail("the session did not end when the client left")
            self.task.result()
        for peer in (self._client, *self._shards):
            left = [message for message in peer.inbox if message != TERMINATE]
            assert not left, f"{peer.name} got besides\n{_listed(left)}"
        await self.database.deadlocks.close()
