"""Hash placement against PostgreSQL's own hash partitions: the same spellings, read by COPY on real servers.

The session's DateStyle, TimeZone and IntervalStyle are unusual on purpose: a spelling that native code places must not
depend on them.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from shardproxy.native import PLACE_INVALID, PLACE_UNSUPPORTED, Placement
from tests.support.databases import Databases, Servers
from tests.unit.native.spellings import CODES, KEY_TYPES, KeyType

SAMPLES = 3000
NUMERIC_OR_ANY_LENGTH = {CODES[name] for name in ("numeric", "text", "varchar", "bpchar", "name", "bytea")}
SHARDS = 7


@pytest.fixture(scope="module")
def connection(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    databases = Databases.create(servers, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as connection:
        yield connection
    databases.drop()


def partition_by_hash(connection: psycopg.Connection[Any], sql_type: str) -> None:
    connection.execute("DROP TABLE IF EXISTS h")
    connection.execute(f"CREATE TABLE h (i int, k {sql_type}) PARTITION BY HASH (k)".encode())
    for shard in range(SHARDS):
        bounds = f"MODULUS {SHARDS}, REMAINDER {shard}"
        connection.execute(f"CREATE TABLE h{shard} PARTITION OF h FOR VALUES WITH ({bounds})".encode())


def valid_of(connection: psycopg.Connection[Any], sql_type: str, texts: Sequence[str]) -> list[bool]:
    rows = connection.execute(
        "SELECT pg_input_is_valid(t, %s) FROM unnest(%s::text[]) WITH ORDINALITY u(t, i) ORDER BY i",
        (sql_type, list(texts)),
    )
    return [valid for (valid,) in rows]


def places_of(connection: psycopg.Connection[Any], texts: Sequence[str], valid: Sequence[bool]) -> dict[int, int]:
    """COPY the valid ones and return index -> remainder."""
    with connection.cursor() as cursor, cursor.copy("COPY h FROM STDIN") as copy:
        for index, text in enumerate(texts):
            if valid[index]:
                copy.write_row((index, text))
    rows = connection.execute("SELECT i, substr(tableoid::regclass::text, 2)::int FROM h")
    return dict(rows.fetchall())


@pytest.mark.newest
@pytest.mark.parametrize("key", KEY_TYPES, ids=str)
@pytest.mark.parametrize(
    ("datestyle", "timezone", "intervalstyle"),
    [("German, DMY", "Asia/Kathmandu", "sql_standard"), ("ISO, MDY", "UTC", "postgres")],
    ids=["german", "iso"],
)
def test_copy_places_as_native_code(
    connection: psycopg.Connection[Any],
    pg_version: int,
    key: KeyType,
    datestyle: str,
    timezone: str,
    intervalstyle: str,
) -> None:
    rng = random.Random(f"{key} {datestyle}")
    connection.execute(
        """SELECT set_config('datestyle', %s, false), set_config('timezone', %s, false),
            set_config('intervalstyle', %s, false)""",
        (datestyle, timezone, intervalstyle),
    )
    texts = [key.spell(rng) for _ in range(SAMPLES)]
    partition_by_hash(connection, key.sql)
    valid = valid_of(connection, key.sql, texts)
    expected = places_of(connection, texts, valid)
    placement = Placement.hash(SHARDS, [key.native], server_version=pg_version, utc=timezone == "UTC")
    placed = 0
    for index, text in enumerate(texts):
        got = placement.place([text.encode()])
        if got == PLACE_UNSUPPORTED:
            continue
        if valid[index]:
            assert got == expected[index], repr(text)
            placed += 1
        else:
            assert got == PLACE_INVALID, repr(text)
    assert placed > SAMPLES * 0.2, "too few spellings were comparable"


@pytest.mark.parametrize("key", KEY_TYPES, ids=str)
def test_binary_fields_place_as_text(connection: psycopg.Connection[Any], pg_version: int, key: KeyType) -> None:
    rng = random.Random(f"binary {key}")
    connection.execute("SET timezone = 'UTC'")
    texts = [key.spell(rng) for _ in range(SAMPLES // 3)]
    valid = valid_of(connection, key.sql, texts)
    texts = [text for index, text in enumerate(texts) if valid[index]]
    partition_by_hash(connection, key.sql)
    expected = places_of(connection, texts, [True] * len(texts))
    sent = dict(connection.execute(f"SELECT i, {key.send}(k) FROM h".encode()).fetchall())
    placement = Placement.hash(SHARDS, [key.native], server_version=pg_version)
    for index, field in sent.items():
        assert placement.place([field], binary=True) == expected[index], (texts[index], field)
    fixed = key.native[0] not in NUMERIC_OR_ANY_LENGTH
    for field in list(sent.values())[:50]:
        for damaged in (field[:-1], field + b"\0", b""):
            if fixed or (key.send == "numeric_send" and damaged != field):
                assert placement.place([damaged], binary=True) == PLACE_INVALID


def test_several_columns_with_nulls(connection: psycopg.Connection[Any], pg_version: int) -> None:
    rng = random.Random(5)
    connection.execute("SET datestyle = 'ISO'; SET timezone = 'UTC'")
    simple = [key for key in KEY_TYPES if "(" not in key.sql]
    for _ in range(12):
        keys = rng.sample(simple, rng.randint(2, 6))
        connection.execute("DROP TABLE IF EXISTS m")
        columns = ", ".join(f"c{n} {key.sql}" for n, key in enumerate(keys))
        names = ", ".join(f"c{n}" for n in range(len(keys)))
        connection.execute(f"CREATE TABLE m ({columns}) PARTITION BY HASH ({names})".encode())
        for shards in (1, 2, 3, 4, 5, 8, 1000, 65521, 2**31 - 1):
            placement = Placement.hash(shards, [key.native for key in keys], server_version=pg_version, utc=True)
            rows: list[list[str | None]] = []
            remainders = []
            while len(rows) < 60:
                row = [None if rng.random() < 0.25 else key.spell(rng) for key in keys]
                place = placement.place([None if v is None else v.encode() for v in row])
                if place >= 0:
                    rows.append(row)
                    remainders.append(place)
            arguments = ", ".join(f"u.c{n}::{key.sql}" for n, key in enumerate(keys))
            arrays = ", ".join(["%s::int[]"] + ["%s::text[]"] * len(keys))
            check = (
                f"SELECT satisfies_hash_partition('m'::regclass, {shards}, r, {arguments}) "
                f"FROM unnest({arrays}) u(r, {names})"
            )
            answer = connection.execute(check.encode(), (remainders, *map(list, zip(*rows, strict=True)))).fetchall()
            assert all(satisfied for (satisfied,) in answer)


def test_a_key_of_nulls_has_remainder_zero() -> None:
    placement = Placement.hash(4, [KEY_TYPES[0].native, KEY_TYPES[3].native])
    assert placement.place([None, None]) == 0


def test_characters_are_counted_in_the_servers_encoding(servers: Servers, pg_version: int) -> None:
    """varchar(5) and char(6) of a LATIN1 database; and text keys are hashed in its bytes."""
    options = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    databases = Databases.create(servers, shards=0, options=options)
    rng = random.Random(9)
    try:
        with psycopg.connect(databases.oracle, autocommit=True) as connection:
            for key in KEY_TYPES:
                if key.sql not in {"text", "varchar(5)", "char(6)"}:
                    continue
                texts = [key.spell(rng).translate({0x20AC: 0xFC, 0x1F600: 0xDF}) for _ in range(SAMPLES)]
                partition_by_hash(connection, key.sql)
                valid = valid_of(connection, key.sql, texts)
                expected = places_of(connection, texts, valid)
                placement = Placement.hash(SHARDS, [key.native], server_version=pg_version, encoding="LATIN1")
                for index, text in enumerate(texts):
                    got = placement.place([text.encode("latin-1")])
                    assert got == (expected[index] if valid[index] else PLACE_INVALID), repr(text)
    finally:
        databases.drop()


def binary_numeric(rng: random.Random) -> bytes:
    """A numeric field as a careless client may write it: leading zeros, digits beyond the scale, any sign."""
    digits = [rng.choice([0, 0, 1, 5, 50, 499, 500, 4999, 5000, 9999, 10000]) for _ in range(rng.randint(0, 5))]
    weight = rng.choice([-3, -2, -1, 0, 1, 2, 7, 30000, -30000])
    sign = rng.choice([0, 0, 0, 0x4000, 0x4000, 0xC000, 0xD000, 0xF000, 0x8000])
    scale = rng.choice([0, 1, 2, 3, 4, 6, 8, 16383, 16384])
    field = struct.pack(f">HhHH{len(digits)}H", len(digits), weight, sign, scale, *digits)
    return field if rng.random() < 0.9 else field + rng.choice([b"\0", b"\0\0"])


@pytest.mark.parametrize("key", [key for key in KEY_TYPES if key.send == "numeric_send"], ids=lambda key: key.sql)
def test_binary_numerics(connection: psycopg.Connection[Any], pg_version: int, key: KeyType) -> None:
    rng = random.Random(f"binary {key}")
    partition_by_hash(connection, key.sql)
    placement = Placement.hash(SHARDS, [key.native], server_version=pg_version)
    accepted = 0
    for index in range(400):
        field = binary_numeric(rng)
        row = b"PGCOPY\n\xff\r\n\0" + bytes(8) + struct.pack(">hii", 2, 4, index)
        row += struct.pack(">i", len(field)) + field + b"\xff\xff"
        got = placement.place([field], binary=True)
        try:
            with connection.cursor() as cursor, cursor.copy("COPY h FROM STDIN BINARY") as copy:
                copy.write(row)
        except psycopg.DataError:
            assert got == PLACE_INVALID, field.hex()
        else:
            query = "SELECT substr(tableoid::regclass::text, 2)::int FROM h WHERE i = %s"
            assert connection.execute(query, (index,)).fetchone() == (got,), field.hex()
            accepted += 1
    assert accepted > 50
