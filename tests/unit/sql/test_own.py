"""Every spelling in which a statement names the proxy's own schema, and what only looks like it."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import Context, Resolved, route
from shardproxy.sql import SCHEMA, Code, Utility, analyze

NAMING = (
    "SET search_path = x, shardproxy",
    "SET LOCAL SCHEMA 'shardproxy'",
    "SELECT set_config('Search_Path', 'x, ShardProxy', false)",
    "SELECT set_config('search_path', '\"shardproxy\", x', true)",
    "ALTER ROLE r SET search_path = shardproxy",
    "ALTER DATABASE d SET search_path = x, shardproxy",
    "ALTER FUNCTION f() SET search_path = shardproxy",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql SET search_path = shardproxy AS 'DELETE FROM decisions'",
    "DROP TABLE shardproxy.decisions",
    'DROP TABLE "shardproxy"."decisions" CASCADE',
    "DROP SCHEMA shardproxy CASCADE",
    "DROP SCHEMA IF EXISTS x, SHARDPROXY",
    "ALTER SCHEMA shardproxy RENAME TO x",
    "ALTER SCHEMA shardproxy OWNER TO x",
    "CREATE SCHEMA IF NOT EXISTS shardproxy",
    "CREATE SCHEMA shardproxy CREATE TABLE t (a int)",
    "GRANT ALL ON SCHEMA shardproxy TO x",
    "REVOKE ALL ON ALL TABLES IN SCHEMA shardproxy FROM x",
    "GRANT ALL ON shardproxy.decisions TO x",
    "COMMENT ON SCHEMA shardproxy IS 'x'",
    "COMMENT ON TABLE shardproxy.identity IS 'x'",
    "COMMENT ON COLUMN shardproxy.identity.id IS 'x'",
    "SECURITY LABEL ON TABLE shardproxy.identity IS 'x'",
    "ALTER TABLE t SET SCHEMA shardproxy",
    "ALTER TABLE shardproxy.place SET SCHEMA public",
    "ALTER FUNCTION f() SET SCHEMA shardproxy",
    "CREATE TABLE shardproxy.x (a int)",
    "CREATE TABLE x (LIKE shardproxy.place)",
    "CREATE TABLE x (a text REFERENCES shardproxy.decisions)",
    "CREATE VIEW v AS SELECT * FROM shardproxy.decisions",
    "CREATE FUNCTION shardproxy.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM shardproxy.decisions'",
    'CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN DROP SCHEMA "shardproxy"; END$$',
    "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM shardproxy.decisions; END",
    "CREATE TRIGGER t AFTER INSERT ON shardproxy.decisions EXECUTE FUNCTION f()",
    "CREATE RULE r AS ON INSERT TO shardproxy.decisions DO INSTEAD NOTHING",
    "CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM shardproxy.decisions",
    "CREATE POLICY p ON shardproxy.decisions",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA shardproxy",
    "CREATE PUBLICATION p FOR TABLE shardproxy.decisions",
    "REINDEX SCHEMA shardproxy",
    "REINDEX TABLE shardproxy.decisions",
    "REINDEX INDEX shardproxy.decisions_pkey",
    "VACUUM FULL shardproxy.decisions",
    "CLUSTER shardproxy.decisions USING decisions_pkey",
    "TRUNCATE t, shardproxy.decisions",
    "LOCK TABLE shardproxy.decisions",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA shardproxy GRANT ALL ON TABLES TO x",
    "CREATE EXTENSION hstore SCHEMA shardproxy",
    "IMPORT FOREIGN SCHEMA s FROM SERVER z INTO shardproxy",
    "DROP INDEX shardproxy.decisions_pkey",
    "ALTER INDEX shardproxy.decisions_pkey RENAME TO x",
    "DROP TYPE shardproxy.decisions",
    "ALTER EXTENSION hstore ADD TABLE shardproxy.decisions",
    "ALTER EXTENSION hstore SET SCHEMA shardproxy",
    "CREATE STATISTICS s ON a, b FROM shardproxy.decisions",
    "CREATE INDEX i ON shardproxy.decisions (outcome)",
    "DO $$ BEGIN DELETE FROM shardproxy.decisions; END $$",
    "CREATE TYPE shardproxy.t AS ENUM ()",
    "CREATE DOMAIN shardproxy.d AS int",
    "CREATE SEQUENCE shardproxy.s",
    "CREATE SEQUENCE s OWNED BY shardproxy.place.number",
    "ALTER SEQUENCE s OWNED BY shardproxy.place.number",
    "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION shardproxy.f()",
    "ALTER TABLE t INHERIT shardproxy.place",
    "CREATE TABLE t (a int) INHERITS (shardproxy.place)",
    "ALTER TABLE t ATTACH PARTITION shardproxy.place DEFAULT",
    "DROP TRIGGER t ON shardproxy.decisions",
    "DROP POLICY t ON shardproxy.decisions",
    "ALTER TRIGGER t ON shardproxy.decisions RENAME TO u",
    "CREATE AGGREGATE shardproxy.a (int) (SFUNC = int4pl, STYPE = int)",
    "CREATE OPERATOR shardproxy.+ (FUNCTION = f, LEFTARG = int, RIGHTARG = int)",
    "DROP FUNCTION shardproxy.f(int)",
    "CREATE MATERIALIZED VIEW shardproxy.m AS SELECT 1",
    "SELECT 1 INTO shardproxy.m",
    "DROP OWNED BY CURRENT_USER",
    "DROP OWNED BY other, app CASCADE",
    "REASSIGN OWNED BY app TO other",
    "DELETE FROM shardproxy.decisions",
    "WITH gone AS (DELETE FROM shardproxy.decisions RETURNING *) SELECT * FROM gone",
    "SELECT * FROM shardproxy.decisions",
    "TABLE SHARDPROXY.place",
    "COPY shardproxy.decisions FROM STDIN",
    "COPY shardproxy.decisions TO STDOUT",
    "COPY (DELETE FROM shardproxy.decisions RETURNING gid) TO STDOUT",
    "EXPLAIN ANALYZE DELETE FROM shardproxy.decisions",
    "PREPARE p AS DELETE FROM shardproxy.decisions",
    "DECLARE c CURSOR FOR SELECT * FROM shardproxy.decisions FOR UPDATE",
    'UPDATE U&"shard\\0070roxy".place SET number = 1',
)

OTHERS = (
    "CREATE TABLE shardproxy (shardproxy int PRIMARY KEY, b int, UNIQUE (shardproxy, b))",
    "DROP TABLE shardproxy",
    "DROP TABLE public.shardproxy",
    "COMMENT ON TABLE t IS 'shardproxy'",
    "GRANT ALL ON t TO shardproxy",
    "CREATE ROLE shardproxy",
    "DROP ROLE shardproxy",
    "DROP DATABASE shardproxy",
    "CREATE INDEX shardproxy ON t (shardproxy)",
    "ALTER TABLE t ALTER a SET DEFAULT 'shardproxy'",
    "CREATE PUBLICATION shardproxy FOR TABLE t",
    "CREATE SERVER shardproxy FOREIGN DATA WRAPPER w",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 -- shardproxy.'",
    "CREATE EXTENSION shardproxy",
    "COMMENT ON ROLE shardproxy IS 'x'",
    "REINDEX DATABASE shardproxy",
    "COMMENT ON COLUMN public.t.shardproxy IS 'x'",
    "DROP OWNED BY other",
)


@pytest.mark.parametrize("nshards", [1, 3])
@pytest.mark.parametrize("sql", NAMING)
def test_what_names_the_schema_is_refused(sql: str, nshards: int) -> None:
    [statement] = analyze(sql)
    tables = {ref: Resolved("missing", ref.schema or "", ref.name) for ref in statement.tables}
    with pytest.raises(PgError, match="permission denied for schema shardproxy") as refused:
        route(statement, tables, Context(nshards, users=frozenset({"app"})))
    assert refused.value.sqlstate == "42501"


@pytest.mark.parametrize("sql", OTHERS)
def test_what_only_looks_like_it_is_not(sql: str) -> None:
    [statement] = analyze(sql)
    assert isinstance(statement, Utility)
    assert not statement.names_own
    assert all(ref.schema != SCHEMA for ref in statement.tables)
    route(statement, {}, Context(3, users=frozenset({"app"})))


def test_a_relation_found_by_the_search_path_is_refused() -> None:
    [statement] = analyze("DELETE FROM decisions")
    tables = {ref: Resolved("reference", SCHEMA, ref.name) for ref in statement.tables}
    with pytest.raises(PgError, match="permission denied for schema shardproxy"):
        route(statement, tables, Context(3))


def test_code_is_read_as_far_as_it_is_text() -> None:
    [statement] = analyze("DO 'BEGIN EXECUTE concat(chr(100), chr(114)); END'")
    assert isinstance(statement, Code)
    assert not statement.names_own


@pytest.mark.parametrize("sql", ["SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", "SELECT pg_export_snapshot()"])
def test_a_snapshot_of_several_shards_is_refused(sql: str) -> None:
    [statement] = analyze(sql)
    with pytest.raises(PgError, match="is not supported over several shards") as refused:
        route(statement, {}, Context(3))
    assert refused.value.sqlstate == "0A000"
    assert refused.value.hint is not None
    assert "pg_dump without --jobs" in refused.value.hint
    route(statement, {}, Context(1))
