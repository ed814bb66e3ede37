"""Key values in messages, as PostgreSQL's output functions write them.

Never used to place a row. A value that the native core does not read, and dates (DateStyle decides on their
output), are shown as the client spelled them; binary dates in ISO style and UTC.
"""

import decimal
import struct
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from shardproxy import native
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.routing.keytypes import STRINGS, KeyColumn

MAX_FIELD_LENGTH = 64
"""Bytes of a value in "Partition key of the failing row contains": maxfieldlen in ExecFindPartition."""

_INTEGER_WIDTH = {native.KEY_INT2: 2, native.KEY_INT4: 4, native.KEY_INT8: 8}


def _numeric(text: str, typmod: int) -> str:
    text = text.strip().lower().replace("_", "")
    if text.lstrip("+-")[:2] in {"0x", "0o", "0b"}:
        text = str(int(text, 0))
    with decimal.localcontext(decimal.Context(prec=200_000, Emax=999_999, Emin=-999_999)):
        number = decimal.Decimal(text)
        if not number.is_finite():
            return "NaN" if number.is_nan() else ("-Infinity" if number < 0 else "Infinity")
        if typmod >= 4:
            scale = (((typmod - 4) & 0x7FF) ^ 1024) - 1024
            number = number.quantize(decimal.Decimal(1).scaleb(-scale), decimal.ROUND_HALF_UP)
        return format(number.copy_abs() if number.is_zero() else number, "f")


_EPOCH = date(2000, 1, 1)
_NUMERIC_WORDS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}


def _numeric_of_binary(field: bytes) -> str:
    """Spell what numeric_recv reads: base 10000 digits from `weight` down, cut off at the display scale."""
    count, weight, sign, scale = struct.unpack_from(">HhHH", field)
    if sign in _NUMERIC_WORDS:
        return _NUMERIC_WORDS[sign]
    digits = struct.unpack_from(f">{count}H", field, 8)
    with decimal.localcontext(decimal.Context(prec=200_000, Emax=999_999, Emin=-999_999)):
        number = sum(
            (decimal.Decimal(digit).scaleb(4 * (weight - n)) for n, digit in enumerate(digits)), decimal.Decimal()
        )
        number = number.quantize(decimal.Decimal(1).scaleb(-scale), decimal.ROUND_DOWN)
        return format(-number if sign else number, "f")


def _moment(microseconds: int) -> str:
    moment = datetime(_EPOCH.year, _EPOCH.month, _EPOCH.day) + timedelta(microseconds=microseconds)
    text = moment.isoformat(" ")
    return text.rstrip("0") if moment.microsecond else text


def text_of_binary(column: KeyColumn, field: bytes) -> bytes:
    """Return a spelling of a binary field, in the server's encoding where it is text.

    A field that the native core does not read, and a date that Python's calendar does not reach, are given in
    hexadecimal.
    """
    if column.type in STRINGS:
        return field
    form = native.canonical((column.type, column.typmod), field, True)
    text = raw = "\\x" + field.hex()
    if isinstance(form, int):
        return raw.encode()
    value = int.from_bytes(field, "big", signed=True)
    try:
        match column.type:
            case native.KEY_INT2 | native.KEY_INT4 | native.KEY_INT8:
                text = str(value)
            case native.KEY_BOOL:
                text = "t" if value else "f"
            case native.KEY_UUID:
                text = str(UUID(bytes=field))
            case native.KEY_NUMERIC:
                text = _numeric_of_binary(field)
            case native.KEY_DATE:
                text = (_EPOCH + timedelta(days=value)).isoformat()
            case native.KEY_TIMESTAMP:
                text = _moment(value)
            case native.KEY_TIMESTAMPTZ:
                text = _moment(value) + "+00"
    except OverflowError:
        return raw.encode()
    return text.encode()


def describe_value(column: KeyColumn, value: bytes, codec: str, *, server_version: int) -> str:
    """Return one value as PostgreSQL would show it, whole."""
    text = value.decode(codec, "backslashreplace")
    form = native.canonical((column.type, column.typmod), value, server_version=server_version)
    if isinstance(form, int):
        return text
    width = _INTEGER_WIDTH.get(column.type)
    if width is not None:
        return str(int.from_bytes(form, "big") - (1 << (8 * width - 1)))
    match column.type:
        case native.KEY_BOOL:
            return "t" if form == b"\1" else "f"
        case native.KEY_UUID:
            return str(UUID(bytes=form))
        case native.KEY_BYTEA:
            return "\\x" + form.hex()
        case native.KEY_TEXT:
            return form.decode(codec, "backslashreplace")
        case native.KEY_BPCHAR:
            return form.decode(codec, "backslashreplace").ljust(max(column.typmod - 4, 0))
        case native.KEY_NUMERIC:
            return _numeric(text, column.typmod)
    return text


def _clip(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= MAX_FIELD_LENGTH:
        return text
    return data[:MAX_FIELD_LENGTH].decode("utf-8", "ignore") + "..."


def describe_key(key: Sequence[KeyColumn], values: Sequence[bytes | None], codec: str, *, server_version: int) -> str:
    """Return `(a, b) = (1, null)`, as ExecBuildSlotPartitionKeyDescription in execPartition.c."""
    names = ", ".join(quote_identifier(column.name) for column in key)
    shown = ", ".join(
        "null" if value is None else _clip(describe_value(column, value, codec, server_version=server_version))
        for column, value in zip(key, values, strict=True)
    )
    return f"({names}) = ({shown})"
