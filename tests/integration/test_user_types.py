"""Types of the user's own, whose OIDs differ on the shards: clients know them by those of the first shard."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute, query
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

TYPES = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
    CREATE TYPE pair AS (feeling mood, number int);
    CREATE TYPE nest AS (pairs pair[], one pair);
    CREATE DOMAIN feeling AS mood CHECK (VALUE <> 'sad');
    CREATE TYPE moods AS RANGE (subtype = mood);
    CREATE TABLE t (a int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], n nest, f feeling, fs feeling[], r moods);
"""

ROW = """({0}, 'ok', '{{sad,glad}}', '(glad,{0})', ARRAY['(sad,1)', '(ok,2)']::pair[],
    ROW(ARRAY[ROW('ok', 5)::pair], ROW('sad', {0}))::nest, 'ok', '{{ok,glad}}', '[ok,glad]')"""

KEYS = range(1, 13)
"""On every shard some."""


class Both:
    """One PostgreSQL, and a proxy over shards on which the types have other OIDs."""

    def __init__(self, databases: Databases, proxy: Proxy) -> None:
        self.databases = databases
        self.direct = databases.oracle
        self.proxied = proxy.dsn()

    @property
    def dsns(self) -> tuple[str, str]:
        return self.direct, self.proxied


@pytest.fixture(scope="module")
def both(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Both]:
    databases = Databases.create(servers18, one_server=False)
    try:
        for number, dsn in enumerate(databases.shards):
            for dummy in range(number * 7):
                execute(dsn, f"CREATE TYPE dummy{dummy} AS ENUM ('x'); DROP TYPE dummy{dummy}")
        databases.execute(TYPES)
        tables = [{"name": name, "placement": "hash", "key": ["a"]} for name in ("t", "s")]
        config = databases.config(tables)
        both = Both(databases, run_proxy_for_module(config))
        oids = {query(dsn, "SELECT 'mood'::regtype::oid")[0][0] for dsn in databases.shards}
        assert len(oids) == len(databases.shards)
        for dsn in both.dsns:
            for key in KEYS:
                execute(dsn, f"INSERT INTO t VALUES {ROW.format(key)}")
        assert all(query(dsn, "SELECT FROM t") for dsn in databases.shards)
        yield both
    finally:
        databases.drop()


def type_oids(dsn: str, *names: str) -> list[int]:
    """The OIDs that a client sees there."""
    return [query(dsn, f"SELECT '{name}'::regtype::oid::int8")[0][0] for name in names]


def names_of(dsn: str, oids: Sequence[int]) -> list[str]:
    """What a client that asks pg_type takes the types for."""
    return [query(dsn, f"SELECT format_type({oid}, NULL)")[0][0] for oid in oids]


def test_the_catalogs_are_those_that_descriptions_mean(both: Both) -> None:
    """Whatever shard a session is connected to first."""
    for key in KEYS:
        with psycopg.connect(both.proxied, autocommit=True) as connection:
            for _ in range(2):
                rows = connection.execute(f"SELECT m FROM t WHERE a = {key}".encode())
                assert rows.description is not None
                [(oid,)] = connection.execute("SELECT oid::int8 FROM pg_type WHERE typname = 'mood'").fetchall()
                assert rows.description[0].type_code == oid


# psycopg.


def psycopg_rows(dsn: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        mood = EnumInfo.fetch(connection, "mood")
        assert mood is not None
        register_enum(mood, connection)
        for name in ("pair", "nest"):
            composite = CompositeInfo.fetch(connection, name)
            assert composite is not None
            register_composite(composite, connection)
        found: list[Any] = []
        for binary in (False, True):
            for key in (*KEYS, *KEYS):  # the second time by prepared statements
                cursor = connection.cursor(binary=binary)
                columns = "a, m, ms, p, ps, n" if not binary else "a, m, ms"
                found += cursor.execute(
                    f"SELECT {columns} FROM t WHERE a = %s".encode(), (key,), prepare=True
                ).fetchall()
            found += sorted(connection.cursor(binary=binary).execute("SELECT a, m, ms FROM t").fetchall())
        return [repr(row) for row in found]


def test_psycopg_reads(both: Both) -> None:
    assert psycopg_rows(both.proxied) == psycopg_rows(both.direct)


def test_psycopg_writes(both: Both) -> None:
    for dsn in both.dsns:
        with psycopg.connect(dsn, autocommit=True) as connection:
            mood = EnumInfo.fetch(connection, "mood")
            assert mood is not None
            register_enum(mood, connection)
            assert mood.enum is not None
            glad = mood.enum["glad"]
            for key in (*KEYS, *KEYS):
                for kind in ("%s", "%b", "%t"):
                    update = f"UPDATE t SET m = {kind}, ms = {kind} WHERE a = %s".encode()
                    assert connection.execute(update, (glad, [glad, glad], key), prepare=True).rowcount == 1
    listing = "SELECT a, m, ms FROM t ORDER BY a"
    assert sorted(row for rows in both.databases.rows(listing) for row in rows) == query(both.direct, listing)


# asyncpg: binary everywhere, types by what ParameterDescription and RowDescription say.


def tuples(value: Any) -> Any:
    """Records as what asyncpg takes for composite values."""
    if isinstance(value, asyncpg.Record):
        return tuple(map(tuples, value.values()))
    return [*map(tuples, value)] if isinstance(value, list) else value


async def asyncpg_rows(dsn: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        found: list[Any] = []
        for key in (*KEYS, *KEYS):
            row = await connection.fetchrow("SELECT * FROM t WHERE a = $1", key)
            assert row is not None
            values = list(row.values())
            for number in range(2):  # what has been read is written again
                await connection.execute(
                    "UPDATE t SET m = $2, ms = $3, p = $4, ps = $5, n = $6, f = $7, fs = $8, r = $9 WHERE a = $1",
                    *map(tuples, values),
                )
                again = await connection.fetchrow("SELECT * FROM t WHERE a = $1", key)
                assert again is not None
                assert [*again.values()] == values, number
            found.append(repr(values))
            found.append(repr(await connection.fetchval("SELECT t FROM t WHERE a = $1", key)))
            found.append(repr(await connection.fetchval("SELECT ROW(m, ms, p) FROM t WHERE a = $1", key)))
        found += sorted(repr(row) for row in await connection.fetch("SELECT * FROM t"))
        async with connection.transaction():
            cursor = [repr(row) async for row in connection.cursor("SELECT * FROM t", prefetch=2)]
        found += sorted(cursor)
        return found
    finally:
        await connection.close()


def test_asyncpg(both: Both) -> None:
    async def run() -> None:
        assert await asyncpg_rows(both.proxied) == await asyncpg_rows(both.direct)

    asyncio.run(run())


def test_asyncpg_with_a_codec(both: Both) -> None:
    async def run(dsn: str) -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.set_type_codec("mood", encoder=str.lower, decoder=str.upper, format="text")
            return [
                await connection.fetchval("UPDATE t SET m = $2 WHERE a = $1 RETURNING m", key, "OK") for key in KEYS
            ]
        finally:
            await connection.close()

    assert asyncio.run(run(both.proxied)) == asyncio.run(run(both.direct)) == ["OK"] * len(KEYS)


# The protocol.


def test_types_of_parse_and_descriptions(both: Both) -> None:
    names = ("mood", "mood[]", "pair", "pair[]", "nest", "moods")
    shown = []
    for dsn in both.dsns:
        oids = type_oids(dsn, *names)
        with RawClient(dsn) as client:
            for key in (*KEYS, *KEYS):
                sql = b"SELECT m, ms, p, ps, n, r, f FROM t WHERE a = %d AND ($1 IS NOT NULL OR $2 IS NULL)" % key
                parse = encode.parse(b"", sql, oids[:2])
                client.send(parse + encode.describe(b"S", b"") + encode.SYNC)
                messages = []
                while (message := client.read()) is not None and message.type != B.READY_FOR_QUERY:
                    messages.append(message)
                [parameters] = [one.payload for one in messages if one.type == B.PARAMETER_DESCRIPTION]
                [columns] = [one.payload for one in messages if one.type == B.ROW_DESCRIPTION]
                shown.append(
                    (
                        names_of(dsn, decode.parameter_description(parameters)),
                        names_of(dsn, [column.type_oid for column in decode.row_description(columns)]),
                    )
                )
    half = len(shown) // 2
    assert shown[:half] == shown[half:]
    assert shown[0] == (["mood", "mood[]"], [*names, "mood"])


def test_a_type_made_in_the_transaction(both: Both) -> None:
    """Only its text can be read before the commit: no other session knows it by name."""
    for dsn in both.dsns:
        with RawClient(dsn) as client:
            for sql in ("BEGIN", "CREATE TYPE late AS ENUM ('x', 'y')"):
                assert client.query(sql).errors == []
            for key in KEYS:
                assert client.query(f"SELECT 'y'::late FROM t WHERE a = {key}").rows == [[b"y"]]
            assert client.query("ROLLBACK").tags == ["ROLLBACK"]


# COPY.


def copied(dsn: str, sql: str) -> list[Any]:
    """The rows of a binary COPY, read by the types of that server."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        mood = EnumInfo.fetch(connection, "mood")
        assert mood is not None
        register_enum(mood, connection)
        for name in ("pair", "nest"):
            composite = CompositeInfo.fetch(connection, name)
            assert composite is not None
            register_composite(composite, connection)
        with connection.cursor(binary=True).copy(sql.encode()) as copy:
            copy.set_types(["int4", "mood", "mood[]", "pair", "pair[]", "nest"])
            return sorted(map(repr, copy.rows()))


@pytest.mark.parametrize(
    "copy",
    [
        "COPY t (a, m, ms, p, ps, n) TO STDOUT",
        "COPY (SELECT a, m, ms, p, ps, n FROM t) TO STDOUT",
        "/* é ( */ COPY -- (\n ((SELECT a, m, ms, p, ps, n FROM t WHERE ')' <> $x$($x$) /* ) */) TO/**/STDOUT WITH",
    ],
)
def test_copy_to_in_binary(both: Both, copy: str) -> None:
    sql = f"{copy} (FORMAT binary)"
    assert copied(both.proxied, sql) == copied(both.direct, sql)


def test_copy_to_in_binary_leaves_generated_columns_out(both: Both) -> None:
    both.databases.execute(
        "CREATE TABLE s (a int PRIMARY KEY, g int GENERATED ALWAYS AS (a + 1) STORED, m mood, ms mood[], p pair,"
        " ps pair[], n nest)"
    )
    for dsn in both.dsns:
        for key in KEYS:
            execute(dsn, f"INSERT INTO s (a, ms) VALUES ({key}, '{{ok,sad}}')")
    sql = "COPY s TO STDOUT (FORMAT binary)"
    assert copied(both.proxied, sql) == copied(both.direct, sql)


def test_copy_from_in_binary_is_refused_where_bytes_differ(both: Both) -> None:
    with psycopg.connect(both.proxied, autocommit=True) as connection:
        with (
            pytest.raises(psycopg.errors.FeatureNotSupported, match='OIDs on each shard: "ms"'),
            connection.cursor().copy("COPY t (a, ms) FROM STDIN (FORMAT binary)") as copy,
        ):
            copy.write_row((100, []))
        rows = connection.execute("SELECT a, m FROM t").fetchall()
    with psycopg.connect(both.proxied, autocommit=True) as connection:
        mood = EnumInfo.fetch(connection, "mood")
        assert mood is not None
        register_enum(mood, connection)
        connection.execute("TRUNCATE s")
        with connection.cursor().copy("COPY s (a, m) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])  # an enum's binary form is its label
            for row in rows:
                copy.write_row(row)
        assert sorted(connection.execute("SELECT a, m::text FROM s").fetchall()) == sorted(rows)


# Writes of reference tables, whose rows come from the first shard.


@pytest.fixture(scope="module")
def elsewhere(both: Both, run_proxy_for_module: RunProxy) -> str:
    """A proxy whose clients know the types by the OIDs of another shard than the first; its DSN."""
    both.databases.execute("CREATE TABLE r (a int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], at timestamptz)")
    config = both.databases.config([{"name": "r", "placement": "reference"}], unlisted_tables="s1")
    return run_proxy_for_module(config).dsn()


async def test_rows_of_a_reference_write_in_binary(both: Both, elsewhere: str) -> None:
    """asyncpg reads all values in binary, arrays and composite values by the OIDs inside."""
    for sql in (
        "INSERT INTO r VALUES ($1, $2, $3, $4, $5, now()) RETURNING a, m, ms, p, ps",
        "INSERT INTO r VALUES ($1, $2, $3, $4, $5, now()) ON CONFLICT (a) DO UPDATE SET ms = $3 RETURNING p, ps, a",
        "INSERT INTO r VALUES ($1, $2, $3, $4, $5) ON CONFLICT (a) DO NOTHING RETURNING ms",
    ):
        answers = []
        for dsn in (both.direct, elsewhere):
            connection = await asyncpg.connect(dsn)
            try:
                await connection.execute("DELETE FROM r")
                given = [(key, "ok", ["sad", "glad"], ("glad", key), [("sad", 1), ("ok", 2)]) for key in (1, 2)]
                answers.append([await connection.fetch(sql, *one) for one in (*given, *given[:1])[: 2 + ("ON" in sql)]])
                async with connection.transaction():
                    cursor = await connection.cursor("UPDATE r SET at = now() RETURNING ps, ms, p")
                    answers[-1].append(await cursor.fetch(1))
            finally:
                await connection.close()
        assert answers[0] == answers[1]
        [stored, *copies] = both.databases.rows("SELECT r::text FROM r ORDER BY a")
        assert copies == [stored, stored]
