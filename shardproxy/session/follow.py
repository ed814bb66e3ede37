"""A write of a reference table: the first shard carries it out, and the other shards follow.

What the first shard does decides: its locks, its defaults, its order of rows. Whoever sees there what another
transaction has written knows that this has been decided; the other shards may still be about to commit it, so a row
that is not there yet is tried again for a moment. No shard but the first is ever waited for by a transaction that has
not been granted the same on the first, so writers do not wait for each other crosswise.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from shardproxy.combine.answers import Answer
from shardproxy.copy.encoding import splits_bytewise
from shardproxy.errors import PgError, ProtocolError
from shardproxy.net.gather import each
from shardproxy.routing import Copies, Rows
from shardproxy.routing.copies import FIRST
from shardproxy.routing.refusals import moves_referenced, not_followed, only_at_its_end, refers_to_sharded, refused
from shardproxy.routing.rows import Row, Unit, Writer, split_last, without_last
from shardproxy.session.client import Client
from shardproxy.session.elsewhere import Elsewhere
from shardproxy.session.portals import next_number
from shardproxy.session.relay import Discard, Output, Relay
from shardproxy.session.shards import Shards
from shardproxy.session.typed import DESCRIPTIONS, Carrying
from shardproxy.session.typed import described as described_for_client
from shardproxy.shard.connection import Connection, Reply
from shardproxy.shard.errors import reported_by
from shardproxy.shard.statements import UNNAMED
from shardproxy.sqlstate import EXCLUSION_VIOLATION, FOREIGN_KEY_VIOLATION, SERIALIZATION_FAILURE, UNIQUE_VIOLATION
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed
from shardproxy.wire.usertypes import UnknownOidError

Request = Callable[[Connection], None]
"""Sends to a connection what makes it run the statement, up to Query or Sync."""

Returning = Callable[[Connection, bytes], Owed | None]
"""Does the same with a text put after the statement; returns what is owed to a Describe of that, if it sent one."""

_Made = tuple[bytes, tuple[Owed, ...]]
"""Messages, and what will be answered."""

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 1 << 20
"""What is collected of the first shard's rows before the others get them."""

LAG: Final = 5.0
"""Seconds for which a shard may lack what the first has committed."""

PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds between looks, the last one again and again."""

_PARSED: Final = Owed(Expect.PARSE, forward=False, name=UNNAMED)
_BOUND: Final = Owed(Expect.BIND, forward=False)
_EXECUTED: Final = Owed(Expect.EXECUTE, forward=False)

SILENCE: Final = """SELECT pg_catalog.current_setting('session_replication_role'),
    pg_catalog.set_config('session_replication_role', 'replica', true)"""
"""Have no trigger fire; it tells what to set when that is over."""

_SEES_OLD: Final = frozenset({b"repeatable read", b"serializable"})


def query_returning(sql: bytes) -> Returning:
    """Return what sends a statement of the simple protocol with a text put after it."""

    def send(connection: Connection, more: bytes) -> Owed:
        described = Owed(Expect.DESCRIBE_PORTAL)
        connection.statements.parsed(UNNAMED, next_number())
        closing = connection.statements.closing()
        data = encode.parse(UNNAMED, sql + more) + encode.bind(b"", UNNAMED, (), (), ()) + encode.describe(b"P", b"")
        owed = [*[Owed(Expect.CLOSE, forward=False)] * len(closing), _PARSED, _BOUND, described, _EXECUTED]
        connection.send(b"".join(closing) + data + encode.execute(b"") + encode.SYNC, [*owed, SWALLOWED_SYNC])
        return described

    return send


class Follow:
    """One write."""

    def __init__(
        self, shards: Shards, plan: Copies, output: Output, is_copied: Callable[[str, str], bool] | None = None
    ) -> None:
        """`is_copied` tells of a schema and a name whether all shards have its rows; without it they have."""
        self._is_copied = is_copied or (lambda _schema, _name: True)
        self._shards = shards
        self._plan = plan
        self._output = output
        self._others = tuple(shard for shard in shards.everyone if shard != FIRST)

    async def run(self, first: Connection, request: Request, returning: Returning) -> Answer:
        """Carry it out on all shards, which are in the transaction; return the first one's answer."""
        if self._plan.rows is None:
            return await self._same(first, request)
        return await self._rows(first, returning, self._plan.rows)

    def refused(self, connection: Connection, error: PgError) -> PgError:
        """Return the error of another shard than the first one."""
        missing = error.sqlstate == FOREIGN_KEY_VIOLATION
        if missing and error.fields.get("n", "") in self._plan.spread:
            return refers_to_sharded(error.fields["n"], error.fields["t"])
        if missing and self._is_copied(error.fields.get("s", ""), error.fields.get("t", "")):
            return behind(connection, error)
        return reported_by(error, connection.name)

    # The others run the same.

    async def _same(self, first: Connection, request: Request) -> Answer:
        """Run the same statement on the first shard, and on the others if it has changed anything there."""
        request(first)
        [answer] = await Relay([first], self._output).run()
        changed = count_of(answer.tag or "")
        if changed:
            await self.until_seen(await self.others(), request, changed)
        return answer

    async def others(self) -> list[Connection]:
        """Return the other shards' connections, in the transaction."""
        return await self._shards.join(self._others)

    async def until_seen(self, waiting: Sequence[Connection], request: Request, changed: int) -> None:
        """Run a statement on shards that must change as many rows, again and again on one that does not see them."""
        deadline, pauses = time.monotonic() + LAG, list(PAUSES)
        while waiting:
            for connection in waiting:
                request(connection)
            relay = Relay(waiting, Discard(), name_shard=False)
            try:
                answers = await relay.run()
            except PgError as error:
                raise self.refused(relay.failed_by or waiting[0], error) from error
            short = [one for one, other in zip(waiting, answers, strict=True) if count_of(other.tag or "") != changed]
            if short and not (self._plan.keyed and await _may_come(short[0], deadline)):
                raise behind(short[0])
            waiting = short
            if waiting:
                await asyncio.sleep(pauses[0] if len(pauses) == 1 else pauses.pop(0))

    # The others get the rows.

    async def _rows(self, first: Connection, returning: Returning, rows: Rows) -> Answer:
        self.check_encoding(rows)
        writer = Writer(rows)
        elsewhere = None if rows.watched is None else await Elsewhere.of(first, rows.schema, rows.name)
        answers = _Answers(first, rows, self._output, returning(first, writer.returning()))
        changed, batch = await self._pass_on(answers, writer)
        answer = answers.answer
        if changed != count_of(answer.tag or ""):
            raise not_followed(rows, "a trigger")
        own = None if rows.recursive else changed
        if rows.watched is not None and elsewhere is not None and await elsewhere.changed(first, own, rows.verb):
            raise not_followed(rows, rows.watched)
        if batch:
            await self._send(writer, batch)
        return answer

    async def copied(self, first: Connection, added: str, count: int) -> None:
        """Send the rows that a COPY has stored on the first shard; `added` is what stands after FROM to find them."""
        rows = self._plan.rows
        assert rows is not None
        self.check_encoding(rows)
        writer = Writer(rows)
        first.query(writer.select(added))
        changed, batch = await self._pass_on(_Answers(first, rows, self._output, None), writer)
        if changed != count:
            raise not_followed(rows, rows.watched or "a trigger")
        if batch:
            await self._send(writer, batch)

    async def _pass_on(self, answers: "_Answers", writer: Writer) -> tuple[int, list[Row]]:
        """Send the first shard's rows to the others; return how many there were, and the last ones, not sent yet."""
        batch: list[Row] = []
        size = changed = 0
        async for text in answers.texts():
            batch.append(writer.row(text))
            size += len(text)
            changed += 1
            if not writer.rows.whole and (len(batch) >= BATCH_ROWS or size >= BATCH_BYTES):
                await self._send(writer, batch)
                batch, size = [], 0
                if isinstance(self._output, Client):
                    await self._output.stream.drain()
        return changed, batch

    def check_encoding(self, rows: Rows) -> None:
        """Refuse an encoding in which a row's text cannot be read."""
        if not splits_bytewise(self._shards.client_encoding):
            raise refused(
                f'this write of reference table "{rows.schema}.{rows.name}" is not supported in client_encoding '
                f"{self._shards.client_encoding}",
                "SET client_encoding TO 'UTF8', or give every column a constant or a parameter.",
            )

    async def _send(self, writer: Writer, batch: Sequence[Row]) -> None:
        await self.send(writer, writer.units(batch))

    async def send(self, writer: Writer, units: Sequence[Unit]) -> None:
        """Have the other shards write rows."""
        others = await self.others()
        made = _messages(writer, units)
        await each(self._write(connection, writer, units, made) for connection in others)

    async def _write(self, connection: Connection, writer: Writer, units: Sequence[Unit], made: _Made) -> None:
        """Write rows to one shard; those that are not there yet again."""
        deadline, pauses = time.monotonic() + LAG, list(PAUSES)
        left = [(unit, len(unit.rows)) for unit in units]
        role: bytes | None = None
        try:
            if writer.rows.silent:
                role, _ = await connection.fetch_row(SILENCE, 2)
            while left := await self._once(connection, writer, left, made):
                if writer.rows.triggers and left[0][0].action in {"INSERT", "UPSERT"}:
                    raise not_followed(writer.rows, f'trigger "{writer.rows.triggers[0]}"')
                if not await _may_come(connection, deadline):
                    raise behind(connection)
                await asyncio.sleep(pauses[0] if len(pauses) == 1 else pauses.pop(0))
                await self._shards.join(())  # a cancel that came meanwhile
                made = _messages(writer, [unit for unit, _ in left])
            if role is not None:
                await connection.execute(b"SET LOCAL session_replication_role = " + role)
        except PgError as error:
            if len(units) > 1 and _holds_at_the_end(writer.rows, error):
                raise only_at_its_end(writer.rows, error.fields.get("n", "")) from error
            raise self.refused(connection, error) from error

    @staticmethod
    async def _once(
        connection: Connection, writer: Writer, units: Sequence[tuple[Unit, int]], made: _Made
    ) -> list[tuple[Unit, int]]:
        """Write rows to one shard; return the units of which some were not there, with their number."""
        connection.statements.parsed(UNNAMED, next_number())
        connection.send(*made)
        missing: list[tuple[Unit, int]] = []
        pending = iter(units)
        stored: bytes | None = None
        for reply in await connection.complete():
            with connection.trusted():
                if reply.type == B.DATA_ROW:
                    [stored] = decode.data_row(reply.payload)
                elif reply.type == B.COMMAND_COMPLETE:
                    unit, left = next(pending)
                    count = count_of(decode.command_complete(reply.payload))
                    # An UPDATE that is sent again counts again the rows that it has found before.
                    left = (len(unit.rows) if unit.action == "UPDATE" else left) - count
                    if left < 0:
                        raise behind(connection)
                    if left:
                        missing.append((unit, left))
                    elif writer.compares(unit.action):
                        told = writer.told(unit, stored)
                        if not told.kept:
                            raise moves_referenced(writer.rows)
                        if not told.same:
                            raise not_followed(writer.rows, f'trigger "{writer.rows.triggers[0]}"')
                    stored = None
        return missing


class _Answers:
    """What the first shard answers: the client's part of it goes on, and the rows' texts are for the other shards."""

    def __init__(self, first: Connection, rows: Rows, output: Output, described: Owed | None) -> None:
        self.answer = Answer()
        self._first = first
        self._rows = rows
        self._output = output
        self._described = described
        self._columns = b""  # a RowDescription that goes with the first row: a statement that fails has none
        self._carrying: Carrying | None = None
        self._failed: PgError | None = None

    async def texts(self) -> AsyncIterator[bytes]:
        """Read up to ReadyForQuery; then raise the error, if there was one."""
        first = self._first
        while first.replies.queue:
            reply = await first.read()
            text = None
            with first.trusted():
                if reply.type == B.ERROR_RESPONSE:
                    self._failed = self._failed or first.error()
                elif reply.type == B.COMMAND_COMPLETE:
                    self._output.write(self._columns)
                    self.answer.tag = decode.command_complete(reply.payload)
                elif reply.type == B.DATA_ROW:
                    shown, text = split_last(reply.payload)
                    if self._rows.returning:
                        self._show(shown)
                elif reply.type in DESCRIPTIONS:
                    await self._describe(reply)
                elif reply.owed.forward and reply.type != B.READY_FOR_QUERY:
                    self._output.write(encode.message(reply.type, reply.payload))
            if text is not None:
                yield text
        if self._failed is not None:
            raise self._failed

    async def _describe(self, reply: Reply) -> None:
        types = self._first.statements.types
        if types is not None:
            try:
                reply, carrying = await described_for_client(types, reply)
            except ProtocolError:
                raise
            except PgError as error:
                self._failed = self._failed or error
                return
            self._carrying = carrying or self._carrying
        if reply.owed is self._described:
            if self._rows.returning:
                self._columns = encode.message(reply.type, without_last(reply.payload))
        elif reply.owed.forward:
            self._output.write(encode.message(reply.type, reply.payload))

    def _show(self, row: bytes) -> None:
        shown = encode.message(B.DATA_ROW, row)
        if (carrying := self._carrying) is not None:
            try:
                shown = carrying.types.row(row, carrying.columns)
            except UnknownOidError as error:
                assert self._first.statements.types is not None
                missing = self._first.statements.types.missing(carrying.types, error.oid, canonical=False)
                self._failed = self._failed or missing
        if self._failed is None:
            self._output.write(self._columns + shown)
            self._columns = b""


def _messages(writer: Writer, units: Sequence[Unit]) -> _Made:
    """Return what has a shard write these rows."""
    data, owed = [], []
    prepared: tuple[str, int] | None = None
    for unit in units:
        if prepared != (unit.action, len(unit.rows)):
            prepared = unit.action, len(unit.rows)
            data.append(encode.parse(UNNAMED, writer.sql(unit)))
            owed.append(_PARSED)
        data.append(writer.bind(unit) + encode.execute(b""))
        owed += (_BOUND, _EXECUTED)
    return b"".join([*data, encode.SYNC]), (*owed, SWALLOWED_SYNC)


def _holds_at_the_end(rows: Rows, error: PgError) -> bool:
    """Whether a constraint is violated by some of the rows, and on the first shard was not by all of them."""
    if not (rows.one_by_one or rows.whole):
        return False
    if error.sqlstate == FOREIGN_KEY_VIOLATION:
        # A row that refers to one which another transaction is about to commit is behind.
        return rows.recursive or error.fields.get("t") != rows.name
    return error.sqlstate in {UNIQUE_VIOLATION, EXCLUSION_VIOLATION}


async def _may_come(connection: Connection, deadline: float) -> bool:
    """Whether a row that is not there yet may be there soon."""
    if time.monotonic() > deadline:
        return False
    return not await sees_old(connection)


async def sees_old(connection: Connection) -> bool:
    """Whether the transaction goes on seeing what was there when it began."""
    [level] = await connection.fetch_row("SHOW transaction_isolation", 1)
    return level in _SEES_OLD


def count_of(tag: str) -> int:
    """Return the number of rows that a command tag tells."""
    word = tag.rpartition(" ")[2]
    return int(word) if word.isdecimal() else 0


def behind(connection: Connection, error: PgError | None = None) -> PgError:
    """Return the error of a shard that does not see what the first one does."""
    return PgError(
        SERIALIZATION_FAILURE,
        "could not serialize access due to concurrent update of a reference table",
        detail=f'Shard "{connection.name}" does not see the rows of the first shard.'
        + (f" {error.message}" if error is not None else ""),
        hint="Run the transaction again.",
    )
