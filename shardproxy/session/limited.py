"""Execute with a row limit: a portal read in pieces, shard after shard where it has several.

Manual: "Extended Query", Execute's maximum number of rows. Each shard's part stays open as a portal there, so the
transaction must be open, as it must with one server. Its name there is used once; only a named portal of a single
shard has the client's name, for to SQL it is a cursor.

PostgreSQL runs a statement that changes rows to its end at the first Execute, however few of its RETURNING rows are
asked for. So do all shards here: those whose turn has not come are asked for one row, which waits for its turn.
"""

from dataclasses import dataclass, field
from itertools import count

from shardproxy.backend.connection import Connection
from shardproxy.engine.copy_out import Discard
from shardproxy.engine.engine import READS, SUSPENDED, Engine
from shardproxy.engine.results import DATA_ROW, Answer, OnAgreed, Output, Relay
from shardproxy.native import FrameMerge
from shardproxy.routing import Connected, Replicate
from shardproxy.session.portals import Portal
from shardproxy.sql import Kind
from shardproxy.wire import encode
from shardproxy.wire.constants import B

PIECEWISE = frozenset({
    Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE,
    Kind.EXECUTE, Kind.FETCH, Kind.SHOW, Kind.EXPLAIN,
})  # fmt: skip
"""Kinds whose rows may be more than a limit; for all others it has no meaning."""

_numbers = count(1)


class _Kept(Discard):
    """An output that keeps what it gets: at most one row."""

    def __init__(self) -> None:
        self.rows = b""

    def write(self, data: bytes) -> None:
        """Keep the bytes."""
        self.rows += data


@dataclass(slots=True, eq=False)
class Reading:
    """Where the reading of a portal stands."""

    portal: Portal
    waiting: list[Connection]  # not read to the end
    same: bool  # all shards give the same rows, and one counts
    alone: bool  # one shard's tag is the answer
    changes: bool
    verb: str = "SELECT"
    name: bytes = field(default_factory=lambda: b"shardproxy_%d" % next(_numbers))
    cursor: str = ""  # the name that SQL knows, where it does
    begun: set[Connection] = field(default_factory=set)
    kept: dict[Connection, bytes] = field(default_factory=dict)

    async def read(self, engine: Engine, limit: int, on_agreed: OnAgreed) -> str | None:
        """Give up to `limit` rows, all if it is 0; return the tag at the end of the portal, SUSPENDED before it."""
        if self.same:
            for connection in self.waiting[1:]:
                await self._piece(connection, Discard(), 0, on_agreed)
            del self.waiting[1:]
        first = not self.begun
        rows = 0
        while self.waiting and (rows < limit or not limit):
            connection = self.waiting[0]
            kept = self.kept.pop(connection, b"")
            if kept:
                engine.output.write(kept)
                rows += 1
                continue
            answer = await self._piece(connection, engine.output, limit and limit - rows, on_agreed)
            if answer.suspended:
                rows = limit
                break
            if self.alone:
                self.waiting.clear()
                return None if answer.empty else answer.tag or ""
            rows += self._end(connection, answer)
        if first and self.changes:
            for connection in [one for one in self.waiting if one not in self.begun]:
                ahead = _Kept()
                answer = await self._piece(connection, ahead, 1, on_agreed)
                if ahead.rows:
                    self.kept[connection] = ahead.rows
                if not answer.suspended:
                    self._end(connection, answer)
        if limit and rows >= limit:
            return SUSPENDED
        # Of a change, too, the tag counts the rows of the last Execute.
        return f"{self.verb} {rows}"

    def _end(self, connection: Connection, answer: Answer) -> int:
        """A shard is at its end; return the rows that this Execute got from it."""
        self.waiting.remove(connection)
        self.verb, _, last = (answer.tag or "").rpartition(" ")
        return int(last) if last.isdigit() else 0

    async def _piece(self, connection: Connection, output: Output, rows: int, on_agreed: OnAgreed) -> Answer:
        portal = self.portal
        request = b""
        described = False
        if connection not in self.begun:
            self.begun.add(connection)
            request = portal.bind_on(connection, self.name)
            if portal.describe:
                portal.describe, described = False, True
                request += encode.describe(b"P", self.name)
        connection.write(request + encode.execute(self.name, rows) + encode.SYNC)
        forward = frozenset({B.ROW_DESCRIPTION, B.NO_DATA}) if described else frozenset()
        [answer] = await Relay(
            [connection], output, FrameMerge(1, DATA_ROW), forward=forward, on_agreed=on_agreed
        ).run()
        return answer

    def close(self) -> None:
        """Have the shards close what is left of the portal, with whatever is sent to them next."""
        for connection in self.begun:
            if connection.usable:
                connection.closing.append(encode.close(b"P", self.name))
        self.waiting.clear()


async def run_limited(engine: Engine, portal: Portal, name: bytes, limit: int, on_agreed: OnAgreed) -> str | None:
    """Return up to `limit` rows of the portal; return the tag at its end, SUSPENDED before it."""
    if portal.reading is None:
        statement = portal.prepared.statement
        plan, connections = await engine.connections_of(statement, portal.parameters())
        same = isinstance(plan, Replicate | Connected)
        reading = portal.reading = Reading(
            portal, connections, same, same or len(connections) == 1, statement.kind not in READS
        )
        if name and reading.alone and not same:
            reading.name = name
            reading.cursor = name.decode(errors="surrogateescape")
            engine.cursor_opened(reading.cursor, connections[0])
    return await portal.reading.read(engine, limit, on_agreed)


async def run_cursor(engine: Engine, connection: Connection, name: bytes, limit: int) -> str | None:
    """Read a cursor that SQL has opened: to the protocol it is a portal. Return the tag, or SUSPENDED."""
    connection.write(encode.execute(name, limit) + encode.SYNC)
    relay = Relay([connection], engine.output, FrameMerge(1, DATA_ROW), forward=frozenset())
    [answer] = await relay.run()
    return SUSPENDED if answer.suspended else answer.tag
