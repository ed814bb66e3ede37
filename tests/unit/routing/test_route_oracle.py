"""Routing by key against PostgreSQL itself: hash partitions play the shards.

For each spelling of a key in a WHERE clause the partitions that hold matching rows must be among the shards of
the route; for each in an INSERT the row's partition must be the route's shard. What PostgreSQL refuses may go
anywhere, what routing leaves unbound costs only a detour, but a wrong shard is never right.
"""

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.routing import Context, Gather, Home, KeyColumn, OneShard, ParamValue, Plan, Resolved, route
from shardproxy.routing.keytypes import TYPES
from shardproxy.sql import analyze
from tests.support.databases import Databases, Servers

SHARDS = 5

# type: (code, rows, spellings)
CODES = {row.name: row.code for row in native.key_types()}

KEYS: dict[str, tuple[int, list[str], str]] = {
    "int8": (
        native.KEY_INT8,
        ["1", "5", "31", "-7", "99999999999"],
        "5 | '5' | ' 5' | '+05' | '5.0' | 5.0 | 4.6 | '5'::int2 | '5'::numeric | 5::text | 1e0 | 0x1F | '0x1F' | -7"
        " | - 7 | '-7'::text | 99999999999 | 9223372036854775808 | '99999999999'::int8 | true | NULL | NULL::int8 | 'x'"
        " | 2 + 3 | (5) | '5'::float8 | '5'::oid | '5'::\"char\" | '٥' | '5'::regclass",
    ),
    "int2": (
        native.KEY_INT2,
        ["1", "5", "-7"],
        "5 | 70000 | '5e0' | '70000' | '5'::int8 | 5::int2 | 5.4 | -7 | '1_0' | 99999999999",
    ),
    "text": (
        native.KEY_TEXT,
        ["", "a", "a ", "A", "é", "5", "true", "NULL", "\\x41"],
        "'a' | 'a ' | E'\\x61' | U&'\\00e9' | 'é' | '' | 'a '::bpchar | 'a '::char(2) | 'a '::varchar | 'a'::varchar(1)"
        " | 'ab'::varchar(1) | 'a'::text | 'a'::name | 5 | 5::text | 5.0::text | true | true::text | NULL | 'NULL'"
        " | '\\x41' | 'a' || '' | 'a' COLLATE \"C\" | X'41'",
    ),
    "varchar(3)": (
        native.KEY_TEXT,
        ["a", "abc", "é"],
        "'a' | 'abc' | 'abc ' | 'abc  '::text | 'abcd' | 'abcd'::varchar(3) | 'é' | 5 | 1234",
    ),
    "char(4)": (
        native.KEY_BPCHAR,
        ["a", "abcd", "é"],
        "'a' | 'a   ' | 'a     ' | 'a '::text | 'a '::varchar | 'a'::char(2) | 'abcde' | 'abcd ' | 'é'"
        " | 5",
    ),
    "uuid": (
        native.KEY_UUID,
        ["00112233-4455-6677-8899-aabbccddeeff"],
        "'00112233-4455-6677-8899-aabbccddeeff' | '{00112233445566778899AABBCCDDEEFF}'"
        " | '00112233-4455-6677-8899-aabbccddeeff'::uuid | '00112233-4455-6677-8899-aabbccddeeff'::text"
        " | 'x'",
    ),
    "bool": (
        native.KEY_BOOL,
        ["t", "f"],
        "true | false | 't' | 'no' | 'tr' | 1 | '1' | 1::bool | NULL | 'on'::bool | 't'::text",
    ),
    "date": (
        native.KEY_DATE,
        ["2020-02-01", "2020-01-02", "infinity"],
        "'2020-01-02' | '1/2/2020' | '20200102' | date '2020-01-02' | '2020-01-02'::timestamp | 'infinity'"
        " | '2020-01-02 23:59' | 'Jan 2 2020' | '2020-01-02'::text | DATE '2020-01-01' + 1",
    ),
    "timestamp": (
        native.KEY_TIMESTAMP,
        ["2020-01-02 00:00:00", "2020-01-02 03:04:05.678901"],
        "'2020-01-02' | '2020-01-02 03:04:05.678901' | '2020-01-02 03:04:05.678901+05' | date '2020-01-02'"
        " | timestamp '2020-01-02 03:04:05.678901' | '2020-01-02'::timestamptz | '2020-01-02T00:00'"
        " | '2020-01-02 03:04:05.678901'::timestamp(0)",
    ),
    "timestamptz": (
        native.KEY_TIMESTAMPTZ,
        ["2020-01-02 00:00:00+00", "2020-01-02 03:04:05+00"],
        "'2020-01-02' | '2020-01-02 00:00:00+00' | '2020-01-02 08:34:05+05:30' | '2020-01-02 03:04:05Z'"
        " | timestamptz '2020-01-02 03:04:05+00' | timestamp '2020-01-02 00:00' | '2020-01-02 05:45+0545'",
    ),
    "numeric": (
        native.KEY_NUMERIC,
        ["5", "5.50", "-7", "1e20", "NaN"],
        "5 | 5.0 | '5' | 5.5 | '5.500' | 5::numeric | 5.5::numeric(2,0) | '5.5'::float8 | -7 | - 7.0 | 1e20"
        " | 100000000000000000000 | '1e20' | 'NaN' | 'nan'::numeric | 5::int8 | 4.99999999999999999999",
    ),
    "numeric(4,1)": (
        native.KEY_NUMERIC,
        ["5", "5.5", "5.6"],
        "5 | 5.5 | 5.55 | '5.55' | 5.46 | '5.50' | 99999",
    ),
    "float4": (
        CODES["float4"],
        ["5", "0.1", "16777216", "NaN"],
        "5 | 0.1 | '0.1' | '0.1'::float4 | '0.1'::float8 | 0.1::numeric | 16777217 | '16777217' | 5::int8"
        " | 1e300 | 'NaN' | '0.100000001490116'",
    ),
    "float8": (
        CODES["float8"],
        ["5", "0.1", "9007199254740992", "-0"],
        "5 | 0.1 | '0.1' | '0.1'::float4 | '0.1'::float8 | 0.1::numeric | 9007199254740993 | '9007199254740993' | 0"
        " | 5::oid | 9007199254740993.0",
    ),
    "oid": (
        CODES["oid"],
        ["5", "4294967295"],
        "5 | '5' | -1 | '-1' | 4294967295 | 5::int8 | 5.0 | '5'::regclass | '5'::numeric | 5::int2",
    ),
    "name": (
        CODES["name"],
        ["a", "n" * 63],
        f"'a' | 'a '::char(2) | 'a'::text | 'a'::name | '{'n' * 70}' | '{'n' * 70}'::text | '{'n' * 70}'::name"
        " | 'b'::\"char\"",
    ),
    "inet": (
        CODES["inet"],
        ["10.0.0.1", "10.0.0.0/8", "::1"],
        "'10.0.0.1' | '10.0.0.1/32' | '10.0.0.0/8' | '10.0.0.0/8'::cidr | '10/8' | '10/8'::cidr | '::1'"
        " | '::1/128'::inet | 'x'",
    ),
    "cidr": (
        CODES["cidr"],
        ["10.0.0.1", "10.0.0.0/8", "::1"],
        "'10.0.0.1' | '10.0.0.1/32' | '10.0.0.0/8' | '10.0.0.0/8'::cidr | '10.0.0.1/8' | '10.0.0.0/8'::inet | '10/8'"
        " | '::1'",
    ),
    "time": (
        CODES["time"],
        ["10:00", "24:00", "10:00:00.5"],
        "'10:00' | '10:00+05' | '10:00'::timetz | '10:00:00.5'::time(0) | '24:00' | '10:00'::interval"
        " | time '10:00:00.5'",
    ),
    "interval": (
        CODES["interval"],
        ["1 day", "1 mon", "00:00:01"],
        "'24:00' | '1 day' | '1d' | '30 days' | interval '24 hours' | interval '1' day | '24:00'::time | '1'",
    ),
    "bytea": (
        native.KEY_BYTEA,
        ["\\x41", "\\x00ff", "\\x"],
        "'\\x41' | 'A' | E'\\\\101' | '\\x00FF' | '' | 'A'::bytea | 'A'::text | X'41'",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(servers18: Servers) -> Iterator[psycopg.Connection[Any]]:
    databases = Databases.create(servers18, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'")
        yield connection
    databases.drop()


@pytest.fixture(scope="module", params=KEYS)
def table(request: pytest.FixtureRequest, connection: psycopg.Connection[Any]) -> tuple[str, Resolved]:
    """A table by hash of one column `k` in its partitions p0, p1, ..., filled, and what routing knows of it."""
    sql_type = request.param
    code, rows, _ = KEYS[sql_type]
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute(f"CREATE TABLE t (k {sql_type}, v int) PARTITION BY HASH (k)".encode())
    for shard in range(SHARDS):
        bounds = f"MODULUS {SHARDS}, REMAINDER {shard}"
        connection.execute(f"CREATE TABLE p{shard} PARTITION OF t FOR VALUES WITH ({bounds})".encode())
    connection.execute("SET DateStyle = 'ISO, MDY'")
    for row in rows:
        connection.execute(f"INSERT INTO t SELECT %s::{sql_type}".encode(), (row,))
    connection.execute("SET DateStyle = 'SQL, DMY'")
    [typmod] = connection.execute(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'k'"
    ).fetchone() or (-1,)
    placement = native.Placement.hash(SHARDS, [(code, typmod)])
    key = (KeyColumn("k", code, typmod),)
    return sql_type, Resolved("hash", "public", "t", None, placement, key, ("k", "v"), {"k": None, "v": None})


def routed(sql: str, table: Resolved, *params: ParamValue) -> Plan | None:
    [statement] = analyze(sql)
    try:
        return route(statement, dict.fromkeys(statement.tables, table), Context(SHARDS, params=params))
    except PgError:
        return None


def lies_on(connection: psycopg.Connection[Any], sql: str, params: Any = None) -> set[int] | None:
    """The partitions of the rows that a statement returns; None for an error."""
    try:
        rows = connection.execute(sql.encode(), params).fetchall()
    except psycopg.Error:
        return None
    return {int(name[1:]) for (name,) in rows}


def check(found: Plan, truth: set[int] | None, sql: str) -> bool:
    """Hold the route against the truth; True when the key was bound."""
    match found:
        case OneShard(shard):
            shards = {shard}
        case Gather(several) if len(several) < SHARDS:
            shards = set(several)
        case Gather():
            return False
        case _:
            assert found == Home()
            shards = set()
    assert truth is None or truth <= shards, sql
    return bool(shards)


def test_where(connection: psycopg.Connection[Any], table: tuple[str, Resolved]) -> None:
    sql_type, resolved = table
    spellings = KEYS[sql_type][2].split(" | ")
    conditions = [f"k = {one}" for one in spellings] + [f"{one} = k" for one in spellings]
    conditions += [f"k IN ({one}, {other})" for one in spellings for other in spellings[:8]]
    bound = 0
    for condition in conditions:
        found = routed(f"SELECT * FROM t WHERE {condition}", resolved)
        assert found is not None
        sql = f"SELECT tableoid::regclass::text FROM t WHERE {condition}"
        bound += check(found, lies_on(connection, sql), sql)
    assert bound >= 4


def test_random_lists(connection: psycopg.Connection[Any], table: tuple[str, Resolved]) -> None:
    """Constants and parameters in one IN have one type, which may be another than the key's."""
    sql_type, resolved = table
    _, rows, spellings = KEYS[sql_type]
    chosen = random.Random(sql_type)
    constants = spellings.split(" | ")
    quoted = [f"'{one}{more}'" for one in rows for more in ("", ".0", " ")]
    unknown, declared = [*rows, *(f"{one}.0" for one in rows)], (20, 21, 23, 25, 701, 1042, 1043, 1082, 1184, 1700)
    bound = 0
    for _ in range(200):
        items, params = [], []
        for _ in range(chosen.randint(1, 4)):
            if chosen.random() < 0.3:
                params.append((chosen.choice(unknown).encode(), chosen.choice((0, 0, *declared))))
                items.append(f"${len(params)}")
            else:
                items.append(chosen.choice(constants if chosen.random() < 0.6 else quoted))
        condition = f"k IN ({', '.join(items)})"
        found = routed(
            f"SELECT * FROM t WHERE {condition}", resolved, *(ParamValue(oid, 0, value) for value, oid in params)
        )
        assert found is not None
        sql = f"SELECT tableoid::regclass::text FROM t WHERE {condition}"
        answer = connection.pgconn.exec_params(sql.encode(), [value for value, _ in params], [oid for _, oid in params])
        failed = answer.status != psycopg.pq.ExecStatus.TUPLES_OK
        truth = None if failed else {int((answer.get_value(row, 0) or b"")[1:]) for row in range(answer.ntuples)}
        bound += check(found, truth, f"{sql} with {params}")
    assert bound >= 10


def test_merged_columns(connection: psycopg.Connection[Any], table: tuple[str, Resolved]) -> None:
    """USING makes one column of the key and of a reference table's, in the type that both have in common."""
    sql_type, resolved = table
    base = {"varchar": 1043, "char": 1042}.get(sql_type.partition("(")[0]) or TYPES[resolved.key[0].type].oid
    resolved = replace(resolved, types={"k": base})
    bound = 0
    for other, oid in (("int8", 20), ("numeric", 1700), ("float8", 701), ("text", 25), ("timestamptz", 1184)):
        connection.execute(f"DROP TABLE IF EXISTS r; CREATE TABLE r (k {other}, w int)".encode())
        with suppress(psycopg.Error):
            connection.execute("INSERT INTO r SELECT k FROM t")
        ref = Resolved("reference", "public", "r", columns=("k", "w"), types={"k": oid, "w": 23})
        for one in KEYS[sql_type][2].split(" | "):
            for joined in ("t JOIN r USING (k)", "r NATURAL JOIN t", "t JOIN (SELECT k FROM r) AS x USING (k)"):
                [statement] = analyze(f"SELECT t.* FROM {joined} WHERE k IN ({one}, {one})")
                tables = {name: ref if name.name == "r" else resolved for name in statement.tables}
                sql = statement.text.replace("t.*", "t.tableoid::regclass::text")
                with suppress(PgError):
                    bound += check(route(statement, tables, Context(SHARDS)), lies_on(connection, sql), sql)
    assert bound >= 1 or base not in {20, 1700, 25, 1184}


def test_insert(connection: psycopg.Connection[Any], table: tuple[str, Resolved]) -> None:
    sql_type, resolved = table
    bound = 0
    for one in KEYS[sql_type][2].split(" | "):
        sql = f"INSERT INTO t (k) VALUES ({one})"
        found = routed(sql, resolved)
        if found is None:
            continue
        assert isinstance(found, Home | OneShard)
        with connection.transaction(force_rollback=True):
            bound += check(found, lies_on(connection, sql + " RETURNING tableoid::regclass::text"), sql)
    assert bound >= 1


OIDS = [16, 17, 19, 20, 21, 23, 25, 26, 650, 700, 701, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1700, 2950]


def test_parameters(connection: psycopg.Connection[Any], table: tuple[str, Resolved]) -> None:
    """Each row's own value as a parameter of each type, text and binary, compared with the key."""
    sql_type, resolved = table
    types = connection.execute(
        "SELECT oid::int, typname::text, typsend::text FROM pg_type WHERE oid = ANY(%s)", (OIDS,)
    ).fetchall()
    base = sql_type.partition("(")[0].replace("char", "bpchar").replace("varbpchar", "varchar")
    bound = sent_types = 0
    for row in KEYS[sql_type][1]:
        for oid, name, send in types:
            try:
                sent = connection.execute(
                    f"SELECT format('%%s', %s::{sql_type}::{name}), {send}(%s::{sql_type}::{name})".encode(),
                    (row, row),
                ).fetchone()
            except psycopg.Error:
                continue
            assert sent is not None
            sent_types += name == base
            for form, value in enumerate((sent[0].encode(), sent[1])):
                for cast in ("", f"::{base}"):
                    sql = f"SELECT * FROM t WHERE k = $1{cast}"
                    found = routed(sql, resolved, ParamValue(oid, form, value))
                    assert found is not None
                    literal = "'" + sent[0].replace("'", "''") + f"'::{name}{cast}"
                    truth = lies_on(connection, f"SELECT tableoid::regclass::text FROM t WHERE k = {literal}")
                    bound += check(found, truth, f"{sql} with {name} {value!r}")
    assert sent_types == len(KEYS[sql_type][1])
    assert bound >= len(KEYS[sql_type][1])  # at least each value in the binary format of the key's own type
