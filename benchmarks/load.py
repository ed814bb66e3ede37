"""`shardproxy load`: wall time of files into real servers, beside psql's `\\copy` or the clean load, in turns.

A load is a process, its start and its imports included, with the bytecode that an installed package has. Rows are of
80 bytes, with a primary key; the bad ones, one in a hundred, are of one kind in each case, and the clean load beside
them has the same constraints. Data directories lie in memory where there is room, and fsync is off.
"""

import gzip
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import rows, stage
from benchmarks.figures import Figure, Scale, main, median
from benchmarks.processes import MeasurementError
from benchmarks.real import SETTINGS, scratch
from shardproxy.embedded import Server

GROUP = "load"
MIB = 1 << 20
BAD = 100
"""One row in so many is bad."""

MEMORY_TARGET = 64 + 16
"""MiB above a load that loads nothing: as much as any COPY, and `batch_size` for the one writer."""

PGLOADER = shutil.which("pgloader")
TABLE = "?tablename=bench"

CITIES = (
    "CREATE TABLE IF NOT EXISTS cities (city text PRIMARY KEY); INSERT INTO cities VALUES {} ON CONFLICT DO NOTHING"
)
Command = list[str]


@dataclass(frozen=True)
class Case:
    """One figure: `ours` beside `base`, commands that run at once. `stored` is how many rows are there after ours.

    `constraint`: SQL for both; `there`: a file whose rows are there before ours. `text` says what the base is.
    """

    name: str
    target: float
    ours: Command
    base: list[Command]
    stored: int
    text: str
    exit_code: int = 0
    constraint: str = ""
    there: str = ""


def made_bad(data: bytes, bad: Callable[[list[bytes]], None]) -> bytes:
    """Rows of which some are made bad: `bad` changes their fields."""
    lines = data.splitlines(keepends=True)
    for number in range(BAD - 1, len(lines), BAD):
        fields = lines[number].split(b",")
        bad(fields)
        lines[number] = b",".join(fields)
    return b"".join(lines)


def no_integer(fields: list[bytes]) -> None:
    fields[3] = b"12a456"


def negative(fields: list[bytes]) -> None:
    fields[3] = b"-12345"


def no_city(fields: list[bytes]) -> None:
    fields[2] = b"X" * len(fields[2])


class Stage:
    """Servers, files and commands."""

    def __init__(self, path: Path, servers: Sequence[Server]) -> None:
        self.path = path
        self.dsns = [server.dsn(stage.DATABASE) for server in servers]
        self.psql = str(servers[0].psql)
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment["PYTHONPYCACHEPREFIX"] = str(path / "bytecode")

    def file(self, name: str, data: bytes) -> str:
        """Write an input."""
        (self.path / name).write_bytes(data)
        return str(self.path / name)

    def load(self, file: str, *options: str, to: Sequence[str] = ()) -> Command:
        """A load."""
        command = [sys.executable, "-m", "shardproxy", "load", *(to or ("--to", self.dsns[0])), "--table", "bench"]
        command += ["--no-analyze", "--progress", "none", "--reject-dir", str(self.path / "rejects")]
        return [*command, *options, file]

    def warm(self) -> None:
        """Load nothing, for the bytecode to be there."""
        stage.execute(self.dsns[0], f"CREATE TABLE bench ({rows.COLUMNS})")
        self.timed([self.load(self.file("none.csv", b""))])

    def copy(self, file: str, dsn: str = "") -> Command:
        """psql's."""
        command = [self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn or self.dsns[0]]
        return [*command, "-c", f"\\copy bench from '{file}' csv"]

    def pgloader(self, file: str) -> Command:
        """pgloader's."""
        fields = [word for column in rows.COLUMNS.split(", ") for word in ("--field", column.split()[0])]
        return ["pgloader", "--type", "csv", *fields, "--with", "fields terminated by ','", file, self.dsns[0] + TABLE]

    def begin(self, case: Case) -> None:
        """Make the tables."""
        for dsn in self.dsns:
            stage.execute(dsn, f"DROP TABLE IF EXISTS bench; CREATE TABLE bench ({rows.COLUMNS}, PRIMARY KEY (id))")
            if case.constraint:
                stage.execute(dsn, case.constraint)

    def timed(self, commands: list[Command], exit_code: int = 0, there: str = "") -> float:
        """Run commands at once, with empty tables or the rows of a file, and return the seconds."""
        for dsn in self.dsns:
            stage.execute(dsn, "TRUNCATE bench")
        if there:
            subprocess.run(self.copy(there), check=True)
        for dsn in self.dsns:
            stage.execute(dsn, "CHECKPOINT")
        started = time.perf_counter()
        running = [
            subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
            for command in commands
        ]
        errors = [process.communicate()[1].decode() for process in running]
        seconds = time.perf_counter() - started
        for process, error in zip(running, errors, strict=True):
            if process.returncode != exit_code:
                raise MeasurementError(f"{process.args[2:4]!r} ended with {process.returncode}: {error[-500:]}")  # type: ignore[index]
        return seconds

    def stored(self) -> int:
        """Rows of all servers."""
        count = 0
        for dsn in self.dsns:
            with psycopg.connect(dsn) as connection:
                [(found,)] = connection.execute("SELECT count(*) FROM bench").fetchall()
                count += int(found)
        return count

    def measure(self, case: Case, repeats: int) -> Figure:
        """One case, ours and the base in turns."""
        self.begin(case)
        ratios, ours, base = [], [], []
        for _ in range(repeats):
            base.append(self.timed(case.base))
            ours.append(self.timed([case.ours], case.exit_code, case.there))
            if self.stored() != case.stored:
                raise MeasurementError(f"{case.name}: {self.stored()} rows are stored, not {case.stored}")
            ratios.append(ours[-1] / base[-1])
        text = f"{case.text} {median(base):.2f} s; load {median(ours):.2f} s"
        return Figure(GROUP, case.name, median(ratios), f"× {case.text}", text, case.target, samples=ratios)

    def memory(self, file: str) -> Figure:
        """The resident memory of a load, above that of one that loads nothing."""
        peaks = []
        for options in (["--dry-run"], []):
            stage.execute(self.dsns[0], "TRUNCATE bench")
            process = subprocess.Popen(self.load(file, *options), env=self.environment, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise MeasurementError(f"a load ended with {process.returncode}")
            peaks.append(usage.ru_maxrss / 1024)
        text = f"a dry run has {peaks[0]:.0f} MiB; {Path(file).stat().st_size / MIB:.0f} MiB are loaded"
        return Figure(GROUP, "resident memory above a dry run", peaks[1] - peaks[0], "MiB", text, MEMORY_TARGET)


def of_one_server(made: Stage, count: int) -> list[Case]:
    """Cases of `--to DSN`."""
    data = rows.lines(count, ",")
    plain = made.file("plain.csv", data)
    packed = made.file("packed.csv.gz", gzip.compress(data, 6))
    some = made.file("some.csv", b"".join(data.splitlines(keepends=True)[BAD - 1 :: BAD]))
    types = made.file("types.csv", made_bad(data, no_integer))
    checks = made.file("checks.csv", made_bad(data, negative))
    keys = made.file("keys.csv", made_bad(data, no_city))
    cities = CITIES.format(", ".join(f"('{city}')" for city in rows.CITIES))
    check = "ALTER TABLE bench ADD CHECK (amount > 0)"
    keyed = f"{cities}; ALTER TABLE bench ADD FOREIGN KEY (city) REFERENCES cities"
    load, clean, good = made.load(plain), "the clean load", count - count // BAD
    stop = made.load(plain, "--on-error", "stop")
    copy, two = [made.copy(plain)], made.load(plain, "--concurrency", "2")
    skip = made.load(plain, "--on-conflict", "skip")
    return [
        Case("clean CSV, one writer", 1.1, load, copy, count, "\\copy"),
        Case("clean CSV, two writers, all or nothing", 0.65, two, copy, count, "\\copy"),
        Case("clean CSV, resume_next", 1.1, load, [stop], count, "stop"),
        Case(".csv.gz", 1.15, made.load(packed), [load], count, "the plain file"),
        Case("1 % bad types", 1.5, made.load(types), [load], good, clean, 3),
        Case("1 % duplicates", 4, load, [load], count, clean, 3, there=some),
        Case("1 % refused by a CHECK", 3, made.load(checks), [load], good, clean, 3, check),
        Case("1 % without a parent", 3, made.load(keys), [load], good, clean, 3, keyed),
        Case("every row a duplicate", 5, skip, [load], count, clean, there=plain),
        *([Case("CSV, beside pgloader", 0.1, load, [made.pgloader(plain)], count, "pgloader")] if PGLOADER else []),
    ]


def on_16(made: Stage, count: int) -> Case:
    """Types are found by other means there."""
    data = rows.lines(count, ",")
    clean, bad = made.file("plain.csv", data), made.file("types.csv", made_bad(data, no_integer))
    name = "1 % bad types, on PostgreSQL 16"
    return Case(name, 4, made.load(bad), [made.load(clean)], count - count // BAD, "the clean load", 3)


def over_shards(made: Stage, count: int) -> Case:
    """The same rows into four shards, and beside it a psql for each on the file of its own rows."""
    config = made.path / "load.toml"
    shards = "".join(f'{{ name = "s{number}", dsn = "{dsn}" }}, ' for number, dsn in enumerate(made.dsns))
    config.write_text(
        f'[[databases]]\nname = "bench"\nshards = [{shards}]\n'
        '[[databases.tables]]\nname = "bench"\nplacement = "hash"\nkey = ["id"]\n'
    )
    whole = made.load(made.file("plain.csv", rows.lines(count, ",")), to=("--config", str(config)))
    case = Case("clean CSV, 4 shards", 1.15, whole, [], count, "4 psql on split files")
    made.begin(case)
    made.timed([whole])
    parts = []
    for number, dsn in enumerate(made.dsns):
        part = str(made.path / f"part{number}.csv")
        subprocess.run([made.psql, "-X", "-q", "-d", dsn, "-c", f"\\copy bench to '{part}' csv"], check=True)
        parts.append(made.copy(part, dsn))
    return Case(case.name, case.target, whole, parts, count, case.text)


def run(scale: Scale) -> list[Figure]:
    scratch()
    count = 20_000 if scale.quick else 1_000_000
    with stage.directory() as path, ExitStack() as stack:
        servers = [stack.enter_context(Server.start(settings=SETTINGS)) for _ in range(stage.SHARDS)]
        for server in servers:
            stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
        one, all_of_them = Stage(path, servers[:1]), Stage(path, servers)
        one.warm()
        figures = []
        for case in of_one_server(one, count):
            print(".", end="", file=sys.stderr, flush=True)
            figures.append(one.measure(case, scale.repeats))
        figures.append(one.memory(str(path / "plain.csv")))
        with stage.directory() as other, Server.start(16, settings=SETTINGS) as server:
            stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
            older = Stage(other, [server])
            older.warm()
            figures.append(older.measure(on_16(older, count), scale.repeats))
        figures.append(all_of_them.measure(over_shards(all_of_them, count), scale.repeats))
    return figures


if __name__ == "__main__":
    main(run)
