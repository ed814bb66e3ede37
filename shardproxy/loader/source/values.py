"""What a value of a source becomes for a column of the target: text that its type reads.

A value that the type would read as another is no value of it: `Refused`, and its row is set aside.
"""

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Final

from shardproxy.rows.literals import JSON, bytea, literal_of
from shardproxy.sqlstate import INVALID_DATETIME_FORMAT

_PLAIN: Final = frozenset({str, bytes, int, float})
_BYTES: Final = (bytes, bytearray, memoryview)
_JSON: Final = frozenset({"json", "jsonb"})
MOMENTS: Final = frozenset({"date", "timestamp", "timestamptz", "time", "timetz"})

# What datetime.c reads by the moment at which it reads it.
_NOW: Final = frozenset({b"now", b"today", b"tomorrow", b"yesterday"})


class Refused:
    """In the place of a value that the target's column cannot have."""

    def __init__(self, value: Any, sqlstate: str, message: str) -> None:
        self.value = value
        self.sqlstate = sqlstate
        self.message = message


def moment(value: Any, target: str) -> Any:
    """Return a value for a column of a date or a time, if it is not one that means the moment of the load."""
    text = value.encode() if isinstance(value, str) else value
    if isinstance(text, bytes) and text.strip().lower() in _NOW:
        told = text.decode(errors="replace")
        return Refused(value, INVALID_DATETIME_FORMAT, f'"{told}" is no {target}, but the moment of the load')
    return value


def column(values: Sequence[Any], target: str) -> Sequence[Any]:
    """Return the values of a column as `copy_text` takes them; `target` is pg_type.typname. TypeError for others."""
    kinds = set(map(type, values)) - {NoneType, Refused}
    if target in MOMENTS:
        values = [moment(value, target) for value in values]
    if kinds <= _PLAIN and not (target == "bytea" and bytes in kinds):
        return values
    writers = {kind: _writer(kind, target) for kind in kinds}
    return [value if value is None or isinstance(value, Refused) else writers[type(value)](value) for value in values]


def _writer(kind: type, target: str) -> Callable[[Any], Any]:
    if issubclass(kind, _BYTES):
        return bytea if target == "bytea" else bytes
    if target in _JSON and not issubclass(kind, str):
        return JSON.write
    return _same if kind in _PLAIN else literal_of(kind).write


def _same(value: Any) -> Any:
    return value
