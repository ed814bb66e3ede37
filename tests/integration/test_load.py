"""`shardproxy load`: files into one PostgreSQL and into a database of the proxy, with what is bad in them set aside."""

import contextlib
import gzip
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest

from shardproxy.rejects.reject import Reject
from tests.conftest import StartServer
from tests.support import bad_rows
from tests.support.commands import Command, run
from tests.support.databases import Databases, Servers, execute
from tests.support.loading import Loader
from tests.support.loads import CASES, Case

ROOT = Path(__file__).parents[2]

DDL = """
    CREATE TABLE t (id int PRIMARY KEY, a text, n numeric CHECK (n < 100));
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES child);
"""
TABLES = ({"name": "t", "placement": "hash", "key": ["id"]},)


@pytest.fixture
def loader(one_server: Databases, tmp_path: Path) -> Loader:
    """Loads into one PostgreSQL."""
    one_server.execute(DDL)
    return Loader({"to": one_server.oracle}, tmp_path / "rejects")


@pytest.fixture
def over_shards(one_server: Databases, tmp_path: Path) -> Loader:
    """Loads into three shards, committed in two phases."""
    one_server.execute(DDL)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(TABLES, commit="two-phase", unlisted_tables="s0"))
    return Loader({"config": str(config)}, tmp_path / "rejects")


@pytest.fixture(params=["server", "shards"])
def either(request: pytest.FixtureRequest) -> Loader:
    """Loads into the one and into the others."""
    found: Loader = request.getfixturevalue("loader" if request.param == "server" else "over_shards")
    return found


def stored(databases: Databases, query: str = "SELECT * FROM t ORDER BY 1") -> list[tuple[Any, ...]]:
    """The rows, wherever they are."""
    return sorted([*databases.oracle_rows(query), *(row for rows in databases.rows(query) for row in rows)])


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture(scope="module")
def awkward(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Databases, Loader]]:
    databases = Databases.create(servers, one_server=True)
    try:
        yield databases, Loader({"to": databases.oracle}, tmp_path_factory.mktemp("rejects"))
    finally:
        databases.drop()


EXTRA: dict[str, dict[str, Any]] = {
    "c29": {"skip": 1, "header": "skip", "encoding": "WIN1252", "decimal": ",", "thousands": "."}
}
"""Options of the loader that an input needs, beside COPY's."""


def copy_options(text: str) -> dict[str, Any]:
    """Read a case's COPY options as the loader's."""
    found: dict[str, Any] = {}
    for name, quoted, word in re.findall(r"(\w+) (?:'((?:[^']|'')*)'|(\w+))", text):
        found[name.lower()] = word or quoted.replace("''", "'")
    if found.pop("header", None):
        found["header"] = "skip"
    if "null" in found:
        found["null"] = (found["null"],)
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_awkward_inputs(awkward: tuple[Databases, Loader], case: Case, tmp_path: Path) -> None:
    """What COPY through the proxy does with them, and with the file and its lines named."""
    databases, loader = awkward
    execute(
        databases.oracle,
        f"DROP SCHEMA IF EXISTS cases CASCADE; CREATE SCHEMA cases; SET search_path = cases; {case.ddl}",
    )
    file = write(tmp_path / "input", case.data)
    given = copy_options(case.options) | EXTRA.get(case.id, {})
    loaded = loader.run(file, table="cases.t", set={"search_path": "cases"}, **given)
    if case.id == "c04":
        assert loaded.summary.exit_code == 1
        assert "UTF-16" in loaded.error["message"]
        return
    expected = {number: state for number, state in case.expect.items() if state != "SKIP"}
    if case.id == "c29":
        expected = {3: "22P02"}
    if case.id == "c13":
        assert loaded.summary.exit_code in {1, 3}
        return
    read, kept, aside = loaded.counts
    assert aside == len(expected)
    assert read == kept + aside + loaded.summary.dropped
    assert sorted(fact["sqlstate"] for fact in loaded.facts) == sorted(expected.values())
    assert all(fact["file"] == str(file) for fact in loaded.facts)


def test_bad_rows_are_set_aside_with_their_lines(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'id,a,n\n1,x,1\n2,y,zz\n3,"line\nbreak",3\n3,again,4\n5,c,500\n')
    loaded = either.run(file, table="t", header="names")
    assert loaded.counts == (5, 2, 3)
    assert loaded.summary.exit_code == 3
    assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(3, "22P02"), (6, "23505"), (7, "23514")]
    assert loaded.dats == [b"id,a,n\n2,y,zz\n3,again,4\n5,c,500\n"]
    assert f"{file}: line 3: 22P02: invalid input syntax for type numeric" in loaded.log
    assert [row[0] for row in stored(one_server)] == [1, 3]


@pytest.mark.newest
def test_corrected_rejects_load(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    """What was set aside can be loaded with the same options once it is right."""
    file = write(tmp_path / "a.csv", "n;a;id\n1,5;x;1\n2,x;y;2\n")
    options: dict[str, Any] = {"table": "t", "header": "names", "delimiter": ";", "decimal": ","}
    loaded = either.run(file, **options)
    [dat] = loaded.dats
    again = either.run(write(tmp_path / "b.csv", dat.replace(b"2,x", b"2,25")), **options)
    assert again.summary.exit_code == 0
    assert [(row[0], float(row[2])) for row in stored(one_server)] == [(1, 1.5), (2, 2.25)]
    assert again.summary.altered == {"numbers rewritten": 1}


@pytest.mark.newest
def test_stop_loads_nothing_and_names_the_row(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    good = write(tmp_path / "a.csv", "1,x,1\n")
    bad = write(tmp_path / "b.csv", "2,x,1\n3,x,\n4,x,no\n")
    loaded = either.run(good, bad, table="t", on_error="stop")
    assert loaded.summary.exit_code == 1
    assert loaded.error == {
        "sqlstate": "22P02",
        "message": 'invalid input syntax for type numeric: "no"',
        "where": f"{bad}, line 3",
    }
    assert loaded.dats == []
    assert stored(one_server) == []


@pytest.mark.newest
def test_each_file_has_its_own_header_and_lines(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02}.csv", f"id,a,n\n{number},x,1\n")
    write(tmp_path / "17.csv", "a,n,id\r\nx,1,17\r\nx,bad,99\r\n")
    write(tmp_path / "18.csv", "")
    loaded = either.run(tmp_path / "*.csv", table="t", header="names")
    assert loaded.counts == (30, 29, 1)
    assert [(fact["file"], fact["line"]) for fact in loaded.facts] == [(str(tmp_path / "17.csv"), 3)]
    assert loaded.dats == [b"a,n,id\r\nx,bad,99\r\n"]
    assert len(stored(one_server)) == 29


@pytest.mark.newest
def test_gzip_cut_short_loads_nothing(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    data = gzip.compress("".join(f"{n},x,1\n" for n in range(20000)).encode())
    whole = write(tmp_path / "whole.csv.gz", data)
    cut = write(tmp_path / "cut.csv.gz", data[: len(data) // 2])
    assert either.run(cut, table="t").summary.exit_code == 1
    assert stored(one_server) == []
    assert either.run(whole, table="t").counts == (20000, 20000, 0)
    assert len(stored(one_server)) == 20000


def test_many_batches_of_converted_rows(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    """The rows that are set aside are those of the file, wherever a batch ends."""
    rows = [f"{n};{n},5;{'z' * (n % 50)}" for n in range(2000)]
    for n in range(0, 2000, 37):
        rows[n] = f"{n};1,x;bad {n}"
    file = write(tmp_path / "a.csv", "\n".join(["id;n;a", *rows]) + "\n")
    either.given = {"table": "t", "header": "names", "delimiter": ";", "decimal": ",", "batch_rows": 50}
    execute(one_server.oracle, "ALTER TABLE t DROP CONSTRAINT t_n_check")
    for dsn in one_server.shards:
        execute(dsn, "ALTER TABLE t DROP CONSTRAINT IF EXISTS t_n_check")
    loaded = either.run(file, prefetch=1, batch_size=4096)
    bad = list(range(0, 2000, 37))
    assert loaded.counts == (2000, 2000 - len(bad), len(bad))
    assert sorted(fact["line"] for fact in loaded.facts) == [n + 2 for n in bad]
    assert {fact["row"] for fact in loaded.facts} == {f"{rows[n]}\n" for n in bad}


@pytest.mark.newest
def test_check_and_skip_and_around(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "1,x,1\n2,y,2\n")
    checked = either.run(file, table="t", check=True)
    assert (checked.summary.status, checked.counts) == ("checked", (2, 2, 0))
    assert stored(one_server) == []
    assert either.run(file, table="t").counts == (2, 2, 0)
    again = either.run(write(tmp_path / "b.csv", "2,new,2\n3,z,3\n"), table="t", on_conflict="skip", on_error="stop")
    assert (again.summary.exit_code, again.summary.skipped, again.summary.stored) == (0, 1, 1)
    assert [row[1] for row in stored(one_server)] == ["x", "y", "z"]
    emptied = either.run(file, table="t", truncate=True, after=("INSERT INTO t VALUES (3, 'after', 1)",))
    assert emptied.summary.exit_code == 0
    assert [row[:2] for row in stored(one_server)] == [(1, "x"), (2, "y"), (3, "after")]


@pytest.mark.newest
def test_children_before_their_parents(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    rows = [f"{n},{n + 1}\n" for n in range(60)] + ["60,\n", "400,999\n"]
    loaded = loader.run(write(tmp_path / "a.csv", "".join(rows)), table="child", batch_rows=7)
    assert loaded.counts == (62, 61, 1)
    assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(62, "23503")]


@pytest.mark.newest
def test_the_limit_ends_the_load(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "1,x,1\n2,x,no\n3,x,no\n")
    loaded = either.run(file, table="t", reject_limit="1")
    assert loaded.summary.exit_code == 1
    assert "reject_limit" in loaded.error["message"]
    assert (loaded.dats, stored(one_server)) == ([], [])


@pytest.mark.newest
def test_rejects_are_told_and_may_end_the_load(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "1,x,1\n2,x,no\n")
    told: list[Reject] = []
    assert loader.run(file, table="t", on_reject=told.append).counts == (2, 1, 1)
    assert [(one.file, one.line, one.row) for one in told] == [(str(file), 2, b"2,x,no\n")]

    def refuse(reject: Reject) -> None:
        raise RuntimeError(f"line {reject.line}")

    with pytest.raises(RuntimeError, match="line 2"):
        loader.run(file, table="t", on_reject=refuse, truncate=True)
    assert len(stored(one_server)) == 1


def told(output: str) -> list[dict[str, Any]]:
    """The loads of a summary, which is as its schema has it."""
    facts = json.loads(output)
    jsonschema.validate(facts, json.loads((ROOT / "docs/load.schema.json").read_text()))
    loads: list[dict[str, Any]] = facts["loads"]
    return loads


@pytest.mark.newest
def test_the_command(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id,a,n\n1,x,1\n2,y,zz\n")
    target = ["load", "--to", one_server.oracle, "--table", "t"]
    command = [sys.executable, "-m", "shardproxy", *target, "--summary", "-", "--header", "a.csv", "-"]
    piped = "n,id\n1,9\n"
    done = subprocess.run(command, cwd=tmp_path, input=piped, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    [summary] = told(done.stdout)
    assert (summary["read"], summary["stored"], summary["set_aside"], summary["exit_code"]) == (3, 2, 1, 3)
    assert "set aside in rejects/" in done.stderr
    assert [row[0] for row in stored(one_server)] == [1, 9]
    assert run(tmp_path / "said", *target, "--nul", "maybe", "x")[0] == 2
    code, said = run(tmp_path / "said", *target, "no such file", "--reject-dir", tmp_path)
    assert (code, "no such file" in said) == (1, True)


@pytest.mark.newest
def test_a_load_file_of_several_tables(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    """Options of the command line take the place of the file's; one that fails leaves the others as they are."""
    said, file, summary = tmp_path / "said", tmp_path / "load.toml", tmp_path / "summary"
    rows = write(tmp_path / "t.csv", "a;id\nx;1\n")
    children = write(tmp_path / "child.csv", "1,\n")
    target = ["--to", one_server.oracle, "--table", "t", "--header", "--delimiter", ";", "--reject-dir", tmp_path]
    assert run(said, "load", *target, "--write-file", file, rows) == (0, "")
    child = f'table = "child"\nfiles = ["{children}"]\nheader = "none"\ndelimiter = ","\n'
    write(file, f"{file.read_text()}\nworkers = 2\n[[load]]\n[[load]]\n{child}")
    command = ["load", "--file", file, "--summary", summary, "--progress", "json"]
    code, output = run(said, *command)
    assert code == 0, output
    assert [(one["table"], one["stored"]) for one in told(summary.read_text())] == [
        ("public.t", 1),
        ("public.child", 1),
    ]
    execute(one_server.oracle, "TRUNCATE child")
    assert run(said, *command, "--on-error", "stop")[0] == 4
    assert [one["status"] for one in told(summary.read_text())] == ["failed", "loaded"]


@pytest.mark.newest
def test_a_dry_run_tells_the_columns(either: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "n,id\n1,1\n")
    loaded = either.run(file, table="t", header="names", dry_run=True, truncate=True)
    assert (loaded.summary.status, loaded.summary.exit_code) == ("dry run", 0)
    assert loaded.summary.notes == [f"{file}: n, id"]
    assert stored(one_server) == []


# Several writers.


@pytest.mark.newest
@pytest.mark.parametrize("writers", [2, 5])
def test_several_writers_commit_together(loader: Loader, one_server: Databases, tmp_path: Path, writers: int) -> None:
    """The rows are those that one writer stores, duplicates and bad rows included; the first of a key wins."""
    rows = [f"{n // 2 if n % 50 == 1 else n + 10000},row {n},{n % 101}\n" for n in range(4000)]
    rows[777] = "1,2\n"
    file = write(tmp_path / "a.csv", "".join(rows))
    one = loader.run(file, table="t")
    expected = stored(one_server)
    several = loader.run(file, table="t", truncate=True, concurrency=writers, batch_rows=100)
    assert several.summary.status == "loaded", several.summary.error
    assert several.counts == one.counts
    assert stored(one_server) == expected
    assert sorted(several.dats[0].splitlines()) == sorted(one.dats[0].splitlines())
    assert one_server.oracle_rows("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'shardproxy%'") == [(0,)]
    assert several.summary.notes == []
    assert several.summary.committed == ["the SQL before the rows", str(file)]


@pytest.mark.newest
def test_several_writers_store_nothing_if_one_fails(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    rows = [f"{n},x,{'no' if n == 15000 else n % 90}\n" for n in range(20000)]
    loaded = loader.run(write(tmp_path / "a.csv", "".join(rows)), table="t", concurrency=3, on_error="stop")
    assert (loaded.summary.exit_code, loaded.error["where"]) == (1, f"{tmp_path / 'a.csv'}, line 15001")
    assert stored(one_server) == []


@pytest.mark.newest
def test_where_one_writer_is_right(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "1,\n2,1\n")
    loaded = loader.run(file, table="child", concurrency=2)
    assert loaded.counts == (2, 2, 0)
    assert loaded.summary.notes == ["one writer, as the table refers to itself"]


@pytest.mark.newest
@pytest.mark.parametrize("decided", [False, True])
def test_what_a_killed_load_has_prepared_is_ended(
    loader: Loader, one_server: Databases, tmp_path: Path, decided: bool
) -> None:
    """By the next load, as the anchor has decided; before, it would wait for the locks."""
    assert loader.run(write(tmp_path / "a.csv", "1,x,1\n"), table="t", concurrency=2).counts == (1, 1, 0)
    [(identity,)] = one_server.oracle_rows("SELECT id FROM shardproxy.identity")
    transaction = "0123456789abcdef" * 2
    participant = f"{int(identity, 16) ^ 2:032x}"
    with psycopg.connect(one_server.oracle, autocommit=True) as connection:
        gid = f"shardproxy_{identity}_{transaction}_{participant}"
        connection.execute("BEGIN; INSERT INTO t VALUES (2, 'left', 1)")
        connection.execute(f"PREPARE TRANSACTION '{gid}'".encode())
        if decided:
            key = f"shardproxy_{identity}_{transaction}"
            connection.execute("INSERT INTO shardproxy.decisions VALUES (%s, 'commit')", (key,))
    again = loader.run(write(tmp_path / "b.csv", "2,new,1\n3,new,1\n"), table="t")
    assert again.counts == ((2, 1, 1) if decided else (2, 2, 0))
    assert [row[1] for row in stored(one_server)] == ["x", "left" if decided else "new", "new"]


def test_where_nothing_can_be_prepared_there_is_one_writer(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(18, settings={"max_prepared_transactions": "0"})
    execute(server.dsn("postgres"), DDL)
    loader = Loader({"to": server.dsn("postgres")}, tmp_path / "rejects")
    loaded = loader.run(write(tmp_path / "a.csv", "1,x,1\n"), table="t", concurrency=2)
    assert loaded.counts == (1, 1, 0)
    assert "one writer, as several could not commit together" in loaded.summary.notes[0]


def process_fact(pid: int, file: str, name: str) -> int:
    """A number that Linux tells of a process."""
    [found] = re.findall(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    return int(found)


@pytest.mark.newest
def test_memory_is_bounded_while_the_target_stalls(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    """A file larger than what may be held is not read ahead of a target that takes no rows."""
    rows, line, bound = 64_000, "x" * 1000, 44 << 10  # KiB
    with (tmp_path / "a.csv").open("w") as file:
        file.writelines(f"{n},{line},1\n" for n in range(rows))
    options = ["--progress", "none", "--batch-size", 1 << 20, "--prefetch", 1 << 20, "--reject-dir", tmp_path]
    with psycopg.connect(one_server.oracle) as connection:
        # Rows go up to the first index entry of a key that another transaction has written, and wait there.
        connection.execute("INSERT INTO t VALUES (10000, 'first', 1)")
        command = Command(
            tmp_path / "said", "load", "--to", one_server.oracle, "--table", "t", tmp_path / "a.csv", *options
        )
        idle = process_fact(command.pid, "status", "VmRSS")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        for _ in range(500):
            if one_server.oracle_rows(waiting) != [(0,)]:
                break
            time.sleep(0.02)
        read = -1
        while read != (now := process_fact(command.pid, "io", "rchar")):  # until no more is read ahead
            read = now
            time.sleep(0.25)
        assert read < rows * len(line) // 2
        used = process_fact(command.pid, "status", "VmHWM")
        connection.rollback()
    while command.running:
        with contextlib.suppress(OSError, ValueError):  # it may end while it is looked at
            used = max(used, process_fact(command.pid, "status", "VmHWM"))
        time.sleep(0.02)
    assert command.end() == 0
    assert one_server.oracle_rows("SELECT count(*) FROM t") == [(rows,)]
    assert used - idle < bound


def test_random_rows_are_stored_as_one_by_one(one_server: Databases, tmp_path: Path) -> None:
    """Whatever the batches, the writers and how the file is read, and over shards; and what was bad loads corrected."""
    rng = random.Random(one_server.version)
    one_server.execute(bad_rows.DDL)
    config = tmp_path / "proxy.toml"
    tables = ({"name": "sharded", "placement": "hash", "key": ["id"]}, {"name": "parent", "placement": "reference"})
    config.write_text(one_server.config(tables))
    rows = bad_rows.random_rows(rng, 200)
    refused = bad_rows.row_by_row(one_server.oracle, rows)
    expected = one_server.oracle_rows("SELECT * FROM sharded ORDER BY id")
    data = b"id,day,c,p\n" + b"".join(rows)
    ways: tuple[tuple[bool, dict[str, Any]], ...] = (
        (False, {"batch_rows": 1}),
        (True, {"batch_rows": 7, "prefetch": 1}),
        (False, {"concurrency": 3, "batch_rows": 20}),
        (False, {"config": str(config), "to": None, "batch_rows": rng.randint(1, 50)}),
        (True, {"true": ("yes",), "null": ("", "NIL")}),
    )
    for number, (packed, options) in enumerate(ways):
        file = write(tmp_path / f"a{packed}", gzip.compress(data) if packed else data)
        one_server.execute("TRUNCATE sharded")
        loader = Loader({"to": one_server.oracle}, tmp_path / f"rejects{number}")
        loaded = loader.run(file, table="sharded", header="names", **options)
        assert loaded.counts == (len(rows), len(rows) - len(refused), len(refused)), options
        assert stored(one_server, "SELECT * FROM sharded ORDER BY id") == expected
        lines = {n: 1 + b"".join(rows[:n]).count(b"\n") for n in refused}
        assert sorted((fact["line"], fact["sqlstate"]) for fact in loaded.facts) == sorted(
            (lines[n], sqlstate) for n, sqlstate in refused.items()
        )
        assert sorted(loaded.dats[0].removeprefix(b"id,day,c,p\n")) == sorted(b"".join(rows[n - 1] for n in refused))
    corrected = b"id,day,c,p\n" + b"".join(b"%d,2024-01-01,ok,1\n" % (n + 1000) for n in refused)
    assert loader.run(write(tmp_path / "b", corrected), table="sharded", header="names").summary.exit_code == 0


@pytest.mark.newest
@pytest.mark.parametrize("concurrency", [1, 3])
def test_rejects_are_in_a_table_too(loader: Loader, one_server: Databases, tmp_path: Path, concurrency: int) -> None:
    """Of several files, and of no load that was not committed."""
    columns = "load_id text, relation text, file text, line bigint, byte_offset bigint, data text, sqlstate text"
    more = "message text, detail text, column_name text, shard text"
    execute(one_server.oracle, f'CREATE TABLE "Bad rows" ({columns}, {more})')
    a, b = write(tmp_path / "a.csv", "1,x,1\n2,x,no\n"), write(tmp_path / "b.csv", "3,x\n4,x,1\n1,x,1\n")
    given: dict[str, Any] = {"table": "t", "reject_table": '"Bad rows"', "concurrency": concurrency}
    failed = loader.run(a, b, after=("SELECT 1 / 0",), **given)
    if concurrency == 1:
        assert (failed.summary.exit_code, one_server.oracle_rows('SELECT * FROM "Bad rows"')) == (1, [])
    execute(one_server.oracle, 'TRUNCATE t, "Bad rows"')
    loaded = loader.run(a, b, **given)
    assert loaded.counts == (5, 2, 3)
    found = one_server.oracle_rows('SELECT load_id, relation, file, line, data, sqlstate FROM "Bad rows" ORDER BY 3, 4')
    named = (loaded.summary.load_id, "public.t")
    assert found == [
        (*named, str(a), 2, "2,x,no\n", "22P02"),
        (*named, str(b), 1, "3,x\n", "22P04"),
        (*named, str(b), 3, "1,x,1\n", "23505"),
    ]
    missing = loader.run(a, table="t", reject_table="nowhere")
    assert (missing.summary.exit_code, missing.error["sqlstate"], missing.summary.read) == (1, "42P01", 0)


@pytest.mark.newest
def test_rows_are_told_whatever_messages_the_session_wants(
    loader: Loader, one_server: Databases, tmp_path: Path
) -> None:
    """What ON_ERROR passes over is told by notices alone."""
    file = write(tmp_path / "a.csv", "1,x,1\n2,x,no\n3,x,1\n3,x,2\n")
    loaded = loader.run(file, table="t", set={"client_min_messages": "warning"})
    assert (loaded.counts, loaded.summary.dropped) == ((4, 2, 2), 0)


@pytest.mark.newest
def test_a_trigger_of_a_partition_changes_rows(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    execute(
        one_server.oracle,
        """CREATE TABLE parted (id int, u int, v text NOT NULL, UNIQUE (id, u)) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'changed'; RETURN NEW; END $$;
        CREATE TRIGGER change BEFORE INSERT ON part FOR EACH ROW WHEN (NEW.v IS NOT NULL) EXECUTE FUNCTION change()""",
    )
    loaded = loader.run(write(tmp_path / "a.csv", "1,,x\n2,,\n3,,y\n"), table="parted")
    assert (loaded.counts, loaded.summary.dropped) == ((3, 2, 1), 0)
    assert stored_in(one_server, "parted") == [(1, None, "changed"), (3, None, "changed")]


def stored_in(databases: Databases, table: str) -> list[tuple[Any, ...]]:
    return databases.oracle_rows(f"SELECT * FROM {table} ORDER BY 1")


@pytest.mark.newest
def test_a_callback_that_fails_ends_a_large_load(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    rows = ["1,x,no\n", *(f"{n},{'y' * 100},1\n" for n in range(10, 50_000))]

    def fail(reject: Reject) -> None:
        raise ValueError(f"line {reject.line}")

    with pytest.raises(ValueError, match="line 1"):
        loader.run(write(tmp_path / "a.csv", "".join(rows)), table="t", on_reject=fail, batch_rows=10)
    assert stored(one_server) == []


@pytest.mark.newest
def test_batches_of_a_table_that_refers_to_itself(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    """Of two rows of a key the first one is stored, whatever the batches."""
    file = write(tmp_path / "a.csv", "1,\n2,1\n2,\n")
    for batch_rows in (1, 100):
        execute(one_server.oracle, "TRUNCATE child")
        assert loader.run(file, table="child", batch_rows=batch_rows).counts == (3, 2, 1)
        assert stored_in(one_server, "child") == [(1, None), (2, 1)]


@pytest.mark.newest
def test_a_role_that_may_not_look_into_the_own_schema_loads(
    loader: Loader, one_server: Databases, tmp_path: Path
) -> None:
    execute(one_server.oracle, "CREATE SCHEMA IF NOT EXISTS shardproxy; DROP ROLE IF EXISTS limited")
    execute(one_server.oracle, "CREATE ROLE limited LOGIN; GRANT INSERT, SELECT ON t TO limited")
    try:
        loader.target = {"to": one_server.oracle.replace("postgres@", "limited@")}
        assert loader.run(write(tmp_path / "a.csv", "1,x,1\n"), table="t", analyze=False).counts == (1, 1, 0)
    finally:
        execute(one_server.oracle, "DROP OWNED BY limited; DROP ROLE limited")
