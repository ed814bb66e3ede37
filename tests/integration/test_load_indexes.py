"""`drop_indexes`, `--repair` and `disable_triggers`: what a load takes away is there again as it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shardproxy.loader import indexes
from tests.support import killed_load
from tests.support.commands import run
from tests.support.databases import Databases, Servers, execute, query
from tests.support.loading import Loader

Repair = Callable[..., tuple[int, str]]

DDL = """
CREATE TABLE t (id int, u int NOT NULL, v text, r int4range, d int, CONSTRAINT "the Key" PRIMARY KEY (id) INCLUDE (v));
CREATE TABLE child (d int);
ALTER TABLE t ADD CONSTRAINT t_u UNIQUE (u) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE t ADD CONSTRAINT t_d UNIQUE (d);
ALTER TABLE child ADD FOREIGN KEY (d) REFERENCES t (d);
ALTER TABLE t ADD CONSTRAINT t_r EXCLUDE USING gist (r WITH &&) WITH (fillfactor = 70) WHERE (id > 0);
CREATE INDEX t_expression ON t (lower(v) DESC NULLS LAST, (u + 1)) WHERE u > 5;
ALTER INDEX t_expression ALTER COLUMN 2 SET STATISTICS 555;
CREATE UNIQUE INDEX t_identity ON t (u, id) INCLUDE (v) WITH (fillfactor = 60);
ALTER TABLE t REPLICA IDENTITY USING INDEX t_identity;
CREATE INDEX t_hash ON t USING hash (v);
CREATE INDEX t_brin ON t USING brin (id) WITH (pages_per_range = 16);
CREATE INDEX t_cluster ON t (v);
ALTER TABLE t CLUSTER ON t_cluster;
COMMENT ON INDEX t_hash IS 'it''s a hash';
COMMENT ON INDEX "the Key" IS 'an index';
COMMENT ON CONSTRAINT "the Key" ON t IS 'a \\ constraint';
COMMENT ON CONSTRAINT t_r ON t IS 'excluded';
INSERT INTO t VALUES (1, 1, 'one', '[1,2)', 1);
"""
NEWER = """ALTER TABLE t ADD CONSTRAINT t_nulls UNIQUE NULLS NOT DISTINCT (v, d);
CREATE UNIQUE INDEX t_nulls_too ON t (d, v) NULLS NOT DISTINCT"""

ROWS = "".join(f'{n},{n},v{n},"[{n * 10},{n * 10 + 5})",{n}\n' for n in range(2, 2000))


def dump(databases: Databases, dsn: str) -> str:
    """The definitions of the table, as pg_dump writes them, and what it leaves out."""
    pg_dump = databases.psql.with_name("pg_dump")
    command = [str(pg_dump), "--schema-only", "--exclude-schema=shardproxy", "--dbname", dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "restrict" not in line]
    marks = query(
        dsn,
        """SELECT n.relname, indisreplident, indisclustered, indisvalid, indimmediate, n.reloptions
           FROM pg_index JOIN pg_class n ON n.oid = indexrelid JOIN pg_namespace s ON s.oid = relnamespace
           WHERE s.nspname = 'public' ORDER BY 1""",
    )
    return "\n".join([*lines, *map(repr, marks)])


def oids(dsn: str) -> dict[str, int]:
    sql = "SELECT relname::text, oid::int8 FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"
    return dict(query(dsn, sql))


def journal(dsn: str) -> list[tuple[str, str | None]]:
    return query(dsn, "SELECT name, error FROM shardproxy.dropped_indexes ORDER BY 1")


@pytest.fixture
def loader(one_server: Databases, tmp_path: Path) -> Loader:
    execute(one_server.oracle, DDL + NEWER)
    (tmp_path / "a.csv").write_text(ROWS)
    return Loader({"to": one_server.oracle, "table": "t"}, tmp_path / "rejects")


def test_indexes_are_as_they_were(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    dsn = one_server.oracle
    before, kept = dump(one_server, dsn), oids(dsn)
    loaded = loader.run(tmp_path / "a.csv", drop_indexes=True)
    assert loaded.counts == (1998, 1998, 0)
    assert (loaded.summary.exit_code, loaded.summary.unmade) == (0, [])
    assert dump(one_server, dsn) == before
    assert journal(dsn) == []
    stayed = {name for name, oid in oids(dsn).items() if kept[name] == oid}
    assert stayed == {"t_d"}
    assert any(note.startswith("index t_d stays: constraint child_d_fkey") for note in loaded.summary.notes)
    assert "index the Key is dropped: duplicates are found when it is made again" in loaded.summary.notes


@pytest.mark.newest
def test_files_of_an_import_are_several_transactions(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    """The indexes are dropped in the first one, and made again after the last, also where one fails."""
    dsn = one_server.oracle
    before, kept = dump(one_server, dsn), oids(dsn)
    (tmp_path / "b.csv").write_text('5000,5000,x,"[0,1)",5000\n')
    (tmp_path / "c.csv").write_text('no,5001,x,"[1,2)",5001\n')
    files = [tmp_path / f"{name}.csv" for name in "abc"]
    given: dict[str, Any] = {"drop_indexes": True, "import_id": "i", "on_error": "stop"}
    failed = loader.run(*files, **given)
    assert (failed.summary.exit_code, failed.summary.stored, failed.summary.unmade) == (4, 1999, [])
    assert (dump(one_server, dsn), journal(dsn)) == (before, [])
    assert oids(dsn)["the Key"] != kept["the Key"]
    kept = oids(dsn)
    assert loader.run(*files[:2], **given).summary.exit_code == 0
    assert oids(dsn) == kept


def test_a_load_that_fails_has_dropped_nothing(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    dsn = one_server.oracle
    kept = oids(dsn)
    (tmp_path / "a.csv").write_text(ROWS + "x,1,,,\n")
    failed = loader.run(tmp_path / "a.csv", drop_indexes=True, on_error="stop")
    assert (failed.summary.exit_code, failed.summary.unmade) == (1, [])
    checked = loader.run(tmp_path / "a.csv", drop_indexes=True, check=True)
    assert (checked.summary.exit_code, checked.summary.stored, checked.summary.set_aside) == (3, 1998, 1)
    assert (oids(dsn), journal(dsn)) == (kept, [])


@pytest.mark.newest
def test_duplicates_are_found_at_the_end(loader: Loader, one_server: Databases, tmp_path: Path, repair: Repair) -> None:
    """The index stays in the journal, and is made when what is in its way has gone."""
    dsn = one_server.oracle
    before = dump(one_server, dsn)
    (tmp_path / "a.csv").write_text(f'{ROWS}7,9999,x,"[0,1)",9999\n')
    loaded = loader.run(tmp_path / "a.csv", drop_indexes=True)
    assert (loaded.summary.exit_code, loaded.counts) == (3, (1999, 1999, 0))
    [unmade] = loaded.summary.unmade
    assert unmade.startswith('public.t: the Key: 23505: could not create unique index "the Key"')
    assert "(id)=(7)" in unmade
    assert [name for name, _ in journal(dsn)] == ["the Key"]
    assert repair("--to", dsn) == (3, f"not made: {unmade.partition(': ')[2]}")
    execute(dsn, "DELETE FROM t WHERE u = 9999")
    assert repair("--to", dsn) == (0, "the Key made again")
    assert repair("--to", dsn) == (0, "no load has left indexes dropped")
    assert dump(one_server, dsn) == before


@pytest.fixture
def repair(tmp_path: Path) -> Repair:
    """Repair as a command: the exit code, and what the last line says after the table."""

    def repaired(*arguments: str) -> tuple[int, str]:
        code, output = run(tmp_path / "said", "load", "--repair", *arguments)
        last = output.splitlines()[-1].strip()
        return code, last.partition(": ")[2] if " on " in last.partition(": ")[0] else last

    return repaired


def kill(directory: Path, when: str, **options: Any) -> None:
    """Load until it dies."""
    options["reject_dir"] = str(directory / "rejects")
    code, said = run(directory / "said", when, repr(options), module=killed_load.__name__)
    assert code == killed_load.KILLED, said


@pytest.mark.newest
@pytest.mark.parametrize("when", ["before making", "before completing"])
def test_repair_after_a_kill(when: str, loader: Loader, one_server: Databases, tmp_path: Path, repair: Repair) -> None:
    dsn = one_server.oracle
    before = dump(one_server, dsn)
    kill(tmp_path, when, files=[str(tmp_path / "a.csv")], to=dsn, table="t", drop_indexes=True)
    assert query(dsn, "SELECT count(*) FROM t") == [(1999,)]
    assert dump(one_server, dsn) != before
    names = [name for name, _ in journal(dsn)]
    assert len(names) == 10
    code, said = repair("--to", dsn)
    assert (code, said) == (0, f"{', '.join(names)} made again")
    assert dump(one_server, dsn) == before
    assert journal(dsn) == []


@pytest.mark.newest
@pytest.mark.parametrize("when", killed_load.PLACES)
def test_the_next_load_repairs_too(when: str, loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    dsn = one_server.oracle
    before = dump(one_server, dsn)
    kill(tmp_path, when, files=[str(tmp_path / "a.csv")], to=dsn, table="t", drop_indexes=True)
    (tmp_path / "b.csv").write_text('5000,5000,x,"[0,1)",5000\n')
    assert loader.run(tmp_path / "b.csv", drop_indexes=True).summary.exit_code == 0
    assert dump(one_server, dsn) == before


@pytest.mark.newest
def test_repair_waits_for_the_load_to_end(
    loader: Loader, one_server: Databases, tmp_path: Path, repair: Repair
) -> None:
    """While the load lives, so does its lock; a session that has dropped them and has not ended holds the table."""
    dsn = one_server.oracle
    kill(tmp_path, "before making", files=[str(tmp_path / "a.csv")], to=dsn, table="t", drop_indexes=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        [(relation,)] = connection.execute("SELECT 't'::regclass::oid::int8")
        connection.execute("SELECT pg_advisory_lock(%s::int8)", (indexes.LOCK_KEY + relation,))
        code, said = repair("--to", dsn)
        assert (code, said) == (1, "HINT:  Wait until it ends, and try again.")
        refused = loader.run(tmp_path / "a.csv", drop_indexes=True)
        assert refused.error["sqlstate"] == "55006"


@pytest.mark.newest
def test_over_shards(one_server: Databases, tmp_path: Path, repair: Repair) -> None:
    """Each shard has its own journal; a kill leaves all of them to --repair."""
    ddl = """CREATE TABLE t (id int PRIMARY KEY, u int, v text); CREATE INDEX t_v ON t (v);
        COMMENT ON CONSTRAINT t_pkey ON t IS 'key'"""
    one_server.execute(ddl)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(({"name": "t", "placement": "hash", "key": ["id"]},), commit="two-phase"))
    (tmp_path / "a.csv").write_text("".join(f"{n},{n},v{n}\n" for n in range(3000)))
    before = [dump(one_server, dsn) for dsn in one_server.shards]
    loader = Loader({"config": str(config), "table": "t"}, tmp_path / "rejects")
    loaded = loader.run(tmp_path / "a.csv", drop_indexes=True)
    assert (loaded.summary.exit_code, loaded.counts) == (0, (3000, 3000, 0))
    assert [dump(one_server, dsn) for dsn in one_server.shards] == before
    kill(
        tmp_path,
        "before making",
        files=[str(tmp_path / "a.csv")],
        config=str(config),
        table="t",
        drop_indexes=True,
        truncate=True,
    )
    assert [[name for name, _ in journal(dsn)] for dsn in one_server.shards] == [["t_pkey", "t_v"]] * 3
    assert repair("-c", str(config)) == (0, "t_pkey, t_v made again")
    assert [dump(one_server, dsn) for dsn in one_server.shards] == before


@pytest.mark.newest
def test_periods(servers18: Servers, tmp_path: Path) -> None:
    databases = Databases.create(servers18, one_server=True)
    try:
        ddl = """CREATE TABLE t (id int4range, at daterange, v int NOT NULL, PRIMARY KEY (id, at WITHOUT OVERLAPS));
            COMMENT ON INDEX t_pkey IS 'over time'"""
        execute(databases.oracle, ddl)
        before = dump(databases, databases.oracle)
        (tmp_path / "a.csv").write_text('"[1,2)","[2020-01-01,2021-01-01)",1\n')
        loader = Loader({"to": databases.oracle, "table": "t"}, tmp_path / "rejects")
        assert loader.run(tmp_path / "a.csv", drop_indexes=True).counts == (1, 1, 0)
        assert dump(databases, databases.oracle) == before
    finally:
        databases.drop()


@pytest.mark.newest
def test_partitions(one_server: Databases, tmp_path: Path) -> None:
    """The whole is refused; a part loses what is its own alone."""
    dsn = one_server.oracle
    execute(
        dsn,
        """CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE INDEX part_v ON part (v);
        CREATE TABLE parent (id int); CREATE INDEX parent_id ON parent (id);
        CREATE TABLE heir () INHERITS (parent); CREATE INDEX heir_id ON heir (id)""",
    )
    before, kept = dump(one_server, dsn), oids(dsn)
    (tmp_path / "a.csv").write_text("1,1\n")
    loader = Loader({"to": dsn}, tmp_path / "rejects")
    refused = loader.run(tmp_path / "a.csv", table="t", drop_indexes=True)
    assert (refused.summary.exit_code, refused.error["sqlstate"]) == (1, "0A000")
    loaded = loader.run(tmp_path / "a.csv", table="part", drop_indexes=True)
    assert "index part_pkey stays: it is part of an index of a partitioned table" in loaded.summary.notes
    (tmp_path / "b.csv").write_text("1\n")
    assert loader.run(tmp_path / "b.csv", table="parent", drop_indexes=True).counts == (1, 1, 0)
    assert {name for name, oid in oids(dsn).items() if kept[name] != oid} == {"part_v", "parent_id"}
    assert dump(one_server, dsn) == before


@pytest.mark.newest
def test_a_key_that_is_needed_is_not_dropped(one_server: Databases, tmp_path: Path) -> None:
    for conflict in ("skip", "update"):
        with pytest.raises(Exception, match="leaves no key for on_conflict"):
            Loader({"to": one_server.oracle}, tmp_path).run("a", table="t", drop_indexes=True, on_conflict=conflict)


TRIGGERS = """CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE fired (name text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO fired VALUES (TG_NAME); RETURN NEW; END $$;
CREATE TRIGGER "the Origin" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER always AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER never AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire();
ALTER TABLE t ENABLE REPLICA TRIGGER replica, ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER never"""

STATES = "SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"


@pytest.mark.parametrize("shards", [False, True], ids=["server", "shards"])
def test_triggers_are_disabled_and_as_they_were(shards: bool, one_server: Databases, tmp_path: Path) -> None:
    one_server.execute(TRIGGERS)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(({"name": "t", "placement": "hash", "key": ["id"]},), unlisted_tables="s0"))
    target = {"config": str(config)} if shards else {"to": one_server.oracle}
    dsns = one_server.shards if shards else [one_server.oracle]
    before = [sorted(query(dsn, STATES)) for dsn in dsns]
    loader = Loader({**target, "table": "t"}, tmp_path / "rejects")
    (tmp_path / "a.csv").write_text("".join(f"{n},1\n" for n in range(100)) + "1,1\nx,1\n")
    loaded = loader.run(tmp_path / "a.csv", disable_triggers=True)
    assert loaded.counts == (102, 100, 2)
    assert [sorted(query(dsn, STATES)) for dsn in dsns] == before
    assert [row for dsn in dsns for row in query(dsn, "SELECT * FROM fired")] == []


@pytest.mark.newest
def test_triggers_need_the_owner(one_server: Databases, tmp_path: Path) -> None:
    execute(one_server.oracle, f"{TRIGGERS}; CREATE ROLE loads LOGIN; GRANT ALL ON t TO loads")
    try:
        (tmp_path / "a.csv").write_text("1,1\n")
        dsn = one_server.oracle.replace("postgres@", "loads@")
        refused = Loader({"to": dsn, "table": "t"}, tmp_path).run(tmp_path / "a.csv", disable_triggers=True)
        assert (refused.error["sqlstate"], refused.error["message"]) == ("42501", "must be owner of table t")
    finally:
        execute(one_server.oracle, "DROP OWNED BY loads; DROP ROLE loads")
