"""What DDL is about, by its text."""

import pytest

from shardproxy.sql import CreateAs, Utility, analyze

OBJECTS = [
    ("CREATE TABLE s.t (a int)", "make s.t"),
    ("CREATE TABLE t (LIKE x, z int REFERENCES y, FOREIGN KEY (z) REFERENCES w) INHERITS (p)",
     "make t, parent p, use x, key y, key w"),
    ("CREATE TABLE c PARTITION OF p DEFAULT", "make c, parent p"),
    ("CREATE TABLE t (a int DEFAULT nextval('s.\"S\"'), b int DEFAULT nextval('Q'::regclass))",
     "make t, use q, use s.S"),
    ("CREATE FOREIGN TABLE f (a int) SERVER s", "make f"),
    ("CREATE TABLE t AS SELECT 1", "make t"),
    ("CREATE TEMP TABLE t AS SELECT 1", ""),
    ("SELECT 1 INTO t", "make t"),
    ("CREATE MATERIALIZED VIEW m AS TABLE t", "make m"),
    ("CREATE SEQUENCE s OWNED BY a.t.c", "make s, owner a.t"),
    ("CREATE SEQUENCE s OWNED BY NONE", "make s"),
    ("ALTER SEQUENCE s OWNED BY t.c", "change s, equal t"),
    ("CREATE VIEW v AS WITH c AS (SELECT * FROM x) SELECT * FROM c, t, u", "view v, use t, use u, use x"),
    ("CREATE OR REPLACE VIEW v AS TABLE t", "view v, replaced v, use t"),
    ("CREATE INDEX i ON t (a)", "change t"),
    ("CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()", "change t"),
    ("CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO u VALUES (1)", "change t, use u"),
    ("CREATE POLICY p ON t USING (EXISTS (SELECT FROM u))", "change t, use u"),
    ("CREATE STATISTICS x ON a, b FROM t", "change t"),
    ("CREATE PUBLICATION p FOR TABLE a, b.c", "change a, change b.c"),
    ("CREATE PUBLICATION p FOR ALL TABLES", ""),
    ("ALTER PUBLICATION p ADD TABLE t", "change publication p, equal t"),
    ("CREATE SCHEMA s CREATE TABLE t (a int)", "within s.t"),
    ("CREATE TYPE c AS (a int)", ""),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a FROM t; END", "use t"),
    ("ALTER TABLE t RENAME TO u", "change t, name u"),
    ("ALTER TABLE t SET SCHEMA s", "change t, name s.t"),
    ("ALTER INDEX i RENAME TO u", "change i, name u"),
    ("ALTER SCHEMA s RENAME TO z", "change schema s, name schema z"),
    ("ALTER TABLE t RENAME COLUMN a TO b", "change t"),
    ("ALTER TABLE t ATTACH PARTITION p DEFAULT", "change t, twin p"),
    ("ALTER TABLE t DETACH PARTITION p", "change t, apart p"),
    ("ALTER TABLE t NO INHERIT p", "change t, apart p"),
    ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES q, INHERIT p", "change t, key q, twin p"),
    ("ALTER TABLE t ALTER a SET DEFAULT nextval('s')", "change t, use s"),
    ("ALTER TRIGGER g ON t RENAME TO h", "change t"),
    ("ALTER POLICY p ON t USING (true)", "change t"),
    ("ALTER STATISTICS s.x SET STATISTICS 3", "change statistics s.x"),
    ("ALTER STATISTICS x SET SCHEMA y", "change statistics x"),
    ("ALTER INDEX i DEPENDS ON EXTENSION e", "change i"),
    ("DROP TABLE a, s.b", "change a, change s.b"),
    ("DROP INDEX s.i", "change s.i"),
    ("DROP TRIGGER g ON s.t", "change s.t"),
    ("DROP POLICY p ON t", "change t"),
    ("DROP RULE r ON t", "change t"),
    ("DROP STATISTICS s.x, y", "change statistics s.x, change statistics y"),
    ("DROP PUBLICATION p", "change publication p"),
    ("DROP FUNCTION f", ""),
    ("COMMENT ON TABLE s.t IS ''", "change s.t"),
    ("COMMENT ON COLUMN s.t.a IS ''", "change s.t"),
    ("COMMENT ON CONSTRAINT c ON t IS ''", "change t"),
    ("COMMENT ON CONSTRAINT c ON DOMAIN d IS ''", ""),
    ("COMMENT ON TRIGGER g ON t IS ''", "change t"),
    ("COMMENT ON STATISTICS x IS ''", "change statistics x"),
    ("COMMENT ON SCHEMA s IS ''", ""),
    ("SECURITY LABEL ON TABLE t IS ''", "change t"),
    ("GRANT SELECT ON t, u TO PUBLIC", "change t, change u"),
    ("GRANT USAGE ON SEQUENCE s TO PUBLIC", "change s"),
    ("GRANT SELECT ON ALL TABLES IN SCHEMA s TO PUBLIC", ""),
    ("TRUNCATE a, b", "change a, change b"),
    ("REINDEX INDEX i", "change i"),
    ("REINDEX SCHEMA s", ""),
    ("CLUSTER t USING i", "change t"),
    ("REFRESH MATERIALIZED VIEW m", "change m"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), OBJECTS)
def test_objects(sql: str, expected: str) -> None:
    [statement] = analyze(sql)
    assert isinstance(statement, Utility | CreateAs)
    words = [f"{one.role} {'' if one.kind == 'relation' else one.kind + ' '}{one}" for one in statement.objects]
    assert ", ".join(words) == expected
