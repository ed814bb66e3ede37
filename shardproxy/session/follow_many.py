"""Executions of one write of a reference table that have come together, as a driver's executemany sends them.

One by one each would wait for all shards. Together they cost as many round trips as one: the first shard carries out
all of them in one batch, and the others follow in another. What decides is as for one (`follow`): the first shard's
locks, defaults and counts. The client is answered when all shards have followed; after an error of the first shard the
others have nothing to do, as the transaction has failed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.routing import Copies, Rows
from shardproxy.routing.refusals import not_followed
from shardproxy.routing.rows import Row, Unit, Writer, split_last
from shardproxy.session.follow import BATCH_BYTES, BATCH_ROWS, Follow, behind, count_of
from shardproxy.session.portals import Portal, Request, next_number
from shardproxy.session.relay import Discard
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.shard.statements import UNNAMED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.replies import HOUSEKEEPING, SWALLOWED_SYNC, Expect, Owed

_BOUND: Final = Owed(Expect.BIND, forward=False)
_EXECUTED: Final = Owed(Expect.EXECUTE, forward=False)
_PARSED: Final = Owed(Expect.PARSE, forward=False, name=UNNAMED)

_SAVEPOINT: Final = b"shardproxy_batch"


def goes_together(plan: Copies) -> bool:
    """Whether several executions with this plan may be one batch.

    Not if one of them can do what the next would have to know of, or tell what must come between two answers.
    """
    rows = plan.rows
    return rows is None or not (rows.returning or rows.watched or rows.triggers or rows.whole or rows.one_by_one)


@dataclass(slots=True)
class Done:
    """How far a batch has come on the first shard."""

    tags: list[str] = field(default_factory=list)
    bound: int = 0
    """How many were bound: one more than there are tags if one has failed at Execute."""
    failed: PgError | None = None


class FollowMany:
    """One batch."""

    def __init__(
        self, shards: Shards, plan: Copies, portals: Sequence[Portal], is_copied: Callable[[str, str], bool]
    ) -> None:
        self._shards = shards
        self._plan = plan
        self._portals = portals
        self._follow = Follow(shards, plan, Discard(), is_copied)

    async def run(self, first: Connection) -> Done:
        """Carry it out on all shards, which are in the transaction; an error of the first one is in what it returns."""
        if self._plan.rows is None:
            return await self._same(first)
        return await self._rows(first, self._plan.rows)

    # The others run the same.

    async def _same(self, first: Connection) -> Done:
        _send(self._portals, first)
        done = await _answers(first)
        if done.failed is None:
            counts = list(map(count_of, done.tags))
            todo = [portal for portal, count in zip(self._portals, counts, strict=True) if count]
            if todo:
                counts = list(filter(None, counts))
                await each(self._repeat(one, todo, counts) for one in await self._follow.others())
        return done

    async def _repeat(self, connection: Connection, portals: Sequence[Portal], counts: Sequence[int]) -> None:
        """Have another shard do the same; one by one if it does not see yet what some of them are about."""
        if self._plan.keyed:
            connection.query(b"SAVEPOINT " + _SAVEPOINT)
        _send(portals, connection)
        done = await _answers(connection)
        if done.failed is not None:
            raise self._follow.refused(connection, done.failed)
        same = list(map(count_of, done.tags)) == counts
        if not self._plan.keyed:
            if not same:
                raise behind(connection)
            return
        # A later one of the batch may have changed the row that an earlier one has not seen.
        again = b"" if same else b"ROLLBACK TO " + _SAVEPOINT + b"; "
        await connection.execute(again + b"RELEASE " + _SAVEPOINT)
        if same:
            return
        for portal, count in zip(portals, counts, strict=True):
            await self._follow.until_seen([connection], partial(_send, [portal]), count)

    # The others get the rows.

    async def _rows(self, first: Connection, rows: Rows) -> Done:
        self._follow.check_encoding(rows)
        writer = Writer(rows)
        _send_returning(first, self._portals, writer.returning())
        collected = _Collected(writer, lambda units: self._follow.send(writer, units))
        done = await _answers(first, collected)
        if done.failed is None:
            await collected.flush()
        return done


class _Collected:
    """The rows of several statements on their way to the other shards, in the first one's order."""

    def __init__(self, writer: Writer, send: Callable[[Sequence[Unit]], Awaitable[None]]) -> None:
        self._writer = writer
        self._send = send
        rows = self.rows = writer.rows
        # A row that is there is changed once by a statement, but maybe again by the next.
        self._cut = rows.upserts or rows.verb not in {"INSERT", "DELETE"}
        self._units: list[Unit] = []
        self._rows: list[Row] = []
        self._keys: set[tuple[bytes | None, ...]] = set()
        self._count = self._size = self._now = 0

    async def take(self, text: bytes) -> None:
        """Take a row's text."""
        row = self._writer.row(text)
        key = tuple(row.key)
        if self._cut and key in self._keys:
            # Whatever a shard has to do again because it does not see a row yet may not be overtaken.
            await self.flush()
        self._keys.add(key)
        self._rows.append(row)
        self._size += len(text)
        self._now += 1
        if self._count + len(self._rows) >= BATCH_ROWS or self._size >= BATCH_BYTES:
            await self.flush()

    def ended(self) -> int:
        """A statement has ended; return the number of its rows."""
        if self._cut:
            self._close()
        count, self._now = self._now, 0
        return count

    def _close(self) -> None:
        self._count += len(self._rows)
        self._units += self._writer.units(self._rows)
        self._rows = []

    async def flush(self) -> None:
        """Have the other shards write what there is."""
        self._close()
        units, self._units, self._count, self._size = self._units, [], 0, 0
        self._keys.clear()
        if units:
            await self._send(units)


async def _answers(connection: Connection, collected: _Collected | None = None) -> Done:
    """Read up to ReadyForQuery what a batch has come to."""
    done = Done()
    while connection.replies.queue:
        reply = await connection.read()
        text = None
        with connection.trusted():
            if reply.type == B.ERROR_RESPONSE:
                done.failed = done.failed or connection.error()
            elif reply.owed is _BOUND:
                done.bound += 1
            elif reply.type == B.DATA_ROW:
                _, text = split_last(reply.payload)
            elif reply.owed is _EXECUTED:
                done.tags.append(decode.command_complete(reply.payload))
                if collected is not None and collected.ended() != count_of(done.tags[-1]):
                    done.failed = done.failed or not_followed(collected.rows, "a trigger")
        if text is not None and collected is not None:
            await collected.take(text)
    return done


def _send(portals: Sequence[Portal], connection: Connection) -> None:
    """Have a shard execute portals of one statement in one batch."""
    made = _begun(connection)
    made.prepare(connection.statements, portals[0].prepared, forward=False)
    for portal in portals:
        made.add(portal.bind_as(b"", connection.statements.types), _BOUND)
        made.add(encode.execute(b""), _EXECUTED)
    made.add(encode.SYNC, SWALLOWED_SYNC)
    connection.send(b"".join(made.data), made.owed)


def _send_returning(connection: Connection, portals: Sequence[Portal], more: bytes) -> None:
    """Do the same with a text put after the statement."""
    made, prepared = _begun(connection), portals[0].prepared
    statements, statement = connection.statements, prepared.statement
    sql = prepared.text.encode(prepared.text.characters[: statement.location + len(statement.text)])
    statements.parsed(UNNAMED, next_number())
    made.parse(statements, prepared, encode.parse(UNNAMED, sql + more, prepared.oids_for(statements.types)), _PARSED)
    for portal in portals:
        params = portal.params_for(statements.types)
        made.add(encode.bind(b"", UNNAMED, portal.bind.param_formats, params, ()), _BOUND)
        made.add(encode.execute(b""), _EXECUTED)
    made.add(encode.SYNC, SWALLOWED_SYNC)
    connection.send(b"".join(made.data), made.owed)


def _begun(connection: Connection) -> Request:
    made = Request()
    for closing in connection.statements.closing():
        made.add(closing, HOUSEKEEPING[0])
    return made
