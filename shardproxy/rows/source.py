"""What the streams have in common: the encoder for a format, and cursors of any driver."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from shardproxy.rows.binary import BinaryEncoder
from shardproxy.rows.encoder import Encoder, Nul, Types
from shardproxy.rows.text import CsvEncoder, TextEncoder

Format = Literal["csv", "text", "binary"]


class Cursor(Protocol):
    """The part of PEP 249's cursor that must be there: `execute` too, unless the query has run already."""

    @property
    def fetchmany(self) -> Callable[..., Sequence[Any]]:
        """The next rows, at most as many as asked for; none at the end."""


def encoder_of(format_: Format, types: Types | None, nul: Nul) -> Encoder:
    """The encoder for a format."""
    match format_:
        case "csv":
            return CsvEncoder(types, nul)
        case "text":
            return TextEncoder(types, nul)
        case "binary":
            return BinaryEncoder(types, nul)
    raise ValueError(f"format must be 'csv', 'text' or 'binary', not {format_!r}")


def at_least_one(rows_per_fetch: int) -> int:
    """The number of rows to fetch at a time; ValueError if that is none."""
    if rows_per_fetch < 1:
        raise ValueError(f"rows_per_fetch must be at least 1, not {rows_per_fetch}")
    return rows_per_fetch


def names_of(cursor: Any, rows: Sequence[Any]) -> list[str] | None:
    """The columns' names: of PEP 249's description, of SQLAlchemy's result, or of a row, as asyncpg's know them."""
    if description := getattr(cursor, "description", None):
        return [str(column[0]) for column in description]
    for named in (cursor, *rows[:1]):
        if hasattr(named, "keys"):
            return [str(name) for name in named.keys()]  # noqa: SIM118 -- iterating a Record gives its values
    return None
