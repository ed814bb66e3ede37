"""Types with values to choose from: few, so that joins and look-ups hit, and with spellings that mislead."""

import datetime
import decimal
import ipaddress
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from psycopg.types.numeric import DecimalBinaryDumper

Binary = Callable[[str], bytes]


@dataclass(frozen=True)
class Type:
    """A type, and what stands for its values in SQL and in parameters.

    `spellings` are other texts of values, or texts of other values that a cast makes to one of these.
    """

    name: str
    oid: int
    values: tuple[str, ...]
    spellings: tuple[str, ...] = ()
    binary: Binary | None = None
    number: bool = False
    key: bool = True  # can be the key of a hash table
    ordered: bool = True  # has a btree operator class


def _integer(form: str) -> Binary:
    return lambda text: struct.pack(form, int(text))


def _numeric(text: str) -> bytes:
    return bytes(DecimalBinaryDumper(decimal.Decimal).dump(decimal.Decimal(text)) or b"")


def _date(text: str) -> bytes:
    return struct.pack("!i", (datetime.date.fromisoformat(text) - datetime.date(2000, 1, 1)).days)


def _timestamp(text: str) -> bytes:
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    return struct.pack("!q", (moment - datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)) // _MICROSECOND)


def _timestamptz(text: str) -> bytes:
    return _timestamp(text.removesuffix("+00"))


def _time(text: str) -> bytes:
    moment = datetime.time.fromisoformat(text)
    return struct.pack("!q", ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 10**6 + moment.microsecond)


_INTERVALS = {"01:00:00": (3_600_000_000, 0, 0), "1 day": (0, 1, 0), "1 mon": (0, 0, 1), "00:00:00": (0, 0, 0)}


def _interval(text: str) -> bytes:
    return struct.pack("!qii", *_INTERVALS[text])


def _network(cidr: int) -> Binary:
    def packed(text: str) -> bytes:
        one = ipaddress.ip_interface(text)
        family = 2 if one.version == 4 else 3
        return bytes((family, one.network.prefixlen, cidr, len(one.packed))) + one.packed

    return packed


def _hardware(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


_MICROSECOND = datetime.timedelta(microseconds=1)

_SMALL = ("0", "1", "2", "3", "5", "7", "-1", "6", "9")

TYPES = {
    one.name: one
    for one in (
        Type("int4", 23, (*_SMALL, "2147483647"), (" 7 ", "+5", "007", "-0"), _integer("!i"), True),
        Type("int8", 20, (*_SMALL, "9999999999"), (" 7", "+5", "007"), _integer("!q"), True),
        Type("int2", 21, (*_SMALL, "32767"), ("007", "+1"), _integer("!h"), True),
        Type("numeric", 1700, (*_SMALL, "1.5", "5.7", "0.1"), ("1.0", "5.70", "1e0", "00.10", "NaN"), _numeric, True),
        Type("float8", 701, (*_SMALL, "1.5", "0.25", "-2.5"), ("1.50", "15e-1", "-0"),
             lambda text: struct.pack("!d", float(text)), True),
        Type("float4", 700, (*_SMALL, "1.5", "0.25", "0.1"), ("1.50", "15e-1", "-0", "0.10000000149"),
             lambda text: struct.pack("!f", float(text)), True),
        Type("oid", 26, ("0", "1", "2", "3", "5", "7", "4294967295"), (" 7", "-1"), _integer("!I"), True),
        Type("text", 25, ("", "a", "A", "b", "1", "7", "a b", "ä", "it''s"), ("01", "a ", "7.0", "\\x41", "NULL"),
             str.encode),
        Type("varchar(5)", 1043, ("", "a", "b", "1", "7", "abcde", "ä"), ("a    ", "abcdefg"), str.encode),
        Type("bpchar(4)", 1042, ("", "a", "b", "1", "7", "ab"), ("a ", " a", "a    "), str.encode),
        Type("name", 19, ("", "a", "A", "b", "1", "7", "ä"), ("01", "a ", "x" * 70), str.encode),
        Type("uuid", 2950, tuple(f"{digit}" * 8 + "-0000-4000-8000-000000000000" for digit in "0123ab"),
             ("{AAAAAAAA-0000-4000-8000-000000000000}", "bbbbbbbb000040008000000000000000"),
             lambda text: uuid.UUID(text).bytes),
        Type("bool", 16, ("t", "f"), ("true", "off", "1", "y"), lambda text: b"\1" if text == "t" else b"\0",
             ordered=True),
        Type("bytea", 17, ("\\x", "\\x00", "\\x6162", "\\xff"), ("ab", "\\000", "\\x 61 62"),
             lambda text: bytes.fromhex(text[2:])),
        Type("date", 1082, ("2000-01-01", "2024-02-29", "1999-12-31", "2024-01-02"),
             ("2024-1-2", "01/02/2024", "20240102", "2024-02-29 10:00"), _date),
        Type("timestamp", 1114, ("2000-01-01 00:00:00", "2024-02-29 12:30:00", "1999-12-31 23:59:59"),
             ("2024-02-29T12:30", "2000-01-01", "2024-02-29 12:30:00+02"), _timestamp),
        Type("timestamptz", 1184, ("2000-01-01 00:00:00+00", "2024-02-29 12:30:00+00", "1999-12-31 23:59:59+00"),
             ("2024-02-29 14:30+02", "2000-01-01 00:00Z", "2024-02-29 12:30"), _timestamptz),
        Type("time", 1083, ("00:00:00", "12:30:00", "23:59:59.5", "04:05:06"), ("12:30", "12:30:00+02", "04:05 AM"),
             _time),
        Type("interval", 1186, tuple(_INTERVALS), ("24 hours", "1 day -24 hours", "60 min", "P1M", "PT1H", "30 days"),
             _interval),
        Type("inet", 869, ("10.0.0.1", "10.0.0.0/8", "::1"), ("10.0.0.1/32", "::1/128"), _network(0)),
        Type("cidr", 650, ("10.0.0.1/32", "10.0.0.0/8", "::1/128"), ("10.0.0.1", "::1", "10.0.0.1/8"), _network(1)),
        Type("macaddr", 829, ("08:00:2b:01:02:03", "00:00:00:00:00:00"), ("08002b:010203", "08-00-2B-01-02-03"),
             _hardware),
        Type("macaddr8", 774, ("08:00:2b:ff:fe:01:02:03", "00:00:00:00:00:00:00:01"),
             ("08:00:2b:01:02:03", "0800.2bff.fe01.0203"), _hardware),
        Type("mood", 0, ("sad", "ok", "happy"), ("Sad",), key=False),
        Type("int4[]", 1007, ("{}", "{1,2}", "{NULL,5}", "{7}"), ("[0:1]={1,2}", "{ 1 , 2 }"), key=False),
        Type("jsonb", 3802, ('{"a": 1}', "[1, 2]", "null", "7"), ('{"a":1,"a":2}',), key=False),
        Type("point2", 0, ("(1,2)", "(,)", "(5,)"), ("( 1 ,2)",), key=False),
    )
}  # fmt: skip

KEYS = [one for one in TYPES.values() if one.key]
ENUM = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')"
COMPOSITE = "CREATE TYPE point2 AS (x int, y int)"
