"""Key values in messages, as PostgreSQL's output functions write them.

Never used to place a row. A value that the native core does not read, and one whose output depends on settings such
as DateStyle, are shown as the client spelled them; binary ones of these in ISO style and UTC.
"""

from collections.abc import Sequence

from shardproxy import native
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.routing.keytypes import TYPES, KeyColumn

MAX_FIELD_LENGTH = 64
"""Bytes of a value in "Partition key of the failing row contains": maxfieldlen in ExecFindPartition."""


def text_of_binary(column: KeyColumn, field: bytes) -> bytes:
    """Return a spelling of a binary field, in the server's encoding where it is text.

    A field that the native core does not read is given in hexadecimal.
    """
    if TYPES[column.type].collatable:
        return field
    text = native.output((column.type, column.typmod), field, True)
    return b"\\x" + field.hex().encode() if isinstance(text, int) else text


def describe_value(column: KeyColumn, value: bytes, codec: str, *, server_version: int) -> str:
    """Return one value as PostgreSQL would show it, whole."""
    text = native.output((column.type, column.typmod), value, server_version=server_version)
    if TYPES[column.type].varying or isinstance(text, int):
        text = value
    return text.decode(codec, "backslashreplace")


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
