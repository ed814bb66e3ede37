"""From a constant or a parameter to the text of a key value, or to the verdict that it binds nothing.

PostgreSQL reads a constant by the type that it gives it, which is not always the key's. Only where both
readings certainly agree is there a value; any other cast, type or format is UNBOUND, which costs a detour
over all shards or a refusal, never a wrong shard.
"""

from enum import Enum
from typing import Final

from shardproxy import native
from shardproxy.routing.keytypes import TYPES
from shardproxy.routing.resolved import Context, ParamValue
from shardproxy.sql.model import Const, Param, Value


class Unbound(Enum):
    """The type of UNBOUND."""

    UNBOUND = "unbound"


UNBOUND: Final = Unbound.UNBOUND

_STRING_TYPES: Final = frozenset({"text", "varchar"})
_NUMBERS: Final = frozenset({"numeric", "float4", "float8"})
_CODES: Final = {row.name: row.code for row in TYPES.values()}
_NAMES: Final = {row.oid: row.name for row in TYPES.values()}
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
    same = TYPES[key].same
    if const.cast is not None:
        readable = const.cast in same and (const.kind == "str" or const.cast in _written_as(const))
    elif const.kind == "str":
        readable = True  # of type unknown: it takes the key's
    elif const.kind == "int":
        readable = "int4" in same or (storing and TYPES[key].family == "text_ops")
    elif const.kind == "float":
        readable = "numeric" in same and not set(const.text) - set("0123456789.eE+-")
    else:
        readable = "bool" in same
    return _encode(const.text, context.server_codec) if readable else UNBOUND


def _written_as(const: Const) -> frozenset[str]:
    """The types to which a cast leaves the constant's text a spelling of its value."""
    if const.kind == "bool":
        return frozenset({"bool"})
    return _NUMBERS if const.kind == "float" else _NUMBERS | _STRING_TYPES | {"int2", "int4", "int8", "oid"}


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
    same = TYPES[key].same
    if param.cast is not None and param.cast not in same:
        return UNBOUND
    if given.value is None:
        return None
    if given.oid in _UNKNOWN_OIDS:
        if uses != 1:
            return UNBOUND
        name = param.cast or TYPES[key].name
    elif given.oid in _NAMES:
        name = _NAMES[given.oid]
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


def _from_binary(name: str, data: bytes) -> bytes | Unbound:
    """Spell a value of the binary format as text that reads the same under every setting."""
    if TYPES[_CODES[name]].collatable:  # in the client's encoding
        return data
    text = native.output(_CODES[name], data, binary=True)
    return UNBOUND if isinstance(text, int) else text
