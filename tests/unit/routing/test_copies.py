"""How a write of a reference table reaches its copies: what the text proves, and what is computed once."""

from dataclasses import replace

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import Copies, CopyFromClient, ParamValue, Plan, Replicate, Rows, Written, route
from shardproxy.routing.written import Trigger, WrittenColumn
from shardproxy.sql import analyze
from tests.unit.routing.tables import context, tables_of, written_of

MOMENT = WrittenColumn("name", 1184)


def routed(sql: str, *params: ParamValue, **facts: object) -> Plan:
    [statement] = analyze(sql)
    written = written_of(statement)
    assert written is not None
    known: Written = replace(written, **facts)  # type: ignore[arg-type]
    return route(statement, tables_of(statement), context(params, written=known))


def rows(sql: str, *params: ParamValue, **facts: object) -> Rows:
    plan = routed(sql, *params, **facts)
    assert isinstance(plan, Copies)
    assert plan.rows is not None
    return plan.rows


SAME = [
    "INSERT INTO ref2 VALUES (1, 'x'), ($1, lower('X'))",
    "INSERT INTO ref2 SELECT g, 'x' FROM generate_series(1, 5) AS g",
    "INSERT INTO ref2 VALUES (1, 'now or never')",
    "INSERT INTO ref2 VALUES (1, '2020-01-01'::date::text || $1::date || ARRAY['2020-01-01', $2]::date[])",
    "UPDATE ref2 SET name = id::text || name::varchar(5) || interval '1 day' WHERE id = 1",
    "UPDATE ref2 SET name = name || $1 WHERE id = $2",
    "UPDATE ref2 AS r SET name = 'x' WHERE r.id = 1 AND name = 'y'",
    "UPDATE ref2 SET id = 7 WHERE id = 1",
    "DELETE FROM ref2 WHERE id = 1 RETURNING name",
]


@pytest.mark.parametrize("sql", SAME)
def test_what_the_text_proves_is_run_everywhere(sql: str) -> None:
    assert routed(sql) == Copies(keyed="INSERT" not in sql)


COMPUTED = [
    "INSERT INTO ref2 VALUES (1, now())",
    "INSERT INTO ref2 VALUES (1, CURRENT_TIMESTAMP)",
    "INSERT INTO ref2 VALUES (nextval('s'), 'x')",
    "INSERT INTO ref2 VALUES (1, 'now'::timestamptz::text)",
    "INSERT INTO ref2 VALUES (1, 'ref'::regclass::text)",
    "UPDATE ref2 SET name = ('n' || 'ow')::date::text WHERE id = 1",
    "UPDATE ref2 SET name = CAST(name || 'w' AS pg_catalog.timestamptz)::text WHERE id = 1",
    "UPDATE ref2 SET name = $1::text::time::text WHERE id = 1",
    "UPDATE ref2 SET name = name::some_domain::text WHERE id = 1",
    "UPDATE ref2 SET name = ROW(name, 1)::pair::text WHERE id = 1",
    "UPDATE ref2 SET name = ARRAY[name]::date[]::text WHERE id = 1",
    "UPDATE ref2 SET name = (name || 'w').date::text WHERE id = 1",
    "UPDATE ref2 SET name = JSON_VALUE(name, '$' RETURNING timestamp)::text WHERE id = 1",
    "INSERT INTO ref2 SELECT 1, d::text FROM XMLTABLE('/a' PASSING $1 COLUMNS d date PATH 'b')",
    "INSERT INTO ref2 SELECT 1, d::text FROM JSON_TABLE($1, '$' COLUMNS (d tstzrange PATH '$.b'))",
    "INSERT INTO ref2 SELECT 1, to_char(g, 'x') FROM generate_series('today', 'tomorrow', interval '1 h') AS g",
    "INSERT INTO ref2 SELECT 1, 'x' FROM generate_series('now', 'tomorrow', interval '1 h') AS g",
    "INSERT INTO ref2 VALUES (1, CASE WHEN tstzrange '[now,)' > tstzrange '[2020-01-01,)' THEN 'x' END)",
    "INSERT INTO ref2 VALUES (1, my.lower('x'))",
    "INSERT INTO ref (id, name) VALUES (1, 'x')",
    "INSERT INTO ref VALUES (1, 'x', DEFAULT)",
    "INSERT INTO ref DEFAULT VALUES",
    "INSERT INTO ref (id, name, serial) OVERRIDING USER VALUE VALUES (1, 'x', 5)",
    "INSERT INTO ref (id, name) SELECT * FROM ref2",
    "INSERT INTO ref SELECT g FROM generate_series(1, 3) AS g",
    "INSERT INTO ref2 SELECT * FROM ref2 LIMIT 1",
    "INSERT INTO ref2 SELECT DISTINCT ON (id) * FROM ref2",
    "INSERT INTO ref2 SELECT * FROM ref2 TABLESAMPLE system (1)",
    "INSERT INTO ref2 SELECT oid, relname FROM pg_class",
    "INSERT INTO ref2 SELECT id, name FROM solo0",
    "INSERT INTO ref2 VALUES (1, array_to_string(ARRAY(SELECT name FROM ref), ','))",
    "INSERT INTO ref2 VALUES (1, (SELECT 'x'))",
    "INSERT INTO ref2 VALUES (1, 'x') ON CONFLICT DO NOTHING",
    "WITH x AS (SELECT 1) INSERT INTO ref2 VALUES (1, 'x')",
    "UPDATE ref2 SET name = 'x'",
    "UPDATE ref2 SET name = 'x' WHERE id IN (1, 2)",
    "UPDATE ref2 SET name = 'x' WHERE id = 1 OR name = 'y'",
    "UPDATE ref SET serial = DEFAULT WHERE id = 1",
    "UPDATE ref SET (name, serial) = ('x', DEFAULT) WHERE id = 1",
    "UPDATE ref2 SET name = ref.name FROM ref WHERE ref2.id = 1",
    "UPDATE ref2 SET name = g FROM generate_series(1, 2) AS g WHERE id = 1",
    "UPDATE ref2 SET name = ctid::text WHERE id = 1",
    "DELETE FROM ref WHERE name < CURRENT_DATE AND id = 1",
    "DELETE FROM ref2 USING ref WHERE ref2.id = 1",
    "MERGE INTO ref USING ref2 ON ref.id = ref2.id WHEN MATCHED THEN DELETE",
]


@pytest.mark.parametrize("sql", COMPUTED)
def test_what_it_does_not_prove_is_computed_once(sql: str) -> None:
    assert rows(sql).key == ("id",)


@pytest.mark.parametrize(
    ("value", "computed"),
    [
        (ParamValue(0, 0, b"today"), True),
        (ParamValue(1184, 0, b"{Now}"), True),
        (ParamValue(0, 0, b"known"), False),
        (ParamValue(25, 1, b"now"), True),
        (ParamValue(1184, 1, b"\0now\0\0\0\0"), False),
        (ParamValue(2205, 1, b"\0\0\0\1"), True),
        (ParamValue(0, 0, None), False),
    ],
)
def test_parameters_that_mean_a_moment(value: ParamValue, computed: bool) -> None:
    plan = routed("INSERT INTO ref2 VALUES (1, $1)", value, columns=(WrittenColumn("id", 23), MOMENT))
    assert isinstance(plan, Copies)
    assert (plan.rows is not None) == computed


def test_a_word_for_a_moment_in_a_text_is_none() -> None:
    plan = routed("INSERT INTO ref2 VALUES (1, $1)", ParamValue(0, 0, b"now"))
    assert plan == Copies()


@pytest.mark.parametrize(("type_", "same"), [(1114, True), (6153, True), (25, False)])
def test_a_cast_of_what_is_a_date_already(type_: int, same: bool) -> None:
    sql = "UPDATE ref2 SET name = ref2.name::date::text WHERE id = 1"
    plan = routed(sql, columns=(WrittenColumn("id", 23), WrittenColumn("name", type_)))
    assert (plan == Copies(keyed=True)) == same


def test_a_table_without_a_key() -> None:
    shared, alone = (f"SELECT pg_catalog.pg_advisory_xact_lock{kind}(1936224868, " for kind in ("_shared", ""))
    for sql, lock in (
        ("INSERT INTO ref2 VALUES (1, 'x')", shared),
        ("INSERT INTO ref2 VALUES (1, now())", shared),
        ("UPDATE ref2 SET name = 'x' WHERE name = 'y'", alone),
        ("DELETE FROM ref2", alone),
    ):
        plan = routed(sql, key=())
        assert isinstance(plan, Copies)
        assert plan.lock is not None
        assert plan.lock.startswith(lock)
        assert not plan.keyed
    for sql in (
        "UPDATE ref2 SET name = now()",
        "INSERT INTO ref2 VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'",
    ):
        with pytest.raises(PgError, match="would make its copies differ") as raised:
            routed(sql, key=())
        assert raised.value.hint is not None
        assert "primary key" in raised.value.hint


def test_what_else_is_sent() -> None:
    insert = "INSERT INTO ref2 VALUES (1, now())"
    assert [column.name for column in rows(insert).columns] == ["id", "name"]
    assert [column.name for column in rows("UPDATE ref SET name = now()").columns] == ["id", "name"]
    assert [column.name for column in rows("DELETE FROM ref WHERE name = now()").columns] == ["id"]
    upsert = "INSERT INTO ref2 VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'"
    assert rows(upsert).old_key
    assert not rows(upsert, version=17).old_key
    assert rows("UPDATE ref2 SET id = id + 1").old_key
    with pytest.raises(PgError, match="not supported before PostgreSQL 18"):
        routed("UPDATE ref2 SET id = id + 1", version=17)


def test_triggers() -> None:
    before, after = Trigger("b", 2 | 4 | 16), Trigger("a", 4)
    insert = "INSERT INTO ref2 VALUES (1, 'x')"
    assert rows(insert, triggers=(before,)).triggers == ("b",)
    assert not rows(insert, triggers=(before,)).silent
    assert rows(insert, triggers=(before,), can_silence=True).silent
    assert not rows("UPDATE ref2 SET id = 2", triggers=(before,), can_silence=True, referenced=frozenset({"id"})).silent
    assert rows(insert, triggers=(after,)).watched == 'trigger "a"'
    assert routed("DELETE FROM ref2 WHERE id = 1", triggers=(before, after)) == Copies(keyed=True)
    with pytest.raises(PgError, match='deferred trigger "d"'):
        routed(insert, triggers=(Trigger("d", 4, deferred=True),))


@pytest.mark.parametrize("facts", [{"kind": "v"}, {"rules": True}])
def test_views_and_rules_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(PgError) as raised:
        routed("INSERT INTO ref2 VALUES (1, 'x')", **facts)
    assert raised.value.sqlstate == "0A000"
    assert raised.value.hint


def test_merge_before_it_could_tell_what_it_did() -> None:
    merge = "MERGE INTO ref2 USING ref ON ref.id = ref2.id WHEN MATCHED THEN UPDATE SET name = 'x'"
    plan = routed(merge, version=16)
    assert isinstance(plan, Replicate)
    assert plan.lock == (
        'LOCK TABLE "public"."ref2" IN SHARE ROW EXCLUSIVE MODE; LOCK TABLE "public"."ref" IN SHARE MODE'
    )
    with pytest.raises(PgError, match=r"function random\(\)"):
        routed(merge.replace("'x'", "random()"), version=16)


@pytest.mark.parametrize(
    ("sql", "watched"),
    [
        ("COPY ref (id) FROM STDIN", "function its_own()"),
        ("COPY ref FROM STDIN WHERE about() < 0.5", "function about()"),
    ],
)
def test_a_copy_that_the_first_shard_computes(sql: str, watched: str) -> None:
    """What functions other than PostgreSQL's own write elsewhere is refused when they do."""
    plan = routed(sql, columns=(WrittenColumn("id"), WrittenColumn("serial", default="its_own()")))
    assert isinstance(plan, CopyFromClient)
    assert isinstance(plan.rows, Copies)
    assert plan.rows.rows is not None
    assert [column.name for column in plan.rows.rows.columns] == ["id", "serial"]
    assert plan.rows.rows.watched == watched
