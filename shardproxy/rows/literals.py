"""One Python value as text that PostgreSQL's input functions read, whatever DateStyle and IntervalStyle are.

`literal_of` gives the writer for a type; its text is not yet escaped for COPY. The forms are those of psycopg 3, but
for lists and tuples, which both are arrays here, and for what a session's settings could read otherwise.
"""

import enum
import ipaddress
import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

OFFSET_LIMIT: Final = timedelta(hours=16)
"""PostgreSQL reads smaller UTC offsets only: MAX_TZDISP_HOUR in src/include/datatype/timestamp.h."""


class Literal(NamedTuple):
    """How to write values of one Python type."""

    write: Callable[[Any], str]
    plain: bool
    """No text of it has a character that COPY escapes or quotes, nor is it empty."""
    bare: bool = False
    """An element of an array without quotes."""


_TRUTH: Final = {True: "t", False: "f"}


def _decimal(value: Decimal) -> str:
    # Signalling NaNs and those with a payload are NaN for PostgreSQL.
    return "NaN" if value.is_nan() else Decimal.__str__(value)


def _timestamp(value: datetime) -> str:
    if value.tzinfo is not None:
        offset = value.utcoffset()
        if offset is not None and (offset.microseconds or abs(offset) >= OFFSET_LIMIT):
            value = value.astimezone(UTC)
    return datetime.isoformat(value, " ")


def _time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError(f"the time zone {value.tzinfo} has no offset without a date")
    return time.isoformat(value)


def interval(value: timedelta) -> str:
    """ISO 8601, or hours, minutes and seconds below a day: a column of type time reads that, as MySQL's TIME needs."""
    microseconds = f".{value.microseconds:06}" if value.microseconds else ""
    if value.days:
        return f"P{value.days}DT{value.seconds}{microseconds}S"
    minutes, seconds = divmod(value.seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{microseconds}"


def bytea(value: bytes | bytearray | memoryview) -> str:
    """Bytea's hex format."""
    return "\\x" + value.hex()


def json_text(value: object) -> str:
    """JSON as PostgreSQL reads it: no NaN, no infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    literal = literal_of(type(value))
    text = literal.write(value)
    return text if literal.bare else _quoted(text)


def array(values: Iterable[Any]) -> str:
    """An array, with dimensions where lists hold lists."""
    return "{" + ",".join(map(_element, values)) + "}"


def _bound(value: Any) -> str:
    return "" if value is None else _quoted(literal_of(type(value)).write(value))


def _range(value: Any) -> str:
    if value.isempty:
        return "empty"
    first, last = "[" if value.lower_inc else "(", "]" if value.upper_inc else ")"
    return f"{first}{_bound(value.lower)},{_bound(value.upper)}{last}"


def _enum_name(value: enum.Enum) -> str:
    return value.name


_LITERALS: Final[dict[type, Literal]] = {
    str: Literal(str.__str__, plain=False),
    bool: Literal(_TRUTH.__getitem__, plain=True, bare=True),
    int: Literal(int.__repr__, plain=True, bare=True),
    float: Literal(float.__repr__, plain=True, bare=True),  # float8in and numeric_in read nan, inf and -inf
    Decimal: Literal(_decimal, plain=True, bare=True),
    bytes: Literal(bytea, plain=False),
    bytearray: Literal(bytea, plain=False),
    memoryview: Literal(bytea, plain=False),
    datetime: Literal(_timestamp, plain=True),
    date: Literal(date.isoformat, plain=True),
    time: Literal(_time, plain=True),
    timedelta: Literal(interval, plain=True),
    uuid.UUID: Literal(str, plain=True),
    list: Literal(array, plain=False, bare=True),
    tuple: Literal(array, plain=False, bare=True),
    dict: Literal(json_text, plain=False),
    ipaddress.IPv4Address: Literal(str, plain=True),
    ipaddress.IPv4Network: Literal(str, plain=True),
    ipaddress.IPv6Address: Literal(str, plain=False),  # a scope may be any text
    ipaddress.IPv6Network: Literal(str, plain=True),
    enum.Enum: Literal(_enum_name, plain=False),  # one that is also a str or an int is that, as in psycopg
}

RANGE: Final = Literal(_range, plain=False)
"""psycopg's, psycopg2's and asyncpg's Range, told by their attributes, as none of them is imported here."""

JSON: Final = Literal(json_text, plain=False)


def literal_of(kind: type) -> Literal:
    """The writer for a type or the nearest of its bases; TypeError if there is none."""
    for base in kind.__mro__:
        if base in _LITERALS:
            return _LITERALS[base]
    if hasattr(kind, "lower_inc") and hasattr(kind, "isempty"):
        return RANGE
    raise TypeError(f"no PostgreSQL form is known for the Python type {kind.__qualname__}: cast it in the query")


def replace_nul(value: Any, by: str) -> Any:
    """The value with each U+0000 of its strings replaced, inside lists, tuples and dicts too."""
    match value:
        case str():
            return value.replace("\0", by) if "\0" in value else value
        case list() | tuple():
            return [replace_nul(element, by) for element in value]
        case dict():
            return {replace_nul(key, by): replace_nul(element, by) for key, element in value.items()}
    return value
