"""Sessions of the SQL storm: one carries operations out and notes what it was told; another holds what can be lost.

What is wrong with a session itself is noted at once: it hangs, ends without need, goes on without what it had, has
other settings than it has set, or reads an error that docs/operations.md does not name.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.sql_client import DRIVERS, LOST, FailedError, Session
from tests.faults.sql_work import Operation, Step
from tests.support.proxy import Proxy

PATIENCE = 45.0
"""Seconds of one statement; what is documented is the sum of a few deadlines, each of 2 s, and of deadlock_timeout."""
VANISH = 0.04  # of the operations
UNKNOWN = "08007"
HANG = "hang"
KNOWN = frozenset({
    "08001", "08006", "08007", "57P01", "25P02", "40001", "40P01", LOST,
})  # fmt: skip
"""What docs/operations.md names."""
ALSO = {"watched_sharded": {"0A000", "42P01"}, "merge": {"23505"}}
"""Errors of a kind of operation that are its own."""
MERGE_REFUSED = 17
"""Before this version MERGE is refused where copies might differ."""
LEFT_IN_DOUBT = frozenset({UNKNOWN, LOST, HANG})


@dataclass
class Line:
    """A proxy, and how often something was done to it."""

    proxy: Proxy
    disturbed: int = 0
    up: bool = True


@dataclass
class Told:
    """What all sessions have been told."""

    errors: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    longest: float = 0.0
    slowest: str = ""
    longest_start: float = 0.0
    """Seconds until a proxy was ready."""
    kept: int = 0
    """Sessions that have gone on after an error of a shard."""
    ended: int = 0
    """Sessions that have lost something on a shard, and ended."""
    version: int = 18

    def also(self, kind: str) -> set[str]:
        """The errors of a kind of operation that are its own."""
        refused = {"0A000"} if kind == "merge" and self.version < MERGE_REFUSED else set()
        return ALSO.get(kind, set()) | refused

    def wrong(self, text: str) -> None:
        """Note a violation."""
        self.violations.append(f"{time.strftime('%H:%M:%S')} {text}")


class Worker:
    """Carries operations out, by one session after the other."""

    def __init__(self, name: str, lines: list[Line], chosen: random.Random, told: Told) -> None:
        self.name = name
        self._lines = lines
        self._chosen = chosen
        self._told = told
        self._session: Session | None = None
        self._line = lines[0]
        self._disturbed = 0
        self._sessions = 0
        self._setting = 0
        self._failed = False
        self._history: list[str] = []

    async def connected(self) -> bool:
        """Have a session; False if there is none to be had now."""
        if self._session is not None and not self._session.closed and self._chosen.random() < 0.97:
            return True
        await self.leave()
        self._line = self._chosen.choice(self._lines)
        self._disturbed, self._failed = self._line.disturbed, False
        self._sessions += 1
        self._setting = self._chosen.randint(100, 9999)
        driver = self._chosen.choice(DRIVERS)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                self._session = await driver.connect(self._line.proxy, f"{self.name}-{self._sessions}")
                await self._session.run(f"SET work_mem = '{self._setting}kB'")
        except FailedError as error:
            await self._not_connected(error)
            return False
        except TimeoutError:
            self._told.wrong(f"{self.name}: not connected in {time.monotonic() - begun:.0f} s")
            return False
        self._history = [f"{driver.name} connected"]
        return True

    async def _not_connected(self, error: FailedError) -> None:
        self._told.errors[f"connect {error.sqlstate}"] += 1
        if error.sqlstate not in {"08001", "08006", "57P01", "57P03", LOST}:
            self._told.wrong(f"{self.name}: cannot connect: {error}")
        if error.sqlstate == LOST and self._undisturbed:
            self._told.wrong(f"{self.name}: a proxy that nothing was done to does not let it in: {error}")
        await self.leave()
        await asyncio.sleep(0.1)

    @property
    def _undisturbed(self) -> bool:
        return self._line.up and self._line.disturbed == self._disturbed

    async def leave(self) -> None:
        """End the session."""
        if self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._session.close()
        self._session = None

    # An operation.

    async def perform(self, operation: Operation, *, vanishing: bool = True) -> None:
        """Carry it out, and note its outcome."""
        session = self._session
        assert session is not None
        operation.session = f"{self.name}-{self._sessions} ({session.name})"
        leaves = vanishing and self._chosen.random() < VANISH
        leaving = asyncio.ensure_future(self._vanish(session)) if leaves else None
        begun = time.monotonic()
        asked = False
        at: Step | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                if operation.explicit:
                    await session.run("BEGIN")
                for at in operation.steps:
                    asked = not operation.explicit
                    await self._step(session, operation, at)
                if operation.explicit:
                    at, asked = Step("COMMIT"), True
                    await session.run("COMMIT")
            operation.outcome = None
        except FailedError as error:
            operation.outcome, operation.said = error.sqlstate, f"{error.said} [at {at.sql if at else 'BEGIN'}]"
            operation.certain = not asked or error.sqlstate not in LEFT_IN_DOUBT
        except TimeoutError:
            operation.outcome, operation.certain = HANG, False
            self._told.wrong(f"{operation}: no answer in {PATIENCE:.0f} s: {at}")
            session.vanish()
        operation.seconds = time.monotonic() - begun
        if operation.seconds > self._told.longest:
            self._told.longest, self._told.slowest = operation.seconds, str(operation)
        self._history.append(f"{operation.kind} {operation.number} {operation.outcome} {operation.seconds:.2f}")
        if leaving is not None:
            leaving.cancel()
            await asyncio.wait({leaving})
            session.vanish()
            await self.leave()
        await self._after(session, operation, vanished=leaves)

    async def _vanish(self, session: Session) -> None:
        await asyncio.sleep(self._chosen.choice((0.0, 0.001, 0.01, 0.1)) * self._chosen.random())
        session.vanish()

    async def _step(self, session: Session, operation: Operation, step: Step) -> None:
        if step.data is not None:
            counted = await session.copy(step.sql, step.columns, step.data)
        else:
            counted = await session.run(step.sql, step.params)
        if step.rows is not None and counted != step.rows:
            self._told.wrong(f"{operation}: {step.sql!r} has counted {counted}, not {step.rows}")

    async def _after(self, session: Session, operation: Operation, *, vanished: bool) -> None:
        """Judge what the session was told, and bring it back to where it can go on."""
        outcome, told = operation.outcome, self._told
        told.errors["acknowledged" if outcome is None else str(outcome)] += 1
        if outcome is None:
            await self._check_settings(session)
            return
        if vanished:
            return
        if outcome not in KNOWN | told.also(operation.kind) and outcome != HANG:
            told.wrong(f"{operation}: an error that is not documented")
        if outcome == "25P02" and not operation.explicit:
            told.wrong(f"{operation}: in a failed transaction outside of any")
        await asyncio.sleep(0)  # the driver may learn of an end only now
        if session.closed or outcome == LOST:
            if self._undisturbed and outcome != HANG:
                told.wrong(f"{operation}: the session has ended, though it has lost nothing: {self._history}")
            await self.leave()
            return
        told.kept += 1
        if operation.explicit:
            try:
                async with asyncio.timeout(PATIENCE):
                    await session.run("ROLLBACK")
            except FailedError as error:
                if error.sqlstate not in {LOST, "57P01"} or self._undisturbed:
                    told.wrong(f"{operation}: then ROLLBACK: {error}")
                await self.leave()
            except TimeoutError:
                told.wrong(f"{operation}: then ROLLBACK: no answer")
                session.vanish()
                await self.leave()
        self._failed = True

    async def _check_settings(self, session: Session) -> None:
        """After a failure of a shard, what was SET holds on the connections that have taken its place."""
        if not self._failed:
            return
        self._failed = False
        sql = "SELECT replace(current_setting('work_mem'), 'kB', '')::int8 FROM acc WHERE id = $1"
        try:
            async with asyncio.timeout(PATIENCE):
                found = await session.run(sql, (self._chosen.randint(1, 20),))
        except FailedError:
            return  # the next operation tells more
        except TimeoutError:
            self._told.wrong(f"{self.name}: a SELECT has no answer in {PATIENCE:.0f} s")
            session.vanish()
            return
        if found != self._setting:
            self._told.wrong(f"{self.name}: work_mem is {found} kB after a failure, and was set to {self._setting} kB")


class Holder:
    """A session that holds what ends with a connection to a shard, and looks again and again whether it is there."""

    HELD = ("advisory lock", "temporary table", "cursor")

    def __init__(self, name: str, lines: list[Line], chosen: random.Random, told: Told, key: int) -> None:
        self.name = name
        self._lines = lines
        self._chosen = chosen
        self._told = told
        self._key = key

    async def run(self, over: asyncio.Event) -> None:
        """Hold until the storm is over."""
        while not over.is_set():
            line = self._chosen.choice(self._lines)
            held = self._chosen.choice(self.HELD)
            try:
                async with asyncio.timeout(PATIENCE):
                    session = await self._chosen.choice(DRIVERS).connect(line.proxy, f"{self.name}-{self._key}")
            except (FailedError, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            try:
                await self._hold(session, held, over)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await session.close()

    async def _hold(self, session: Session, held: str, over: asyncio.Event) -> None:
        self._key += 100
        take, look = {
            "advisory lock": (
                f"SELECT pg_try_advisory_lock({self._key})::int",
                f"SELECT (pg_advisory_unlock({self._key}) AND pg_try_advisory_lock({self._key}))::int",
            ),
            "temporary table": ("CREATE TEMP TABLE mine AS SELECT 1 AS n", "SELECT count(*) FROM mine"),
            "cursor": (
                "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1 FROM generate_series(1, 100000); COMMIT",
                "FETCH 1 FROM c",
            ),
        }[held]
        had = False
        end = time.monotonic() + self._chosen.uniform(1, 8)
        try:
            while not over.is_set() and time.monotonic() < end:
                async with asyncio.timeout(PATIENCE):
                    if not had:
                        await session.run(take)
                        had = True
                    elif (found := await session.run(look)) != 1:
                        self._told.wrong(
                            f"{self.name} ({session.name}, {self._key}): goes on with {found} of its {held}"
                        )
                        return
                await asyncio.sleep(0.05)
        except TimeoutError:
            self._told.wrong(f"{self.name}: no answer in {PATIENCE:.0f} s, with a {held}")
            session.vanish()
        except FailedError as error:
            await self._failed(session, held, error, had=had)

    async def _failed(self, session: Session, held: str, error: FailedError, *, had: bool) -> None:
        self._told.errors[f"{held}: {error.sqlstate}"] += 1
        if had and error.sqlstate in {"42P01", "34000"}:
            self._told.wrong(f"{self.name}: goes on without its {held}: {error}")
        elif error.sqlstate not in KNOWN | {"57P05", "57P02", "57P03"}:
            self._told.wrong(f"{self.name}, with a {held}: an error that is not documented: {error}")
        await asyncio.sleep(0)
        self._told.ended += session.closed
