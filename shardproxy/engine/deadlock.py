"""Deadlocks between shards, which no PostgreSQL can see: each waits for a transaction that waits elsewhere.

A transaction that has joined several shards and waits for a lock on one of them for `deadlock_timeout` seconds is
taken for deadlocked: its statement is cancelled, and the client reads 40P01 as from one server. Within one shard
PostgreSQL's own detector, which needs a second, is always faster.

Driven by `start` and `stop` around each of the client's messages.
"""

import asyncio
import logging
import time

from shardproxy.backend.connection import Connection
from shardproxy.engine.gang import Gang
from shardproxy.errors import PgError
from shardproxy.shard.control import control
from shardproxy.sqlstate import DEADLOCK_DETECTED

log = logging.getLogger(__name__)

LOOKS = 4
"""Looks within the timeout: a wait must be seen in all of them."""

_WAITING = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks WHERE pid = $1 AND NOT granted"


class LockWatch:
    """Watches one session's statements."""

    def __init__(self, gang: Gang, timeout: float) -> None:
        self._gang = gang
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[int, float] = {}

    def start(self) -> None:
        """A statement begins."""
        self._waiting.clear()
        self._set_timer()

    async def stop(self) -> None:
        """The statement has ended. A cancel under way is waited for, or it would hit the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await self._task
            self._task = None
            for connection in self._gang.connections:
                # A cancel that came too late must not give its reason to another one's.
                connection.cancelled_for = None

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(self._timeout / LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if len(self._gang.transaction.joined) > 1:
            self._task = asyncio.ensure_future(self._ask())
        else:
            self._set_timer()

    async def _ask(self) -> None:
        for connection in self._gang.participants():
            if connection.busy and await self._waits(connection):
                since = self._waiting.setdefault(connection.pid, time.monotonic())
                if time.monotonic() - since >= self._timeout * (LOOKS - 1) / LOOKS:
                    connection.cancelled_for = _deadlock(connection, self._timeout)
                    await connection.cancel()
                    return
            else:
                self._waiting.pop(connection.pid, None)
        self._set_timer()

    @staticmethod
    async def _waits(connection: Connection) -> bool:
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
