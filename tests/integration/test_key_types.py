"""Every key type of the native core's table end to end: rows come by COPY and INSERT, and lie where PostgreSQL says."""

import ipaddress
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from shardproxy.native import key_types
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute, query
from tests.unit.native.spellings import examples

pytestmark = pytest.mark.newest

# Spellings for COPY and INSERT, where a few of tests/unit/native/spellings.py would not do.
SPELLED: dict[str, list[str]] = {
    "int2": ["0", "-5", "32767"],
    "int4": ["0", "-5", " 12 ", "2147483647"],
    "int8": ["0", "-5", "9223372036854775807"],
    "numeric": ["0", "-1.50", "1e20", "NaN"],
    "float4": ["0", "-0", "0.1", "1e30", "-Infinity", "NaN", "16777217"],
    "float8": ["0", "-0", "0.1", "1e300", "Infinity", "nan", "9007199254740993"],
    "oid": ["0", "17", "4294967295", "-1"],
    "text": ["", "a b", "grün"],
    "varchar": ["", "a b", "grün"],
    "bpchar": ["a", "b"],
    "name": ["a b", "grün", "n" * 70],
    "uuid": ["{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "00000000-0000-0000-0000-000000000000"],
    "bool": ["t", "off"],
    "bytea": ["", "abc", "\\x00ff"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::7/64"],
    "cidr": ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03", "0800.2b01.0204", "08002b-010205"],
    "date": ["2024-02-29", "infinity", "0044-03-15 BC"],
    "timestamp": ["2024-02-29 12:00:00.5", "-infinity"],
    "timestamptz": ["2024-02-29 12:00:00+02", "infinity"],
    "time": ["00:00", "24:00:00", "12:34:56.789", "04:05:06+02"],
    "interval": ["1 day", "24:00:00", "1 mon -1 day", "P1Y2M3DT4H5M6.5S", "@ 3 hours ago"],
}

# Values whose type the driver declares; each is sent as text and in binary.
DECLARED: dict[str, list[object]] = {
    "int2": [7],
    "int4": [7, -70000],
    "int8": [7, 2**40],
    "numeric": [Decimal("1.50"), 7],
    "float4": [7, Decimal("0.1")],
    "float8": [7, 0.1, -1e300, float("inf"), Decimal("0.1")],
    "oid": [7],
    "uuid": [uuid.UUID(int=7)],
    "bool": [True, False],
    "bytea": [b"\0\xff"],
    "inet": [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_address("::1")],
    "cidr": [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")],
    "date": [date(2024, 2, 29)],
    "timestamp": [datetime(2024, 2, 29, 12)],
    "timestamptz": [datetime(2024, 2, 29, 12, tzinfo=UTC)],
    "time": [time(12, 34, 56, 789)],
    "interval": [timedelta(days=1), timedelta(hours=-3, microseconds=5), timedelta()],
}

# Numbers as SQL writes them, without quotes.
NUMBERS: dict[str, list[str]] = {
    "int2": ["-5"],
    "int4": ["17", "-5"],
    "int8": ["17", "-3000000000"],
    "numeric": ["17", "1.50"],
    "float4": ["17", "0.1", "1.5e3"],
    "float8": ["17", "0.1", "-1.5e3"],
    "oid": ["17", "4294967295"],
}


def values_of(key_type: str) -> list[str]:
    return SPELLED.get(key_type) or examples(key_type)


KEY_TYPES = [row.name for row in key_types()]


def declared(key_type: str) -> str:
    """A column's type as DDL has it."""
    return "char(6)" if key_type == "bpchar" else key_type


@pytest.fixture(scope="module")
def databases(servers: Servers) -> Iterator[Databases]:
    """Shards with a table of each key type, and a partitioned twin of it."""
    made = Databases.create(servers, one_server=True)
    for number, dsn in enumerate(made.shards):
        execute(dsn, f"CREATE TABLE here (number int); INSERT INTO here VALUES ({number})")
        for name in KEY_TYPES:
            execute(dsn, f"CREATE TABLE t_{name} (i int, k {declared(name)})")
            execute(dsn, f"CREATE TABLE parent_{name} (LIKE t_{name}) PARTITION BY HASH (k)")
    yield made
    made.drop()


@pytest.fixture(scope="module")
def dsn(databases: Databases, run_proxy_for_module: RunProxy) -> str:
    """The proxy's."""
    tables = [{"name": f"t_{name}", "placement": "hash", "key": ["k"]} for name in KEY_TYPES]
    return run_proxy_for_module(databases.config(tables)).dsn("shop")


@pytest.fixture(params=KEY_TYPES)
def key_type(request: pytest.FixtureRequest, databases: Databases) -> str:
    """Each in turn, with its table empty."""
    name: str = request.param
    databases.execute(f"TRUNCATE t_{name}", oracle=False)
    return name


@pytest.fixture
def proxy(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def lying(databases: Databases, key_type: str) -> int:
    """How many rows there are; each is where satisfies_hash_partition wants it."""
    total = 0
    parent = f"'parent_{key_type}'::regclass"
    check = f"satisfies_hash_partition({parent}, {len(databases.shards)}, (SELECT number FROM here), k)"
    for dsn in databases.shards:
        [(right, count)] = query(dsn, f"SELECT count(*) FILTER (WHERE {check}), count(*) FROM t_{key_type}")
        assert right == count, query(dsn, f"SELECT i, k::text FROM t_{key_type} WHERE NOT {check}")
        total += int(count)
    return total


def copy_in(connection: psycopg.Connection, key_type: str, options: str, data: bytes) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY t_{key_type} FROM STDIN {options}".encode()) as copy:
        copy.write(data)


def test_copy(proxy: psycopg.Connection, databases: Databases, key_type: str) -> None:
    values = values_of(key_type)
    rows = list(enumerate(values))
    copy_in(proxy, key_type, "", "".join(f"{i}\t{v}\n".replace("\\", "\\\\") for i, v in rows).encode())
    copy_in(proxy, key_type, "(FORMAT csv)", "".join(f'{i},"{v}"\n' for i, v in rows).encode())
    assert lying(databases, key_type) == 2 * len(rows)
    listed = sql.SQL(", ").join(sql.SQL("({}, {})").format(i, v) for i, v in rows)
    with psycopg.connect(databases.shards[0]) as shard, shard.cursor() as cursor:
        select = sql.SQL("COPY (SELECT i, v::{} FROM (VALUES {}) AS given(i, v)) TO STDOUT (FORMAT binary)")
        with cursor.copy(select.format(sql.SQL(declared(key_type)), listed)) as copy:
            data = b"".join(copy)
    copy_in(proxy, key_type, "(FORMAT binary)", data)
    assert lying(databases, key_type) == 3 * len(rows)


def test_insert_and_select(proxy: psycopg.Connection, databases: Databases, key_type: str) -> None:
    table = sql.Identifier(f"t_{key_type}")
    sent = 0
    for value in values_of(key_type):
        proxy.execute(sql.SQL("INSERT INTO {} VALUES (1, {})").format(table, sql.Literal(value)))
        proxy.execute(sql.SQL("INSERT INTO {} VALUES (2, %s)").format(table), (value,))
        sent += 2
        found = proxy.execute(sql.SQL("SELECT i FROM {} WHERE k = {}").format(table, sql.Literal(value))).fetchall()
        assert {1, 2} <= {i for (i,) in found}, value
    for number in NUMBERS.get(key_type, []):
        proxy.execute(f"INSERT INTO t_{key_type} VALUES (3, {number})".encode())
        sent += 1
        found = proxy.execute(f"SELECT i FROM t_{key_type} WHERE k = {number}::{key_type}".encode()).fetchall()
        assert (3,) in found, number
    assert lying(databases, key_type) == sent


def test_parameters_of_declared_types(proxy: psycopg.Connection, databases: Databases, key_type: str) -> None:
    values = DECLARED.get(key_type, [])
    for value in values:
        proxy.execute(f"INSERT INTO t_{key_type} VALUES (1, %s)".encode(), (value,))
        proxy.execute(f"INSERT INTO t_{key_type} VALUES (2, %b)".encode(), (value,))
        found = proxy.execute(f"SELECT i FROM t_{key_type} WHERE k = %b::{key_type}".encode(), (value,)).fetchall()
        assert {1, 2} <= {i for (i,) in found}, value
    assert lying(databases, key_type) == 2 * len(values)


def test_an_enum_is_refused(one_server: Databases, run_proxy: RunProxy) -> None:
    """Each server numbers an enum's values as it likes."""
    config = one_server.config([{"name": "t", "placement": "hash", "key": ["k"]}])
    with psycopg.connect(run_proxy(config).dsn("shop"), autocommit=True) as connection:
        for dsn in one_server.shards:
            execute(dsn, "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN d AS mood; CREATE TABLE t (k d)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="hashes an enum's values by their OIDs"):
            connection.execute("INSERT INTO t VALUES ('sad')")
