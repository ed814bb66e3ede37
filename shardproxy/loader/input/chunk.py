"""Whole rows of one file, and where each of them stands in it.

A chunk that needed no conversion is a part of its file: where its rows stand is only found out when it is asked,
which a load without rejects never does. One that was converted keeps the bytes as they were, for the reject file.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from shardproxy.loader.input.errors import InputError


class Place(NamedTuple):
    """Where a row stands in its file: physical lines from 1, and the byte from 0 (of the decompressed file)."""

    file: str
    line: int
    last_line: int
    offset: int


class Scale:
    """How long decoded bytes were in the file."""

    def __init__(self, codec: str) -> None:
        self.codec = codec

    def measure(self, data: bytes) -> int:
        """The number of bytes that these UTF-8 bytes were."""
        return len(data.decode("utf-8", "surrogatepass").encode(self.codec, "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Form:
    """What all chunks of a file share.

    `pattern` matches a row with its line end; None: binary rows, which have no line ends. `style` is how lines end,
    empty as long as none has. `csv`: what COPY gets is CSV. `scale`: the file is not in the bytes that it is read as.
    """

    file: str
    pattern: re.Pattern[bytes] | None
    style: bytes = b""
    csv: bool = True
    scale: Scale | None = None
    numbered: bool = False
    """A line is the number of a row, whatever line ends are in it."""

    @property
    def newline(self) -> bytes:
        """What counts as the end of a physical line, inside quotes too."""
        return b"\r" if self.style == b"\r" else b"\n"

    def measure(self, data: bytes) -> int:
        """How many bytes of the file these were."""
        return len(data) if self.scale is None else self.scale.measure(data)

    def place(self, source: bytes, begin: int, end: int, line: int, offset: int) -> Place:
        """Where the row source[begin:end] stands, of which `line` is the first and `offset` is that of source[0]."""
        last = line
        if self.pattern is not None and not self.numbered:
            last += source.count(self.newline, begin, end) - source.endswith(self.newline, begin, end)
        return Place(self.file, line, last, offset + self.measure(source[:begin]))

    def rows(self, data: bytes, line: int) -> "Bounds":
        """Find the rows of whole rows; what follows the last line end is one, too."""
        starts: list[int] = []
        lines: list[int] = []
        at, end, newline = 0, len(data), self.newline
        while at < end:
            starts.append(at)
            lines.append(line)
            if self.pattern is None:
                at = binary_end(data, at)
                line += 1
            else:
                found = self.pattern.match(data, at)
                following = end if found is None else found.end()
                line += 1 if self.numbered else data.count(newline, at, following)
                at = following
        return Bounds(starts, lines, end)


def binary_end(data: bytes, at: int) -> int:
    """Where a row of COPY binary ends: an int16 count of fields, each with its int32 length (-1 for NULL)."""
    fields = int.from_bytes(data[at : at + 2], "big", signed=True)
    at += 2
    for _ in range(fields):
        length = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4 + max(length, 0)
    return min(at, len(data))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows of some bytes: row i is from starts[i] to starts[i + 1], the last one to `end`; lines[i] is its first."""

    starts: list[int]
    lines: list[int]
    end: int

    def origins(self) -> "list[Origin]":
        """The rows one by one."""
        ends = [*self.starts[1:], self.end]
        return [Origin(*one) for one in zip(self.starts, ends, self.lines, strict=False)]

    def span(self, row: int) -> tuple[int, int]:
        """Begin and end of a row, its line end included."""
        following = self.starts[row + 1] if row + 1 < len(self.starts) else self.end
        return self.starts[row], following


class Origin(NamedTuple):
    """The bytes of a row before it was converted, and its first line."""

    begin: int
    end: int
    line: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that the reading sets aside: it is in no chunk's data. `before`: rows of the chunk in front of it."""

    before: int
    error: InputError
    place: Place
    original: bytes


@dataclass(frozen=True)
class Chunk:
    """Rows for one COPY of the form's file, each with its line end; only the last of a file may have none.

    Binary rows stand between COPY's header and its trailer, which are not here. `row` is the first one's number in the
    file, from 0; `line` and `offset` are where `source` begins, which is what `data` was before it was converted, with
    the origin of each row of `data` in it. Without a conversion it is `data`.
    """

    form: Form
    data: bytes = field(repr=False)
    rows: int
    row: int
    line: int
    offset: int
    faults: tuple[Fault, ...] = ()
    source: bytes | None = field(default=None, repr=False)
    origins: list[Origin] = field(default_factory=list, repr=False)

    @cached_property
    def bounds(self) -> Bounds:
        """The rows of `data`."""
        return self.form.rows(self.data, self.line)

    def text(self, row: int) -> bytes:
        """The row's bytes as COPY gets them."""
        begin, end = self.bounds.span(row)
        return self.data[begin:end]

    def original(self, row: int) -> bytes:
        """The row's bytes as the file has them: decompressed, and decoded where it is in UTF-16 or the like."""
        if self.source is None:
            return self.text(row)
        return self.source[self.origins[row].begin : self.origins[row].end]

    def place(self, row: int) -> Place:
        """Where the row stands in its file."""
        if self.source is not None:
            return self.form.place(self.source, *self.origins[row], self.offset)
        return self.form.place(self.data, *self.bounds.span(row), self.bounds.lines[row], self.offset)

    def row_at(self, line: int, *, begins: bool = True) -> int:
        """The number of the row that a server names by a line of `data`, from 1. `begins`: the COPY begins with `data`.

        A server counts lines as CopyReadLineText does: in CSV those inside quotes, too, but by CR as long as it has
        not seen how lines end. A row of several lines has the number of its last one.
        """
        ends = self._lines_begun if begins else self._lines_going_on
        return min(bisect_left(ends, line), len(ends) - 1)

    def lines(self, *, begins: bool = True) -> int:
        """How many lines the server counts."""
        ends = self._lines_begun if begins else self._lines_going_on
        return ends[-1] if ends else 0

    @cached_property
    def _lines_begun(self) -> list[int]:
        """The number of each row's last line, in a COPY that begins here."""
        return list(accumulate(self._counted(row, style_known=row > 0) for row in range(self.rows)))

    @cached_property
    def _lines_going_on(self) -> list[int]:
        return list(accumulate(self._counted(row, style_known=True) for row in range(self.rows)))

    def _counted(self, row: int, *, style_known: bool) -> int:
        if not self.form.csv or self.form.pattern is None:
            return 1
        text, style = self.text(row), self.form.style
        counted = b"\n" if style_known and style == b"\n" else b"\r"
        return 1 + text.removesuffix(style).count(counted)

    def cut(self, row: int) -> "tuple[Chunk, Chunk]":
        """Return the rows before this one, and the others."""
        if row >= self.rows:
            return self, replace(self, data=b"", rows=0, row=self.row + self.rows, faults=(), origins=[])
        begin = self.bounds.starts[row]
        early = tuple(fault for fault in self.faults if fault.before <= row)
        late = tuple(replace(fault, before=fault.before - row) for fault in self.faults if fault.before > row)
        head = replace(self, data=self.data[:begin], rows=row, faults=early, origins=self.origins[:row])
        tail = replace(
            self,
            data=self.data[begin:],
            rows=self.rows - row,
            row=self.row + row,
            faults=late,
            origins=self.origins[row:],
        )
        if self.source is None:
            line, offset = self.bounds.lines[row], self.offset + self.form.measure(self.data[:begin])
            tail = replace(tail, line=line, offset=offset)
        return head, tail
