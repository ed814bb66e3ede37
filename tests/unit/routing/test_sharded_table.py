"""ShardedTable from configuration and catalog facts; PostgreSQL says how the refusals read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from shardproxy import native
from shardproxy.config import Table
from shardproxy.errors import PgError
from shardproxy.routing.encodings import CODECS
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.routing.relation import Column, Relation
from shardproxy.routing.table import ShardedTable
from tests.support.databases import Databases, query

SHARDS = {"s0": 0, "s1": 1, "s2": 2}

TYPES = {
    "json": 114,
    "mood": 16385,
    "timestamp": 1114,
    "timestamptz": 1184,
    "time": 1083,
    "varchar": 1043,
    "bpchar": 1042,
}
TYPES |= {row.sql: row.oid for row in native.key_types()}


def column(name: str, type_name: str, **facts: Any) -> Column:
    return Column(name, 1, TYPES[type_name], type_name, **facts)


def relation(*columns: Column, **facts: Any) -> Relation:
    base = Relation(16384, "public", "t", "r", columns, 18, "UTF8")
    return replace(base, **facts)


def table(placement: str, *key: str, **facts: object) -> Table:
    return Table.model_validate({"name": "t", "placement": placement, "key": list(key), **facts})


def refusals(config: Table, found: Relation) -> str:
    return "\n".join(refusal.message for refusal in ShardedTable.examine(config, found, SHARDS))


def test_hash() -> None:
    built = ShardedTable.build(table("hash", "b", "a"), relation(column("a", "integer"), column("b", "text")), SHARDS)
    assert [(key.name, key.type, key.type_oid) for key in built.key] == [
        ("b", native.KEY_TEXT, 25),
        ("a", native.KEY_INT4, 23),
    ]
    same = native.Placement.hash(3, [native.KEY_TEXT, native.KEY_INT4])
    assert built.place_text([b"x", b"0x10"]) == same.place([b"x", b"16"])
    assert built.place_text([b"x", b"y"]) == native.PLACE_INVALID


def test_the_server_version_decides_on_spellings() -> None:
    old = ShardedTable.build(table("hash", "a"), relation(column("a", "integer"), server_version=15), SHARDS)
    assert old.place_text([b"0x10"]) == native.PLACE_INVALID


def test_reference_and_single() -> None:
    facts = relation(column("a", "json"))
    assert ShardedTable.build(table("reference"), facts, SHARDS).place_text([]) == native.PLACE_EVERYWHERE
    single = ShardedTable.build(table("single", shard="s2"), facts, SHARDS)
    assert (single.place_text([]), single.shard, single.key) == (2, 2, ())


def test_list_with_null_and_default() -> None:
    values = [{"shard": "s1", "in": ["de", "NULL"]}, {"shard": "s0", "in": ["fr"]}]
    built = ShardedTable.build(table("list", "a", values=values, default="s2"), relation(column("a", "text")), SHARDS)
    assert [built.place_text([value]) for value in (b"de", None, b"fr", b"it")] == [1, 1, 0, 2]


def test_range_with_infinite_bounds() -> None:
    bounds = [{"shard": "s0", "from": ["MINVALUE"], "to": [10]}, {"shard": "s1", "from": [10], "to": ["MAXVALUE"]}]
    built = ShardedTable.build(table("range", "a", bounds=bounds), relation(column("a", "integer")), SHARDS)
    assert [built.place_text([value]) for value in (b"-5", b"9", b"10")] == [0, 0, 1]
    with pytest.raises(PgError, match="no partition"):
        built.place_text([None])


def test_list_values_are_written_in_the_servers_encoding() -> None:
    values = [{"shard": "s1", "in": ["K\xf6ln"]}]
    facts = relation(column("a", "text"), server_encoding="LATIN1")
    built = ShardedTable.build(table("list", "a", values=values, default="s0"), facts, SHARDS)
    assert built.place_text([b"K\xf6ln"]) == 1
    assert built.place_text(["K\xf6ln".encode()]) == 0
    facts = relation(column("a", "text"), server_encoding="EUC_JP")
    assert "cannot be written in the server's encoding EUC_JP" in refusals(table("list", "a", values=values), facts)


def test_timestamptz_without_offset_needs_utc() -> None:
    built = ShardedTable.build(table("hash", "a"), relation(column("a", "timestamptz")), SHARDS)
    with pytest.raises(PgError) as caught:
        built.place_text([b"2024-01-02 03:04:05"], timezone="Europe/Berlin")
    assert caught.value.sqlstate == "0A000"
    assert '"2024-01-02 03:04:05" of sharding key column "a"' in caught.value.message
    assert built.place_text([b"2024-01-02 03:04:05"], timezone="Etc/UTC") == built.place_text([b"2024-01-02 03:04:05Z"])


@pytest.mark.parametrize(
    ("config", "facts", "words"),
    [
        (table("hash", "b"), relation(column("a", "integer")), 'key column "b" does not exist'),
        (table("hash", "a"), relation(column("a", "json")), "type json, which cannot be a sharding key"),
        (table("hash", "a"), relation(column("a", "mood", type_kind="e")), "has enum type mood: PostgreSQL hashes"),
        (
            table("hash", "a"),
            relation(column("a", "interval", typmod=0x0C08 << 16 | 0xFFFF)),
            "which drops fields of its values",
        ),
        (table("hash", "a"), relation(column("a", "integer", generated=True)), "generated"),
        (table("hash", "a"), relation(column("a", "text", deterministic=False)), "nondeterministic"),
        (
            table("range", "a", bounds=[{"shard": "s0", "from": ["a"], "to": ["b"]}]),
            relation(column("a", "text", collation="de-x-icu")),
            'sorts by collation "de-x-icu"',
        ),
        (
            table("range", "a", bounds=[{"shard": "s0", "from": [5], "to": [5]}]),
            relation(column("a", "integer")),
            "the range is empty",
        ),
        (
            table("list", "a", values=[{"shard": "s0", "in": ["x"]}]),
            relation(column("a", "integer")),
            "'x' is not a value",
        ),
        (
            table("list", "a", values=[{"shard": "s0", "in": ["01/02/2003"]}]),
            relation(column("a", "date")),
            "depends on settings",
        ),
        (table("hash", "a"), relation(column("a", "integer"), kind="v"), "it is a view"),
    ],
)
def test_refusals(config: Table, facts: Relation, words: str) -> None:
    assert words in refusals(config, facts)
    with pytest.raises(PgError, match=r'table "public\.t" cannot be sharded') as caught:
        ShardedTable.build(config, facts, SHARDS)
    assert caught.value.hint


def test_all_refusals_at_once() -> None:
    facts = relation(column("a", "json"), column("b", "integer", generated=True), kind="m")
    found = ShardedTable.examine(table("hash", "a", "b", "c"), facts, SHARDS)
    assert len(found) == 4


def test_range_over_text_sorted_by_bytes() -> None:
    config = table("range", "a", bounds=[{"shard": "s0", "from": ["B"], "to": ["a"]}])
    facts = relation(column("a", "text", collation="C", collation_is_c=True))
    assert ShardedTable.build(config, facts, SHARDS).place_text([b"Z"]) == 0


KEYS: Mapping[str, tuple[str, int, list[bytes | None]]] = {
    "smallint": ("smallint", -1, [b" 007 ", b"-0", None]),
    "integer": ("integer", -1, [b"+5", b"0x1F", b"1_000"]),
    "bigint": ("bigint", -1, [b"-9223372036854775808"]),
    "text": ("text", -1, [b"a b", b"", "\u20ac".encode() * 30, b'"']),
    "varchar(3)": ("varchar", 7, [b"abc   ", b"a "]),
    "char(5)": ("bpchar", 9, [b"ab", b"ab     ", b""]),
    "uuid": ("uuid", -1, [b"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"]),
    "boolean": ("boolean", -1, [b"YES", b"of"]),
    "date": ("date", -1, [b"2024-02-29"]),
    "numeric": ("numeric", -1, [b"1e3", b"-0.00", b".5", b"5.", b"1.50", b"nan", b"-inf", b"0x10", b"1_0.5"]),
    "numeric(6,2)": ("numeric", (6 << 16 | 2) + 4, [b"1.005", b"-1.005", b"12", b"1e-5"]),
    "numeric(4,-2)": ("numeric", (4 << 16 | 0x7FE) + 4, [b"1250", b"49"]),
    "bytea": ("bytea", -1, [b"ab\\\\\\001", b"\\xFF 00"]),
    "real": ("real", -1, [b"0.1", b"1e20", b"1e-7", b"nan", b"inf", b"16777217"]),
    "double precision": ("double precision", -1, [b"0.1", b"1e300", b"123456789012345678", b"1e-5", b"-inf"]),
    "oid": ("oid", -1, [b" 17", b"-1"]),
    "name": ("name", -1, [b"a", b"n" * 70]),
    "inet": ("inet", -1, [b"10.0.0.1/32", b"10.0.0.1/8", b"2001:DB8:0:0:1:0:0:1/64", b"::FFFF:1.2.3.4", b"::"]),
    "cidr": ("cidr", -1, [b"10.0.0.0/8", b"1:0:2:0:0:3:0:0"]),
    "macaddr": ("macaddr", -1, [b"0800.2b01.0203"]),
    "time": ("time", -1, [b"4:05", b"23:59:60", b"04:05:06.70"]),
}


@pytest.mark.parametrize("sql_type", KEYS)
@pytest.mark.newest
def test_no_partition_as_postgresql_reports_it(one_server: Databases, sql_type: str) -> None:
    type_name, typmod, values = KEYS[sql_type]
    facts = relation(column("a B", type_name, typmod=typmod), column("user", "text"), server_version=one_server.version)
    # A hash table never reports this itself, but its key describes the row in the same way.
    built = ShardedTable.build(table("hash", '"a B"', '"user"'), facts, SHARDS)
    with psycopg.connect(one_server.oracle, autocommit=True) as connection:
        connection.execute(
            f'CREATE TABLE t ("a B" {sql_type}, "user" text) PARTITION BY RANGE ("a B", "user")'.encode()
        )
        for value in values:
            for second in (b"x", None):
                with (
                    pytest.raises(psycopg.errors.CheckViolation) as caught,
                    connection.cursor() as cursor,
                    cursor.copy("COPY t FROM STDIN") as copy,
                ):
                    copy.write_row([None if value is None else value.decode(), None if second is None else "x"])
                said = caught.value.diag
                error = built.no_partition([value, second])
                assert (error.sqlstate, error.message, error.detail) == (
                    said.sqlstate,
                    said.message_primary,
                    said.message_detail,
                )
                assert (error.fields["s"], error.fields["t"]) == (said.schema_name, said.table_name)


BINARY_KEYS = {
    "smallint": ("smallint", -1, ["-7"]),
    "integer": ("integer", -1, ["2147483647"]),
    "bigint": ("bigint", -1, ["-9223372036854775808"]),
    "text": ("text", -1, ["a\u20acb"]),
    "char(5)": ("bpchar", 9, ["ab"]),
    "uuid": ("uuid", -1, ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "boolean": ("boolean", -1, ["t", "f"]),
    "date": ("date", -1, ["2024-02-29", "0001-01-01"]),
    "timestamp": ("timestamp", -1, ["1999-12-31 23:59:59.5", "2024-01-01 00:00:00"]),
    "timestamptz": ("timestamptz", -1, ["2024-01-02 03:04:05.000006+00"]),
    "numeric": ("numeric", -1, ["0", "-0.050", "123456789.12345", "1e20", "NaN", "-Infinity", "10000", "0.00000000"]),
    "numeric(6,2)": ("numeric", (6 << 16 | 2) + 4, ["1.5"]),
    "bytea": ("bytea", -1, ["\\x00ff"]),
    "real": ("real", -1, ["0.1", "NaN"]),
    "double precision": ("double precision", -1, ["0.1", "-Infinity"]),
    "inet": ("inet", -1, ["10.0.0.1/8", "::1"]),
    "cidr": ("cidr", -1, ["2001:db8::/32"]),
    "macaddr": ("macaddr", -1, ["08:00:2b:01:02:03"]),
    "time": ("time", -1, ["24:00:00"]),
    "interval": ("interval", -1, ["1 year 2 mons -3 days +04:05:06.7", "-00:00:01", "-1 mons +1 day", "00:00:00"]),
}


@pytest.mark.parametrize("sql_type", BINARY_KEYS)
@pytest.mark.newest
def test_no_partition_of_a_binary_row(one_server: Databases, sql_type: str) -> None:
    type_name, typmod, values = BINARY_KEYS[sql_type]
    facts = relation(column("k", type_name, typmod=typmod), server_version=one_server.version)
    built = ShardedTable.build(table("hash", "k"), facts, SHARDS)
    with psycopg.connect(one_server.oracle, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE t (k {sql_type}) PARTITION BY LIST (k)".encode())
        for value in values:
            with connection.cursor().copy(f"COPY (SELECT '{value}'::{sql_type}) TO STDOUT BINARY".encode()) as copy:
                data = b"".join(copy)
            field = data[25:-2]  # behind the header, one field and its length
            with (
                pytest.raises(psycopg.errors.CheckViolation) as caught,
                connection.cursor() as cursor,
                cursor.copy("COPY t FROM STDIN BINARY") as copy,
            ):
                copy.write(data)
            error = built.no_partition([field], binary=True)
            assert error.detail == caught.value.diag.message_detail


def test_dates_beyond_pythons_calendar() -> None:
    built = ShardedTable.build(table("hash", "a"), relation(column("a", "date")), SHARDS)
    error = built.no_partition([(2145031948).to_bytes(4, "big")], binary=True)
    assert error.detail == "Partition key of the failing row contains (a) = (5874897-12-31)."


def test_identifiers_are_quoted_as_quote_ident_does(one_server: Databases) -> None:
    words = [word for (word,) in query(one_server.oracle, "SELECT word FROM pg_get_keywords()")]
    names = ["a", "_a1", "a$", "A", "1a", "a b", 'a"b', "\xe4", *words]
    with psycopg.connect(one_server.oracle) as connection:
        for name in names:
            [quoted] = connection.execute("SELECT quote_ident(%s)", (name,)).fetchone() or ("",)
            json = one_server.version < 18 and (name.startswith("json") or name == "merge_action")
            assert json or quote_identifier(name) == quoted


def test_codecs_convert_as_the_server_does(one_server: Databases) -> None:
    with psycopg.connect(one_server.oracle, autocommit=True) as connection:
        for encoding, codec in CODECS.items():
            if encoding in {"UTF8", "SQL_ASCII"}:
                continue
            for byte in range(128, 256):
                try:
                    [server] = connection.execute(
                        "SELECT convert_from(%s, %s)", (bytes([byte]), encoding)
                    ).fetchone() or ("",)
                except psycopg.Error:
                    server = None
                try:
                    ours = bytes([byte]).decode(codec)
                except UnicodeDecodeError:
                    ours = None
                assert server == ours, (encoding, byte)
