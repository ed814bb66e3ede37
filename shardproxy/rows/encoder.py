"""Batches of rows, column by column: what the formats share.

An encoder is driven with `names` (once they are known), `begin`, `encode` for each batch and `end`; what it returns is
concatenated. Columns are converted whole, at the speed of `map`. Only if one fails are its values tried one by one, so
that the error can name the row: what converts a column must give each value the form that it has alone.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, TypeVar

from shardproxy.rows.errors import RowError, RowTypeError, RowValueError

Nul = Literal["error", "strip", "replace"]
"""What becomes of U+0000, which PostgreSQL's text types cannot hold: refused, left out, or made U+FFFD."""

REPLACEMENTS: Final[dict[str, str | None]] = {"error": None, "strip": "", "replace": "\N{REPLACEMENT CHARACTER}"}
NUL_REFUSED: Final = "PostgreSQL's text types cannot hold the character U+0000; nul='strip' or 'replace' changes it"

Types = Sequence[str | int | None] | Mapping[str, str | int]
"""Columns' types by position, or by name: names as SQL has them, or OIDs of built-in types."""

FAULTS: Final = (TypeError, ValueError, ArithmeticError, AttributeError, struct.error)
"""What a conversion raises if a value is of the wrong type, or too large."""

Converted = TypeVar("Converted")


class Encoder(ABC):
    """Rows of one result in one format; `rows` is how many have been encoded."""

    def __init__(self, types: Types | None, nul: Nul) -> None:
        if nul not in REPLACEMENTS:
            raise ValueError(f"nul must be one of {', '.join(map(repr, REPLACEMENTS))}, not {nul!r}")
        self.rows = 0
        self.names: Sequence[str] | None = None
        self.replacement = REPLACEMENTS[nul]
        self._types = types
        self._width: int | None = None
        self._row_kinds: dict[type, bool] = {}

    def begin(self) -> bytes:
        """What comes before the first row."""
        return b""

    @abstractmethod
    def encode(self, rows: Sequence[Any]) -> bytes:
        """A batch of rows, each a sequence or a mapping in the order of the columns."""

    def end(self) -> bytes:
        """What comes after the last row."""
        return b""

    def name(self, index: int) -> str:
        """A column's name, or its number from 1 where it has none."""
        return str(self.names[index]) if self.names is not None and index < len(self.names) else str(index + 1)

    def types(self) -> list[str | int | None]:
        """The type given for each column, or None; ValueError if they do not fit the result."""
        width = self._width or 0
        if self._types is None:
            return [None] * width
        if isinstance(self._types, Mapping):
            names = [self.name(index) for index in range(width)]
            if unknown := sorted(set(self._types) - set(names)):
                raise ValueError(f"types names columns that the result does not have: {', '.join(unknown)}")
            return [self._types.get(name) for name in names]
        if len(self._types) != width:
            raise ValueError(f"types has {len(self._types)} entries, and the result {width} columns")
        return list(self._types)

    def columns(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The batch's values by column; RowError if rows differ in length, or are none."""
        mappings = [self._is_mapping(kind, rows) for kind in set(map(type, rows))]
        sequences = [row.values() if self._row_kinds[type(row)] else row for row in rows] if any(mappings) else rows
        if self._width is None:
            self._width = len(rows[0]) if self.names is None else len(self.names)
            self.prepare()
        try:
            columns = list(zip(*sequences, strict=True))
        except ValueError:
            self._refuse_lengths(rows)
        if len(columns) != self._width:
            self._refuse_lengths(rows)
        return columns

    @abstractmethod
    def prepare(self) -> None:
        """The columns are known now: find what their types ask for."""

    def _is_mapping(self, kind: type, rows: Sequence[Any]) -> bool:
        if kind not in self._row_kinds:
            mapping = issubclass(kind, Mapping)
            sequence = hasattr(kind, "__iter__") and hasattr(kind, "__len__")
            if not mapping and (not sequence or issubclass(kind, str | bytes | bytearray | memoryview | set)):
                at = next(at for at, row in enumerate(rows, self.rows + 1) if type(row) is kind)
                raise RowTypeError(f"it is a {kind.__qualname__}, and not a sequence of values", at)
            self._row_kinds[kind] = mapping
        return self._row_kinds[kind]

    def _refuse_lengths(self, rows: Sequence[Any]) -> NoReturn:
        for at, row in enumerate(rows, self.rows + 1):
            if len(row) != self._width:
                same = "; columns of the same name are one in a mapping" if self._row_kinds.get(type(row)) else ""
                raise RowValueError(f"it has {len(row)} values, and the result {self._width} columns{same}", at)
        raise AssertionError("rows of one length were not one length")

    def converted(
        self, index: int, column: Sequence[Any], convert: Callable[[int, Sequence[Any]], Converted]
    ) -> Converted:
        """`convert` of a whole column; if it fails, RowError of the first value with which it does."""
        try:
            return convert(index, column)
        except FAULTS:
            for at, value in enumerate(column, self.rows + 1):
                try:
                    convert(index, (value,))
                except FAULTS as fault:
                    raise self._located(fault, at, index) from fault
            raise

    def _located(self, fault: Exception, row: int, index: int) -> RowError:
        kind = RowTypeError if isinstance(fault, TypeError | AttributeError) else RowValueError
        return kind(str(fault), row, self.name(index))
