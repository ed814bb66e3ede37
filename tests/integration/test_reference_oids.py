"""Values that are OIDs of relations and the like: each shard has other ones, and copies of a table must be equal.

A column of type regclass holds an OID and shows a name, so it may differ; what is computed of it may not.
"""

import psycopg
import pytest

from tests.support.twin import Twin

DDL = """
    DROP TABLE IF EXISTS ref CASCADE;
    CREATE TABLE ref (a int PRIMARY KEY, b text, r regclass, rs regclass[], n bigint, o oid);
    INSERT INTO ref (a, r, rs) VALUES (1, 'public.t', '{public.t}'), (2, 'public.one', '{public.one,pg_class}');
"""

WRITES = [
    "UPDATE ref SET n = r::oid::bigint WHERE a = 1",
    "UPDATE ref SET o = r WHERE a = 1",
    "UPDATE ref SET b = rs::oid[]::text WHERE a = 1",
    "UPDATE ref SET r = 'public.ref' WHERE r = 'public.t'::regclass",
    "UPDATE ref SET r = 'public.ref', n = r::oid::bigint WHERE r = 'public.t'::regclass AND a = 1",
    "INSERT INTO ref (a, r, o) VALUES (3, 'public.t', 'public.t'::regclass)",
    "INSERT INTO ref (a, r) VALUES (1, 'ref') ON CONFLICT (a) DO UPDATE SET o = EXCLUDED.r, n = ref.r::oid::bigint",
    "INSERT INTO ref (a, o) SELECT 3, r FROM ref WHERE a = 1",
    "DELETE FROM ref WHERE r = 'public.t'::regclass",
    "ALTER TABLE ref ADD c oid DEFAULT 'public.t'::regclass",
    "ALTER TABLE ref ALTER r TYPE bigint USING r::oid::bigint",
    "ALTER TABLE ref ALTER b TYPE bigint USING r::oid::bigint",
]


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.databases.execute(DDL)
    assert not module_twin.proxied("ALTER TABLE ref RESET (fillfactor)")[0].errors
    oids = [rows[0] for rows in module_twin.databases.rows("SELECT 'public.t'::regclass::oid")]
    assert len(set(oids)) == len(oids)
    return module_twin


@pytest.mark.parametrize("write", WRITES)
def test_copies_are_equal(twin: Twin, write: str) -> None:
    assert not twin.compare(write, "SELECT a, n IS NULL, o IS NULL, b IS NULL FROM ref")[0].errors
    twin.copies()


def test_a_name_without_its_type(twin: Twin) -> None:
    """PostgreSQL compares as oid, and does not take a name for one."""
    twin.compare("UPDATE ref SET b = 'x' WHERE r = 'public.t'", "SELECT a FROM ref WHERE r = 'public.t'", ignore="P")


@pytest.mark.parametrize("prepare", [False, True])
def test_a_parameter_that_is_a_name(twin: Twin, prepare: bool) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        connection.execute("UPDATE ref SET r = %s WHERE a = 1", ("public.ref",), prepare=prepare)
        connection.execute("UPDATE ref SET o = %s::regclass WHERE a = 2", ("public.ref",), prepare=prepare)
        found = connection.execute(
            "SELECT a FROM ref WHERE r = %s::regclass", ("public.ref",), prepare=prepare
        ).fetchall()
        assert found == [(1,)]
    twin.copies()


def test_rows_that_a_copy_leaves_out(twin: Twin) -> None:
    """By the OIDs of the first shard, whatever the others would have made of them."""
    [[(oid,)], *_] = twin.databases.rows("SELECT 'public.t'::regclass::oid::bigint")
    with psycopg.connect(twin.dsn, autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY ref (a, r) FROM STDIN WHERE r::oid::bigint = {oid}".encode()) as copy:
            copy.write("3\tpublic.t\n4\tpublic.one\n")
        assert cursor.rowcount == 1
    assert len(twin.copies()) == 3
