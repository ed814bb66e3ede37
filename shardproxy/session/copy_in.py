"""COPY FROM STDIN into several shards at once: the one engine for a client's session and for the loader.

Driven by: `start()`; then `feed()` with raw CopyData messages, synchronously from wherever they are read; then
`finish()` for the tag, or `stop()` for the error when `failed` is done, when the client sends CopyFail or when it
is gone. The transaction around it is the caller's: nothing here commits or rolls back.

The data path is one call chain from the client's socket to the shards' sockets. A shard that takes data more
slowly than they come pauses the client (`Shards`); nothing is queued in between but the sealed buffers of
`native.Splitter`.

A sharded table's COPY begins on the first shard, whose answer to the statement is the client's, and on each other shard
when there are rows for it. So of two sessions that want locks on several shards, the one that comes first on the first
shard comes first on all. What a shard is asked first (`Guard`), the COPY and the rows leave together, as a server drops
data that come after a COPY that it has refused. A COPY that lasts begins on the rest of the shards, too, so that it has
its locks early. A shard without rows takes no part in the end, lest its statement triggers fire.

When a row is refused, the other shards still hold rows of earlier lines that they have not read yet. One server
would have stopped at the first bad line, so all shards are ended by CopyFail after what they have got, and of
their errors the one with the smallest client line is reported.
"""

import asyncio
from collections.abc import Callable, Set

from shardproxy.combine.notices import Fields, NoticeMerger
from shardproxy.copy.lines import map_context
from shardproxy.errors import PgError
from shardproxy.native import ALL_SHARDS, SplitError
from shardproxy.net.gather import each, settled
from shardproxy.session.copy_alike import differs
from shardproxy.session.copy_counts import check_counts, counted, full_count, without_rows
from shardproxy.session.copy_look import Changed, Guard
from shardproxy.session.copy_refusals import Refusal, answer, client_refusal, lost_refusal, split_refusal, unending_row
from shardproxy.session.copy_setup import CopySetup
from shardproxy.session.copy_start import guard_verdict, late_answer, lock_alone, start_guarded, start_in_order
from shardproxy.session.copy_verify import verified
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import IDLE, IN_TRANSACTION, Connection
from shardproxy.shard.errors import reported_by
from shardproxy.sqlstate import QUERY_CANCELED
from shardproxy.transaction.ahead import Ahead
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.replies import SWALLOWED_QUERY

FLUSH_DELAY = 0.05
"""Seconds until a COPY begins on all shards, and until a partly filled buffer is sent on: rows of a slow client become
visible to the shard's triggers and progress views about as promptly as with one server, and a fast client never waits
for it."""

HELD_BYTES = 64 * 1024
"""Bytes of a file's header that wait for a shard's first row; a longer one is sent at once."""

SETTLE_TIMEOUT = 30.0
"""Seconds for a shard to answer CopyFail before its connection is given up: it has buffers to read first, no more."""


class CopyIn:
    """One COPY FROM STDIN over the shards of its setup, whose connections stand."""

    def __init__(self, sql: bytes, setup: CopySetup, shards: Shards, notices: NoticeMerger, own: Set[int]) -> None:
        """`own` are the shards that are in the transaction for this COPY alone."""
        self._sql = sql
        self._relation = setup.relation
        self._connections: dict[int, Connection] = {}  # of the shards on which the COPY has begun
        self._waiting: dict[int, list[bytes]] = {}  # the others, with what they will be sent first
        self._splitter = setup.new_splitter()
        self._skipped = setup.new_skipped()
        self._setup = setup
        self._shards = shards
        self._notices = notices
        self._own = own
        self._stopped = False
        self._stopping = False
        self._held = self._alone = False
        self._whole = False  # the COPY on its one shard is a transaction of its own
        self._loop = asyncio.get_running_loop()
        self._ahead: Ahead | None = None
        self._granted: asyncio.Future[bool] = self._loop.create_future()  # whether a shard that was held takes data
        self._leader: int | None = None  # the shard on which there is nothing but the lock
        self._changed: Changed | None = None  # what a shard that was held has found
        self._given_up = False  # another CopyIn takes the statement over, and will hear the same notices
        self._ended: set[int] = set()  # shards that were sent CopyFail
        self._tags: dict[int, str] = {}
        self._refusals: list[Refusal] = []
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._withdrawals: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.response = decode.CopyResponse(0, ())

    # Starting.

    def hold(self, response: decode.CopyResponse, ahead: Ahead | None, *, whole: bool) -> None:
        """Begin on no shard before `finish`: `response` is what they will answer. See `copy_held`.

        `ahead` is asked with the COPY, where it has several shards; `whole`: with one it may commit by itself.
        """
        self.response = response
        self._ahead = ahead
        self._held, self._alone = True, whole
        self._waiting = {shard: [] for shard in self._setup.shards}

    def drop(self) -> None:
        """Drop what was held, and what still comes."""
        self._stopped = True
        self._waiting.clear()

    async def start(self) -> None:
        """Begin the COPY, and see that it waits for data; if a shard refuses, end all and raise."""
        if self._setup.guard is not None:
            await self._start_guarded(self._setup.guard)
            return
        self._connections, self.response = await start_in_order(self._shards, self._setup.shards, self._sql)
        for shard, connection in self._connections.items():
            self._readers[shard] = asyncio.ensure_future(self._read(shard, connection))

    async def _start_guarded(self, guard: Guard) -> None:
        first, *others = self._setup.shards
        asked = guard.question
        connection = self._connections[first] = self._shards.begin(first, asked.sql, prepare=asked.prepare)
        connection.query(self._sql)
        refused = await guard_verdict(connection, guard, first)
        self._given_up = isinstance(refused, Changed)
        self.response = await start_guarded(connection, refused)
        self._readers[first] = asyncio.ensure_future(self._read(first, connection))
        self._waiting = {shard: [] for shard in others}
        self._timer = self._loop.call_later(FLUSH_DELAY, self.flush)

    async def _read_late(self, shard: int, connection: Connection, guard: Guard) -> None:
        """Read a shard on which the COPY has begun together with its data."""
        try:
            refused, takes_data = await late_answer(connection, guard, shard, self._setup.answers, whole=self._whole)
        except PgError as error:
            refused, takes_data = lost_refusal(connection, error, self._whole).error, False
        if not self._granted.done():
            self._granted.set_result(refused is None)
        if isinstance(refused, Changed) and not self._held:
            # Before what any line is refused for: the rows were cut for other columns.
            first = next(iter(self._connections.values()))
            self._refuse(Refusal(refused.refusal or differs(self._relation, first.name, connection.name), 0))
        else:
            self._heed(refused)
        if takes_data:
            await self._read_end(shard, connection)
        if self._ahead is not None:
            await self._ahead.read(connection)

    def _heed(self, refused: PgError | Changed | None) -> bool:
        """Take what speaks against a COPY that was held; return whether nothing does."""
        if isinstance(refused, Changed):
            self._given_up, self._changed = True, refused
        elif refused is not None:
            self._refuse(Refusal(refused, None))
        return refused is None

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
        if self._timer is None and not self._held and self._splitter.pending:
            self._timer = self._loop.call_later(FLUSH_DELAY, self.flush)
        return used

    def _send(self, buffers: list[tuple[int, bytes]]) -> None:
        for shard, data in buffers:
            if shard == ALL_SHARDS or shard in self._connections:
                for number in self._connections if shard == ALL_SHARDS else (shard,):
                    self._connections[number].stream.write(data)
            elif shard in self._waiting:
                self._send_first(shard, data)
            elif not self._refusals and self._splitter.rows_of(shard):
                # The signature and trailer of a binary file are for all shards, rows are not.
                raise AssertionError(f"rows for shard {shard}, which takes no part in the COPY")

    def _send_first(self, shard: int, data: bytes) -> None:
        """Take data for a shard on which the COPY has not begun: without a row, it has none of its own yet."""
        held = self._waiting[shard]
        held.append(data)
        if self._held and not self._stopping:
            return
        if self._stopping or self._splitter.rows_of(shard) or sum(map(len, held)) > HELD_BYTES:
            self._begin_late(shard)

    def _begin_late(self, shard: int, end: bytes = b"", asked: int = 1) -> None:
        guard = self._setup.guard
        assert guard is not None
        held = self._waiting.pop(shard)
        try:
            sql, data, owed = guard.before(self._sql, shard, self._whole), b"".join(held) + end, SWALLOWED_QUERY * asked
            prepare = guard.question.prepare
            connection = self._shards.begin(shard, sql, data, prepare=prepare, owed=owed, join=not self._whole)
        except PgError as error:
            self._refuse(Refusal(error, None))
            return
        self._connections[shard] = connection
        self._readers[shard] = asyncio.ensure_future(self._read_late(shard, connection, guard))

    def flush(self) -> None:
        """Begin on all shards, and send what waits for more."""
        self._stop_timer()
        if not self._refusals:
            for shard in list(self._waiting):
                self._begin_late(shard)
            self._send(self._splitter.flush())

    # Answers.

    async def _read_end(self, shard: int, connection: Connection) -> None:
        """Read a shard that has all its data: at once, if it has taken all rows."""
        status = IDLE if self._whole else IN_TRANSACTION
        tag = await full_count(connection, self._splitter.rows_of(shard), status) if self._held else None
        if tag is None:
            await self._read(shard, connection)
        else:
            self._tags[shard] = tag

    async def _read(self, shard: int, connection: Connection) -> None:
        """Read a shard to ReadyForQuery. NOTICEs pass through `connection.read` all the while."""
        refused, whole = False, self._whole
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
                            self._tags[shard] = counted(decode.command_complete(message.payload))
                    case B.READY_FOR_QUERY if (refused or shard in self._tags) and whole == (connection.status == IDLE):
                        return
                    case _:
                        # Also a COPY that ends without a word, or outside the transaction that it is in.
                        raise connection.unexpected(message)
        except PgError as error:
            self._refuse(lost_refusal(connection, error, self._whole))

    def _shard_refused(self, shard: int, error: PgError) -> None:
        if shard in self._ended and error.sqlstate == QUERY_CANCELED:
            return
        line = None
        if error.context is not None:
            error.fields["W"], line = map_context(error.context, self._relation, self._lines_of(shard))
        if len(self._setup.shards) > 1:
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
        if self._given_up:
            return
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
        if self._refusals and self._held:
            raise Changed  # on shards that have begun, what they refuse counts, too
        if not self._refusals:
            self._stop_timer()
            if self._held:
                await self._begin_ended()
            else:
                await self._end()
            if self._held or not self._refusals:  # else `stop` ends those without rows, too
                await settled([*self._readers.values(), *self._withdrawals.values()])
        if self._changed is not None:
            raise self._changed
        if self._leader is not None:
            await self._shards.withdraw(self._leader)
        if self._refusals:
            raise await self.stop("another shard refused a row")
        await each(self._setup.confirm(shard, self._connections[shard]) for shard in self._tags)
        counts = {shard: int(tag.split()[-1]) for shard, tag in self._tags.items()}
        check_counts(counts, self._splitter, self._connections, everywhere=self._setup.everywhere)
        await verified(self._setup.verify, self._splitter, self._connections, counts)
        if not self._setup.everywhere:
            self._skipped.check_limit()
        self._shards.ahead = self._ahead
        summary = self._skipped.summary()
        if summary is not None:
            self._notices.notice(min(self._tags), summary)
        return f"COPY {next(iter(counts.values())) if self._setup.everywhere else sum(counts.values())}"

    async def _begin_ended(self) -> None:
        """Begin where there are rows, or on one shard, all in one write for each: what was held is the whole COPY."""
        first = self._setup.shards[0]
        shards = [shard for shard in self._waiting if self._splitter.rows_of(shard)] or [first]
        if len(shards) == 1:
            self._ahead = None
            self._whole = self._alone and not self._splitter.poison_count(shards[0])
        elif first not in shards and self._setup.guard is not None:
            self._leader = first
            shards = shards if self._heed(await lock_alone(self._shards, first, self._setup.guard)) else []
        end = encode.COPY_DONE if self._ahead is None else encode.COPY_DONE + encode.query(self._ahead.sql)
        for shard in shards:
            self._begin_late(shard, end, asked=1 if self._ahead is None else 2)
            # Its rows may be refused, and those of another shard for an earlier line.
            if shard == first and not (shard in self._readers and await self._granted):
                break
        self._waiting.clear()

    async def _end(self) -> None:
        idle = frozenset() if self._setup.everywhere else without_rows(self._connections, self._splitter) & self._own
        taking = [shard for shard in self._connections if shard not in idle]
        for shard in taking:
            self._connections[shard].stream.write(encode.COPY_DONE)
        for shard in sorted(idle, reverse=True):
            if shard == self._setup.shards[0] and len(taking) > 1:
                # Its lock stands for those of the others until they are had.
                await settled([self._readers[one] for one in taking])
            if not self._refusals:
                self._withdraw(shard)

    def _withdraw(self, shard: int) -> None:
        self._ended.add(shard)
        self._connections[shard].stream.write(encode.copy_fail("it has no row"))
        withdrawal = self._shards.withdraw(shard, self._readers[shard])
        self._withdrawals[shard] = asyncio.ensure_future(withdrawal)

    async def stop(self, reason: str, client_fail: bool = False) -> PgError:
        """End the COPY on all shards and return the error to report; `client_fail` for the client's CopyFail."""
        self._stop_timer()
        # Rows in front of the refused one may still be here, and one of them may be worse.
        self._stopping = True
        self._send(self._splitter.flush())
        for shard in [shard for shard, held in self._waiting.items() if held]:
            self._begin_late(shard)
        self._stopped = True
        # Each shard is to look at all its rows. A client's own CopyFail is what PostgreSQL meets after the last one.
        beyond = not client_fail or self._splitter.lines > 1
        unblocking = unending_row(self.response.format) if beyond else b""
        for shard, connection in self._connections.items():
            left = shard in self._tags or shard in self._withdrawals
            if not self._readers[shard].done() and connection.usable and not left:
                self._ended.add(shard)
                connection.stream.write(unblocking + encode.copy_fail(reason))
        tasks = [*self._readers.items(), *self._withdrawals.items()]
        silent = await settled([task for _, task in tasks], SETTLE_TIMEOUT)
        for shard, task in tasks:
            if task in silent:
                # Its part is rolled back when the server sees the connection gone.
                self._connections[shard].abort()
                await task
        if client_fail:
            self._refusals.append(client_refusal(reason, self._relation, self._splitter.lines + 1))
        return answer(self._refusals)

    async def abandon(self) -> None:
        """The client is gone: end the COPY on all shards, without an error for any client."""
        self._splitter.flush()
        self._waiting.clear()
        await self.stop("the client is gone", client_fail=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_split(self, error: SplitError) -> None:
        self._refuse(split_refusal(error, self._relation, self._setup.refusal))
