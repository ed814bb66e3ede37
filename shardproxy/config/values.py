"""Partition bounds in the configuration: TOML values as the text of a PostgreSQL constant.

TOML has no NULL, MINVALUE and MAXVALUE: they are written as the strings "NULL" (in a list) and "MINVALUE",
"MAXVALUE" (in a range), and the text itself as `{ value = "NULL" }`.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from typing import Self


class Edge(Enum):
    """A range without a lower or an upper bound."""

    MINVALUE = "MINVALUE"
    MAXVALUE = "MAXVALUE"


class TomlFloat(float):
    """A TOML float that remembers its spelling: a numeric key may have more digits than a double."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Keep the text with the value."""
        number = super().__new__(cls, text)
        number.text = text.replace("_", "")
        return number


def constant(value: object) -> str:
    """Return the text of a TOML scalar, or raise ValueError."""
    match value:
        case str():
            text = value
        case bool():
            text = "true" if value else "false"
        case TomlFloat():
            text = _special(value) or value.text
        case int() | float():
            text = str(value)
        case datetime():
            text = value.isoformat(" ")
        case date():
            text = value.isoformat()
        case _:
            raise ValueError("a string, number, boolean or date is expected")
    if "\0" in text:
        raise ValueError("a PostgreSQL value cannot contain a NUL character")
    return text


def _special(value: float) -> str | None:
    if math.isnan(value):
        return "NaN"
    return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else None


def _quoted(value: object) -> object | None:
    """Return x of `{ value = x }`, None if it is not such a table."""
    return value["value"] if isinstance(value, Mapping) and set(value) == {"value"} else None


def list_value(value: object) -> str | None:
    """Read an element of a list's `in`; None is NULL."""
    if value == "NULL":
        return None
    quoted = _quoted(value)
    return constant(value if quoted is None else quoted)


def range_value(value: object) -> str | Edge:
    """Read an element of a range's `from` or `to`."""
    if isinstance(value, str) and value in Edge.__members__:
        return Edge[value]
    quoted = _quoted(value)
    return constant(value if quoted is None else quoted)
