"""From a constant or a parameter to the text of a key value, or to the verdict that it binds nothing.

PostgreSQL reads a constant by the type that it gives it, which is not always the key's. Only where both
readings certainly agree is there a value; any other cast, type or format is UNBOUND, which costs a detour
over all shards or a refusal, never a wrong shard.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from functools import cache
from typing import Final

from shardproxy import native
from shardproxy.routing.keytypes import TYPES
from shardproxy.routing.resolved import Context, ParamValue
from shardproxy.sql import Const, Value


class Unbound(Enum):
    """The type of UNBOUND."""

    UNBOUND = "unbound"


UNBOUND: Final = Unbound.UNBOUND

INTEGER_WIDTHS: Final = {row.name: row.integer_bits // 8 for row in TYPES.values() if row.integer_bits}
"""Bytes of their binary format."""
TEXTS: Final = frozenset(row.name for row in TYPES.values() if row.collatable)
"""Types whose binary format is their text."""
_STRING_TYPES: Final = frozenset({"text", "varchar"})
_NUMBERS: Final = frozenset({"numeric", "float4", "float8"})
_KEEP_DIGITS: Final = _NUMBERS | _STRING_TYPES | INTEGER_WIDTHS.keys() | {"oid"}
_CODES: Final = {row.name: row.code for row in TYPES.values()}
_NAMES: Final = {row.oid: row.name for row in TYPES.values()}
_UNKNOWN_OIDS: Final = frozenset({0, 705})
_WIDE: Final = frozenset(row.code for row in TYPES.values() if row.integer_bits)
"""Types to which PostgreSQL converts a numeric that is stored, and which it compares with one as numerics."""

NUMERIC: Final = 1700
_PLAIN_NUMERIC: Final = re.compile(
    r"[+-]?(?:(?:[0-9]_?)*[0-9]\.?(?:(?:[0-9]_?)*[0-9])?|\.(?:[0-9]_?)*[0-9])(?:[eE][+-]?[0-9]{1,5})?"
)
LONGEST_NUMERIC: Final = 200
"""Characters: a longer one is left to the shards."""
BEYOND_INTEGERS: Final = 30
"""Digits that no integer has."""


def key_text(
    value: Value, key: int, context: Context, uses: Mapping[int, int], *, storing: bool
) -> bytes | Unbound | None:
    """The value as text in the server's encoding, None for NULL.

    `uses` counts each parameter's occurrences: where a parameter's type is not given PostgreSQL takes it
    from the first place that it meets, so with several places it is not known here. `storing` is INSERT,
    which converts more than a comparison does.
    """
    if isinstance(value, Const):
        return constant_text(value, key, context, storing=storing)
    if value.number < 1 or value.number > len(context.params):
        return UNBOUND
    given = context.params[value.number - 1]
    return parameter_text(value.cast, given, key, context, once=uses.get(value.number) == 1, storing=storing)


def compared_texts(
    values: Sequence[Value], key: int, context: Context, uses: Mapping[int, int]
) -> list[bytes | None] | Unbound:
    """The texts of what `=` or IN compares a key with; see `key_text`.

    Several values have one type: select_common_type() in src/backend/parser/parse_coerce.c. Where they, by themselves,
    are of types that the key reads, it is another than the key's only if a numeric is among integers. A string, or
    a parameter without a type, is then read as a numeric, too.
    """
    numerics = len(values) > 1 and key in _WIDE and any(_is_numeric(one, context) for one in values)
    texts = []
    for one in values:
        if numerics and (spelled := _untyped(one, context, uses)) is not None:
            text = spelled if isinstance(spelled, Unbound) else _as_numeric(spelled)
        else:
            text = key_text(one, key, context, uses, storing=False)
        if isinstance(text, Unbound):
            return UNBOUND
        texts.append(text)
    return texts


def _is_numeric(value: Value, context: Context) -> bool:
    if value.cast is not None:
        return False
    if isinstance(value, Const):
        return value.kind == "float"
    return 0 < value.number <= len(context.params) and context.params[value.number - 1].oid == NUMERIC


def _untyped(value: Value, context: Context, uses: Mapping[int, int]) -> bytes | Unbound | None:
    """The text, as of a numeric, of a value whose type follows from the others'; None for any other, and for NULL."""
    if value.cast is not None:
        return None
    if isinstance(value, Const):
        return value.text.encode("utf-8", "surrogateescape") if value.kind == "str" else None
    if not 0 < value.number <= len(context.params):
        return None
    given = context.params[value.number - 1]
    if given.oid not in _UNKNOWN_OIDS or given.value is None or uses.get(value.number) != 1:
        return None
    return _from_binary("numeric", given.value) if given.format else given.value


def _as_numeric(text: bytes) -> bytes | Unbound | None:
    if native.canonical(_CODES["numeric"], text) == native.PLACE_INVALID:
        return text  # which is no integer either
    return _whole(text.decode("ascii", "replace"), storing=False)


def constant_text(const: Const, key: int, context: Context, *, storing: bool) -> bytes | Unbound | None:
    """The text of a constant; see `key_text`."""
    if const.kind == "null":
        return None
    if const.kind == "str":
        readable = takes_strings(const.cast, key)
    elif const.kind == "float" and const.cast is None and key in _WIDE:
        return _whole(const.text, storing=storing)
    elif const.kind == "int":
        readable = takes_digits(const.cast, key) or (storing and const.cast is None and _is_text(key))
        return without_zeros(const.text).encode() if readable else UNBOUND
    elif const.cast is not None:
        readable = const.cast in TYPES[key].same and const.cast in _written_as(const)
    elif const.kind == "float":
        readable = "numeric" in TYPES[key].same and not set(const.text) - set("0123456789.eE+-")
    else:
        readable = "bool" in TYPES[key].same
    if not const.text.isascii() and context.client_codec is None:
        return UNBOUND
    return _encode(const.text, context.server_codec) if readable else UNBOUND


def without_zeros(digits: str) -> str:
    """An integer's digits as the server writes its value, which is what a text of it holds."""
    sign = "-" if digits.startswith("-") else ""
    return sign + (digits.removeprefix("-").lstrip("0") or "0")


def takes_strings(cast: str | None, key: int) -> bool:
    """Whether a string under this cast is read as the key is; without a cast it is of type unknown, and takes it."""
    return cast is None or cast in TYPES[key].same


def takes_digits(cast: str | None, key: int) -> bool:
    """Whether the digits of an integer under this cast are a spelling of the key's value."""
    same = TYPES[key].same
    return "int4" in same if cast is None else cast in same and cast in _KEEP_DIGITS


def _is_text(key: int) -> bool:
    return TYPES[key].family == "text_ops"


def _written_as(const: Const) -> frozenset[str]:
    """The types to which a cast leaves the text of a boolean or a number with a point a spelling of its value."""
    return frozenset({"bool"}) if const.kind == "bool" else _NUMBERS


def _encode(text: str, codec: str | None) -> bytes | Unbound:
    if text.isascii():
        return text.encode()
    if codec is None:
        return UNBOUND
    try:
        return text.encode(codec)
    except UnicodeEncodeError:  # not in the server's encoding, or foreign bytes that the parser let pass
        return UNBOUND


@cache
def readings(cast: str | None, key: int, *, once: bool) -> Mapping[int, str]:
    """The types, by oid, that a parameter can have to be read for a key, each with the name of what it is read as.

    `once` tells that it occurs in one place: only then an unknown type is the one that stands there.
    """
    same = TYPES[key].same
    if cast is not None and cast not in same:
        return {}
    found = dict(_NAMES)
    if once:
        found |= dict.fromkeys(_UNKNOWN_OIDS, cast or TYPES[key].name)
    if cast is None:
        return {oid: name for oid, name in found.items() if name in same}
    # A cast reads a string as its own type does, and keeps an integer; of other types it may round the value.
    kept = {cast, *_STRING_TYPES, *INTEGER_WIDTHS}
    return {oid: name for oid, name in found.items() if name in kept and (name in same or name in _STRING_TYPES)}


def parameter_text(
    cast: str | None, given: ParamValue, key: int, context: Context, *, once: bool, storing: bool
) -> bytes | Unbound | None:
    """The text of a parameter under a cast; see `key_text` and `readings`."""
    if given.oid == NUMERIC and key in _WIDE and cast is None and given.value is not None:
        number = _from_binary("numeric", given.value) if given.format else given.value
        return number if isinstance(number, Unbound) else _whole(number.decode("ascii", "replace"), storing=storing)
    if cast is not None and cast not in TYPES[key].same:
        return UNBOUND
    if given.value is None:
        return None
    name = readings(cast, key, once=once).get(given.oid)
    if name is None:
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


def _whole(text: str, *, storing: bool) -> bytes | Unbound | None:
    """The text of an integer key that is stored, or compared, as this numeric; None where no integer is equal to it."""
    text = text.strip(" \t\n\r\v\f")
    if len(text) > LONGEST_NUMERIC or not _PLAIN_NUMERIC.fullmatch(text):
        return UNBOUND
    number = Decimal(text)
    if number and number.adjusted() >= BEYOND_INTEGERS:
        return text.encode() if storing else None  # which PostgreSQL refuses as out of range
    rounded = number.to_integral_value(ROUND_HALF_UP)  # away from zero, as numeric_int8() does
    return b"%d" % int(rounded) if storing or rounded == number else None


def _from_binary(name: str, data: bytes) -> bytes | Unbound:
    """Spell a value of the binary format as text that reads the same under every setting."""
    if TYPES[_CODES[name]].collatable:  # in the client's encoding
        return data
    text = native.output(_CODES[name], data, binary=True)
    return UNBOUND if isinstance(text, int) else text
