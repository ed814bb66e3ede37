"""Whether code may write: in doubt it may."""

import pytest

from shardproxy.sql import may_write

OWN = frozenset({"now", "upper", "nextval", "count", "query_to_xml", "numeric", "format", "lower"})
WRITING = frozenset({"query_to_xml"})

READS = [
    ("plpgsql", "BEGIN NEW.changed = now(); RETURN NEW; END"),
    ("plpgsql", "BEGIN IF TG_OP IN ('INSERT', 'UPDATE') THEN NEW.b := upper (NEW.b)::numeric(5, 2); END IF; END"),
    ("plpgsql", "DECLARE n int; BEGIN SELECT count(*) INTO n FROM t WHERE a IN (SELECT 1); RETURN n; END"),
    ("plpgsql", "BEGIN -- insert\n /* update\n */ RAISE NOTICE 'it''s a delete'; RETURN $q$ drop $q$; END"),
    ("plpgsql", 'BEGIN RETURN pg_catalog.now() > "delete"; END'),
    ("plpgsql", "BEGIN IF (NEW.a > 1) THEN RETURN NULL; END IF; RETURN COALESCE(NEW, OLD); END"),
    ("plpgsql", "BEGIN IF NEW IS DISTINCT FROM OLD THEN NEW.b = NEW . b || 'x'; END IF; RETURN NEW; END"),
    ("plpgsql", """BEGIN PERFORM 1 AS "it's"; RAISE NOTICE 'insert'; RETURN NEW; END"""),
    ("plpgsql", "BEGIN -- größer\n RAISE NOTICE 'größer'; FOR i IN 1..n LOOP NEW.b = i * 1.5; END LOOP; END"),
    ("plpgsql", "BEGIN RETURN $a$ ' $a$ || $$ ' $$; END"),
    ("sql", "SELECT $1 + 1"),
    ("sql", "SELECT a FROM t WHERE b = upper('x') AND (a = 1 OR a = 2)"),
    ("internal", "tsvector_update_trigger_byid"),
]

WRITES = [
    ("plpgsql", "BEGIN INSERT INTO t VALUES (1); END"),
    ("plpgsql", "BEGIN EXECUTE 'x'; END"),
    ("plpgsql", "BEGIN PERFORM f(); END"),
    ("plpgsql", "BEGIN PERFORM public.now(); END"),
    ("plpgsql", 'BEGIN PERFORM "Now"(); END'),
    ("plpgsql", "BEGIN RETURN query_to_xml('x'); END"),
    ("plpgsql", "BEGIN TRUNCATE t; END"),
    ("plpgsql", r"BEGIN RETURN E'\' || f() || '; END"),
    ("plpgsql", "BEGIN /* ' */ DELETE FROM t; -- '\n END"),
    ("sql", "SELECT 1 INTO t"),
    ("sql", "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x"),
    ("sql", ""),
    ("plpgsql", """BEGIN PERFORM 1 AS "it's"; INSERT INTO ref VALUES (NEW.a, 'x'); RETURN NEW; END"""),
    ("plpgsql", "BEGIN PERFORM open(NEW.a); RETURN NEW; END"),
    ("plpgsql", 'BEGIN PERFORM "public".now(); END'),
    ("plpgsql", "BEGIN PERFORM public /* its */ . now(); END"),
    ("plpgsql", "BEGIN PERFORM älower(NEW.b); END"),
    ("plpgsql", "BEGIN /* /* */ ' */ DELETE FROM t; -- '\n END"),
    ("plpgsql", "BEGIN NEW.a = x$a$; DELETE FROM t; y$a$; END"),
    ("plpgsql", "BEGIN NEW.a = 1$a$ ' $a$; DELETE FROM t; NEW.b = ' '; END"),
    ("plpgsql", "BEGIN -- \rDELETE FROM t;\n END"),
    ("plpgsql", "BEGIN PERFORM x.write_it FROM t AS x; END"),
    ("plpgsql", "BEGIN PERFORM (x).write_it FROM t AS x; END"),
    ("plpgsql", "BEGIN PERFORM (NEW).write_it; END"),
    ("plpgsql", 'BEGIN PERFORM x."write_it" FROM t AS x; END'),
    ("plpgsql", "BEGIN PERFORM new.write_it FROM t AS new; END"),
    ("plpgsql", 'BEGIN PERFORM new.write_it FROM t AS "new"; END'),
    ("plpgsql", "BEGIN PERFORM pg_catalog.write_it FROM t AS pg_catalog; END"),
    ("plpgsql", """BEGIN PERFORM U&"!0066" UESCAPE '!' (1); END"""),
    ("sql", "SELECT new.write_it FROM new"),
    ("sql", "SELECT $1.write_it"),
    ("c", "$libdir/refint"),
    ("plpython3u", "return 1"),
]


@pytest.mark.parametrize(("language", "source"), READS)
def test_what_only_reads(language: str, source: str) -> None:
    assert not may_write(language, source, OWN, WRITING)


@pytest.mark.parametrize("name", ["by", "cursor", "filter", "if", "is", "join", "over", "partition", "raise", "within"])
def test_key_words_that_are_names_of_functions(name: str) -> None:
    assert may_write("plpgsql", f"BEGIN RETURN {name}(NEW.a); END", OWN, WRITING)
    assert may_write("sql", f"SELECT CASE WHEN true THEN {name}(1) END", OWN, WRITING)


@pytest.mark.parametrize(("language", "source"), WRITES)
def test_what_may_write(language: str, source: str) -> None:
    assert may_write(language, source, OWN, WRITING)
