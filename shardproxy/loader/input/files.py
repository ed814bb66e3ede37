"""From names to chunks: each file in turn, each with the COPY that reads it.

    for file in read(names, reading, target, altered):
        # COPY table (file.columns) FROM STDIN with file.options
        # file.head, then for each COPY any of the chunks, then file.tail
        for chunk in file.chunks:
            ...

It reads no further than it is asked to, and holds about two chunks, or one row where that is longer. Files are read
one by one: the chunks of one must have been read, or given up, before the next is asked for. It blocks; whoever serves
other things meanwhile reads in a thread.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from shardproxy.copy.binary import HEADER, TRAILER
from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Fault, Form
from shardproxy.loader.input.columns import layout
from shardproxy.loader.input.compression import entries
from shardproxy.loader.input.convert import Converter, converter
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.frames import binary_frames, binary_header, line_frames
from shardproxy.loader.input.open import Source, give_up, sources
from shardproxy.loader.input.preamble import Begin, Preamble, read_preamble
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.loader.input.scan import Frame, Scanner
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT


@dataclass(slots=True)
class File:
    """One file, or one entry of an archive. `columns` is COPY's column list; None: it has none."""

    name: str
    columns: tuple[str, ...] | None
    options: CopyOptions
    chunks: Iterator[Chunk]
    header: bytes = b""
    """The header row as the file has it, for the file of rejects; empty where there is none."""
    head: bytes = b""
    tail: bytes = b""


def read(
    names: Iterable[str], reading: Reading, target: Sequence[Column] | None, altered: Alterations
) -> Iterator[File]:
    """Read the inputs of these names. `target`: the table's columns, in their order.

    Raises InputError: at once for a name that is no file, later for what cannot be read any further. All chunks given
    before are whole rows.
    """
    found = sources(names)
    return _files(found, reading, target, altered)


def _files(
    inputs: Iterable[Source], reading: Reading, target: Sequence[Column] | None, altered: Alterations
) -> Iterator[File]:
    left = Limit(reading.limit)
    for source in inputs:
        if reading.columnar:
            # It knows all types that Python has, which is more than other files need.
            from shardproxy.loader.input.columnar import columnar_file

            columns, header, chunks = columnar_file(source, reading, target, altered)
            yield File(source.name, columns, reading.output, left.applied(chunks, altered), header)
            continue
        for name, pieces in entries(source, altered, reading.compression):
            if left.reached:
                altered.add(Alteration.OVER_LIMIT)
                continue
            try:
                if reading.copy.format == "binary":
                    file = _binary(name, pieces, reading)
                else:
                    found = read_preamble(name, pieces, reading, altered)
                    file = lines_file(name, found, reading, target, altered)
            except PgError:
                give_up(pieces)
                raise
            file.chunks = left.applied(file.chunks, altered)
            yield file


class Limit:
    """Counts the rows of all files, and ends the file in which there are enough."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit

    @property
    def reached(self) -> bool:
        """Whether there are enough."""
        return self._left == 0

    def of(self, file: File, altered: Alterations) -> File:
        """Return the file with no more rows than are left."""
        file.chunks = self.applied(file.chunks, altered)
        return file

    def applied(self, chunks: Iterator[Chunk], altered: Alterations) -> Iterator[Chunk]:
        """Give the chunks of one file, cut where there are enough."""
        for chunk in chunks:
            if self._left is None:
                yield chunk
                continue
            if self.reached:
                altered.add(Alteration.OVER_LIMIT)
                return
            given = chunk if chunk.rows <= self._left else chunk.cut(self._left)[0]
            self._left -= given.rows
            yield given
            if given is not chunk:
                altered.add(Alteration.OVER_LIMIT)
                return


def _binary(name: str, pieces: Iterator[bytes], reading: Reading) -> File:
    begin = Begin(pieces)
    while (size := binary_header(begin.data, name)) is None:
        if not begin.more():
            raise InputError(BAD_COPY_FILE_FORMAT, "the header of the binary file is cut short", file=name)
    head = begin.take(size)[: len(HEADER) - 4] + bytes(4)  # without its extension
    rest = begin.rest()
    chunks = _chunks(binary_frames(rest, name, reading.max_row_bytes, size), Form(name, None), rest)
    return File(name, reading.columns, reading.output, chunks, head=head, tail=TRAILER)


def _chunks(frames: Iterator[Frame], form: Form, pieces: Iterator[bytes]) -> Iterator[Chunk]:
    row = 0
    try:
        for frame in frames:
            yield Chunk(form, frame.data, frame.rows, row, frame.line, frame.offset)
            row += frame.rows
    finally:
        give_up(pieces)


def lines_file(
    name: str,
    found: Preamble,
    reading: Reading,
    target: Sequence[Column] | None,
    altered: Alterations,
    row: int = 0,
) -> File:
    """Make the file whose preamble this is; `row` is the number of its first row."""
    names = _header_names(found, reading)
    line = found.position.line - 1
    try:
        laid = layout(names, reading, target)
    except PgError as error:
        raise InputError(error.sqlstate, error.message, file=name, line=line or None, hint=error.hint) from error
    convert = converter(reading, found.dialect, found.delimiter, laid)
    options = reading.output
    if reading.layout == "copy":
        options = replace(options, delimiter=found.delimiter)
    body = LineFile(name, reading, found, convert, altered, row)
    return File(name, laid.columns, options, body.chunks(), found.header)


def _header_names(found: Preamble, reading: Reading) -> list[str] | None:
    if not found.header or not (reading.by_name or reading.copy.header == "match"):
        return None
    dialect = found.dialect
    cells = (dialect.cell(raw) for raw in dialect.split(found.header.rstrip(b"\r\n")))
    names = [(cell.value or b"").decode(reading.codec or "utf-8", "surrogateescape") for cell in cells]
    if reading.trailing_delimiter and len(names) > 1 and not names[-1]:
        names.pop()
    return names


@dataclass(slots=True)
class LineFile:
    """The rows of a file of lines, after its preamble."""

    name: str
    reading: Reading
    found: Preamble
    convert: Converter | None
    altered: Alterations
    row: int = 0

    def scanner(self) -> Scanner:
        """What finds its rows where the splitter does not, and knows how far it has been read."""
        reading, found = self.reading, self.found
        header = found.dialect.row.match(found.header)
        return Scanner(
            self.name,
            found.dialect,
            found.position,
            reading.max_row_bytes,
            self.altered,
            measure=len if found.scale is None else found.scale.measure,
            comment=None if reading.comment is None else reading.encode(reading.comment),
            marked=reading.layout == "copy" and reading.copy.format == "text",
            style=b"" if header is None else header[1],
        )

    def frames(self, scanner: Scanner) -> Iterator[Frame]:
        """Its rows as they are."""
        if self.reading.layout != "copy":
            return scanner.frames(self.found.rest)
        options = replace(self.reading.output, delimiter=self.found.delimiter)
        return line_frames(self.found.rest, scanner, options, self.found.header if scanner.style else b"")

    def chunks(self) -> Iterator[Chunk]:
        """Its rows as COPY is to get them."""
        scanner, reading = self.scanner(), self.reading
        frames = self.frames(scanner)
        form = Form(self.name, self.found.dialect.row, csv=reading.copy.format == "csv", scale=self.found.scale)
        if reading.skip_footer:
            frames = self._without_footer(frames, form)
        row = self.row
        try:
            for frame in frames:
                if form.style != scanner.style:
                    form = replace(form, style=scanner.style)
                chunk = self._chunk(frame, form, row)
                row += frame.rows
                if chunk.rows or chunk.faults:
                    yield chunk
        finally:
            give_up(self.found.rest)

    def _chunk(self, frame: Frame, form: Form, row: int) -> Chunk:
        fault = None
        if frame.unclosed is not None:
            fault = self._unclosed(frame, form)
            frame = _cut(frame, frame.rows - 1, form)
        if frame.origins is not None and sum(end - begin for begin, end, _ in frame.origins) < len(frame.data):
            chunk = self._compact(frame, form, row)  # there are comments between them
        elif self.convert is None or self.convert.clean(frame.data):
            chunk = Chunk(form, frame.data, frame.rows, row, frame.line, frame.offset)
        else:
            chunk = self.convert.chunk(frame, form, row, self.altered)
        if self.reading.nul != "error" and b"\0" in chunk.data:
            chunk = self._without_nul(chunk)
        if fault is not None:
            chunk = replace(chunk, faults=(*chunk.faults, replace(fault, before=chunk.rows)))
        return chunk

    def _compact(self, frame: Frame, form: Form, row: int) -> Chunk:
        if self.convert is not None:
            return self.convert.chunk(frame, form, row, self.altered)
        source, origins = frame.data, frame.origins or []
        data = b"".join(source[begin:end] for begin, end, _ in origins)
        return Chunk(form, data, len(origins), row, frame.line, frame.offset, (), source, origins)

    def _unclosed(self, frame: Frame, form: Form) -> Fault:
        """The last row of a file, with a quote that is not closed."""
        origin = (frame.origins or form.rows(frame.data, frame.line).origins())[-1]
        where = form.place(frame.data, *origin, frame.offset)
        opened = origin.line + frame.data.count(form.newline, origin.begin, frame.unclosed)
        error = InputError(
            BAD_COPY_FILE_FORMAT,
            "unterminated CSV quoted field",
            file=self.name,
            line=where.line,
            offset=where.offset,
            detail=f"The quote was opened on line {opened}.",
        )
        return Fault(0, error, where, frame.data[origin.begin : origin.end])

    def _without_nul(self, chunk: Chunk) -> Chunk:
        reading = self.reading
        strip = reading.nul == "strip"
        kind = Alteration.NUL_STRIPPED if strip else Alteration.NUL_REPLACED
        self.altered.add(kind, chunk.data.count(b"\0"))
        data = chunk.data.replace(b"\0", b"" if strip else reading.encode(reading.nul_replacement))
        if chunk.source is not None:
            return replace(chunk, data=data)
        return replace(chunk, data=data, source=chunk.data, origins=chunk.bounds.origins())

    def _without_footer(self, frames: Iterator[Frame], form: Form) -> Iterator[Frame]:
        """Hold back the frames that may have rows to drop. A footer's quote that is not closed is dropped, too."""
        footer = self.reading.skip_footer
        held: deque[Frame] = deque()
        rows = 0
        for frame in frames:
            held.append(frame)
            rows += frame.rows
            while rows - held[0].rows >= footer:
                rows -= held[0].rows
                yield held.popleft()
        self.altered.add(Alteration.FOOTER_ROW, min(footer, rows))
        for frame in held:
            kept = min(frame.rows, max(0, rows - footer))
            rows -= frame.rows
            if kept == frame.rows:
                yield frame
            elif kept:
                yield _cut(frame, kept, form)


def _cut(frame: Frame, rows: int, form: Form) -> Frame:
    origins = form.rows(frame.data, frame.line).origins() if frame.origins is None else frame.origins
    end = origins[rows].begin if rows < len(origins) else len(frame.data)
    return Frame(frame.data[:end], rows, frame.line, frame.offset, origins[:rows])
