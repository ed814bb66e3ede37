"""What was altered or left out between the bytes of the inputs and those that COPY gets, counted for the summary."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

MOST_NOTES: Final = 100
"""Notes kept, in the order they came: one name per file of a large glob is enough to find the cause."""


class Alteration(StrEnum):
    """The kinds, as the summary names them. The unit is what the name says: bytes, lines, rows or values."""

    TRAILING_GARBAGE = "bytes after the compressed data ignored"
    AFTER_END_MARKER = "bytes after the end-of-data marker ignored"
    BYTE_ORDER_MARK = "byte order marks dropped"
    SEPARATOR_LINE = "sep= lines dropped"
    SKIPPED_LINE = "lines skipped at the start"
    FOOTER_ROW = "rows skipped at the end"
    COMMENT_LINE = "comment lines skipped"
    BLANK_LINE = "blank lines skipped"
    OVER_LIMIT = "files not read to their end because of the limit"
    TRAILING_DELIMITER = "trailing delimiters dropped"
    EXTRA_COLUMN = "values of columns that the table does not have ignored"
    GENERATED_COLUMN = "values of generated columns left out"
    CONSTANT = "values set by a constant"
    TRIMMED = "values trimmed"
    NULL = "values of another NULL spelling read as NULL"
    NUMBER = "numbers rewritten"
    BOOLEAN = "booleans rewritten"
    NANOSECONDS = "columns of nanoseconds rounded to microseconds"
    NUL_STRIPPED = "NUL bytes stripped"
    NUL_REPLACED = "NUL bytes replaced"
    END_MARKER = "values \\. quoted"


class Alterations:
    """The counts of one load; every stage of the reading adds to them."""

    def __init__(self) -> None:
        self._counts: Counter[Alteration] = Counter()
        self.notes: list[str] = []
        self.bytes_read = 0
        """Of the inputs as they are, compressed or not; a zip file's are not counted."""

    def add(self, kind: Alteration, count: int = 1, note: str | None = None) -> None:
        """Count; a note tells where, for what happens once in a file."""
        if count:
            self._counts[kind] += count
            if note is not None and len(self.notes) < MOST_NOTES:
                self.notes.append(note)

    @property
    def counts(self) -> Mapping[Alteration, int]:
        """How often each kind happened; what did not is not in it."""
        return dict(self._counts)

    def __repr__(self) -> str:
        return f"<Alterations {', '.join(f'{count} {kind}' for kind, count in self._counts.items())}>"
