"""What else runs when a reference table is written: triggers, rules, views, functions. No copy may differ by it."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.integration.test_reference_writes import Shop
from tests.support.databases import Databases, Servers, execute

DDL = """
    CREATE TABLE stamped (id serial PRIMARY KEY, name text, changed timestamptz, who uuid);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.changed = clock_timestamp(); NEW.who = gen_random_uuid(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp();
    CREATE TABLE lowered (id serial PRIMARY KEY, name text);
    CREATE FUNCTION lowered() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.name = lower(NEW.name); RETURN NEW; END $$;
    CREATE TRIGGER lowered BEFORE INSERT OR UPDATE ON lowered FOR EACH ROW EXECUTE FUNCTION lowered();
    CREATE TABLE audit (id serial, at timestamptz DEFAULT now(), what text);
    CREATE TABLE audited (id serial PRIMARY KEY, name text);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE TABLE told (id serial PRIMARY KEY, name text);
    CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'told'; RETURN NULL; END $$;
    CREATE TRIGGER told AFTER INSERT OR DELETE ON told FOR EACH STATEMENT EXECUTE FUNCTION told();
    CREATE TABLE late (id int PRIMARY KEY);
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE TABLE ruled (id int PRIMARY KEY, name text);
    CREATE RULE ruled AS ON INSERT TO ruled DO ALSO INSERT INTO audit (what) VALUES (random()::text);
    CREATE TABLE plain (id int PRIMARY KEY, name text);
    CREATE VIEW shown AS SELECT id, name, random() AS r FROM plain;
    CREATE TABLE cascading (id int REFERENCES plain ON DELETE CASCADE);
    CREATE TRIGGER audit AFTER DELETE ON cascading FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE TABLE part (id int PRIMARY KEY);
    CREATE TABLE given (id int REFERENCES part ON DELETE SET DEFAULT DEFAULT random());
    CREATE FUNCTION writes() RETURNS text LANGUAGE sql AS
        $$ INSERT INTO audit (what) VALUES ('f') RETURNING what $$;
    CREATE FUNCTION harmless() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT random()::text $$;
    CREATE TABLE free (id int PRIMARY KEY DEFAULT 1, name text DEFAULT harmless());
    GRANT ALL ON ALL TABLES IN SCHEMA public TO plain_writer;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain_writer;
"""

TABLES = ("stamped", "lowered", "audit", "audited", "told", "late", "ruled", "plain", "cascading", "free",
          "part", "given")  # fmt: skip

pytestmark = pytest.mark.newest


@pytest.fixture(scope="module")
def module_shop(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers, one_server=True)
    try:
        execute(databases.oracle, "CREATE ROLE plain_writer")
        databases.execute(DDL, oracle=False)
        yield Shop(databases, run_proxy_for_module(databases.config(unlisted_tables="reference", commit="one-phase")))
    finally:
        databases.drop()
        execute(servers.oracle.dsn(), "DROP ROLE plain_writer")


@pytest.fixture
def shop(module_shop: Shop) -> Shop:
    module_shop.databases.execute(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY CASCADE", oracle=False)
    return module_shop


def same(shop: Shop) -> dict[str, int]:
    """How many rows each table has, the same ones on every shard."""
    return {table: count for table in TABLES if (count := len(shop.copies(table)))}


def refused(connection: psycopg.Connection[object], statement: str, why: str) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=why) as raised:
        connection.execute(statement.encode())
    assert raised.value.diag.message_hint


def test_a_trigger_that_gives_something_else_each_time(shop: Shop) -> None:
    """Where the session may, the other shards do not fire it: they store what came of it on the first."""
    with shop.connect() as connection:
        connection.execute("INSERT INTO stamped (name) SELECT 'x' FROM generate_series(1, 3)")
        connection.execute("INSERT INTO stamped (id, name) VALUES (7, 'x')")
        connection.execute("UPDATE stamped SET name = 'y' WHERE id = 2")
        connection.execute("INSERT INTO stamped (id) VALUES (2) ON CONFLICT (id) DO UPDATE SET name = 'z'")
        connection.execute("DELETE FROM stamped WHERE id = 3")
        assert connection.execute("SHOW session_replication_role").fetchall() == [("origin",)]
    assert same(shop) == {"stamped": 3}


def test_a_session_that_has_silenced_triggers_keeps_them_silent(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO stamped (name) VALUES ('x')")
        with connection.transaction():
            connection.execute("INSERT INTO stamped (name) SELECT random()::text")
            assert connection.execute("SHOW session_replication_role").fetchall() == [("replica",)]
    assert same(shop) == {"stamped": 2}


def test_the_same_trigger_without_the_right_to_silence_it(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("SET ROLE plain_writer")
        refused(connection, "INSERT INTO stamped (name) VALUES ('x')", 'trigger "stamp"')
        connection.execute("INSERT INTO lowered (name) VALUES ('ABC'), (NULL)")
        connection.execute("UPDATE lowered SET name = 'DEF' WHERE id = 2")
    assert same(shop) == {"lowered": 2}


@pytest.mark.parametrize("role", ["postgres", "plain_writer"])
def test_a_trigger_that_gives_the_same(shop: Shop, role: str) -> None:
    with shop.connect() as connection:
        connection.execute(f"SET ROLE {role}".encode())
        rows = connection.execute("INSERT INTO lowered (name) VALUES ('ABC'), ('D') RETURNING name").fetchall()
        assert rows == [("abc",), ("d",)]
    assert same(shop) == {"lowered": 2}


def test_a_trigger_that_writes_another_table(shop: Shop) -> None:
    with shop.connect() as connection:
        refused(connection, "INSERT INTO audited (name) VALUES ('x')", 'trigger "audit"')
        refused(connection, "INSERT INTO audited VALUES (5, 'x')", 'trigger "audit"')
        connection.execute("UPDATE audited SET name = 'y'")  # it fires for no row
    assert same(shop) == {}


def test_a_trigger_that_writes_nothing(shop: Shop) -> None:
    with shop.connect() as connection:
        notices: list[str | None] = []
        connection.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        connection.execute("INSERT INTO told (name) VALUES ('x'), ('y')")
        connection.execute("DELETE FROM told WHERE id = 1")
        assert notices.count("told") >= 2
    assert same(shop) == {"told": 1}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("INSERT INTO late VALUES (1)", "deferred trigger"),
        ("INSERT INTO ruled VALUES (1, 'x')", "rules"),
        ("INSERT INTO shown (id) VALUES (1)", "view"),
        ("UPDATE shown SET name = 'x'", "view"),
        ("DELETE FROM plain", "foreign keys fire triggers"),
        ("DELETE FROM part WHERE id = 1", "a computed SET DEFAULT"),
        ("INSERT INTO plain VALUES (1, writes())", r"function writes\(\)"),
    ],
)
def test_what_is_refused(shop: Shop, statement: str, why: str) -> None:
    with shop.connect() as connection:
        refused(connection, statement, why)
    assert same(shop) == {}


def test_a_function_that_writes_nothing(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("INSERT INTO free DEFAULT VALUES")
        connection.execute("INSERT INTO free VALUES (2, harmless())")
    assert same(shop) == {"free": 2}


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_that_writes_other_rows_of_its_table(shop: Shop, when: str) -> None:
    """Whether the other shards fire it or not, they do not get the rows that it adds."""
    for shard in shop.databases.shards:
        execute(
            shard,
            "CREATE FUNCTION adds() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN "
            "INSERT INTO plain VALUES (NEW.id + 100); END IF; RETURN NEW; END $$;"
            f"CREATE TRIGGER adds {when} INSERT OR UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION adds()",
        )
    with shop.connect() as connection:
        connection.execute("ALTER TABLE plain RESET (fillfactor)")
        try:
            refused(connection, "INSERT INTO plain VALUES (1, 'x')", 'trigger "adds"')
            with (
                pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "adds"'),
                connection.cursor().copy("COPY plain FROM STDIN") as copy,
            ):
                copy.write_row((1, "x"))
            assert shop.copies("plain") == []
        finally:
            connection.execute("DROP FUNCTION adds() CASCADE")
