"""COPY FROM STDIN into a reference table: all shards store it by themselves, and must have stored the same."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.integration.test_reference_writes import Shop
from tests.support.databases import Databases, Servers

DDL = """
    CREATE TYPE span AS (a int, b timestamptz);
    CREATE TABLE moment (id int PRIMARY KEY, at timestamptz, note text, many date[], span span);
    CREATE TABLE note (id int, note text);
    CREATE TABLE audit (id int, at timestamptz);
    CREATE TABLE stamped (id int PRIMARY KEY, at timestamptz);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT ON stamped FOR EACH ROW WHEN (NEW.at IS NULL) EXECUTE FUNCTION stamp();
    CREATE TABLE audited (id int PRIMARY KEY);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit VALUES (NEW.id, now()); RETURN NULL; END $$;
    CREATE TRIGGER audit AFTER INSERT ON audited FOR EACH ROW WHEN (NEW.id > 10) EXECUTE FUNCTION audit();
"""
TABLES = ("moment", "note", "audit", "stamped", "audited")


@pytest.fixture(scope="module")
def module_shop(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers18, one_server=True)
    try:
        databases.execute(DDL, oracle=False)
        yield Shop(databases, run_proxy_for_module(databases.config(unlisted_tables="reference", commit="two-phase")))
    finally:
        databases.drop()


@pytest.fixture
def shop(module_shop: Shop) -> Shop:
    module_shop.databases.execute(f"TRUNCATE {', '.join(TABLES)}", oracle=False)
    return module_shop


def load(connection: psycopg.Connection[tuple[object, ...]], statement: str, *pieces: str) -> None:
    with connection.cursor().copy(statement.encode()) as copy:
        for piece in pieces:
            copy.write(piece)


@pytest.mark.parametrize(
    "pieces",
    [
        ("1\t2020-01-01\tknow now\t{2020-01-01}\t\\N\n",),
        ("1\t2020-01-01 00:00:00+00\tto", "day\t\\N\t(1,2020-01-01)\n2\t\\N\ttomorrow\t{}\t\\N\n"),
    ],
)
def test_words_that_are_no_moments(shop: Shop, pieces: tuple[str, ...]) -> None:
    with shop.connect() as connection:
        load(connection, "COPY moment FROM STDIN", *pieces)
    assert shop.copies("moment")


@pytest.mark.parametrize(
    "pieces",
    [
        ("1\tnow\tx\t\\N\t\\N\n",),
        ("0\t2020-01-01\tx\t\\N\t\\N\n1\tN", "oW\tx\t\\N\t\\N\n"),
        ("1\t\\N\tx\t\\N\t(1,now)\n",),
        ("1\t \\Now\tx\t\\N\t\\N\n",),
        ("1\tn\\ow\tx\t\\N\t\\N\n",),
        ("1\t\\x6e\\157w\tx\t\\N\t\\N\n",),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_moment_that_each_shard_would_read_for_itself(shop: Shop, pieces: tuple[str, ...], inside: bool) -> None:
    with shop.connect() as connection:
        if inside:
            connection.execute("BEGIN; INSERT INTO moment VALUES (100); SAVEPOINT a; INSERT INTO moment VALUES (101)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="read as a moment"):
            load(connection, "COPY moment FROM STDIN", *pieces)
        connection.execute("ROLLBACK")
    assert shop.copies("moment") == []


def test_a_moment_in_csv(shop: Shop) -> None:
    with shop.connect() as connection:
        load(connection, "COPY moment (id, at) FROM STDIN CSV", '1,"2020-01-01"\n2,\n')
        for data in ("3,now\n", '3,n"o"w\n'):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="read as a moment"):
                load(connection, "COPY moment (id, at) FROM STDIN CSV", data)
    assert len(shop.copies("moment")) == 2


def test_triggers(shop: Shop) -> None:
    with shop.connect() as connection:
        load(connection, "COPY stamped FROM STDIN", "1\t2020-01-01\n")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "stamp"'):
            load(connection, "COPY stamped FROM STDIN", "2\t\\N\n")
        load(connection, "COPY audited FROM STDIN", "1\n2\n")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "audit"'):
            load(connection, "COPY audited FROM STDIN", "3\n11\n")
    assert {table: len(shop.copies(table)) for table in TABLES if shop.copies(table)} == {"stamped": 1, "audited": 2}


def test_a_table_without_a_key(shop: Shop) -> None:
    with shop.connect() as connection, shop.connect() as other:
        with connection.transaction():
            load(connection, "COPY note FROM STDIN", "1\tnow\n")
            other.execute("INSERT INTO note VALUES (2, 'y')")
            other.execute("SET lock_timeout = '200ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("UPDATE note SET note = 'z'")
        other.execute("UPDATE note SET note = 'z'")
    assert shop.copies("note") == ["(1,z)", "(2,z)"]
