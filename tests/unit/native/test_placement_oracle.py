"""List and range placement, and the canonical form, against PostgreSQL's partitions and ORDER BY."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql

from shardproxy.native import (
    MAXVALUE,
    MINVALUE,
    PLACE_NO_PARTITION,
    Infinite,
    Placement,
    canonical,
)
from tests.support.databases import Databases, Servers
from tests.unit.native.spellings import KEY_TYPES, KeyType

SHARDS = 5
STRINGS = ("text", "varchar(5)", "char(6)")


@pytest.fixture(scope="module")
def connection(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    databases = Databases.create(servers, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection
    databases.drop()


def run(connection: psycopg.Connection[Any], statement: str, *parts: sql.Composable) -> None:
    connection.execute(sql.SQL(statement).format(*parts))


def column_of(key: KeyType) -> str:
    return key.sql + (' COLLATE "C"' if key.sql in STRINGS else "")


def certain(key: KeyType, rng: random.Random, version: int, count: int) -> list[str]:
    """Spellings that native code reads, also as a literal, which is read before the typmod is applied."""
    found: list[str] = []
    types: list[int | tuple[int, int]] = [key.native, key.native[0]]
    while len(found) < count:
        text = key.spell(rng)
        if all(isinstance(canonical(type_, text.encode(), server_version=version), bytes) for type_ in types):
            found.append(text)
    return found


def load(connection: psycopg.Connection[Any], rows: Sequence[Sequence[str | None]]) -> dict[int, str]:
    """COPY the rows into t and return index -> name of the partition."""
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        for index, row in enumerate(rows):
            copy.write_row((index, *row))
    return dict(connection.execute("SELECT i, tableoid::regclass::text FROM t").fetchall())


def encode(row: Sequence[str | None]) -> list[bytes | None]:
    return [None if value is None else value.encode() for value in row]


@pytest.mark.parametrize("key", KEY_TYPES, ids=str)
def test_canonical_sorts_as_order_by(connection: psycopg.Connection[Any], pg_version: int, key: KeyType) -> None:
    rng = random.Random(f"order {key}")
    texts = certain(key, rng, pg_version, 1500)
    texts += rng.sample(texts, 50)
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute(f"CREATE TABLE t (i int, k {column_of(key)})".encode())
    load(connection, [(text,) for text in texts])
    ranked = connection.execute("SELECT i, dense_rank() OVER (ORDER BY k) FROM t ORDER BY 2").fetchall()
    forms = [canonical(key.native, texts[index].encode(), server_version=pg_version) for index, _ in ranked]
    for before, (_, rank), after, (_, next_rank) in zip(forms, ranked, forms[1:], ranked[1:], strict=False):
        assert isinstance(before, bytes)
        assert isinstance(after, bytes)
        assert before == after if rank == next_rank else before < after


@pytest.mark.parametrize("default", [None, 4], ids=["no default", "default"])
@pytest.mark.parametrize("key", KEY_TYPES, ids=str)
def test_list(connection: psycopg.Connection[Any], pg_version: int, key: KeyType, default: int | None) -> None:
    rng = random.Random(f"list {key}")
    texts: list[str | None] = [*certain(key, rng, pg_version, 400)]
    values: list[tuple[bytes | None, int]] = []
    shard_of: dict[bytes | int, int] = {}
    for text in rng.sample(texts, 40):
        assert text is not None
        form = canonical(key.native, text.encode(), server_version=pg_version)
        shard = shard_of.setdefault(form, rng.randrange(4))  # one value spelled twice stays on one shard
        values.append((text.encode(), shard))
    if default is None:
        values.append((None, 3))
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute(f"CREATE TABLE t (i int, k {column_of(key)}) PARTITION BY LIST (k)".encode())
    connection.execute("CREATE TABLE rest PARTITION OF t DEFAULT")
    for shard in range(4):
        literals = [
            sql.Literal(value.decode()) if value is not None else sql.NULL for value, at in values if at == shard
        ]
        if literals:
            run(
                connection,
                f"CREATE TABLE p{shard} PARTITION OF t FOR VALUES IN ({{}})",
                sql.SQL(", ").join(literals),
            )
    texts.append(None)
    expected = load(connection, [(text,) for text in texts])
    placement = Placement.list(SHARDS, key.native, values, default, server_version=pg_version)
    otherwise = PLACE_NO_PARTITION if default is None else default
    for index, text in enumerate(texts):
        shard = otherwise if expected[index] == "rest" else int(expected[index][1:])
        assert placement.place(encode([text])) == shard, repr(text)


def bound(rng: random.Random, spelled: Sequence[str]) -> list[str | Infinite]:
    """A bound tuple, some of it infinite as PostgreSQL allows: from one column on to the end."""
    tuple_: list[str | Infinite] = list(spelled)
    if rng.random() < 0.2:
        at = rng.randrange(len(tuple_))
        tuple_[at:] = [rng.choice([MINVALUE, MAXVALUE])] * (len(tuple_) - at)
    return tuple_


def literal(bounds: Sequence[str | Infinite]) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL(value.name) if isinstance(value, Infinite) else sql.Literal(value) for value in bounds
    )


def native_bound(bounds: Sequence[str | Infinite]) -> list[bytes | Infinite]:
    return [value if isinstance(value, Infinite) else value.encode() for value in bounds]


@pytest.mark.parametrize("seed", range(12))
def test_range(connection: psycopg.Connection[Any], pg_version: int, seed: int) -> None:
    """Random ranges one after the other: what PostgreSQL refuses is refused, and rows go where its rows go."""
    rng = random.Random(f"range {seed}")
    keys = rng.sample(KEY_TYPES, rng.choice([1, 1, 2, 3]))
    pools = [certain(key, rng, pg_version, rng.choice([8, 60])) for key in keys]
    names = ", ".join(f"k{n}" for n in range(len(keys)))
    columns = ", ".join(f"k{n} {column_of(key)}" for n, key in enumerate(keys))
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute(f"CREATE TABLE t (i int, {columns}) PARTITION BY RANGE ({names})".encode())
    connection.execute("CREATE TABLE rest PARTITION OF t DEFAULT")
    types = [key.native for key in keys]
    accepted: list[tuple[list[bytes | Infinite], list[bytes | Infinite], int]] = []
    refused = 0
    for number in range(60):
        lower = bound(rng, [rng.choice(pool) for pool in pools])
        upper = bound(rng, [rng.choice(pool) for pool in pools])
        candidate = (native_bound(lower), native_bound(upper), len(accepted))
        try:
            placement = Placement.range(100, types, [*accepted, candidate], server_version=pg_version)
        except ValueError:
            placement = None
        name = sql.Identifier(f"p{len(accepted)}")
        try:
            run(
                connection,
                "CREATE TABLE {} PARTITION OF t FOR VALUES FROM ({}) TO ({})",
                name,
                literal(lower),
                literal(upper),
            )
        except psycopg.errors.InvalidObjectDefinition:
            assert placement is None, (number, candidate)
            refused += 1
        else:
            assert placement is not None, (number, candidate)
            accepted.append(candidate)
    assert accepted
    assert refused
    rows: list[list[str | None]] = [[rng.choice(pool) for pool in pools] for _ in range(400)]
    rows += [[None if rng.random() < 0.5 else rng.choice(pool) for pool in pools] for _ in range(20)]
    expected = load(connection, rows)
    rng.shuffle(accepted)
    placement = Placement.range(100, types, accepted, 99, server_version=pg_version)
    without = Placement.range(100, types, accepted, server_version=pg_version)
    for index, row in enumerate(rows):
        nowhere = expected[index] == "rest"
        shard = int(expected[index].removeprefix("p")) if not nowhere else None
        assert placement.place(encode(row)) == (99 if shard is None else shard), row
        assert without.place(encode(row)) == (PLACE_NO_PARTITION if shard is None else shard), row
