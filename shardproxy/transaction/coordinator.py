"""Two-phase commit of one configured database, as a whole: commits, and what has to be done beside them.

Driven by: `start()`, `commit(participants)` for each transaction, `close()`. Beside the commits one task

- runs recovery: at the start, every IDLE seconds, and every BUSY seconds after the start for as long as a PREPARE
  may take, and while something is in doubt, a shard is unreachable or a commit has left something unresolved;
- fences backends that were lost on their way to PREPARE;
- deletes decisions that all participants have confirmed, many at a time, so that no commit waits for it.

A commit, once begun, is carried to its end even if its caller is cancelled, and that one is held until then: until
then the participants' connections are the commit's. A ROLLBACK of the caller's between the last PREPARE and the
decision would record a commit without the anchor's rows.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from shardproxy.transaction import recovery
from shardproxy.transaction.decisions import RETENTION, forget
from shardproxy.transaction.fence import fence, finish
from shardproxy.transaction.gid import transaction_of
from shardproxy.transaction.participant import Limits, Probe, Row
from shardproxy.transaction.setup import refuse_twins, set_up_one
from shardproxy.transaction.two_phase import TwoPhaseCommit

log = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds between looks at shards where nothing is known to be in doubt: other proxies may leave something."""

BUSY = 1.0
"""Seconds between looks while something is: recovery is to be done within 5 s of a shard's return."""

UNREACHABLE_PAUSE = 2.0
"""Seconds for which an unreachable shard is not tried again."""

FORGET_DELAY = 2.0
"""Seconds for which confirmed decisions are gathered before they are deleted."""

FORGET_MOST = 10_000
"""Decisions waiting to be deleted: those beyond it are left to the sweep."""

SWEEP = 900.0
"""Seconds between sweeps for decisions that killed proxies have left."""


@dataclass(frozen=True, slots=True)
class _LostBackend:
    """A backend that was lost on its way to PREPARE of a transaction that is to abort."""

    address: Address
    pid: int
    clock: float
    gid: str


@dataclass(slots=True)
class _Unasked:
    """A transaction in doubt on shards that no pass has reached since."""

    shards: set[str]
    since: float  # time.monotonic


class Coordinator:
    """Commits of one database over its shards, and their recovery."""

    def __init__(self, database: str, addresses: Sequence[Address], limits: Limits | None = None) -> None:
        self.database = database
        self.addresses = tuple(addresses)
        self.limits = limits or Limits()
        self.found = recovery.RecoveryPass()
        self._identities: dict[str, str] = {}
        self._in_flight: set[str] = set()
        self._finished: set[str] = set()  # since the last pass began, which may have seen them prepared
        self._commits: set[asyncio.Task[list[PgError]]] = set()
        self._lost: list[_LostBackend] = []
        self._unasked: dict[str, _Unasked] = {}  # by decision key
        self._confirmed: defaultdict[Address, list[str]] = defaultdict(list)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unreachable: dict[str, float] = {}  # shards, and when (time.monotonic) to try again
        self._started = self._swept = time.monotonic()

    # Life.

    async def start(self) -> None:
        """Make the tables, recover once, and keep recovering in the background.

        A shard that is unreachable now is set up when it is back. Raises for what only a human can mend: 55000, a role
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
        """Let the commits under way end, then stop. Another proxy, or the next start, resolves what is left."""
        if self._commits:
            await asyncio.wait(self._commits)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._forget()

    @property
    def in_doubt(self) -> int:
        """How many transactions were in doubt after the last pass of recovery, or are on an unreachable shard."""
        return len({one.decision_key for one in self.found.unresolved} | self._unasked.keys())

    @property
    def oldest(self) -> float:
        """Seconds since the oldest of them was prepared, as of that pass."""
        now = time.monotonic()
        ages = [one.age for one in self.found.unresolved] + [now - unasked.since for unasked in self._unasked.values()]
        return max(ages, default=0.0)

    # Commits.

    async def commit(
        self,
        participants: Sequence[Connection],
        probe: Probe | None = None,
        answers: Mapping[Connection, Row] | None = None,
    ) -> list[PgError]:
        """Commit a transaction on all its participants or on none; return warnings.

        `answers` are the rows of those that have been asked `probe` already, with the last statement of theirs: this
        saves a round trip.

        Raises with nothing committed, or 08007 when the outcome could not be found out in time. The participants
        are connections inside a transaction, each to another shard. When it raises, some may still be inside it:
        the caller rolls back those whose `status` shows it. Others may have been closed.
        """
        task = asyncio.ensure_future(self._commit(TwoPhaseCommit(participants, self, self.limits, probe, answers)))
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
            # It learns how the commit ended, and ends itself at its next wait.
            caller.cancel()
        return task.result()

    async def _commit(self, commit: TwoPhaseCommit) -> list[PgError]:
        from shardproxy.transaction import metrics

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
        # Looked at here, too: its caller may have been cancelled, and then it would be seen nowhere.
        if not task.cancelled() and task.exception() is not None:
            log.info("commit failed: %s", task.exception())

    # What a commit asks for (two_phase.Manager).

    async def identity(self, address: Address) -> str:
        """Return the identity of a shard, making its tables if they are missing."""
        if address.name not in self._identities:
            await self._learn(address)
        return self._identities[address.name]

    async def participant(self, address: Address) -> str:
        """Return what names a shard as a participant in a gid: its identity."""
        return await self.identity(address)

    def forget_identity(self, address: Address) -> None:
        """Ask the shard again next time."""
        self._identities.pop(address.name, None)

    def lost_in_prepare(self, address: Address, pid: int, clock: float, gid: str) -> None:
        """Fence a backend and see that nothing stays prepared under the gid."""
        self._lost.append(_LostBackend(address, pid, clock, gid))
        self._look_soon()

    def unresolved(self, key: str, shards: Iterable[str]) -> None:
        """Look soon, and count it as in doubt until its shards have been seen."""
        self._unasked.setdefault(key, _Unasked(set(), time.monotonic())).shards.update(shards)
        self._look_soon()

    def _look_soon(self) -> None:
        self._wake.set()
        self._ensure_task()

    def confirmed(self, anchor: Address, key: str) -> None:
        """Delete the decision later, with others."""
        self._finished.add(transaction_of(key))
        keys = self._confirmed[anchor]
        if len(keys) < FORGET_MOST:
            keys.append(key)
        self._ensure_task()

    # Recovery.

    async def recover(self) -> recovery.RecoveryPass:
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
        others = any(not one.own and (one.committing or one.unresolved) for one in self.found.in_doubt)
        # What the backends of a killed proxy were preparing may come into being after the first pass of the next.
        young = time.monotonic() < self._started + self.limits.prepare
        busy = others or self._lost or self.found.unreachable or young
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
                    self._unreachable[address.name] = time.monotonic() + UNREACHABLE_PAUSE

        await each(learn(address) for address in self._here() if address.name not in self._identities)
        return errors

    def _here(self) -> list[Address]:
        """Return the shards to talk to now."""
        now = time.monotonic()
        return [address for address in self.addresses if self._unreachable.get(address.name, 0.0) <= now]

    async def _learn(self, address: Address) -> None:
        identity = await set_up_one(address)
        refuse_twins({**self._identities, address.name: identity})
        self._identities[address.name] = identity

    async def _pass(self) -> None:
        from shardproxy.transaction import metrics

        await self._fence()
        here = self._here()
        complete = all(address.name in self._identities for address in self.addresses)
        self._finished.clear()
        found = await recovery.look(here, self._identities, complete=complete, returning=self._unreachable)
        asked = {address.name for address in here}
        self._unreachable = {name: until for name, until in self._unreachable.items() if name not in asked}
        self._unreachable |= dict.fromkeys(found.unreachable, time.monotonic() + UNREACHABLE_PAUSE)
        reached = [address for address in here if address.name not in found.unreachable]
        in_flight = self._in_flight | self._finished
        await recovery.resolve(found, reached, self._identities, limit=self.limits.decide, in_flight=in_flight)
        for name in self._unreachable:
            # Not asked this time: the last error still holds.
            error = self.found.unreachable.get(name) or PgError(CONNECTION_FAILURE, "it is unreachable")
            found.unreachable.setdefault(name, error)
        for name, error in found.unreachable.items():
            if name not in self.found.unreachable:
                log.warning('recovery: shard "%s" is unreachable: %s', name, error)
        for one in found.in_doubt:
            if one.outcome is not None and one.worked and not one.unresolved:
                metrics.RECOVERED.labels(self.database, one.outcome).inc()
        self._remember(self.found.unresolved, found)
        self.found = found
        metrics.IN_DOUBT.labels(self.database).set(self.in_doubt)
        metrics.OLDEST.labels(self.database).set(self.oldest)

    def _remember(self, before: Sequence[recovery.InDoubt], found: recovery.RecoveryPass) -> None:
        """Remember what was in doubt on shards that are unreachable now: they list nothing, and yet hold its locks."""
        now = time.monotonic()
        for one in before:
            unasked = self._unasked.setdefault(one.decision_key, _Unasked(set(), now - one.age))
            unasked.shards.update(set(one.parts) - one.finished)
        for unasked in self._unasked.values():
            unasked.shards &= found.unreachable.keys()
        self._unasked = {key: unasked for key, unasked in self._unasked.items() if unasked.shards}

    async def _fence(self) -> None:
        async def settle(lost: _LostBackend) -> None:
            try:
                async with control(lost.address, recovery.TIMEOUT) as connection, asyncio.timeout(recovery.TIMEOUT):
                    await fence(connection, lost.pid, lost.clock)
                    # Only its own committer, which has given up, could have decided otherwise.
                    if await finish(connection, lost.gid, "abort"):
                        log.warning('recovery: late PREPARE of %s on shard "%s" undone', lost.gid, lost.address.name)
            except PgError as error:
                log.info('recovery: backend %d of shard "%s": %s', lost.pid, lost.address.name, error)
                return
            self._lost.remove(lost)

        here = self._here()
        await each(settle(lost) for lost in list(self._lost) if lost.address in here)

    async def _forget(self) -> None:
        waiting, self._confirmed = self._confirmed, defaultdict(list)
        for address, keys in waiting.items():
            try:
                async with control(address, recovery.TIMEOUT) as connection:
                    await forget(connection, keys)
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
