"""Deadlocks between shards, which no PostgreSQL can see: each waits for a transaction that waits elsewhere.

Theory of operation. One timer for all sessions of a database, and none while no transaction has joined several shards
and no session has locks of its own, which outlive its transactions.
A statement of such a session whose answer is owed for PATIENCE makes the watch ask the shards: is its backend blocked,
by whom, and are these blocked (`shard.locks`)? If so, the session's backends are told to other proxies on each shard
where it has one. What others tell there joins the shards' answers into one graph (`transaction.waits`). In a cycle all
proxies see the same youngest session. The proxy whose session that is looks a second time, since the shards do not
answer at one moment: a wait that is still the same one has lasted all the while. If all are, it cancels the session's
statement, and the client reads 40P01 as from one server.

The last resort, for cycles that pass through what no proxy knows: a wait seen in all looks for `deadlock_timeout`
seconds is taken for a deadlock. Within one shard PostgreSQL's own detector does all this.
"""

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from shardproxy.shard.locks import LockView, Part
from shardproxy.sqlstate import DEADLOCK_DETECTED
from shardproxy.transaction.waits import Backend, Party, Wait, cycle_of, detail_of, lock_words, victim_of

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between looks at the sessions, which ask no shard."""

PATIENCE = 0.8
"""Seconds that an answer may be owed before the shard is asked: a cycle is to be broken within two."""

AGAIN = 0.4
"""Seconds between questions about a statement that waits for a lock: others may have closed a cycle meanwhile."""

AT_WORK = 1.0
"""The same about one that does not: it works, or waits for its client."""

UNUSED = 10.0
"""Seconds that the connections for questions stand without any."""


class Watched(Protocol):
    """A session's shards, as far as they are watched."""

    @property
    def waits_at_risk(self) -> bool:
        """Whether a wait for a lock that lasts is taken for a deadlock."""

    def standing_by_shard(self) -> Mapping[int, Connection]:
        """Return the session's connections that stand."""


@dataclass(slots=True)
class _Owed:
    """An answer that a shard owes: of which request, and when to ask about it (time.monotonic)."""

    request: tuple[int, int]
    ask_at: float
    waits_since: float | None = None
    """Since when every question has found it waiting for a lock."""


class DeadlockWatch:
    """Watches the sessions that may hold locks on several shards."""

    def __init__(self, addresses: Sequence[Address], timeout: float) -> None:
        self._names = [address.name for address in addresses]
        self._views = [LockView(address) for address in addresses]
        self._timeout = timeout
        self._patience = min(PATIENCE, timeout / 2)
        self._watched: set[Watched] = set()
        self._owed: dict[Connection, _Owed] = {}
        self._told: dict[Watched, Party] = {}
        self._asked = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def watch(self, shards: Watched) -> None:
        """A transaction has joined a second shard, or a session may have a lock of its own."""
        self._watched.add(shards)
        if self._timer is None and self._task is None:
            self._set_timer()

    def ended(self, shards: Watched) -> None:
        """The transaction is over, and the session has no lock of its own."""
        self._watched.discard(shards)

    async def waits(self, connection: Connection) -> bool:
        """Ask whether what a connection runs waits for a lock; a shard that cannot be asked might say so."""
        self._asked = time.monotonic()
        if self._timer is None and self._task is None:
            self._set_timer()
        view = next(view for view in self._views if view.address is connection.address)
        try:
            return bool(await view.blocked([connection.pid]))
        except PgError as error:
            log.info("deadlock watch: %s", error)
            return True

    async def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._leave()

    async def _leave(self) -> None:
        await each(view.close() for view in self._views)
        self._asked = 0.0

    # When to ask.

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(min(LOOK, self._patience), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        owed: dict[Connection, _Owed] = {}
        for shards in self._watched:
            for connection in shards.standing_by_shard().values():
                if connection.busy:
                    request, known = _request(connection), self._owed.get(connection)
                    same = known is not None and known.request == request
                    owed[connection] = known if known and same else _Owed(request, now + self._patience)
        self._owed = owed
        over = self._told and not any(one.waits_since is not None for one in owed.values())
        if over or any(one.ask_at <= now for one in owed.values()):
            self._task = asyncio.ensure_future(self._ask(now))
        elif self._asked and now - self._asked > UNUSED:
            self._task = asyncio.ensure_future(self._stop_asking())
        elif self._watched or self._asked:
            self._set_timer()

    async def _ask(self, now: float) -> None:
        self._asked = now
        try:
            await self._search(now)
        except PgError as error:
            # A shard that cannot be asked is no proof of a deadlock; whether it lives, others find out.
            log.info("deadlock watch: %s", error)
        except Exception:
            # Whatever it was, the next look may find what this one has not.
            log.exception("deadlock watch")
        self._task = None
        self._set_timer()

    async def _stop_asking(self) -> None:
        await self._leave()
        self._task = None
        if self._watched:
            self._set_timer()

    # What to ask, and what to do about the answers.

    async def _search(self, now: float) -> None:
        # All that have waited long enough, though for some it is not time yet: they may be in one cycle.
        asked = {one: owed for one, owed in self._owed.items() if owed.ask_at <= now or owed.waits_since is not None}
        mine = {
            Backend(shard, connection.pid): (shards, connection)
            for shards in self._watched
            for shard, connection in shards.standing_by_shard().items()
            if connection in asked
        }
        waits = await self._waits(mine)
        waiting = {wait.waiter for wait in waits}
        for backend, (_, connection) in mine.items():
            owed = asked[connection]
            if backend in waiting:
                owed.ask_at = now + min(AGAIN, self._patience)
                owed.waits_since = now if owed.waits_since is None else owed.waits_since
            else:
                owed.ask_at, owed.waits_since = now + AT_WORK, None
        await self._tell({shards for backend, (shards, _) in mine.items() if backend in waiting})
        parties, waits = await self._joined(waits) if self._told else ([], waits)
        for party in self._told.values():
            cycle = cycle_of(party, waits, parties)
            if not cycle or victim_of(cycle, parties).number != party.number:
                continue
            again = set(await self._waits({end for wait in cycle for end in (wait.waiter, wait.blocker)}))
            if again.issuperset(cycle):
                _, connection = mine[cycle[0].waiter]
                await self._cancel(connection, asked[connection], _deadlock(detail_of(cycle, self._names)))
        for shards, connection in mine.values():
            owed = asked[connection]
            if (
                shards.waits_at_risk
                and owed.waits_since is not None
                and now - owed.waits_since >= self._timeout - self._patience
            ):
                await self._cancel(connection, owed, self._timed_out(connection))

    async def _waits(self, backends: Iterable[Backend]) -> list[Wait]:
        """Return the waits of backends, and of those that they wait for on the same shard."""
        pids: defaultdict[int, list[int]] = defaultdict(list)
        for backend in backends:
            pids[backend.shard].append(backend.pid)

        async def ask(shard: int) -> list[Wait]:
            return [
                Wait(
                    Backend(shard, one.pid),
                    Backend(shard, blocker),
                    lock_words(one.lock),
                    str(one.lock.get("waitstart")),
                )
                for one in await self._views[shard].blocked(pids[shard])
                for blocker in one.blockers
            ]

        return [wait for found in await each(ask(shard) for shard in pids) for wait in found]

    async def _tell(self, waiting: set[Watched]) -> None:
        """Let other proxies know the sessions that wait, with all their backends."""
        told: dict[Watched, Party] = {}
        for shards in waiting:
            parts = frozenset(Backend(shard, one.pid) for shard, one in shards.standing_by_shard().items())
            if len(parts) > 1:
                known = self._told.get(shards)
                told[shards] = known if known and known.parts == parts else await self._party(parts)
        self._told = told

        async def tell(shard: int) -> None:
            await self._views[shard].tell(
                Part(party.number, part.pid, party.born)
                for party in told.values()
                for part in party.parts
                if part.shard == shard
            )

        if self._told or self._asked:
            await each(tell(shard) for shard in range(len(self._views)))

    async def _party(self, parts: frozenset[Backend]) -> Party:
        began = await each(self._views[part.shard].began([part.pid]) for part in parts)
        born = min((one for one in began if one is not None), default=int(time.time() * 1000))
        return Party(1 + secrets.randbelow(2**31 - 1), born % 2**32, parts)

    async def _joined(self, waits: list[Wait]) -> tuple[list[Party], list[Wait]]:
        """Return the sessions that all proxies have told, and the waits that can be reached through them."""
        told = await each(view.told() for view in self._views)
        parts: defaultdict[tuple[int, int], set[Backend]] = defaultdict(set)
        for shard, on_shard in enumerate(told):
            for part in on_shard:
                parts[part.number, part.born].add(Backend(shard, part.pid))
        parties = [Party(number, born, frozenset(backends)) for (number, born), backends in parts.items()]
        party_of = {part: party for party in parties for part in party.parts}
        found, asked = set(waits), {wait.waiter for wait in waits}
        while True:
            ends = {wait.blocker for wait in found} | {wait.waiter for wait in found}
            new = {part for end in ends if end in party_of for part in party_of[end].parts} - asked
            if not new:
                return parties, list(found)
            asked |= new
            found.update(await self._waits(new))

    async def _cancel(self, connection: Connection, owed: _Owed, reason: PgError) -> None:
        if not connection.busy or _request(connection) != owed.request:
            return
        self._owed.pop(connection, None)
        connection.cancelled_for = reason
        await asyncio.wait({connection.cancel()})

    def _timed_out(self, connection: Connection) -> PgError:
        return _deadlock(
            f'A lock on shard "{connection.name}" was not granted for {self._timeout:g} seconds to a transaction '
            "that holds locks on other shards.",
            hint="Run the transaction again. deadlock_timeout of the proxy's configuration sets how long it waits.",
        )


def _request(connection: Connection) -> tuple[int, int]:
    """Return what tells whether a connection still owes the same answer."""
    return connection.replies.sent, len(connection.replies.queue)


def _deadlock(detail: str, hint: str | None = None) -> PgError:
    return PgError(DEADLOCK_DETECTED, "deadlock detected", detail=detail, hint=hint)
