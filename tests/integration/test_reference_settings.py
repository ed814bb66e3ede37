"""What is computed for a reference table reaches all copies whole, whatever the session's settings make of texts."""

from collections.abc import Iterator

import pytest

from tests.conftest import RunProxy
from tests.integration.test_reference_writes import Shop
from tests.support.databases import Databases, Servers

DDL = """
    CREATE TYPE measured AS (f float8, at timestamptz, took interval);
    CREATE TYPE floats AS RANGE (subtype = float8);
    CREATE DOMAIN weight AS float8;
    CREATE TABLE exact (
        id serial PRIMARY KEY, pt point, ls lseg, pa path, bx box, po polygon, li line, ci circle, pts point[],
        bxs box[], cis circle[], f4 float4, f8 float8, fs float8[], m measured, ms measured[], r floats, w weight,
        ws weight[]
    );
    CREATE FUNCTION third() RETURNS float8 LANGUAGE sql VOLATILE AS 'SELECT 0.1::float8 + 0.2::float8';
"""

INSERT = """
    INSERT INTO exact (pt, ls, pa, bx, po, li, ci, pts, bxs, cis, f4, f8, fs, m, ms, r, w, ws)
    SELECT p, lseg(p, point(7, 1)), path(polygon(box(p, point(7, 1)))), box(p, point(7, 1)),
        polygon(box(p, point(7, 1))), line(p, point(7, 1)), circle(p, third()), ARRAY[p], ARRAY[box(p, p)],
        ARRAY[circle(p, 1)], third() / 3, third(), ARRAY[third()], m, ARRAY[m], floats(third(), 1), third(),
        ARRAY[third()::weight]
    FROM (SELECT point(third(), 1), ROW(third(), now() - make_interval(secs => third()), make_interval(
        months => -1, days => 3, secs => -third()))::measured) AS made(p, m)
"""

SETTINGS = [
    "SET extra_float_digits = 0",
    "SET extra_float_digits = -15",
    "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kolkata'",
    "SET DateStyle = 'Postgres, MDY'; SET TimeZone = 'Europe/Dublin'",
    "SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'",
    "SET IntervalStyle = 'iso_8601'",
]


@pytest.fixture(scope="module")
def shop(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers, one_server=True)
    try:
        databases.execute(DDL)
        yield Shop(databases, run_proxy_for_module(databases.config(unlisted_tables="reference", commit="one-phase")))
    finally:
        databases.drop()


@pytest.mark.parametrize("settings", SETTINGS)
def test_values_are_whole(shop: Shop, settings: str) -> None:
    with shop.connect() as connection:
        connection.execute(settings.encode())
        before = connection.execute("SELECT name, setting FROM pg_settings WHERE name ~ 'style|float' ORDER BY 1")
        known = before.fetchall()
        connection.execute(INSERT.encode())
        with connection.transaction():
            connection.execute("UPDATE exact SET w = third() * 2, pt = point(third(), third())")
            assert connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name ~ 'style|float' ORDER BY 1"
            ).fetchall() == known  # fmt: skip
        connection.execute("INSERT INTO exact SELECT * FROM exact ON CONFLICT (id) DO UPDATE SET w = third()")
        after = connection.execute("SELECT name, setting FROM pg_settings WHERE name ~ 'style|float' ORDER BY 1")
        assert after.fetchall() == known
    assert shop.copies("exact")


def test_what_the_client_reads_of_them_follows_its_settings(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("SET extra_float_digits = 0; SET DateStyle = 'SQL'")
        row = connection.execute(
            "INSERT INTO exact (f8, m) SELECT third(), ROW(third(), timestamptz '2020-02-01', interval '1 day')"
            "::measured RETURNING f8::text, m::text"
        ).fetchone()
        assert row is not None
        assert (row[0], row[1].startswith('(0.3,"02/01/2020')) == ("0.3", True)
