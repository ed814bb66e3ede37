"""From a constant or a parameter to the text of a key value, or to the verdict that it binds nothing.

PostgreSQL reads a constant by the type that it gives it, which is not always the key's. Only where both
readings certainly agree is there a value; any other cast, type or format is UNBOUND, which costs a detour
over all shards or a refusal, never a wrong shard.
"""

import struct
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from shardproxy import native
from shardproxy.routing.resolved import Context, ParamValue
from shardproxy.sql.model import Const, Param, Value


class Unbound(Enum):
    """The type of UNBOUND."""

    UNBOUND = "unbound"


UNBOUND: Final = Unbound.UNBOUND

INTEGERS: Final = frozenset({native.KEY_INT2, native.KEY_INT4, native.KEY_INT8})
_INTEGER_TYPES: Final = frozenset({"int2", "int4", "int8"})
_STRING_TYPES: Final = frozenset({"text", "varchar"})

# Types whose values compare with a key, and are assigned to it, as the key's own type reads their text.
# bpchar is missing for text on purpose: it drops trailing blanks on the way.
_SAME: Final[dict[int, frozenset[str]]] = {
    native.KEY_INT2: _INTEGER_TYPES,
    native.KEY_INT4: _INTEGER_TYPES,
    native.KEY_INT8: _INTEGER_TYPES,
    native.KEY_TEXT: _STRING_TYPES,
    native.KEY_BPCHAR: _STRING_TYPES | {"bpchar"},
    native.KEY_UUID: frozenset({"uuid"}),
    native.KEY_BOOL: frozenset({"bool"}),
    native.KEY_DATE: frozenset({"date"}),
    native.KEY_TIMESTAMP: frozenset({"timestamp"}),
    native.KEY_TIMESTAMPTZ: frozenset({"timestamptz"}),
    native.KEY_NUMERIC: _INTEGER_TYPES | {"numeric"},
    native.KEY_BYTEA: frozenset({"bytea"}),
}
_OWN: Final[dict[int, str]] = {
    native.KEY_INT2: "int2",
    native.KEY_INT4: "int4",
    native.KEY_INT8: "int8",
    native.KEY_TEXT: "text",
    native.KEY_BPCHAR: "bpchar",
    native.KEY_UUID: "uuid",
    native.KEY_BOOL: "bool",
    native.KEY_DATE: "date",
    native.KEY_TIMESTAMP: "timestamp",
    native.KEY_TIMESTAMPTZ: "timestamptz",
    native.KEY_NUMERIC: "numeric",
    native.KEY_BYTEA: "bytea",
}
# pg_type.dat
_OIDS: Final = {
    16: "bool",
    17: "bytea",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1114: "timestamp",
    1184: "timestamptz",
    1700: "numeric",
    2950: "uuid",
}
_UNKNOWN_OIDS: Final = frozenset({0, 705})


def key_text(
    value: Value, key: int, context: Context, uses: dict[int, int], *, storing: bool
) -> bytes | Unbound | None:
    """The value as text in the server's encoding, None for NULL.

    `uses` counts each parameter's occurrences: where nobody has told a parameter's type PostgreSQL takes it
    from the first place that it meets, so with several places it is not known here. `storing` is INSERT,
    which converts more than a comparison does.
    """
    if isinstance(value, Const):
        return _constant(value, key, context, storing=storing)
    if value.number < 1 or value.number > len(context.params):
        return UNBOUND
    return _parameter(value, context.params[value.number - 1], key, context, uses.get(value.number, 0))


def _constant(const: Const, key: int, context: Context, *, storing: bool) -> bytes | Unbound | None:
    if const.kind == "null":
        return None
    if const.cast is not None:
        readable = const.cast in _SAME[key] and (const.kind == "str" or const.cast in _written_as(const))
    elif const.kind == "str":
        readable = True  # of type unknown: it takes the key's
    elif const.kind == "int":
        readable = key in INTEGERS or key == native.KEY_NUMERIC or (storing and key == native.KEY_TEXT)
    elif const.kind == "float":
        readable = key == native.KEY_NUMERIC and not set(const.text) - set("0123456789.eE+-")
    else:
        readable = key == native.KEY_BOOL
    return _encode(const.text, context.server_codec) if readable else UNBOUND


def _written_as(const: Const) -> frozenset[str]:
    """The types to which a cast leaves the constant's text a spelling of its value."""
    if const.kind == "int":
        return _INTEGER_TYPES | _STRING_TYPES | {"numeric"}
    return frozenset({"bool"}) if const.kind == "bool" else frozenset({"numeric"})


def _encode(text: str, codec: str | None) -> bytes | Unbound:
    if text.isascii():
        return text.encode()
    if codec is None:
        return UNBOUND
    try:
        return text.encode(codec)
    except UnicodeEncodeError:  # not in the server's encoding, or foreign bytes that the parser let pass
        return UNBOUND


def _parameter(param: Param, given: ParamValue, key: int, context: Context, uses: int) -> bytes | Unbound | None:
    same = _SAME[key]
    if param.cast is not None and param.cast not in same:
        return UNBOUND
    if given.value is None:
        return None
    if given.oid in _UNKNOWN_OIDS:
        if uses != 1:
            return UNBOUND
        name = param.cast or _OWN[key]
    elif given.oid in _OIDS:
        name = _OIDS[given.oid]
    else:
        return UNBOUND
    if name not in same and not (name in _STRING_TYPES and param.cast is not None):
        return UNBOUND
    text = _from_binary(name, given.value) if given.format else given.value
    if isinstance(text, Unbound) or text.isascii():
        return text
    if context.client_codec is None:
        return UNBOUND
    try:
        return _encode(text.decode(context.client_codec), context.server_codec)
    except UnicodeDecodeError:
        return UNBOUND


_INFINITE: Final = {-(2**31): b"-infinity", 2**31 - 1: b"infinity"}
_INFINITE_MOMENT: Final = {-(2**63): b"-infinity", 2**63 - 1: b"infinity"}


def _from_binary(name: str, data: bytes) -> bytes | Unbound:
    """Spell a value of the binary format as text that reads the same under every setting."""
    if name in _STRING_TYPES or name == "bpchar":
        return data
    if name == "bytea":
        return b"\\x" + data.hex().encode()
    try:
        if name in _INTEGER_TYPES:
            return str(struct.unpack({"int2": "!h", "int4": "!i", "int8": "!q"}[name], data)[0]).encode()
        if name == "bool":
            return b"t" if struct.unpack("!?", data)[0] else b"f"
        if name == "uuid":
            return str(UUID(bytes=data)).encode()
        if name == "date":
            (days,) = struct.unpack("!i", data)
            return _INFINITE.get(days) or (date(2000, 1, 1) + timedelta(days)).isoformat().encode()
        if name in {"timestamp", "timestamptz"}:
            (moment,) = struct.unpack("!q", data)
            zone = b"+00" if name == "timestamptz" else b""
            if moment in _INFINITE_MOMENT:
                return _INFINITE_MOMENT[moment]
            return (datetime(2000, 1, 1) + timedelta(microseconds=moment)).isoformat(" ").encode() + zone
        return _numeric(data)
    except (struct.error, ValueError, OverflowError):
        return UNBOUND


def _numeric(data: bytes) -> bytes | Unbound:
    """Spell numeric_send's format: base 10,000 digits behind count, weight, sign and display scale."""
    count, weight, sign, scale = struct.unpack_from("!HhHH", data)
    digits = struct.unpack_from(f"!{count}H", data, 8)
    special = {0xC000: b"NaN", 0xD000: b"Infinity", 0xF000: b"-Infinity"}.get(sign)
    if special is not None:
        return special
    if sign not in {0, 0x4000} or any(digit > 9999 for digit in digits) or len(data) != 8 + 2 * count:
        return UNBOUND
    groups = "".join(f"{digit:04}" for digit in digits)
    point = 4 * (weight + 1)
    whole = groups[:point].ljust(point, "0") if point > 0 else "0"
    fraction = (groups[point:] if point > 0 else "0" * -point + groups)[:scale]
    return f"{'-' if sign else ''}{whole}.{fraction}0".encode()
