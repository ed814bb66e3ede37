"""COPY FROM STDIN as the client sees it: CopyInResponse, its data, CopyDone or CopyFail, and the end of either side."""

import asyncio
import logging
from collections.abc import Set

from shardproxy.combine.notices import NoticeMerger
from shardproxy.copy.encoding import Text
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.session.client import Client
from shardproxy.session.copy_in import CopyIn
from shardproxy.session.copy_look import Changed
from shardproxy.session.copy_setup import forget_look, prepare_copy
from shardproxy.session.database import Database
from shardproxy.session.execute import Executor
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.session.transactions import Transactions
from shardproxy.sql import CopyFrom, TableRef
from shardproxy.sqlstate import INSUFFICIENT_PRIVILEGE, QUERY_CANCELED
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import F
from shardproxy.wire.errors import decoded

log = logging.getLogger(__name__)

ABANDON_PATIENCE = 2.0
"""Seconds that the shards have to end a COPY whose client is gone, before their connections are closed instead: the
locks that the others hold must not wait for one that stalls."""


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
    ) -> None:
        self._database = database
        self._shards = shards
        self._names = names
        self._executor = executor
        self._transactions = transactions
        self._client = client
        self._unguarded: set[TableRef] = set()
        """The tables on which this session may not take the lock in front of COPY."""

    async def run(self, statement: CopyFrom, text: Text) -> str:
        """Serve a COPY up to its tag."""
        client, stream = self._client, self._client.stream
        copy = await self._start(statement, text.encode(statement.text))
        client.write(encode.copy_in_response(copy.response.format, copy.response.column_formats))
        stream.flush()
        # The tap stays after a failure: it drops what the client still sends, without a look at each message.
        stream.tap(copy.feed)
        try:
            while True:
                message = await stream.read(until=copy.failed)
                if message is None:
                    raise await copy.stop("a row was refused")
                match message.type:
                    case F.COPY_DONE:
                        stream.untap()
                        return await copy.finish()
                    case F.COPY_FAIL:
                        stream.untap()
                        raise await self._client_failed(copy, message.payload)
                    case F.FLUSH | F.SYNC:
                        stream.tap(copy.feed)
                    case _:
                        raise ProtocolError(f"unexpected message type 0x{message.type:02X} during COPY from stdin")
        except (ConnectionLost, ProtocolError, asyncio.CancelledError):
            self._shards.client_writable(True)
            await asyncio.shield(self._abandon(copy))
            raise
        finally:
            # Let go of the COPY: its log of lines and last row may be many megabytes, and the session may now be idle.
            client.statement_begins()

    async def _start(self, statement: CopyFrom, sql: bytes) -> CopyIn:
        """Start COPY FROM STDIN on its shards, in a transaction: an implicit one, if none is open."""
        client = self._client
        client.statement_begins()
        self._shards.transaction.check()
        self._transactions.begin_implicit()
        transaction = self._shards.transaction
        # ROLLBACK on one of them would take back what the transaction has set.
        own = frozenset() if transaction.has_set else frozenset(self._shards.everyone) - transaction.joined
        guarded = statement.table not in self._unguarded
        for last in (False, False, True):
            try:
                copy = await self._begin(statement, sql, own, guarded=guarded and not last)
                break
            except Changed as changed:
                forget_look(self._database, self._shards, statement)
                if changed.refusal is not None:
                    guarded = False
                    if changed.refusal.sqlstate == INSUFFICIENT_PRIVILEGE:
                        self._unguarded.add(statement.table)
                for shard in transaction.joined & own:
                    await self._shards.withdraw(shard)
        return copy

    async def _begin(self, statement: CopyFrom, sql: bytes, own: Set[int], *, guarded: bool) -> CopyIn:
        setup = await prepare_copy(
            self._database, self._shards, self._names, self._executor, statement, sql, guarded=guarded
        )
        if setup.guard is None:
            await self._executor.joined(setup.plan)
        copy = CopyIn(sql, setup, self._shards, NoticeMerger(self._client.notice), own)
        self._client.on_notice = copy.notice
        await copy.start()
        return copy

    @staticmethod
    async def _client_failed(copy: CopyIn, payload: bytes) -> PgError:
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

    @staticmethod
    async def _abandon(copy: CopyIn) -> None:
        """End the COPY of a client that is gone; a shard that stalls is left to the end of its connection."""
        try:
            async with asyncio.timeout(ABANDON_PATIENCE):
                await copy.abandon()
        except TimeoutError:
            log.info("a shard does not answer to the end of a COPY whose client is gone: its connection is closed")
