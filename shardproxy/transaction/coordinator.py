"""Two-phase commit of one configured database, as a whole: commits, and what has to be done beside them.

Driven by: `start()`, `commit(participants)` for each transaction, `close()`. Beside the commits one task

- runs recovery: at the start, every IDLE seconds, and every BUSY seconds behind the start for as long as a PREPARE
  may take, and while something is in doubt, a shard is away or a commit has left something behind;
- fences backends that were lost on their way to PREPARE;
- deletes decisions of which all participants have confirmed, together, so that no commit waits for it.

A commit, once begun, is carried to its end even if its caller is cancelled, and that one is held until then: until
then the participants' connections are the commit's. A ROLLBACK of the caller's between the last PREPARE and the
decision would record a commit without the anchor's rows.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import control, is_transient
from shardproxy.sqlstate import (
    CONNECTION_FAILURE,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    TRANSACTION_RESOLUTION_UNKNOWN,
)
from shardproxy.transaction import metrics, recovery
from shardproxy.transaction.decisions import RETENTION, forget
from shardproxy.transaction.fence import fence, finish
from shardproxy.transaction.setup import refuse_twins, set_up_one
from shardproxy.transaction.two_phase import Commit, Limits

log = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds between looks at shards where nothing is known to be in doubt: for what other proxies leave behind."""

BUSY = 1.0
"""Seconds between looks while something is: recovery is to be done within 5 s of a shard's return."""

AWAY = 2.0
"""Seconds for which a shard that is away is left alone."""

FORGET_DELAY = 2.0
"""Seconds for which confirmed decisions are gathered before they are deleted."""

FORGET_MOST = 10_000
"""Decisions waiting to be deleted: those beyond it are left to the sweep."""

SWEEP = 900.0
"""Seconds between sweeps for decisions that killed proxies have left."""


@dataclass(frozen=True, slots=True)
class _Limbo:
    """A backend that was lost on its way to PREPARE of a transaction that is to abort."""

    address: Address
    pid: int
    clock: float
    gid: str


@dataclass(slots=True)
class _Left:
    """A transaction in doubt on shards that no pass could ask since."""

    shards: set[str]
    since: float  # time.monotonic


class Coordinator:
    """Commits of one database over its shards, and their recovery."""

    def __init__(self, database: str, addresses: Sequence[Address], limits: Limits | None = None) -> None:
        self.database = database
        self.addresses = tuple(addresses)
        self.limits = limits or Limits()
        self.found = recovery.Found()
        self._identities: dict[str, str] = {}
        self._in_flight: set[str] = set()
        self._commits: set[asyncio.Task[list[PgError]]] = set()
        self._limbo: list[_Limbo] = []
        self._left: dict[str, _Left] = {}  # by stem
        self._confirmed: defaultdict[Address, list[str]] = defaultdict(list)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._away: dict[str, float] = {}  # shards that are away, and when to try again
        self._started = self._swept = time.monotonic()

    # Life.

    async def start(self) -> None:
        """Make the tables, recover once, and keep recovering in the background.

        A shard that is away now is set up when it is back. Raises for what only a human can mend: 55000, a role
        that may not create the tables, or two shards with one identity.
        """
        for error in await self._set_up():
            if not is_transient(error) or error.sqlstate == OBJECT_NOT_IN_PREREQUISITE_STATE:
                raise error
            log.warning("two-phase commit: %s", error)
        await self._pass()
        self._started = time.monotonic()
        self._ensure_task()

    async def close(self) -> None:
        """Let the commits under way end, then stop. What is left is any other proxy's, or the next start's."""
        if self._commits:
            await asyncio.wait(self._commits)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._forget()

    @property
    def in_doubt(self) -> int:
        """How many transactions were in doubt behind the last pass of recovery, or are on a shard that is away."""
        return len({doubt.stem for doubt in self.found.open} | self._left.keys())

    @property
    def oldest(self) -> float:
        """Seconds since the oldest of them was prepared, as of that pass."""
        now = time.monotonic()
        ages = [doubt.age for doubt in self.found.open] + [now - left.since for left in self._left.values()]
        return max(ages, default=0.0)

    # Commits.

    async def commit(self, participants: Sequence[Connection]) -> list[PgError]:
        """Commit a transaction on all its participants or on none; return warnings.

        Raises with nothing committed, or 08007 when the outcome could not be found out in time. The participants
        are connections inside a transaction, each to another shard. When it raises, some may still be inside it:
        the caller rolls back those whose `status` says so. Others may have been closed.
        """
        task = asyncio.ensure_future(self._commit(participants))
        self._commits.add(task)
        task.add_done_callback(self._ended)
        cancelled = False
        while not task.done():
            # As often as it is cancelled: the commit has deadlines for all that it does.
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                cancelled = True
        if cancelled and (caller := asyncio.current_task()) is not None:
            # It hears how the commit ended, and ends itself at its next wait.
            caller.cancel()
        return task.result()

    async def _commit(self, participants: Sequence[Connection]) -> list[PgError]:
        commit = Commit(participants, self, self.limits)
        self._in_flight.add(commit.transaction)
        outcome = "rolled_back"
        try:
            warnings = await commit.run()
            outcome = "committed"
        except PgError as error:
            if error.sqlstate == TRANSACTION_RESOLUTION_UNKNOWN:
                outcome = "unknown"
            raise
        finally:
            self._in_flight.discard(commit.transaction)
            metrics.COMMITS.labels(self.database, outcome).inc()
        return warnings

    def _ended(self, task: "asyncio.Task[list[PgError]]") -> None:
        self._commits.discard(task)
        # Looked at here, too: its caller may have been cancelled, and then nobody else does.
        if not task.cancelled() and task.exception() is not None:
            log.info("commit failed: %s", task.exception())

    # What a commit asks for (two_phase.Keeper).

    async def identity(self, address: Address) -> str:
        """Return the identity of a shard, making its tables if they are missing."""
        if address.name not in self._identities:
            await self._learn(address)
        return self._identities[address.name]

    def forget_identity(self, address: Address) -> None:
        """Ask the shard again next time."""
        self._identities.pop(address.name, None)

    def in_limbo(self, address: Address, pid: int, clock: float, gid: str) -> None:
        """Fence a backend and see that nothing stays prepared under the gid."""
        self._limbo.append(_Limbo(address, pid, clock, gid))
        self._look_soon()

    def unfinished(self, stem: str, shards: Iterable[str]) -> None:
        """Look soon, and count it as in doubt until its shards have been seen."""
        self._left.setdefault(stem, _Left(set(), time.monotonic())).shards.update(shards)
        self._look_soon()

    def _look_soon(self) -> None:
        self._wake.set()
        self._ensure_task()

    def confirmed(self, anchor: Address, stem: str) -> None:
        """Delete the decision some time."""
        stems = self._confirmed[anchor]
        if len(stems) < FORGET_MOST:
            stems.append(stem)
        self._ensure_task()

    # Recovery.

    async def recover(self) -> recovery.Found:
        """Run one pass now and return what it has seen and done."""
        await self._set_up()
        await self._pass()
        return self.found

    def _ensure_task(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._wait()
                await self._forget()
                for error in await self._set_up():
                    log.debug("recovery: %s", error)
                await self._pass()
                await self._sweep()
            except Exception:
                # Whatever it was, the next pass may succeed; without recovery, locks would stay for ever.
                log.exception("recovery of database %s failed and will be tried again", self.database)

    async def _wait(self) -> None:
        """Wait until it is time for a pass; delete what is confirmed meanwhile."""
        others = any(not doubt.own and (doubt.alive or doubt.open) for doubt in self.found.doubts)
        # What the backends of a killed proxy were preparing may come into being behind the first pass of the next.
        young = time.monotonic() < self._started + self.limits.prepare
        busy = others or self._limbo or self.found.away or young
        end = time.monotonic() + (BUSY if busy else IDLE)
        while (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, FORGET_DELAY)):
                    await self._wake.wait()
            except TimeoutError:
                await self._forget()
                continue
            break
        self._wake.clear()

    async def _set_up(self) -> list[PgError]:
        """Learn the identities that are not known yet; return what failed."""
        errors: list[PgError] = []

        async def learn(address: Address) -> None:
            try:
                await self._learn(address)
            except PgError as error:
                errors.append(error)
                if error.sqlstate[:2] == "08":
                    self._away[address.name] = time.monotonic() + AWAY

        await each(learn(address) for address in self._here() if address.name not in self._identities)
        return errors

    def _here(self) -> list[Address]:
        """Return the shards to talk to now."""
        now = time.monotonic()
        return [address for address in self.addresses if self._away.get(address.name, 0.0) <= now]

    async def _learn(self, address: Address) -> None:
        identity = await set_up_one(address)
        refuse_twins({**self._identities, address.name: identity})
        self._identities[address.name] = identity

    async def _pass(self) -> None:
        await self._fence()
        here = self._here()
        complete = all(address.name in self._identities for address in self.addresses)
        found = await recovery.look(here, self._identities, complete=complete, returning=self._away)
        self._away = {name: until for name, until in self._away.items() if name not in {one.name for one in here}}
        self._away |= dict.fromkeys(found.away, time.monotonic() + AWAY)
        reached = [address for address in here if address.name not in found.away]
        limit = self.limits.decide
        await recovery.resolve(found, reached, self._identities, limit=limit, in_flight=self._in_flight)
        for name in self._away:
            # Not asked this time: what was said of it still holds.
            found.away.setdefault(name, self.found.away.get(name) or PgError(CONNECTION_FAILURE, "it is away"))
        for name, error in found.away.items():
            if name not in self.found.away:
                log.warning('recovery: shard "%s" is away: %s', name, error)
        for doubt in found.doubts:
            if doubt.outcome is not None and doubt.worked and not doubt.open:
                metrics.RECOVERED.labels(self.database, doubt.outcome).inc()
        self._keep_in_mind(self.found.open, found)
        self.found = found
        metrics.IN_DOUBT.labels(self.database).set(self.in_doubt)
        metrics.OLDEST.labels(self.database).set(self.oldest)

    def _keep_in_mind(self, before: Sequence[recovery.Doubt], found: recovery.Found) -> None:
        """Remember what was in doubt on shards that are away now: they list nothing, and yet hold its locks."""
        now = time.monotonic()
        for doubt in before:
            left = self._left.setdefault(doubt.stem, _Left(set(), now - doubt.age))
            left.shards.update(set(doubt.parts) - doubt.finished)
        for left in self._left.values():
            left.shards &= found.away.keys()
        self._left = {stem: left for stem, left in self._left.items() if left.shards}

    async def _fence(self) -> None:
        async def settle(limbo: _Limbo) -> None:
            try:
                async with control(limbo.address, recovery.TIMEOUT) as connection, asyncio.timeout(recovery.TIMEOUT):
                    await fence(connection, limbo.pid, limbo.clock)
                    # Only its own committer, which has given up, could have decided otherwise.
                    if await finish(connection, limbo.gid, "abort"):
                        log.warning('recovery: late PREPARE of %s on shard "%s" undone', limbo.gid, limbo.address.name)
            except PgError as error:
                log.info('recovery: backend %d of shard "%s": %s', limbo.pid, limbo.address.name, error)
                return
            self._limbo.remove(limbo)

        here = self._here()
        await each(settle(limbo) for limbo in list(self._limbo) if limbo.address in here)

    async def _forget(self) -> None:
        waiting, self._confirmed = self._confirmed, defaultdict(list)
        for address, stems in waiting.items():
            try:
                async with control(address, recovery.TIMEOUT) as connection:
                    await forget(connection, stems)
            except PgError as error:
                # The sweep does it another time.
                log.info("decisions are left to the sweep: %s", error)

    async def _sweep(self) -> None:
        if time.monotonic() < self._swept + SWEEP:
            return
        self._swept = time.monotonic()
        try:
            count = await recovery.sweep(self.addresses, self._identities, max(RETENTION, 10 * self.limits.decide))
        except PgError as error:
            log.info("sweep of decisions: %s", error)
        else:
            if count:
                log.info("%d old decisions deleted", count)
