"""The foreign keys that DDL makes, and DDL that makes none."""

import pytest

from shardproxy.sql import ForeignKey, Utility, analyze

NONE = [
    "ALTER TABLE t ALTER COLUMN a TYPE text",
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT 1, DROP COLUMN b",
    "ALTER TABLE t ATTACH PARTITION p FOR VALUES IN (1)",
    "ALTER TABLE t ADD CHECK (a > 0), ADD PRIMARY KEY USING INDEX i, VALIDATE CONSTRAINT c",
    "ALTER TABLE t ALTER CONSTRAINT c DEFERRABLE, OWNER TO x, SET (fillfactor = 50), INHERIT p, OF y",
    "ALTER TABLE t ALTER a ADD GENERATED ALWAYS AS IDENTITY, REPLICA IDENTITY FULL",
    "ALTER VIEW v ALTER COLUMN a SET DEFAULT 1",
    "ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 5",
    "ALTER TYPE y ADD ATTRIBUTE a int, ALTER ATTRIBUTE b TYPE text, DROP ATTRIBUTE c",
    "CREATE TABLE t (LIKE u INCLUDING ALL, a int CHECK (a > 0) UNIQUE)",
    "CREATE TABLE t PARTITION OF u (a DEFAULT 1) FOR VALUES IN (1)",
    "CREATE TABLE t OF y (a WITH OPTIONS PRIMARY KEY)",
    "CREATE SCHEMA s CREATE VIEW v AS SELECT 1",
    "CREATE TABLE t ()",
]


@pytest.mark.parametrize("sql", NONE)
def test_what_makes_none(sql: str) -> None:
    [statement] = analyze(sql)
    assert isinstance(statement, Utility)
    assert statement.foreign_keys == ()


ONE = ForeignKey(("a",), None, "r", (), "cascade", "none", ("a",))
TWO = ForeignKey(("a", "b"), "s", "r", ("x", "y"), "none", "set", ("b",))
TWO_SQL = "FOREIGN KEY (a, b) REFERENCES s.r (x, y) ON DELETE SET DEFAULT (b)"


@pytest.mark.parametrize(
    "sql",
    [
        f"CREATE TABLE t (a int REFERENCES r ON UPDATE CASCADE, b int, {TWO_SQL})",
        f"ALTER TABLE t ADD COLUMN a int CONSTRAINT c REFERENCES r ON UPDATE CASCADE, ADD {TWO_SQL} NOT VALID",
        f"CREATE SCHEMA s CREATE TABLE t (a int REFERENCES r ON UPDATE CASCADE) CREATE TABLE u ({TWO_SQL})",
        f"CREATE TABLE t PARTITION OF u (a REFERENCES r ON UPDATE CASCADE, {TWO_SQL}) DEFAULT",
    ],
)
def test_what_makes_two(sql: str) -> None:
    [statement] = analyze(sql)
    assert isinstance(statement, Utility)
    assert statement.foreign_keys == (ONE, TWO)
