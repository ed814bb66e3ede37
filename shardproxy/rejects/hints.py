"""What bad rows look like: hints for whoever reads why they were set aside, which nothing acts upon. Sans-IO."""

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from shardproxy.copy.fields import read_fields, without_newline
from shardproxy.copy.options import CopyOptions
from shardproxy.rejects.reject import Reject
from shardproxy.sqlstate import (
    BAD_COPY_FILE_FORMAT,
    CHARACTER_NOT_IN_REPERTOIRE,
    DATETIME_FIELD_OVERFLOW,
    INVALID_TEXT_REPRESENTATION,
)

LF: Final = 1
"""Splitter.newline of rows that end in a newline alone."""

LONGEST: Final = 4096
"""Bytes of a row that is worth a look: it is read byte by byte."""

_DATE: Final = re.compile(rb"\s*(\d\d?)([/.-])(\d\d?)\2(\d{4})(?!\d)")

# Three digits after the comma may be thousands as well, unless a point has been those.
_DECIMAL: Final = re.compile(rb"\s*[-+]?(\d*,(\d{1,2}|\d{4,})|\d{1,3}([. ]\d{3})+,\d+)\s*", re.ASCII)


class Hints:
    """What the rows of one COPY look like."""

    def __init__(self, options: CopyOptions, columns: Sequence[str]) -> None:
        """`columns` are those that the rows have."""
        self._options = options
        self._columns = columns

    def of(self, reject: Reject) -> Reject:
        """Return a row that was refused with what it looks like, if that is known; as it was sent."""
        if self._options.format == "binary" or len(reject.row) > LONGEST:
            return reject
        hint = None
        if reject.sqlstate == CHARACTER_NOT_IN_REPERTOIRE:
            hint = _encoding(reject.row)
        elif reject.sqlstate == BAD_COPY_FILE_FORMAT:
            hint = self._trailing(reject.row)
        elif reject.column is not None and reject.sqlstate == DATETIME_FIELD_OVERFLOW:
            hint = _date(self._value(reject))
        elif reject.column is not None and reject.sqlstate == INVALID_TEXT_REPRESENTATION:
            hint = _decimal(self._value(reject))
        return reject if hint is None else replace(reject, hint=hint)

    def _fields(self, row: bytes) -> list[bytes | None]:
        return read_fields(without_newline(row, self._options), self._options, self._columns)

    def _value(self, reject: Reject) -> bytes:
        """Return the value that was refused, as far as the column tells."""
        if reject.column not in self._columns:
            return b""
        fields, place = self._fields(reject.row), self._columns.index(reject.column)
        return (fields[place] or b"") if place < len(fields) else b""

    def _trailing(self, row: bytes) -> str | None:
        delimiter = self._options.delimiter.encode("utf-8", "surrogateescape")
        if not without_newline(row, self._options).endswith(delimiter):
            return None
        if len(self._fields(row)) != len(self._columns) + 1:
            return None
        return "It looks like a row with a delimiter after its last column."


def _encoding(row: bytes) -> str | None:
    zeros = row.count(0)
    if zeros:
        # Every other byte of ASCII in UTF-16; a row begins or ends in the middle of a newline.
        return "It looks like UTF-16, which PostgreSQL does not read." if zeros * 5 >= len(row) * 2 else None
    if not row.decode("utf-8", "ignore").isascii():
        return None  # other characters are in UTF-8
    try:
        row.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "It looks like WIN1252: see whether COPY's option ENCODING 'WIN1252' makes it readable."


def _decimal(value: bytes) -> str | None:
    if _DECIMAL.fullmatch(value) is None:
        return None
    return "It looks like a number with a decimal comma, which PostgreSQL does not read."


def _date(value: bytes) -> str | None:
    found = _DATE.match(value)
    if found is None:
        return None
    first, second, year = int(found[1]), int(found[3]), int(found[4])
    for day, month, order, style in ((first, second, "day", "DMY"), (second, first, "month", "MDY")):
        if day > 12:
            try:
                datetime.date(year, month, day)
            except ValueError:
                continue
            return f"It looks like a date with the {order} first: see whether SET datestyle = 'ISO, {style}' is right."
    return None


def common(hints: "Counter[str]", rows: int) -> str | None:
    """Return the hint that most of so many rows have."""
    for hint, count in hints.most_common(1):
        if count * 2 >= rows:
            return hint
    return None


def open_quote(row: bytes, line: int, newline: int, options: CopyOptions) -> int | None:
    """Return the line where the quote opens that is not closed in a CSV row, which begins in `line`.

    `newline` is the splitter's.
    """
    if options.format != "csv":
        return None
    quote, escape = (one.encode("utf-8", "surrogateescape") for one in (options.quote, options.escape))
    q, e = re.escape(quote), re.escape(escape)
    # CopyReadLineText(): a quote opens wherever it is, and an escape counts in quotes only.
    escaped = q + q if quote == escape else e + b"."
    inside = re.compile(b"[^%b%b]*+(?:%b[^%b%b]*+)*+" % (q, e, escaped, q, e), re.DOTALL)
    at = row.find(quote)
    while at >= 0:
        found = inside.match(row, at + 1)
        assert found is not None
        closed = found.end()
        if not row.startswith(quote, closed):
            return line + row.count(b"\n" if newline == LF else b"\r", 0, at)
        at = row.find(quote, closed + 1)
    return None
