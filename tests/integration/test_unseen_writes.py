"""What triggers, rules and functions write besides what a statement names: only what their shard alone has.

A copy of a reference table, rows of a sharded table and what another shard has are refused, and nothing of the
statement stays. All else is as on one server.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.messages import SYNC, bind, describe, execute, joined, parse
from tests.support.rawclient import RawClient
from tests.support.twin import Twin

CLEAN = """
    DROP TABLE IF EXISTS t, ref, one, audit, child CASCADE;
    CREATE TABLE t (a int PRIMARY KEY, b text); CREATE TABLE ref (a int PRIMARY KEY, b text);
    CREATE TABLE one (a int PRIMARY KEY, b text); CREATE TABLE audit (a int, b text);
    DROP FUNCTION IF EXISTS fire, f, g, filter, given, quiet CASCADE;
"""

WRITES_REF = "INSERT INTO ref VALUES (NEW.a, 'audit')"

FIRE = "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {}; RETURN NEW; END $$;"

CHANGES = [
    "INSERT INTO {} VALUES (1000, 'x')",
    "UPDATE {} SET b = 'y' WHERE a = 5",
    "DELETE FROM {} WHERE a = 5",
    "INSERT INTO {} VALUES (5, 'x') ON CONFLICT (a) DO UPDATE SET b = 'z' RETURNING *",
]


@dataclass
class Standing(Twin):
    """With connections that stay: a new one costs each side a backend, and all that it looks up when it is new."""

    sides: list[psycopg.Connection] = field(default_factory=list)
    """To the shards in order, and to the oracle."""
    session: RawClient = field(init=False)
    client: psycopg.Connection = field(init=False)
    keys: list[list[int]] = field(default_factory=list)
    """Of `t`, shard by shard, as the proxy has placed them, and all."""

    @contextmanager
    def standing(self) -> Iterator[Self]:
        """Connect to all, the last two through the proxy."""
        with ExitStack() as stack:
            for dsn in (*self.databases.shards, self.databases.oracle):
                self.sides.append(stack.enter_context(psycopg.connect(dsn, autocommit=True)))
            self.session = stack.enter_context(RawClient(self.dsn))
            self.client = stack.enter_context(psycopg.connect(self.dsn, autocommit=True))
            self.fill()
            self.keys = [[a for (a,) in side.execute("SELECT a FROM t").fetchall()] for side in self.sides]
            yield self

    def clean(self) -> None:
        """Make all tables anew, with the rows of `fill`."""
        filled = "INSERT INTO {} SELECT a, 'row ' || a FROM unnest(ARRAY{}) AS a;"
        for number, side in enumerate(self.sides):
            rows = filled.format("t", self.keys[number]) + filled.format("ref", self.keys[-1])
            if number in {1, len(self.sides) - 1}:
                rows += filled.format("one", self.keys[-1])
            side.execute((CLEAN + rows).encode())
        self.look()

    def make(self, sql: str) -> None:
        """Run definitions on every side."""
        for side in self.sides:
            side.execute(sql.encode())
        self.look()

    def look(self) -> None:
        """Have the proxy forget what it knows of definitions."""
        assert not self.session.query("ALTER TABLE ref RESET (fillfactor)").errors

    def state(self) -> list[list[tuple[Any, ...]]]:
        """Return all rows of the shards."""
        tables = (f"(SELECT json_agg({table} ORDER BY a)::text FROM {table})" for table in ("t", "ref", "one", "audit"))
        asked = f"SELECT {', '.join(tables)}".encode()
        return [side.execute(asked).fetchall() for side in self.sides[:-1]]


@pytest.fixture(scope="module")
def module_twin(
    servers18: Servers, run_proxy_for_module: RunProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standing]:
    """As that of `conftest`, with a place for rows that a COPY sets aside."""
    rejects = {"reject_dir": str(tmp_path_factory.mktemp("rejects"))}
    with (
        Standing.open(servers18, run_proxy_for_module, entry={"load": rejects}) as opened,
        opened.standing() as standing,
    ):
        yield standing


@pytest.fixture
def twin(module_twin: Standing) -> Standing:
    module_twin.clean()
    return module_twin


def refused(twin: Standing, statement: str, kind: str) -> None:
    """Whatever the protocol, in a transaction or not, nothing of it stays."""
    before = twin.state()
    [error] = twin.session.query(statement).errors
    assert (error["C"], kind in error["M"]) == ("0A000", True), error
    assert error["H"]
    assert twin.session.query("SELECT 1").tags == ["SELECT 1"]
    with twin.client.transaction(force_rollback=True):
        twin.client.execute("SELECT 1 FROM t WHERE a = 5")
        for prepare in (False, True):
            with (
                pytest.raises(psycopg.errors.FeatureNotSupported, match=kind),
                twin.client.transaction(),
            ):
                twin.client.execute(statement.encode(), prepare=prepare)
        assert twin.client.execute("SELECT 1").fetchone() == (1,)
    assert twin.state() == before


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_that_writes_a_reference_table(twin: Standing, when: str) -> None:
    trigger = f"CREATE TRIGGER fire {when} INSERT OR UPDATE OR DELETE ON {{}} FOR EACH ROW EXECUTE FUNCTION fire();"
    body = "INSERT INTO ref VALUES (-1, TG_OP) ON CONFLICT (a) DO UPDATE SET b = 'again'"
    twin.make(FIRE.format(body) + trigger.format("t") + trigger.format("one"))
    for table in ("t", "one"):
        for change in CHANGES:
            refused(twin, change.format(table), 'reference table "public.ref"')


def test_a_change_inside_with_fires_it_as_well(twin: Standing) -> None:
    twin.make("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS "
               "$$ BEGIN INSERT INTO ref VALUES (-1, TG_OP); RETURN NULL; END $$;"
               "CREATE TRIGGER fire AFTER DELETE ON one FOR EACH ROW EXECUTE FUNCTION fire()")  # fmt: skip
    moved = "WITH x AS (DELETE FROM one WHERE a = 5 RETURNING *) INSERT INTO one SELECT a + 1000, b FROM x"
    refused(twin, moved, 'reference table "public.ref"')
    refused(twin, f"EXPLAIN ANALYZE {moved}", 'reference table "public.ref"')


def test_a_copy_fires_it_as_well(twin: Standing) -> None:
    trigger = "CREATE TRIGGER fire AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION fire();"
    twin.make(FIRE.format(WRITES_REF) + trigger.format("t") + trigger.format("one"))
    before = twin.state()
    for table, on_error in (("t", "stop"), ("one", "stop"), ("one", "resume_next")):
        with psycopg.connect(twin.dsn, autocommit=True) as connection, connection.cursor() as cursor:
            connection.execute(f"SET shardproxy.on_error = '{on_error}'")
            with (
                pytest.raises(psycopg.errors.FeatureNotSupported, match="reference table"),
                cursor.copy(f"COPY {table} FROM STDIN") as copy,
            ):
                copy.write("1000\tx\n1001\ty\n")
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert twin.state() == before


@pytest.mark.parametrize(
    "made",
    [
        FIRE.format(WRITES_REF) + "CREATE TRIGGER fire AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()",
        "CREATE FUNCTION f(n int) RETURNS bool LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO ref VALUES (-n); RETURN true; END $$; ALTER TABLE t ADD CHECK (f(a)) NOT VALID",
    ],
    ids=["trigger", "check"],
)
def test_what_is_made_on_the_shards_between_two_copies(twin: Standing, made: str) -> None:
    """The race: the second COPY comes while what the first has looked up is kept."""
    with psycopg.connect(twin.dsn, autocommit=True) as connection, connection.cursor() as cursor:
        for key in (1000, 1001):
            with cursor.copy("COPY t FROM STDIN") as copy:
                copy.write(f"{key}\tx\n")
        before = twin.state()
        for side in twin.sides:
            side.execute(made.encode())
        with (
            pytest.raises(psycopg.errors.FeatureNotSupported, match="reference table"),
            cursor.copy("COPY t FROM STDIN") as copy,
        ):
            copy.write("1002\tx\n")
    assert twin.state() == before


def test_a_copy_that_sets_rows_aside_with_one_that_may_write(twin: Standing) -> None:
    """What it has taken back is counted as well, and so it is refused before its data."""
    twin.make(FIRE.format("IF NEW.a < 10000 THEN INSERT INTO t VALUES (NEW.a + 10000, 't'); END IF"))
    twin.make("CREATE TRIGGER fire AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    before = twin.state()
    for on_error, options in (("resume_next", ""), ("stop", " (ON_ERROR ignore, REJECT_LIMIT 2)")):
        with RawClient(twin.dsn) as client:
            assert not client.query(f"SET shardproxy.on_error = '{on_error}'").errors
            for sql in (f"COPY t FROM STDIN{options}", f"COPY t (b, a) FROM STDIN{options}"):
                reply = client.query(sql)
                [error] = reply.errors
                assert (reply.order, error["C"]) == ("EZ", "0A000"), reply
                assert "sets rows aside" in error["M"]
                assert error["H"]
            assert client.query("SELECT 1").tags == ["SELECT 1"]
    assert twin.state() == before
    twin.make("DROP TRIGGER fire ON t")
    with RawClient(twin.dsn) as client:
        client.query("SET shardproxy.on_error = 'resume_next'")
        assert client.copy("COPY t FROM STDIN", b"1000\tx\nabc\ty\n1001\ty\n").tags == ["COPY 2"]


DELETES = "DELETE FROM t WHERE b = NEW.b AND a <> NEW.a"


def test_a_trigger_that_deletes_rows_of_its_own_table(twin: Standing) -> None:
    """On one server, all of them would be found."""
    twin.make(FIRE.format(DELETES))
    twin.make("CREATE TRIGGER fire AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    twin.make("ALTER TABLE t DISABLE TRIGGER fire; UPDATE t SET b = 'same' WHERE a <= 30")
    for side in twin.sides[:-1]:
        side.execute("ALTER TABLE t ENABLE TRIGGER fire")
    twin.look()
    for change in (
        "INSERT INTO t VALUES (1000, 'same')",
        "INSERT INTO t VALUES (1000, 'same'), (1001, 'other'), (1002, 'more') RETURNING a",
        "UPDATE t SET b = 'same' WHERE a = 40",
        "INSERT INTO t VALUES (40, 'same') ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
    ):
        refused(twin, change, 'sharded table "public.t"')
    before = twin.state()
    with RawClient(twin.dsn) as client:
        reply = client.copy("COPY t FROM STDIN", b"1000\tsame\n")
        assert [error["C"] for error in reply.errors] == ["0A000"]
    assert twin.state() == before
    twin.sides[-1].execute("ALTER TABLE t ENABLE TRIGGER fire")
    twin.compare("INSERT INTO t VALUES (2000, 'alone')", "UPDATE t SET b = 'alone too' WHERE a = 2000")


def test_a_delete_and_a_row_that_moves_delete_themselves(twin: Standing) -> None:
    twin.make(
        """DROP TABLE t; CREATE TABLE t (a int, b text, PRIMARY KEY (a, b)) PARTITION BY LIST (b);
        CREATE TABLE t_x PARTITION OF t FOR VALUES IN ('x'); CREATE TABLE t_y PARTITION OF t DEFAULT""",
    )
    twin.fill()
    twin.make("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS "
               "$$ BEGIN INSERT INTO audit VALUES (OLD.a, TG_OP); RETURN NULL; END $$;"
               "CREATE TRIGGER fire AFTER UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION fire()")  # fmt: skip
    twin.compare(
        "UPDATE t SET b = 'x' WHERE a = 5",
        "UPDATE t SET b = 'z' WHERE a = 6",
        "UPDATE t SET b = 'y' WHERE a = 5 RETURNING a, b",
        "DELETE FROM t WHERE a = 5",
        "DELETE FROM t WHERE a = 5",
        "SELECT a, b FROM t",
    )
    assert twin.rows("audit")[0] == twin.rows("audit")[1] != []
    twin.make(F.format("DELETE FROM t WHERE a BETWEEN 20 AND 50"))
    refused(twin, "UPDATE t SET b = 'x' WHERE a = 7 AND f(1) = 1", 'sharded table "public.t"')
    refused(twin, "DELETE FROM t WHERE a = 7 AND f(1) = 1", 'sharded table "public.t"')


@pytest.mark.parametrize(("when", "part"), [("BEFORE INSERT", "t_y"), ("AFTER DELETE", "t_x")])
def test_a_row_that_moves_fires_triggers_of_its_partitions(twin: Standing, when: str, part: str) -> None:
    twin.make(
        """DROP TABLE t; CREATE TABLE t (a int, b text, PRIMARY KEY (a, b)) PARTITION BY LIST (b);
        CREATE TABLE t_x PARTITION OF t FOR VALUES IN ('x'); CREATE TABLE t_y PARTITION OF t DEFAULT""",
    )
    for number in range(1, 9):
        assert not twin.proxied(f"INSERT INTO t VALUES ({number}, 'x')")[0].errors
    twin.make(FIRE.format("INSERT INTO ref VALUES (1000, 'audit')")
         + f"CREATE TRIGGER fire {when} ON {part} FOR EACH ROW EXECUTE FUNCTION fire()")  # fmt: skip
    for number in range(1, 9):
        refused(twin, f"UPDATE t SET b = 'y' WHERE a = {number}", "reference table")


def test_a_statement_whose_tag_does_not_tell_how_many_rows_it_writes(twin: Standing) -> None:
    explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF)"
    twin.make(FIRE.format("IF NEW.a < 10000 THEN INSERT INTO t VALUES (NEW.a + 10000, 't'); END IF"))
    twin.make("CREATE TRIGGER fire AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    refused(twin, f"{explain} INSERT INTO t VALUES (1000, 'x')", 'sharded table "public.t"')
    before = twin.state()
    [reply] = twin.proxied("COPY (INSERT INTO t VALUES (1000, 'x') RETURNING a) TO STDOUT")
    assert [error["C"] for error in reply.errors] == ["0A000"]
    assert twin.state() == before
    twin.make(FIRE.replace("CREATE", "CREATE OR REPLACE").format("INSERT INTO audit VALUES (NEW.a, TG_OP)"))
    refused(twin, f"{explain} INSERT INTO t VALUES (1000, 'x')", 'sharded table "public.t"')
    twin.compare(
        "COPY (INSERT INTO t VALUES (1000, 'x') RETURNING a) TO STDOUT",
        "COPY (DELETE FROM t WHERE a = 5 RETURNING a, b) TO STDOUT",
        "EXPLAIN (COSTS OFF) INSERT INTO t VALUES (1001, 'x')",
        f"{explain} DELETE FROM t WHERE a = 6",
        "SELECT a, b FROM t",
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("INSERT INTO t VALUES (NEW.a + 1, 'more')", "sharded table"),
        ("UPDATE t SET b = 'other' WHERE a <> NEW.a", "sharded table"),
        ("EXECUTE 'INSERT INTO re' || 'f VALUES (-1)'", "reference table"),
        ("PERFORM g()", "reference table"),
        ("DELETE FROM t WHERE a = -1", "sharded table"),
        ("TRUNCATE ref", "reference table"),
        ("DELETE FROM ref WHERE a = 7", "reference table"),
        ("UPDATE ref SET b = 'c' WHERE a = 7", "reference table"),
        ("""PERFORM 1 AS "it's"; INSERT INTO ref VALUES (-1, 'x')""", "reference table"),
        ("PERFORM filter()", "reference table"),
        ("PERFORM x.given FROM ref AS x WHERE x.a = 7", "reference table"),
    ],
)
def test_however_it_writes(twin: Standing, body: str, kind: str) -> None:
    twin.make(
        "CREATE FUNCTION g() RETURNS void LANGUAGE sql AS 'INSERT INTO ref VALUES (-1)';"
        "CREATE FUNCTION filter() RETURNS void LANGUAGE sql AS 'INSERT INTO ref VALUES (-1)';"
        "CREATE FUNCTION given(ref) RETURNS void LANGUAGE sql AS 'INSERT INTO ref VALUES (-1)';",
    )
    body = f"IF pg_trigger_depth() = 1 THEN {body}; END IF"
    twin.make(FIRE.format(body))
    for table in ("one", "t") if "-1" not in body or kind == "reference table" else ("one",):
        twin.make(f"CREATE TRIGGER fire AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fire()")
        refused(twin, f"INSERT INTO {table} VALUES (1000, 'x')", kind)


def test_what_its_shard_alone_has(twin: Standing) -> None:
    """An unlisted table, the same single table, and no table at all: as on one server."""
    twin.make(FIRE.format("INSERT INTO audit VALUES (NEW.a, TG_OP); NEW.b = upper(NEW.b)"))
    twin.make("CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    twin.make("CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON one FOR EACH ROW EXECUTE FUNCTION fire()")
    twin.make(
        """CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN INSERT INTO one VALUES (NEW.a + 1, 'g'); END IF; RETURN NULL; END $$""",
    )
    twin.make("CREATE TRIGGER g AFTER INSERT ON one FOR EACH ROW EXECUTE FUNCTION g()")
    twin.compare(
        *(change.format(table) for table in ("t", "one") for change in CHANGES),
        "BEGIN", "INSERT INTO t VALUES (2000, 'x'), (2000, 'y') ON CONFLICT DO NOTHING", "SAVEPOINT a",
        "INSERT INTO one VALUES (2000, 'y')", "ROLLBACK TO a", "INSERT INTO one VALUES (3000, 'y')", "COMMIT",
        "SELECT a, b FROM t", "SELECT a, b FROM one",
    )  # fmt: skip
    assert len(twin.databases.rows("TABLE audit")[1]) > 4
    for table in ("t", "one", "audit"):
        here, there = twin.rows(table)
        assert here == there


def test_a_trigger_that_only_reads_costs_nothing(twin: Standing) -> None:
    """Its code tells that: there is no transaction around the statement. A write in it makes one."""
    reads = "NEW.b = (SELECT count(*) FROM audit) || TG_OP || (now() = statement_timestamp())"
    twin.make(FIRE.format(f"{reads} /* no INSERT */"))
    twin.make("CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    for key in (1000, 1001, 1002):
        twin.compare(f"INSERT INTO t VALUES ({key})", f"SELECT b FROM t WHERE a = {key}")
        assert twin.proxied(f"SELECT b FROM t WHERE a = {key}")[0].rows == [[b"0INSERTtrue"]]
    twin.make(FIRE.replace("CREATE", "CREATE OR REPLACE", 1).format(f"{reads}; INSERT INTO audit VALUES (0)"))
    replies = twin.proxied("INSERT INTO t VALUES (2000)", "SELECT b FROM t WHERE a = 2000")
    assert replies[-1].rows == [[b"0INSERTfalse"]]


def test_a_write_that_the_trigger_has_undone(twin: Standing) -> None:
    """PostgreSQL counts it all the same."""
    undone = "BEGIN INSERT INTO {} VALUES (-1); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END"
    twin.make(FIRE.format(undone.format("ref")))
    twin.make("CREATE TRIGGER fire BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fire()")
    refused(twin, "INSERT INTO t VALUES (1000, 'x')", "reference table")
    twin.make(FIRE.replace("CREATE", "CREATE OR REPLACE", 1).format(undone.format("audit")))
    twin.compare("INSERT INTO t VALUES (1000, 'x')", "SELECT * FROM t WHERE a = 1000")


def test_a_rule(twin: Standing) -> None:
    twin.make("CREATE RULE more AS ON INSERT TO one DO ALSO INSERT INTO ref VALUES (NEW.a, 'rule')")
    refused(twin, "INSERT INTO one VALUES (1000, 'x')", "reference table")
    twin.compare("UPDATE one SET b = 'y' WHERE a = 5")


def test_foreign_keys_are_no_triggers_of_the_users(twin: Standing) -> None:
    """What their actions change is with the row that it refers to, and triggers there are looked at."""
    twin.make("CREATE TABLE child (a int REFERENCES one ON DELETE CASCADE, b text)")
    twin.make(FIRE.format("INSERT INTO audit VALUES (1, TG_OP)"))
    twin.make("CREATE TRIGGER fire AFTER DELETE ON one FOR EACH ROW EXECUTE FUNCTION fire()")
    twin.sides[1].execute("INSERT INTO child VALUES (5, 'c')")
    twin.compare("DELETE FROM one WHERE a = 5", "SELECT 1")
    assert twin.databases.rows("TABLE child")[1] == []
    twin.make("CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS "
               "$$ BEGIN INSERT INTO ref VALUES (-1); RETURN NULL; END $$;"
               "CREATE TRIGGER g AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION g();")  # fmt: skip
    twin.sides[1].execute("INSERT INTO child VALUES (6, 'c')")
    refused(twin, "DELETE FROM one WHERE a = 6", "reference table")
    twin.make("DROP TABLE child")


def test_a_deferred_trigger(twin: Standing) -> None:
    """It fires when the transaction commits, and could not be looked at."""
    twin.make(FIRE.format("INSERT INTO audit VALUES (NEW.a)"))
    twin.make("CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
               "FOR EACH ROW EXECUTE FUNCTION fire()")  # fmt: skip
    refused(twin, "INSERT INTO t VALUES (1000, 'x')", 'deferred trigger "fire"')
    twin.compare("DELETE FROM t WHERE a = 5")


@pytest.mark.parametrize("table", ["t", "one", "ref"])
@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_on_truncate(twin: Standing, table: str, when: str) -> None:
    """By itself, with another table, and by CASCADE; on one shard or on each."""
    other = "one" if table == "ref" else "ref"
    body = f"INSERT INTO {other} VALUES (-1, TG_OP) ON CONFLICT (a) DO UPDATE SET b = 'again'"
    twin.make("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF true THEN "
              f"{body}; END IF; RETURN NULL; END $$; CREATE TABLE child (a int REFERENCES {table});"
              f"CREATE TRIGGER fire {when} TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fire()")  # fmt: skip
    for statement in (f"TRUNCATE {table} CASCADE", f"/* a */ truncate public.{table}, child"):
        refused(twin, statement, f'table "public.{other}"')
    twin.make(f"DROP TRIGGER fire ON {table};"
              f"CREATE TRIGGER fire {when} TRUNCATE ON child FOR EACH STATEMENT EXECUTE FUNCTION fire()")  # fmt: skip
    refused(twin, f"TRUNCATE {table} CASCADE", f'table "public.{other}"')
    twin.make("DROP FUNCTION fire CASCADE;" + FIRE.format("INSERT INTO audit VALUES (1, TG_OP)"))
    twin.make(f"CREATE TRIGGER fire {when} TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fire()")
    twin.compare("BEGIN", f"TRUNCATE {table} CASCADE", "ROLLBACK", f"SELECT a FROM {table}")
    twin.compare(f"TRUNCATE {table} CASCADE", f"SELECT a FROM {table}")
    shards = [len(rows) for rows in twin.databases.rows("TABLE audit")]
    assert shards == ([0, 1, 0] if table == "one" else [1, 1, 1])


@pytest.mark.parametrize("table", ["t", "one", "ref"])
def test_a_trigger_that_set_constraints_defers(twin: Standing, table: str) -> None:
    """Up to the end of that transaction, and no other."""
    body = "IF NEW.a > 5000 THEN INSERT INTO one VALUES (NEW.a + 1, 'b'); END IF"
    twin.make(FIRE.format(body if table == "ref" else body.replace("one", "audit")))
    twin.make(f"CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON {table} DEFERRABLE FOR EACH ROW EXECUTE FUNCTION fire()")
    inserts = [f"INSERT INTO {table} VALUES ({key}, 'x')" for key in (1000, 1001, 1002, 1003)]
    before = twin.state()
    for words in ("ALL", "public.fire"):
        *_, reply = twin.proxied("BEGIN", "SAVEPOINT a", f"SET CONSTRAINTS {words} DEFERRED", "RELEASE a", inserts[0])
        [error] = reply.errors
        assert (error["C"], 'deferred trigger "fire"' in error["M"]) == ("0A000", True), error
        [reply] = twin.proxied(f"SET CONSTRAINTS {words} DEFERRED; {inserts[0]}")
        assert [error["C"] for error in reply.errors] == ["0A000"]
    assert twin.state() == before
    twin.compare(
        "BEGIN", "SET CONSTRAINTS ALL IMMEDIATE", inserts[0], "SET CONSTRAINTS ALL DEFERRED", "COMMIT", inserts[1],
        "SET CONSTRAINTS ALL DEFERRED", inserts[2], "BEGIN", inserts[3], "COMMIT", f"SELECT a, b FROM {table}",
    )  # fmt: skip


# Functions that a statement calls.

F = "CREATE FUNCTION f(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN {}; RETURN n; END $$;"

CALLS = [
    "SELECT f(1000)",
    "SELECT f(a) FROM t WHERE a = 5",
    "SELECT f(a) FROM t WHERE a < 5",
    "SELECT f(a) FROM ref WHERE a = 5",
    "SELECT * FROM f(1000)",
    "UPDATE t SET b = f(1000)::text WHERE a = 5",
    "INSERT INTO one VALUES (f(1000), 'x')",
    "WITH x AS (INSERT INTO one VALUES (1000, 'x') RETURNING a) SELECT f(a) FROM x",
    "EXPLAIN ANALYZE SELECT f(1000)",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_function_that_writes(twin: Standing, call: str) -> None:
    for table, kind in (("ref", 'reference table "public.ref"'), ("t", 'sharded table "public.t"')):
        if table == "t" and call.startswith("UPDATE t"):
            continue
        twin.make(f"DROP FUNCTION IF EXISTS f; {F.format(f'INSERT INTO {table} VALUES (n + 5000)')}")
        refused(twin, call, kind)


def test_one_of_the_session(twin: Standing) -> None:
    """As an ORM makes it to insert a row unless it is there."""
    steps = (
        "BEGIN",
        "CREATE FUNCTION pg_temp.made(OUT done bool) LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO t VALUES (1000, 'x'); done = true; END $$",
        "SELECT pg_temp.made()",
    )
    before = twin.state()
    *_, reply, end = twin.proxied(*steps, "COMMIT")
    assert [error["C"] for error in reply.errors] == ["0A000"]
    assert end.tags == ["ROLLBACK"]
    assert twin.state() == before


def test_one_that_another_shard_would_have_to_run(twin: Standing) -> None:
    """A table of one shard is written there alone."""
    twin.make(F.format("INSERT INTO one VALUES (n)"))
    refused(twin, "SELECT f(1000)", 'table "public.one"')
    twin.compare("SELECT f(2000) FROM one WHERE a = 5", "SELECT count(*) FROM one")


def test_reads_in_pieces_and_cursors(twin: Standing) -> None:
    twin.make(F.format("INSERT INTO ref VALUES (n + 5000)"))
    before = twin.state()
    with psycopg.connect(twin.dsn) as connection:
        connection.execute("DECLARE c CURSOR FOR SELECT f(a) FROM ref")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"function f\(\)"):
            connection.execute("FETCH 2 FROM c")
        connection.rollback()
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="WITH HOLD"):
            connection.execute("DECLARE c CURSOR WITH HOLD FOR SELECT f(a) FROM ref")
    for sql in ("SELECT f(a) FROM ref", "INSERT INTO one SELECT f(a) + 1000 FROM ref RETURNING a"):
        asked = joined([parse("", sql), bind("", ""), describe("P"), execute(limit=2), SYNC])
        [reply] = twin.proxied(asked)
        assert [error["C"] for error in reply.errors] == ["0A000"]
    assert twin.state() == before


def test_one_that_writes_nothing_here(twin: Standing) -> None:
    twin.make(F.format("INSERT INTO audit VALUES (n)"))
    twin.compare(
        "SELECT f(1000)",
        "SELECT f(a) FROM t WHERE a = 5",
        "BEGIN",
        "SELECT f(7)",
        "INSERT INTO ref VALUES (1000)",
        "COMMIT",
    )
    twin.make(f"DROP FUNCTION f; {F.format('CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (n); DROP TABLE x')}")
    twin.compare("SELECT f(1000)", "SELECT f(1001)")


def test_what_the_transaction_has_written_before(twin: Standing) -> None:
    """It is the client's own, or was looked at: what has been asked is asked again when more was sent."""
    twin.make(F.format("INSERT INTO audit VALUES (n)"))
    twin.compare(
        "BEGIN", "SELECT f(1000)", "INSERT INTO ref VALUES (1000)", "INSERT INTO one VALUES (1000)", "SELECT f(1001)",
        "SELECT f(1002)", "SAVEPOINT a", "UPDATE t SET b = 'y' WHERE a < 5 AND a = 3", "SELECT f(a) FROM t WHERE a = 3",
        "ROLLBACK TO a", "SELECT f(a) FROM t WHERE a = 3", "SELECT f(a) FROM t WHERE a = 4", "COMMIT",
        "SELECT f(a) FROM t WHERE a = 4",
    )  # fmt: skip
    assert len([row for rows in twin.databases.rows("TABLE audit") for row in rows]) == 6


def test_one_that_throws_plans_away(twin: Standing) -> None:
    """The proxy's own question is among them."""
    twin.make(F.format("EXECUTE 'DEALLOCATE ALL'; INSERT INTO audit VALUES (n)"))
    steps = ("SELECT f(1000)", "SELECT f(a) FROM t WHERE a = 5", "SELECT f(a) FROM t WHERE a = 5")
    twin.compare(*steps, "BEGIN", *steps, "SAVEPOINT a", *steps, "ROLLBACK TO a", *steps, "COMMIT", *steps)
    twin.make("DROP FUNCTION f;" + F.format("EXECUTE 'DEALLOCATE ALL'; INSERT INTO ref VALUES (n + 5000)"))
    refused(twin, "SELECT f(1000)", "reference table")
    refused(twin, "SELECT f(a) FROM t WHERE a < 5", "reference table")


def test_one_that_fails(twin: Standing) -> None:
    """On one shard or on all: what was asked along with the statement fails with it, and the session goes on."""
    twin.make(F.format("INSERT INTO audit VALUES (n / (n - 5))"))
    for statement in ("SELECT f(5)", "SELECT f(a) FROM t WHERE a < 40", "SELECT f(5 + a * 0) FROM t"):
        asked = joined([parse("", statement), bind("", ""), execute(), SYNC])
        for step in (statement, asked):
            replies = twin.proxied(
                step,
                "SELECT f(1)",
                "BEGIN",
                "SAVEPOINT a",
                step,
                "SELECT f(1)",
                "ROLLBACK TO a",
                "SELECT f(2)",
                "COMMIT",
            )
            codes = [error["C"] for reply in replies for error in reply.errors]
            assert codes == ["22012", "22012", "25P02"], replies
            assert replies[-1].tags == ["COMMIT"]


def test_one_that_is_cancelled(twin: Standing) -> None:
    """The cancel request to another shard may hit what was asked along with the statement, which has ended there."""
    twin.make(F.format("INSERT INTO audit VALUES (n); PERFORM pg_sleep(CASE WHEN n = 5 THEN 60 ELSE 0 END)"))
    for statement in ("SELECT f(5)", "SELECT f(a) FROM t WHERE a < 40", "UPDATE t SET b = f(a)::text WHERE a = 5"):
        replies = twin.proxied(
            "SET statement_timeout = 300", statement, "SELECT f(1)", "BEGIN", "SAVEPOINT a", statement, "ROLLBACK TO a",
            "SELECT f(2)", "COMMIT",
        )  # fmt: skip
        assert [error["C"] for reply in replies for error in reply.errors] == ["57014"] * 2, replies
        assert replies[-1].tags == ["COMMIT"]
    assert sorted(row for rows in twin.databases.rows("SELECT a FROM audit") for row in rows) == [(1,)] * 3 + [(2,)] * 3


def test_one_that_ends_its_backend(twin: Standing) -> None:
    """What was asked along with the statement is not answered any more."""
    twin.make(F.format("PERFORM pg_terminate_backend(pg_backend_pid()) WHERE n = 5; INSERT INTO audit VALUES (n)"))
    for statement in ("SELECT f(5)", "SELECT f(a) FROM t WHERE a < 40"):
        with RawClient(twin.dsn) as client:
            reply = client.query(statement)
            assert [error["C"] for error in reply.errors] == ["08006"], reply
        assert twin.session.query("SELECT f(1)").tags == ["SELECT 1"]


def test_one_that_deletes_rows_of_the_statements_own_table(twin: Standing) -> None:
    twin.make(F.format("DELETE FROM t WHERE a BETWEEN 20 AND 50"))
    for change in (
        "UPDATE t SET b = 'z' || f(1) WHERE a = 5",
        "INSERT INTO t VALUES (3000, 'k' || f(1))",
        "DELETE FROM t WHERE a = 5 AND f(1) = 1",
    ):
        refused(twin, change, 'sharded table "public.t"')


@pytest.mark.parametrize("table", ["ref", "one", "audit"])
def test_a_change_of_settings_that_calls_one(twin: Standing, table: str) -> None:
    """It would be called on each shard that the session uses."""
    twin.make(F.format(f"INSERT INTO {table} VALUES (n, random()::text)"))
    refused(twin, "SELECT set_config('a.b', f(1000)::text, false)", "change of settings")
    refused(twin, "SELECT set_config('a.b', n::text, false) FROM f(1000) AS n", "change of settings")
    refused(twin, "UPDATE pg_settings SET setting = f(1000) WHERE name = 'geqo_seed'", "change of settings")
    twin.make(f"DROP FUNCTION f; {F.format('PERFORM now()')}")
    twin.compare("SELECT set_config('a.b', f(1000)::text, false)", "SHOW a.b")


@pytest.mark.parametrize("table", ["t", "one"])
def test_a_function_of_a_check(twin: Standing, table: str) -> None:
    twin.make(F.format("INSERT INTO ref VALUES (-n) ON CONFLICT (a) DO UPDATE SET b = 'again'"))
    twin.make(f"ALTER TABLE {table} ADD CHECK (f(a) > 0) NOT VALID")
    for change in CHANGES:
        if not change.startswith("DELETE"):
            refused(twin, change.format(table), 'reference table "public.ref"')
    before = twin.state()
    with RawClient(twin.dsn) as client:
        for _ in range(2):
            reply = client.copy(f"COPY {table} FROM STDIN", b"1000\tx\n")
            assert [error["C"] for error in reply.errors] == ["0A000"]
    assert twin.state() == before
    twin.make(f"DROP FUNCTION f CASCADE; {F.format('INSERT INTO audit VALUES (n)')}")
    twin.make(f"ALTER TABLE {table} ADD CHECK (f(a) > 0) NOT VALID, ADD CHECK (length(b) < 100)")
    twin.compare(*(change.format(table) for change in CHANGES), f"SELECT a, b FROM {table}")


def test_a_function_of_a_check_of_a_reference_table(twin: Standing) -> None:
    """Each shard calls it: a row that it adds to a sharded table would be on all of them."""
    twin.make(F.format("INSERT INTO t VALUES (n + 5000, 'x') ON CONFLICT DO NOTHING"))
    twin.make("ALTER TABLE ref ADD CHECK (f(a) > 0) NOT VALID")
    for change in CHANGES:
        if not change.startswith("DELETE"):
            refused(twin, change.format("ref"), 'sharded table "public.t"')
    before = twin.state()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="sharded table"), twin.client.cursor() as cursor:
        cursor.executemany("INSERT INTO ref VALUES (%s, 'x')", [(1000 + number,) for number in range(5)])
    assert twin.state() == before
    twin.make("DROP FUNCTION f CASCADE;" + F.format("PERFORM given FROM (SELECT 1 AS given) AS x WHERE x.given = 1"))
    twin.make("ALTER TABLE ref ADD CHECK (f(a) > 0) NOT VALID")
    twin.compare(*(change.format("ref") for change in CHANGES), "SELECT a, b FROM ref")
    twin.copies()


WRITER = """CREATE FUNCTION given(number int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO ref VALUES (number, 'audit') ON CONFLICT DO NOTHING; RETURN number; END $$;"""


@pytest.mark.parametrize(
    ("made", "values"),
    [
        ("CREATE TRIGGER fire BEFORE INSERT ON t FOR EACH ROW WHEN (given(1000) > 0) EXECUTE FUNCTION fire()", "'x'"),
        ("CREATE DOMAIN d AS text CHECK (given(1000) > 0); ALTER TABLE t ALTER b TYPE d", "lower('X')"),
        ("CREATE DOMAIN d AS text CHECK (given(1000) > 0); CREATE DOMAIN e AS d; "
         "ALTER TABLE t ALTER b TYPE e[] USING NULL", "ARRAY[lower('X')]"),
        ("CREATE DOMAIN d AS int DEFAULT given(1000); ALTER TABLE t ALTER b TYPE d USING 0", "DEFAULT"),
    ],
)  # fmt: skip
def test_a_function_of_a_triggers_condition_or_of_a_domain(twin: Standing, made: str, values: str) -> None:
    twin.make(f"{FIRE.format('NULL')} {WRITER} {made}; DELETE FROM ref WHERE a = 1000")
    try:
        refused(twin, f"INSERT INTO t (a, b) VALUES (1001, {values})", "reference table")
    finally:
        twin.make("DROP FUNCTION given CASCADE; DROP DOMAIN IF EXISTS d CASCADE")
