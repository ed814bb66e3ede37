"""Tables that make it hard to say what is wrong with a row, beside rows that one PostgreSQL takes one by one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.databases import Databases, execute, query
from tests.support.loading import Loaded, Loader

pytestmark = pytest.mark.newest


def one_by_one(dsn: str, rows: Sequence[str]) -> dict[int, str]:
    """Insert rows into t, each by itself; return the lines and SQLSTATEs of those that are refused."""
    refused = {}
    with psycopg.connect(dsn) as connection:
        for line, row in enumerate(rows, 1):
            values = ", ".join("NULL" if value == "" else f"'{value}'" for value in row.split("|"))
            try:
                with connection.transaction():
                    connection.execute(f"INSERT INTO t VALUES ({values})".encode())
                    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            except psycopg.Error as error:
                refused[line] = error.sqlstate or ""
    return refused


def compare(databases: Databases, directory: Path, ddl: str, rows: Sequence[str], **options: Any) -> Loaded:
    """Load rows with `|` between values into t of one server; the same are refused, and stored, as one by one."""
    here = databases.shards[0]
    for dsn in (here, databases.oracle):
        execute(dsn, ddl)
    refused = one_by_one(databases.oracle, rows)
    expected = sorted(query(databases.oracle, "TABLE t"), key=str)
    (directory / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    loader = Loader({"to": here, "table": "t", "delimiter": "|"}, directory / "rejects")
    for batch_rows in (1, 3, 1000):
        execute(here, "TRUNCATE t")
        loaded = loader.run(directory / "a.csv", batch_rows=batch_rows, **options)
        assert loaded.counts == (len(rows), len(rows) - len(refused), len(refused)), loaded.summary.error
        assert {fact["line"]: fact["sqlstate"] for fact in loaded.facts} == refused
        assert sorted(query(here, "TABLE t"), key=str) == expected
    return loaded


BLIND = """CREATE FUNCTION blind_cmp(text, text) RETURNS int IMMUTABLE LANGUAGE sql AS
  $$ SELECT pg_catalog.btnamecmp(lower($1)::name, lower($2)::name) $$;
CREATE FUNCTION blind_eq(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT lower($1) = lower($2) $$;
CREATE OPERATOR === (FUNCTION = blind_eq, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR CLASS blind_ops FOR TYPE text USING btree AS OPERATOR 3 ===, FUNCTION 1 blind_cmp(text, text);"""
"""Text of which the case does not matter."""

KEYS = {
    "an expression": "CREATE UNIQUE INDEX ON t (lower(b), (id % 10))",
    "a part of the rows": "CREATE UNIQUE INDEX ON t (c) WHERE b <> 'free'",
    "an operator class": f"{BLIND} CREATE UNIQUE INDEX ON t (b blind_ops)",
    "nulls too": "CREATE UNIQUE INDEX ON t (c, p) NULLS NOT DISTINCT",
    "an exclusion": "ALTER TABLE t ADD EXCLUDE USING gist (int4range(c, c + 2) WITH &&)",
    "deferrable": "ALTER TABLE t ADD UNIQUE (c) DEFERRABLE INITIALLY DEFERRED",
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_looked_at_before_a_parent(one_server: Databases, tmp_path: Path, key: str) -> None:
    """A row that lacks its parent, and has the key of one before it in its batch: PostgreSQL says 23505 or 23P01."""
    rows = ["1|a|1|1", "11|A|1|9", "2|free|1|9", "12|free|3|1", "22|FREE|1|9", "3|x|7|", "13|X|7|9", "4|y||9", "5|z||"]
    rows += ["6|b|20|9", "7|c|20|1", "8|B|20|1", "9|d||1", "10|e||1"]
    ddl = f"""CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
        CREATE TABLE t (id int, b text, c int, p int REFERENCES parent); {KEYS[key]}"""
    loaded = compare(one_server, tmp_path, ddl, rows)
    assert {fact["sqlstate"] for fact in loaded.facts} > {"23503"}


def test_operators_of_the_users(one_server: Databases, tmp_path: Path) -> None:
    """What stands before pg_catalog in the search_path is not asked."""
    kinds = ("int4", "int8", "text", "name", "oid", "int2", '"char"')
    ddl = "CREATE SCHEMA theirs; CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);"
    ddl += "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, p int REFERENCES parent, n text CHECK (n <> 'no'));"
    for kind in kinds:
        ddl += f"""CREATE FUNCTION theirs.wrong({kind}, {kind}) RETURNS bool LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'asked' USING ERRCODE = '58000'; END $$;"""
        ddl += "".join(
            f"CREATE OPERATOR theirs.{operator} (FUNCTION = theirs.wrong, LEFTARG = {kind}, RIGHTARG = {kind});"
            for operator in ("=", "<>", "<", ">", "<=", ">=", "~~")
        )
    rows = ["1|1|1|a", "1|2|1|b", "2|1|1|c", "3|3|9|d", "4|4|1|no", "5|5|1|e", "1|7|9|f", "x|8|1|g"]
    path = {"set": {"search_path": "theirs, pg_catalog, public"}, "analyze": False}
    compare(one_server, tmp_path, ddl, rows, **path)
    here = one_server.shards[0]
    loader = Loader({"to": here, "table": "t", "delimiter": "|"}, tmp_path / "more", path)
    for more in ({"on_conflict": "skip"}, {"on_conflict": "update"}, {"concurrency": 2}):
        loaded = loader.run(tmp_path / "a.csv", **more)
        assert (loaded.summary.error, loaded.counts[0]) == (None, len(rows))


def test_constraints_that_are_not_enforced(one_server: Databases, tmp_path: Path) -> None:
    ddl = """CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n > 0) NOT ENFORCED, p int REFERENCES parent NOT ENFORCED)"""
    compare(one_server, tmp_path, ddl, ["1|-1|5", "2|1|", "1|1|", "x|1|", "3|-1|7"])


def test_parents_that_row_security_hides(one_server: Databases, tmp_path: Path) -> None:
    """The foreign key sees them, whoever loads."""
    here, name = one_server.oracle, f"loads_{one_server.name}"
    ddl = f"""CREATE TABLE parent (id int PRIMARY KEY, hidden bool); INSERT INTO parent VALUES (1, false), (2, true);
        CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES parent);
        CREATE ROLE {name} LOGIN; GRANT ALL ON t, parent TO {name};
        ALTER TABLE parent ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON parent USING (NOT hidden)"""
    execute(here, ddl)
    try:
        (tmp_path / "a.csv").write_text("1,1\n2,2\n3,3\n2,2\n")
        loader = Loader({"to": here.replace("postgres@", f"{name}@"), "table": "t"}, tmp_path, {"analyze": False})
        loaded = loader.run(tmp_path / "a.csv")
        assert [(fact["line"], fact["sqlstate"]) for fact in loaded.facts] == [(3, "23503"), (4, "23505")]
        assert query(here, "TABLE t") == [(1, 1), (2, 2)]
    finally:
        execute(here, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_what_the_table_of_its_rows_was_left_with(one_server: Databases, tmp_path: Path) -> None:
    """A batch that cannot be judged in sets leaves none of its rows to the next one."""
    ddl = "CREATE DOMAIN given AS text NOT NULL; CREATE TABLE t (id int PRIMARY KEY, g given, n int)"
    rows = ["1|a|1", "1||1", "2|b|x", "1|c|1", "3|d|1", "3|e|1", "4|f|1", "5||1", "4|g|x", "4|h|1"]
    compare(one_server, tmp_path, ddl, rows)


def test_where_no_table_can_be_made(one_server: Databases, tmp_path: Path) -> None:
    """Rows are judged by COPY alone."""
    name = f"loads_{one_server.name}"
    one_server.execute("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n > 0))", oracle=False)
    tables = ({"name": "t", "placement": "hash", "key": ["id"]},)
    config = tmp_path / "proxy.toml"
    (tmp_path / "a.csv").write_text("1,1\n2,-1\n1,2\n3,x\n4,1\n")
    loader = Loader({"config": str(config), "table": "t"}, tmp_path / "rejects", {"analyze": False})
    config.write_text(one_server.config(tables, commit="two-phase"))
    assert loader.run(tmp_path / "a.csv", check=True).counts == (5, 2, 3)
    execute(one_server.oracle, f"CREATE ROLE {name} LOGIN")
    try:
        for dsn in one_server.shards:
            execute(dsn, f"GRANT ALL ON t TO {name}; GRANT USAGE ON SCHEMA shardproxy TO {name}")
            execute(dsn, f"GRANT ALL ON ALL TABLES IN SCHEMA shardproxy TO {name}")
        config.write_text(re.sub(r"postgres@", f"{name}@", one_server.config(tables, commit="two-phase")))
        loaded = loader.run(tmp_path / "a.csv")
        assert loaded.counts == (5, 2, 3), loaded.summary.error
    finally:
        for dsn in one_server.shards:
            execute(dsn, f"DROP OWNED BY {name}")
        execute(one_server.oracle, f"DROP ROLE {name}")


# Rows that lack their parent.


def test_a_chain_from_its_end(one_server: Databases, tmp_path: Path) -> None:
    """Each row's parent is the one after it: the rows that have become possible are tried, not all each time."""
    execute(one_server.oracle, "CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES t, v text)")
    rows = [f"{n}|{n + 1}|x" for n in range(1, 300)] + ["300||x", "5|300|again"]
    (tmp_path / "a.csv").write_text("".join(f"{row}\n" for row in rows))
    loader = Loader({"to": one_server.oracle, "table": "t", "delimiter": "|"}, tmp_path / "rejects")
    loaded = loader.run(tmp_path / "a.csv", batch_rows=50)
    assert loaded.counts == (301, 300, 1)
    assert [(fact["line"], fact["sqlstate"], fact["row"]) for fact in loaded.facts] == [(5, "23503", "5|6|x\n")]


def test_parents_that_a_trigger_brings(one_server: Databases, tmp_path: Path) -> None:
    execute(
        one_server.oracle,
        """CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES parent);
        CREATE FUNCTION bring() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO parent VALUES (NEW.id) ON CONFLICT DO NOTHING; RETURN NEW; END $$;
        CREATE TRIGGER bring AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION bring()""",
    )
    (tmp_path / "a.csv").write_text("1,2\n2,3\n3,\n4,9\n")
    loader = Loader({"to": one_server.oracle, "table": "t"}, tmp_path / "rejects")
    for batch_rows in (1, 100):
        execute(one_server.oracle, "TRUNCATE t, parent")
        assert loader.run(tmp_path / "a.csv", batch_rows=batch_rows).counts == (4, 3, 1)


def test_rows_whose_parents_cannot_come_count_for_the_limits(one_server: Databases, tmp_path: Path) -> None:
    """At once: nothing else of the load brings a parent."""
    ddl = "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES parent)"
    execute(one_server.oracle, ddl)
    (tmp_path / "a.csv").write_text("".join(f"{n},{n}\n" for n in range(50_000)))
    loader = Loader({"to": one_server.oracle, "table": "t"}, tmp_path / "rejects")
    loaded = loader.run(tmp_path / "a.csv", batch_rows=500, prefetch=1, reject_limit="700")
    assert loaded.error["message"] == "more than reject_limit (700) rows were bad"
    assert query(one_server.oracle, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'load%'") == [(0,)]


# Types, and what the server says.


def test_domains_over_domains(one_server: Databases, tmp_path: Path) -> None:
    """A column is read, and rows are spread, by what is at their bottom."""
    ddl = """CREATE DOMAIN amount AS numeric; CREATE DOMAIN price AS amount CHECK (VALUE > 0);
        CREATE DOMAIN number AS int; CREATE DOMAIN key AS number; CREATE TABLE t (id key PRIMARY KEY, n price)"""
    execute(one_server.oracle, ddl)
    (tmp_path / "a.csv").write_text("1|1,5\n2|-1\n3|1.000,25\n1|2\n")
    loader = Loader({"to": one_server.oracle, "table": "t", "delimiter": "|"}, tmp_path / "rejects")
    loaded = loader.run(tmp_path / "a.csv", decimal=",", thousands=".", concurrency=2)
    assert (loaded.counts, loaded.summary.notes) == ((4, 2, 2), [])
    found = query(one_server.oracle, "SELECT id::int, n::numeric::float FROM t ORDER BY 1")
    assert found == [(1, 1.5), (3, 1000.25)]


def test_a_key_that_takes_other_values_for_the_same_has_one_writer(one_server: Databases, tmp_path: Path) -> None:
    execute(one_server.oracle, f"{BLIND} CREATE TABLE t (a text); CREATE UNIQUE INDEX ON t (a blind_ops)")
    (tmp_path / "a.csv").write_text("".join(f"{'aA'[n % 2]}{n // 2}\n" for n in range(200)))
    loaded = Loader({"to": one_server.oracle, "table": "t"}, tmp_path).run(tmp_path / "a.csv", concurrency=4)
    assert (loaded.counts, loaded.summary.notes) == ((200, 100, 100), ["one writer, as rows cannot be spread by (a)"])


def test_warnings_of_triggers_are_counted(one_server: Databases, tmp_path: Path) -> None:
    execute(
        one_server.oracle,
        """CREATE TABLE t (id int); CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE WARNING 'odd'; RAISE WARNING 'row %', NEW.id; RETURN NEW; END $$;
        CREATE TRIGGER warn BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION warn()""",
    )
    (tmp_path / "a.csv").write_text("".join(f"{n}\n" for n in range(1000)))
    loaded = Loader({"to": one_server.oracle, "table": "t"}, tmp_path).run(tmp_path / "a.csv")
    rows = [f"row {n}" for n in range(19)]
    assert loaded.summary.notes == ["odd (1,000 times)", *rows, "981 other warnings"]


def test_an_error_of_the_callers_is_no_lost_connection(one_server: Databases, tmp_path: Path) -> None:
    execute(one_server.oracle, "CREATE TABLE t (id int)")
    (tmp_path / "a.csv").write_text("x\n")

    def refuse(_: object) -> None:
        raise FileNotFoundError("theirs")

    with pytest.raises(FileNotFoundError, match="theirs"):
        Loader({"to": one_server.oracle, "table": "t"}, tmp_path).run(tmp_path / "a.csv", on_reject=refuse)


COUNTED = """CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 10), k int UNIQUE, d date, counted bigint);
CREATE SEQUENCE tried; CREATE TABLE audit (id int, counted bigint);
CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.counted := nextval('tried'); RETURN NEW; END $$;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO audit VALUES (NEW.id, NEW.counted); RETURN NULL; END $$;
CREATE TRIGGER number BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION number();
CREATE TRIGGER audit AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION audit();"""
"""What lasts of a trigger: a row elsewhere, which goes with its own, and a number, which no rollback gives back."""

BAD = {"date": "{0}|1|{0}|x\n", "check": "{0}|99|{0}|2024-01-01\n", "key": "{0}|1|0|2024-01-01\n"}
GOOD = "{0}|1|{0}|2024-01-01\n"


@pytest.mark.parametrize("bad", [range(4, 1000, 5), range(49, 1000, 50), range(997, 1000)], ids=["5th", "50th", "last"])
@pytest.mark.parametrize("kinds", [*([kind] for kind in BAD), [*BAD]], ids=[*BAD, "all"])
def test_what_triggers_do_is_done_once_for_each_stored_row(
    one_server: Databases, tmp_path: Path, kinds: Sequence[str], bad: range
) -> None:
    """However often its batch has failed. And that is not once for each bad row: the numbers taken are those of one try
    of each row, of one more for each kind of fault, and of the bad rows by themselves."""
    here, rows = one_server.oracle, 1000
    execute(here, COUNTED)
    lines = [GOOD.format(n) for n in range(rows)]
    for place, n in enumerate(bad):
        lines[n] = BAD[kinds[place % len(kinds)]].format(n)
    (tmp_path / "a.csv").write_text("".join(lines))
    loader = Loader({"to": here, "table": "t", "delimiter": "|"}, tmp_path / "rejects")
    loaded = loader.run(tmp_path / "a.csv", columns=["id", "n", "k", "d"])
    assert loaded.counts == (rows, rows - len(bad), len(bad)), loaded.summary.error
    assert query(here, "SELECT id, counted FROM audit ORDER BY id") == query(
        here, "SELECT id, counted FROM t ORDER BY id"
    )
    [(stored, numbers, taken)] = query(
        here, "SELECT count(*), count(DISTINCT counted), (SELECT last_value FROM tried) FROM audit"
    )
    assert stored == numbers == rows - len(bad)
    assert stored <= taken <= (1 + len(kinds)) * rows + len(bad)


def test_what_triggers_do_is_done_once_if_no_row_is_bad(one_server: Databases, tmp_path: Path) -> None:
    execute(one_server.oracle, COUNTED)
    (tmp_path / "a.csv").write_text("".join(map(GOOD.format, range(1000))))
    loader = Loader({"to": one_server.oracle, "table": "t", "delimiter": "|"}, tmp_path / "rejects")
    assert loader.run(tmp_path / "a.csv", columns=["id", "n", "k", "d"]).counts == (1000, 1000, 0)
    found = query(one_server.oracle, "SELECT count(*), (SELECT last_value FROM tried) FROM audit")
    assert found == [(1000, 1000)]
