"""Execute with a row limit: a portal read in pieces, shard after shard where it has several.

Manual: "Extended Query", Execute's maximum number of rows. Each shard's part stays open as a portal there, so the
transaction must be open, as it must with one server. Its name there is used once; only a named portal of a single
shard has the client's name, for to SQL it is a cursor.

PostgreSQL runs a statement that changes rows to its end at the first Execute, however few of its RETURNING rows are
asked for. So do all shards here: those whose turn has not come are asked for one row, which waits for its turn. Of a
write of a reference table all rows are kept, for the other shards need them at once.

With LIMIT no shard is asked for more rows than are left of it, and none after the last of them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from shardproxy.combine.answers import Answer
from shardproxy.routing import Connected, Copies, Home, OneShard, Plan, Replicate, limit_of
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import Unseen
from shardproxy.session.client import Client
from shardproxy.session.execute import READS, Executor, Outcome
from shardproxy.session.namespace import shown
from shardproxy.session.portals import UNASKED, Pending, Portal, request, send_with
from shardproxy.session.relay import Discard, Kept, Output, Relay
from shardproxy.session.watch import Own
from shardproxy.shard.connection import Connection
from shardproxy.sql import Fetch, Kind, Modify
from shardproxy.wire import encode
from shardproxy.wire.constants import B
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed

PIECEWISE = frozenset({
    Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE,
    Kind.EXECUTE, Kind.FETCH, Kind.SHOW, Kind.EXPLAIN,
})  # fmt: skip
"""Kinds whose rows may be more than a limit; for all others it has no meaning."""

_TAGS_AGAIN = {
    Kind.SELECT: "SELECT 0", Kind.EXECUTE: "SELECT 0", Kind.SHOW: "SHOW", Kind.EXPLAIN: "EXPLAIN",
    Kind.INSERT: "INSERT 0 0", Kind.UPDATE: "UPDATE 0", Kind.DELETE: "DELETE 0", Kind.MERGE: "MERGE 0",
}  # fmt: skip


def tag_again(portal: Portal) -> str | None:
    """Return the tag of a portal with rows that is executed again after its end; None for any other."""
    statement = portal.prepared.statement
    if portal.broken:
        return None
    if isinstance(statement, Fetch):
        return "FETCH 0" if statement.tag == "FETCH" else None
    if isinstance(statement, Modify) and not statement.returning:
        return None
    return _TAGS_AGAIN.get(statement.kind)


EXECUTED = Owed(Expect.EXECUTE)

_numbers = count(1)


@dataclass(slots=True, eq=False)
class Reading:
    """How far a portal has been read."""

    portal: Portal
    waiting: list[Connection]  # not read to the end
    same: bool  # all shards give the same rows, and one counts
    alone: bool  # one shard's tag is the answer
    changes: bool
    left: int | None = None  # rows that LIMIT still leaves
    unseen: Unseen | None = None  # why it is watched
    commits: bool = False  # by itself, and it would be there
    verb: str = "SELECT"
    name: bytes = field(default_factory=lambda: b"shardproxy_%d" % next(_numbers))
    cursor: str = ""  # the name that SQL knows, where it does
    begun: set[Connection] = field(default_factory=set)
    kept: dict[Connection, bytes] = field(default_factory=dict)

    async def read(self, client: Client, limit: int, pending: list[Pending]) -> Outcome:
        """Give up to `limit` rows, all if it is 0; `pending` are the messages of the client's to be answered first."""
        if self.same:
            for connection in self.waiting[1:]:
                await self._piece(connection, Discard(), 0, pending)
            del self.waiting[1:]
        first = not self.begun or self.same
        rows = 0
        while self.waiting and (rows < limit or not limit):
            connection = self.waiting[0]
            kept = self.kept.pop(connection, b"")
            if kept:
                client.write(kept)
                rows += self._count(1)
                continue
            most = self._most(limit and limit - rows)
            answer = await self._piece(connection, client, most, pending)
            pending = []
            if answer.suspended:
                rows += self._count(most)
                continue
            if self.alone:
                self.waiting.clear()
                return Outcome(None if answer.empty else answer.tag or "")
            rows += self._count(self._end(connection, answer))
        if first and self.changes:
            for connection in [one for one in self.waiting if one not in self.begun]:
                ahead = Kept()
                answer = await self._piece(connection, ahead, 1, [])
                if ahead.data:
                    self.kept[connection] = ahead.data
                if not answer.suspended:
                    self._end(connection, answer)
        if limit and rows >= limit:
            return Outcome(None, suspended=True)
        # Of a change, too, the tag counts the rows of the last Execute.
        return Outcome(f"{self.verb} {rows}")

    def _most(self, wanted: int) -> int:
        """How many rows a shard is to give of those that the client wants; 0 stands for all."""
        return wanted if self.left is None else min(wanted or self.left, self.left)

    def _count(self, rows: int) -> int:
        """So many rows have been given."""
        if self.left is not None:
            self.left -= rows
            if not self.left:
                self.close()
        return rows

    def _end(self, connection: Connection, answer: Answer) -> int:
        """A shard is at its end; return the rows that this Execute got from it."""
        self.waiting.remove(connection)
        self.verb, _, last = (answer.tag or "").rpartition(" ")
        return int(last) if last.isdigit() else 0

    async def _piece(self, connection: Connection, output: Output, rows: int, pending: list[Pending]) -> Answer:
        begun = connection in self.begun
        self.begun.add(connection)
        portal = None if begun else self.portal
        forward = isinstance(output, Client)
        made = request(connection.statements, [] if begun else pending, portal, self.name, forward=forward)
        if begun and connection.statements.types is not None and self.portal.may_carry():
            made.add(encode.describe(b"P", self.name), UNASKED)
        made.add(encode.execute(self.name, rows), EXECUTED)
        made.add(encode.SYNC, SWALLOWED_SYNC)
        connection.send(b"".join(made.data), made.owed)
        [answer] = await Relay([connection], output, alone=self.commits).run()
        return answer

    def close(self) -> None:
        """Have the shards close what is left of the portal, with whatever is sent to them next."""
        for connection in self.begun:
            if connection.usable:
                connection.statements.close_portal(self.name)
        self.begun.clear()
        self.kept.clear()
        self.waiting.clear()


@dataclass(slots=True, eq=False)
class Held:
    """The rows of a write that has been carried out on all shards."""

    client: Client
    rows: deque[bytes] = field(default_factory=deque)
    verb: str = ""
    name: bytes = b""
    cursor: str = ""

    def write(self, data: bytes) -> None:
        """Keep rows, and pass on what comes before them."""
        at = 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5])
            if data[at] == B.DATA_ROW:
                self.rows.append(data[at:end])
            else:
                self.client.write(data[at:end])
            at = end

    async def read(self, client: Client, limit: int, pending: list[Pending]) -> Outcome:
        """Give up to `limit` rows, all if it is 0; no message waits any more."""
        assert not pending
        count = min(limit, len(self.rows)) if limit else len(self.rows)
        for _ in range(count):
            client.write(self.rows.popleft())
        if limit and count == limit:
            return Outcome(None, suspended=True)
        return Outcome(f"{self.verb} {count}")

    def close(self) -> None:
        """Forget what is left."""
        self.rows.clear()


async def _carried_out(
    executor: Executor,
    client: Client,
    portal: Portal,
    plan: Plan,
    connections: Sequence[Connection],
    unseen: Unseen | None,
    pending: list[Pending],
) -> Held:
    held = Held(client)

    def send(connection: Connection) -> None:
        made = request(connection.statements, pending, portal)
        made.add(encode.execute(b""), EXECUTED)
        made.add(encode.SYNC, SWALLOWED_SYNC)
        connection.send(b"".join(made.data), made.owed)

    def send_returning(connection: Connection, more: bytes) -> None:
        send_with(connection, pending, portal, more)

    if isinstance(plan, Copies):
        answer = await executor.follow(plan, connections[0], held, send, send_returning)
    else:
        watch = await executor.watches.begin(unseen, connections)
        relay = Relay(connections, held)
        answers = await (relay.ask(send) if watch is None else watch.run(relay, send))
        if watch is not None:
            await watch.check(Own.told_by(answers))
        answer = answers[0]
    held.verb = (answer.tag or "").rpartition(" ")[0]
    return held


async def run_in_pieces(executor: Executor, portal: Portal, name: bytes, limit: int, pending: list[Pending]) -> Outcome:
    """Return up to `limit` rows of the portal."""
    client = executor.client
    if portal.reading is None:
        statement = portal.prepared.statement
        plan, connections, unseen = await executor.in_pieces(portal)
        if isinstance(plan, Copies) or (unseen is not None and isinstance(statement, Modify)):
            portal.reading = await _carried_out(executor, client, portal, plan, connections, unseen, pending)
            return await portal.reading.read(client, limit, [])
        same = isinstance(plan, Replicate | Connected)
        reading = portal.reading = Reading(
            portal, connections, same, same or len(connections) == 1, statement.kind not in READS, limit_of(plan)
        )
        reading.unseen, reading.commits = unseen, executor.offers.alone
        if name and reading.alone and not same:
            reading.name = name
            reading.cursor = name.decode(errors="surrogateescape")
            executor.cursor_opened(reading.cursor, connections[0])
            executor.watches.opened(reading.cursor, unseen)
    assert isinstance(portal.reading, Reading | Held)
    watch = None
    if isinstance(portal.reading, Reading):
        watch = await executor.watches.begin(portal.reading.unseen, portal.reading.waiting)
    outcome = await portal.reading.read(client, limit, pending)
    if watch is not None:
        await watch.check()
    return outcome


async def open_cursor(executor: Executor, portal: Portal, name: bytes) -> None:
    """Open a portal that has not been executed, for SQL to read it as a cursor."""
    plan, connections, unseen = await executor.in_pieces(portal)
    if len(connections) > 1 or not isinstance(plan, Home | OneShard):
        raise refused(
            "FETCH, MOVE and CLOSE of a portal over several shards are not supported",
            "Execute the portal with a row limit.",
        )
    [connection] = connections
    reading = portal.reading = Reading(portal, connections, False, True, portal.prepared.statement.kind not in READS)
    reading.name = name
    reading.cursor = name.decode(errors="surrogateescape")
    reading.begun.add(connection)
    made = request(connection.statements, [], portal, name)
    made.add(encode.SYNC, SWALLOWED_SYNC)
    connection.send(b"".join(made.data), made.owed)
    await Relay([connection], Discard()).run()
    portal.prepared.accepted = True
    executor.cursor_opened(reading.cursor, connection)
    executor.watches.opened(reading.cursor, unseen)


async def run_cursor(executor: Executor, connection: Connection, name: bytes, limit: int) -> Outcome:
    """Read a cursor that SQL has opened: to the protocol it is a portal."""
    watch = await executor.watches.begin(executor.watches.of_cursor(shown(name)), [connection])
    told = connection.statements.types is not None
    data = (encode.describe(b"P", name) if told else b"") + encode.execute(name, limit) + encode.SYNC
    connection.send(data, (*((UNASKED,) if told else ()), EXECUTED, SWALLOWED_SYNC))
    [answer] = await Relay([connection], executor.client).run()
    if watch is not None:
        await watch.check()
    return Outcome(answer.tag, suspended=answer.suspended)
