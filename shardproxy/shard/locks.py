"""What the watch for deadlocks asks a shard, and tells other proxies there. One connection, while there is a reason.

A proxy tells which backends are one session's by advisory locks that this connection holds, so that nothing is stored,
and nothing is left when the proxy dies:

    (number, pid)            a backend on this shard of the session with this number, which is random
    (number << 32) + born    when the session's transaction began, in milliseconds modulo 2**32

They are shared ones, taken without waiting. Who reads them looks for those of connections with this application_name.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from shardproxy.shard.address import Address
from shardproxy.shard.control import SETTINGS, session, translated

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

T = TypeVar("T")

NAME = "shardproxy deadlocks"

TIMEOUT = 5.0
"""Seconds for each answer: more is no help against a deadlock."""

_SETTINGS = {**SETTINGS, "application_name": NAME}

# From the given backends to what blocks them, and on to what blocks these.
_WAITS = """WITH RECURSIVE waits (pid, blockers) AS (
    SELECT pid, pg_blocking_pids(pid) FROM unnest($1::int4[]) AS pid
  UNION
    SELECT blocker, pg_blocking_pids(blocker) FROM waits, unnest(blockers) AS blocker WHERE blocker <> 0)
  SELECT w.pid, w.blockers, to_jsonb(l)::text FROM waits AS w JOIN pg_locks AS l ON l.pid = w.pid AND NOT l.granted"""

_BEGAN = """SELECT min((date_part('epoch', xact_start) * 1000)::int8)
  FROM pg_stat_activity WHERE pid = ANY ($1::int4[])"""

_PUBLISHED = """SELECT l.classid, l.objid, l.objsubid FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
  WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = $1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

_LOCK = """SELECT count(pg_try_advisory_lock_shared(number, pid))
    FROM unnest($1::int4[], $2::int4[]) AS t (number, pid)
  UNION ALL SELECT count(pg_try_advisory_lock_shared(age)) FROM unnest($3::int8[]) AS age"""
_UNLOCK = _LOCK.replace("pg_try_advisory_lock_shared", "pg_advisory_unlock_shared")

_TWO_KEYS = 2
"""pg_locks.objsubid of an advisory lock with two keys."""


class Part(NamedTuple):
    """A session's backend on a shard, as it is told to other proxies."""

    number: int
    pid: int
    born: int


class Blocked(NamedTuple):
    """A backend that waits for a lock, those that it waits for, and the row of pg_locks."""

    pid: int
    blockers: tuple[int, ...]
    lock: dict[str, Any]


class LockView:
    """One shard's locks. Errors leave as PgError, and the next question connects again."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._stack = contextlib.AsyncExitStack()
        self._connection: Control | None = None
        self._turn = asyncio.Lock()
        self._told: frozenset[Part] = frozenset()

    async def _ask(self, question: "Callable[[Control], Coroutine[Any, Any, T]]") -> T:
        async with self._turn:
            try:
                if self._connection is None:
                    self._connection = await self._stack.enter_async_context(session(self.address, TIMEOUT, _SETTINGS))
                with translated(self.address):
                    return await question(self._connection)
            except BaseException:
                await self._leave()
                raise

    async def blocked(self, pids: Sequence[int]) -> list[Blocked]:
        """Return which of these backends, and of those that they wait for, wait for locks."""
        rows = await self._ask(lambda connection: connection.fetch(_WAITS, pids))
        return [Blocked(pid, tuple(blockers), json.loads(lock)) for pid, blockers, lock in rows]

    async def began(self, pids: Sequence[int]) -> int | None:
        """Return when the oldest of these backends' transactions began, by the shard's clock, in milliseconds."""
        began: int | None = await self._ask(lambda connection: connection.fetchval(_BEGAN, pids))
        return began

    async def tell(self, parts: Iterable[Part]) -> None:
        """Let other proxies know these, and no others any more."""
        wanted = frozenset(parts)
        if gone := self._told - wanted:
            await self._change(_UNLOCK, gone)
        if new := wanted - self._told:
            await self._change(_LOCK, new)
        self._told = wanted

    async def _change(self, sql: str, parts: Iterable[Part]) -> None:
        numbers, pids, ages = zip(*((one.number, one.pid, (one.number << 32) + one.born) for one in parts), strict=True)
        await self._ask(lambda connection: connection.fetch(sql, numbers, pids, ages))

    async def told(self) -> list[Part]:
        """Return what all proxies have told."""
        rows = await self._ask(lambda connection: connection.fetch(_PUBLISHED, NAME))
        born = {number: age for number, age, keys in rows if keys != _TWO_KEYS}
        return [Part(number, pid, born.get(number, 0)) for number, pid, keys in rows if keys == _TWO_KEYS]

    async def close(self) -> None:
        """End the connection, and with it what it has told."""
        async with self._turn:
            await self._leave()

    async def _leave(self) -> None:
        self._connection, self._told = None, frozenset()
        await self._stack.aclose()
