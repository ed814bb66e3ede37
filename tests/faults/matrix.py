"""The deterministic matrix: each step of a load × moment × shard × fault, one load for each, judged on the shards.

A load is a COPY into three shards, or a transaction of INSERTs into two. `cases()` lists all of them in a fixed
order; `run` works through any part of them over several cells at once.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg

from shardproxy.wire.constants import F
from tests.faults.cell import Cell, Outcome
from tests.support.faultproxy import STARTUP, Fault, Rule, When

DEADLINE = 1.0  # seconds: every deadline that the configuration has
STALLED = 2.5  # seconds for which one connection of a living shard is stalled
PATIENCE = 15.0  # seconds for an answer when a whole shard is away: several deadlines may add up
SMALL = 60  # rows; a few on each shard
LARGE, WIDE = 900, 1000  # rows and bytes a row, so that each shard gets two CopyData

Flow = Literal["copy", "insert"]
INSERT_SHARDS = (1, 2)


@dataclass(frozen=True)
class Step:
    """A message from the proxy to a shard; the shards that get it (the anchor is the first that takes part)."""

    flow: Flow
    name: str
    type: int
    text: bytes
    shards: tuple[int, ...]
    nth: int = 1
    answered: bool = True


def _commit_steps(flow: Flow, shards: tuple[int, ...]) -> Iterator[Step]:
    anchor, others = shards[:1], shards[1:]
    yield Step(flow, "probe", F.QUERY, b"pg_current_xact_id_if_assigned", shards)
    yield Step(flow, "constraints", F.QUERY, b"SET CONSTRAINTS ALL", anchor)
    yield Step(flow, "prepare", F.QUERY, b"PREPARE TRANSACTION", others)
    yield Step(flow, "decide", F.QUERY, b"INSERT INTO shardproxy.decisions", anchor)
    yield Step(flow, "complete", F.QUERY, b"COMMIT PREPARED", others)


ALL = (0, 1, 2)
BEFORE_COMMIT: tuple[Step, ...] = (
    Step("copy", "connect", STARTUP, b"", ALL),
    Step("copy", "begin", F.QUERY, b"BEGIN", ALL),
    Step("copy", "copy", F.QUERY, b"COPY loads", ALL),
    Step("copy", "first data", F.COPY_DATA, b"", ALL, answered=False),
    Step("copy", "last data", F.COPY_DATA, b"", ALL, nth=2, answered=False),
    Step("copy", "copy done", F.COPY_DONE, b"", ALL),
    Step("insert", "connect", STARTUP, b"", INSERT_SHARDS),
    Step("insert", "begin", F.QUERY, b"BEGIN", INSERT_SHARDS),
    Step("insert", "insert", F.QUERY, b"INSERT INTO loads", INSERT_SHARDS),
)
COMMIT: tuple[Step, ...] = (*_commit_steps("copy", ALL), *_commit_steps("insert", INSERT_SHARDS))

LETHAL = (Fault.CLOSE, Fault.RESET, Fault.STALL)


@dataclass(frozen=True)
class Case:
    """One fault at one place."""

    step: Step
    shard: int
    when: When
    fault: Fault
    spread: bool

    def __str__(self) -> str:
        scope = "shard away" if self.spread else "connection"
        return f"{self.step.flow}: {self.step.name}, s{self.shard}, {self.when.value}, {self.fault.value} ({scope})"


def cases(steps: Iterable[Step] = (*BEFORE_COMMIT, *COMMIT)) -> list[Case]:
    """Return every case of the given steps."""
    found = []
    for step in steps:
        for shard in step.shards:
            for when in When:
                if not step.answered and when in {When.ANSWERED, When.REPLIED}:
                    continue
                found += [Case(step, shard, when, fault, spread) for fault in LETHAL for spread in (False, True)]
                if when in {When.BEFORE, When.ANSWERED}:
                    found += [Case(step, shard, when, fault, False) for fault in (Fault.CUT, Fault.DELAY)]
                if when is When.ANSWERED:
                    found.append(Case(step, shard, when, Fault.TRICKLE, False))
    return found


@dataclass
class Result:
    """What came of a case; `wrong` is empty if all that must be true is."""

    case: Case
    outcome: Outcome
    wrong: list[str] = field(default_factory=list)
    same_session: bool = True
    seconds: float = 0.0

    def __str__(self) -> str:
        told = "acknowledged" if self.outcome.acknowledged else f"{self.outcome.sqlstate} {self.outcome.said}"
        return f"{self.case}: {'; '.join(self.wrong) or 'right'}; the client was told: {told}"


class Lane:
    """Runs cases in one cell, one after the other."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._insert_ids: list[int] = []

    async def prepare(self) -> None:
        """Find an id for each shard of the INSERT transaction."""
        for shard in INSERT_SHARDS:
            connection = await self._cell.shard(shard)
            cursor = await connection.execute(
                f"""SELECT min(id) FROM generate_series(1, 1000) AS id
                  WHERE satisfies_hash_partition('placed'::regclass, {len(ALL)}, {shard}, id::int8)""".encode()
            )
            row = await cursor.fetchone()
            assert row is not None
            self._insert_ids.append(row[0])

    async def run(self, case: Case) -> Result:
        """Do it all: load, fault, healing, judgement."""
        cell = self._cell
        begun = time.monotonic()
        load = next(cell.numbers)
        application = f"case{load}"
        step = case.step
        rule = Rule(case.fault, step.type, step.text, step.nth, case.when, application, spread=case.spread, seconds=0.2)
        wide = step.type == F.COPY_DATA
        rows = len(INSERT_SHARDS) if step.flow == "insert" else LARGE if wide else SMALL
        cell.faults[case.shard].add(rule)
        client: psycopg.AsyncConnection[Any] | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                client = await cell.connect(application)
        except psycopg.Error as error:
            # The first session of all learns the shards' settings from one of them.
            outcome = Outcome(error.diag.sqlstate or "08001", str(error))
        except TimeoutError:
            outcome = Outcome("hang", "no answer to the login")
        if client is not None:
            if step.flow == "copy":
                job = cell.copy(client, load, rows, WIDE if wide else 20)
            else:
                job = cell.insert(client, load, self._insert_ids)
            outcome = await self._answer(asyncio.ensure_future(job), case)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(rule.fired.wait(), 2.0)
        await cell.heal()
        result = Result(case, outcome)
        if not rule.fired.is_set():
            result.wrong.append("the fault was never met")
        result.wrong += self._told(case, outcome)
        result.wrong += await cell.judge(load, rows, outcome)
        await self._go_on(client, application, result)
        result.seconds = time.monotonic() - begun
        if result.wrong:
            await self._clean()
        return result

    async def _answer(self, job: "asyncio.Task[Outcome]", case: Case) -> Outcome:
        """Wait for the client's answer. One stalled connection of a living shard is only given up when it heals."""
        alone = case.fault is Fault.STALL and not case.spread
        await asyncio.wait({job}, timeout=STALLED if alone else PATIENCE)
        late = not job.done()
        if late:
            await self._cell.heal()
            await asyncio.wait({job}, timeout=PATIENCE)
        if not job.done():
            job.cancel()
            await asyncio.wait({job}, timeout=PATIENCE)
            return Outcome("hang", "no answer, even after healing")
        outcome = job.result()
        if late and not alone:
            outcome = Outcome("hang", f"no answer in {PATIENCE} s while the shard was away; after healing: {outcome}")
        return outcome

    @staticmethod
    def _told(case: Case, outcome: Outcome) -> list[str]:
        """Judge the words."""
        if outcome.sqlstate in {"hang", "lost"}:
            return [f"the client was told {outcome.sqlstate!r}"]
        harmless = case.fault in {Fault.DELAY, Fault.TRICKLE}
        if outcome.acknowledged:
            return []
        if harmless:
            return ["a delay is no reason to refuse"]
        return [] if f"s{case.shard}" in outcome.said else [f"the error does not name s{case.shard}"]

    async def _go_on(self, client: "psycopg.AsyncConnection[Any] | None", application: str, result: Result) -> None:
        """See that the same session, or else a new one, can load again."""
        cell = self._cell
        for attempt in (client, None):
            again = next(cell.numbers)
            try:
                async with asyncio.timeout(PATIENCE):
                    session = attempt or await cell.connect(application)
                    outcome = await cell.copy(session, again, 3)
                    await session.close()
            except (psycopg.Error, TimeoutError) as error:
                outcome = Outcome("lost", repr(error))
            if outcome.acknowledged:
                result.wrong += [f"the next load: {text}" for text in await cell.judge(again, 3, outcome)]
                return
            result.same_session = False
        result.wrong.append(f"no session can load any more: {outcome.sqlstate} {outcome.said}")

    async def _clean(self) -> None:
        """Make what a violation left harmless for the next case."""
        cell = self._cell
        await asyncio.to_thread(cell.proxy.kill)
        for number in ALL:
            shard = await cell.shard(number)
            cursor = await shard.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
            for (gid,) in await cursor.fetchall():
                with contextlib.suppress(psycopg.Error):
                    await shard.execute(f"ROLLBACK PREPARED '{gid}'".encode())
        await asyncio.to_thread(cell.proxy.start)


async def run(
    wanted: Iterable[Case], places: Sequence[tuple[Sequence[str], Path]], *, commit: str = "two-phase"
) -> list[Result]:
    """Run cases over as many cells as there are places: (empty databases of three shards, directory)."""
    waiting = deque(wanted)
    results: list[Result] = []

    async def lane(dsns: Sequence[str], directory: Path) -> None:
        async with Cell.over(dsns, directory, commit=commit, seconds=DEADLINE) as cell:
            one = Lane(cell)
            await one.prepare()
            while waiting:
                results.append(await one.run(waiting.popleft()))
                if len(results) % 50 == 0:
                    await cell.ask("TRUNCATE loads")

    async with asyncio.TaskGroup() as group:
        for dsns, directory in places:
            group.create_task(lane(dsns, directory))
    return results
