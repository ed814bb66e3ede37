"""The built-in types that the binary format has here: names, OIDs (src/include/catalog/pg_type.dat), Python types."""

import enum
import ipaddress
import re
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from shardproxy.rows import packing


class PgType(NamedTuple):
    """A type: `pack` takes values of the Python types in `takes`, but for those in `refuses`."""

    name: str
    oid: int
    array_oid: int
    pack: packing.Pack
    takes: tuple[type, ...]
    refuses: tuple[type, ...] = ()

    def check(self, kind: type) -> None:
        """TypeError if values of a Python type are not for this one."""
        if not issubclass(kind, self.takes) or issubclass(kind, self.refuses):
            raise TypeError(f"a {kind.__qualname__} is no value for the type {self.name}")


def _text(value: Any) -> bytes:
    return packing.text(value if isinstance(value, str) else value.name)


_STRINGS: Final = (str, enum.Enum)
_BYTES: Final = (bytes, bytearray, memoryview)
_NUMBERS: Final = (int, float, Decimal)
_ADDRESSES: Final = (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)
_INTERFACES: Final = (ipaddress.IPv4Interface, ipaddress.IPv6Interface)
_JSON: Final = (str, dict, list, tuple, int, float)

_TYPES: Final = [
    PgType("bool", 16, 1000, packing.boolean, (int,)),
    PgType("bytea", 17, 1001, packing.bytea, _BYTES),
    PgType("name", 19, 1003, _text, _STRINGS),
    PgType("int8", 20, 1016, packing.int8, (int,)),
    PgType("int2", 21, 1005, packing.int2, (int,)),
    PgType("int4", 23, 1007, packing.int4, (int,)),
    PgType("text", 25, 1009, _text, _STRINGS),
    PgType("oid", 26, 1028, packing.oid, (int,)),
    PgType("json", 114, 199, packing.json, _JSON),
    PgType("xml", 142, 143, _text, _STRINGS),
    PgType("cidr", 650, 651, packing.cidr, _ADDRESSES, _INTERFACES),
    PgType("float4", 700, 1021, packing.float4, _NUMBERS),
    PgType("float8", 701, 1022, packing.float8, _NUMBERS),
    PgType("inet", 869, 1041, packing.inet, _ADDRESSES),
    PgType("bpchar", 1042, 1014, _text, _STRINGS),
    PgType("varchar", 1043, 1015, _text, _STRINGS),
    PgType("date", 1082, 1182, packing.day, (date,), (datetime,)),
    PgType("time", 1083, 1183, packing.clock, (time,)),
    PgType("timestamp", 1114, 1115, packing.timestamp, (datetime,)),
    PgType("timestamptz", 1184, 1185, packing.timestamptz, (datetime,)),
    PgType("interval", 1186, 1187, packing.interval, (timedelta,)),
    PgType("timetz", 1266, 1270, packing.timetz, (time,)),
    PgType("numeric", 1700, 1231, packing.numeric, _NUMBERS),
    PgType("uuid", 2950, 2951, packing.uuid_, (uuid.UUID,)),
    PgType("jsonb", 3802, 3807, packing.jsonb, _JSON),
]

_ALIASES: Final = {
    "bigint": "int8",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "character varying": "varchar",
    "decimal": "numeric",
    "double precision": "float8",
    "int": "int4",
    "integer": "int4",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}


def _arrays() -> Iterator[PgType]:
    for element in _TYPES:

        def pack_element(value: Any, element: PgType = element) -> bytes:
            element.check(type(value))
            return element.pack(value)

        pack = partial(packing.array, element_oid=element.oid, pack=pack_element)
        yield PgType(f"{element.name}[]", element.array_oid, 0, pack, (list, tuple))


_BY_NAME: Final = {found.name: found for found in [*_TYPES, *_arrays()]}
_BY_OID: Final = {found.oid: found for found in _BY_NAME.values()}


def type_of(given: str | int) -> PgType:
    """The type of an OID, or of a name as SQL has it: `bigint`, `numeric(10,2)`, `text[]`; ValueError if unknown."""
    if isinstance(given, int):
        found = _BY_OID.get(given)
    else:
        name = " ".join(re.sub(r"\([^)]*\)", " ", given.lower()).split())
        name, brackets = (name[:-2].rstrip(), "[]") if name.endswith("[]") else (name, "")
        found = _BY_NAME.get(_ALIASES.get(name, name) + brackets)
    if found is None:
        raise ValueError(
            f"the binary format has no type {given!r} here; the text formats take it, "
            "and 'text' is right for an enum, a domain's own base type for a domain"
        )
    return found
