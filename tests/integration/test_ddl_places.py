"""DDL of every kind of object is done on the shards that have it, and nowhere else.

Each statement runs on one PostgreSQL and through the proxy. SQLSTATEs must be the same, and after each statement the
catalogs of every shard must have what that one PostgreSQL's have of the tables that belong there, and nothing more.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import SHARDS, Databases, Servers

TABLES = (
    {"name": "h", "placement": "hash", "key": ["id"]},
    {"name": "ref", "placement": "reference"},
    {"name": "solo", "placement": "single", "shard": "s2"},
    {"name": "h2", "placement": "hash", "key": ["id"]},
    {"name": "hk", "placement": "hash", "key": ["a"]},
    {"name": "solo2", "placement": "single", "shard": "s2"},
)
ALL = frozenset(range(SHARDS))
SETTINGS = {"s0": frozenset({0}), "s1": frozenset({1}), "reference": ALL, "error": ALL}
"""unlisted_tables, and the shards of unlisted tables."""

# Of each table; every object's name begins with the table's and an underscore.
UP = """
CREATE TABLE {t} (id int PRIMARY KEY, a int, b text, c serial)
CREATE TABLE {t} (id int PRIMARY KEY)
CREATE TABLE IF NOT EXISTS {t} (id int PRIMARY KEY)
COMMENT ON TABLE {t} IS 'table'
COMMENT ON COLUMN {t}.a IS 'column'
COMMENT ON CONSTRAINT {t}_pkey ON {t} IS 'constraint'
ALTER TABLE {t} ADD COLUMN d int
ALTER TABLE {t} ADD CONSTRAINT {t}_check CHECK (a > 0)
ALTER TABLE {t} RENAME CONSTRAINT {t}_check TO {t}_checked
ALTER TABLE {t} RENAME COLUMN b TO bb
ALTER SEQUENCE {t}_c_seq INCREMENT BY 2
COMMENT ON SEQUENCE {t}_c_seq IS 'sequence'
GRANT USAGE ON SEQUENCE {t}_c_seq TO PUBLIC
CREATE SEQUENCE {t}_s OWNED BY {t}.a
ALTER SEQUENCE {t}_s OWNED BY {t}.id
ALTER TABLE {t} ALTER COLUMN a SET DEFAULT nextval('{t}_s')
ALTER SEQUENCE {t}_s RENAME TO {t}_s2
ALTER SEQUENCE {t}_s RESTART
CREATE INDEX {t}_i ON {t} (a)
CREATE UNIQUE INDEX CONCURRENTLY {t}_u ON {t} (id, a)
COMMENT ON INDEX {t}_i IS 'index'
ALTER INDEX {t}_i RENAME TO {t}_i2
ALTER INDEX {t}_i2 SET (fillfactor = 50)
REINDEX INDEX {t}_i2
REINDEX TABLE {t}
CLUSTER {t} USING {t}_pkey
CREATE VIEW {t}_v AS SELECT id, a FROM {t}
CREATE OR REPLACE VIEW {t}_v AS SELECT id, a, bb FROM {t}
CREATE VIEW {t}_vv AS SELECT id FROM {t}_v
COMMENT ON VIEW {t}_v IS 'view'
ALTER VIEW {t}_v ALTER COLUMN a SET DEFAULT 1
ALTER VIEW {t}_vv RENAME TO {t}_ww
GRANT SELECT ON {t}, {t}_v TO PUBLIC
ALTER VIEW {t}_ww SET SCHEMA other
CREATE TRIGGER {t}_t BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION nothing()
COMMENT ON TRIGGER {t}_t ON {t} IS 'trigger'
ALTER TRIGGER {t}_t ON {t} RENAME TO {t}_t2
ALTER TABLE {t} DISABLE TRIGGER {t}_t2
CREATE POLICY {t}_y ON {t} USING (a > 0)
ALTER POLICY {t}_y ON {t} USING (a > 1)
COMMENT ON POLICY {t}_y ON {t} IS 'policy'
CREATE RULE {t}_r AS ON INSERT TO {t}_v DO INSTEAD NOTHING
COMMENT ON RULE {t}_r ON {t}_v IS 'rule'
CREATE STATISTICS {t}_x ON a, bb FROM {t}
COMMENT ON STATISTICS {t}_x IS 'statistics'
ALTER STATISTICS {t}_x SET STATISTICS 5
ALTER STATISTICS {t}_x RENAME TO {t}_x2
CREATE PUBLICATION {t}_p FOR TABLE {t}
COMMENT ON PUBLICATION {t}_p IS 'publication'
ALTER PUBLICATION {t}_p SET (publish = 'insert')
ALTER PUBLICATION {t}_p RENAME TO {t}_p2
ALTER TABLE {t} REPLICA IDENTITY FULL
ANALYZE {t}
VACUUM {t}
TRUNCATE {t}
DROP INDEX {t}_i
DROP INDEX IF EXISTS {t}_i
DROP TRIGGER {t}_t ON {t}
DROP TABLE {t}
ALTER TABLE {t}_nothing ADD COLUMN a int
"""
DOWN = """
ALTER PUBLICATION {t}_p2 DROP TABLE {t}
DROP PUBLICATION {t}_p2
DROP PUBLICATION {t}_p2
DROP STATISTICS {t}_x2
DROP RULE {t}_r ON {t}_v
DROP POLICY {t}_y ON {t}
DROP TRIGGER {t}_t2 ON {t}
REVOKE SELECT ON {t} FROM PUBLIC
DROP VIEW other.{t}_ww, {t}_v
DROP VIEW IF EXISTS {t}_v
DROP INDEX {t}_u
DROP INDEX CONCURRENTLY {t}_i2
DROP SEQUENCE {t}_s2
ALTER TABLE {t} ALTER COLUMN a DROP DEFAULT
DROP SEQUENCE {t}_s2
DROP SEQUENCE IF EXISTS {t}_s2
DROP TABLE {t}
DROP TABLE {t}
DROP TABLE IF EXISTS {t}
"""

STATE = """
SELECT 'relation', n.nspname || '.' || c.relname, c.relkind::text || coalesce(c.relacl::text, '')
    || coalesce(c.reloptions::text, '') || c.relreplident::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE n.nspname IN ('public', 'other')
UNION ALL SELECT 'column', n.nspname || '.' || c.relname, a.attname
    || coalesce(pg_get_expr(d.adbin, d.adrelid), '') FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE n.nspname IN ('public', 'other') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'constraint', 'public.' || c.relname, k.conname FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL SELECT 'sequence', s.schemaname || '.' || s.sequencename, s.increment_by::text FROM pg_sequences s
UNION ALL SELECT 'owner', 'public.' || c.relname, d.refobjsubid::text
  FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
  WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'a' AND c.relkind = 'S'
UNION ALL SELECT 'trigger', 'public.' || tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'policy', 'public.' || polname, pg_get_expr(polqual, polrelid) FROM pg_policy
UNION ALL SELECT 'rule', 'public.' || rulename, '' FROM pg_rules WHERE schemaname = 'public'
UNION ALL SELECT 'statistics', 'public.' || stxname, '' FROM pg_statistic_ext
UNION ALL SELECT 'publication', 'public.' || pubname, pubupdate::text FROM pg_publication
UNION ALL SELECT 'published', 'public.' || p.pubname, r.prrelid::regclass::text FROM pg_publication_rel r
  JOIN pg_publication p ON p.oid = r.prpubid
UNION ALL SELECT 'comment', coalesce('public.' || c.relname, 'public.' || t.tgname, 'public.' || y.polname,
    'public.' || r.rulename, 'public.' || x.stxname, 'public.' || p.pubname, 'public.' || k.conname), description
  FROM pg_description d
  LEFT JOIN pg_class c ON c.oid = objoid AND classoid = 'pg_class'::regclass
  LEFT JOIN pg_trigger t ON t.oid = objoid AND classoid = 'pg_trigger'::regclass
  LEFT JOIN pg_policy y ON y.oid = objoid AND classoid = 'pg_policy'::regclass
  LEFT JOIN pg_rewrite r ON r.oid = objoid AND classoid = 'pg_rewrite'::regclass
  LEFT JOIN pg_statistic_ext x ON x.oid = objoid AND classoid = 'pg_statistic_ext'::regclass
  LEFT JOIN pg_publication p ON p.oid = objoid AND classoid = 'pg_publication'::regclass
  LEFT JOIN pg_constraint k ON k.oid = objoid AND classoid = 'pg_constraint'::regclass
  WHERE objoid >= 16384
"""

DDL = (
    b"CREATE SCHEMA other",
    b"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
)
SCHEMAS = r"SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|shardproxy)'"

Fact = tuple[str, str, str]


@dataclass
class Sides:
    """One PostgreSQL, the proxy, and what each shard has."""

    databases: Databases
    oracle: psycopg.Connection
    proxy: psycopg.Connection
    shards: list[psycopg.Connection]
    unlisted: frozenset[int]
    others: dict[str, frozenset[int]] = field(default_factory=dict)
    """The shards of what does not go by a listed name."""

    def run(self, statement: str) -> None:
        """Run a statement on both sides, and compare SQLSTATEs and catalogs."""
        expected, got = state_of(self.oracle, statement), state_of(self.proxy, statement)
        assert got == expected, statement
        facts = state(self.oracle)
        for number, shard in enumerate(self.shards):
            there = {fact for fact in facts if number in self.shards_of(fact[1])}
            assert state(shard) == there, f"shard {number} after {statement}"

    def refused(self, statement: str) -> None:
        """Run a statement that the proxy refuses, and that changes nothing."""
        before = [state(shard) for shard in self.shards]
        assert state_of(self.proxy, statement) == "0A000", statement
        assert [state(shard) for shard in self.shards] == before, statement

    def shards_of(self, name: str) -> frozenset[int]:
        """Return the shards of an object, whose name begins with the one of its table."""
        table = name.partition(".")[2].partition("_")[0]
        listed = {"h": ALL, "h2": ALL, "hk": ALL, "ref": ALL, "solo": frozenset({2}), "solo2": frozenset({2})}
        return self.others.get(table) or listed.get(table) or self.unlisted


def state_of(connection: psycopg.Connection, statement: str) -> str:
    """Run a statement and return its SQLSTATE; what is refused has a hint."""
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        hinted = error.diag.message_hint is not None or error.sqlstate != "0A000"
        return f"{error.sqlstate}" if hinted else "no hint"
    return "00000"


def state(connection: psycopg.Connection) -> set[Fact]:
    """Return what a database has."""
    return {
        (str(kind), str(name), str(fact))
        for kind, name, fact in connection.execute(STATE.encode(), prepare=True).fetchall()
    }


@pytest.fixture(scope="module", params=["s0", "reference", "error"])
def unlisted(
    request: pytest.FixtureRequest, servers18: Servers, run_proxy_for_module: RunProxy
) -> Iterator[tuple[str, Databases, str]]:
    """A value of unlisted_tables, databases, and the DSN of a proxy over them."""
    databases = Databases.create(servers18, one_server=True)
    try:
        config = databases.config(TABLES, unlisted_tables=request.param)
        yield request.param, databases, run_proxy_for_module(config).dsn("shop")
    finally:
        databases.drop()


@pytest.fixture
def sides(unlisted: tuple[str, Databases, str]) -> Iterator[Sides]:
    """Both sides with nothing in them but a schema and a function."""
    setting, databases, dsn = unlisted
    with ExitStack() as stack:
        oracle, proxy, *shards = (
            stack.enter_context(psycopg.connect(one, autocommit=True))
            for one in (databases.oracle, dsn, *databases.shards)
        )
        for connection in (oracle, *shards):
            connection.execute("SET plan_cache_mode = force_generic_plan")  # planning `state` takes 10 ms
            for (name,) in connection.execute("SELECT pubname FROM pg_publication").fetchall():
                connection.execute(f'DROP PUBLICATION "{name}"'.encode())
        for connection in (oracle, proxy):
            for (schema,) in connection.execute(SCHEMAS).fetchall():
                connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())
            connection.execute("CREATE SCHEMA public")
            for statement in DDL:
                connection.execute(statement)
        yield Sides(databases, oracle, proxy, shards, SETTINGS[setting])


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line]


# Where a listed table is does not depend on `unlisted_tables`.
@pytest.mark.parametrize(
    ("unlisted", "table"),
    [("s0", "h"), ("reference", "ref"), ("error", "solo"), ("s0", "u"), ("reference", "u")],
    indirect=["unlisted"],
)
def test_each_object_is_where_its_table_is(sides: Sides, table: str) -> None:
    """Up and down, and up again."""
    for step in (*lines(UP), *lines(DOWN)):
        sides.run(step.format(t=table))
    *steps, last = lines(UP)
    for step in steps:
        statement = step.format(t=table)
        assert state_of(sides.proxy, statement) == state_of(sides.oracle, statement), statement
    sides.run(last.format(t=table))


def test_statements_of_several_tables(sides: Sides) -> None:
    """What is on the same shards may be in one statement, and what is on all goes by schema."""
    for table in ("h", "ref", "solo", "u"):
        sides.run(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    sides.run("CREATE TABLE solo2 (id int PRIMARY KEY, a int)")
    sides.run("TRUNCATE h, ref")
    sides.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC")
    sides.run("REVOKE SELECT ON h, ref FROM PUBLIC")
    sides.run("DROP TABLE solo, solo2")
    sides.run("CREATE TABLE solo (id int PRIMARY KEY)")
    for statement in ("DROP TABLE h, solo", "TRUNCATE ref, solo", "GRANT UPDATE ON h, solo TO PUBLIC"):
        sides.refused(statement)
    if sides.unlisted != ALL:
        sides.refused("DROP TABLE IF EXISTS u, h")
        sides.refused("CREATE PUBLICATION p FOR TABLE u, h")
        sides.refused("CREATE SCHEMA more CREATE TABLE x (a int)")
    sides.run("DROP TABLE h, ref")
    sides.run("CREATE TABLE other.u (a int)")
    sides.run("DROP SCHEMA other CASCADE")


def test_what_rests_on_other_tables(sides: Sides) -> None:
    """LIKE, REFERENCES, INHERITS, partitions and views are on the shards of what they name, or are refused."""
    for table in ("h", "ref", "solo", "u"):
        sides.run(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    sides.others |= {"l": sides.unlisted, "v": ALL, "vs": frozenset({2}), "c": ALL, "cs": frozenset({2})}
    sides.run("CREATE TABLE l (LIKE ref, x int REFERENCES ref)")
    sides.run("CREATE TABLE solo2 (LIKE h, FOREIGN KEY (id) REFERENCES solo (id))")
    sides.run("CREATE VIEW v AS SELECT h.id FROM h JOIN ref USING (id)")
    sides.run("CREATE VIEW vs AS SELECT solo.id FROM solo JOIN ref USING (id)")
    sides.run("CREATE MATERIALIZED VIEW vs_m AS SELECT id FROM solo")
    sides.run("CREATE MATERIALIZED VIEW v_m AS SELECT id FROM ref")
    sides.run("REFRESH MATERIALIZED VIEW v_m")
    sides.run("REFRESH MATERIALIZED VIEW vs_m")
    sides.run("CREATE INDEX vs_m_i ON vs_m (id)")
    sides.run("CREATE TABLE c () INHERITS (ref)")
    sides.run("CREATE TABLE cs () INHERITS (solo)")
    sides.run("CREATE INDEX c_i ON c (id)")
    sides.run("CREATE INDEX cs_i ON cs (id)")
    sides.run("CREATE RULE vs_r AS ON DELETE TO vs DO INSTEAD DELETE FROM ref")
    for statement in (
        "CREATE TABLE h2 (id int REFERENCES solo)",
        "CREATE TABLE h2 (LIKE solo)",
        "CREATE TABLE h2 () INHERITS (solo)",
        "CREATE TABLE solo3 (id int) INHERITS (h, solo)",
        "ALTER TABLE solo ADD FOREIGN KEY (id) REFERENCES h",
        "ALTER TABLE h ADD FOREIGN KEY (a) REFERENCES solo",
        "ALTER TABLE solo INHERIT h",
        "CREATE VIEW w AS SELECT h.id FROM h JOIN solo USING (id)",
        "CREATE OR REPLACE VIEW vs AS SELECT id FROM h",
        "CREATE RULE r AS ON INSERT TO h DO ALSO INSERT INTO solo VALUES (1)",
        "CREATE POLICY p ON h USING (EXISTS (SELECT FROM solo))",
        "CREATE TABLE h2 (id int, FOREIGN KEY (id) REFERENCES solo)",
    ):
        sides.refused(statement)
    sides.run("ALTER TABLE c NO INHERIT ref" if sides.unlisted == ALL else "ALTER TABLE c ADD x int")
    sides.run("DROP VIEW vs")
    sides.run("DROP MATERIALIZED VIEW vs_m")
    sides.run("DROP TABLE solo CASCADE")
    sides.run("DROP TABLE ref CASCADE")
    sides.run("DROP TABLE IF EXISTS c, u, l CASCADE" if sides.unlisted == ALL else "DROP TABLE u, l CASCADE")
    sides.run("DROP TABLE h CASCADE")
    sides.run("DROP TABLE solo2")


def test_partitions_are_with_their_parent(sides: Sides) -> None:
    sides.others |= {"p": ALL, "ps": frozenset({2})}
    for parent, prefix in (("h", "p"), ("solo", "ps"), ("u", "u")):
        sides.run(f"CREATE TABLE {parent} (id int, a int) PARTITION BY LIST (id)")
        sides.run(f"CREATE TABLE {prefix}_1 PARTITION OF {parent} FOR VALUES IN (1) PARTITION BY LIST (a)")
        sides.run(f"CREATE TABLE {prefix}_11 PARTITION OF {prefix}_1 DEFAULT")
        sides.run(f"CREATE INDEX {parent}_i ON {parent} (id)")
        sides.run(f"CREATE INDEX {prefix}_11i ON {prefix}_11 (a)")
        sides.run(f"ALTER TABLE {prefix}_11 ALTER COLUMN a SET STATISTICS 5")
        sides.run(f"DROP INDEX {prefix}_11i")
        sides.run(f"COMMENT ON TABLE {prefix}_1 IS 'a partition'")
    sides.refused("CREATE TABLE ref PARTITION OF h DEFAULT")
    sides.run("ALTER TABLE u DETACH PARTITION u_1")
    sides.run("ALTER TABLE u ATTACH PARTITION u_1 FOR VALUES IN (1)")
    if sides.unlisted != ALL:
        sides.run("CREATE TABLE u_alone (id int, a int)")
        sides.refused("ALTER TABLE h ATTACH PARTITION u_alone DEFAULT")
        sides.refused("ALTER TABLE h DETACH PARTITION p_1")
    for table in ("p_11", "p_1", "h", "solo", "u"):
        sides.run(f"DROP TABLE {table}")


def test_free_sequences_and_views_are_unlisted(sides: Sides) -> None:
    sides.run("CREATE SEQUENCE u_s")
    sides.run("CREATE TABLE u (id int DEFAULT nextval('u_s'))")
    sides.run("ALTER SEQUENCE u_s OWNED BY u.id")
    sides.run("CREATE VIEW u_v AS SELECT 1 AS a")
    sides.run("CREATE OR REPLACE VIEW u_v AS SELECT 1 AS a, relname FROM pg_class")
    sides.run("CREATE SEQUENCE u_free")
    if sides.unlisted != ALL:
        sides.refused("CREATE TABLE h (id int DEFAULT nextval('u_free'))")
        assert sides.proxy.execute("SELECT nextval('u_free')").fetchone() == (1,)
    for statement in ("DROP VIEW u_v", "DROP TABLE u", "DROP SEQUENCE u_s", "DROP SEQUENCE u_free"):
        sides.run(statement)


def test_a_session_that_began_on_another_shard(sides: Sides) -> None:
    """Its first statement has connected it to one that has not the unlisted tables."""
    dsn = sides.proxy.info.dsn
    sides.run("CREATE TABLE h (id int PRIMARY KEY, a int)")
    for number in range(1, 6):
        with psycopg.connect(dsn, autocommit=True) as sides.proxy:
            sides.proxy.execute("SELECT a FROM h WHERE id = %s", (number,))
            sides.run("CREATE TABLE u (id serial PRIMARY KEY)")
            [(name,)] = sides.proxy.execute("SELECT pg_get_serial_sequence('u', 'id')").fetchall()
            assert name == "public.u_id_seq"
        with psycopg.connect(dsn, autocommit=True) as sides.proxy:
            sides.proxy.execute("SELECT a FROM h WHERE id = %s", (number + 1,))
            sides.run("CREATE INDEX u_i ON u (id)")
            sides.run("ALTER INDEX u_i RENAME TO u_j")
            sides.run("DROP INDEX u_j")
            sides.run("DROP TABLE u")


def test_ddl_in_a_transaction(sides: Sides) -> None:
    """What an open transaction has made is found, and a rollback leaves nothing."""
    for table in ("h", "solo", "u"):
        for end in ("ROLLBACK", "COMMIT"):
            for connection in (sides.oracle, sides.proxy):
                connection.execute("BEGIN")
                for statement in (
                    f"CREATE TABLE {table} (id int PRIMARY KEY, a int)",
                    f"CREATE INDEX {table}_i ON {table} (a)",
                    f"ALTER INDEX {table}_i RENAME TO {table}_j",
                    f"CREATE VIEW {table}_v AS SELECT * FROM {table}",
                    f"COMMENT ON VIEW {table}_v IS 'v'",
                    f"LOCK TABLE {table}",
                ):
                    connection.execute(statement.encode())
                connection.execute(end.encode())
            sides.run(f"DROP TABLE IF EXISTS {table}_nothing")
        sides.run(f"DROP VIEW {table}_v")
        sides.run(f"DROP TABLE {table}")


def test_constraints_are_set_where_they_are(sides: Sides) -> None:
    """Django's migrations set each foreign key that they drop, by its name alone."""
    for table in ("ref", "solo", "u"):
        sides.run(f"CREATE TABLE {table} (id int PRIMARY KEY, a int CONSTRAINT {table}_f REFERENCES {table} "
                  "DEFERRABLE INITIALLY DEFERRED)")  # fmt: skip
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {table}_f"
        names = (f"{table}_f", f"public.{table}_f", f"{table}_f, {table}_f", f"other.{table}_f", "nothing", "ALL")
        for name in names if state_of(sides.proxy, f"TABLE {table}") == "00000" else ():
            outcomes = []
            for connection in (sides.oracle, sides.proxy):
                with connection.transaction(force_rollback=True):
                    connection.execute(f"INSERT INTO {table} VALUES (1, 2)".encode())
                    outcomes.append(state_of(connection, f"SET CONSTRAINTS {name} IMMEDIATE"))
            assert outcomes[0] in {"23503", "3F000", "42704"}
            assert outcomes[0] == outcomes[1], f"{table} {name}"
        sides.run(f"SET CONSTRAINTS {table}_f IMMEDIATE; {drop}")
        sides.run(f"DROP TABLE {table}")


def test_temporary_relations_stay_with_the_session(sides: Sides) -> None:
    for statement in (
        "CREATE TEMP TABLE t (a int)",
        "CREATE INDEX t_i ON t (a)",
        "ALTER INDEX t_i RENAME TO t_j",
        "COMMENT ON COLUMN t.a IS 'a'",
        "CREATE VIEW tv AS SELECT * FROM t",
        "DROP VIEW tv",
        "DROP INDEX t_j",
        "TRUNCATE t",
        "DROP TABLE t",
        "DROP TABLE t",
    ):
        assert state_of(sides.proxy, statement) == state_of(sides.oracle, statement), statement


def test_a_table_is_not_moved_by_its_name(sides: Sides) -> None:
    """Its rows would stay where they are, and be looked for elsewhere."""
    for table in ("h", "ref", "solo", "u"):
        sides.run(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    sides.run("CREATE INDEX solo_i ON solo (a)")
    for old, new in (("ref", "h2"), ("h", "hk"), ("h", "solo2"), ("solo", "h2"), ("u", "h2")):
        sides.refused(f"ALTER TABLE {old} RENAME TO {new}")
        sides.refused(f"ALTER INDEX {old} RENAME TO {new}")  # PostgreSQL renames tables so, too
    sides.refused("ALTER TABLE h SET SCHEMA other")
    sides.run("ALTER TABLE h RENAME TO h2")
    sides.run("ALTER TABLE h2 RENAME TO h")
    sides.run("ALTER TABLE solo RENAME TO solo2")
    sides.run("ALTER INDEX solo_i RENAME TO solo_j")
    sides.run("ALTER TABLE u RENAME TO u_2")
    sides.run("ALTER TABLE u_2 SET SCHEMA other")


def test_tables_are_not_moved_by_the_name_of_their_schema(sides: Sides) -> None:
    sides.run("CREATE TABLE h (id int PRIMARY KEY, a int)")
    sides.refused("ALTER SCHEMA public RENAME TO old")
    sides.run("DROP TABLE h")
    for statement, expected in (
        ("CREATE TABLE other.h (id int PRIMARY KEY, a int)", "00000"),
        ("ALTER SCHEMA public RENAME TO old", "00000"),
        ("ALTER SCHEMA other RENAME TO public", "0A000"),
        ("ALTER SCHEMA other RENAME TO another", "00000"),
        ("ALTER SCHEMA old RENAME TO public", "00000"),
    ):
        assert state_of(sides.proxy, statement) == expected, statement


def test_another_column_is_not_made_the_key(sides: Sides) -> None:
    sides.run("CREATE TABLE h (id int PRIMARY KEY, a int)")
    for number in range(10):
        sides.proxy.execute("INSERT INTO h VALUES (%s, 1)", (number,))
    sides.run("ALTER TABLE h RENAME COLUMN id TO old")
    sides.refused("ALTER TABLE h RENAME COLUMN a TO id")
    sides.refused("ALTER TABLE h ADD COLUMN id int")
    sides.run("ALTER TABLE h RENAME COLUMN old TO id")
    assert len(sides.proxy.execute("SELECT * FROM h").fetchall()) == 10
    # Without rows there is nothing to lose.
    sides.run("CREATE TABLE h2 (a int)")
    sides.run("ALTER TABLE h2 RENAME COLUMN a TO id")


def test_nor_by_its_type(sides: Sides) -> None:
    """The columns of a typed table are those of its type."""
    sides.others["pair"] = ALL
    sides.run("CREATE TYPE pair AS (id int, a int)")
    sides.run("CREATE TABLE h OF pair")
    for change in (
        "RENAME ATTRIBUTE id TO old CASCADE",
        "RENAME ATTRIBUTE a TO id CASCADE",
        "DROP ATTRIBUTE id CASCADE",
        "ALTER ATTRIBUTE id TYPE numeric CASCADE",
    ):
        sides.refused(f"ALTER TYPE pair {change}")
    sides.run("ALTER TYPE pair RENAME ATTRIBUTE a TO aa CASCADE")
    sides.run("ALTER TABLE h NOT OF")
    sides.run("ALTER TYPE pair RENAME ATTRIBUTE id TO old CASCADE")


def test_nor_by_its_parent(one_server: Databases, run_proxy: RunProxy) -> None:
    """One that is not listed, as others cannot have it."""
    proxy = run_proxy(one_server.config(TABLES))
    with psycopg.connect(proxy.dsn(), autocommit=True) as client:
        for table in ("h", "base"):
            client.execute(f"CREATE TABLE {table} (id int, a int)".encode())
        client.execute("ALTER TABLE h INHERIT base")
        for change in ("RENAME id TO old", "RENAME a TO id", "ALTER id TYPE numeric", "DROP id"):
            assert state_of(client, f"ALTER TABLE base {change}") == "0A000", change
        client.execute("ALTER TABLE base RENAME a TO aa")
        client.execute("ALTER TABLE h NO INHERIT base")
        client.execute("ALTER TABLE base RENAME id TO old")


def test_a_new_table_of_rows_goes_where_it_is_listed(sides: Sides) -> None:
    """CREATE TABLE AS and SELECT INTO of a table that is not there yet."""
    for name in ("h", "h2", "hk"):
        sides.refused(f"CREATE TABLE {name} AS SELECT 1 AS id, 2 AS a")
        sides.refused(f"SELECT 1 AS id, 2 AS a INTO {name}")
    for name in ("ref", "solo", "u"):
        sides.run(f"CREATE TABLE {name} AS SELECT 1 AS id")
        sides.run(f"DROP TABLE {name}")
        sides.run(f"SELECT 1 AS id INTO {name}")
        if name != "u" or sides.unlisted != ALL:
            sides.run(f"CREATE TABLE IF NOT EXISTS {name} AS SELECT 1 AS id")
            sides.run(f"CREATE TABLE {name} AS SELECT 1 AS id")


def test_databases_are_not_made(sides: Sides) -> None:
    """No client could connect to them."""
    sides.refused("CREATE DATABASE more")


def test_what_acts_on_rows_acts_on_those_of_every_shard(sides: Sides) -> None:
    """The catalogs tell where an object is, not whether a shard has done what was to be done with its rows."""
    sides.run("CREATE TABLE h (id int PRIMARY KEY, a int, c serial)")
    sides.run("CREATE INDEX h_i ON h (a)")

    def fill(first: int) -> None:
        for number in range(first, first + 24):
            assert state_of(sides.proxy, f"INSERT INTO h VALUES ({number}, {100 - number})") == "00000"

    def each(query: str) -> list[object]:
        return [value for shard in sides.shards for (value,) in shard.execute(query.encode()).fetchall()]

    fill(1)
    rows = each("SELECT count(*) FROM h")
    assert 0 not in rows
    estimates = "SELECT reltuples::int FROM pg_class WHERE relname = 'h'"
    assert not set(each(estimates)) & set(rows)
    sides.run("ANALYZE h")
    assert each(estimates) == rows
    for statement, relation in (
        ("REINDEX TABLE h", "h_pkey"),
        ("REINDEX INDEX h_i", "h_i"),
        ("VACUUM FULL h", "h"),
        ("CLUSTER h USING h_i", "h"),
    ):
        files = f"SELECT pg_relation_filenode('{relation}')"
        before = each(files)
        sides.run(statement)
        assert all(new != old for new, old in zip(each(files), before, strict=True)), statement
    assert each("SELECT array_agg(a ORDER BY ctid) = array_agg(a ORDER BY a) FROM h") == [True] * SHARDS
    sides.run("ALTER SEQUENCE h_c_seq RESTART WITH 1000")
    assert each("SELECT last_value FROM h_c_seq") == [1000] * SHARDS
    fill(25)
    assert each("SELECT min(c) FROM h WHERE id >= 25") == [1000] * SHARDS
    sides.run("TRUNCATE h RESTART IDENTITY")
    assert each("SELECT count(*) FROM h") == [0] * SHARDS
    assert each("SELECT last_value FROM h_c_seq WHERE NOT is_called") == [1] * SHARDS
