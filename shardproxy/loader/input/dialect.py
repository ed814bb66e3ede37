"""How the rows of a format end, how their fields are written, and what they mean.

A field is its *raw* bytes, as written, or its *cell*: the value, and whether it was quoted; a value None is NULL. CSV
and text follow CopyReadLineText, CopyReadAttributesCSV and CopyReadAttributesText of PostgreSQL 18
(src/backend/commands/copyfromparse.c). Everything here is about bytes: in the encodings read this way, a byte below
0x80 is that ASCII character (`shardproxy.copy.encoding`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from shardproxy.copy.options import CopyOptions

END: Final = rb"(\r\n?|\n)"


class Cell(NamedTuple):
    """A field's meaning."""

    value: bytes | None
    quoted: bool = False


class Dialect(Protocol):
    """A way of writing rows.

    `row` matches a whole row, its line end as group 1, and nothing as long as the row may go on. `begun` matches what
    of a row is understood: it stops in front of a quote that is not closed. `same` tells that COPY reads the dialect
    itself, so that a field not altered is copied as written.
    """

    row: re.Pattern[bytes]
    begun: re.Pattern[bytes]
    same: bool

    def split(self, row: bytes) -> list[bytes]:
        """The raw fields of a row without its line end."""
        ...

    def cell(self, raw: bytes) -> Cell:
        """What a field means; NULL by COPY's own marker alone."""
        ...


class Written(Dialect, Protocol):
    """One that can be written, too."""

    null: bytes
    delimiter: bytes

    def write(self, value: bytes | None) -> bytes:
        """The raw field of a value."""
        ...


def _patterns(body: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    return re.compile(body + END), re.compile(body)


class Csv:
    """COPY's CSV."""

    same = True

    def __init__(self, delimiter: bytes, quote: bytes, escape: bytes, null: bytes) -> None:
        self.delimiter, self.null = delimiter, null
        self._quote, self._escape = quote, escape
        d, q, e = (re.escape(byte) for byte in (delimiter, quote, escape))
        inside = rb"(?:[^%b]++|%b%b)*+" % (q, q, q) if q == e else rb"(?:[^%b%b]++|%b[%b%b]?+)*+" % (q, e, e, q, e)
        self.row, self.begun = _patterns(rb"(?:[^%b\r\n]++|%b%b%b)*+" % (q, q, inside, q))
        # A quote that is not closed ends with the row, which PostgreSQL refuses then.
        self._field = re.compile(rb"(?:[^%b%b]++|%b%b(?:%b|\Z))*+" % (q, d, q, inside, q))
        self._part = re.compile(rb"%b(%b)(?:%b|\Z)|[^%b]++" % (q, inside, q, q))
        self._escaped = re.compile(rb"%b([%b%b])" % (e, q, e))
        self._plain = re.compile(rb"[^%b%b\r\n]*+" % (q, d))

    def split(self, row: bytes) -> list[bytes]:
        """See Dialect."""
        if self._quote not in row:
            return row.split(self.delimiter)
        return _fields(self._field, row)

    def cell(self, raw: bytes) -> Cell:
        """See Dialect."""
        quote, escape = self._quote, self._escape
        if quote not in raw:
            return Cell(None if raw == self.null else raw)
        inner = raw[1:-1]
        if quote not in inner and escape not in inner and len(raw) > 1 and raw[:1] == quote == raw[-1:]:
            return Cell(inner, True)
        parts = [
            part[0] if part[1] is None else self._escaped.sub(rb"\1", part[1]) for part in self._part.finditer(raw)
        ]
        return Cell(b"".join(parts), True)

    def write(self, value: bytes | None) -> bytes:
        """The raw field: quoted where it would mean something else without."""
        if value is None:
            return self.null
        if value not in {self.null, b"\\."} and self._plain.fullmatch(value):
            return value
        quote, escape = self._quote, self._escape
        if quote != escape:
            value = value.replace(escape, escape + escape)
        return quote + value.replace(quote, escape + quote) + quote


_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class Text:
    """COPY's text format."""

    same = True

    def __init__(self, delimiter: bytes, null: bytes) -> None:
        self.delimiter, self.null = delimiter, null
        self.row, self.begun = _patterns(rb"(?:[^\\\r\n]++|\\[\s\S])*+")
        self._field = re.compile(rb"(?:[^\\%b]++|\\(?:[\s\S]|\Z))*+" % re.escape(delimiter))
        self._special = re.compile(rb"[\\\b\f\n\r\t\v%b]" % re.escape(delimiter))
        self._written = {letter: b"\\" + name for name, letter in _LETTERS.items()} | {
            byte: b"\\" + byte for byte in (b"\\", delimiter) if byte not in _LETTERS.values()
        }

    _escape = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|([\s\S])|\Z)")

    def split(self, row: bytes) -> list[bytes]:
        """See Dialect."""
        return _fields(self._field, row) if b"\\" in row else row.split(self.delimiter)

    def cell(self, raw: bytes) -> Cell:
        """See Dialect."""
        if raw == self.null:
            return Cell(None)
        return Cell(self._escape.sub(_unescape, raw) if b"\\" in raw else raw)

    def write(self, value: bytes | None) -> bytes:
        """The raw field."""
        if value is None:
            return self.null
        written = self._special.sub(lambda found: self._written[found[0]], value)
        # A marker that a value is spelled like, as '' may be: its first byte by its number.
        return written if written != self.null or not written else b"\\%03o" % value[0] + self.write(value[1:])


def _unescape(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = found.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    return _LETTERS.get(other, other) if other is not None else b""


def _fields(pattern: re.Pattern[bytes], row: bytes) -> list[bytes]:
    """Split at the delimiters, each of which is the one byte that a field's pattern stops in front of."""
    fields: list[bytes] = []
    at, end, match = 0, len(row), pattern.match
    while at <= end:
        found = match(row, at)
        assert found is not None  # it matches nothing, too
        fields.append(found[0])
        at = found.end() + 1
    return fields


_MYSQL_LETTERS: Final = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}


class MySql:
    """What MySQL's SELECT … INTO OUTFILE writes, as its LOAD DATA reads it ("Field and Line Handling").

    The escape character has its meaning outside the quotes, too: before a line end it is data. `\\N` outside quotes
    is NULL, and so is the word NULL where a quote is set; inside quotes `\\N` is the letter N. A quote inside a
    field that does not begin with one is data. Lines end in LF or CR LF.
    """

    same = False

    def __init__(self, delimiter: bytes, quote: bytes, escape: bytes) -> None:
        self._quote = quote
        d, e = re.escape(delimiter), re.escape(escape)
        plain = rb"(?:[^%b%b\r\n]++|\r(?!\n)|%b[\s\S])*+" % (e, d, e)
        # The same within one row, where nothing but the delimiter ends a field.
        plain_field = rb"(?:[^%b%b]++|%b(?:[\s\S]|\Z))*+" % (e, d, e)
        if quote:
            q = re.escape(quote)
            inside = rb"(?:[^%b%b]++|%b%b|%b[\s\S]|%b(?!%b|\r?\n|\Z))*+" % (q, e, q, q, e, q, d)
            field = rb"(?:%b%b%b|(?!%b)%b)" % (q, inside, q, q, plain)
            self._field = re.compile(rb"(?:%b%b(?:%b|\Z)|(?!%b)%b)" % (q, inside, q, q, plain_field))
            self._special = re.compile(rb"%b(?P<escaped>[\s\S])|%b%b" % (e, q, q))  # inside quotes
        else:
            field = plain
            self._field = re.compile(plain_field)
        self._escaped = re.compile(rb"%b(?P<escaped>[\s\S])" % e)
        body = rb"%b(?:%b%b)*+" % (field, d, field)
        self.row, self.begun = re.compile(body + rb"(\r?\n)"), re.compile(body)
        self._nulls = {escape + b"N"} | ({b"NULL"} if quote else set())

    def split(self, row: bytes) -> list[bytes]:
        """See Dialect."""
        return _fields(self._field, row)

    def cell(self, raw: bytes) -> Cell:
        """See Dialect."""
        if raw in self._nulls:
            return Cell(None)
        if not self._quote or raw[:1] != self._quote:
            return Cell(self._escaped.sub(self._meant, raw))
        inner = raw[1:-1] if len(raw) > 1 and raw[-1:] == self._quote else raw[1:]
        return Cell(self._special.sub(self._meant, inner), True)

    def _meant(self, found: re.Match[bytes]) -> bytes:
        escaped = found["escaped"]
        return self._quote if escaped is None else _MYSQL_LETTERS.get(escaped, escaped)


class Fixed:
    """Fields of fixed widths, in characters of the encoding; what is missing at the end of a line is empty.

    Characters beyond the last field are one field more, which COPY refuses.
    """

    same = False

    def __init__(self, widths: Sequence[int], codec: str | None) -> None:
        self.row, self.begun = _patterns(rb"[^\r\n]*+")
        ends = [sum(widths[: number + 1]) for number in range(len(widths))]
        self._slices = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self._width = ends[-1]
        self._codec = codec

    def split(self, row: bytes) -> list[bytes]:
        """See Dialect."""
        if self._codec is None or row.isascii():
            fields = [row[one] for one in self._slices]
            rest = row[self._width :]
        else:
            text = row.decode(self._codec, "surrogateescape")
            fields = [text[one].encode(self._codec, "surrogateescape") for one in self._slices]
            rest = text[self._width :].encode(self._codec, "surrogateescape")
        return [*fields, rest] if rest.strip(b" ") else fields

    def cell(self, raw: bytes) -> Cell:
        """See Dialect; the padding is no part of the value, and a field of padding alone is NULL."""
        return Cell(raw.rstrip(b" ") or None)


def copy_dialect(options: CopyOptions, encode: Callable[[str], bytes]) -> Csv | Text:
    """The dialect of COPY's own options; `encode` gives their bytes in the data's encoding."""
    if options.format == "csv":
        one = (options.delimiter, options.quote, options.escape, options.null)
        return Csv(*(encode(text) for text in one))
    return Text(encode(options.delimiter), encode(options.null))
