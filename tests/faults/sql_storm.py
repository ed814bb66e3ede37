"""Random faults under SQL: sessions write tables of every placement, and change them, while everything fails at times.

    python -m tests.faults.sql_storm --faults 500

Two proxies over three shards, with a network of its own between each proxy and each shard. Sessions of psycopg and
asyncpg do what sql_work.py and sql_ddl.py make, each operation with a mark that is counted afterwards; others hold what
ends with a connection. Hands of sql_hands.py kill, drain and suspend proxies, crash and restart shards, end backends,
break, stall and delay connections at messages; clients vanish. When all is healed, sql_judge.py compares: every
acknowledged operation is there once, every failed one nowhere unless its client was left in doubt, a transaction on all
shards or on none, copies of reference tables and their definitions are equal, nothing is prepared, no transaction is
open, and a new session can do each kind of operation.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from shardproxy.embedded import Server
from tests.faults.cell import healed, through
from tests.faults.kill_storm import PREPARED, SETTINGS, TOLD
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.faults.sql_ddl import Owned, Owner, shared_change
from tests.faults.sql_hands import Hands
from tests.faults.sql_judge import Judge
from tests.faults.sql_schema import SHARDS, config, tables
from tests.faults.sql_session import Holder, Line, Told, Worker
from tests.faults.sql_work import Operation, Work, numbers
from tests.support.databases import query
from tests.support.faultproxy import FaultProxy
from tests.support.proxy import Proxy

PROXIES = 2
WORKERS = 8
OWNERS = ("hash", "reference", "hash", "reference")
HOLDERS = 2
SECONDS = 2.0  # every deadline of the proxies
OPEN = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' AND xact_start IS NOT NULL"""
LAST_PATIENCE = 20.0  # seconds for each operation at the end


@dataclass
class Report:
    """The figures of a storm."""

    version: int
    seconds: float = 0.0
    ledger: list[Operation] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    told: Told = field(default_factory=Told)
    owned: list[Owned] = field(default_factory=list)
    marks: int = 0
    healed_after: float = 0.0
    judged: bool = False

    @property
    def violations(self) -> list[str]:
        """What is wrong."""
        return self.told.violations

    def lines(self) -> list[str]:
        """The figures, for a reader."""
        told = ", ".join(f"{count} {name}" for name, count in self.told.errors.most_common())
        done = Counter(one.kind for one in self.ledger if one.acknowledged)
        faults = ", ".join(f"{count} {what}" for what, count in self.faults.most_common())
        kinds = ", ".join(f"{count} {kind}" for kind, count in done.most_common())
        return [
            f"PostgreSQL {self.version}, {self.seconds:.0f} s, {WORKERS} sessions write, {len(OWNERS) + 1} do DDL,"
            f" {HOLDERS} hold; {PROXIES} proxies, {SHARDS} shards",
            f"faults: {sum(self.faults.values())} ({faults})",
            f"operations: {len(self.ledger)}; told: {told}",
            f"carried out: {kinds}",
            f"sessions that went on after an error: {self.told.kept} times; that ended with what they held:"
            f" {self.told.ended}",
            f"longest: {self.told.longest:.1f} s, {self.told.slowest}",
            f"longest start of a proxy: {self.told.longest_start:.1f} s",
            f"nothing prepared or open any more {self.healed_after:.2f} s after the last fault was healed",
        ]

    def record(self) -> Record:
        """The figures, for the document."""
        return Record(
            [
                Figure("faults beside SQL", sum(self.faults.values())),
                Figure("operations judged", len(self.ledger) if self.judged else 0),
                Figure("marks counted", self.marks),
                Figure(f"longest operation, PostgreSQL {self.version}", round(self.told.longest, 2), unit=" s"),
            ],
            self.lines(),
            self.violations[:TOLD],
        )


class Storm:
    """One run."""

    def __init__(self, version: int, directory: Path, faults: int, seed: int, recorder: Recorder) -> None:
        self.report = Report(version, told=Told(version=version))
        self._random = random.Random(seed)
        self._directory = directory
        self._left = faults
        self._recorder = recorder
        self._over = asyncio.Event()
        self._numbers = numbers()
        self._work = Work()
        self._servers: list[Server] = []
        self._lines: list[Line] = []

    def run(self) -> Report:
        """Do it all."""
        try:
            self._servers = [Server.start(self.report.version, settings=SETTINGS) for _ in range(SHARDS)]
            for at, server in enumerate(self._servers):
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    connection.execute(tables(at).encode())
            asyncio.run(self._storm())
            judge = Judge([server.dsn() for server in self._servers])
            self.report.told.violations += judge.judge(self.report.ledger, self.report.owned)
            self.report.marks = judge.marks
            self.report.judged = True
        finally:
            for line in self._lines:
                line.proxy.close()
            for server in self._servers:
                server.close()
        return self.report

    async def _storm(self) -> None:
        begun = time.monotonic()
        async with AsyncExitStack() as stack:
            networks = [
                [await stack.enter_async_context(FaultProxy(server.host, server.port)) for server in self._servers]
                for _ in range(PROXIES)
            ]
            for at, network in enumerate(networks):
                place = self._directory / str(at)
                place.mkdir()
                dsns = [through(one.dsn(), fault.port) for one, fault in zip(self._servers, network, strict=True)]
                proxy = await asyncio.to_thread(Proxy, place, config(dsns, SECONDS))
                self._lines.append(Line(proxy))
            hands = Hands(self._lines, self._servers, networks, self._random, self._take, self.report.told)
            async with asyncio.TaskGroup() as group:
                for job in self._jobs():
                    group.create_task(job)
                for at, line in enumerate(self._lines):
                    group.create_task(hands.proxies(line))
                    group.create_task(hands.network(at))
                group.create_task(hands.shards())
            for network in networks:
                for fault in network:
                    await fault.heal()
            await self._settle()
            await self._last()
            await self._settle()
            self.report.seconds = time.monotonic() - begun

    def _take(self, what: str) -> bool:
        self._recorder.keep(self.report.record())
        if self._left <= 0 or self._recorder.over or len(self.report.violations) > TOLD:
            self._over.set()
            return False
        self._left -= 1
        self.report.faults[what] += 1
        return True

    # Sessions.

    def _jobs(self) -> list[Coroutine[Any, Any, None]]:
        jobs = [self._session(f"w{at}", self._some_work) for at in range(WORKERS)]
        for at, placement in enumerate(OWNERS):
            owner = Owner(placement, at, len(OWNERS))
            self.report.owned = []
            jobs.append(self._owner(f"d{at}", owner))
        jobs.append(self._sharer("c"))
        for at in range(HOLDERS):
            holder = Holder(f"h{at}", self._lines, self._chance(), self.report.told, at)
            jobs.append(holder.run(self._over))
        return jobs

    def _chance(self) -> random.Random:
        return random.Random(self._random.random())

    def _some_work(self, chosen: random.Random) -> Operation:
        return self._work.make(chosen.choice(self._work.kinds()), next(self._numbers), chosen)

    async def _session(self, name: str, make: Callable[[random.Random], Operation]) -> None:
        chosen = self._chance()
        worker = Worker(name, self._lines, self._chance(), self.report.told)
        while not self._over.is_set():
            if await worker.connected():
                operation = make(chosen)
                self.report.ledger.append(operation)
                await worker.perform(operation)
        await worker.leave()

    async def _owner(self, name: str, owner: Owner) -> None:
        chosen = self._chance()
        worker = Worker(name, self._lines, self._chance(), self.report.told)
        while not self._over.is_set() and owner.left:
            if await worker.connected():
                number = next(self._numbers)
                next(self._numbers)  # of the second half of a transaction
                operation, table, change = owner.make(number, chosen)
                self.report.ledger.append(operation)
                await worker.perform(operation)
                table.answered(operation, change)
                await asyncio.sleep(chosen.uniform(0, 0.1))
        self.report.owned += owner.tables
        await worker.leave()

    async def _sharer(self, name: str) -> None:
        chosen = self._chance()
        standing: set[str] = set()
        worker = Worker(name, self._lines, self._chance(), self.report.told)
        while not self._over.is_set():
            await asyncio.sleep(chosen.uniform(0.2, 1.5))
            if await worker.connected():
                operation, column, added = shared_change(next(self._numbers), chosen, standing)
                await worker.perform(operation)
                standing.discard(column)
                if operation.acknowledged and added:
                    standing.add(column)
        await worker.leave()

    # The end.

    def _unfinished(self) -> list[str]:
        found = []
        for at, server in enumerate(self._servers):
            found += [f"s{at}: {gid} is prepared" for gid, _ in query(server.dsn(), PREPARED)]
            [(count,)] = query(server.dsn(), OPEN)
            found += [f"s{at}: {count} transactions are open"] * bool(count)
        return found

    async def _settle(self) -> None:
        begun = time.monotonic()
        patience = healed()
        while left := await asyncio.to_thread(self._unfinished):
            if time.monotonic() - begun > patience:
                self.report.told.wrong(f"{patience:.0f} s after healing {left}")
                break
            await asyncio.sleep(0.05)
        self.report.healed_after = max(self.report.healed_after, time.monotonic() - begun)

    async def _last(self) -> None:
        """A new session on each proxy does each kind of operation: nothing has been left that is in its way."""
        for at, line in enumerate(self._lines):
            worker = Worker(f"last{at}", [line], self._chance(), self.report.told)
            for kind in self._work.kinds():
                operation = self._work.make(kind, next(self._numbers), self._random)
                if not await worker.connected():
                    self.report.told.wrong(f"{kind}: no session when all is healed")
                    break
                self.report.ledger.append(operation)
                await worker.perform(operation, vanishing=False)
                if not operation.acknowledged and operation.outcome not in self.report.told.also(kind):
                    self.report.told.wrong(f"when all is healed, {operation}")
                if operation.seconds > LAST_PATIENCE:
                    self.report.told.wrong(f"when all is healed, {operation.seconds:.0f} s for {operation}")
            await worker.leave()


def storm(
    faults: int, *, version: int = 18, seed: int = 1, recorder: Recorder | None = None, logs: Path | None = None
) -> Report:
    """Run a storm of that many faults, or as many as fit into the time; its servers and proxies end with it.

    The proxies' logs stay in `logs`, an empty directory.
    """
    with tempfile.TemporaryDirectory() as directory:
        return Storm(version, logs or Path(directory), faults, seed, recorder or Recorder()).run()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sql_storm", description=__doc__)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--version", type=int, default=18, help="PostgreSQL's major version")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="an empty directory, where the logs of the proxies stay")
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    report = storm(
        arguments.faults, version=arguments.version, seed=arguments.seed, recorder=recorder, logs=arguments.logs
    )
    return recorder.finish(report.record())


if __name__ == "__main__":
    sys.exit(main())
