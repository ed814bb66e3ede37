r"""Rows in COPY's text and CSV formats, with COPY's default delimiter and NULL: a tab and \N, a comma and nothing.

Strings of a column are joined by U+0000, which none of them may hold: then one pass over the joined text escapes them
all, or shows that none needs it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from types import NoneType
from typing import Any, Final

from shardproxy.rows.encoder import NUL_REFUSED, Encoder, Nul, Types
from shardproxy.rows.literals import JSON, Literal, literal_of, replace_nul

# Alone on a line \. would end the data: PostgreSQL before 18 looks for it in CSV too. An empty string is not NULL.
_needs_quotes: Final = re.compile(r'[",\r\n]|\A\\\.\Z|\A\Z').search
_SPECIAL: Final = ('"', ",", "\r", "\n", "\\.")

_NESTING: Final = (list, tuple, dict)
_JSON_TYPES: Final = frozenset({"json", "jsonb", 114, 3802})
_BYTES: Final = (bytes, bytearray, memoryview)


class TextEncoder(Encoder):
    """COPY's text format, whose parts `CsvEncoder` replaces."""

    delimiter = "\t"
    null = "\\N"

    def __init__(self, types: Types | None = None, nul: Nul = "error") -> None:
        super().__init__(types, nul)
        self._json: frozenset[int] = frozenset()

    def prepare(self) -> None:
        """Note the columns of JSON: a list is no array there."""
        self._json = frozenset(
            index
            for index, given in enumerate(self.types())
            if (given.lower() if isinstance(given, str) else given) in _JSON_TYPES
        )

    def encode(self, rows: Sequence[Any]) -> bytes:
        """A batch of rows in UTF-8."""
        return self.text(rows).encode()

    def text(self, rows: Sequence[Any]) -> str:
        """A batch of rows, a line each; one whose values hold line ends is longer in CSV."""
        columns = self.columns(rows)
        fields = [self.converted(index, column, self._fields) for index, column in enumerate(columns)]
        lines: Iterable[str] = map(self.delimiter.join, zip(*fields, strict=True)) if fields else repeat("", len(rows))
        self.rows += len(rows)
        return "\n".join(lines) + "\n"

    def _fields(self, index: int, column: Sequence[Any]) -> Sequence[str]:
        kinds = set(map(type, column))
        if NoneType not in kinds:
            return self._present(index, column, kinds)
        kinds.remove(NoneType)
        if not kinds:
            return [self.null] * len(column)
        present = iter(self._present(index, [value for value in column if value is not None], kinds))
        null = self.null
        return [null if value is None else next(present) for value in column]

    def _present(self, index: int, values: Sequence[Any], kinds: set[type]) -> Sequence[str]:
        """The fields of values without None, which are of these types."""
        if len(kinds) > 1:
            writers = {kind: self._literal(index, kind).write for kind in kinds}
            return self.protect([writers[type(value)](value) for value in values])
        (kind,) = kinds
        if kind is str:
            return self.protect(values)
        literal = self._literal(index, kind)
        texts = list(map(literal.write, values))
        return texts if literal.plain else self.protect(texts)

    def _literal(self, index: int, kind: type) -> Literal:
        literal = JSON if index in self._json and not issubclass(kind, (str, *_BYTES)) else literal_of(kind)
        if self.replacement is not None and issubclass(kind, _NESTING):
            return literal._replace(write=_cleaned(literal.write, self.replacement))
        return literal

    def protect(self, texts: Sequence[str]) -> Sequence[str]:
        """Texts as fields, U+0000 and lone surrogates refused or replaced."""
        joined = "\0".join(texts)
        if joined.count("\0") != len(texts) - 1:
            if self.replacement is None:
                raise ValueError(NUL_REFUSED)
            texts = [text.replace("\0", self.replacement) for text in texts]
            joined = "\0".join(texts)
        if not joined.isascii():
            joined.encode()  # raises for what UTF-8 cannot hold, while row and column are known
        return self.escape(texts, joined)

    def escape(self, texts: Sequence[str], joined: str) -> Sequence[str]:
        """The texts as fields; `joined` has them with U+0000 between."""
        escaped = joined.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        return texts if len(escaped) == len(joined) else escaped.split("\0")


class CsvEncoder(TextEncoder):
    """COPY's CSV format: quotes where they are needed, and nothing at all for NULL."""

    delimiter = ","
    null = ""

    def escape(self, texts: Sequence[str], joined: str) -> Sequence[str]:
        """The texts, in quotes where they would mean something else without."""
        if not (any(special in joined for special in _SPECIAL) or "" in texts):
            return texts
        doubled = joined.replace('"', '""').split("\0") if '"' in joined else texts
        return [f'"{text}"' if _needs_quotes(text) else text for text in doubled]


def _cleaned(write: Callable[[Any], str], replacement: str) -> Callable[[Any], str]:
    """A writer for values whose strings are escaped before `protect` sees them."""
    return lambda value: write(replace_nul(value, replacement))
