"""Rows of another database's query: each value is what it was, and rows that are bad are set aside."""

import datetime as dt
import sqlite3
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import psycopg.types.json
import pytest

from shardproxy.loader.source.batch import ROWS
from tests.support.commands import run
from tests.support.databases import Databases, execute, query
from tests.support.loading import Loader

pytestmark = pytest.mark.newest

TABLES = ({"name": "t", "placement": "hash", "key": ["id"]},)
DDL = "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, a text, n numeric CHECK (n < 1000000))"


@pytest.fixture
def loader(one_server: Databases, tmp_path: Path) -> Loader:
    one_server.execute(DDL)
    return Loader({"to": one_server.oracle}, tmp_path / "rejects")


@pytest.fixture
def over_shards(one_server: Databases, tmp_path: Path) -> Loader:
    one_server.execute(DDL)
    config = tmp_path / "proxy.toml"
    config.write_text(one_server.config(TABLES, commit="two-phase"))
    return Loader({"config": str(config)}, tmp_path / "rejects")


def sqlite(path: Path, script: str) -> str:
    """Make a file; return its address."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return f"sqlite:{path}"


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """A file with more rows than one batch has, of which one has a NULL and one text that has to be escaped."""
    return sqlite(
        tmp_path / "shop.db",
        f"""CREATE TABLE t (id integer, a text, n real);
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {2 * ROWS + 7})
        INSERT INTO t SELECT x, 'name' || char(9, 10, 92) || x, x / 8.0 FROM c;
        UPDATE t SET a = NULL WHERE id = 3;""",
    )


# SQLite.


@pytest.mark.parametrize("target", ["loader", "over_shards"])
def test_a_table_goes_by_its_name(
    request: pytest.FixtureRequest, one_server: Databases, shop: str, target: str
) -> None:
    loader: Loader = request.getfixturevalue(target)
    count = 2 * ROWS + 7
    assert loader.run(source=shop, table="t").counts == (count, count, 0)
    dsns = [one_server.oracle] if target == "loader" else one_server.shards
    found = sorted(row for dsn in dsns for row in query(dsn, "SELECT * FROM t"))
    assert found == [(n, None if n == 3 else f"name\t\n\\{n}", Decimal(n) / 8) for n in range(1, count + 1)]


def test_a_query_its_columns_by_name_and_a_limit(loader: Loader, one_server: Databases, shop: str) -> None:
    loaded = loader.run(
        source=shop,
        table="t",
        query="SELECT 1.5 AS n, id AS number, 'left out' AS more FROM t ORDER BY id",
        map={"number": "id"},
        constant={"a": "the same"},
        extra_columns="ignore",
        limit=ROWS + 1,
    )
    assert loaded.counts == (ROWS + 1, ROWS + 1, 0)
    assert one_server.oracle_rows("SELECT DISTINCT a, n FROM t") == [("the same", Decimal("1.5"))]
    assert loaded.summary.altered["files not read to their end because of the limit"] == 1
    refused = loader.run(source=shop, table="t", query="SELECT id, 2 AS nowhere FROM t")
    assert (refused.error["sqlstate"], refused.error["message"]) == ("42703", 'the table has no column "nowhere"')


def test_bad_rows_are_set_aside_with_their_key_and_load_again(
    loader: Loader, one_server: Databases, shop: str, tmp_path: Path
) -> None:
    bad = "CASE WHEN id % 500 = 0 THEN 'no number' WHEN id = 7 THEN 2000000 ELSE n END"
    loaded = loader.run(source=shop, table="t", query=f"SELECT id, {bad} AS n FROM t ORDER BY id")
    count = 2 * ROWS + 7
    assert loaded.counts == (count, count - 5, 5)
    assert sorted((one["line"], one["sqlstate"]) for one in loaded.facts) == [
        (7, "23514"),
        *((n, "22P02") for n in (500, 1000, 1500, 2000)),
    ]
    [data] = loaded.dats
    assert data.splitlines()[:2] == [b"id\tn", b"7\t2000000"]
    corrected = tmp_path / "corrected.txt"
    corrected.write_bytes(data.replace(b"no number", b"1").replace(b"2000000", b"1"))
    assert loader.run(corrected, table="t", format="text", header="names").counts == (5, 5, 0)
    assert one_server.oracle_rows("SELECT count(*) FROM t") == [(count,)]


DATES = """
    CREATE TABLE d (id integer PRIMARY KEY, d date, dt datetime, ts timestamp, tm time);
    INSERT INTO d VALUES
        (1, '2020-02-29', '2020-02-29 10:00:00', '2020-02-29T10:00:00.123Z', '10:00'),
        (2, 1582934400, 1582934400, 1582934400000, 36000),
        (3, 2458908.5, 2458908.916666667, 2458908.916666667, 0.5),
        (4, '2006-13-11', '', NULL, '25:00'),
        (5, '29/02/2020', 'now', '2020-02-29 10:00:00+02:00', NULL),
        (6, 0, '0000-00-00 00:00:00', '2020-02-29 10:00', ''),
        (7, 2020, '2020-02', '2020', NULL),
        (8, 'TODAY ', NULL, NULL, NULL),
        (9, 9e18, NULL, NULL, NULL),
        (10, NULL, NULL, 1582970400.5, NULL)"""


def test_dates_of_sqlite_are_text_seconds_milliseconds_and_julian_days(
    loader: Loader, one_server: Databases, tmp_path: Path
) -> None:
    execute(one_server.oracle, "CREATE TABLE d (id int, d date, dt timestamp, ts timestamptz, tm time)")
    loaded = loader.run(source=sqlite(tmp_path / "dates.db", DATES), table="d", set={"TimeZone": "Asia/Tokyo"})
    day, ten = dt.datetime(2020, 2, 29), dt.time(10)
    midnight = dt.datetime(2020, 2, 29, tzinfo=dt.UTC)
    at_ten = midnight.replace(hour=10)
    found = one_server.oracle_rows("SELECT * FROM d ORDER BY id")
    assert found == [
        (1, day.date(), day.replace(hour=10), at_ten.replace(microsecond=123000), ten),
        (2, day.date(), day, midnight, ten),
        (3, day.date(), day.replace(hour=10), at_ten, dt.time(0)),
    ]
    assert loaded.counts == (10, 3, 7)
    told = {one["line"]: (one["sqlstate"], one["message"]) for one in loaded.facts}
    assert {line: state for line, (state, _) in told.items()} == {
        4: "22008", 5: "22007", 6: "22008", 7: "22007", 8: "22007", 9: "22008", 10: "22008"
    }  # fmt: skip
    assert told[5][1] == '"now" is no timestamp, but the moment of the load'
    assert told[9][1] == "9000000000000000000 is out of range for type date"


@pytest.mark.parametrize(
    ("source", "asked", "sqlstate", "said"),
    [
        ("sqlite:{}/nowhere.db", None, "58P01", "does not exist"),
        ("sqlite:{}", None, "58P01", "does not exist"),
        ("sqlite:{}/shop.db", "SELECT nowhere FROM t", "42601", "SQLite refuses the query: no such column: nowhere"),
        ("sqlite:{}/shop.db", "SELECT 1; SELECT 2", "42601", "one statement at a time"),
        ("sqlite:{}/shop.db", "DELETE FROM t", "42601", "readonly"),
        ("oracle://nowhere", None, "22023", "the source is of no kind that is known"),
        ("python:nowhere:rows", None, "38000", "ModuleNotFoundError: No module named 'nowhere'"),
        ("python:sys", None, "22023", "is not python:MODULE:FUNCTION"),
        ("python:os:getcwd", None, "22023", "returns str, which is no DB-API connection or cursor"),
        ("postgresql://nobody", None, "22023", "dsn"),
    ],
)
def test_what_is_no_source_is_told(
    loader: Loader, shop: str, tmp_path: Path, source: str, asked: str | None, sqlstate: str, said: str
) -> None:
    loaded = loader.run(source=source.format(tmp_path), table="t", query=asked)
    assert (loaded.summary.exit_code, loaded.error["sqlstate"]) == (1, sqlstate), loaded.error
    assert said.lower() in (loaded.error["message"] + loaded.error.get("hint", "")).lower()


def test_options_of_files_are_refused(loader: Loader, shop: str) -> None:
    for options, said in (
        ({"format": "csv"}, "`format` is about files, and not about a `source`"),
        ({"query": "SELECT 1", "source_table": "t"}, "`query` and `source_table` exclude each other"),
    ):
        with pytest.raises(Exception, match=said):
            loader.run(source=shop, table="t", **options)
    with pytest.raises(Exception, match="no file is named, and no source"):
        loader.run(table="t")
    with pytest.raises(Exception, match="about a `source`"):
        loader.run("a.csv", table="t", query="SELECT 1")


# Any DB-API driver.


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, as `--source python:their_rows:rows` imports it."""
    made = ModuleType("their_rows")
    monkeypatch.setitem(sys.modules, "their_rows", made)
    return made


TYPED = """CREATE TABLE typed (id int, b bool, d date, ts timestamptz, t time, i interval, n numeric, raw bytea,
    words text[], facts jsonb, u uuid, f float8)"""
SAME: tuple[Any, ...] = (
    1,
    True,
    dt.date(1900, 2, 28),
    dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    dt.time(23, 59, 59, 999999),
    dt.timedelta(days=2, microseconds=4),
    Decimal("-12345678901234567890.10"),
    b"\x00\xff\\",
    ["a", 'b"', None, "\t"],
    {"k": [1, None]},
    uuid.UUID(int=5),
    0.1 + 0.2,
)


def test_values_of_a_driver_are_what_they_were(loader: Loader, one_server: Databases, module: ModuleType) -> None:
    execute(one_server.oracle, f"{TYPED}; CREATE TABLE source AS SELECT * FROM typed")
    marks = ", ".join(["%s"] * len(SAME))
    with psycopg.connect(one_server.oracle, autocommit=True) as connection:
        values = [psycopg.types.json.Jsonb(one) if isinstance(one, dict) else one for one in SAME]
        connection.execute(f"INSERT INTO source VALUES ({marks}), (2{', NULL' * (len(SAME) - 1)})", values)
    module.rows = lambda: psycopg.connect(one_server.oracle)  # type: ignore[attr-defined]
    loaded = loader.run(source="python:their_rows:rows", query="SELECT * FROM source ORDER BY id", table="typed")
    assert loaded.counts == (2, 2, 0), loaded.summary.error
    assert one_server.oracle_rows("SELECT * FROM typed ORDER BY id") == [SAME, (2, *[None] * (len(SAME) - 1))]


def test_a_cursor_that_has_run_its_query_and_one_whose_rows_are_mappings(
    loader: Loader, one_server: Databases, shop: str, module: ModuleType
) -> None:
    def rows() -> sqlite3.Cursor:
        connection = sqlite3.connect(shop.removeprefix("sqlite:"), check_same_thread=False)
        connection.row_factory = lambda cursor, row: dict(zip((one[0] for one in cursor.description), row, strict=True))
        return connection.execute("SELECT id, a FROM t LIMIT 5")

    module.rows = rows  # type: ignore[attr-defined]
    assert loader.run(source="python:their_rows:rows", table="t").counts == (5, 5, 0)
    assert one_server.oracle_rows("SELECT count(*) FROM t") == [(5,)]


def test_what_a_driver_cannot_go_on_with_ends_the_load(
    loader: Loader, one_server: Databases, module: ModuleType
) -> None:
    class Broken:
        description = (("id",), ("a",))
        asked = 0

        def fetchmany(self, size: int) -> list[tuple[object, ...]]:
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("the network is gone")
            return [(1, "x")]

        def close(self) -> None:
            """Nothing is open."""

    module.rows = Broken  # type: ignore[attr-defined]
    loaded = loader.run(source="python:their_rows:rows", table="t")
    assert (loaded.error["sqlstate"], loaded.error["message"]) == ("38000", "RuntimeError: the network is gone")
    assert one_server.oracle_rows("SELECT * FROM t") == []

    class Odd(Broken):
        def fetchmany(self, size: int) -> list[tuple[object, ...]]:
            return [(1, "x"), (2, object())]

    module.rows = Odd  # type: ignore[attr-defined]
    loaded = loader.run(source="python:their_rows:rows", table="t")
    assert loaded.error["sqlstate"] == "42804"
    assert loaded.error["message"].startswith('column "a": no PostgreSQL form is known for the Python type object')
    assert loaded.error["where"] == "python:their_rows:rows, line 2"


def test_a_nul_in_a_text_sets_its_row_aside(loader: Loader, shop: str) -> None:
    loaded = loader.run(source=shop, query="SELECT id, CASE id WHEN 5 THEN 'a' || char(0) END AS a FROM t", table="t")
    assert (loaded.counts[2], loaded.facts[0]["line"], loaded.facts[0]["sqlstate"]) == (1, 5, "22021")


# PostgreSQL.


def test_from_postgresql_and_through_a_proxy_s_shards(
    loader: Loader, over_shards: Loader, one_server: Databases
) -> None:
    everything = """SELECT g AS id, CASE WHEN g % 7 > 0 THEN E'a\\t\\\\\\n' || g END AS a, g / 8.0 AS n
        FROM generate_series(1, 50000) g"""
    execute(one_server.oracle, f"ALTER ROLE CURRENT_USER IN DATABASE {one_server.name} SET DateStyle = 'German'")
    loaded = over_shards.run(source=one_server.oracle, query=everything, table="t")
    assert loaded.counts == (50000, 50000, 0), loaded.summary.error
    found = sorted(row for rows in one_server.rows("SELECT * FROM t") for row in rows)
    assert found == sorted(one_server.oracle_rows(everything))
    some = loader.run(
        source=one_server.shards[0],
        table="t",
        query="SELECT id AS number, n, 1 AS more, DATE '2024-02-03' AS a FROM t",
        map={"number": "id"},
        extra_columns="ignore",
    )
    assert some.counts[1] == len(one_server.rows("SELECT FROM t")[0])
    assert one_server.oracle_rows("SELECT DISTINCT a FROM t") == [("2024-02-03",)]


def test_a_table_of_postgresql_constants_and_bad_rows(loader: Loader, one_server: Databases) -> None:
    execute(one_server.shards[1], "INSERT INTO t SELECT g, 'x', 1 FROM generate_series(1, 100) g")
    execute(
        one_server.shards[1], "CREATE TABLE other (number int, n text); INSERT INTO other VALUES (1, 'x'), (2, '2')"
    )
    source = one_server.shards[1]
    assert loader.run(source=source, table="t").counts == (100, 100, 0)
    execute(one_server.oracle, "TRUNCATE t")
    loaded = loader.run(source=source, table="t", source_table="other", map={"number": "id"}, constant={"a": "it's"})
    assert loaded.counts == (2, 1, 1)
    assert one_server.oracle_rows("SELECT * FROM t") == [(2, "it's", Decimal(2))]
    assert (loaded.facts[0]["line"], loaded.facts[0]["sqlstate"]) == (1, "22P02")
    assert loaded.dats == [b"id\tn\ta\n1\tx\tit's\n"]


@pytest.mark.parametrize(
    ("asked", "sqlstate"),
    [
        ("SELECT nothing FROM t", "42703"),
        ("DELETE FROM t RETURNING id", "42601"),
        ("SELECT 1 / (id - 5000) AS id FROM (SELECT generate_series(1, 9000)) g (id)", "22012"),
        ("SELECT pg_terminate_backend(pg_backend_pid())::int AS id", "08006"),
    ],
)
def test_what_the_source_refuses_is_told_and_nothing_is_stored(
    loader: Loader, one_server: Databases, asked: str, sqlstate: str
) -> None:
    loaded = loader.run(source=one_server.shards[0], query=asked, table="t")
    assert (loaded.summary.exit_code, loaded.error["sqlstate"]) == (1, sqlstate), loaded.error
    assert one_server.oracle_rows("SELECT * FROM t") == []


def test_a_command_line(one_server: Databases, shop: str, tmp_path: Path) -> None:
    one_server.execute(DDL)
    status, output = run(tmp_path / "log", "load", "--to", one_server.oracle, "--table", "t", "--source", shop)
    assert status == 0, output
    assert f"stored {2 * ROWS + 7:,}" in output


@pytest.mark.parametrize("target", ["loader", "over_shards"])
def test_nulls_in_sqlite_s_primary_key(
    request: pytest.FixtureRequest, one_server: Databases, tmp_path: Path, target: str
) -> None:
    """SQLite takes them, in any number, in every primary key that is not INTEGER: where the target does not, each is
    a bad row of its own, and where it does, each is stored."""
    loader: Loader = request.getfixturevalue(target)
    source = sqlite(
        tmp_path / "nulls.db",
        "CREATE TABLE t (id int PRIMARY KEY, a text);"
        "INSERT INTO t VALUES (1, 'first'), (NULL, 'second'), (3, 'third'), (NULL, 'fourth'), (NULL, NULL)",
    )
    loaded = loader.run(source=source, table="t", query="SELECT id, a FROM t ORDER BY rowid")
    dsns = [one_server.oracle] if target == "loader" else one_server.shards
    assert loaded.counts == (5, 2, 3), loaded.summary.error
    assert sorted((one["line"], one["sqlstate"]) for one in loaded.facts) == [(n, "23502") for n in (2, 4, 5)]
    assert sorted(row for dsn in dsns for row in query(dsn, "SELECT id, a FROM t")) == [(1, "first"), (3, "third")]
    one_server.execute("DROP TABLE t; CREATE TABLE t (id int UNIQUE, a text)")
    assert loader.run(source=source, table="t").counts == (5, 5, 0)
    found = [row for dsn in dsns for row in query(dsn, "SELECT id, a FROM t")]
    assert sorted(found, key=str) == [
        (1, "first"), (3, "third"), (None, "fourth"), (None, "second"), (None, None)
    ]  # fmt: skip
