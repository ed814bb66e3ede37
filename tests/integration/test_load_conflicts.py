"""`on_conflict`: rows whose key is there, beside rows that are upserted one by one on one PostgreSQL."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.databases import Databases, execute, query
from tests.support.loading import Loaded, Loader

PARENT = "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2), (3);"
COLUMNS = ("id", "u", "p", "v")
BODY = "id int, u int, p int, v text, n int NOT NULL DEFAULT 7, made text DEFAULT 'new'"

TABLES = {
    "plain": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id))",
    "checks and parents": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id), CHECK (v <> 'v3'),
        FOREIGN KEY (p) REFERENCES parent); ALTER TABLE t ALTER u SET NOT NULL""",
    "another unique": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id), UNIQUE (id, v), CHECK (v <> 'v3'), UNIQUE (id, u))",
    "a column beside": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id), CHECK (u <> n OR made = 'new'))",
    "computed": f"CREATE TABLE t ({BODY}, x int GENERATED ALWAYS AS (10 / (u - 3)) STORED, PRIMARY KEY (id))",
    "identity": "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, u int, p int, v text, n int)",
    "trigger": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id));
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.v = 'v1' THEN RETURN NULL; END IF;
          NEW.made := concat(NEW.made, ' ', TG_OP); RETURN NEW; END $$;
        CREATE TRIGGER change BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION change()""",
    "after trigger": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id));
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.v = 'v1' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'P0001'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()""",
}
"""Tables that shards may have: the key of all unique constraints is `id`, by which rows are placed."""

ALONE = {
    "values that swap": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id), UNIQUE (u))",
    "values that children have": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id), UNIQUE (u));
        CREATE TABLE child (u int REFERENCES t (u))""",
    "deferred": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id), UNIQUE (u) DEFERRABLE INITIALLY DEFERRED)",
    "excluded": f"CREATE TABLE t ({BODY}, PRIMARY KEY (id), EXCLUDE USING btree (u WITH =))",
    "partitions": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id)) PARTITION BY HASH (id);
        CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)""",
    "a part that drops": f"""CREATE TABLE t ({BODY}, PRIMARY KEY (id)) PARTITION BY HASH (id);
        CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.v = 'v1' THEN RETURN NULL; END IF; RETURN NEW; END $$;
        CREATE TRIGGER pass BEFORE INSERT ON t1 FOR EACH ROW EXECUTE FUNCTION pass()""",
    "nulls": f"CREATE TABLE t ({BODY}, CONSTRAINT k UNIQUE (id, u))",
}
"""Tables of one server."""

SOME_ROWS = "INSERT INTO t (id, u, p, v, n) OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, 'old', 4), (2, 2, 1, 'old', 5)"


@dataclass
class OneByOne:
    """What has become of rows that were upserted one by one."""

    stored: int = 0
    updated: int = 0
    dropped: int = 0
    aside: tuple[tuple[int, str], ...] = ()
    """Line and SQLSTATE."""


def one_by_one(dsn: str, rows: Sequence[str], constraint: str, *, identity: bool) -> OneByOne:
    found = OneByOne()
    names = [name for name in COLUMNS if not (identity and name == "id")]
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
    with psycopg.connect(dsn) as connection:

        def count() -> int:
            [(found,)] = connection.execute("SELECT count(*) FROM t")
            return int(found)

        for line, row in enumerate(rows, 1):
            values = ", ".join("NULL" if value == "" else f"'{value}'" for value in row.split(","))
            sql = f"""INSERT INTO t ({", ".join(COLUMNS)}) OVERRIDING SYSTEM VALUE VALUES ({values})
                ON CONFLICT ON CONSTRAINT {constraint} DO UPDATE SET {sets}"""
            before = count()
            try:
                with connection.transaction():
                    done = connection.execute(sql.encode()).rowcount
                    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            except psycopg.Error as error:
                found.aside += ((line, error.sqlstate or ""),)
                continue
            new = count() - before
            found.stored += new
            found.updated += done - new
            found.dropped += not done
    return found


def random_rows(chance: random.Random, count: int) -> list[str]:
    def one() -> str:
        bad = chance.random() < 0.05
        key = "" if chance.random() < 0.03 else str(chance.randrange(1, 2 + count // 2))
        u = "x" if bad else "" if chance.random() < 0.1 else str(chance.randrange(1, 12))
        return f"{key},{u},{chance.choice(['1', '2', '3', '', '1', '2', '9'])},v{chance.randrange(40)}"

    return [one() for _ in range(count)]


def compare(
    loader: Loader, databases: Databases, name: str, file: Path, seed: int, *, shards: Sequence[str], rows: int = 60
) -> None:
    """Load random rows, and have them upserted one by one on the oracle: the same must be left, and told."""
    chance = random.Random(f"{name} {seed}")
    lines = random_rows(chance, rows)
    constraint = "k" if name == "nulls" else "t_pkey"
    file.write_text("".join(f"{line}\n" for line in lines))
    expected = one_by_one(databases.oracle, lines, constraint, identity=name == "identity")
    given: dict[str, Any] = {"conflict_key": "k"} if name == "nulls" else {}
    loaded = loader.run(
        file,
        table="t",
        columns=COLUMNS,
        on_conflict="update",
        batch_rows=chance.choice([1, 3, 10, 1000]),
        **given,
    )
    summary = loaded.summary
    assert summary.error is None
    aside = tuple((fact["line"], fact["sqlstate"]) for fact in loaded.facts)
    assert aside == expected.aside
    assert (summary.stored, summary.updated, summary.dropped) == (expected.stored, expected.updated, expected.dropped)
    assert loaded.counts == (rows, expected.stored, len(aside))
    everything = "SELECT * FROM t ORDER BY t::text"
    assert sorted((row for dsn in shards for row in query(dsn, everything)), key=str) == sorted(
        query(databases.oracle, everything), key=str
    )


def seeds(databases: Databases) -> tuple[int, ...]:
    """Each version has rows of its own."""
    return (1, 2) if databases.version >= 18 else (3,)


@pytest.mark.parametrize("name", [*TABLES, *ALONE])
def test_replacing_on_one_server(one_server: Databases, name: str, tmp_path: Path) -> None:
    """The rows that are there afterwards, and what is told of each, are as if they had come one by one."""
    here = one_server.shards[0]
    for dsn in (here, one_server.oracle):
        execute(dsn, PARENT + (TABLES | ALONE)[name])
        execute(dsn, SOME_ROWS)
        if name == "values that children have":
            execute(dsn, "INSERT INTO child VALUES (1)")
    loader = Loader({"to": here}, tmp_path / "rejects")
    for seed in seeds(one_server):
        compare(loader, one_server, name, tmp_path / "a.csv", seed, shards=[here], rows=60)


@pytest.mark.newest
@pytest.mark.parametrize("name", TABLES)
def test_replacing_over_shards(one_server: Databases, name: str, tmp_path: Path) -> None:
    one_server.execute(PARENT + TABLES[name])
    config = tmp_path / "proxy.toml"
    placed = ({"name": "t", "placement": "hash", "key": ["id"]}, {"name": "parent", "placement": "reference"})
    config.write_text(one_server.config(placed, commit="two-phase"))
    loader = Loader({"config": str(config)}, tmp_path / "rejects")
    for seed in seeds(one_server):
        compare(loader, one_server, name, tmp_path / "a.csv", seed, shards=one_server.shards, rows=60)


REFUSED = [
    ("CREATE TABLE t (id int, v int)", {}, "42P10", "has no primary key", "Add a unique constraint."),
    ("CREATE TABLE t (id int CONSTRAINT k UNIQUE, v int)", {}, "42P10", "has no primary key", "`conflict_key`: k."),
    ("CREATE TABLE t (id int PRIMARY KEY, v int)", {"conflict_key": "k"}, "42704", '"k"', "t_pkey"),
    ("CREATE TABLE t (id int PRIMARY KEY, v int)", {"columns": ("v",)}, "42P10", '"id"', "Load it"),
    ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int)", {}, "0A000", "deferrable", "conflict_key"),
    (
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING",
        {},
        "0A000",
        "rules",
        "INSERT them from there",
    ),
    ("CREATE VIEW t AS SELECT 1 AS id, 2 AS v", {}, "0A000", "a view", "Load the table below it."),
    ("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES t)", {}, "0A000", "to itself", "INSERT them from there"),
]


@pytest.mark.newest
@pytest.mark.parametrize(("ddl", "given", "state", "message", "hint"), REFUSED)
def test_replacing_is_refused(
    one_server: Databases, tmp_path: Path, ddl: str, given: dict[str, Any], state: str, message: str, hint: str
) -> None:
    """Before any row, and with a way out."""
    execute(one_server.oracle, ddl)
    (tmp_path / "a.csv").write_text("1,1\n" if "columns" not in given else "1\n")
    loaded = Loader({"to": one_server.oracle}, tmp_path).run(
        tmp_path / "a.csv", table="t", on_conflict="update", **given
    )
    assert (loaded.summary.exit_code, loaded.summary.read, loaded.error["sqlstate"]) == (1, 0, state)
    assert message in loaded.error["message"]
    assert hint in loaded.error["hint"]


@pytest.mark.newest
def test_replacing_across_shards_is_refused(one_server: Databases, tmp_path: Path) -> None:
    """The row that is there may be on another shard; a reference table has its rows on all."""
    one_server.execute("CREATE TABLE t (id int PRIMARY KEY, place int); CREATE TABLE r (id int PRIMARY KEY, v int)")
    config = tmp_path / "proxy.toml"
    placed = ({"name": "t", "placement": "hash", "key": ["place"]}, {"name": "r", "placement": "reference"})
    config.write_text(one_server.config(placed, commit="two-phase"))
    (tmp_path / "a.csv").write_text("1,1\n")
    loader = Loader({"config": str(config)}, tmp_path)
    for table, message in (("t", "may be on another shard"), ("r", "is a reference table")):
        loaded = loader.run(tmp_path / "a.csv", table=table, on_conflict="update")
        assert loaded.error["sqlstate"] == "0A000"
        assert message in loaded.error["message"]


def skip(databases: Databases, ddl: str, rows: str, directory: Path) -> Loaded:
    execute(databases.oracle, ddl)
    (directory / "a.csv").write_text(rows)
    return Loader({"to": databases.oracle}, directory).run(directory / "a.csv", table="t", on_conflict="skip")


def test_skipping_is_what_do_nothing_is(one_server: Databases, tmp_path: Path) -> None:
    """Any unique index and any exclusion constraint of the table, and nothing else."""
    ddl = """CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, r int4range, c int CHECK (c < 10),
        EXCLUDE USING gist (r WITH &&)); CREATE UNIQUE INDEX i ON t (c) WHERE c > 5;
        INSERT INTO t VALUES (1, 1, '[1,2)', 1)"""
    rows = '1,2,"[2,3)",2\n2,1,"[3,4)",3\n3,3,"[1,5)",4\n4,4,"[7,8)",99\n5,5,"[9,10)",6\n6,6,"[11,12)",6\n'
    loaded = skip(one_server, ddl, rows, tmp_path)
    assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(4, "23514")]
    assert (loaded.summary.stored, loaded.summary.skipped) == (1, 4)


@pytest.mark.parametrize("shards", [False, True], ids=["server", "shards"])
def test_skipping_in_many_batches(shards: bool, one_server: Databases, tmp_path: Path) -> None:
    """Batches without a row that is there, of which all are, and of both, with bad rows among them."""
    one_server.execute("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 100))")
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(({"name": "t", "placement": "hash", "key": ["id"]},)))
    loader = Loader({"config": str(config)} if shards else {"to": one_server.oracle}, tmp_path, {"table": "t"})
    chance = random.Random(7)
    rows: list[tuple[int, str]] = []
    for again in (0.0, 1.0, 0.5, 0.0, 0.9, 0.1):
        for _ in range(300):
            key = chance.choice(rows)[0] if rows and chance.random() < again else len(rows) + 1
            rows.append((key, chance.choice(["1"] * 60 + ["x", "500"])))
    there: set[int] = set()
    bad: dict[int, str] = {}
    skipped = 0
    for line, (key, value) in enumerate(rows, 1):
        if value != "1":
            bad[line] = {"x": "22P02", "500": "23514"}[value]
        elif key in there:
            skipped += 1
        there |= {key} if value == "1" else set()
    (tmp_path / "a.csv").write_text("".join(f"{key},{value}\n" for key, value in rows))
    loaded = loader.run(tmp_path / "a.csv", on_conflict="skip", batch_rows=50)
    assert loaded.counts == (len(rows), len(there), len(bad))
    assert loaded.summary.skipped == skipped
    assert {fact["line"]: fact["sqlstate"] for fact in loaded.facts} == bad
    dsns = one_server.shards if shards else [one_server.oracle]
    assert {key for dsn in dsns for (key,) in query(dsn, "SELECT id FROM t")} == there


@pytest.mark.newest
def test_what_a_trigger_refuses_is_not_skipped(one_server: Databases, tmp_path: Path) -> None:
    """A unique violation in another table says nothing of the row's own key."""
    ddl = """CREATE TABLE log (v int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, v int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO log VALUES (NEW.v); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note(); INSERT INTO t VALUES (1, 1)"""
    loaded = skip(one_server, ddl, "2,1\n1,2\n3,3\n", tmp_path)
    assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(1, "23505")]
    assert (loaded.summary.stored, loaded.summary.skipped) == (1, 1)


@pytest.mark.newest
def test_partitions_skip(one_server: Databases, tmp_path: Path) -> None:
    ddl = """CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE UNIQUE INDEX ON low (v);
        INSERT INTO t VALUES (1, 1)"""
    loaded = skip(one_server, ddl, "1,2\n2,1\n3,3\n30,3\n", tmp_path)
    assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(4, "23514")]
    assert (loaded.summary.stored, loaded.summary.skipped) == (1, 2)
