"""The text of a SELECT from the system catalogs as it is run: without the proxy's own schema."""

import pytest

from shardproxy.sql import Select, analyze, run_as

OWN = (
    "ALL (ARRAY(SELECT own.oid FROM pg_catalog.pg_namespace AS own "
    "WHERE own.nspname OPERATOR(pg_catalog.=) 'shardproxy'))"
)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (
            "SELECT nspname FROM pg_namespace n WHERE true",
            "SELECT nspname FROM (SELECT * FROM pg_namespace WHERE nspname OPERATOR(pg_catalog.<>) 'shardproxy') n "
            "WHERE true",
        ),
        (
            "SELECT pg_class.relname FROM Pg_Catalog . pg_class",
            "SELECT pg_class.relname FROM (SELECT * FROM Pg_Catalog . pg_class WHERE relnamespace "
            f"OPERATOR(pg_catalog.<>) {OWN}) AS pg_class",
        ),
        (
            "SELECT Pg_Catalog . pg_type.typname, pg_catalog.pg_attribute.attname FROM pg_catalog.pg_type, "
            "pg_catalog.pg_attribute ORDER BY pg_catalog.pg_type.oid",
            "SELECT pg_type.typname, pg_catalog.pg_attribute.attname FROM (SELECT * FROM pg_catalog.pg_type WHERE "
            f"typnamespace OPERATOR(pg_catalog.<>) {OWN}) AS pg_type, "
            "pg_catalog.pg_attribute ORDER BY pg_type.oid",
        ),
        (
            "SELECT tableoid, oid FROM pg_type",
            "SELECT tableoid, oid FROM (SELECT tableoid, * FROM pg_type WHERE typnamespace "
            f"OPERATOR(pg_catalog.<>) {OWN}) AS pg_type",
        ),
        (
            "SELECT (SELECT count(*) FROM information_schema.tables AS t)",
            "SELECT (SELECT count(*) FROM (SELECT * FROM information_schema.tables WHERE table_schema "
            "OPERATOR(pg_catalog.<>) 'shardproxy') AS t)",
        ),
        (
            "TABLE pg_tables",
            "SELECT * FROM (SELECT * FROM pg_tables WHERE schemaname OPERATOR(pg_catalog.<>) 'shardproxy') "
            "AS pg_tables",
        ),
        (
            "SELECT 1 UNION (Table /* ; */ -- x\n pg_tables)",
            "SELECT 1 UNION (SELECT * FROM (SELECT * FROM pg_tables WHERE schemaname "
            "OPERATOR(pg_catalog.<>) 'shardproxy') AS pg_tables)",
        ),
        (
            "SELECT nspname, array_agg(oid) FROM pg_namespace GROUP BY nspname, 1",
            "SELECT nspname, array_agg(oid) FROM (SELECT * FROM pg_namespace WHERE nspname "
            "OPERATOR(pg_catalog.<>) 'shardproxy') AS pg_namespace GROUP BY nspname, 1",
        ),
    ],
)
def test_the_relations_that_tell_of_schemas_are_narrowed(sql: str, text: str) -> None:
    [statement] = analyze(sql)
    assert statement.text == sql
    assert run_as(statement) == text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT * FROM pg_attribute",
        "SELECT * FROM mine.pg_class",
        "SELECT * FROM tables",
        "SELECT ctid FROM pg_class",
        "SELECT tableoid, * FROM pg_class",
        "SELECT relname FROM pg_class FOR UPDATE",
        "SELECT relname FROM pg_class TABLESAMPLE bernoulli (10)",
        "SELECT relname FROM pg_class NATURAL JOIN pg_namespace",
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class AS pg_class",
        'SELECT "pg_catalog"."pg_class".relname FROM pg_catalog.pg_class',
        "SELECT db.pg_catalog.pg_class.relname FROM pg_catalog.pg_class",
        "WITH pg_class AS (SELECT 1) SELECT * FROM pg_class",
        "SELECT relname INTO t FROM pg_class",
        "SELECT 'pg_class FROM pg_class'",
        "SELECT relname FROM ONLY pg_class",
        "SELECT relname FROM ONLY (pg_class)",
        "TABLE ONLY pg_class",
        "SELECT relname FROM pg_class AS c GROUP BY c.oid",
        "SELECT relname, c.oid AS x FROM pg_class AS c GROUP BY x",
        "SELECT relname, c.oid FROM pg_class AS c GROUP BY GROUPING SETS ((2))",
    ],
)
def test_all_else_is_run_as_it_is(sql: str) -> None:
    [statement] = analyze(sql)
    assert run_as(statement) == sql


def test_several_statements_and_characters_of_several_bytes() -> None:
    first, second = analyze("SELECT 1;  SELECT oid FROM pg_class")
    assert run_as(first) == "SELECT 1"
    assert run_as(second).startswith("SELECT oid FROM (SELECT * FROM pg_class WHERE")
    # An offset in bytes would be wrong: then nothing is replaced.
    [statement] = analyze("SELECT 'äöü', oid FROM pg_class")
    assert run_as(statement) == statement.text


def test_a_position_is_that_in_the_text_of_the_client() -> None:
    sql = "SELECT a FROM pg_class, pg_type WHERE b"
    [statement] = analyze(sql)
    assert isinstance(statement, Select)
    assert statement.visible is not None
    text = statement.visible.text
    for position in (text.index("a FROM"), text.rindex("WHERE b"), text.rindex("b")):
        expected = sql.index(text[position:]) if position > 20 else sql.index("a FROM")
        assert statement.visible.original(position + 1) == expected + 1
    assert statement.visible.original(text.index("pg_type WHERE typ") + 1) == sql.index("pg_type") + 1
