"""COPY FROM STDIN into several shards at once: the one engine for a client's session and for the loader.

Driven by: `start()`; then `feed()` with raw CopyData messages, synchronously from wherever they are read; then
`finish()` for the tag, or `stop()` for the error when `failed` is done, when the client sends CopyFail or when it
is gone. The transaction around it is the caller's: nothing here commits or rolls back.

The data path is one call chain from the client's socket to the shards' sockets. A shard that takes data more
slowly than they come pauses the client (`Shards`); nothing is queued in between but the sealed buffers of
`native.Splitter`.

When a row is refused, the other shards still hold rows of earlier lines that they have not read yet. One server
would have stopped at the first bad line, so all shards are ended by CopyFail behind what they have got, and of
their errors the one with the smallest client line is reported.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from shardproxy.combine.notices import Fields, NoticeMerger
from shardproxy.copy.lines import map_context
from shardproxy.errors import PgError, ProtocolError
from shardproxy.native import ALL_SHARDS, SplitError
from shardproxy.net.gather import each
from shardproxy.session.copy_setup import CopySetup
from shardproxy.session.copy_start import first_replies
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.errors import reported_by
from shardproxy.sql import CopyFrom, Statement
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, PROTOCOL_VIOLATION, QUERY_CANCELED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.errors import SilentProtocolError

FLUSH_DELAY = 0.05
"""Seconds until a partly filled buffer is sent on: rows of a slow client become visible to the shard's triggers and
progress views about as promptly as with one server, and a fast client never waits for it."""

TEXTUAL = 0
"""CopyInResponse's overall format of text and CSV."""

UNENDING = b"x" * 16
"""The begin of a row that never ends. PostgreSQL takes a first row that ends in a carriage return only when it has seen
the byte behind it, and calls bytes wrong only with MAX_CONVERSION_INPUT_LENGTH (16) more (copyfromparse.c)."""

SETTLE_TIMEOUT = 30.0
"""Seconds for a shard to answer CopyFail before its connection is given up: it has buffers to read first, no more."""


def is_copy_in(statement: Statement) -> TypeGuard[CopyFrom]:
    """Whether a statement asks the client for data."""
    return isinstance(statement, CopyFrom) and statement.endpoint == "client"


@dataclass(slots=True)
class Refusal:
    """An error and the client line that it is about; None where PostgreSQL names no line."""

    error: PgError
    line: int | None

    @property
    def order(self) -> tuple[bool, int]:
        """Earlier lines first, errors without a line last."""
        return (self.line is None, self.line or 0)


class CopyIn:
    """One COPY FROM STDIN over `connections` (by shard number)."""

    def __init__(
        self,
        sql: bytes,
        setup: CopySetup,
        connections: Mapping[int, Connection],
        shards: Shards,
        notices: NoticeMerger,
    ) -> None:
        self._sql = sql
        self._relation = setup.relation
        self._connections = connections
        self._splitter = setup.splitter
        self._skipped = setup.skipped
        self._setup = setup
        self._shards = shards
        self._notices = notices
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._ended: set[int] = set()  # shards that were sent CopyFail
        self._tags: dict[int, str] = {}
        self._refusals: list[Refusal] = []
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.response = decode.CopyResponse(0, ())

    # Starting.

    async def start(self) -> None:
        """Send the COPY to every shard, see that all wait for data; if one refuses, end all and raise."""
        connections = list(self._connections.values())
        for connection in connections:
            connection.query(self._sql)
        replies = await first_replies(connections, B.COPY_IN_RESPONSE)
        refused = next((reply for reply in replies if isinstance(reply, PgError)), None)
        if refused is not None:
            waiting = zip(connections, replies, strict=True)
            await each(self._end_waiting(one) for one, reply in waiting if not isinstance(reply, PgError))
            raise refused
        for shard, connection in self._connections.items():
            self._readers[shard] = asyncio.ensure_future(self._read(shard, connection))
        assert not isinstance(replies[0], PgError)
        self.response = replies[0]

    async def _end_waiting(self, connection: Connection) -> None:
        connection.stream.write(encode.copy_fail("another shard refused the COPY"))
        while connection.replies:
            await connection.read()

    # Data.

    def feed(self, data: memoryview) -> int:
        """Take raw messages; return the bytes used, stopping in front of what is not CopyData.

        After a failure CopyData is still taken, and dropped.
        """
        try:
            used = self._splitter.feed(data)
        except SplitError as error:
            used = error.consumed
            self._refuse_split(error)
        if self._stopped:
            self._splitter.ready()
            return used
        if self._refusals:
            return used
        self._send(self._splitter.ready())
        if self._timer is None and self._splitter.pending:
            self._timer = self._loop.call_later(FLUSH_DELAY, self._flush)
        return used

    def _send(self, buffers: list[tuple[int, bytes]]) -> None:
        for shard, data in buffers:
            if shard == ALL_SHARDS:
                for connection in self._connections.values():
                    connection.stream.write(data)
            elif shard in self._connections:
                self._connections[shard].stream.write(data)
            elif self._splitter.rows_of(shard):
                # The signature and trailer of a binary file are for all shards, rows are not.
                raise AssertionError(f"rows for shard {shard}, which takes no part in the COPY")

    def _flush(self) -> None:
        self._timer = None
        if not self._refusals:
            self._send(self._splitter.flush())

    # Answers.

    async def _read(self, shard: int, connection: Connection) -> None:
        """Read a shard to ReadyForQuery. NOTICEs pass through `connection.read` all the while."""
        refused = False
        try:
            while True:
                message = await connection.read()
                match message.type:
                    case B.ERROR_RESPONSE:
                        error = connection.error()
                        self._shard_refused(shard, error)
                        refused = True
                    case B.COMMAND_COMPLETE:
                        with connection.trusted():
                            self._tags[shard] = _counted(decode.command_complete(message.payload))
                    case B.READY_FOR_QUERY if connection.status != IDLE and (refused or shard in self._tags):
                        return
                    case _:
                        # Also a COPY that ends without a word, or outside the transaction that it is in.
                        raise connection.unexpected(message)
        except PgError as error:
            self._refuse(Refusal(error, None))

    def _shard_refused(self, shard: int, error: PgError) -> None:
        if shard in self._ended and error.sqlstate == QUERY_CANCELED:
            return
        line = None
        if error.context is not None:
            error.fields["W"], line = map_context(error.context, self._relation, self._lines_of(shard))
        if len(self._connections) > 1:
            reported_by(error, self._connections[shard].name)
        self._refuse(Refusal(error, line))

    def _refuse(self, refusal: Refusal) -> None:
        self._refusals.append(refusal)
        if not self.failed.done():
            self.failed.set_result(None)
        # What still comes is dropped, so there is nothing to wait for.
        self._shards.release_client()

    def _lines_of(self, shard: int) -> Callable[[int], int | None]:
        return lambda line: self._splitter.client_line(shard, line)

    def notice(self, shard: int, fields: Fields) -> None:
        """Take a shard's NoticeResponse: the client's line, and rows that ON_ERROR skipped added up."""
        if "W" in fields:
            fields["W"], _ = map_context(fields["W"], self._relation, self._lines_of(shard))
        if not self._skipped.take(fields, self._lines_of(shard)):
            self._notices.notice(shard, fields)

    # Ending.

    async def finish(self) -> str:
        """The client has sent CopyDone: end the shards' COPY and return the tag, or raise the error.

        On return every shard has accepted every row; nothing is committed.
        """
        try:
            if not self._refusals:
                self._send(self._splitter.finish())
        except SplitError as error:
            self._refuse_split(error)
        if not self._refusals:
            self._stop_timer()
            for connection in self._connections.values():
                connection.stream.write(encode.COPY_DONE)
            await asyncio.wait(self._readers.values())
        if self._refusals:
            raise await self.stop("another shard refused a row")
        await each(self._setup.confirm(shard, connection) for shard, connection in self._connections.items())
        accepted = self._accepted()
        summary = self._skipped.summary()
        if summary is not None:
            self._notices.notice(min(self._connections), summary)
        return f"COPY {accepted}"

    async def stop(self, reason: str, client_fail: bool = False) -> PgError:
        """End the COPY on all shards and return the error to report; `client_fail` for the client's CopyFail."""
        self._stop_timer()
        # Rows in front of the refused one may still be here, and one of them may be worse.
        self._send(self._splitter.flush())
        self._stopped = True
        # Each shard is to look at all its rows. A client's own CopyFail is what PostgreSQL meets behind the last one.
        beyond = self.response.format == TEXTUAL and (not client_fail or self._splitter.lines > 1)
        unblocking = encode.copy_data(UNENDING) if beyond else b""
        for shard, connection in self._connections.items():
            if not self._readers[shard].done() and connection.usable and shard not in self._tags:
                self._ended.add(shard)
                connection.stream.write(unblocking + encode.copy_fail(reason))
        _, silent = await asyncio.wait(self._readers.values(), timeout=SETTLE_TIMEOUT)
        for shard, reader in self._readers.items():
            if reader in silent:
                # Its part is rolled back when the server sees the connection gone.
                self._connections[shard].abort()
                await reader
        if client_fail:
            failed = PgError(
                QUERY_CANCELED,
                f"COPY from stdin failed: {reason}",
                context=f"COPY {self._relation}, line {self._splitter.lines + 1}",
            )
            self._refusals.append(Refusal(failed, self._splitter.lines + 1))
        error = min(self._refusals, key=lambda refusal: refusal.order).error
        # Raised, it refers to this COPY; referred to in turn, both would stay until the garbage collector comes by.
        self._refusals.clear()
        return error

    async def abandon(self) -> None:
        """The client is gone: end the COPY on all shards, without an error for anybody."""
        await self.stop("the client is gone", client_fail=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_split(self, error: SplitError) -> None:
        if error.sqlstate == PROTOCOL_VIOLATION:
            # A length that cannot be: nothing behind it can be told apart any more, so the session must end.
            self._refuse(Refusal(SilentProtocolError(error.message), 0))
            return
        # PostgreSQL reads a binary file's header before it has a line to name.
        context = None if error.line is None else f"COPY {self._relation}, line {error.line}"
        refused = self._setup.refusal(error, context)
        self._refuse(Refusal(refused, error.line))

    def _accepted(self) -> int:
        """Add the tags up, and see that they can be true."""
        counts = {shard: int(tag.split()[-1]) for shard, tag in self._tags.items()}
        for shard, count in counts.items():
            sent = self._splitter.rows_of(shard)
            if count > sent - self._splitter.poison_count(shard):
                raise PgError(
                    FEATURE_NOT_SUPPORTED if count <= sent else INTERNAL_ERROR,
                    "a shard accepted a row whose sharding key the proxy could not read"
                    if count <= sent
                    else "a shard counted more rows than it was sent",
                    detail=f'Shard "{self._connections[shard].name}" counted {count} of {sent} rows.',
                    hint="Nothing was loaded. Spell the sharding key in PostgreSQL's output format.",
                )
        if not self._setup.everywhere:
            self._skipped.check_limit()
            return sum(counts.values())
        if len(set(counts.values())) > 1:
            raise PgError(
                INTERNAL_ERROR,
                "the shards accepted different numbers of rows for a reference table",
                detail=", ".join(f"{self._connections[shard].name}: {count}" for shard, count in counts.items()),
                hint="Nothing was loaded. See whether triggers or row security differ between the shards.",
            )
        return next(iter(counts.values()))


def _counted(tag: str) -> str:
    """Return a COPY's tag, which must end in the number of rows."""
    if not tag.startswith("COPY ") or not tag[5:].isdecimal():
        raise ProtocolError(f"it answered COPY with {tag!r}")
    return tag
