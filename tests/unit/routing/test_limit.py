"""LIMIT and OFFSET of several shards: as constants and as parameters of each type and format."""

from struct import pack

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import Gather, Home, OneShard, ParamValue, limit_of
from shardproxy.sql import Param
from tests.unit.routing.tables import NSHARDS, routed

ALL = tuple(range(NSHARDS))
INT2, INT4, INT8, NUMERIC, FLOAT8, TEXT, UNKNOWN, UNREADABLE = 21, 23, 20, 1700, 701, 25, 705, -1
LONGEST = 2**63 - 1
LIMIT = "SELECT * FROM users LIMIT $1"


@pytest.mark.parametrize(
    ("clause", "limit"),
    [
        ("LIMIT 5", 5),
        ("LIMIT 5 OFFSET 0", 5),
        ("OFFSET NULL LIMIT 5", 5),
        ("LIMIT '5'", 5),
        ("LIMIT 5::int8", 5),
        ("LIMIT '5'::integer", 5),
        ("LIMIT 2.5", 3),
        (f"LIMIT {LONGEST}", LONGEST),
        ("FETCH FIRST ROW ONLY", 1),
        ("FETCH NEXT 5 ROWS ONLY", 5),
        ("LIMIT ALL", None),
        ("LIMIT NULL", None),
        ("OFFSET 0", None),
    ],
)
def test_constants(clause: str, limit: int | None) -> None:
    assert routed(f"SELECT * FROM users {clause}") == Gather(ALL, limit=limit)


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (ParamValue(0, 0, b"5"), 5),
        (ParamValue(UNKNOWN, 0, b" 5 "), 5),
        (ParamValue(INT2, 1, pack("!h", 5)), 5),
        (ParamValue(INT4, 1, pack("!i", 5)), 5),
        (ParamValue(INT8, 1, pack("!q", LONGEST)), LONGEST),
        (ParamValue(INT8, 0, b"5"), 5),
        (ParamValue(NUMERIC, 0, b"2.5"), 3),
        (ParamValue(INT8, 0, None), None),
        (ParamValue(0, 0, None), None),
    ],
)
def test_parameters(given: ParamValue, limit: int | None) -> None:
    assert routed(LIMIT, given) == Gather(ALL, limit=limit)


@pytest.mark.parametrize("oid", [0, INT4, INT8])
def test_parameters_under_a_cast(oid: int) -> None:
    """As SQLAlchemy sends them."""
    sql = "SELECT * FROM users LIMIT $1::INTEGER OFFSET $2::INTEGER"
    assert routed(sql, ParamValue(oid, 0, b"5"), ParamValue(oid, 0, b"0")) == Gather(ALL, limit=5)


def test_a_parameter_that_is_not_known_yet() -> None:
    """As `explain` has it: nothing is run."""
    plan = routed(LIMIT)
    assert plan == Gather(ALL, limit=Param(1))
    assert limit_of(plan) is None


@pytest.mark.parametrize("clause", ["LIMIT 0", "LIMIT -1", "LIMIT 'x'", "LIMIT 9999999999999999999", "OFFSET -1"])
def test_no_rows_or_an_error_is_any_shards_answer(clause: str) -> None:
    assert routed(f"SELECT count(*) FROM users a, users b {clause}") == Home()
    assert routed(f"SELECT * FROM users, solo3 {clause}") == OneShard(3)


@pytest.mark.parametrize(
    "given", [ParamValue(INT4, 1, pack("!i", 0)), ParamValue(INT8, 0, b"-1"), ParamValue(0, 0, b"x")]
)
def test_a_parameter_without_rows(given: ParamValue) -> None:
    assert routed(LIMIT, given) == Home()


@pytest.mark.parametrize(
    ("sql", "given", "message"),
    [
        (LIMIT, ParamValue(FLOAT8, 0, b"5"), "a computed LIMIT"),
        (LIMIT, ParamValue(UNREADABLE, 1, b""), "a computed LIMIT"),
        ("SELECT * FROM users WHERE age = $1 LIMIT $1", ParamValue(0, 0, b"5"), "a computed LIMIT"),
        ("SELECT * FROM users LIMIT 5 OFFSET $1", ParamValue(INT8, 0, b"1"), "OFFSET"),
        ("SELECT * FROM users OFFSET $1", ParamValue(UNREADABLE, 1, b""), "OFFSET"),
    ],
)
def test_what_only_a_shard_can_compute(sql: str, given: ParamValue, message: str) -> None:
    with pytest.raises(PgError, match=f': {message} over several shards of "public.users" is not supported') as caught:
        routed(sql, given)
    assert caught.value.sqlstate == "0A000"


def test_a_parameter_in_two_places_whose_type_is_known() -> None:
    assert routed("SELECT * FROM users WHERE age = $1 LIMIT $1", ParamValue(INT4, 0, b"5")) == Gather(ALL, limit=5)


def test_locks_without_a_limit() -> None:
    assert routed("SELECT * FROM users LIMIT ALL FOR UPDATE") == Gather(ALL)
    assert routed("SELECT * FROM users LIMIT 0 FOR UPDATE") == Home()
