"""Repeated loads with an import id, while loader and shards are killed at random moments; then the judgement.

    python -m tests.faults.loader --kills 200

Rounds, by turns into three shards, into one PostgreSQL, and into that with two writers, each on servers of their own. A
round has files with bad rows in them and an import id of its own; `shardproxy load` is run as a process, with one fault
a run: SIGKILL, SIGINT or SIGTERM of the loader, SIGKILL of a backend, which takes its server through crash recovery, or
a crash of a server. The command is repeated, as it is, until it ends with 0 or 3. Every second round drops the table's
indexes, and ends with `--repair`. Then each row must be there once, on its shard; the files of rejects that the journal
names must hold each bad row once, nothing may be in doubt, the indexes must be what they were, and no load may have
told of a commit that another one has told of. What a run that could end by itself leaves under its directory of rejects
must be of what it has committed. Shards run with synchronous_commit on: a crash may take nothing back.
"""

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from shardproxy.embedded import Server, supervisor
from tests.faults.cell import TABLE, config, healed
from tests.faults.kill_storm import SETTINGS, TOLD
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.support.commands import Command
from tests.support.databases import query

SHARDS = 3
FILES = 12
ROWS = (0, 1, 40, 400, 4000)
BAD = 0.01
LATEST = 1.0  # seconds after the loader is connected, for a fault
RUN_PATIENCE = 120.0  # seconds; a load that takes longer counts as hanging
RUNS = 60  # of one round; a fault comes in each, so that a round could last for ever otherwise
QUIET_AFTER = 12  # runs of a round with faults
DONE = frozenset({0, 3})
ENDED = DONE | {1, 4, 130, 143, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM}
"""By a signal of its own name only if that has come when all was told."""

INDEXES = """
ALTER TABLE loads ADD CONSTRAINT loads_key PRIMARY KEY (load, id);
CREATE INDEX loads_note ON loads (md5(note)) INCLUDE (id) WHERE id > 5;
COMMENT ON INDEX loads_note IS 'made by hand';
"""
DEFINED = """SELECT c.relname, pg_get_indexdef(c.oid), pg_get_constraintdef(k.oid), obj_description(c.oid, 'pg_class')
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_constraint k ON k.conindid = c.oid
  WHERE i.indrelid = 'loads'::regclass AND i.indisvalid ORDER BY 1"""
JOURNAL = "SELECT FROM pg_class WHERE oid = to_regclass('shardproxy.dropped_indexes')"
LEFT = "SELECT name, error FROM shardproxy.dropped_indexes"

LOADER = "SELECT pid FROM pg_stat_activity WHERE application_name = 'shardproxy load'"
PREPARED = "SELECT gid FROM pg_prepared_xacts"


@dataclass
class Report:
    """The figures of a storm."""

    version: int
    seconds: float = 0.0
    rounds: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    files: int = 0
    rows: int = 0
    rejects: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The figures, for a reader."""
        ended = ", ".join(f"{count} with {code}" for code, count in self.runs.most_common())
        return [
            f"PostgreSQL {self.version}, {self.seconds:.0f} s, {self.rounds} imports of {FILES} files",
            f"faults: {sum(self.faults.values())} ({', '.join(f'{n} {what}' for what, n in self.faults.items())})",
            f"runs: {sum(self.runs.values())} ({ended})",
            f"stored: {self.rows} rows of {self.files} files, each once; set aside: {self.rejects}",
        ]

    def record(self) -> Record:
        """The figures, for the document."""
        return Record(
            [
                Figure("faults during imports", sum(self.faults.values())),
                Figure("imports judged", self.rounds),
                Figure("rows stored once", self.rows),
            ],
            self.lines(),
            self.violations[:TOLD],
        )


@dataclass
class Import:
    """One round: its files, and what they have to leave."""

    number: int
    directory: Path
    chosen: random.Random
    drops: bool = False
    """It drops the indexes."""
    expected: dict[int, int] = field(default_factory=dict)  # good rows by file
    bad: list[str] = field(default_factory=list)
    committed: Counter[str] = field(default_factory=Counter)

    def write(self) -> None:
        """Make the files."""
        self.directory.mkdir()
        for at in range(FILES):
            load = self.number * 1000 + at
            rows = []
            for number in range(self.chosen.choice(ROWS)):
                bad = self.chosen.random() < BAD
                rows.append(f"{load},{f'bad {number}' if bad else number},{'x' * self.chosen.randrange(40)}\n")
                if bad:
                    self.bad.append(rows[-1])
                else:
                    self.expected[load] = self.expected.get(load, 0) + 1
            (self.directory / f"{at:02}.csv").write_text("".join(rows))


class Storm:
    """One run."""

    def __init__(self, version: int, directory: Path, kills: int, seed: int, recorder: Recorder) -> None:
        self.report = Report(version)
        self._random = random.Random(seed)
        self._directory = directory
        self._left = kills
        self._recorder = recorder
        self._servers: list[Server] = []
        self._defined: list[tuple[Any, ...]] = []

    def run(self) -> Report:
        """Do it all."""
        begun = time.monotonic()
        try:
            self._servers = [Server.start(self.report.version, settings=SETTINGS) for _ in range(SHARDS + 1)]
            for server in self._servers:
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    connection.execute(TABLE)
                    connection.execute(INDEXES)
            self._defined = query(self._servers[0].dsn(), DEFINED)
            (self._directory / "proxy.toml").write_text(config([one.dsn() for one in self._shards], seconds=2.0))
            while self._left > 0 and not self._recorder.over:
                self._round()
                self.report.seconds = time.monotonic() - begun
                self._recorder.keep(self.report.record())
        finally:
            for server in self._servers:
                server.close()
        return self.report

    @property
    def _shards(self) -> list[Server]:
        return self._servers[:SHARDS]

    def _round(self) -> None:
        self.report.rounds += 1
        number = self.report.rounds
        one = Import(number, self._directory / str(number), self._random, drops=number % 2 == 0)
        one.write()
        servers, target = self._shards, ["-c", str(self._directory / "proxy.toml")]
        if number % 3 != 1:
            servers = self._servers[SHARDS:]
            target = ["--to", servers[0].dsn(), "--concurrency", str(1 + (number % 3 == 0))]
        for run in range(RUNS):
            if self._load(one, servers, target, quiet=run >= QUIET_AFTER) in DONE:
                break
        else:
            self.report.violations.append(f"import {number} has not ended after {RUNS} loads")
        if one.drops:
            self._repair(one, servers, target)
        self._judge(one, servers)

    def _repair(self, one: Import, servers: list[Server], target: list[str]) -> None:
        """Have the indexes made again that a killed load has left in its journal."""
        process = Command(one.directory / "said", "load", "--repair", *target[:2])
        if (code := process.end(RUN_PATIENCE)) != 0:
            self.report.violations.append(f"import {one.number}: --repair ended with {code}: {process.output[-2000:]}")
        for server in servers:
            name = f"import {one.number}, port {server.port}"
            if (found := query(server.dsn(), DEFINED)) != self._defined:
                self.report.violations.append(f"{name}: the indexes are {found}, and were {self._defined}")
            if query(server.dsn(), JOURNAL) and (left := query(server.dsn(), LEFT)):
                self.report.violations.append(f"{name}: --repair has left {left}")

    def _load(self, one: Import, servers: list[Server], target: list[str], *, quiet: bool) -> int:
        """Run the command once, with a fault unless it is `quiet`; return its exit code."""
        command = ["load", *target, "--table", "loads", "--import-id", f"import {one.number}"]
        command += ["--reject-dir", str(one.directory / "rejects"), "--no-analyze", "--progress", "none"]
        told = one.directory / "summary"
        told.unlink(missing_ok=True)
        if one.drops:
            command.append("--drop-indexes")
        before = set((one.directory / "rejects").rglob("*.dat"))
        process = Command(one.directory / "said", *command, "--summary", told, one.directory / "*.csv")
        if not quiet and self._left > 0 and not self._recorder.over:
            self._fault(process, servers)
        try:
            code = process.end(RUN_PATIENCE)
        except AssertionError:
            self.report.violations.append(f"import {one.number}: a load did not end in {RUN_PATIENCE:.0f} s")
            return -1
        if "Traceback" in process.output or code not in ENDED:
            self.report.violations.append(f"import {one.number}: ended with {code}: {process.output[-2000:]}")
        self.report.runs["a signal" if code < 0 else str(code)] += 1
        if told.exists() and (text := told.read_text()):
            [summary] = json.loads(text)["loads"]
            one.committed.update(summary["committed"])
            left = {str(path) for path in set((one.directory / "rejects").rglob("*.dat")) - before}
            if summary["status"] != "unknown" and left != set(summary["rejects"]):
                self.report.violations.append(
                    f"import {one.number}: {summary['status']}, told of {summary['rejects']}, and left {sorted(left)}"
                )
        return code

    # Faults.

    def _fault(self, process: Command, servers: list[Server]) -> None:
        """Wait until the loader is connected, and a moment more; then do something to it or to a server."""
        while process.running:
            with contextlib.suppress(psycopg.OperationalError):
                if query(f"{servers[0].dsn()}?connect_timeout=2", LOADER):
                    break
            time.sleep(0.01)
        time.sleep(self._random.uniform(0, LATEST))
        if not process.running:
            return
        self._left -= 1
        server = self._random.choice(servers)
        match self._random.randrange(6):
            case 4 | 5:
                signum = self._random.choice((signal.SIGINT, signal.SIGTERM))
                self.report.faults[f"{signum.name}s of the loader"] += 1
                process.signal(signum)
            case 0 | 1:
                self.report.faults["SIGKILLs of the loader"] += 1
                process.signal(signal.SIGKILL)
            case 2:
                self.report.faults["SIGKILLs of a backend"] += 1
                self._kill_backend(server)
            case _:
                self.report.faults["crashes of a server"] += 1
                server.kill()
                time.sleep(self._random.uniform(0, 0.3))
                server.restart()

    def _kill_backend(self, server: Server) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            found = query(
                server.dsn(),
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            if found:
                with contextlib.suppress(ProcessLookupError):
                    supervisor.send(self._random.choice(found)[0], signal.SIGKILL)

    # The end.

    def _judge(self, one: Import, servers: list[Server]) -> None:
        name, violations = f"import {one.number}", self.report.violations
        deadline = time.monotonic() + healed()
        while left := [gid for server in servers for (gid,) in query(server.dsn(), PREPARED)]:
            if time.monotonic() > deadline:
                violations.append(f"{name}: {len(left)} transactions are left in doubt")
                break
            time.sleep(0.05)
        held: Counter[int] = Counter()
        for at, server in enumerate(servers):
            sql = f"""SELECT load, count(*), count(DISTINCT id), count(*) FILTER (WHERE {len(servers)} > 1 AND NOT
              satisfies_hash_partition('placed'::regclass, {len(servers)}, {at}, id))
              FROM loads WHERE load / 1000 = {one.number} GROUP BY load"""
            for load, count, distinct, misplaced in query(server.dsn(), sql):
                held[load] += count
                if count != distinct:
                    violations.append(f"{name}: file {load % 1000} is stored twice, or rows of it are")
                if misplaced:
                    violations.append(f"{name}: rows on a wrong shard")
        for load in held.keys() | one.expected.keys():
            if held[load] != one.expected.get(load, 0):
                violations.append(
                    f"{name}: file {load % 1000} has {held[load]} of its {one.expected.get(load, 0)} rows"
                )
        journal = query(
            servers[0].dsn(),
            f"SELECT path, rejects FROM shardproxy.imports WHERE import_id = 'import {one.number}' ORDER BY path",
        )
        if [Path(path).name for path, _ in journal] != [f"{at:02}.csv" for at in range(FILES)]:
            violations.append(f"{name}: the journal has {len(journal)} files")
        aside = "".join(Path(dat).read_text() for _, rejects in journal for dat in rejects)
        if sorted(aside.splitlines(keepends=True)) != sorted(one.bad):
            violations.append(f"{name}: {aside.count(chr(10))} rows set aside, of {len(one.bad)}")
        violations += [f"{name}: {file} was committed twice" for file, times in one.committed.items() if times > 1]
        self.report.files += len(journal)
        self.report.rows += sum(held.values())
        self.report.rejects += len(one.bad)


def storm(kills: int, *, version: int = 18, seed: int = 1, recorder: Recorder | None = None) -> Report:
    """Run a storm of that many faults, or as many as fit into the time; its servers end with it."""
    with tempfile.TemporaryDirectory() as directory:
        return Storm(version, Path(directory), kills, seed, recorder or Recorder()).run()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.loader", description=__doc__)
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
