"""Whether code may write: in doubt it may."""

import pytest

from shardproxy.sql import may_write

OWN = frozenset({"now", "upper", "nextval", "count", "query_to_xml", "numeric", "format"})
WRITING = frozenset({"query_to_xml"})

READS = [
    ("plpgsql", "BEGIN NEW.changed = now(); RETURN NEW; END"),
    ("plpgsql", "BEGIN IF TG_OP IN ('INSERT', 'UPDATE') THEN NEW.b := upper (NEW.b)::numeric(5, 2); END IF; END"),
    ("plpgsql", "DECLARE n int; BEGIN SELECT count(*) INTO n FROM t WHERE a IN (SELECT 1); RETURN n; END"),
    ("plpgsql", "BEGIN -- insert\n /* update\n */ RAISE NOTICE 'it''s a delete'; RETURN $q$ drop $q$; END"),
    ("plpgsql", 'BEGIN RETURN pg_catalog.now() > "delete"; END'),
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
    ("c", "$libdir/refint"),
    ("plpython3u", "return 1"),
]


@pytest.mark.parametrize(("language", "source"), READS)
def test_what_only_reads(language: str, source: str) -> None:
    assert not may_write(language, source, OWN, WRITING)


@pytest.mark.parametrize(("language", "source"), WRITES)
def test_what_may_write(language: str, source: str) -> None:
    assert may_write(language, source, OWN, WRITING)
