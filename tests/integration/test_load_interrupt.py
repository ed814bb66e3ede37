"""Loads that end in the middle: SIGINT and SIGTERM at each phase, and a COMMIT whose answer is lost."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

import shardproxy
from shardproxy.loader import Summary
from tests.support.commands import Command, run
from tests.support.databases import Databases, execute, query
from tests.support.loading import Loader
from tests.support.lossy import Fault, Lossy

pytestmark = pytest.mark.newest

PATIENCE = 20.0

# A row 13 keeps its shard busy, in `indexed` when its index is made; `late` does so when COMMIT checks constraints.
DDL = """
    CREATE FUNCTION slow(id int) RETURNS bool LANGUAGE plpgsql AS
      $$BEGIN IF id = 13 THEN PERFORM pg_sleep(60); END IF; RETURN true; END$$;
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END$$;
    CREATE TABLE t (id int CHECK (slow(id)), a text);
    CREATE TABLE deferred (id int, a text);
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION late();
    CREATE FUNCTION slowly(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
      $$BEGIN IF id = 13 THEN PERFORM pg_sleep(60); END IF; RETURN id; END$$;
    CREATE TABLE indexed (id int, a text);
    CREATE INDEX indexed_slowly ON indexed (slowly(id));
    CREATE INDEX indexed_a ON indexed (a);
"""
TABLES = tuple({"name": name, "placement": "hash", "key": ["id"]} for name in ("t", "deferred", "indexed"))
SLEEPING = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"


def until(found: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


@dataclass
class Target:
    """Where commands load to, and what they leave there."""

    arguments: list[str]
    dsns: list[str]
    directory: Path
    running: list[Command] = field(default_factory=list)

    def begin(self, *arguments: object, table: str = "t") -> Command:
        """Start a command."""
        rejects = ["--reject-dir", self.directory / "rejects", "--progress", "none"]
        command = Command(self.directory / "said", "load", *self.arguments, "--table", table, *rejects, *arguments)
        self.running.append(command)
        return command

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        return [row for dsn in self.dsns for row in query(dsn, sql)]

    def end(self, command: Command, signum: int = signal.SIGINT) -> tuple[int, str]:
        """Send the signal; return the exit code and the last line. Nothing may be left running, or in doubt."""
        command.signal(signum)
        code = command.end(PATIENCE)
        assert "Traceback" not in command.output
        # A server notices at its next look that a session has been ended.
        until(lambda: not self.asked(OTHERS), "no backend is left")
        assert self.asked(PREPARED) == []
        return code, command.output.splitlines()[-1]

    def rejects(self) -> list[str]:
        return sorted(path.suffix for path in (self.directory / "rejects").rglob("*.*"))

    def stored(self, table: str = "t") -> list[int]:
        return sorted(row[0] for row in self.asked(f"SELECT id FROM {table}"))


@pytest.fixture(params=["server", "shards"])
def target(one_server: Databases, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Target]:
    """One PostgreSQL, and three shards."""
    one_server.execute(DDL)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(TABLES, commit="two-phase"))
    if request.param == "server":
        made = Target(["--to", one_server.oracle], [one_server.oracle], tmp_path)
    else:
        made = Target(["-c", str(config)], one_server.shards, tmp_path)
    yield made
    for command in made.running:
        command.close()


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def test_while_it_connects(target: Target, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target.arguments = ["--to", f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/x"]
        command = target.begin(write(tmp_path / "a.csv", "1,x"))
        accepted, _ = silent.accept()
        with accepted:
            assert target.end(command) == (130, "interrupted: t: nothing was committed")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_while_it_waits_for_rows(target: Target, tmp_path: Path, signum: int) -> None:
    """Of a FIFO whose writer has more to say, with a row set aside before, and a file that is stored already."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = target.begin(write(tmp_path / "a.csv", "1,x", "bad,x"), fifo)
    with fifo.open("w") as writer:
        writer.write("2,x\n" * 100_000)
        assert target.end(command, signum) == (128 + signum, "interrupted: public.t: nothing was committed")
    assert (target.stored(), target.rejects()) == ([], [])


def test_while_it_waits_for_a_writer(target: Target, tmp_path: Path) -> None:
    """A FIFO that is never opened by another process."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = target.begin(fifo)
    until(lambda: target.asked(OTHERS), "it is connected")
    time.sleep(0.2)
    code, last = target.end(command)
    assert code == 130
    assert last.endswith("t: nothing was committed")


def test_while_a_shard_looks_for_bad_rows(target: Target, tmp_path: Path) -> None:
    rows = ["bad,x", *(f"{n},x" for n in range(100))]
    command = target.begin(write(tmp_path / "a.csv", *rows))
    until(lambda: target.asked(SLEEPING), "a shard is busy")
    assert target.end(command) == (130, "interrupted: public.t: nothing was committed")
    assert (target.stored(), target.rejects()) == ([], [])


def test_while_it_commits(target: Target, tmp_path: Path) -> None:
    """COMMIT has been sent and cannot be taken back: it is waited for, and told."""
    # A COPY that sets rows aside leaves constraints IMMEDIATE.
    last = ("--after", "SET CONSTRAINTS ALL DEFERRED", "--after", "INSERT INTO deferred VALUES (7)")
    command = target.begin(write(tmp_path / "a.csv", "1,x", "bad,x"), *last)
    until(lambda: target.asked(SLEEPING), "constraints are checked")
    assert target.end(command) == (130, "interrupted: public.t: the rows were committed")
    assert (target.stored(), target.stored("deferred")) == ([1], [7])
    assert target.rejects() == [".dat", ".jsonl", ".log"]


def test_between_files_of_an_import(target: Target, tmp_path: Path) -> None:
    files = [write(tmp_path / "a.csv", "1,x", "bad,x"), write(tmp_path / "b.csv", "worse,x", "13,x")]
    command = target.begin("--import-id", "nightly", *files)
    until(lambda: target.asked(SLEEPING), "the second file is under way")
    assert target.end(command) == (130, f"interrupted: public.t: committed: {files[0]}; nothing else was")
    assert (target.stored(), target.rejects()) == ([1], [".dat", ".jsonl", ".log"])
    assert query(target.dsns[0], "SELECT path FROM shardproxy.imports") == [(str(files[0]),)]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_while_it_makes_indexes(target: Target, tmp_path: Path, signum: int) -> None:
    """The rows are committed. What has not been made is in the journal, for --repair."""
    command = target.begin("--drop-indexes", write(tmp_path / "a.csv", "1,x", "13,x"), table="indexed")
    until(lambda: target.asked(SLEEPING), "an index is made")
    code, last = target.end(command, signum)
    assert (code, last) == (128 + signum, "interrupted: public.indexed: the rows were committed")
    assert target.stored("indexed") == [1, 13]
    for dsn in target.dsns:
        execute(dsn, "DELETE FROM indexed WHERE id = 13")
        execute(dsn, "VACUUM indexed")
    code, said = run(tmp_path / "repaired", "load", "--repair", *target.arguments)
    assert code == 0, said
    made = query(target.dsns[0], "SELECT indexname FROM pg_indexes WHERE tablename = 'indexed' ORDER BY 1")
    assert made == [("indexed_a",), ("indexed_slowly",)]
    assert target.asked("SELECT FROM shardproxy.dropped_indexes") == []


# A COMMIT whose answer is lost.


async def lost_commit(
    loader: Loader, dsn: str, files: list[Path], trigger: bytes, fault: Fault, number: int, closed: bool
) -> Summary:
    """Load by way of a proxy that loses the COMMIT of the transaction of this number, or its answer."""
    facts = conninfo_to_dict(dsn)
    async with Lossy.between(str(facts["host"]), int(facts["port"] or 0)) as lossy:
        to = f"postgresql://{facts['user']}@127.0.0.1:{lossy.port}/{facts['dbname']}"
        given: dict[str, Any] = {**loader.given, "to": to, "reject_dir": loader.rejects, "analyze": False}
        if number == 1:
            lossy.arm(trigger, fault, closed_to_new=closed)

        def arm(_: object) -> None:
            lossy.arm(trigger, fault, closed_to_new=closed)

        return await shardproxy.load(*files, on_reject=arm if number == 2 else None, **given)


@pytest.fixture
def journaled(one_server: Databases, tmp_path: Path) -> Loader:
    one_server.execute(DDL)
    loader = Loader({"to": one_server.oracle}, tmp_path / "rejects", {"table": "t", "import_id": "x"})
    loader.run(write(tmp_path / "none.csv"), import_id="which makes the journal")
    return loader


@pytest.mark.parametrize(("fault", "committed"), [("lose_reply", True), ("lose_request", False)])
@pytest.mark.parametrize("number", [1, 2])
def test_the_journal_tells_what_a_lost_commit_did(
    journaled: Loader, one_server: Databases, tmp_path: Path, fault: Fault, committed: bool, number: int
) -> None:
    files = [write(tmp_path / "a.csv", "1,x"), write(tmp_path / "b.csv", "2,x", "bad,x")]
    summary = asyncio.run(lost_commit(journaled, one_server.oracle, files, b"COMMIT", fault, number, closed=False))
    expected = files[: number if committed else number - 1]
    assert summary.committed == list(map(str, expected))
    assert summary.in_doubt == []
    names = [Path(name).exists() for name in summary.rejects]
    assert names == ([True] if len(expected) == 2 else [])
    if len(expected) == 2:
        assert (summary.status, summary.exit_code) == ("loaded", 3)
        assert any("the answer to COMMIT was lost" in note for note in summary.notes)
    else:
        assert (summary.status, summary.exit_code) == (("part", 4) if expected else ("failed", 1))
        assert summary.error is not None
    assert query(one_server.oracle, "SELECT count(*) FROM t") == [(len(expected),)]
    again = journaled.run(*files)
    assert again.summary.exit_code in {0, 3}
    assert query(one_server.oracle, "SELECT id FROM t ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("with_journal", [True, False])
def test_what_cannot_be_found_out_is_told(
    journaled: Loader, one_server: Databases, tmp_path: Path, with_journal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot be asked any more, or there is no journal to ask: the files of rejects stay."""
    monkeypatch.setattr("shardproxy.loader.journal.DOUBT_PATIENCE", 0.3)
    file = write(tmp_path / "a.csv", "1,x", "bad,x")
    if not with_journal:
        del journaled.given["import_id"]
    lost = lost_commit(journaled, one_server.oracle, [file], b"COMMIT", "lose_reply", 1, closed=with_journal)
    summary = asyncio.run(lost)
    assert (summary.status, summary.exit_code, summary.in_doubt) == ("unknown", 4, [str(file)])
    assert f"not known whether committed: {file}" in summary.text()
    assert [Path(name).read_text() for name in summary.rejects] == ["bad,x\n"]
    if with_journal:
        assert list(journaled.run(file).summary.stored_before) == [str(file)]
    assert query(one_server.oracle, "SELECT id FROM t") == [(1,)]
