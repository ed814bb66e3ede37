"""Writes of reference tables in pipelines, as executemany sends them: PostgreSQL's answers, and equal copies."""

from collections.abc import Iterator, Sequence

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.messages import SYNC, Said, bind, describe, execute, joined, parse
from tests.support.twin import Twin

DDL = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE thing (
        id serial PRIMARY KEY, name text UNIQUE, n int DEFAULT 0 CHECK (n < 1000), m mood,
        made timestamptz DEFAULT now()
    );
    CREATE TABLE part (thing int REFERENCES thing (id), no int, PRIMARY KEY (thing, no));
    CREATE TABLE bag (name text, n int);
"""
TABLES = ("thing", "part", "bag")

MANY = 60


@pytest.fixture(scope="module")
def module_things(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    """On each version: what UPDATE and ON CONFLICT give of a row differs."""
    with Twin.open(servers, run_proxy_for_module, unlisted_tables="reference") as twin:
        twin.databases.execute(DDL)
        yield twin


@pytest.fixture
def things(module_things: Twin) -> Twin:
    """Five things."""
    module_things.databases.execute(
        f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY; "
        "INSERT INTO thing (name, n, made) SELECT 'old' || g, g, '2020-01-01' FROM generate_series(1, 5) AS g; "
        "SELECT setval('thing_id_seq', 5)"
    )
    return module_things


def pipeline(sql: str, *values: tuple[str | None, ...], described: bool = True, then: tuple[Said, ...] = ()) -> bytes:
    """Return one statement executed with each of the values."""
    each = [
        message
        for one in values
        for message in (bind("", "s", *one), *([describe("P")] if described else ()), execute())
    ]
    return joined((parse("s", sql), *each, *then, SYNC))


NAMES = [(f"n{number}",) for number in range(MANY)]

PIPELINES: dict[str, tuple[str, Sequence[tuple[str, ...]]]] = {
    "constants": ("INSERT INTO part VALUES ($1, $2)", [(str(1 + k % 5), str(k)) for k in range(MANY)]),
    "serial": ("INSERT INTO thing (name) VALUES ($1)", NAMES),
    "several rows": ("INSERT INTO thing (name, n) VALUES ($1, 1), ($1 || 'b', 2)", NAMES),
    "an enum": ("INSERT INTO thing (name, m) VALUES ($1, $2)", [(*one, "glad") for one in NAMES]),
    "a moment": ("INSERT INTO thing (name, made) VALUES ($1, $2)", [(*one, "now") for one in NAMES]),
    "no key": ("INSERT INTO bag VALUES ($1, $2)", [("x", str(k)) for k in range(MANY)]),
    "by key, again and again": ("UPDATE thing SET n = $2 WHERE id = $1", [(str(k % 7), str(k)) for k in range(MANY)]),
    "what was there": ("UPDATE thing SET n = n + 1, made = now() WHERE id = $1", [(str(k % 7),) for k in range(MANY)]),
    "several rows changed": ("UPDATE thing SET n = n + $1 WHERE n >= $1", [(str(k % 9),) for k in range(30)]),
    "the key": ("UPDATE thing SET id = $2 WHERE id = $1", [(str(k), str(k + 1)) for k in range(5, 5 + MANY)]),
    "conflict, update": (
        "INSERT INTO thing (name, n) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET n = thing.n + 1",
        [(f"n{k % 11}",) for k in range(MANY)],
    ),
    "conflict, nothing": ("INSERT INTO thing (name) VALUES ($1) ON CONFLICT DO NOTHING", NAMES[:20] + NAMES),
    "delete": ("DELETE FROM thing WHERE id = $1", [(str(k),) for k in range(8)]),
    "delete what is found": ("DELETE FROM thing WHERE n = (SELECT max(n) FROM thing) AND $1 <> ''", [("x",)] * 7),
    "a duplicate": ("INSERT INTO thing (name) VALUES ($1)", NAMES[:30] + NAMES[20:]),
    "a check": ("UPDATE thing SET n = $2 WHERE id = $1", [("1", str(k * 40)) for k in range(MANY)]),
    "no such row": ("INSERT INTO part VALUES ($1, 1)", [(str(k),) for k in range(1, 10)]),
    "no number": ("INSERT INTO part VALUES ($1, 1)", [("1",), ("2",), ("three",), ("4",)]),
    "a value too many": ("INSERT INTO thing (name) VALUES ($1)", [("a",), ("b",), ("c", "d"), ("e",)]),
}


def equal(things: Twin) -> None:
    """All copies are equal, and have the oracle's rows but for moments."""
    for table in TABLES:
        listing = f"SELECT to_jsonb({table}) - 'made' FROM {table} ORDER BY 1"
        copies = things.databases.rows(f"SELECT to_jsonb({table}) FROM {table} ORDER BY 1")
        assert copies[1:] == copies[:1] * 2
        assert things.databases.rows(listing)[0] == things.databases.oracle_rows(listing)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline(things: Twin, name: str) -> None:
    sql, values = PIPELINES[name]
    if name == "the key" and things.version < 18:
        pytest.skip("UPDATE of a key by what is no constant is refused")
    things.compare(pipeline(sql, *values), "SELECT count(*) FROM thing")
    equal(things)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_in_a_transaction(things: Twin, name: str) -> None:
    """What fails is rolled back to a savepoint, and done without Describe."""
    sql, values = PIPELINES[name]
    if name == "the key" and things.version < 18:
        pytest.skip("UPDATE of a key by what is no constant is refused")
    things.compare(
        "BEGIN", "INSERT INTO bag VALUES ('before', 1)", "SAVEPOINT a", pipeline(sql, *values, described=False),
        "ROLLBACK TO a", "INSERT INTO bag VALUES ('after', 1)", "SELECT count(*) FROM bag", "COMMIT",
    )  # fmt: skip
    equal(things)


def test_other_messages_in_between(things: Twin) -> None:
    """Another statement reads what came before it, a portal is executed twice, and a Flush is answered."""
    insert = [message for one in NAMES for message in (bind("", "s", *one), execute())]
    look = parse("", "SELECT count(*) FROM thing"), bind("", ""), execute()
    again = parse("s2", "UPDATE thing SET n = $1 WHERE id = 1"), bind("", "s2", "3"), execute(), execute()
    things.compare(
        joined((parse("s", "INSERT INTO thing (name) VALUES ($1)"), *insert[:41], *look, *insert[42:90], *again, SYNC)),
        joined((*insert[90:], *look, bind("", "s", "last"), execute(), describe("P"), SYNC)),
    )
    equal(things)


def test_many_drivers_rows(things: Twin) -> None:
    """psycopg's executemany, with more rows than one batch takes, from several sessions in turn."""
    for dsn in (things.dsn, things.databases.oracle):
        with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
            for connection, letter in ((one, "a"), (other, "b"), (one, "c")):
                cursor = connection.cursor()
                cursor.executemany("INSERT INTO thing (name) VALUES (%s)", [(f"{letter}{k}",) for k in range(1200)])
                assert cursor.rowcount == 1200
                cursor.executemany("UPDATE thing SET n = %s WHERE name = %s", [(k, f"{letter}{k}") for k in range(900)])
                assert cursor.rowcount == 900
                connection.commit()
    equal(things)
