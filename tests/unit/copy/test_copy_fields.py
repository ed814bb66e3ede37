"""The fields of one row, as PostgreSQL reads them."""

import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from shardproxy.copy.fields import read_fields, without_newline
from shardproxy.copy.options import CopyOptions
from shardproxy.sql import CopyFrom, analyze
from tests.support.databases import Databases, Servers

COLUMNS = ("a", "b", "c")

OPTIONS = (
    "",
    "NULL 'x', DELIMITER '|'",
    "FORMAT csv",
    "FORMAT csv, QUOTE '''', ESCAPE '\\', NULL 'x'",
    "FORMAT csv, NULL 'x', FORCE_NULL (a), FORCE_NOT_NULL (b)",
    "FORMAT csv, NULL 'x', FORCE_NOT_NULL *",
)


PLAIN = ("a", "x", "xx", "\\", "\\N", "\\x41", "\\101", "\\t", '"', '""', "'", "é", " ", "\\\n")


@pytest.fixture(scope="module")
def connection(servers18: Servers) -> Iterator[psycopg.Connection[tuple[str | None, ...]]]:
    databases = Databases.create(servers18, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as opened:
        opened.execute("CREATE TABLE t (a text, b text, c text)")
        yield opened
    databases.drop()


@pytest.mark.parametrize("options", OPTIONS)
def test_random_rows(connection: psycopg.Connection[tuple[str | None, ...]], options: str) -> None:
    rng = random.Random(options)
    statement = f"COPY t FROM STDIN WITH ({options or 'FORMAT text'})"
    [copy] = analyze(statement)
    assert isinstance(copy, CopyFrom)
    known: CopyOptions = copy.options
    compared = 0
    for _ in range(150):
        pieces = [*PLAIN, *[known.delimiter] * 5]
        row = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 12))).encode() + rng.choice([b"\n", b"\r\n"])
        connection.execute("TRUNCATE t")
        try:
            with connection.cursor() as cursor, cursor.copy(sql.SQL(statement)) as load:
                load.write(row)
        except psycopg.Error:
            continue
        stored = connection.execute("TABLE t").fetchall()
        if len(stored) != 1:
            continue
        found = read_fields(without_newline(row, known), known, COLUMNS)
        assert tuple(None if one is None else one.decode() for one in found) == stored[0], row
        compared += 1
    assert compared > 3
