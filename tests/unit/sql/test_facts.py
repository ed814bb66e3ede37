"""What `analyze` says of single statements: kinds, relations, functions, shape, bindings."""

from typing import Any

import pytest

from shardproxy.sql import (
    Binding,
    ColumnRef,
    Const,
    CopyTo,
    CreateAs,
    Default,
    Equality,
    FromFunction,
    FromJoin,
    FromOther,
    FromTable,
    Insert,
    Kind,
    Modify,
    Param,
    Query,
    Select,
    Statement,
    TableRef,
    Unknown,
    Utility,
    Value,
    analyze,
)


def one(sql: str) -> Statement:
    [statement] = analyze(sql)
    return statement


def query(sql: str) -> Query:
    statement = one(sql)
    assert isinstance(statement, Query)
    return statement


def select(sql: str) -> Select:
    statement = one(sql)
    assert isinstance(statement, Select)
    return statement


def read(name: str, schema: str | None = None, alias: str | None = None, nested: bool = False) -> TableRef:
    return TableRef(schema, name, alias, "read", nested)


def write(name: str, schema: str | None = None, alias: str | None = None, nested: bool = False) -> TableRef:
    return TableRef(schema, name, alias, "write", nested)


def hidden(name: str) -> TableRef:
    return read(name, nested=True)


KINDS: list[tuple[str, Kind, dict[str, Any]]] = [
    ("BEGIN", Kind.BEGIN, {"tag": "BEGIN"}),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", Kind.BEGIN, {"tag": "BEGIN"}),
    ("START TRANSACTION READ ONLY", Kind.BEGIN, {"tag": "START TRANSACTION"}),
    ("COMMIT", Kind.COMMIT, {"tag": "COMMIT", "chain": False}),
    ("END AND CHAIN", Kind.COMMIT, {"tag": "COMMIT", "chain": True}),
    ("ABORT", Kind.ROLLBACK, {"tag": "ROLLBACK"}),
    ("ROLLBACK AND CHAIN", Kind.ROLLBACK, {"chain": True}),
    ('SAVEPOINT "A b"', Kind.SAVEPOINT, {"tag": "SAVEPOINT", "name": "A b"}),
    ("RELEASE a", Kind.RELEASE, {"tag": "RELEASE", "name": "a"}),
    ("ROLLBACK TO SAVEPOINT a", Kind.ROLLBACK_TO, {"tag": "ROLLBACK", "name": "a"}),
    ("PREPARE TRANSACTION 'x'", Kind.PREPARE_TRANSACTION, {"tag": "PREPARE TRANSACTION", "name": "x"}),
    ("COMMIT PREPARED 'x'", Kind.PREPARE_TRANSACTION, {"tag": "COMMIT PREPARED", "name": "x"}),
    ("ROLLBACK PREPARED 'x'", Kind.PREPARE_TRANSACTION, {"tag": "ROLLBACK PREPARED"}),
    (
        "SET search_path TO a, 'B'",
        Kind.SET,
        {"name": "search_path", "values": ("a", "B"), "local": False},
    ),
    ("SET LOCAL work_mem = 5", Kind.SET, {"name": "work_mem", "values": ("5",), "local": True}),
    ("SET work_mem TO DEFAULT", Kind.SET, {"name": "work_mem", "values": None}),
    ("SET TRANSACTION READ ONLY", Kind.SET, {"name": "TRANSACTION", "local": True}),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Kind.SET, {"local": False}),
    ("SET NAMES 'latin1'", Kind.SET, {"name": "client_encoding", "values": ("latin1",)}),
    ("SET TIME ZONE 'UTC'", Kind.SET, {"name": "timezone", "values": ("UTC",)}),
    ("SET ROLE x", Kind.SET, {"name": "role"}),
    ("RESET ALL", Kind.RESET, {"tag": "RESET", "name": None}),
    ("RESET work_mem", Kind.RESET, {"tag": "RESET", "name": "work_mem"}),
    ("DISCARD ALL", Kind.DISCARD, {"tag": "DISCARD ALL"}),
    ("DISCARD TEMP", Kind.DISCARD, {"tag": "DISCARD TEMP"}),
    ("SHOW server_version", Kind.SHOW, {"tag": "SHOW", "name": "server_version"}),
    ("PREPARE p AS SELECT $1", Kind.PREPARE, {"name": "p", "tag": "PREPARE"}),
    ("EXECUTE p(1)", Kind.EXECUTE, {"name": "p"}),
    ("DEALLOCATE p", Kind.DEALLOCATE, {"name": "p", "tag": "DEALLOCATE"}),
    ("DEALLOCATE ALL", Kind.DEALLOCATE, {"name": None, "tag": "DEALLOCATE ALL"}),
    ("DECLARE c CURSOR FOR SELECT 1", Kind.DECLARE_CURSOR, {"name": "c", "hold": False}),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Kind.DECLARE_CURSOR, {"name": "c", "hold": True}),
    ("FETCH ALL FROM c", Kind.FETCH, {"name": "c", "tag": "FETCH"}),
    ("MOVE 5 IN c", Kind.FETCH, {"name": "c", "tag": "MOVE"}),
    ("CLOSE c", Kind.CLOSE_CURSOR, {"name": "c", "tag": "CLOSE CURSOR"}),
    ("CLOSE ALL", Kind.CLOSE_CURSOR, {"name": None, "tag": "CLOSE CURSOR ALL"}),
    ("LISTEN x", Kind.LISTEN, {"name": "x"}),
    ("UNLISTEN *", Kind.UNLISTEN, {"name": None}),
    ("NOTIFY x, 'y'", Kind.NOTIFY, {"name": "x"}),
    ("EXPLAIN SELECT 1", Kind.EXPLAIN, {"analyze": False}),
    ("EXPLAIN ANALYZE SELECT 1", Kind.EXPLAIN, {"analyze": True}),
    ("EXPLAIN (ANALYZE, VERBOSE off) SELECT 1", Kind.EXPLAIN, {"analyze": True}),
    ("EXPLAIN (ANALYZE off) SELECT 1", Kind.EXPLAIN, {"analyze": False}),
    ("DO $$BEGIN END$$", Kind.CODE, {}),
    ("CALL p(1)", Kind.CODE, {}),
    ("SELECT 1 INTO x", Kind.CREATE_AS, {"target": write("x"), "temporary": False}),
    ("SELECT 1 INTO TEMP x", Kind.CREATE_AS, {"temporary": True}),
    ("VALUES (1), (2)", Kind.SELECT, {}),
    ("TABLE t", Kind.SELECT, {"source": FromTable(read("t")), "tables": (read("t"),)}),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", Kind.MERGE, {}),
    ("CREATE TABLE t (a int)", Kind.UTILITY, {"defines": True, "temporary": False}),
    ("CREATE TEMP TABLE t (a int)", Kind.UTILITY, {"temporary": True}),
    ("CREATE TABLE pg_temp.t (a int)", Kind.UTILITY, {"temporary": True}),
    ("CREATE TEMP VIEW v AS SELECT 1", Kind.UTILITY, {"temporary": True}),
    ("CREATE TEMP SEQUENCE s", Kind.UTILITY, {"temporary": True}),
    ("CREATE TABLE t AS SELECT 1", Kind.CREATE_AS, {"target": write("t"), "temporary": False}),
    ("CREATE UNLOGGED TABLE t AS TABLE u", Kind.CREATE_AS, {"temporary": False}),
    ("CREATE TEMP TABLE t AS SELECT 1", Kind.CREATE_AS, {"temporary": True}),
    ("CREATE MATERIALIZED VIEW v AS SELECT 1", Kind.CREATE_AS, {"temporary": False}),
    ("TRUNCATE t", Kind.UTILITY, {"defines": False, "block": "allowed"}),
    ("LOCK TABLE t", Kind.UTILITY, {"defines": False, "block": "required"}),
    ("ANALYZE t", Kind.UTILITY, {"defines": False, "block": "allowed"}),
    ("SET CONSTRAINTS ALL DEFERRED", Kind.UTILITY, {"defines": False, "block": "required"}),
    ("REINDEX TABLE t", Kind.UTILITY, {"block": "allowed"}),
    ("CLUSTER t USING i", Kind.UTILITY, {"block": "allowed"}),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", Kind.UTILITY, {"block": "allowed"}),
    ("CREATE INDEX i ON t (a)", Kind.UTILITY, {"block": "allowed"}),
    ("ALTER DATABASE d SET work_mem = 5", Kind.UTILITY, {"block": "allowed"}),
    ("ALTER TABLE t DETACH PARTITION p", Kind.UTILITY, {"block": "allowed"}),
    ("VACUUM t", Kind.UTILITY, {"block": "refused"}),
    ("VACUUM (ANALYZE)", Kind.UTILITY, {"block": "refused"}),
    ("CREATE DATABASE d", Kind.UTILITY, {"block": "refused"}),
    ("DROP DATABASE d", Kind.UTILITY, {"block": "refused"}),
    ("ALTER DATABASE d SET TABLESPACE x", Kind.UTILITY, {"block": "refused"}),
    ("CREATE TABLESPACE x LOCATION '/x'", Kind.UTILITY, {"block": "refused"}),
    ("DROP TABLESPACE x", Kind.UTILITY, {"block": "refused"}),
    ("ALTER SYSTEM SET work_mem = 5", Kind.UTILITY, {"block": "refused"}),
    ("CREATE INDEX CONCURRENTLY i ON t (a)", Kind.UTILITY, {"block": "refused"}),
    ("DROP INDEX CONCURRENTLY i", Kind.UTILITY, {"block": "refused"}),
    ("REINDEX TABLE CONCURRENTLY t", Kind.UTILITY, {"block": "refused"}),
    ("REINDEX (CONCURRENTLY) TABLE t", Kind.UTILITY, {"block": "refused"}),
    ("REINDEX (CONCURRENTLY false) TABLE t", Kind.UTILITY, {"block": "allowed"}),
    ("REINDEX SCHEMA s", Kind.UTILITY, {"block": "refused"}),
    ("CLUSTER", Kind.UTILITY, {"block": "refused"}),
    ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", Kind.UTILITY, {"block": "refused"}),
    ("DROP SUBSCRIPTION s", Kind.UTILITY, {"block": "refused"}),
]


@pytest.mark.parametrize(("sql", "kind", "facts"), KINDS, ids=[sql for sql, _, _ in KINDS])
def test_kind(sql: str, kind: Kind, facts: dict[str, Any]) -> None:
    statement = one(sql)
    assert statement.kind is kind
    assert {name: getattr(statement, name) for name in facts} == facts


TABLES: list[tuple[str, set[TableRef]]] = [
    ("SELECT 1", set()),
    ("SELECT * FROM t", {read("t")}),
    ('SELECT * FROM s."T" AS x', {read("T", "s", "x")}),
    ("SELECT * FROM ONLY t", {read("t")}),
    ("SELECT * FROM a, b JOIN c USING (i) LEFT JOIN d ON true", {read("a"), read("b"), read("c"), read("d")}),
    ("SELECT * FROM (SELECT * FROM t) x", {hidden("t")}),
    ("SELECT (SELECT max(a) FROM t)", {hidden("t")}),
    ("SELECT ARRAY(SELECT a FROM t)", {hidden("t")}),
    ("SELECT * FROM r WHERE EXISTS (SELECT FROM t)", {read("r"), hidden("t")}),
    ("SELECT * FROM r WHERE a IN (SELECT a FROM t)", {read("r"), hidden("t")}),
    ("SELECT * FROM r WHERE a > ALL (TABLE t)", {read("r"), hidden("t")}),
    ("SELECT * FROM r ORDER BY (SELECT a FROM t)", {read("r"), hidden("t")}),
    ("SELECT * FROM r LIMIT (SELECT a FROM t)", {read("r"), hidden("t")}),
    ("SELECT * FROM r GROUP BY a HAVING (SELECT true FROM t)", {read("r"), hidden("t")}),
    ("SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM t)) FROM r", {read("r"), hidden("t")}),
    ("SELECT sum(a) OVER (ORDER BY (SELECT a FROM t)) FROM r", {read("r"), hidden("t")}),
    ("SELECT CASE WHEN (SELECT true FROM t) THEN 1 END", {hidden("t")}),
    ("SELECT * FROM r JOIN q ON (SELECT true FROM t)", {read("r"), read("q"), hidden("t")}),
    ("SELECT * FROM f((SELECT a FROM t))", {hidden("t")}),
    ("SELECT * FROM r, LATERAL (SELECT * FROM t WHERE t.a = r.a) x", {read("r"), hidden("t")}),
    ("SELECT * FROM t TABLESAMPLE system (1)", {hidden("t")}),
    ("SELECT * FROM t AS x (a, b)", {read("t", alias="x", nested=True)}),
    ("SELECT 1 UNION SELECT a FROM t", {hidden("t")}),
    ("(SELECT a FROM t) EXCEPT (VALUES (1), ((SELECT 1 FROM u)))", {hidden("t"), hidden("u")}),
    ("WITH x AS (SELECT * FROM t) SELECT * FROM x", {hidden("t")}),
    ("WITH t AS (SELECT * FROM t) SELECT * FROM t", {hidden("t")}),
    ("WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t", set()),
    ("WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM b", {hidden("b")}),
    ("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", set()),
    ("WITH t AS (SELECT 1) SELECT * FROM s.t", {read("t", "s")}),
    ("SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) x, t", {read("t")}),
    ("SELECT (WITH t AS (SELECT 1) SELECT 1 FROM t) FROM t", {read("t")}),
    ("WITH x AS (WITH t AS (SELECT 1) SELECT * FROM t) SELECT * FROM t", {read("t")}),
    ("WITH t AS (SELECT 1) SELECT 1 UNION SELECT * FROM t", set()),
    ("WITH w AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM w", {write("t", nested=True)}),
    ("WITH w AS (DELETE FROM t USING u RETURNING *) TABLE w", {write("t", nested=True), hidden("u")}),
    ("WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t", {write("t")}),
    ("WITH t AS (SELECT 1) DELETE FROM t", {write("t")}),
    ("WITH t AS (SELECT 1) UPDATE t SET a = 1", {write("t")}),
    ("SELECT * FROM t FOR UPDATE OF x", {read("t")}),
    ("INSERT INTO s.t AS x VALUES ((SELECT a FROM u))", {write("t", "s", "x"), hidden("u")}),
    ("INSERT INTO t SELECT * FROM u", {write("t"), hidden("u")}),
    (
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = (SELECT 1 FROM u)",
        {write("t"), hidden("u")},
    ),
    ("INSERT INTO t VALUES (1) RETURNING (SELECT a FROM u)", {write("t"), hidden("u")}),
    ("UPDATE t x SET a = 1 FROM u WHERE x.a = u.a", {write("t", alias="x"), read("u")}),
    ("UPDATE t SET (a, b) = (SELECT 1, 2 FROM u)", {write("t"), hidden("u")}),
    ("UPDATE t SET a = 1 FROM t y", {write("t"), read("t", alias="y")}),
    ("DELETE FROM t USING u, v", {write("t"), read("u"), read("v")}),
    (
        "MERGE INTO t USING s ON true WHEN NOT MATCHED THEN INSERT VALUES ((SELECT 1 FROM u))",
        {write("t"), hidden("s"), hidden("u")},
    ),
    ("COPY t FROM STDIN", {write("t")}),
    ("COPY s.t TO STDOUT", {read("t", "s")}),
    ("COPY (SELECT * FROM a, (TABLE b) x) TO STDOUT", {read("a"), hidden("b")}),
    ("EXPLAIN SELECT * FROM t", {read("t")}),
    ("PREPARE p AS DELETE FROM t", {write("t")}),
    ("DECLARE c CURSOR FOR SELECT * FROM t", {read("t")}),
    ("CREATE TABLE n AS SELECT * FROM t", {write("n"), read("t")}),
    ("SELECT * INTO n FROM t", {write("n"), read("t")}),
    ("TRUNCATE a, s.b", {write("a"), write("b", "s")}),
    ("DROP TABLE a, s.b", {write("a"), write("b", "s")}),
    ("CREATE VIEW v AS WITH x AS (TABLE t) SELECT * FROM x", {write("v"), read("t")}),
    ("ALTER TABLE t ADD b int REFERENCES u", {write("t"), write("u")}),
    ("VACUUM t", {write("t")}),
    ("EXECUTE p((SELECT 1))", set()),
]


@pytest.mark.parametrize(("sql", "tables"), TABLES, ids=[sql for sql, _ in TABLES])
def test_no_relation_hides(sql: str, tables: set[TableRef]) -> None:
    assert set(one(sql).tables) == tables


def test_functions_wherever_they_stand() -> None:
    statement = one(
        "WITH a AS (SELECT f1()) SELECT s.f2(f3()), current_timestamp, x::text FROM f4() x"
        " JOIN t ON f5() WHERE f6() GROUP BY f7() HAVING f8() ORDER BY f9() LIMIT f10()"
    )
    names = {(None, f"f{number}") for number in (1, 3, 4, 5, 6, 7, 8, 9, 10)}
    assert statement.functions == names | {("s", "f2"), (None, "current_timestamp")}


@pytest.mark.parametrize(
    ("sql", "combining"),
    [
        ("SELECT * FROM t", ()),
        ("SELECT DISTINCT a FROM t", ("DISTINCT",)),
        ("SELECT DISTINCT ON (a) a FROM t", ("DISTINCT ON",)),
        ("SELECT a FROM t GROUP BY a", ("GROUP BY",)),
        ("SELECT a FROM t GROUP BY ()", ("GROUP BY",)),
        ("SELECT 1 FROM t HAVING true", ("HAVING",)),
        ("SELECT a FROM t ORDER BY a LIMIT 5 OFFSET 3", ("ORDER BY",)),
        ("SELECT a FROM t LIMIT 5", ()),
        ("SELECT a FROM t WINDOW w AS (ORDER BY a)", ("WINDOW",)),
        ("SELECT f(a) OVER () FROM t", ("OVER",)),
        ("SELECT count(*) FROM t", ("count(*)",)),
        ("SELECT f(DISTINCT a) FROM t", ("DISTINCT in a function's arguments",)),
        ("SELECT f(a ORDER BY a) FROM t", ("ORDER BY in a function's arguments",)),
        ("SELECT f(a) FILTER (WHERE b) FROM t", ("FILTER",)),
        (
            "SELECT f(1) WITHIN GROUP (ORDER BY a) FROM t",
            ("ORDER BY in a function's arguments", "WITHIN GROUP"),
        ),
        ("SELECT JSON_ARRAYAGG(a) FROM t", ("JSON_ARRAYAGG",)),
        ("SELECT JSON_OBJECTAGG(a: b) FROM t", ("JSON_OBJECTAGG",)),
        ("SELECT a FROM t UNION ALL SELECT a FROM t", ("UNION",)),
        ("SELECT a FROM t EXCEPT SELECT a FROM t ORDER BY 1", ("EXCEPT", "ORDER BY")),
        ("SELECT * FROM t WHERE a IN (SELECT a FROM r LIMIT 1)", ("LIMIT in a sub-query",)),
        ("SELECT * FROM t WHERE a IN (SELECT a FROM r LIMIT 1) LIMIT 1", ("LIMIT in a sub-query",)),
        ("SELECT * FROM t WHERE a IN (SELECT DISTINCT ON (b) a FROM r)", ("DISTINCT ON in a sub-query",)),
        ("SELECT * FROM t WHERE a = (SELECT count(*) FROM r)", ("count(*)",)),
        ("SELECT * FROM t FOR UPDATE", ()),
    ],
)
def test_what_combines_rows(sql: str, combining: tuple[str, ...]) -> None:
    assert select(sql).combining == combining


def test_the_join_tree() -> None:
    statement = select("SELECT * FROM a LEFT JOIN (b CROSS JOIN f()) ON true, (TABLE c) x")
    assert statement.source == FromJoin(
        "inner",
        FromJoin("left", FromTable(read("a")), FromJoin("inner", FromTable(read("b")), FromFunction())),
        FromOther("a sub-select in FROM"),
    )


def test_a_common_table_expression_in_from_is_no_table() -> None:
    statement = select("WITH t AS (SELECT 1) SELECT * FROM t")
    assert statement.source == FromOther("a common table expression")
    assert statement.tables == ()


def test_a_join_with_an_alias_hides_the_names_of_its_tables() -> None:
    statement = select("SELECT * FROM (t AS x CROSS JOIN r) AS y CROSS JOIN t AS x")
    assert statement.source == FromJoin("inner", FromOther("an alias of a join"), FromTable(read("t", alias="x")))
    assert set(statement.tables) == {read("t", alias="x"), read("t", alias="x", nested=True), hidden("r")}


@pytest.mark.parametrize(
    ("sql", "attributes"),
    [
        ("SELECT a FROM t", set()),
        ("SELECT t.count FROM t WHERE s.t.b > 1", {"count", "b"}),
        ("SELECT (t).json_agg, (f(t)).c FROM t", {"json_agg", "c"}),
        ("SELECT t.* FROM t", set()),
    ],
)
def test_attributes_may_be_functions(sql: str, attributes: set[str]) -> None:
    assert one(sql).attributes == attributes


def bound(name: str, *values: Const | Param, table: str | None = None, schema: str | None = None) -> Binding:
    return Binding(ColumnRef(name, table, schema), values)


def number(text: str, cast: str | None = None) -> Const:
    return Const("int", text, cast)


def string(text: str, cast: str | None = None) -> Const:
    return Const("str", text, cast)


@pytest.mark.parametrize(
    ("clause", "limit", "offset"),
    [
        ("", None, None),
        ("LIMIT 5 OFFSET 0", number("5"), number("0")),
        ("LIMIT ALL", None, None),
        ("LIMIT NULL::int OFFSET NULL", None, None),
        ("LIMIT -1", number("-1"), None),
        ("LIMIT '5'", Const("str", "5"), None),
        ("LIMIT 1.5", Const("float", "1.5"), None),
        ("LIMIT $1 OFFSET $2::bigint", Param(1), Param(2, "int8")),
        ("LIMIT 1 + 1", Unknown(), None),
        ("LIMIT (SELECT 1)", Unknown(), None),
        ("FETCH FIRST ROW ONLY", number("1"), None),
        ("OFFSET 2 ROWS FETCH NEXT $1 ROWS ONLY", Param(1), number("2")),
    ],
)
def test_how_many_rows_are_asked_for(
    clause: str, limit: Value | Unknown | None, offset: Value | Unknown | None
) -> None:
    statement = select(f"SELECT a FROM t {clause}")
    assert (statement.limit, statement.offset) == (limit, offset)


@pytest.mark.parametrize(
    ("condition", "bindings"),
    [
        ("id = 5", [bound("id", number("5"))]),
        ("5 = id", [bound("id", number("5"))]),
        ("id = -5", [bound("id", number("-5"))]),
        ("id = 0", [bound("id", number("0"))]),
        ("id = 00000099999999999", [bound("id", number("99999999999"))]),
        ("id = 99999999999", [bound("id", number("99999999999"))]),
        ("id = -9223372036854775808", [bound("id", number("-9223372036854775808"))]),
        ("id = 9223372036854775808", [bound("id", Const("float", "9223372036854775808"))]),
        ("id = 5.0", [bound("id", Const("float", "5.0"))]),
        ("id = 0x1F", [bound("id", number("31"))]),
        ("t.id = '5'", [bound("id", string("5"), table="t")]),
        ("s.t.id = '5'", [bound("id", string("5"), table="t", schema="s")]),
        ('"T"."Id" = 5', [bound("Id", number("5"), table="T")]),
        ("id = E'a\\tb'", [bound("id", string("a\tb"))]),
        ("id = U&'\\00e9'", [bound("id", string("é"))]),
        ("id = $$x$$", [bound("id", string("x"))]),
        ("id = ''", [bound("id", string(""))]),
        ("id = true", [bound("id", Const("bool", "true"))]),
        ("id = false", [bound("id", Const("bool", "false"))]),
        ("id = NULL", [bound("id", Const("null", ""))]),
        ("id = '5'::int", [bound("id", string("5", "int4"))]),
        ("id = CAST('5' AS pg_catalog.int8)", [bound("id", string("5", "int8"))]),
        ("id = date '2000-01-01'", [bound("id", string("2000-01-01", "date"))]),
        ("id = $1", [bound("id", Param(1))]),
        ("id = $2::bigint", [bound("id", Param(2, "int8"))]),
        ("id IN (1, '2', $3)", [bound("id", number("1"), string("2"), Param(3))]),
        ("(id) = (5)", [bound("id", number("5"))]),
        ("(a, b) = (1, 2)", [bound("a", number("1")), bound("b", number("2"))]),
        ("id OPERATOR(pg_catalog.=) 5", [bound("id", number("5"))]),
        ("id = 5 AND (name = 'x' AND c)", [bound("id", number("5")), bound("name", string("x"))]),
        ("id = 5 AND (a = 1 OR b = 2)", [bound("id", number("5"))]),
        ("id = 5 OR id = 6", []),
        ("NOT id = 5", []),
        ("NOT (id = 5 AND name = 'x')", []),
        ("(id = 5) IS NOT TRUE", []),
        ("coalesce(id = 5, true)", []),
        ("CASE WHEN id = 5 THEN true END", []),
        ("id <> 5", []),
        ("id NOT IN (5)", []),
        ("id IN (SELECT 5)", []),
        ("id IN (5, a)", []),
        ("id = ANY ('{5}')", []),
        ("id = 5 + 0", []),
        ("id = +5", []),
        ("id + 0 = 5", []),
        ("id::text = '5'", []),
        ("id = '5'::int[]", []),
        ("id = '5'::varchar(3)", []),
        ("id = '5'::s.int4", []),
        ("id = '5'::int4::int8", []),
        ("id = 'x' COLLATE \"C\"", []),
        ("id COLLATE \"C\" = 'x'", []),
        ("(t).id = 5", []),
        ("id[1] = 5", []),
        ("id OPERATOR(s.=) 5", []),
        ("id IS NOT DISTINCT FROM 5", []),
        ("id LIKE '5'", []),
        ("(a, b) < (1, 2)", []),
        ("id = b'01'", []),
    ],
)
def test_bindings(condition: str, bindings: list[Binding]) -> None:
    for sql in (f"SELECT * FROM t WHERE {condition}", f"DELETE FROM t WHERE {condition}"):
        assert list(query(sql).bindings) == bindings


def equal(one: str, other: str, *only: TableRef) -> Equality:
    return Equality(ColumnRef(*reversed(one.split("."))), ColumnRef(*reversed(other.split("."))), only or None)


def inner(name: str, table: str, *only: TableRef) -> Binding:
    return Binding(ColumnRef(name, table), (number("5"),), only or None)


A, B, C = read("a"), read("b"), read("c")


@pytest.mark.parametrize(
    ("sql", "bindings", "equalities"),
    [
        ("a JOIN b ON a.i = b.j AND a.i = 5", [inner("i", "a")], [equal("a.i", "b.j")]),
        ("a JOIN b USING (i)", [], [equal("a.i", "b.i")]),
        ("a AS x JOIN s.b USING (i)", [], [equal("x.i", "s.b.i")]),
        ("a, b WHERE a.i = b.i", [], [equal("a.i", "b.i")]),
        ("a LEFT JOIN b ON b.i = 5 WHERE a.i = 5", [inner("i", "b", B), inner("i", "a")], []),
        ("a LEFT JOIN b ON a.i = b.i", [], [equal("a.i", "b.i", B)]),
        ("a RIGHT JOIN b USING (i)", [], [equal("a.i", "b.i", A)]),
        ("a FULL JOIN b ON a.i = b.i AND a.i = 5", [], []),
        ("a FULL JOIN b USING (i)", [], []),
        ("a LEFT JOIN (b JOIN c ON c.i = 5) ON a.i = b.i", [inner("i", "c")], [equal("a.i", "b.i", B, C)]),
        ("(a JOIN c ON c.i = 5) LEFT JOIN b ON true", [inner("i", "c")], []),
        ("a LEFT JOIN (SELECT) x ON a.i = 5", [], []),
    ],
)
def test_conditions_of_joins_bind_what_they_can(sql: str, bindings: list[Binding], equalities: list[Equality]) -> None:
    statement = select("SELECT * FROM " + sql)
    assert list(statement.bindings) == bindings
    assert list(statement.equal) == equalities


def test_insert_rows() -> None:
    insert = one("INSERT INTO t (a, b, c) VALUES (1, DEFAULT, now()), ($1, 'x', NULL) RETURNING a")
    assert isinstance(insert, Insert)
    assert insert.columns == ("a", "b", "c")
    assert insert.rows == ((number("1"), Default(), Unknown()), (Param(1), string("x"), Const("null", "")))
    assert (insert.select, insert.conflict, insert.returning) == (False, None, True)


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("UPDATE t SET a = 1", "old"),
        ("UPDATE t SET a = 1 RETURNING WITH (NEW AS n, OLD AS o) a", "o"),
        ("UPDATE t SET a = 1 FROM u RETURNING WITH (NEW AS n) a", "old"),
        ("UPDATE t AS old SET a = 1 RETURNING a", None),
        ("DELETE FROM t USING (u JOIN v AS old USING (b)) RETURNING a", None),
        ("DELETE FROM t USING s.old(1) RETURNING a", None),
        ("MERGE INTO t USING old ON t.a = old.a WHEN MATCHED THEN DELETE RETURNING a", None),
    ],
)
def test_what_returning_calls_the_old_row(sql: str, name: str | None) -> None:
    found = one(sql)
    assert isinstance(found, Modify)
    assert found.old_row == name


@pytest.mark.parametrize(
    ("rest", "facts"),
    [
        ("SELECT * FROM u", {"select": True, "rows": (), "columns": None}),
        ("VALUES (1), (2) LIMIT 1", {"select": True}),
        ("VALUES (1) ORDER BY 1", {"select": True}),
        ("VALUES (1) UNION VALUES (2)", {"select": True}),
        ("DEFAULT VALUES", {"select": False, "rows": ((),), "columns": ()}),
        ("VALUES (1) ON CONFLICT DO NOTHING", {"conflict": "nothing"}),
        ("VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1", {"conflict": "update"}),
    ],
)
def test_insert_facts(rest: str, facts: dict[str, Any]) -> None:
    insert = one("INSERT INTO t " + rest)
    assert {name: getattr(insert, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("sql", "columns", "defaults"),
    [
        ("UPDATE t SET a = 1, b = DEFAULT", ("a", "b"), ("b",)),
        ("UPDATE t SET (a, b) = (1, DEFAULT), c[1] = 2", ("a", "b", "c"), ("b",)),
        ("UPDATE t SET (a, b) = (SELECT 1, 2)", ("a", "b"), ()),
        ("INSERT INTO t (z) VALUES (1) ON CONFLICT (z) DO UPDATE SET a = DEFAULT", ("a",), ("a",)),
        ("WITH w AS (UPDATE u SET c = 1) DELETE FROM t", ("c",), ()),
        ("DELETE FROM t", (), ()),
        (
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED AND u.b THEN UPDATE SET a = 1, b = DEFAULT "
            "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (c, d) VALUES (1, DEFAULT)",
            ("a", "b"),
            ("b",),
        ),
    ],
)
def test_assigned_columns(sql: str, columns: tuple[str, ...], defaults: tuple[str, ...]) -> None:
    statement = one(sql)
    assert isinstance(statement, Modify)
    assert statement.set_columns == columns
    assert statement.set_defaults == defaults


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            'COPY t (a, "B") FROM STDIN',
            {"columns": ("a", "B"), "endpoint": "client", "has_where": False, "table": write("t")},
        ),
        ("COPY t FROM STDIN WHERE a > 5", {"columns": None, "has_where": True}),
        ("COPY t FROM '/x'", {"endpoint": "file"}),
        ("COPY t TO PROGRAM 'x'", {"endpoint": "program"}),
        ("COPY BINARY t FROM STDIN", {"endpoint": "client"}),
    ],
)
def test_copy_facts(sql: str, expected: dict[str, Any]) -> None:
    copy = one(sql)
    assert {name: getattr(copy, name) for name in expected} == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a INTO x FROM t",
        "SELECT a INTO x FROM t UNION SELECT b FROM t",
        "CREATE TABLE x AS SELECT a FROM t",
    ],
)
def test_a_table_made_of_rows(sql: str) -> None:
    statement = one(sql)
    assert isinstance(statement, CreateAs)
    assert isinstance(statement.query, Select)
    assert statement.target == write("x")
    assert statement.tables[0] == write("x")


def test_copy_of_a_query() -> None:
    statement = one("COPY (SELECT a FROM t WHERE id = 5 ORDER BY a) TO STDOUT (FORMAT csv)")
    assert isinstance(statement, CopyTo)
    query = statement.data
    assert isinstance(query, Select)
    assert (query.kind, query.combining) == (Kind.SELECT, ("ORDER BY",))
    assert query.bindings == (bound("id", number("5")),)
    assert one("COPY (DELETE FROM t RETURNING a) TO STDOUT").tables == (write("t"),)


def test_parameters_are_counted() -> None:
    assert one("SELECT $1, $3 FROM t WHERE id = $1").params == ((1, 2), (3, 1))


@pytest.mark.parametrize(
    ("sql", "sets"),
    [
        ("SELECT set_config('search_path', '', false)", True),
        ("SELECT pg_catalog.set_config('search_path', '', false)", True),
        ("SELECT s.set_config('a')", False),
        ("SELECT current_setting('a')", False),
    ],
)
def test_set_config(sql: str, sets: bool) -> None:
    assert select(sql).sets_config is sets


def test_equal_text_is_parsed_once() -> None:
    sql = "SELECT 'parsed once'"
    assert analyze(sql) is analyze(sql)


def test_a_long_text_is_not_kept() -> None:
    sql = f"SELECT '{'x' * 300_000}'"
    assert analyze(sql) is not analyze(sql)


def test_the_cache_is_bounded() -> None:
    first = analyze("SELECT 'the first one'")
    for index in range(100):
        analyze(f"SELECT {index}, '{'y' * 200_000}'")
    assert analyze("SELECT 'the first one'") is not first


@pytest.mark.parametrize(
    ("sql", "locks"),
    [
        ("SELECT * FROM a, s.b AS c FOR UPDATE", {("a", True), ("c", True)}),
        ("SELECT * FROM a JOIN b USING (x) FOR UPDATE OF b FOR KEY SHARE OF a", {("a", False), ("b", True)}),
        ("SELECT * FROM a, (SELECT * FROM b AS c, d) AS e FOR SHARE", {("a", False), ("c", False), ("d", False)}),
        ("SELECT * FROM a WHERE x IN (SELECT x FROM b FOR NO KEY UPDATE)", {("b", True)}),
        ("WITH w AS (SELECT * FROM a FOR UPDATE) UPDATE b SET x = 1 FROM w", {("a", True)}),
        ("EXPLAIN SELECT * FROM a FOR UPDATE NOWAIT", {("a", True)}),
        ("SELECT * FROM a", set()),
    ],
)
def test_what_is_locked(sql: str, locks: set[tuple[str, bool]]) -> None:
    [statement] = analyze(sql)
    assert statement.locks == locks


def test_a_column_whose_type_changes_has_no_foreign_keys() -> None:
    """Its definition has no name."""
    statement = one("ALTER TABLE t ALTER a TYPE bigint USING a::bigint, ADD b int REFERENCES r ON DELETE CASCADE")
    assert isinstance(statement, Utility)
    assert [key.columns for key in statement.foreign_keys] == [("b",)]
