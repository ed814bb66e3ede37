"""COPY FROM STDIN into a reference table: whatever a shard computes for its rows, all copies are equal."""

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
    CREATE TYPE mood AS ENUM ('sad', 'it''s "so');
    CREATE TABLE item (
        id serial PRIMARY KEY, name text, made timestamptz DEFAULT clock_timestamp(),
        token uuid DEFAULT gen_random_uuid(), weight float8 DEFAULT random(),
        size int GENERATED ALWAYS AS (length(name)) STORED, m mood, span span
    );
    CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);
    CREATE TABLE bag (name text, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE tree (id serial PRIMARY KEY, parent int REFERENCES tree, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE part (id serial, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (id, at))
        PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (3);
    CREATE TABLE part_2 PARTITION OF part DEFAULT;
    CREATE FUNCTION spy() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit VALUES (1, now()); RETURN 1; END $$;
    CREATE TABLE spied (id int PRIMARY KEY, n int DEFAULT spy());
    CREATE TABLE leaving (id int PRIMARY KEY, at timestamptz);
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
    CREATE TRIGGER keep BEFORE DELETE ON leaving FOR EACH ROW EXECUTE FUNCTION keep();
    CREATE VIEW shown AS SELECT * FROM note;
    CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO note VALUES (NEW.id, NEW.note); RETURN NEW; END $$;
    CREATE TRIGGER instead INSTEAD OF INSERT ON shown FOR EACH ROW EXECUTE FUNCTION instead();
"""
TABLES = (
    "moment", "note", "audit", "stamped", "audited", "item", "always", "bag", "tree", "part", "spied", "leaving"
)  # fmt: skip


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
    module_shop.databases.execute(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY CASCADE", oracle=False)
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
def test_a_moment_is_read_by_one_shard(shop: Shop, pieces: tuple[str, ...], inside: bool) -> None:
    """Rows of before that the transaction has written stay what they are."""
    with shop.connect() as connection:
        if inside:
            connection.execute("BEGIN; INSERT INTO moment VALUES (100); SAVEPOINT a; INSERT INTO moment VALUES (101)")
            connection.execute("UPDATE moment SET note = 'n' WHERE id = 100")
        load(connection, "COPY moment FROM STDIN", *pieces)
        connection.execute("UPDATE moment SET note = 'y' WHERE id = 1; COMMIT")
    assert len(shop.copies("moment")) == len("".join(pieces).splitlines()) + 2 * inside


def test_a_moment_in_csv(shop: Shop) -> None:
    with shop.connect() as connection:
        load(connection, "COPY moment (id, at) FROM STDIN CSV", '1,"2020-01-01"\n2,\n')
        for data in ("3,now\n", '4,n"o"w\n'):
            load(connection, "COPY moment (id, at) FROM STDIN CSV", data)
    assert len(shop.copies("moment")) == 4


def test_a_moment_beside_a_trigger_of_delete(shop: Shop) -> None:
    """What each shard has stored would have to be taken back."""
    with shop.connect() as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "keep"'):
            load(connection, "COPY leaving FROM STDIN", "1\tnow\n")
        load(connection, "COPY leaving FROM STDIN", "1\t2020-01-01\n")
    assert len(shop.copies("leaving")) == 1


def test_triggers(shop: Shop) -> None:
    with shop.connect() as connection:
        load(connection, "COPY stamped FROM STDIN", "1\t2020-01-01\n")
        load(connection, "COPY stamped FROM STDIN", "2\t\\N\n")
        load(connection, "COPY audited FROM STDIN", "1\n2\n")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "audit"'):
            load(connection, "COPY audited FROM STDIN", "3\n11\n")
    assert {table: len(shop.copies(table)) for table in TABLES if shop.copies(table)} == {"stamped": 2, "audited": 2}


def test_computed_defaults(shop: Shop) -> None:
    """Of more rows than are sent at once, in a session whose settings would make text of them that is not exact."""
    count = 1200
    with shop.connect(options="-c extra_float_digits=-10 -c datestyle=sql,dmy -c intervalstyle=iso_8601") as connection:
        load(connection, "COPY item (name) FROM STDIN", *(f"name {number}\n" for number in range(count)))
        load(connection, "COPY item (name, m, span) FROM STDIN CSV", '"it\'s","it\'s ""so","(1,now)"\n')
        load(connection, "COPY item (name, id) FROM STDIN (DEFAULT 'd')", "a\td\nb\t5000\n")
        load(connection, "COPY always (name) FROM STDIN", "a\nb\n")
        load(connection, "COPY bag (name) FROM STDIN", "a\na\n\\N\n")
        load(connection, "COPY tree (parent) FROM STDIN", "\\N\n1\n2\n")
        load(connection, "COPY part (at) FROM STDIN", "2020-01-01\n2020-01-01\n2020-01-01\n2020-01-01\n")
        connection.execute("INSERT INTO always (name) VALUES ('c')")
    sizes = {table: len(shop.copies(table)) for table in ("item", "always", "bag", "tree", "part")}
    assert sizes == {"item": count + 3, "always": 3, "bag": 3, "tree": 3, "part": 4}


def test_a_condition_that_each_shard_would_answer_for_itself(shop: Shop) -> None:
    with shop.connect() as connection:
        rows = "".join(f"{number}\tx\n" for number in range(200))
        load(connection, "COPY note FROM STDIN WHERE random() < 0.5", rows)
    assert 20 < len(shop.copies("note")) < 180


def test_computed_defaults_inside_a_transaction(shop: Shop) -> None:
    """Only COPY's own rows are sent, whatever the transaction has written before."""
    with shop.connect() as connection:
        connection.execute(
            "BEGIN; INSERT INTO item (name) VALUES ('a'), ('b'); UPDATE item SET name = 'c' WHERE id = 1"
        )
        load(connection, "COPY item (name) FROM STDIN", "d\n")
        connection.execute("SAVEPOINT s")
        load(connection, "COPY item (name) FROM STDIN", "e\n", "f\n")
        connection.execute("ROLLBACK TO s; UPDATE item SET name = 'g' WHERE name = 'd'")
        load(connection, "COPY item (name) FROM STDIN", "")
        load(connection, "COPY item (name) FROM STDIN", "h\n")
        connection.execute("COMMIT")
        names = connection.execute("SELECT name FROM item ORDER BY name").fetchall()
    assert [name for (name,) in names] == ["b", "c", "g", "h"]
    assert len(shop.copies("item")) == 4


def test_a_computed_default_that_fails(shop: Shop) -> None:
    """The error is the first shard's, with the client's line; nothing is left."""
    with shop.connect() as connection:
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            load(connection, "COPY always (name) FROM STDIN", "a\nb\na\n")
        assert caught.value.diag.context == "COPY always, line 3"
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"spy\(\)"):
            load(connection, "COPY spied (id) FROM STDIN", "1\n")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='view "public'):
            load(connection, "COPY shown FROM STDIN", "1\tx\n")
    assert not any(shop.copies(table) for table in ("always", "spied", "audit", "note"))


def test_writers_of_computed_defaults_at_once(shop: Shop) -> None:
    with shop.connect() as one, shop.connect() as other, one.transaction():
        load(one, "COPY item (name) FROM STDIN", "a\nb\n")
        load(one, "COPY bag (name) FROM STDIN", "a\n")
        load(other, "COPY item (name) FROM STDIN", "c\n")
        load(other, "COPY bag (name) FROM STDIN", "b\n")
        load(one, "COPY item (name) FROM STDIN", "d\n")
    assert (len(shop.copies("item")), len(shop.copies("bag"))) == (4, 2)


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
