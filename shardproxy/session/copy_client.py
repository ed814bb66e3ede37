"""COPY FROM STDIN as the client sees it: CopyInResponse, its data, CopyDone or CopyFail, and the end of either side."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Set

from shardproxy.combine.notices import NoticeMerger
from shardproxy.copy.encoding import Text
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.session.client import Client
from shardproxy.session.copy_batches import Batches
from shardproxy.session.copy_held import Begun, HeldCopy
from shardproxy.session.copy_in import CopyIn
from shardproxy.session.copy_look import Changed
from shardproxy.session.copy_resume import Resuming
from shardproxy.session.copy_setup import CopySetup, forget_look, known_look, prepare_copy
from shardproxy.session.database import Database
from shardproxy.session.execute import Executor
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.session.transactions import Transactions
from shardproxy.session.watch import WatchedCopy
from shardproxy.sql import CopyFrom, TableRef
from shardproxy.sqlstate import INSUFFICIENT_PRIVILEGE, PROTOCOL_VIOLATION, QUERY_CANCELED
from shardproxy.transaction.ahead import Ahead
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import F
from shardproxy.wire.errors import decoded
from shardproxy.wire.framing import Message

log = logging.getLogger(__name__)

ABANDON_PATIENCE = 2.0
"""Seconds that the shards have to end a COPY whose client is gone, before their connections are closed instead: the
locks that the others hold must not wait for one that stalls."""


KEPT = 20
"""Statements of a session that are known to begin well."""

LONGEST = 8192
"""Bytes of such a statement's text."""


class CopyClient:
    """The COPYs of one client."""

    def __init__(
        self,
        database: Database,
        shards: Shards,
        names: Resolver,
        executor: Executor,
        transactions: Transactions,
        client: Client,
        startup: Mapping[str, str],
    ) -> None:
        self._resuming = Resuming(database, shards, names, executor, client, startup)
        self._database = database
        self._shards = shards
        self._names = names
        self._executor = executor
        self._transactions = transactions
        self._client = client
        self._begun: OrderedDict[bytes, Begun] = OrderedDict()
        self._unguarded: set[TableRef] = set()
        """The tables on which this session may not take the lock in front of COPY."""

    async def run(self, statement: CopyFrom, text: Text, *, alone: bool = False) -> str:
        """Serve a COPY up to its tag; `alone` if nothing can follow it in its transaction, unless one is open."""
        self._client.statement_begins()
        self._shards.transaction.check()
        ahead = self._database.ahead() if alone and not self._shards.transaction.open else None
        self._transactions.begin_implicit()
        try:
            statement = await self._resuming.known(statement)
            sql = text.encode(statement.text)
            if (load := await self._resuming.load(statement)) is not None:
                batches = await self._resuming.start(load, statement, sql, self._own())
                self._respond(batches)
                return await self._serve(batches)
            held = self._held(statement, sql, ahead)
            if held is None:
                copy = await self._start(statement, sql)
                self._respond(copy)
                return await self._serve(copy)
            self._respond(held)
            return await self._serve_held(held, statement, sql)
        finally:
            # Let go of the COPY: its log of lines and last row may be many megabytes, and the session may now be idle.
            self._client.statement_begins()

    def _respond(self, copy: CopyIn | HeldCopy | Batches) -> None:
        self._client.write(encode.copy_in_response(copy.response.format, copy.response.column_formats))
        self._client.stream.flush()

    async def _message(self, copy: CopyIn | HeldCopy | Batches) -> Message | None:
        """Have a COPY take its data; return what ends them, CopyDone or CopyFail; None when the COPY has done so."""
        stream = self._client.stream
        # The tap stays after a failure: it drops what the client still sends, without a look at each message.
        stream.tap(copy.feed)
        while True:
            message = await stream.read(until=copy.failed)
            if message is None:
                return None
            if message.type not in {F.FLUSH, F.SYNC}:
                stream.untap()
                return message
            stream.tap(copy.feed)

    async def _serve(self, copy: CopyIn | Batches, message: Message | None = None) -> str:
        """Serve a COPY that has begun, up to its tag; `message` has come after its data."""
        try:
            message = message or await self._message(copy)
            if message is None:
                raise await copy.stop("a row was refused")
            if message.type == F.COPY_DONE:
                tag = await copy.finish()
                if isinstance(copy, Batches) and isinstance(copy.setup.verify, WatchedCopy):
                    await copy.setup.verify.check_set_aside()
                return tag
            if message.type == F.COPY_FAIL:
                raise await self._client_failed(copy, message.payload)
            broken = await self._broken_off(copy, message)
        except (ConnectionLost, ProtocolError, asyncio.CancelledError):
            self._shards.client_writable(True)
            await asyncio.shield(self._abandon(copy))
            raise
        raise broken

    # A COPY that is held.

    def _held(self, statement: CopyFrom, sql: bytes, ahead: Ahead | None) -> HeldCopy | None:
        """Return a COPY that is known to begin well; None for one that is to begin on the shards first."""
        begun = self._begun.get(sql)
        if begun is None:
            return None
        looked, shards = known_look(self._database, self._shards, statement), self._shards
        known = looked is begun.looked and self._names.cache is begun.view and self._state() == begun.state
        if not known or shards.transaction.joined or shards.transaction.has_set or shards.cancelled:
            return None
        if any(shards.standing(shard) is None for shard in begun.setup.shards):
            return None
        copy = self._copy(sql, begun.setup, frozenset(shards.everyone))
        # With a decision to write, a shard that is lost in its commit is asked what became of it, by its id.
        alone = ahead is not None and self._database.coordinator is None
        copy.hold(begun.response, ahead, whole=alone and shards.transaction.joining_sql() == b"BEGIN")
        return HeldCopy(copy, self._client.stream)

    def _state(self) -> Hashable:
        return self._shards.home, self._shards.client_encoding

    async def _serve_held(self, held: HeldCopy, statement: CopyFrom, sql: bytes) -> str:
        try:
            message = await self._message(held)
        finally:
            held.release()
        if message is not None and message.type == F.COPY_DONE:
            try:
                return await self._serve(held.copy, message)
            except Changed as changed:
                await self._changed(statement, changed, frozenset(self._shards.everyone))
        try:
            # Until it has begun, `held` goes on to take what comes.
            copy = await self._start(statement, sql)
            copy.feed(memoryview(held.data))
            if message is None:
                copy.flush()
                self._client.stream.tap(copy.feed)
        finally:
            held.end()
        return await self._serve(copy, message)

    # A COPY that begins on the shards.

    async def _start(self, statement: CopyFrom, sql: bytes) -> CopyIn:
        """Start COPY FROM STDIN on its shards."""
        own = self._own()
        self._begun.pop(sql, None)
        guarded = statement.table not in self._unguarded
        for last in (False, False, True):
            try:
                copy = await self._begin(statement, sql, own, guarded=guarded and not last)
                break
            except Changed as changed:
                guarded = guarded and changed.refusal is None
                await self._changed(statement, changed, own)
        return copy

    def _own(self) -> Set[int]:
        """Return the shards that will be in the transaction for a COPY's sake alone."""
        transaction = self._shards.transaction
        # ROLLBACK on one of them would take back what the transaction has set.
        return frozenset() if transaction.has_set else frozenset(self._shards.everyone) - transaction.joined

    async def _begin(self, statement: CopyFrom, sql: bytes, own: Set[int], *, guarded: bool) -> CopyIn:
        setup = await prepare_copy(
            self._database, self._shards, self._names, self._executor, statement, sql, guarded=guarded
        )
        if setup.guard is None:
            await self._executor.joined(setup.plan)
        copy = self._copy(sql, setup, own)
        await copy.start()
        if setup.looked is not None and len(sql) <= LONGEST:
            self._begun[sql] = Begun(setup, setup.looked, self._names.cache, self._state(), copy.response)
            if len(self._begun) > KEPT:
                self._begun.popitem(last=False)
        return copy

    def _copy(self, sql: bytes, setup: CopySetup, own: Set[int]) -> CopyIn:
        copy = CopyIn(sql, setup, self._shards, NoticeMerger(self._client.notice), own)
        self._client.on_notice = copy.notice
        return copy

    async def _changed(self, statement: CopyFrom, changed: Changed, own: Set[int]) -> None:
        """Take the COPY back from the shards that are in the transaction for its sake alone; it begins anew."""
        forget_look(self._database, self._shards, statement)
        if changed.refusal is not None and changed.refusal.sqlstate == INSUFFICIENT_PRIVILEGE:
            self._unguarded.add(statement.table)
        for shard in self._shards.transaction.joined & own:
            await self._shards.withdraw(shard)

    @staticmethod
    async def _client_failed(copy: CopyIn | Batches, payload: bytes) -> PgError:
        """End the COPY at the client's CopyFail and return the error to report."""
        try:
            reason, malformed = decoded(decode.copy_fail, payload), None
        except PgError as error:
            reason, malformed = "malformed CopyFail", error
        failure = await copy.stop(reason, client_fail=True)
        if malformed is None or failure.sqlstate != QUERY_CANCELED:
            return failure
        malformed.fields["W"] = failure.context or ""
        return malformed

    async def _broken_off(self, copy: CopyIn | Batches, message: Message) -> PgError:
        """End the COPY at a message that has no place in it; return the error to report after those of its rows."""
        failure = await copy.stop("unexpected message", client_fail=True)
        if failure.sqlstate != QUERY_CANCELED:
            # To PostgreSQL the COPY had ended there, and this is the client's next request.
            self._client.stream.put_back(message)
            return failure
        words = f"unexpected message type 0x{message.type:02X} during COPY from stdin"
        self._client.error(PgError(PROTOCOL_VIOLATION, words, context=failure.context))
        return ProtocolError("terminating connection because protocol synchronization was lost")

    @staticmethod
    async def _abandon(copy: CopyIn | Batches) -> None:
        """End the COPY of a client that is gone; a shard that stalls is left to the end of its connection."""
        try:
            async with asyncio.timeout(ABANDON_PATIENCE):
                await copy.abandon()
        except TimeoutError:
            log.info("a shard does not answer to the end of a COPY whose client is gone: its connection is closed")
