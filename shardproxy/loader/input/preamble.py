"""The begin of a file: its byte order mark, Excel's `sep=` line, lines to skip, and its header.

All of it is per file, and none of it goes on to COPY. What is wide (UTF-16) or not split by its bytes (SJIS) is decoded
to UTF-8 here.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from shardproxy.copy.encoding import python_codec, same_encoding
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Scale
from shardproxy.loader.input.dialect import Dialect
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.open import give_up
from shardproxy.loader.input.reading import Reading
from shardproxy.loader.input.scan import Position
from shardproxy.sqlstate import (
    BAD_COPY_FILE_FORMAT,
    CHARACTER_NOT_IN_REPERTOIRE,
    FEATURE_NOT_SUPPORTED,
    PROGRAM_LIMIT_EXCEEDED,
)

_MARKS: Final = (  # UTF-32's first: UTF-16's is the begin of it
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_COLUMNAR: Final = ((b"PAR1", "Parquet"), (b"ARROW1", "Arrow"))
_SEP: Final = re.compile(rb'"?sep=([^\r\n"])"?(\r\n|\r|\n|\Z)', re.IGNORECASE)
_LINE: Final = re.compile(rb"[^\r\n]*+(?:\r\n?|\n)")
_ENOUGH: Final = 16
"""Bytes that tell a mark, a magic and a `sep=` line with its line end."""


class Begin:
    """The first bytes of a file, as many as are needed; the rest comes in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ended = False
        self.data = b""

    def more(self) -> bool:
        """Read about as much again as is here; False at the end of the file."""
        parts, wanted = [self.data], max(1, len(self.data))
        while wanted > 0 and not self._ended:
            piece = next(self._pieces, b"")
            self._ended = not piece
            parts.append(piece)
            wanted -= len(piece)
        self.data = b"".join(parts)
        return not self._ended

    def have(self, size: int) -> None:
        """Read until so many bytes are here, or all there are."""
        while len(self.data) < size and self.more():
            pass

    def take(self, size: int) -> bytes:
        """Remove bytes from the begin."""
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def match(self, pattern: re.Pattern[bytes], limit: int) -> re.Match[bytes] | None:
        """Match a line, whose end is certain: a CR may be followed by an LF. None: there is no end of it."""
        while True:
            found = pattern.match(self.data)
            if found is not None and (found.end() < len(self.data) or not self.data.endswith(b"\r")):
                return found
            if len(self.data) > limit:
                return None
            if not self.more():
                return pattern.match(self.data)

    def rest(self) -> Iterator[bytes]:
        """All that has not been taken."""
        try:
            if self.data:
                yield self.data
                self.data = b""
            yield from self._pieces
        finally:
            give_up(self._pieces)


@dataclass(slots=True)
class Preamble:
    """What was found in front of the first row, whose place is `position`."""

    delimiter: str
    dialect: Dialect
    position: Position
    header: bytes  # with its line end; empty: none
    rest: Iterator[bytes]
    scale: Scale | None


def read_preamble(name: str, pieces: Iterator[bytes], reading: Reading, altered: Alterations) -> Preamble:
    """Read up to the first row of a file of lines. Raises InputError for another encoding than was told."""
    begin = Begin(pieces)
    begin.have(_ENOUGH)
    for magic, what in _COLUMNAR:
        if begin.data.startswith(magic):
            raise InputError(FEATURE_NOT_SUPPORTED, f"the input is a {what} file, which is not read yet", file=name)
    position = Position()
    scale = None
    codec, mark = _mark(name, begin.data, reading)
    if mark:
        position.offset = len(begin.take(len(mark)))
        altered.add(Alteration.BYTE_ORDER_MARK, 1, f"{name}: byte order mark dropped")
    if reading.transcoded:
        scale = Scale(codec)
        begin = Begin(_decoded(begin.rest(), name, codec, position.offset))
        begin.have(_ENOUGH)
    lines = _Lines(name, begin, position, scale, reading.max_row_bytes)
    delimiter = reading.copy.delimiter
    if reading.skip:
        skipped = sum(lines.skip() for _ in range(reading.skip))
        altered.add(Alteration.SKIPPED_LINE, skipped)
    elif reading.sep_line == "use" and reading.copy.format == "csv" and reading.layout == "copy":
        delimiter = lines.separator(delimiter, reading, altered)
    dialect = reading.dialect(delimiter)
    header = b""
    lines.comments(reading, altered)
    if reading.by_name or reading.copy.header != "none":
        header = lines.line(dialect.row)
        lines.comments(reading, altered)
    return Preamble(delimiter, dialect, position, header, begin.rest(), scale)


def _mark(name: str, data: bytes, reading: Reading) -> tuple[str, bytes]:
    """Return the codec of an input that is decoded, and the byte order mark to drop."""
    told = reading.copy.encoding or "UTF8"
    wide = reading.wide
    found, codec = next(((mark, codec) for mark, codec in _MARKS if data.startswith(mark)), (b"", ""))
    if wide is not None:
        if codec.startswith(wide):
            return codec, found
        if data and (found or wide in {"utf-16", "utf-32"}):
            what = f"begins as {codec.upper()}" if found else "has no byte order mark"
            hint = None if found else f"Name the order: {wide}le or {wide}be."
            raise InputError(
                CHARACTER_NOT_IN_REPERTOIRE, f"the input {what}, and its encoding is {told}", file=name, hint=hint
            )
        return wide, b""
    if reading.byte_order_mark == "drop" and found:
        if codec != "utf-8":
            family = codec[:6].upper()
            hint = f'Set the encoding to "{codec[:6]}".'
            raise InputError(CHARACTER_NOT_IN_REPERTOIRE, f"the input is {family}, not {told}", file=name, hint=hint)
        if not same_encoding("UTF8", told):
            message = f"the input begins with the byte order mark of UTF-8, and its encoding is {told}"
            raise InputError(CHARACTER_NOT_IN_REPERTOIRE, message, file=name)
        return "", found
    return python_codec(told) or "", b""


def _decoded(pieces: Iterator[bytes], name: str, codec: str, offset: int) -> Iterator[bytes]:
    """Decode to UTF-8. Raises InputError (22021) with the line and the offset of what is no character."""
    decoder = codecs.getincrementaldecoder(codec)()
    line = 1
    for piece in chain(pieces, (b"",)):
        pending = decoder.getstate()[0]
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            at = error.start
            line += error.object[:at].decode(codec, "ignore").count("\n")
            raise InputError(
                CHARACTER_NOT_IN_REPERTOIRE,
                f'invalid byte sequence for encoding "{codec.upper()}": {error.object[at : error.end].hex(" ")}',
                file=name,
                line=line,
                offset=offset - len(pending) + at,
            ) from error
        offset += len(piece)
        line += text.count("\n")
        if text:
            yield text.encode()


@dataclass(slots=True)
class _Lines:
    """Takes lines from the begin of a file, and moves its position."""

    name: str
    begin: Begin
    position: Position
    scale: Scale | None
    limit: int

    def _take(self, size: int) -> bytes:
        taken = self.begin.take(size)
        newline = b"\n" if b"\n" in taken else b"\r"
        self.position.line += taken.count(newline)
        self.position.offset += len(taken) if self.scale is None else self.scale.measure(taken)
        return taken

    def skip(self) -> int:
        """Take one line; 0 where there is none."""
        return bool(self.line(_LINE))

    def line(self, pattern: re.Pattern[bytes]) -> bytes:
        """Take one line, or a row that the pattern matches; all there is where no end of it comes."""
        found = self.begin.match(pattern, self.limit)
        if found is None and len(self.begin.data) > self.limit:
            message = f"the line is longer than max_row_bytes ({self.limit})"
            raise InputError(PROGRAM_LIMIT_EXCEEDED, message, file=self.name, line=self.position.line)
        return self._take(len(self.begin.data) if found is None else found.end())

    def separator(self, delimiter: str, reading: Reading, altered: Alterations) -> str:
        """Take Excel's first line `sep=;`, and return the delimiter that holds."""
        found = _SEP.match(self.begin.data)
        if found is None:
            return delimiter
        told = found[1].decode("latin-1")
        if delimiter not in {",", told}:
            message = f'the first line sets the delimiter "{told}", and the option sets "{delimiter}"'
            raise InputError(BAD_COPY_FILE_FORMAT, message, file=self.name, line=1, offset=self.position.offset)
        self._take(found.end())
        altered.add(Alteration.SEPARATOR_LINE, 1, f'{self.name}: the first line sets the delimiter "{told}"')
        return told

    def comments(self, reading: Reading, altered: Alterations) -> None:
        """Take comments and blank lines, where those are skipped."""
        comment = None if reading.comment is None else reading.encode(reading.comment)
        blank = re.compile(rb" *+(?:\r\n?|\n)") if reading.blank_lines == "skip" else None
        while True:
            self.begin.have(len(comment or b""))
            if comment is not None and self.begin.data.startswith(comment):
                altered.add(Alteration.COMMENT_LINE, self.skip())
            elif blank is not None and self.begin.data[:1] in {b" ", b"\r", b"\n"} and self.begin.match(blank, 4096):
                altered.add(Alteration.BLANK_LINE, self.skip())
            else:
                break
