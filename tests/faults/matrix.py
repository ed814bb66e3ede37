"""The deterministic matrix: each step of a load × moment × participant × fault, one load for each, then judged.

    python -m tests.faults.matrix --version 18

A load is a COPY into three shards, or a transaction of INSERTs into two; participants are its shards and its client.
`cases()` lists all of them in a fixed
order; `run` works through any part of them over several cells at once.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg

from shardproxy.wire.constants import F
from tests.conftest import VERSIONS
from tests.faults.cell import Cell, Outcome
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.support.databases import Databases, Servers
from tests.support.faultproxy import STARTUP, Fault, FaultProxy, Rule, When

DEADLINE = 1.0  # seconds: every deadline that the configuration has
STALLED = 2.5  # seconds for which one connection of a living shard is stalled
PATIENCE = 15.0  # seconds for an answer when a whole shard is unreachable: several deadlines may add up
OVERTAKEN = 2.5  # seconds that a message waits at most for another connection to the same shard: past the deadlines
SMALL = 60  # rows; a few on each shard
LARGE, WIDE = 900, 1000  # rows and bytes a row, so that each shard gets two CopyData

Flow = Literal["copy", "insert"]
INSERT_SHARDS = (1, 2)


@dataclass(frozen=True)
class Step:
    """A message from the proxy to a shard; the shards that get it (the anchor is the first that takes part).

    Or one from the client to the proxy: then `shards` is CLIENT alone.
    """

    flow: Flow
    name: str
    type: int
    text: bytes
    shards: tuple[int, ...]
    nth: int = 1
    answered: bool = True
    decides: bool = False  # the client's word that all is to be committed


def _commit_steps(flow: Flow, shards: tuple[int, ...]) -> Iterator[Step]:
    anchor, others = shards[:1], shards[1:]
    yield Step(flow, "probe", F.QUERY, b"pg_current_xact_id_if_assigned", shards)
    yield Step(flow, "constraints", F.QUERY, b"SET CONSTRAINTS ALL", anchor)
    yield Step(flow, "prepare", F.QUERY, b"PREPARE TRANSACTION", others)
    yield Step(flow, "decide", F.QUERY, b"INSERT INTO shardproxy.decisions", anchor)
    yield Step(flow, "complete", F.QUERY, b"COMMIT PREPARED", others)


CLIENT = -1
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

FROM_CLIENT: tuple[Step, ...] = (
    Step("copy", "connect", STARTUP, b"", (CLIENT,)),
    Step("copy", "copy", F.QUERY, b"COPY loads", (CLIENT,)),
    Step("copy", "first data", F.COPY_DATA, b"", (CLIENT,), answered=False),
    Step("copy", "copy done", F.COPY_DONE, b"", (CLIENT,), decides=True),
    Step("insert", "begin", F.QUERY, b"BEGIN", (CLIENT,)),
    Step("insert", "insert", F.QUERY, b"INSERT INTO loads", (CLIENT,)),
    Step("insert", "commit", F.QUERY, b"COMMIT", (CLIENT,), decides=True),
)

LETHAL = (Fault.CLOSE, Fault.RESET, Fault.STALL)


@dataclass(frozen=True)
class Case:
    """One fault at one place."""

    step: Step
    shard: int
    when: When
    fault: Fault
    spread: bool  # the whole shard is unreachable; REORDER: a message to another shard overtakes, not one to the same

    @property
    def participant(self) -> str:
        """Its name."""
        return "client" if self.shard == CLIENT else f"s{self.shard}"

    @property
    def harmless(self) -> bool:
        """Whether it is no reason to refuse."""
        return self.fault in {Fault.DELAY, Fault.TRICKLE} or (self.fault is Fault.REORDER and self.spread)

    @property
    def undecided(self) -> bool:
        """Whether the client has gone before it could have asked to commit."""
        gone = self.shard == CLIENT and self.fault in {Fault.CLOSE, Fault.RESET, Fault.CUT}
        return gone and (not self.step.decides or self.when is When.BEFORE)

    def __str__(self) -> str:
        names = ("same shard", "another shard") if self.fault is Fault.REORDER else ("connection", "shard unreachable")
        what = f"{self.fault.value} ({names[self.spread]})"
        return f"{self.step.flow}: {self.step.name}, {self.participant}, {self.when.value}, {what}"


def cases(steps: Iterable[Step] = (*BEFORE_COMMIT, *COMMIT, *FROM_CLIENT)) -> list[Case]:
    """Return every case of the given steps."""
    found = []
    for step in steps:
        for shard in step.shards:
            for when in When:
                if not step.answered and when in {When.ANSWERED, When.REPLIED}:
                    continue
                scopes = (False,) if shard == CLIENT else (False, True)
                # A client that stalls in its login is the startup floods' matter.
                lethal = LETHAL[:-1] if shard == CLIENT and step.type == STARTUP else LETHAL
                found += [Case(step, shard, when, fault, spread) for fault in lethal for spread in scopes]
                if when in {When.BEFORE, When.ANSWERED}:
                    found += [Case(step, shard, when, fault, False) for fault in (Fault.CUT, Fault.DELAY)]
                if when in {When.BEFORE, When.ANSWERED} and shard != CLIENT:
                    found += [Case(step, shard, when, Fault.REORDER, spread) for spread in scopes]
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
        if case.shard != CLIENT:
            return await self._run(case, self._cell.faults[case.shard], None)
        proxy = self._cell.proxy
        async with FaultProxy(proxy.host, proxy.port) as between:
            self._cell.faults.append(between)  # healed with the others
            try:
                return await self._run(case, between, between.port)
            finally:
                self._cell.faults.remove(between)

    def _rule(self, case: Case, application: str) -> Rule:
        step = case.step
        rule = Rule(case.fault, step.type, step.text, step.nth, case.when, application, spread=case.spread)
        if case.fault is Fault.REORDER and case.spread:
            other = step.shards[step.shards.index(case.shard) - 1] if len(step.shards) > 1 else (case.shard + 1) % 3
            rule.overtaken_by = self._cell.faults[other]
        elif case.fault is Fault.REORDER:
            rule.seconds = OVERTAKEN
        return rule

    async def _run(self, case: Case, place: FaultProxy, port: int | None) -> Result:
        cell = self._cell
        begun = time.monotonic()
        load = next(cell.numbers)
        application = f"case{load}"
        step = case.step
        rule = self._rule(case, application)
        wide = step.type == F.COPY_DATA and case.shard != CLIENT
        rows = len(INSERT_SHARDS) if step.flow == "insert" else LARGE if wide else SMALL
        place.add(rule)
        client: psycopg.AsyncConnection[Any] | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                client = await cell.connect(application, port)
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
        told = Outcome("gone") if case.undecided and not outcome.acknowledged else outcome
        result.wrong += await cell.judge(load, rows, told)
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
            outcome = Outcome(
                "hang", f"no answer in {PATIENCE} s while the shard was unreachable; after healing: {outcome}"
            )
        return outcome

    @staticmethod
    def _told(case: Case, outcome: Outcome) -> list[str]:
        """Judge the words."""
        if outcome.acknowledged:
            return ["acknowledged, though the client has gone"] if case.undecided else []
        if case.harmless:
            return ["a delay is no reason to refuse"]
        if outcome.sqlstate == "hang" or (outcome.sqlstate == "lost" and case.shard != CLIENT):
            return [f"the client was told {outcome.sqlstate!r}"]
        return (
            []
            if case.shard == CLIENT or f"s{case.shard}" in outcome.said
            else [f"the error does not name s{case.shard}"]
        )

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
    wanted: Iterable[Case],
    places: Sequence[tuple[Sequence[str], Path]],
    *,
    commit: str = "two-phase",
    note: Callable[[list[Result]], bool] = lambda _: True,
) -> list[Result]:
    """Run cases over as many cells as there are places: (empty databases of three shards, directory).

    `note` is told the results so far after each case; it ends the run by a False.
    """
    waiting = deque(wanted)
    results: list[Result] = []

    async def lane(dsns: Sequence[str], directory: Path) -> None:
        async with Cell.over(dsns, directory, commit=commit, seconds=DEADLINE) as cell:
            one = Lane(cell)
            await one.prepare()
            while waiting:
                results.append(await one.run(waiting.popleft()))
                if not note(results):
                    waiting.clear()
                if len(results) % 50 == 0:
                    await cell.ask("TRUNCATE loads")

    async with asyncio.TaskGroup() as group:
        for dsns, directory in places:
            group.create_task(lane(dsns, directory))
    return results


LANES = 4


@contextlib.contextmanager
def _places(version: int) -> Iterator[list[tuple[list[str], Path]]]:
    servers = Servers(version)
    try:
        with tempfile.TemporaryDirectory() as directory:
            found = []
            for number in range(LANES):
                place = Path(directory) / str(number)
                place.mkdir()
                found.append((Databases.create(servers).shards, place))
            yield found
    finally:
        servers.close()


def record_of(results: list[Result], version: int) -> Record:
    """Return the figures."""
    told = Counter("acknowledged" if one.outcome.acknowledged else one.outcome.sqlstate or "?" for one in results)
    faults = Counter(one.case.fault.value for one in results)
    kept = sum(result.same_session for result in results)
    steps = {(one.case.step.flow, one.case.step.name, one.case.shard == CLIENT) for one in results}
    lines = [
        f"PostgreSQL {version}: {len(steps)} protocol steps of a COPY into three shards and of a transaction over two",
        "before, after sending, answered but not passed on, after the answer; each shard and the client; one "
        "connection or the whole shard",
        f"faults: {', '.join(f'{count} {name}' for name, count in faults.most_common())}",
        f"told to the clients: {', '.join(f'{count} {name}' for name, count in told.most_common())}",
        f"{kept} sessions went on after the fault, {len(results) - kept} had to connect again",
    ]
    wrong = [str(result) for result in results if result.wrong]
    return Record([Figure(f"cases of the matrix, PostgreSQL {version}", len(results))], lines, wrong)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=__doc__)
    parser.add_argument("--version", type=int, default=VERSIONS[-1], help="PostgreSQL's major version")
    parser.add_argument("--count", type=int, default=len(cases()), help="that many of the cases")
    parser.add_argument("--seed", type=int, default=1, help="of their order")
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    wanted = random.Random(arguments.seed).sample(cases(), min(arguments.count, len(cases())))

    def note(results: list[Result]) -> bool:
        recorder.keep(record_of(results, arguments.version))
        return not recorder.over

    with _places(arguments.version) as places:
        results = asyncio.run(run(wanted, places, note=note))
    return recorder.finish(record_of(results, arguments.version))


if __name__ == "__main__":
    sys.exit(main())
