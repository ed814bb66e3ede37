"""One Python value as a field of COPY's binary format: its length, and what PostgreSQL's receive functions read.

The functions are named after PostgreSQL's in src/backend/utils/adt (int8recv, numeric_recv, array_recv, ...).
"""

import ipaddress
import struct
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from shardproxy.rows.encoder import NUL_REFUSED
from shardproxy.rows.literals import json_text

Pack = Callable[[Any], bytes]

NULL: Final = b"\xff\xff\xff\xff"

_length = struct.Struct(">i").pack
_8_bytes = partial(struct.Struct(">iq").pack, 8)
_EPOCH: Final = datetime(2000, 1, 1)
_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(2000, 1, 1).toordinal()
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"

int2: Final[Pack] = partial(struct.Struct(">ih").pack, 2)
int4: Final[Pack] = partial(struct.Struct(">ii").pack, 4)
int8: Final[Pack] = _8_bytes
oid: Final[Pack] = partial(struct.Struct(">iI").pack, 4)
float4: Final[Pack] = partial(struct.Struct(">if").pack, 4)
float8: Final[Pack] = partial(struct.Struct(">id").pack, 8)


def field(data: bytes) -> bytes:
    """A value with its length before it."""
    return _length(len(data)) + data


def boolean(value: int) -> bytes:
    """MySQL and SQLite have integers for it: 0 and 1 are taken, others are not."""
    if value not in (0, 1):
        raise ValueError(f"{value} is no boolean")
    return _TRUE if value else _FALSE


def text(value: str) -> bytes:
    """In UTF-8."""
    data = value.encode()
    if b"\0" in data:
        raise ValueError(NUL_REFUSED)
    return _length(len(data)) + data


def json(value: object) -> bytes:
    """A str is JSON already."""
    return text(value if isinstance(value, str) else json_text(value))


def jsonb(value: object) -> bytes:
    """JSON after the number of jsonb_recv's version."""
    return field(b"\1" + json(value)[4:])


def bytea(value: bytes | bytearray | memoryview) -> bytes:
    """The bytes as they are."""
    return field(bytes(value))


def day(value: date) -> bytes:
    """Days since 2000-01-01."""
    return int4(value.toordinal() - _EPOCH_DAY)


def _microseconds(value: timedelta) -> int:
    return (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds


def timestamp(value: datetime) -> bytes:
    """Microseconds since 2000-01-01; TypeError for one with a time zone, which PostgreSQL would drop."""
    return _8_bytes(_microseconds(value - _EPOCH))


def timestamptz(value: datetime) -> bytes:
    """Microseconds since 2000-01-01 UTC; TypeError without a time zone, as the session's is not known here."""
    return _8_bytes(_microseconds(value - _EPOCH_UTC))


def _since_midnight(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def clock(value: time) -> bytes:
    """Microseconds since midnight; TypeError for one with a time zone, which PostgreSQL would drop."""
    if value.tzinfo is not None:
        raise TypeError("a time with a time zone needs the type timetz")
    return _8_bytes(_since_midnight(value))


def timetz(value: time) -> bytes:
    """Microseconds since midnight, and the zone in seconds west of Greenwich."""
    offset = value.utcoffset()
    if offset is None:
        raise TypeError("timetz needs a time whose zone has an offset without a date")
    if offset.microseconds:
        raise ValueError(f"PostgreSQL's time zones are whole seconds, not {offset}")
    return field(struct.pack(">qi", _since_midnight(value), -(offset.days * 86400 + offset.seconds)))


def interval(value: timedelta) -> bytes:
    """Days stay days; there are no months."""
    return field(struct.pack(">qii", value.seconds * 1_000_000 + value.microseconds, value.days, 0))


def uuid_(value: uuid.UUID) -> bytes:
    """The 16 bytes."""
    return field(value.bytes)


_POSITIVE, _NEGATIVE, _NAN, _INFINITY, _MINUS_INFINITY = 0x0000, 0x4000, 0xC000, 0xD000, 0xF000
_DIGITS_BEFORE_POINT, _DIGITS_AFTER_POINT = 131072, 16383  # of numeric, in the manual's "Numeric Types"
_TOO_LONG: Final = (
    f"numeric holds {_DIGITS_BEFORE_POINT} digits before the decimal point, {_DIGITS_AFTER_POINT} after it"
)


def numeric(value: Decimal | float) -> bytes:
    """Base 10000 digits around the decimal point; a float is the shortest decimal that reads as it."""
    number = value if isinstance(value, Decimal) else Decimal(repr(value) if isinstance(value, float) else value)
    if not number.is_finite():
        return _numeric([], 0, _NAN if number.is_nan() else _MINUS_INFINITY if number.is_signed() else _INFINITY, 0)
    # The exponent of the first digit bounds what is written below; zeros have one, too.
    if not -_DIGITS_AFTER_POINT <= number.adjusted() < _DIGITS_BEFORE_POINT:
        raise ValueError(_TOO_LONG)
    whole, _, fraction = format(number, "f").lstrip("-").partition(".")
    scale = len(fraction)
    if scale > _DIGITS_AFTER_POINT:
        raise ValueError(_TOO_LONG)
    before = -(-len(whole) // 4)
    digits = whole.zfill(before * 4) + fraction + "0" * (-scale % 4)
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    while groups and not groups[-1]:
        groups.pop()
    first = next((at for at, group in enumerate(groups) if group), 0)
    sign = _NEGATIVE if groups and number.is_signed() else _POSITIVE
    return _numeric(groups[first:], before - 1 - first if groups else 0, sign, scale)


def _numeric(groups: list[int], weight: int, sign: int, scale: int) -> bytes:
    count = len(groups)
    return struct.pack(f">iHhHH{count}H", 8 + 2 * count, count, weight, sign, scale, *groups)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def inet(value: Address | Network) -> bytes:
    """An address, an interface or a network."""
    return _network(value, is_cidr=False)


def cidr(value: Address | Network) -> bytes:
    """A network, or an address as the network of itself."""
    return _network(value, is_cidr=True)


def _network(value: Address | Network, *, is_cidr: bool) -> bytes:
    if isinstance(value, Address):
        if isinstance(value, ipaddress.IPv6Address) and value.scope_id is not None:
            raise ValueError("inet has no scope")
        whole = isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface)
        bits = value.network.prefixlen if whole else value.max_prefixlen  # type: ignore[union-attr]
        packed = value.packed
    else:
        bits, packed = value.prefixlen, value.network_address.packed
    family = 2 if len(packed) == 4 else 3  # PGSQL_AF_INET, PGSQL_AF_INET6
    return field(struct.pack(">BBBB", family, bits, is_cidr, len(packed)) + packed)


def _shape(value: Any) -> list[int]:
    """The lengths along each dimension, by the first elements."""
    shape = []
    while isinstance(value, list | tuple):
        shape.append(len(value))
        if not value:
            return []
        value = value[0]
    return shape


def _elements(value: Any, shape: list[int]) -> Iterator[Any]:
    if not shape:
        if isinstance(value, list | tuple):
            raise ValueError("the dimensions of an array must be the same throughout")
        yield value
        return
    if not isinstance(value, list | tuple) or len(value) != shape[0]:
        raise ValueError("the dimensions of an array must be the same throughout")
    for element in value:
        yield from _elements(element, shape[1:])


def array(value: Any, element_oid: int, pack: Pack) -> bytes:
    """An array, its dimensions counted from 1; a list that holds nothing but empty lists is the empty array."""
    shape = _shape(value)
    if not shape:
        if any(value):
            raise ValueError("the dimensions of an array must be the same throughout")
        return field(struct.pack(">iiI", 0, 0, element_oid))
    fields = [NULL if element is None else pack(element) for element in _elements(value, shape)]
    dimensions = b"".join(struct.pack(">ii", length, 1) for length in shape)
    return field(struct.pack(">iiI", len(shape), NULL in fields, element_oid) + dimensions + b"".join(fields))
