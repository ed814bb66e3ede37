"""Rows on their way from the shard that has computed them to the others."""

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from shardproxy.errors import ProtocolError
from shardproxy.routing import Rows
from shardproxy.routing.rows import Row, Unit, Writer, record, split_last, without_last
from shardproxy.routing.written import WrittenColumn
from shardproxy.wire import encode
from tests.support.databases import Databases, Servers

COLUMNS = (WrittenColumn("id", 23), WrittenColumn('a "b"', 25), WrittenColumn("é", 701))


def writer(verb: str, **more: Any) -> Writer:
    return Writer(Rows("public", "t", "x", verb, COLUMNS, ("id",), **more))


@pytest.fixture(scope="module")
def connection(servers18: Servers) -> Iterator[psycopg.Connection[tuple[str]]]:
    databases = Databases.create(servers18, shards=0)
    with psycopg.connect(databases.oracle) as opened:
        yield opened
    databases.drop()


def test_a_record_is_read_as_postgresql_writes_it(connection: psycopg.Connection[tuple[str]]) -> None:
    seeded = random.Random(3)
    for _ in range(500):
        fields = [
            None if seeded.random() < 0.2 else "".join(seeded.choices('ab",()\\ \n\té', k=seeded.randrange(5)))
            for _ in range(seeded.randrange(1, 6))
        ]
        places = ", ".join(["%s::text"] * len(fields))
        [(text,)] = connection.execute(f"SELECT ROW({places})::text".encode(), fields).fetchall()
        assert record(text.encode()) == [None if field is None else field.encode() for field in fields]


@pytest.mark.parametrize("text", [b"", b"(", b"a,b", b"(a", b'("a"b)'])
def test_what_is_no_record(text: bytes) -> None:
    if text == b'("a"b)':
        assert record(text) == [b'"a"b']  # PostgreSQL writes no such thing
        return
    with pytest.raises(ProtocolError):
        record(text)


def test_the_last_column_is_taken_off() -> None:
    row = encode.data_row([b"x", None, b"", b"(1)"])
    assert split_last(row[5:]) == (encode.data_row([b"x", None, b""])[5:], b"(1)")
    described = encode.row_description([("a", 25), ("bc", 23), ("row", 25)])
    assert without_last(described[5:]) == encode.row_description([("a", 25), ("bc", 23)])[5:]


@pytest.mark.parametrize(
    ("verb", "more", "expected"),
    [
        ("INSERT", {}, b'\nRETURNING ROW("x"."id", "x"."a ""b""", '),
        ("INSERT", {"returning": True}, b'\n, ROW("x"."id", '),
        ("UPDATE", {"old_key": True}, b'\nRETURNING WITH (OLD AS shardproxy_old) ROW(shardproxy_old."id", "x"."id", '),
        ("UPDATE", {"old_key": True, "returning": True, "old_row": "o p"}, b'\n, ROW("o p"."id", "x"."id", '),
        ("MERGE", {}, b'\nRETURNING ROW(merge_action(), "x"."id", '),
    ],
)
def test_what_the_first_shard_is_asked(verb: str, more: dict[str, Any], expected: bytes) -> None:
    asked = writer(verb, **more).returning()
    assert asked.startswith(expected)
    assert asked.endswith(b'pg_catalog.encode(pg_catalog.float8send("x".U&"\\+0000E9"), \'hex\'))::pg_catalog.text')


def test_what_became_of_a_row() -> None:
    assert writer("UPDATE").row(b"(1,x,)") == Row("UPDATE", [b"1"], [b"1", b"x", None])
    assert writer("UPDATE", old_key=True).row(b"(7,1,x,)") == Row("UPDATE", [b"7"], [b"1", b"x", None])
    assert writer("INSERT", upserts=True).row(b"(1,x,)").action == "UPSERT"
    assert writer("INSERT", upserts=True, old_key=True).row(b"(,1,x,)").action == "INSERT"
    assert writer("INSERT", upserts=True, old_key=True).row(b"(1,1,x,)").action == "UPDATE"
    assert writer("MERGE").row(b"(DELETE,1,x,)").action == "DELETE"
    with pytest.raises(ProtocolError):
        writer("UPDATE").row(b"(1,2)")


def units(made: Writer, *rows: Row) -> list[tuple[str, int]]:
    return [(unit.action, len(unit.rows)) for unit in made.units(rows)]


def test_rows_are_written_many_at_a_time() -> None:
    insert, update, delete = (Row(action, [b"1"], [b"1", b"x", None]) for action in ("INSERT", "UPDATE", "DELETE"))
    assert units(writer("MERGE"), *[insert] * 60, update, update, delete, insert) == [
        ("INSERT", 50), ("INSERT", 10), ("UPDATE", 2), ("DELETE", 1), ("INSERT", 1),
    ]  # fmt: skip
    assert units(writer("UPDATE", one_by_one=True), update, update) == [("UPDATE", 1)] * 2
    assert units(writer("UPDATE", triggers=("t",)), insert, insert, delete, delete) == [
        ("INSERT", 1), ("INSERT", 1), ("DELETE", 2),
    ]  # fmt: skip
    assert units(writer("INSERT", recursive=True), *[insert] * 600) == [("INSERT", 600)]


TYPES = ("int4", "text", "float8")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("action", ["INSERT", "UPSERT", "UPDATE", "DELETE"])
def test_every_statement_takes_its_types_from_the_table(
    connection: psycopg.Connection[tuple[str]], action: str, count: int
) -> None:
    """No type is named: those of the user's have other OIDs on each shard."""
    with connection.transaction(force_rollback=True):
        connection.execute('CREATE TABLE t (id int PRIMARY KEY, "a ""b""" text, "é" float8)')
        rows = [Row(action, [b"1"], [b"1", b"x", None])] * count
        sql = writer("MERGE").sql(Unit(action, rows)).decode()
        connection.execute(f"PREPARE p AS {sql}".encode())
        asked = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'p'"
        [(types,)] = connection.execute(asked).fetchall()
        once = {"INSERT": [0, 1, 2], "UPSERT": [0, 1, 2], "UPDATE": [1, 2, 0], "DELETE": [0]}[action]
        names = {"int4": "integer", "text": "text", "float8": "double precision"}
        assert list(types) == [names[TYPES[place]] for place in once] * count
        connection.execute("DEALLOCATE p")
