"""Rows found by a dialect's pattern: what needs to look at each row as it comes, or at what is wrong with one.

The pattern is matched at the begin of each row, after lines that are comments have been passed over. Where a row goes
on beyond what was read, as much again is read before it is looked at once more: so a long row costs no more by that.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Origin
from shardproxy.loader.input.dialect import Dialect
from shardproxy.loader.input.errors import InputError
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, PROGRAM_LIMIT_EXCEEDED

_LINE: Final = re.compile(rb"[^\r\n]*+(?:\r\n?|\n)")


@dataclass(slots=True)
class Frame:
    """Bytes of a file between two row borders, of which `line` and `offset` are the first's.

    `origins` are its rows; None: they are all that it holds, and not looked at yet. `unclosed`: the last row has a
    quote that is not closed, at this byte of `data`.
    """

    data: bytes
    rows: int
    line: int
    offset: int
    origins: list[Origin] | None = None
    unclosed: int | None = None


@dataclass(slots=True)
class Position:
    """How far a file has been read: the next physical line from 1, and the byte from 0."""

    line: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of a buffer up to its byte `end`, and why they end there, if not because the next one is incomplete."""

    rows: list[Origin]
    end: int
    unclosed: int | None = None
    marker: bool = False
    error: InputError | None = None


@dataclass(slots=True)
class Scanner:
    """Cuts the pieces of a file into frames. `position` moves with them; `style` is set by the first line end.

    `measure` tells the length in the file of bytes that were decoded. `marked`: `\\.` alone on a line ends the data, as
    in COPY text. Raises InputError for a line end that is not the file's, and for a row longer than `limit` bytes.
    """

    name: str
    dialect: Dialect
    position: Position
    limit: int
    altered: Alterations
    measure: Callable[[bytes], int] = len
    comment: bytes | None = None
    marked: bool = False
    style: bytes = b""

    def frames(self, pieces: Iterator[bytes]) -> Iterator[Frame]:
        """Read to the end."""
        buffer, wanted, ended = b"", 1, False
        while not ended:
            parts, length = [buffer], len(buffer)
            while length < wanted and (piece := next(pieces, b"")):
                parts.append(piece)
                length += len(piece)
            ended = length < wanted
            buffer = b"".join(parts)
            del parts  # they are as much again
            found = self._rows(buffer, ended=ended)
            rows, used = found.rows, found.end
            frame = Frame(buffer[:used], len(rows), self.position.line, self.position.offset, rows, found.unclosed)
            self.position.line += self._lines(buffer, 0, used)
            self.position.offset += self.measure(frame.data)
            if rows:
                yield frame
            buffer = buffer[used:]
            if found.error is not None:
                raise found.error
            if found.marker:
                self._drain(buffer, pieces)
                return
            if not ended and len(buffer) > self.limit:
                raise self.too_long(buffer)
            wanted = max(1, min(2 * len(buffer), self.limit + 1))

    def passed(self, data: bytes, rows: int) -> Frame:
        """Move on over whole rows that another has found."""
        frame = Frame(data, rows, self.position.line, self.position.offset)
        self.position.line += self._lines(data, 0, len(data))
        self.position.offset += self.measure(data)
        return frame

    def _lines(self, data: bytes, begin: int, end: int) -> int:
        return data.count(b"\r" if self.style == b"\r" else b"\n", begin, end)

    def _rows(self, buffer: bytes, *, ended: bool) -> "_Found":
        """Find the rows that are whole, up to what is wrong with the next one."""
        rows: list[Origin] = []
        at, size, line, unclosed = 0, len(buffer), self.position.line, None
        match, comment = self.dialect.row.match, self.comment
        while at < size:
            if comment is not None and buffer.startswith(comment, at):
                skipped = _LINE.match(buffer, at)
                if not ended and (skipped is None or skipped.end() == size):
                    break
                following = size if skipped is None else skipped.end()
                self.altered.add(Alteration.COMMENT_LINE)
                line += self._lines(buffer, at, following)
                at = following
                continue
            if comment is not None and not ended and comment.startswith(buffer[at : at + len(comment)]):
                break
            found = match(buffer, at)
            if not ended and (found is None or (found.end() == size and buffer.endswith(b"\r"))):
                break  # a newline may follow
            if self.marked and buffer.startswith(b"\\.", at) and (size if found is None else found.start(1)) == at + 2:
                return _Found(rows, at, marker=True)
            following, end = (size, b"") if found is None else (found.end(), found[1])
            if end == b"\r\n" and self.style == b"\r":
                following, end = following - 1, b"\r"
            if following - at > self.limit:
                return _Found(rows, at, error=self.too_long(buffer[at:following], line, at))
            if found is None:
                begun = self.dialect.begun.match(buffer, at)
                unclosed = begun.end() if begun is not None and begun.end() < size else None
            elif not self.style:
                self.style = end
            elif end != self.style:
                at_line = line + self._lines(buffer, at, found.start(1))
                error = self._mixed(end, at_line, self.position.offset + self.measure(buffer[:at]))
                return _Found(rows, at, error=error)
            rows.append(Origin(at, following, line))
            line += self._lines(buffer, at, following)
            at = following
        return _Found(rows, at, unclosed)

    def _drain(self, buffer: bytes, pieces: Iterator[bytes]) -> None:
        """Count what follows the marker: PostgreSQL reads no further either."""
        marker = _LINE.match(buffer)
        ignored = len(buffer) - (len(buffer) if marker is None else marker.end()) + sum(map(len, pieces))
        note = f"{self.name}, line {self.position.line}: {ignored} bytes after the end-of-data marker ignored"
        self.altered.add(Alteration.AFTER_END_MARKER, ignored, note)

    def _mixed(self, found: bytes, line: int, offset: int) -> InputError:
        names = {b"\n": "LF", b"\r": "CR", b"\r\n": "CR LF"}
        return InputError(
            BAD_COPY_FILE_FORMAT,
            f"a line ends in {names[found]} where the lines before end in {names[self.style]}",
            file=self.name,
            line=line,
            offset=offset,
            hint="Quote a line end that is part of a value, or make all line ends of the file the same.",
        )

    def too_long(self, row: bytes, line: int | None = None, at: int = 0) -> InputError:
        """The error for a row over the limit, of which these are the first bytes; it names a quote that it is about.

        The row begins `at` bytes after the position, as they are here.
        """
        first = self.position.line if line is None else line
        begun = self.dialect.begun.match(row)
        detail = None
        if begun is not None and begun.end() < len(row) and self.dialect.row.match(row) is None:
            opened = first + self._lines(row, 0, begun.end())
            detail = f"It has a quote, opened on line {opened}, that is not closed in these bytes."
        return InputError(
            PROGRAM_LIMIT_EXCEEDED,
            f"the row is longer than max_row_bytes ({self.limit})",
            file=self.name,
            line=first,
            offset=self.position.offset + at,
            detail=detail,
        )
