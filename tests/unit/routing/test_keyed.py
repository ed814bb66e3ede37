"""The shard by the key alone: wherever it gives one, it is the one that `route` gives."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.native import SHAPE_INTEGER as INTEGER
from shardproxy.native import SHAPE_STRING as STRING
from shardproxy.routing import Home, Keyed, OneShard, ParamValue, Plan, Resolved, keyed, route
from shardproxy.routing.keyed import AtHome, ByParameter, ByValues, Fixed
from shardproxy.sql import analyze
from tests.unit.routing.tables import DATABASE, NSHARDS, context, routed, shard_of, spread, tables_of

BOOL, INT8, INT2, INT4, TEXT, VARCHAR, DATE, TIMESTAMPTZ, NUMERIC, UUID_OID = (
    16, 20, 21, 23, 25, 1043, 1082, 1184, 1700, 2950,
)  # fmt: skip


FIVE = str(UUID(int=5))


def prepared(sql: str, nshards: int = NSHARDS) -> Keyed | None:
    [statement] = analyze(sql)
    return keyed(statement, tables_of(statement), context((), nshards))


def by_number(params: Sequence[ParamValue]) -> dict[int, ParamValue]:
    return dict(enumerate(params, 1))


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT * FROM users WHERE id = $1", ByParameter),
        ("SELECT name FROM users u JOIN ref USING (name) WHERE u.id = $2 AND age > $1 ORDER BY 1 LIMIT 3", ByParameter),
        ("SELECT * FROM users WHERE id = $1::bigint FOR UPDATE", ByParameter),
        ("SELECT count(*) FROM users WHERE id = $1", ByParameter),
        ("INSERT INTO users VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $2 RETURNING *", ByParameter),
        ("UPDATE users SET name = $2 WHERE id = $1", ByParameter),
        ("DELETE FROM users WHERE id = $1", ByParameter),
        ("SELECT * FROM pair WHERE a = $1 AND b = $2", ByValues),
        ("SELECT * FROM pair WHERE a = 5 AND b = $1", ByValues),
        ("INSERT INTO pair VALUES ($1, 'x', $2)", ByValues),
        ("SELECT * FROM users u JOIN orders o ON u.id = o.user_id WHERE u.id = $1", ByValues),
        ("SELECT * FROM users WHERE id = 5", Fixed),
        ("SELECT * FROM solo3 WHERE id = $1", Fixed),
        ("UPDATE solo3 SET name = now()", Fixed),
        ("INSERT INTO solo3 SELECT * FROM ref", Fixed),
        ("SELECT 1", AtHome),
        ("SELECT * FROM ref WHERE id = $1", AtHome),
        ("SELECT relname FROM pg_class", AtHome),
    ],
)
def test_kinds(sql: str, kind: type[object]) -> None:
    assert type(prepared(sql)) is kind


@pytest.mark.parametrize(
    "sql",
    [
        # the default may change before the statement has its lock
        "INSERT INTO fixed (v) VALUES ($1)",
        "INSERT INTO users (name) VALUES ($1)",
        # the session has more to do
        "SELECT set_config('a', $1, false)",
        "SELECT pg_notify('x', $1)",
        "SELECT nextval('s')",
        "SELECT *, nextval('s') FROM users WHERE id = $1",
        "SELECT * INTO n FROM ref",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT * FROM users WHERE id = 5",
        "COPY users FROM STDIN",
        "EXPLAIN SELECT * FROM users WHERE id = 5",
        # several shards, or not known
        "SELECT * FROM users",
        "SELECT * FROM users WHERE id IN ($1, $2)",
        "SELECT * FROM users WHERE id = $1 AND id = $2",
        "SELECT * FROM users WHERE id > $1",
        "SELECT * FROM pair WHERE a = $1",
        "SELECT * FROM users u JOIN orders o ON true WHERE u.id = $1",
        "SELECT * FROM users WHERE id = $1 AND age IN (SELECT oid FROM orders)",
        "INSERT INTO ref2 VALUES ($1, $2)",
        "INSERT INTO users (id) VALUES ($1), ($2)",
        "INSERT INTO users SELECT * FROM ref",
        "INSERT INTO users (id) VALUES (random())",
        "INSERT INTO computed (v) VALUES ($1)",
        "INSERT INTO users (id) OVERRIDING USER VALUE VALUES ($1)",
        "WITH w AS (DELETE FROM solo3 RETURNING *) SELECT * FROM users WHERE id = $1",
        # refused, or for PostgreSQL to refuse
        "INSERT INTO users (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = 2",
        "UPDATE users SET id = $2 WHERE id = $1",
        "UPDATE ref SET name = 'x' FROM users WHERE users.id = $1",
        "UPDATE pg_class SET relname = $1",
        "SELECT * FROM stranger WHERE id = $1",
        "SELECT * FROM nowhere WHERE id = $1",
        "SELECT * FROM users, solo3 WHERE users.id = $1",
        "SELECT * FROM users WHERE id = NULL",
        "SELECT * FROM country WHERE code = 'xx'",
    ],
)
def test_not_by_the_key_alone(sql: str) -> None:
    assert prepared(sql) is None


def test_one_shard_is_always_home() -> None:
    for sql in ("SELECT * FROM users", "UPDATE users SET id = 5", "DELETE FROM ref", "SELECT count(*) FROM users"):
        assert type(prepared(sql, nshards=1)) is AtHome
        assert routed(sql, nshards=1) == Home()
    assert prepared("SELECT * FROM stranger", nshards=1) is None
    assert prepared("UPDATE pg_class SET relname = $1", nshards=1) is None


@pytest.mark.parametrize(
    ("sql", "params", "shard"),
    [
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT8, 0, b"7")], shard_of("users", b"7")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(0, 0, b"7")], shard_of("users", b"7")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT8, 1, (7).to_bytes(8))], shard_of("users", b"7")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT4, 1, (7).to_bytes(4))], shard_of("users", b"7")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT2, 1, b"\xff\xfe")], shard_of("users", b"-2")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT8, 0, None)], None),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT8, 0, b"x")], None),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(INT8, 1, b"123")], None),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(NUMERIC, 0, b"7.0")], shard_of("users", b"7")),
        ("SELECT * FROM users WHERE id = $1", [ParamValue(NUMERIC, 0, b"7.5")], None),
        ("SELECT * FROM users WHERE id = $1", [], None),
        ("SELECT $1, * FROM users WHERE id = $1", [ParamValue(0, 0, b"7")], None),
        ("SELECT $1, * FROM users WHERE id = $1", [ParamValue(INT8, 0, b"7")], shard_of("users", b"7")),
        ("INSERT INTO users (id) VALUES ($1)", [ParamValue(INT8, 0, None)], shard_of("users", None)),
        ("SELECT * FROM token WHERE u = $1", [ParamValue(UUID_OID, 1, bytes(16))], shard_of("token", b"0" * 32)),
    ],
)
def test_parameters(sql: str, params: list[ParamValue], shard: int | None) -> None:
    found = prepared(sql)
    assert found is not None
    assert found.shard(by_number(params)) == shard


def test_python_calls_of_an_integer_key() -> None:
    """A statement by key must cost little: the calls of Python functions are counted."""
    found = prepared("SELECT * FROM users WHERE id = $1")
    assert found is not None
    given = [ParamValue(INT8, 0, b"7")], [ParamValue(INT8, 1, (7).to_bytes(8))], [ParamValue(INT4, 1, (7).to_bytes(4))]
    for params in given:
        calls: Counter[str] = Counter()
        numbered = by_number(params)

        def count(frame: FrameType, event: str, _: object, calls: Counter[str] = calls) -> None:
            if event == "call":
                calls[frame.f_code.co_name] += 1

        sys.setprofile(count)
        try:
            shard = found.shard(numbered)
        finally:
            sys.setprofile(None)
        assert shard == shard_of("users", b"7")
        assert calls == {"shard": 1}


KEYS: dict[str, Resolved] = {
    name: spread("t", "k v w", ("k", code))
    for name, code in {
        "int2": native.KEY_INT2,
        "int4": native.KEY_INT4,
        "int8": native.KEY_INT8,
        "text": native.KEY_TEXT,
        "bpchar": native.KEY_BPCHAR,
        "bool": native.KEY_BOOL,
        "uuid": native.KEY_UUID,
        "date": native.KEY_DATE,
        "timestamptz": native.KEY_TIMESTAMPTZ,
        "numeric": native.KEY_NUMERIC,
    }.items()
} | {"pair": spread("t", "k v w", ("k", native.KEY_INT4), ("v", native.KEY_TEXT)), "single": DATABASE["solo3"]}
KEYS["list"] = replace(
    KEYS["text"],
    kind="list",
    placement=native.Placement.list(NSHARDS, native.KEY_TEXT, [(b"a", 0), ("é".encode(), 1), (None, 2)], 3),
)
KEYS["range"] = replace(
    KEYS["int4"],
    kind="range",
    placement=native.Placement.range(NSHARDS, [native.KEY_INT4], [([b"-100"], [b"7"], 0), ([b"7"], [b"200"], 1)]),
)


EXPRESSIONS = ["$1", "$2", "$1::int", "$1::bigint", "$2::text", "$1::numeric", "$1::date", "5", "'7'", "NULL", "true"]
CONDITIONS = st.builds(
    "{} = {}".format, st.sampled_from(["k", "k", "t.k", "v", "w", "s.k"]), st.sampled_from(EXPRESSIONS)
)
WHERE = st.lists(CONDITIONS, min_size=1, max_size=3).map(" AND ".join)
STATEMENTS = st.one_of(
    st.builds("SELECT * FROM t WHERE {}".format, WHERE),
    st.builds("SELECT * FROM t JOIN t s USING (k) WHERE {}".format, WHERE),
    st.builds("SELECT * FROM t LEFT JOIN t s ON t.k = s.k WHERE {}".format, WHERE),
    st.builds("SELECT * FROM t, t s WHERE {}".format, WHERE),
    st.builds("UPDATE t SET {} = 1 WHERE {}".format, st.sampled_from("vw"), WHERE),
    st.builds("DELETE FROM t WHERE {}".format, WHERE),
    st.builds(
        "INSERT INTO t ({}) VALUES ({}, {})".format,
        st.sampled_from(["k, v", "v, k", "v, w", "k, w"]),
        st.sampled_from([*EXPRESSIONS, "DEFAULT", "v + 1"]),
        st.sampled_from([*EXPRESSIONS, "DEFAULT"]),
    ),
)
TEXTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.integers(-300, 300).map(str),
    st.sampled_from(["", "a", "a ", "é", "t", "off", "5.7", "1e3", "0x1F", "1_0", "2020-02-03", "2020-01-01 00:00+00"]),
    st.uuids().map(str),
)


def integers(width: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=width, max_size=width)


BINARIES = st.one_of(integers(2), integers(4), integers(8), integers(16), st.binary(max_size=17))
OIDS = st.sampled_from([0, 705, BOOL, INT8, INT2, INT4, TEXT, VARCHAR, 1042, DATE, TIMESTAMPTZ, NUMERIC, UUID_OID, 701])
PARAMS = st.one_of(
    st.builds(ParamValue, OIDS, st.just(0), TEXTS.map(str.encode) | st.none()),
    st.builds(ParamValue, OIDS, st.just(1), BINARIES | st.none()),
)


def plan_of(sql: str, table: Resolved, params: tuple[ParamValue, ...]) -> Plan | None:
    [statement] = analyze(sql)
    try:
        return route(statement, dict.fromkeys(statement.tables, table), context(params))
    except PgError:
        return None


@settings(max_examples=200, deadline=None)  # about one in ten has a shard by its key
@given(st.sampled_from(sorted(KEYS)), STATEMENTS, st.lists(PARAMS, min_size=1, max_size=2).map(tuple))
def test_a_shard_by_the_key_is_the_route_s(kind: str, sql: str, params: tuple[ParamValue, ...]) -> None:
    [statement] = analyze(sql)
    table = KEYS[kind]
    found = keyed(statement, dict.fromkeys(statement.tables, table), context())
    plan = plan_of(sql, table, params)
    if found is not None and (shard := found.shard(by_number(params))) is not None:
        assert plan == OneShard(shard)
    if isinstance(found, AtHome):
        assert plan == Home()


NUMBERS = st.one_of(st.integers(0, 10**18 - 1), st.integers(0, 300)).map(str) | st.integers(0, 99).map("000{}".format)
CONSTANTS = st.one_of(
    NUMBERS.map(lambda text: (INTEGER, text.encode(), text)),
    TEXTS.map(lambda text: (STRING, text.encode(), f"'{text}'")),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(KEYS)), STATEMENTS, st.lists(CONSTANTS, min_size=2, max_size=2))
def test_constants_are_read_in_their_places(kind: str, sql: str, constants: list[tuple[int, bytes, str]]) -> None:
    """A text and the same with its constants taken out go to the same shard."""
    [statement] = analyze(sql)
    table = KEYS[kind]
    found = keyed(statement, dict.fromkeys(statement.tables, table), context())
    (one, first, spelled), (other, second, also) = constants
    if found is not None and (shard := found.shard_of_constants(bytes((one, other)), (first, second))) is not None:
        whole = sql.replace("$1", spelled).replace("$2", also)
        assert plan_of(whole, table, ()) == OneShard(shard), whole


@pytest.mark.parametrize(
    ("sql", "kind", "value", "shard"),
    [
        ("SELECT * FROM users WHERE id = $1", INTEGER, "17", shard_of("users", b"17")),
        ("SELECT * FROM users WHERE id = $1", INTEGER, "017", shard_of("users", b"17")),
        ("SELECT * FROM users WHERE id = $1", STRING, " 17", shard_of("users", b"17")),
        ("SELECT * FROM users WHERE id = $1::int", STRING, "17", shard_of("users", b"17")),
        ("SELECT * FROM users WHERE id = $1::numeric", INTEGER, "17", None),
        ("SELECT * FROM users WHERE id = $1", STRING, "x", None),
        ("SELECT * FROM users WHERE id = $2", INTEGER, "17", None),
        ("INSERT INTO pair VALUES (5, $1)", INTEGER, "0012", shard_of("pair", b"5", b"12")),
        ("SELECT * FROM pair WHERE a = 5 AND b = $1", INTEGER, "12", None),
        ("SELECT * FROM pair WHERE a = 5 AND b = $1::text", INTEGER, "0012", shard_of("pair", b"5", b"12")),
        ("SELECT * FROM pair WHERE a = 5 AND b = $1::text", INTEGER, "0000", shard_of("pair", b"5", b"0")),
        ("SELECT * FROM pair WHERE a = 5 AND b = $1", STRING, "é", shard_of("pair", b"5", "é".encode())),
        ("SELECT * FROM token WHERE u = $1", STRING, FIVE, shard_of("token", FIVE.encode())),
        ("SELECT * FROM solo3 WHERE id = $1", INTEGER, "17", 3),
        ("SELECT * FROM ref WHERE id = $1", INTEGER, "17", None),
    ],
)
def test_shard_of_constants(sql: str, kind: int, value: str, shard: int | None) -> None:
    found = prepared(sql)
    assert found is not None
    assert found.shard_of_constants(bytes((kind,)), [value.encode()]) == shard


@pytest.mark.parametrize(
    ("sql", "numbers"),
    [
        ("SELECT * FROM users WHERE id = $2 AND age = $1", (2,)),
        ("SELECT * FROM pair WHERE b = $1 AND a = $3", (1, 3)),
        ("SELECT * FROM pair WHERE a = 5 AND b = $2", (2,)),
        ("SELECT * FROM solo3 WHERE id = $1", ()),
        ("SELECT $1", ()),
    ],
)
def test_the_parameters_that_are_looked_at(sql: str, numbers: tuple[int, ...]) -> None:
    found = prepared(sql)
    assert found is not None
    assert found.numbers == numbers


def test_texts_whose_constants_the_native_core_took_out() -> None:
    for sql in ("SELECT * FROM users WHERE id = 17", "SELECT name FROM users WHERE id = '17' AND age > 5"):
        shape = native.shape(sql.encode(), 0, len(sql))
        assert shape is not None
        text, kinds, values = shape
        found = prepared(text.decode())
        assert found is not None
        assert found.shard_of_constants(kinds, values) == shard_of("users", b"17")
