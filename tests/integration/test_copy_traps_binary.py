"""TRAPS: COPY's binary format, in and out. Each case on one PostgreSQL and through the proxy over three shards."""

import struct
from collections.abc import Sequence

import pytest

from tests.support.differential import SIGNATURE, Arena, Copy

TRAILER = b"\xff\xff"
PLAIN = "COPY t FROM STDIN (FORMAT binary)"
NUMBERS = "CREATE TABLE t (k int, v text)"


def row(*values: bytes | None) -> bytes:
    fields = [struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in values]
    return struct.pack("!H", len(values)) + b"".join(fields)


def int4(value: int) -> bytes:
    return struct.pack("!i", value)


def numbers(values: Sequence[int]) -> bytes:
    return b"".join(row(int4(value), b"value %d" % value) for value in values)


MANY = numbers(range(200))

LOADS = {
    "rows": SIGNATURE + MANY + TRAILER,
    "one row": SIGNATURE + numbers([7]) + TRAILER,
    "no rows": SIGNATURE + TRAILER,
    "null key": SIGNATURE + row(None, b"a") + row(int4(1), None) + row(None, None) + TRAILER,
    "header extension": SIGNATURE[:-4] + struct.pack("!i", 5) + b"extra" + MANY + TRAILER,
    "unknown flags that are not critical": SIGNATURE[:-8] + struct.pack("!ii", 0xFF, 0) + MANY + TRAILER,
    "long value": SIGNATURE + row(int4(1), b"x" * 300_000) + numbers([2]) + TRAILER,
}


@pytest.mark.parametrize("name", LOADS)
def test_binary_loads(arena: Arena, name: str) -> None:
    outcome = arena.compare_ways(NUMBERS, PLAIN, LOADS[name])
    assert outcome.last.error is None
    assert outcome.last.tags == [f"COPY {len(outcome.rows)}"]


REFUSALS = {
    "empty": b"",
    "signature wrong": b"PGCOPY\n\xff\n\n\0" + bytes(8) + MANY + TRAILER,
    "signature short": SIGNATURE[:7],
    "flags missing": SIGNATURE[:13],
    "critical flags": SIGNATURE[:-8] + struct.pack("!Ii", 1 << 17, 0) + MANY + TRAILER,
    "oids": SIGNATURE[:-8] + struct.pack("!Ii", 1 << 16, 0) + MANY + TRAILER,
    "extension short": SIGNATURE[:-4] + struct.pack("!i", 5) + b"ex",
    "extension negative": SIGNATURE[:-4] + struct.pack("!i", -5) + MANY + TRAILER,
    "text": b"1\ta\n2\tb\n",
    "key too long": SIGNATURE + MANY + row(bytes(8), b"a") + MANY + TRAILER,
    "key too short": SIGNATURE + MANY + row(b"\0\0", b"a") + MANY + TRAILER,
    "key empty": SIGNATURE + MANY + row(b"", b"a") + MANY + TRAILER,
    "field count too small": SIGNATURE + MANY + row(int4(1)) + MANY + TRAILER,
    "field count too big": SIGNATURE + MANY + row(int4(1), b"a", b"b") + MANY + TRAILER,
    "field count zero": SIGNATURE + MANY + row() + MANY + TRAILER,
    "negative field length": SIGNATURE + MANY + struct.pack("!hi", 2, -2) + MANY + TRAILER,
    "cut in a field": SIGNATURE + MANY + row(int4(1), b"a" * 100)[:-20],
    "cut in a length": SIGNATURE + MANY + row(int4(1), b"a")[:-3],
    "data behind the trailer": SIGNATURE + MANY + TRAILER + MANY,
    "not UTF-8": SIGNATURE + MANY + row(int4(1), b"\xff") + MANY + TRAILER,
}


@pytest.mark.parametrize("name", REFUSALS)
def test_binary_refusals(arena: Arena, name: str) -> None:
    outcome = arena.compare_ways(NUMBERS, PLAIN, REFUSALS[name])
    assert outcome.last.error is not None
    assert outcome.rows == []


def test_no_trailer(arena: Arena) -> None:
    """PostgreSQL takes it: the end of the data ends the rows, also inside a field count."""
    arena.compare_ways(NUMBERS, PLAIN, SIGNATURE + MANY + b"\0")
    arena.compare_ways(NUMBERS, PLAIN, SIGNATURE + MANY)
    arena.compare_ways(NUMBERS, PLAIN, SIGNATURE)


KEYS = {
    "smallint": [struct.pack("!h", value) for value in (0, 1, -1, 32767, -32768)],
    "int": [int4(value) for value in (0, 1, -1, 2**31 - 1, -(2**31))],
    "bigint": [struct.pack("!q", value) for value in (0, 1, -1, 2**33, -(2**63))],
    "text": [b"", b"a", b"a ", b"\xc3\xa4", b"x" * 1000],
    "varchar(5)": [b"", b"a", b"a    ", b"abcde   "],
    "char(5)": [b"", b"a", b"a    ", b"abcde", b" b"],
    "uuid": [bytes(16), bytes(range(16)), b"\xff" * 16],
    "boolean": [b"\0", b"\1", b"\2"],
    "date": [int4(0), int4(8825), int4(2**31 - 1), int4(-(2**31))],
    "timestamp": [struct.pack("!q", value) for value in (0, 10**15, 2**63 - 1, -(2**63))],
    "timestamptz": [struct.pack("!q", value) for value in (0, 10**15, 2**63 - 1, -(2**63))],
    "bytea": [b"", b"\0", b"\xff\0\\", b"x" * 100],
    "numeric": [
        struct.pack("!hhHh", 0, 0, 0, 0),
        struct.pack("!hhHhh", 1, 0, 0, 0, 12),
        struct.pack("!hhHhhh", 2, 0, 0, 2, 12, 3400),
        struct.pack("!hhHhhh", 2, 0, 0, 4, 12, 0),
        struct.pack("!hhHhh", 1, 0, 0x4000, 0, 12),
        struct.pack("!hhHh", 0, 0, 0xC000, 0),
        struct.pack("!hhHh", 0, 0, 0xD000, 0x20),
    ],
    "numeric(6,2)": [struct.pack("!hhHhhh", 2, 0, 0, 4, 12, 3456), struct.pack("!hhHhhh", 2, 0, 0, 4, 12, 3450)],
}


@pytest.mark.parametrize("kind", KEYS)
def test_binary_keys(arena: Arena, kind: str) -> None:
    data = SIGNATURE + b"".join(row(b"v%d" % n, key) for n, key in enumerate([None, *KEYS[kind]])) + TRAILER
    outcome = arena.compare_ways(f"CREATE TABLE t (v text, k {kind})", PLAIN, data)
    assert outcome.last.error is None


BAD_KEYS = [
    ("boolean", b""), ("boolean", b"\1\1"), ("smallint", int4(1)), ("bigint", int4(1)), ("uuid", bytes(15)),
    ("uuid", bytes(17)), ("date", bytes(8)), ("date", int4(2**31 - 2)), ("timestamp", struct.pack("!q", 2**63 - 2)),
    ("char(2)", b"abc"), ("varchar(2)", b"abc"), ("text", b"a\0b"), ("text", b"\xc3"),
    ("numeric", struct.pack("!hhHhh", 1, 0, 0, 0, 10000)), ("numeric", struct.pack("!hhHh", 1, 0, 0, 0)),
    ("numeric", struct.pack("!hhHh", 0, 0, 0x1234, 0)), ("numeric(2,1)", struct.pack("!hhHhh", 1, 0, 0, 0, 120)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), BAD_KEYS)
def test_binary_keys_refused(arena: Arena, kind: str, key: bytes) -> None:
    data = SIGNATURE + row(None, b"a") + row(key, b"b") + row(None, b"c") + TRAILER
    outcome = arena.compare_ways(f"CREATE TABLE t (k {kind}, v text)", PLAIN, data)
    assert outcome.rows == []
    assert outcome.last.line == 2


def test_old_syntax(arena: Arena) -> None:
    for sql in ("COPY BINARY t FROM STDIN", "COPY t FROM STDIN BINARY", "COPY t FROM STDIN WITH BINARY"):
        arena.compare_ways(NUMBERS, sql, SIGNATURE + MANY + TRAILER)


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_binary_out(arena: Arena, count: int) -> None:
    """One signature, in the message of the first row; one trailer; each other row in a message of its own."""
    data = SIGNATURE + numbers(range(count)) + TRAILER
    outcome = arena.compare(NUMBERS, Copy(PLAIN, data), "COPY t TO STDOUT (FORMAT binary)", "COPY BINARY t TO STDOUT")
    sent = outcome.last.data
    assert len(sent) == count + 1
