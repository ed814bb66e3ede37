"""COPY FROM STDIN that sets bad rows aside: each shard's rows in batches, each under a savepoint of its own.

To `CopyClient` it is what `CopyIn` is. All of it is in the transaction around it, and nothing is stored on any shard
before that commits. A shard's batch is sent as it comes; if the shard refuses it, the bad rows in it are found
(`rejects.isolate`), while the next batch is collected. What is in memory is bounded by a batch for each shard and one
for all that wait. Rows that no shard is to have (`Splitter`, set_aside) are `copy_aside`'s.
"""

import asyncio
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from shardproxy.combine.notices import Fields, NoticeMerger
from shardproxy.copy.binary import HEADER, TRAILER, rows_of
from shardproxy.copy.lines import map_context
from shardproxy.errors import PgError
from shardproxy.native import Placement, SplitError, Splitter
from shardproxy.net.gather import each, settled
from shardproxy.rejects.copying import Copying
from shardproxy.rejects.faults import looking
from shardproxy.rejects.form import copy_sql
from shardproxy.rejects.reject import Outcome, Reject, is_fatal
from shardproxy.rejects.staging import encoded
from shardproxy.rejects.target import Asked
from shardproxy.rejects.upserting import isolation
from shardproxy.session.copy_aside import MESSAGE_HEADER, Aside
from shardproxy.session.copy_in import SETTLE_TIMEOUT
from shardproxy.session.copy_part import Batch, Part
from shardproxy.session.copy_refusals import client_refusal, other_encoding
from shardproxy.session.copy_rejects import RejectPolicy
from shardproxy.session.copy_setup import CopySetup
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INTERNAL_ERROR, UNIQUE_VIOLATION
from shardproxy.wire import decode, encode

LEAST_ROW: Final = 32
LEAST_STEP: Final = 64
"""Bytes of the client's data that are split at once while batches are small: a row, as a guess, and at least."""

CANCEL_AGAIN: Final = 0.1
"""Seconds between two requests to cancel what a shard does for a COPY that has ended."""

LAG: Final = 8
"""A shard's rows are a batch at the latest when so many times `batch_size` bytes have come since its last."""

GROWTH: Final = 8
"""How many times a batch grows while nothing is wrong: a savepoint costs about as much as a hundred rows."""


class Batches:
    """One COPY FROM STDIN."""

    def __init__(
        self,
        setup: CopySetup,
        asked: Asked,
        connections: Mapping[int, Connection],
        shards: Shards,
        notices: NoticeMerger,
        policy: RejectPolicy,
    ) -> None:
        """`connections` are those of the shards that may get rows, joined to the transaction."""
        self.response = decode.CopyResponse(0, ())
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.setup = setup
        self._shards = shards
        self._notices = notices
        self._policy = policy
        self._sink = policy.sink
        self._options = setup.options
        self._binary = setup.options.format == "binary"
        self._asked = asked
        self._splitter = self._new_splitter(set_aside=True, max_row=policy.max_row)
        look = looking(self._options, policy.version, len(asked.columns))
        nowhere = self._splitter.placement.nshards
        self._aside = Aside(
            setup, asked, nowhere, self._sink, look, self._new_splitter, policy.max_row, policy.reject_dir
        )
        self._front = 0  # bytes of the data before the rows that no batch has yet
        self._begun = False
        self._error: PgError | None = None
        self._sql = encoded(copy_sql(asked.quoted, asked.columns, self._options, where=asked.where))
        schema = policy.staging_schema
        self._parts = {
            shard: Part(
                shard,
                connection,
                isolation(connection, asked, setup.options, schema, setup.encoding, policy.sink),
                policy.batch_rows,
            )
            for shard, connection in connections.items()
        }
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin on the first shard, whose refusal of the statement is the client's."""
        first = next(iter(self._parts.values()))
        first.copying = Copying(first.connection, self._sql)
        self.response = await first.copying.started()
        self._tasks = {shard: asyncio.ensure_future(self._work(part)) for shard, part in self._parts.items()}

    def _new_splitter(self, **changed: int) -> Splitter:
        made = self.setup.bare_splitter
        assert isinstance(made, partial)
        placement = made.args[0]
        if self.setup.everywhere:
            placement = Placement.single(placement.nshards, next(iter(self.setup.shards)))
        return Splitter(placement, **(made.keywords | changed))

    # Data.

    def feed(self, data: memoryview) -> int:
        """Take raw messages; return the bytes used, stopping in front of what is not CopyData."""
        if not self._begun:
            self._begun = True
            refusal = other_encoding(bytes(data[MESSAGE_HEADER:8]), self._options, self.setup.encoding)
            if refusal is not None:
                self._fail(refusal)
        used = 0
        # Batches of few rows are cut where they end, more or less.
        step = max(min(part.most for part in self._parts.values()) * LEAST_ROW, LEAST_STEP)
        while used < len(data):
            taken = self._feed(data[used : used + step])
            used += taken
            if taken < min(step, len(data) - used + taken):
                break
        return used

    def _feed(self, data: memoryview) -> int:
        try:
            used = self._splitter.feed(data)
        except SplitError as error:
            used = error.consumed
            self._fail(self.setup.refusal(error, f"COPY {self.setup.relation}, line {error.line}"))
        if self._shards.cancelled:
            self._check_cancelled()
        if self._error is not None:
            self._splitter.ready()
            return used
        self._pass_on(self._splitter.ready())
        for part in self._parts.values():
            rows = self._splitter.rows_of(part.shard) - part.cut_at
            full = rows >= part.most or part.batches[-1].size >= self._policy.batch_size
            late = rows and self._front - part.cut_to > LAG * self._policy.batch_size
            if full or late:
                self._cut(part, last=False)
        late = self._aside.size and self._front - self._aside.judged_to > LAG * self._policy.batch_size
        if late or self._aside.size > self._policy.batch_size or self._splitter.streaming == self._aside.shard:
            self._judge_aside()
        self._hold()
        return used

    def _pass_on(self, sealed: list[tuple[int, bytes]]) -> None:
        for shard, message in sealed:
            if shard == self._aside.shard:
                self._aside.take(message)
            elif shard in self._parts:
                self._parts[shard].take(message)
            elif self._splitter.rows_of(shard):
                raise AssertionError(f"rows for shard {shard}, which takes no part in the COPY")

    def _cut(self, part: Part, *, last: bool) -> None:
        self._splitter.flush_shard(part.shard)
        self._pass_on(self._splitter.ready())
        marks = self._splitter.marks(part.shard)
        part.cut(marks, self._splitter.rows_of(part.shard), last=last, trailed=self._splitter.trailed)
        if marks:
            self._front = max(self._front, marks[-1])

    def _hold(self) -> None:
        """Hold the client back while a batch waits that is as large as one may be."""
        waiting = sum(batch.size for part in self._parts.values() for batch in list(part.batches)[1:])
        if waiting > self._policy.batch_size:
            self._shards.pressure.hold(self)
        else:
            self._shards.pressure.go_on(self)

    # A shard.

    async def _work(self, part: Part) -> None:
        """Store a shard's batches, one after the other."""
        try:
            while True:
                batch = part.batches[0]
                if not batch.messages and batch.marks is None:
                    await self._woken(part)
                    continue
                if batch.messages or part.copying is not None:
                    await self._store(part, batch)
                if batch.marks is not None and part.last and len(part.batches) == 1:
                    return
                part.batches.popleft()
                self._hold()
        except PgError as error:
            self._fail(error)
        except Exception:
            self._fail(PgError(INTERNAL_ERROR, "a batch was not judged"))  # `stop` raises what it was
            raise

    async def _woken(self, part: Part) -> None:
        await part.wake.wait()
        part.wake.clear()
        if self._error is not None:
            raise self._error

    async def _store(self, part: Part, batch: Batch) -> None:
        # Each batch is a COPY of its own; the splitter gives a shard one header and one trailer.
        header, part.begun = not part.begun, True
        if not part.at_once:
            while batch.marks is None:
                await self._woken(part)
            await self._judge(part, batch, UNIQUE_VIOLATION, header=header)
            return
        copying, part.copying, sent = part.copying or Copying(part.connection, self._sql), None, 0
        if self._binary and not header:
            copying.put(encode.copy_data(HEADER))
        while True:
            for message in batch.messages[sent:]:
                copying.put(message)
            sent = len(batch.messages)
            if batch.marks is not None:
                break
            try:
                await self._woken(part)
            except PgError:
                await copying.fail()
                raise
        if self._binary and not batch.trailer:
            copying.put(encode.copy_data(TRAILER))
        copied = await copying.end()
        count = len(batch.marks) // 2
        if copied.error is None:
            part.outcome.stored += copied.count
            part.outcome.dropped += count - copied.count
            part.most = min(part.most * 2, self._policy.batch_rows * GROWTH)
            self._sink.judged(count, [])
            self._passed(part, batch.marks)
            return
        if is_fatal(copied.error.sqlstate):
            raise self._told(part, copied.error)
        if self._error is not None:
            raise self._error
        part.most = self._policy.batch_rows
        await self._judge(part, batch, copied.error.sqlstate, header=header)

    async def _judge(self, part: Part, batch: Batch, sqlstate: str, *, header: bool) -> None:
        """Have the bad rows of a batch found, and the others stored."""
        assert batch.marks is not None
        data = b"".join(message[MESSAGE_HEADER:] for message in batch.messages)
        batch.messages.clear()
        if self._binary:
            data = rows_of(data, header=header, trailer=batch.trailer)
        outcome = await part.isolation.store(data, batch.marks, self._splitter.newline, sqlstate)
        part.outcome.stored += outcome.stored
        part.outcome.dropped += outcome.dropped
        count = len(batch.marks) // 2
        part.at_once = (outcome.updated + outcome.left_out) * 2 <= count
        self._set_aside(part, outcome, count)
        self._passed(part, batch.marks)

    def _set_aside(self, part: Part, outcome: Outcome, judged: int) -> None:
        rejects: Sequence[Reject] = outcome.rejects
        if rejects and len(self._parts) > 1:
            rejects = [replace(one, shard=part.connection.name) for one in rejects]
        self._sink.judged(judged, rejects)
        if outcome.updated or outcome.left_out:
            self._sink.found(outcome.updated, outcome.left_out)

    def _passed(self, part: Part, marks: "array[int]") -> None:
        """Tell up to where all rows have been judged, now that these of a shard have."""
        part.passed(marks)
        rows_of = self._splitter.rows_of
        waiting = [one.judged_to for one in self._parts.values() if one.judged < rows_of(one.shard)]
        aside = [self._aside.judged_to] if self._aside.size else []
        self._sink.passed(min([*waiting, *aside], default=self._front))

    def _told(self, part: Part, error: PgError) -> PgError:
        """Return an error of a shard with the client's line, or none."""
        if error.context is not None:
            error.fields["W"], _ = map_context(error.context, self.setup.relation, lambda _: None)
        return error

    def _fail(self, error: PgError) -> None:
        self._error = self._error or error
        if not self.failed.done():
            self.failed.set_result(None)
        for part in self._parts.values():
            part.wake.set()
        self._shards.pressure.go_on(self)
        self._shards.release_client()

    def _check_cancelled(self) -> None:
        """A cancel that has come while no shard was busy ends the COPY, too."""
        try:
            self._shards.check_cancelled()
        except PgError as error:
            self._fail(error)

    def _judge_aside(self) -> None:
        """Say what is wrong with the rows that the splitter has set aside."""
        self._splitter.flush_shard(self._aside.shard)
        self._pass_on(self._splitter.ready())
        try:
            self._aside.judge(self._splitter)
        except PgError as error:
            self._fail(error)

    # The end.

    async def finish(self) -> str:
        """The client has sent CopyDone: return the tag, or raise the error. On return nothing is committed."""
        try:
            self._pass_on(self._splitter.finish())
        except SplitError as error:
            self._fail(self.setup.refusal(error, None))
        if self._error is None:
            for part in self._parts.values():
                self._cut(part, last=True)
            self._check_cancelled()
            self._judge_aside()
            await settled(list(self._tasks.values()))
            for task in self._tasks.values():
                task.result()
        if self._error is not None:
            raise await self.stop("another row ended it")
        try:
            return await self._ended_all()
        except BaseException:
            self._discard()
            raise

    async def _ended_all(self) -> str:
        """All shards have had all their rows."""
        await each(self._ended(part) for part in self._parts.values())
        await each(self.setup.confirm(part.shard, part.connection) for part in self._parts.values())
        stored = sum(part.outcome.stored for part in self._parts.values())
        dropped = sum(part.outcome.dropped for part in self._parts.values())
        aside = await self._sink.finish([part.connection for part in self._parts.values()])
        if stored + dropped + aside != self._splitter.rows or dropped < 0:
            raise PgError(
                INTERNAL_ERROR,
                f"{self._splitter.rows} rows were read, and {stored} stored, {dropped} dropped, {aside} set aside",
                hint="Nothing was loaded.",
            )
        counts = {shard: part.outcome.stored for shard, part in self._parts.items()}
        if self._policy.spread is not None:
            connections = {shard: part.connection for shard, part in self._parts.items()}
            await self._policy.spread.check(self._splitter, connections, counts)
        return f"COPY {stored}"

    async def _ended(self, part: Part) -> None:
        outcome = await part.isolation.end()
        part.outcome.stored += outcome.stored
        part.outcome.dropped += outcome.dropped
        for left in part.isolation.left():
            self._set_aside(part, left, 0)

    async def stop(self, reason: str, client_fail: bool = False) -> PgError:
        """End the COPY on all shards and return the error to report; `client_fail` for the client's CopyFail."""
        error = self._error
        if error is None:
            error = client_refusal(reason, self.setup.relation, self._splitter.lines + 1).error
            if not client_fail:
                error = PgError(INTERNAL_ERROR, reason)
        self._fail(error)
        tasks = list(self._tasks.values())
        deadline = time.monotonic() + SETTLE_TIMEOUT
        # What looks for bad rows is many statements: a cancel may come between two.
        while (silent := await settled(tasks, CANCEL_AGAIN)) and time.monotonic() < deadline:
            for shard, task in self._tasks.items():
                if task in silent and self._parts[shard].connection.busy:
                    self._parts[shard].connection.cancel()
        for shard, task in self._tasks.items():
            if task in silent:
                self._parts[shard].connection.abort()
                await task
        self._discard()
        _ = [task.result() for task in tasks]
        return self._error or error

    def _discard(self) -> None:
        self._sink.discard()
        self._aside.discard()
        for part in self._parts.values():
            part.isolation.close()

    async def abandon(self) -> None:
        """The client is gone."""
        await self.stop("the client is gone", client_fail=True)

    def notice(self, shard: int, fields: Fields) -> None:
        """Take a shard's NoticeResponse. What triggers say of a row's line is not known any more."""
        if "W" in fields:
            fields["W"], _ = map_context(fields["W"], self.setup.relation, lambda _: None)
        self._notices.notice(shard, fields)
