"""One large file for several writers: a scan cuts it at row borders, and each range is read by itself.

The scan runs ahead at the speed of a read, so the first range can be written while the next is looked for. A range is
small and can be pickled: another process may read it. Where the cost is in the conversion of values, or in what is
sent, that is where processors help; where it is not, several writers take the chunks of one `read` in turn.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from shardproxy.loader.input.alterations import Alterations
from shardproxy.loader.input.compression import compressed
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.files import File, LineFile, lines_file
from shardproxy.loader.input.open import PIECE, Source, give_up, pieces
from shardproxy.loader.input.preamble import Preamble, read_preamble
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.loader.input.scan import Position
from shardproxy.sqlstate import IO_ERROR

SIZE: Final = 64 << 20
"""Bytes of a range, about: several batches of a writer, and many ranges of any file that is worth it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Whole rows of a file: its bytes from `begin` to `end`, of which `line` and `row` are the first row's.

    `header` is the file's, and `delimiter` the one that its `sep=` line may have set; `rows` counts what COPY would.
    """

    path: str
    begin: int
    end: int
    line: int
    row: int
    rows: int
    header: bytes
    delimiter: str


def divisible(source: Source, reading: Reading) -> bool:
    """Whether a file can be read in ranges: a regular one of lines, not compressed, in an encoding split by bytes."""
    return (
        source.path is not None
        and reading.copy.format != "binary"
        and not reading.transcoded
        and reading.limit is None
        and not reading.skip_footer
        and not compressed(source)
    )


def ranges(source: Source, reading: Reading, altered: Alterations, size: int = SIZE) -> Iterator[Range]:
    """Cut a divisible file into ranges of `size` bytes or one row more. Raises InputError for what cannot be read.

    What stands in front of the first row is counted here, what is altered in the rows when the range is read.
    """
    path = source.path
    assert path is not None
    raw = pieces(source.open(), source.name)
    try:
        yield from _ranges(path, read_preamble(source.name, raw, reading, altered), reading, size)
    finally:
        give_up(raw)


def _ranges(path: str, found: Preamble, reading: Reading, size: int) -> Iterator[Range]:
    begin, line, row, rows = found.position.offset, found.position.line, 0, 0
    file = LineFile(path, reading, found, None, Alterations())
    scanner = file.scanner()
    for frame in file.frames(scanner):
        rows += frame.rows
        end = frame.offset + len(frame.data)
        if end - begin >= size:
            yield Range(path, begin, end, line, row, rows, found.header, found.delimiter)
            begin, row, rows = end, row + rows, 0
            line = scanner.position.line
    if rows:
        yield Range(path, begin, scanner.position.offset, line, row, rows, found.header, found.delimiter)


def read_range(one: Range, reading: Reading, target: Sequence[Column] | None, altered: Alterations) -> File:
    """Read a range as `read` reads a file."""
    dialect = reading.dialect(one.delimiter)
    position = Position(one.line, one.begin)
    found = Preamble(one.delimiter, dialect, position, one.header, _bytes(one), None)
    return lines_file(one.path, found, reading, target, altered, row=one.row)


def _bytes(one: Range) -> Iterator[bytes]:
    try:
        with closing(open(one.path, "rb", buffering=0)) as stream:
            left = one.end - one.begin
            stream.seek(one.begin, os.SEEK_SET)
            while left > 0 and (piece := stream.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise InputError.from_os(IO_ERROR, error, one.path) from error
    if left:
        raise InputError(
            IO_ERROR, "the file has become shorter while it was read", file=one.path, offset=one.end - left
        )
