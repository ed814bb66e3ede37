"""Where DDL goes, by the places of what it is about."""

from collections.abc import Mapping

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import Home, OneShard, Place, Plan, Replicate, ShardByShard, route
from shardproxy.sql import analyze
from tests.unit.routing.tables import context, places_of, routed, tables_of

HASH = Place("hash", None, ("hash",), ("hash",), listed=True, key=("id",))
OTHER = Place("hash", None, ("other",), ("other",), listed=True, key=("id",))
REF = Place("reference", None, ("reference",), ("reference",), listed=True)
ON_2 = Place("single", 2, ("single", 2), ("single", 2))
ON_3 = Place("single", 3, ("single", 3), ("single", 3), listed=True)
PART = Place("hash", None, ("hash",), ("single", 2), derived=True)

ALL, SINGLE = Replicate(), OneShard(2)

PLACES = {
    "h": HASH, "g": OTHER, "r": REF, "u": ON_2, "u2": ON_2, "s": ON_3, "part": PART, "tmp": Place("temporary", 0),
    "pg_class": Place("catalog"), "pub": Place("publication"), "view_on_2": ON_2,
}  # fmt: skip


def defined(sql: str, places: Mapping[str, Place] = PLACES, nshards: int = 4) -> Plan:
    [statement] = analyze(sql)
    return route(statement, tables_of(statement), context((), nshards, places_of(statement, places)))


@pytest.mark.parametrize(
    ("sql", "plan"),
    [
        ("CREATE TABLE u (a int)", SINGLE),
        ("CREATE TABLE h (a int)", ALL),
        ("CREATE TABLE u (LIKE h, b int REFERENCES r, FOREIGN KEY (b) REFERENCES u2)", SINGLE),
        ("CREATE TABLE new PARTITION OF h DEFAULT", ALL),
        ("CREATE TABLE new () INHERITS (u)", SINGLE),
        ("CREATE SEQUENCE q OWNED BY u.a", SINGLE),
        ("CREATE SEQUENCE q OWNED BY h.a", ALL),
        ("CREATE VIEW v AS SELECT * FROM u, r, pg_class", SINGLE),
        ("CREATE VIEW v AS SELECT * FROM h, r", ALL),
        ("CREATE VIEW v AS SELECT * FROM tmp, r", OneShard(0)),
        ("CREATE OR REPLACE VIEW view_on_2 AS SELECT * FROM pg_class", SINGLE),
        ("DROP TABLE u, u2", SINGLE),
        ("DROP TABLE h, r", ALL),
        ("DROP TABLE IF EXISTS u, missing", SINGLE),
        ("DROP TABLE IF EXISTS missing", ALL),
        ("DROP TRIGGER g ON u", SINGLE),
        ("COMMENT ON COLUMN u.a IS ''", SINGLE),
        ("VACUUM u", SINGLE),
        ("VACUUM h", ShardByShard()),
        ("ALTER TABLE h RENAME TO h", ALL),
        ("ALTER TABLE part RENAME TO new", ALL),
        ("ALTER PUBLICATION pub ADD TABLE h", ALL),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", ALL),
        ("CREATE TYPE t AS (a int)", ALL),
        ("CREATE TABLE u AS SELECT 1", SINGLE),
        ("CREATE TABLE r AS SELECT 1", ALL),
    ],
)
def test_where_it_goes(sql: str, plan: Plan) -> None:
    assert defined(sql) == plan
    assert defined(sql, nshards=1) == Home()


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE u, h",
        "TRUNCATE u, s",
        "CREATE PUBLICATION p FOR TABLE u, h",
        "ALTER PUBLICATION pub ADD TABLE u",
        "CREATE SCHEMA x CREATE TABLE u (a int)",
        "CREATE TABLE h (LIKE u)",
        "CREATE TABLE h (a int REFERENCES u)",
        "CREATE TABLE u (a int REFERENCES h)",
        "CREATE TABLE u (a int REFERENCES s)",
        "CREATE TABLE g PARTITION OF h DEFAULT",
        "CREATE TABLE s () INHERITS (u)",
        "CREATE TABLE new () INHERITS (u, h)",
        "CREATE TABLE h (a int DEFAULT nextval('u'))",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a FROM u; END",
        "CREATE VIEW v AS SELECT * FROM u, s",
        "CREATE VIEW v AS SELECT * FROM u, h",
        "CREATE OR REPLACE VIEW view_on_2 AS SELECT * FROM r",
        "CREATE RULE x AS ON INSERT TO h DO ALSO INSERT INTO u VALUES (1)",
        "CREATE POLICY p ON h USING (EXISTS (SELECT FROM u))",
        "ALTER TABLE h ATTACH PARTITION u DEFAULT",
        "ALTER TABLE h ATTACH PARTITION r DEFAULT",
        "ALTER TABLE h ATTACH PARTITION g DEFAULT",
        "ALTER TABLE h DETACH PARTITION part",
        "ALTER SEQUENCE u OWNED BY h.a",
        "ALTER TABLE h RENAME TO g",
        "ALTER TABLE u RENAME TO h",
        "ALTER INDEX u RENAME TO h",
        "ALTER TABLE r RENAME TO h",
        "ALTER TABLE part RENAME TO g",
        "CREATE TABLE h AS SELECT 1",
        "SELECT 1 INTO h",
        "CREATE DATABASE d",
    ],
)
def test_refused(sql: str) -> None:
    with pytest.raises(PgError) as raised:
        defined(sql)
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint


@pytest.mark.parametrize(
    "sql",
    ["ALTER TABLE h RENAME COLUMN a TO id", "ALTER TABLE h ADD COLUMN id int", "ALTER TABLE h ADD id int, ADD b int"],
)
def test_a_key_that_a_table_lacks(sql: str) -> None:
    """No other column may take its name while there are rows."""
    assert defined(sql) == ALL
    lacking = Place("hash", None, ("hash",), ("hash",), listed=True, key=("id",), lacks=frozenset({"id"}))
    with pytest.raises(PgError, match='key column "id"'):
        defined(sql, {"h": lacking})


def test_a_database_is_not_made_with_one_shard_either() -> None:
    with pytest.raises(PgError, match="CREATE DATABASE is not supported"):
        routed("CREATE DATABASE d", nshards=1)
