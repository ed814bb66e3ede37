"""`--import-id`: a load that can be repeated, each file a transaction with a row of the journal."""

import asyncio
import os
import zipfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

import shardproxy
from shardproxy.errors import PgError
from shardproxy.loader import Summary, journal
from tests.support.databases import Databases, execute, query
from tests.support.loading import Loader

pytestmark = pytest.mark.newest

DDL = "CREATE TABLE t (id int, a text, n numeric CHECK (n < 100)); CREATE TABLE log (id int, what text)"
TABLES = ({"name": "t", "placement": "hash", "key": ["id"]},)


@pytest.fixture(params=["server", "shards"])
def loader(one_server: Databases, tmp_path: Path, request: pytest.FixtureRequest) -> Loader:
    """Loads into one PostgreSQL, and into three shards, of the same import."""
    one_server.execute(DDL)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(TABLES, commit="two-phase", unlisted_tables="s0"))
    target = {"to": one_server.oracle} if request.param == "server" else {"config": str(config)}
    return Loader(target, tmp_path / "rejects", {"table": "t", "import_id": "nightly"})


def stored(databases: Databases, sql: str = "SELECT id FROM t") -> list[Any]:
    """One column, of wherever the rows are."""
    found = [*databases.oracle_rows(sql), *(row for rows in databases.rows(sql) for row in rows)]
    return sorted(row[0] for row in found)


def home(loader: Loader, databases: Databases) -> str:
    """Where the journal is."""
    return databases.shards[0] if "config" in loader.target else databases.oracle


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def test_a_repeat_leaves_out_what_is_stored(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    first = [write(tmp_path / f"{n}.csv", f"{n},x,1", f"{n + 100},x,1") for n in range(3)]
    loaded = loader.run(tmp_path / "?.csv")
    assert (loaded.summary.exit_code, loaded.counts) == (0, (6, 6, 0))
    assert loaded.summary.committed == list(map(str, first))
    new = write(tmp_path / "3.csv", "3,x,1", "bad,x,1")
    again = loader.run(tmp_path / "?.csv")
    assert (again.summary.exit_code, again.counts) == (3, (2, 1, 1))
    assert list(again.summary.stored_before) == list(map(str, first))
    assert f"left out: {first[0]}: stored by load {loaded.summary.load_id} at 20" in again.summary.text()
    third = loader.run(tmp_path / "?.csv")
    assert (third.summary.exit_code, third.summary.status, third.counts) == (0, "loaded", (0, 0, 0))
    assert again.summary.rejects[0] in third.summary.stored_before[str(new)]
    assert stored(one_server) == [0, 1, 2, 3, 100, 101, 102]
    other = loader.run(first[0], import_id="another")
    assert other.counts == (2, 2, 0)


def test_a_failure_names_what_is_committed(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "1,x,1", "2,x,no")
    bad = write(tmp_path / "b.csv", "3,x,1", "4,x,no", "5,x,no")
    write(tmp_path / "c.csv", "6,x,1")
    loaded = loader.run(tmp_path / "?.csv", reject_limit="2")
    summary = loaded.summary
    assert (summary.exit_code, summary.status) == (4, "part")
    assert summary.committed == [str(tmp_path / "a.csv")]
    assert (summary.read, summary.stored, summary.set_aside, summary.files) == (2, 1, 1, 1)
    assert f"committed: {tmp_path / 'a.csv'}" in summary.text()
    assert loaded.dats == [b"2,x,no\n"]
    assert summary.rejects == [str(path) for path in loaded.directory.rglob("*.dat")]
    assert stored(one_server) == [1]
    write(bad, "3,x,1", "4,x,no")
    again = loader.run(tmp_path / "?.csv", reject_limit="2")
    assert (again.summary.exit_code, again.counts) == (3, (3, 2, 1))
    assert again.dats == [b"4,x,no\n"]
    assert stored(one_server) == [1, 3, 6]


def test_what_has_changed_is_not_loaded(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "1,x,1")
    assert loader.run(file).summary.exit_code == 0
    other = write(tmp_path / "b.csv", "2,x,1")
    for rows, why in ((["1,x,1", "9,x,1"], "It had 6 bytes, and has 12."), (["9,x,1"], "Its content differs.")):
        write(file, *rows)
        refused = loader.run(other, file)
        assert (refused.summary.exit_code, refused.error["sqlstate"]) == (1, "55000")
        assert refused.error["message"] == f'file "{file}" has changed since import "nightly" has stored it'
        assert refused.error["detail"].startswith(why)
    write(file, "1,x,1")
    copy = write(tmp_path / "copy.csv", "1,x,1")
    assert any("has the size, head and tail of" in note for note in loader.run(file, copy, copy).summary.notes)
    assert stored(one_server) == [1, 1]


def test_what_cannot_be_known_again_is_refused(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("-", str(tmp_path / "fifo")):
        refused = loader.run(name)
        assert (refused.summary.exit_code, refused.error["sqlstate"]) == (1, "0A000")
        assert "standard input and a FIFO" in refused.error["message"]
    with pytest.raises(PgError, match="exclude each other"):
        loader.run("x", limit=1)


def test_several_writers(one_server: Databases, tmp_path: Path) -> None:
    """The first of them has the journal; what stands around the rows would not be done once."""
    one_server.execute(DDL)
    given: dict[str, Any] = {"table": "t", "import_id": "x", "concurrency": 2, "on_error": "stop"}
    loader = Loader({"to": one_server.oracle}, tmp_path / "rejects", given)
    write(tmp_path / "a.csv", *(f"{n},x,1" for n in range(100)))
    bad = write(tmp_path / "b.csv", *(f"{n},x,1" for n in range(100, 200)), "200,x,no")
    assert loader.run(tmp_path / "?.csv").summary.exit_code == 4
    write(bad, *(f"{n},x,1" for n in range(100, 200)))
    again = loader.run(tmp_path / "?.csv")
    assert (again.summary.exit_code, again.counts, again.summary.notes) == (0, (100, 100, 0), [])
    assert list(again.summary.stored_before) == [str(tmp_path / "a.csv")]
    assert stored(one_server) == list(range(200))
    around = loader.run(write(tmp_path / "c.csv", "200,x,1"), after=("SELECT",))
    assert around.summary.notes == [
        "one writer, as what stands around the rows of an import belongs to their transactions"
    ]


def test_an_archive_is_one_unit(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", "1,x,1\n2,x,no\n")
        archive.writestr("two.csv", "3,x,1\n")
    assert loader.run(tmp_path / "a.zip").counts == (3, 2, 1)
    assert loader.run(tmp_path / "a.zip").counts == (0, 0, 0)
    [(path, rejects)] = query(home(loader, one_server), "SELECT path, rejects FROM shardproxy.imports")
    assert (path, [Path(one).read_text() for one in rejects]) == (str(tmp_path / "a.zip"), ["2,x,no\n"])


def test_before_and_truncate_once_and_after_last(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    around: dict[str, Any] = {
        "before": ("INSERT INTO log VALUES (1, 'before')",),
        "truncate": True,
        "after": ("INSERT INTO log VALUES (1, 'after')",),
    }
    (write(tmp_path / "old.csv", "0,x,1"), loader.run(tmp_path / "old.csv", import_id="old"))
    write(tmp_path / "a.csv", "1,x,1")
    bad = write(tmp_path / "b.csv", "2,x,no")
    assert loader.run(tmp_path / "?.csv", on_error="stop", **around).summary.exit_code == 4
    assert stored(one_server, "SELECT what FROM log") == ["before"]
    write(bad, "2,x,1")
    again = loader.run(tmp_path / "?.csv", on_error="stop", **around)
    assert again.summary.exit_code == 0
    assert "before and truncate left out: done when the import began" in again.summary.notes
    assert loader.run(tmp_path / "?.csv", **around).summary.exit_code == 0
    assert stored(one_server, "SELECT what FROM log") == ["after", "before"]
    assert stored(one_server) == [1, 2]


def test_check_leaves_no_trace(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    files = [write(tmp_path / "a.csv", "1,x,1"), write(tmp_path / "b.csv", "2,x,no")]
    checked = loader.run(*files, check=True)
    assert (checked.summary.status, checked.counts) == ("checked", (2, 1, 1))
    assert loader.run(files[0]).counts == (1, 1, 0)
    checked = loader.run(*files, check=True)
    assert (checked.counts, list(checked.summary.stored_before)) == ((1, 0, 1), [str(files[0])])
    assert loader.run(*files).counts == (1, 0, 1)
    assert stored(one_server) == [1]


def test_what_no_load_names_is_forgotten(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", "1,x,1"), write(tmp_path / "b.csv", "2,x,1")
    loader.run(first, second, journal_keep=10)
    days = "SELECT round(extract(epoch FROM expires - now()) / 86400)::int FROM shardproxy.imports ORDER BY path"
    assert query(home(loader, one_server), days) == [(10,), (10,)]
    execute(home(loader, one_server), "UPDATE shardproxy.imports SET expires = now() - interval '1 hour'")
    assert loader.run(first).counts == (0, 0, 0)
    assert query(home(loader, one_server), days) == [(30,)]


def test_without_the_privilege_the_sql_is_told(one_server: Databases, tmp_path: Path) -> None:
    name = f"plain_{one_server.name}"
    one_server.execute(DDL)
    execute(one_server.oracle, f"CREATE ROLE {name} LOGIN; GRANT ALL ON t TO {name}")
    try:
        dsn = one_server.oracle.replace("postgres@", f"{name}@")
        loader = Loader({"to": dsn}, tmp_path / "rejects", {"table": "t", "import_id": "x", "analyze": False})
        file = write(tmp_path / "a.csv", "1,x,1")
        refused = loader.run(file)
        assert (refused.summary.exit_code, refused.error["sqlstate"]) == (1, "55000")
        execute(one_server.oracle, refused.error["detail"].removeprefix("SQL: "))
        assert loader.run(file).counts == (1, 1, 0)
        assert loader.run(file).counts == (0, 0, 0)
    finally:
        execute(one_server.oracle, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def until(dsn: str, condition: str) -> None:
    """Wait until a query finds something."""
    for _ in range(300):
        if await asyncio.to_thread(query, dsn, condition):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {condition}")


WAITING = """SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


async def held_load(loader: Loader, dsn: str, file: Path, *, lose_the_lock: bool) -> tuple[Summary, Summary]:
    """Run two loads of one import at once: the first is held by a lock on the table when the second begins."""
    given: dict[str, Any] = {**loader.target, **loader.given, "reject_dir": loader.rejects}
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute("LOCK TABLE t IN SHARE MODE")
        first = asyncio.ensure_future(shardproxy.load(file, **given))
        await until(dsn, WAITING)
        if lose_the_lock:
            end = (
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            await asyncio.to_thread(query, dsn, end)
        second = asyncio.ensure_future(shardproxy.load(file, **given))
        if lose_the_lock:
            await until(dsn, f"{WAITING} OFFSET 1")
        else:
            await asyncio.wait({second})
        await holder.commit()
        return await first, await second


def test_two_loads_of_one_import(
    loader: Loader, one_server: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_PATIENCE", 0.3)
    file = write(tmp_path / "a.csv", "1,x,1")
    dsn = home(loader, one_server)
    first, second = asyncio.run(held_load(loader, dsn, file, lose_the_lock=False))
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert second.error is not None
    assert second.error["sqlstate"] == "55P03"
    assert second.error["message"] == 'another load of import "nightly" into public.t is running'
    assert stored(one_server) == [1]


def test_two_loads_of_one_import_without_the_lock(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    """The session that holds the lock is ended in the middle of a load: the journal's key keeps the rows single."""
    file = write(tmp_path / "a.csv", "1,x,1")
    dsn = home(loader, one_server)
    both = asyncio.run(held_load(loader, dsn, file, lose_the_lock=True))
    assert sorted(one.exit_code for one in both) == [0, 1]
    [error] = [one.error for one in both if one.error is not None]
    assert error["sqlstate"] == "23505"
    assert "has stored" in error["message"]
    assert stored(one_server) == [1]
