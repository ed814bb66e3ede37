"""Deadlocks between shards, which no PostgreSQL can see: each waits for a transaction that waits elsewhere.

A transaction that has joined several shards and waits for a lock on one of them for `deadlock_timeout` seconds is
taken for deadlocked: its statement is cancelled, and the client reads 40P01 as from one server. Within one shard
PostgreSQL's own detector, which needs a second, is always faster.

One timer for all sessions of a database, and none while no transaction has joined several shards.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import control
from shardproxy.sqlstate import DEADLOCK_DETECTED

log = logging.getLogger(__name__)

LOOKS = 4
"""Looks within the timeout: a wait must be seen in all of them."""

_WAITING = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks WHERE pid = $1 AND NOT granted"


class Watched(Protocol):
    """A session's shards, as far as they are watched."""

    def participants(self) -> Sequence[Connection]:
        """Return the connections inside the transaction."""


class DeadlockWatch:
    """Watches the transactions that have joined several shards."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._watched: set[Watched] = set()
        self._waits: dict[Connection, tuple[tuple[int, int], float]] = {}
        """By connection: which answer waits (requests sent, answers owed), and since when (time.monotonic)."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def watch(self, shards: Watched) -> None:
        """A transaction has joined a second shard."""
        self._watched.add(shards)
        if self._timer is None and self._task is None:
            self._set_timer()

    def ended(self, shards: Watched) -> None:
        """The transaction is over."""
        self._watched.discard(shards)

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._timeout / LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._watched:
            self._task = asyncio.ensure_future(self._ask_all())

    async def _ask_all(self) -> None:
        try:
            busy = [one for shards in self._watched for one in shards.participants() if one.busy]
            self._waits = {one: wait for one, wait in self._waits.items() if one in busy}
            await each(self._ask(connection) for connection in busy)
        finally:
            self._task = None
        if self._watched:
            self._set_timer()

    async def _ask(self, connection: Connection) -> None:
        replies = connection.replies
        request = replies.sent, len(replies.queue)
        same = await self._waiting(connection) and (replies.sent, len(replies.queue)) == request
        if not same or not connection.busy:
            self._waits.pop(connection, None)
            return
        known, since = self._waits.get(connection, (request, time.monotonic()))
        if known != request:
            since = time.monotonic()
        self._waits[connection] = request, since
        if time.monotonic() - since >= self._timeout * (LOOKS - 1) / LOOKS:
            del self._waits[connection]
            connection.cancelled_for = _deadlock(connection, self._timeout)
            await asyncio.wait({connection.cancel()})

    @staticmethod
    async def _waiting(connection: Connection) -> bool:
        try:
            async with control(connection.address, connection.address.connect_timeout) as asking:
                return bool(await asking.fetchval(_WAITING, connection.pid))
        except PgError as error:
            # A shard that cannot be asked is no proof of a deadlock; whether it lives, others find out.
            log.info("deadlock watch: %s", error)
            return False


def _deadlock(connection: Connection, timeout: float) -> PgError:
    return PgError(
        DEADLOCK_DETECTED,
        "deadlock detected",
        detail=f'A lock on shard "{connection.name}" was not granted for {timeout:g} seconds to a transaction '
        "that holds locks on other shards.",
        hint="Run the transaction again. deadlock_timeout of the proxy's configuration sets how long it waits.",
    )
