"""Random kills under load: proxies are SIGKILLed and shards crash while COPYs run; then every COPY is judged.

    python -m tests.faults.kill_storm --kills 1000

Two proxies over three shards, at least eight clients that load one COPY after the other, each with a number and a
size of its own, through one of the proxies. Meanwhile one hand kills proxies and another crashes shards (all
processes of a server at once, or a single backend, which takes its server through crash recovery), and starts them
again. The ledger notes for each COPY what its client was told. When the kills are done everything is healed, and the
shards must hold what the ledger lists. Shards run with synchronous_commit on: a crash may take nothing back.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from shardproxy.embedded import Server, supervisor
from tests.faults.cell import HEALED, TABLE, UNKNOWN, Outcome, config, lines, outcome_of
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.support.databases import query
from tests.support.proxy import Proxy

SHARDS = 3
PROXIES = 2
CLIENTS = 8
SETTINGS = {
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "synchronous_commit": "on",
    "max_connections": "100",
    "max_prepared_transactions": "100",
}
PREPARED = "SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts"
QUIET = (0.1, 1.2)  # seconds between a start and the next kill
SAMPLE = 0.05  # seconds between looks at what is in doubt
TOLD = 50  # violations
COPY_PATIENCE = 60.0  # seconds; a COPY that takes longer counts as hanging


@dataclass
class Load:
    """One COPY in the ledger."""

    number: int
    rows: int
    outcome: Outcome | None = None


@dataclass
class Report:
    """The figures of a storm."""

    version: int
    seconds: float = 0.0
    loads: list[Load] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    violations: list[str] = field(default_factory=list)
    in_doubt: list[float] = field(default_factory=list)
    healed_after: float = 0.0
    judged: bool = False

    @property
    def told(self) -> Counter[str]:
        """How many COPYs ended how, to their clients."""
        return Counter(
            "acknowledged" if load.outcome.acknowledged else load.outcome.sqlstate or "?"
            for load in self.loads
            if load.outcome is not None
        )

    def percentile(self, share: float) -> float:
        """Seconds that a transaction was in doubt."""
        if not self.in_doubt:
            return 0.0
        if len(self.in_doubt) < 2:
            return self.in_doubt[0]
        return statistics.quantiles(self.in_doubt, n=1000, method="inclusive")[min(int(share * 1000), 999) - 1]

    def lines(self) -> list[str]:
        """The figures, for a reader."""
        told = ", ".join(f"{count} {name}" for name, count in self.told.most_common())
        return [
            f"PostgreSQL {self.version}, {self.seconds:.0f} s, {CLIENTS} clients, {PROXIES} proxies, {SHARDS} shards",
            f"faults: {sum(self.faults.values())} ({', '.join(f'{n} {what}' for what, n in self.faults.items())})",
            f"COPYs: {len(self.loads)} ({told})",
            f"rows committed: {self.rows}",
            f"in doubt, seconds: p99 {self.percentile(0.99):.2f}, max {max(self.in_doubt, default=0.0):.2f}"
            f" (of {len(self.in_doubt)} transactions seen prepared)",
            f"nothing prepared any more {self.healed_after:.2f} s after the last fault was healed",
        ]

    def record(self) -> Record:
        """The figures, for the document. Before the judgement there are no rows, and a violation is not yet known."""
        return Record(
            [
                Figure("kills and crashes under load", sum(self.faults.values())),
                Figure("COPYs judged", len(self.loads) if self.judged else 0),
                Figure("rows committed", self.rows),
                Figure(f"in doubt, p99, PostgreSQL {self.version}", round(self.percentile(0.99), 2), unit=" s"),
                Figure(
                    f"in doubt, longest, PostgreSQL {self.version}", round(max(self.in_doubt, default=0), 2), unit=" s"
                ),
            ],
            self.lines(),
            self.violations[:TOLD],
        )


class Storm:
    """One run."""

    def __init__(self, version: int, directory: Path, kills: int, seed: int, recorder: Recorder) -> None:
        self.report = Report(version)
        self._random = random.Random(seed)
        self._directory = directory
        self._left = kills
        self._recorder = recorder
        self._over = asyncio.Event()
        self._servers: list[Server] = []
        self._proxies: list[Proxy] = []

    def run(self) -> Report:
        """Do it all."""
        try:
            self._servers = [Server.start(self.report.version, settings=SETTINGS) for _ in range(SHARDS)]
            dsns = [server.dsn() for server in self._servers]
            for dsn in dsns:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute(TABLE)
            for number in range(PROXIES):
                place = self._directory / str(number)
                place.mkdir()
                self._proxies.append(Proxy(place, config(dsns, seconds=2.0)))
            asyncio.run(self._storm())
            self._judge(dsns)
            self.report.judged = True
        finally:
            for proxy in self._proxies:
                proxy.close()
            for server in self._servers:
                server.close()
        return self.report

    async def _storm(self) -> None:
        begun = time.monotonic()
        numbers = iter(range(1, 1 << 30))
        watch = asyncio.ensure_future(self._watch())
        async with asyncio.TaskGroup() as group:
            for at in range(CLIENTS):
                group.create_task(self._client(at, numbers))
            hands = [self._kill_proxies(at) for at in range(PROXIES)] + [self._crash_shards()]
            for hand in hands:
                group.create_task(hand)
        healed = time.monotonic()
        deadline = healed + HEALED
        left = await asyncio.to_thread(self._prepared)
        while left and time.monotonic() < deadline:
            await asyncio.sleep(SAMPLE)
            left = await asyncio.to_thread(self._prepared)
        if left:
            self.report.violations.append(f"{HEALED} s after healing {len(left)} prepared transactions are left")
        self.report.healed_after = time.monotonic() - healed
        await asyncio.sleep(2 * SAMPLE)
        watch.cancel()
        await asyncio.wait([watch])
        if not watch.cancelled() and (error := watch.exception()) is not None:
            raise error
        self.report.seconds = time.monotonic() - begun

    # Load.

    async def _client(self, at: int, numbers: Any) -> None:
        chosen = random.Random(self._random.random())
        while not self._over.is_set():
            load = Load(next(numbers), chosen.choice((1, 3, 20, 200, 2000)))
            proxy = self._proxies[(at + load.number) % PROXIES]
            self.report.loads.append(load)
            try:
                load.outcome = await asyncio.wait_for(self._copy(proxy, load), COPY_PATIENCE)
            except TimeoutError:
                load.outcome = Outcome("hang")
                self.report.violations.append(f"load {load.number}: no answer in {COPY_PATIENCE:.0f} s")
            if load.outcome.sqlstate == "not connected":
                self.report.loads.remove(load)
                await asyncio.sleep(0.05)

    @staticmethod
    async def _copy(proxy: Proxy, load: Load) -> Outcome:
        dsn = f"{proxy.dsn()}?application_name=load{load.number}&sslmode=disable&connect_timeout=10"
        try:
            client: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            return Outcome("not connected")
        try:
            async with client.cursor() as cursor:
                async with cursor.copy("COPY loads FROM STDIN") as copy:
                    await copy.write(lines(load.number, load.rows, 40))
                if cursor.rowcount != load.rows:
                    return Outcome("wrong tag", f"{cursor.rowcount} of {load.rows}")
            return Outcome(None)
        except psycopg.Error as error:
            return outcome_of(error)
        finally:
            await client.close()

    # Faults.

    def _take(self, what: str) -> bool:
        self._recorder.keep(self.report.record())
        if self._left <= 0 or self._recorder.over:
            self._over.set()
            return False
        self._left -= 1
        self.report.faults[what] += 1
        return True

    async def _kill_proxies(self, at: int) -> None:
        proxy = self._proxies[at]
        while True:
            await asyncio.sleep(self._random.uniform(*QUIET))
            if not self._take("SIGKILLs of a proxy"):
                return
            await asyncio.to_thread(proxy.kill)
            await asyncio.sleep(self._random.uniform(0, 0.3))
            await asyncio.to_thread(proxy.start)

    async def _crash_shards(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*QUIET))
            server = self._random.choice(self._servers)
            if self._random.random() < 0.5:
                if not self._take("crashes of a shard"):
                    return
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(self._random.uniform(0, 0.5))
                await asyncio.to_thread(server.restart)
            else:
                if not self._take("SIGKILLs of a backend"):
                    return
                await asyncio.to_thread(self._kill_backend, server)

    def _kill_backend(self, server: Server) -> None:
        """SIGKILL one session's process: PostgreSQL takes the whole server through crash recovery."""
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(server.dsn(), autocommit=True) as own:
            found = own.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
            if found:
                with contextlib.suppress(ProcessLookupError):
                    supervisor.send(self._random.choice(found)[0], signal.SIGKILL)

    # What is in doubt.

    def _prepared(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for at, server in enumerate(self._servers):
            found += [(at, gid) for gid, _ in query(server.dsn(), PREPARED)]
        return found

    async def _watch(self) -> None:
        """Note how long each transaction stays prepared; while a shard is down it is not known, so time goes on."""
        since: dict[tuple[int, str], float] = {}
        while True:
            await asyncio.sleep(SAMPLE)
            for at, server in enumerate(self._servers):
                try:
                    rows = await asyncio.to_thread(query, f"{server.dsn()}?connect_timeout=2", PREPARED)
                except psycopg.Error:
                    continue
                now = time.monotonic()
                present = {(at, gid) for gid, _ in rows}
                for gid, age in rows:
                    since.setdefault((at, gid), now - age)
                for key in [key for key in since if key[0] == at and key not in present]:
                    self.report.in_doubt.append(now - since.pop(key))

    # The end.

    def _judge(self, dsns: Sequence[str]) -> None:
        held: dict[int, list[tuple[int, int, int]]] = {}
        for at, dsn in enumerate(dsns):
            sql = f"""SELECT load, count(*), count(DISTINCT id), count(*) FILTER (WHERE NOT
              satisfies_hash_partition('placed'::regclass, {len(dsns)}, {at}, id)) FROM loads GROUP BY load"""
            for load, count, distinct, misplaced in query(dsn, sql):
                held.setdefault(load, []).append((count, distinct, misplaced))
        self.report.rows = sum(count for parts in held.values() for count, _, _ in parts)
        known = {load.number for load in self.report.loads}
        self.report.violations += [f"load {number} is in no ledger" for number in held if number not in known]
        for load in self.report.loads:
            parts = held.get(load.number, [])
            count = sum(part[0] for part in parts)
            outcome = load.outcome
            assert outcome is not None
            name = f"load {load.number} ({load.rows} rows, told {outcome.sqlstate or 'acknowledged'} {outcome.said})"
            if count not in {0, load.rows}:
                self.report.violations.append(f"{name}: {count} rows")
            if any(part[0] != part[1] for part in parts):
                self.report.violations.append(f"{name}: rows twice")
            if any(part[2] for part in parts):
                self.report.violations.append(f"{name}: rows on a wrong shard")
            if outcome.acknowledged and count != load.rows:
                self.report.violations.append(f"{name}: acknowledged, but {count} rows")
            if not outcome.acknowledged and outcome.sqlstate not in {UNKNOWN, "lost", "hang"} and count:
                self.report.violations.append(f"{name}: refused, but {count} rows")
            if outcome.sqlstate == "wrong tag":
                self.report.violations.append(f"{name}: a wrong tag")


def storm(kills: int, *, version: int = 18, seed: int = 1, recorder: Recorder | None = None) -> Report:
    """Run a storm of that many faults, or as many as fit into the time; its servers and proxies end with it."""
    with tempfile.TemporaryDirectory() as directory:
        return Storm(version, Path(directory), kills, seed, recorder or Recorder()).run()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill_storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--version", type=int, default=18, help="PostgreSQL's major version")
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    report = storm(arguments.kills, version=arguments.version, seed=arguments.seed, recorder=recorder)
    return recorder.finish(report.record())


if __name__ == "__main__":
    sys.exit(main())
