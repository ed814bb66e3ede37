"""A word like `now` that a write of a reference table reads when it runs: one shard reads it, and all get what it read.

PostgreSQL reads `now` as the time at which its transaction began, and `today` by the session's time zone. So copies
that each read it for itself differ in their microseconds.
"""

import psycopg
import pytest

from tests.support.twin import Twin

DDL = """
    DROP TABLE IF EXISTS ref CASCADE;
    DROP CAST IF EXISTS (text AS timestamptz);
    DROP FUNCTION IF EXISTS read_at(text);
    DROP TYPE IF EXISTS at_pair CASCADE; DROP DOMAIN IF EXISTS at_domain CASCADE; DROP TYPE IF EXISTS at_range CASCADE;
    CREATE DOMAIN at_domain AS timestamptz;
    CREATE TYPE at_pair AS (at timestamptz, n int);
    CREATE TYPE at_range AS RANGE (subtype = timestamptz);
    CREATE FUNCTION read_at(text) RETURNS text LANGUAGE sql AS 'SELECT $1::timestamptz::text';
    CREATE TABLE ref (
        a int PRIMARY KEY, b text, js jsonb, at timestamptz, ats timestamptz[], span tstzrange, spans tstzmultirange[],
        own at_domain, pair at_pair, pairs at_pair[], range at_range
    );
    INSERT INTO ref (a, b, js) VALUES (1, 'n', '{"at": "now"}'), (2, 'x', '{}');
"""

WRITES = [
    "UPDATE ref SET at = (b || 'ow')::timestamptz WHERE a = 1",
    "UPDATE ref SET b = CAST(b || 'ow' AS timestamptz)::text WHERE a = 1",
    "UPDATE ref SET b = (b || 'ow')::timestamptz(6)::text WHERE a = 1",
    "UPDATE ref SET b = timestamptz(b || 'ow')::text WHERE a = 1",
    "UPDATE ref SET b = (b || 'ow').timestamptz::text WHERE a = 1",
    "UPDATE ref SET b = (b || 'ow').read_at WHERE a = 1",
    "UPDATE ref SET b = (b || 'ow')::at_domain::text WHERE a = 1",
    "UPDATE ref SET b = ROW(b || 'ow', 1)::at_pair::text WHERE a = 1",
    "UPDATE ref SET b = ('[' || b || 'ow,)')::tstzrange::text WHERE a = 1",
    "UPDATE ref SET b = ('[' || b || 'ow,)')::at_range::text WHERE a = 1",
    "UPDATE ref SET b = ('{' || b || 'ow}')::timestamptz[]::text WHERE a = 1",
    "UPDATE ref SET ats = ARRAY[b || 'ow']::timestamptz[] WHERE a = 1",
    "UPDATE ref SET spans = '{\"{[now,)}\"}' WHERE a = 1",
    "UPDATE ref SET pairs = ARRAY[ROW(b || 'ow', 1)::at_pair] WHERE a = 1",
    "UPDATE ref SET at = JSON_VALUE(js, '$.at' RETURNING timestamptz) WHERE a = 1",
    "UPDATE ref SET at = (jsonb_populate_record(NULL::at_pair, js)).at WHERE a = 1",
    "INSERT INTO ref (a, at) SELECT 3, d FROM JSON_TABLE('{\"d\": \"now\"}'::jsonb, '$' COLUMNS (d timestamptz)) AS j",
    "INSERT INTO ref (a, b) SELECT 3, g::text FROM generate_series('now', 'tomorrow', interval '1 day') AS g LIMIT 1",
    "INSERT INTO ref (a, b) VALUES (3, timestamptz_in('now', 0, -1)::text)",
    "INSERT INTO ref (a, at) VALUES (3, (SELECT b || 'ow' FROM ref WHERE a = 1)::timestamptz)",
    "INSERT INTO ref (a, b) VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = ((ref.b || 'ow')::timestamptz)::text",
    "ALTER TABLE ref ADD c timestamptz DEFAULT ('n' || 'ow')::timestamptz",
    "ALTER TABLE ref ALTER b TYPE timestamptz USING (CASE WHEN a = 1 THEN b || 'ow' END)::timestamptz",
    "ALTER TABLE ref ADD c at_range DEFAULT ('[' || 'now,)')::at_range",
]


@pytest.fixture
def twin(module_twin: Twin) -> Twin:
    module_twin.databases.execute(DDL)
    assert not module_twin.proxied("ALTER TABLE ref RESET (fillfactor)")[0].errors
    return module_twin


@pytest.mark.parametrize("write", WRITES)
def test_one_shard_reads_it(twin: Twin, write: str) -> None:
    twin.compare(write, "SELECT a, b = 'x' AS kept FROM ref WHERE a = 2", settings={"TimeZone": "UTC"})
    assert any("20" in str(row) for row in twin.copies())  # the year


@pytest.mark.parametrize("binary", [False, True])
def test_a_text_parameter(twin: Twin, binary: bool) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection, connection.cursor() as cursor:
        value = "%b" if binary else "%t"
        cursor.execute(f"UPDATE ref SET at = {value}::text::timestamptz WHERE a = 1", ["now"])
        cursor.execute(f"UPDATE ref SET b = {value}::timestamptz::text WHERE a = 2", ["now"])
    assert "20" in str(twin.copies()[1])


def test_a_cast_of_the_users_that_need_not_be_written(twin: Twin) -> None:
    twin.databases.execute("CREATE CAST (text AS timestamptz) WITH INOUT AS ASSIGNMENT")
    try:
        assert not twin.proxied("ALTER TABLE ref RESET (fillfactor)")[0].errors
        twin.compare("UPDATE ref SET at = b || 'ow' WHERE a = 1", "SELECT at IS NOT NULL FROM ref ORDER BY a")
        twin.copies()
    finally:
        twin.databases.execute("DROP CAST (text AS timestamptz)")


def test_rows_that_a_copy_leaves_out(twin: Twin) -> None:
    """Its WHERE is computed once, as all shards would decide for themselves."""
    with psycopg.connect(twin.dsn, autocommit=True) as connection, connection.cursor() as cursor:
        copy_sql = "COPY ref (a, at) FROM STDIN WHERE at < ('n' || 'ow')::timestamptz"
        with cursor.copy(copy_sql.encode()) as copy:
            copy.write("3\t2020-01-01\n4\t2999-01-01\n")
        assert cursor.rowcount == 1
    assert len(twin.copies()) == 3


def test_a_table_without_a_key(twin: Twin) -> None:
    twin.databases.execute("ALTER TABLE ref DROP CONSTRAINT ref_pkey")
    assert not twin.proxied("ALTER TABLE ref RESET (fillfactor)")[0].errors
    [reply] = twin.proxied("UPDATE ref SET at = (b || 'ow')::timestamptz WHERE a = 1")
    [error] = reply.errors
    assert error["C"] == "0A000"
    assert "primary key" in error["H"]
    twin.compare("UPDATE ref SET b = at::date::text, own = '2020-01-01'::timestamptz")
    twin.copies()
