"""The fields of one row of COPY's text or CSV, as PostgreSQL reads them. Sans-IO.

For the few rows that are looked at for themselves; millions are split in `native`. The rules are those of
CopyReadAttributesText() and CopyReadAttributesCSV() in src/backend/commands/copyfromparse.c.
"""

import re
from collections.abc import Sequence
from typing import Final

from shardproxy.copy.options import STAR, CopyOptions

Field = bytes | None

_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def without_newline(row: bytes, options: CopyOptions) -> bytes:
    """Return a row without what ends it. In text a backslash makes a line end a part of the row."""
    if row.endswith(b"\r\n") and not (options.format == "text" and _escaped(row, 2)):
        return row[:-2]
    if row[-1:] in {b"\n", b"\r"} and not (options.format == "text" and _escaped(row, 1)):
        return row[:-1]
    return row


def _escaped(row: bytes, size: int) -> bool:
    """Whether a backslash that stands for itself comes before the last bytes of a row."""
    before = row[:-size]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def read_fields(row: bytes, options: CopyOptions, columns: Sequence[str]) -> list[Field]:
    """Return the values of a row without its newline; NULL is None. `columns` are those that the row is for.

    The bytes are in the encoding of the data. A DEFAULT marker is read as the text that it is.
    """
    if options.format == "text":
        return [_text(field, _bytes(options.null)) for field in _cut(row, _bytes(options.delimiter))]
    values = _csv(row, options)
    null = _bytes(options.null)
    for place, name in enumerate(columns[: len(values)]):
        value, quoted = values[place]
        if quoted:
            forced = options.force_null == STAR or name in options.force_null
            values[place] = (None if forced and value == null else value, True)
        elif value == null:
            kept = options.force_not_null == STAR or name in options.force_not_null
            values[place] = (value if kept else None, False)
    return [value for value, _ in values]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _cut(row: bytes, delimiter: bytes) -> list[bytes]:
    """Cut a row at delimiters that no backslash stands before."""
    if b"\\" not in row:
        return row.split(delimiter)
    fields: list[bytes] = []
    at = start = 0
    while at < len(row):
        byte = row[at : at + 1]
        at += 2 if byte == b"\\" else 1
        if byte == delimiter:
            fields.append(row[start : at - 1])
            start = at
    return [*fields, row[start:]]


def _text(field: bytes, null: bytes) -> Field:
    return None if field == null else _ESCAPE.sub(_unescaped, field)


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = found.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 255])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _LETTERS.get(other, other)


def _csv(row: bytes, options: CopyOptions) -> list[tuple[Field, bool]]:
    """Return each field's value, and whether a part of it was quoted."""
    delimiter, quote, escape = _bytes(options.delimiter), _bytes(options.quote), _bytes(options.escape)
    fields: list[tuple[Field, bool]] = []
    value = bytearray()
    quoted = inside = False
    at = 0
    while at < len(row):
        byte = row[at : at + 1]
        if inside:
            after = row[at + 1 : at + 2]
            if byte == escape and after and after in {escape, quote}:
                value += after
                at += 1
            elif byte == quote:
                inside = False
            else:
                value += byte
        elif byte == quote:
            quoted = inside = True
        elif byte == delimiter:
            fields.append((bytes(value), quoted))
            value, quoted = bytearray(), False
        else:
            value += byte
        at += 1
    return [*fields, (bytes(value), quoted)]
