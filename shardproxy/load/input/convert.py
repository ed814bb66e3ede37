"""Rows made into what COPY reads, where the options ask for more than COPY can do.

Fields that no option is about keep their bytes, quotes and all. A dialect that COPY does not read is written anew, as
COPY text.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from shardproxy.errors import PgError
from shardproxy.load.input.alterations import Alteration, Alterations
from shardproxy.load.input.chunk import Chunk, Fault, Form, Origin
from shardproxy.load.input.columns import Layout
from shardproxy.load.input.dialect import Cell, Csv, Dialect, Text
from shardproxy.load.input.errors import InputError
from shardproxy.load.input.reading import Reading
from shardproxy.load.input.scan import Frame
from shardproxy.load.input.values import boolean, number
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT

Field = Callable[[bytes], bytes]
"""A raw field of the input to a raw field of the output."""


@dataclass(frozen=True)
class Converter:
    """Of one file: `fields` are those of the layout that are kept; None: all fields are copied as written."""

    dialect: Dialect
    output: Csv | Text
    layout: Layout
    fields: list[Field | None] | None
    each: Field | None  # a field beyond the known ones
    counts: Counter[Alteration]
    skip_blank: bool
    trailing_delimiter: bool
    quote_marker: bool

    def chunk(self, frame: Frame, form: Form, row: int, altered: Alterations) -> Chunk:
        """Convert a frame's rows. `row` is the first one's number in the file."""
        source, style = frame.data, form.style
        origins = form.rows(source, frame.line).origins() if frame.origins is None else frame.origins
        made: list[bytes] = []
        kept: list[Origin] = []
        faults: list[Fault] = []
        for origin in origins:
            body = source[origin.begin : origin.end]
            end = style if style and body.endswith(style) else b""
            body = body.removesuffix(end)
            if self.skip_blank and not body.strip(b" "):
                self.counts[Alteration.BLANK_LINE] += 1
                continue
            if self.fields is not None:
                try:
                    body = self._row(body)
                except PgError as error:
                    where = form.place(source, *origin, frame.offset)
                    refused = InputError(
                        error.sqlstate, error.message, file=form.file, line=where.last_line, offset=where.offset
                    )
                    faults.append(Fault(len(made), refused, where, source[origin.begin : origin.end]))
                    continue
                end = end and (end if self.dialect.same else b"\n")
            if self.quote_marker and body == b"\\.":
                self.counts[Alteration.END_MARKER] += 1
                body = self.output.write(body)
            made.append(body + end)
            kept.append(origin)
        for kind, count in self.counts.items():
            altered.add(kind, count)
        self.counts.clear()
        out_form = form if self.dialect.same else replace(form, pattern=self.output.row, style=b"\n", csv=False)
        data = b"".join(made)
        return Chunk(out_form, data, len(made), row, frame.line, frame.offset, tuple(faults), source, kept)

    def _row(self, body: bytes) -> bytes:
        """A row's body for COPY. Raises PgError for one whose fields cannot be told apart by their number."""
        layout, counts = self.layout, self.counts
        assert self.fields is not None
        fields = self.dialect.split(body)
        width = layout.width
        if self.trailing_delimiter and fields[-1] == b"" and len(fields) != width:
            fields.pop()
            counts[Alteration.TRAILING_DELIMITER] += 1
        if layout.kept is not None or layout.constants:
            if width is not None and len(fields) < width:
                raise PgError(BAD_COPY_FILE_FORMAT, f"missing data for field {len(fields) + 1} of {width}")
            if width is not None and len(fields) > width:
                raise PgError(BAD_COPY_FILE_FORMAT, "extra data after last expected column")
        if layout.kept is not None:
            fields = [fields[number] for number in layout.kept]
            counts.update(layout.left_out)
        known = len(self.fields)
        out = [raw if convert is None else convert(raw) for raw, convert in zip(fields, self.fields, strict=False)]
        out += fields[known:] if self.each is None else map(self.each, fields[known:])
        if layout.constants:
            out += map(self.output.write, layout.constants)
            counts[Alteration.CONSTANT] += len(layout.constants)
        return self.output.delimiter.join(out)


def converter(reading: Reading, dialect: Dialect, delimiter: str, layout: Layout) -> Converter | None:
    """Return what a file's rows need; None where they are copied as they are."""
    output = reading.written(delimiter)
    counts: Counter[Alteration] = Counter()
    fields = [_field(reading, dialect, output, type_name, counts) for type_name in layout.types]
    each = _field(reading, dialect, output, "", counts)
    reads = any(fields) or each is not None or layout.kept is not None
    if not (reads or layout.constants or reading.trailing_delimiter):
        if reading.blank_lines == "keep" and reading.comment is None:
            return None
        return Converter(dialect, output, layout, None, None, counts, reading.blank_lines == "skip", False, False)
    return Converter(
        dialect,
        output,
        layout,
        fields,
        each,
        counts,
        reading.blank_lines == "skip",
        reading.trailing_delimiter,
        _ends_early(reading),
    )


def plain(reading: Reading, dialect: Dialect, delimiter: str, layout: Layout) -> Converter:
    """Return what quotes `\\.`, and keeps all else."""
    output = reading.written(delimiter)
    return Converter(dialect, output, layout, None, None, Counter(), False, False, _ends_early(reading))


def _ends_early(reading: Reading) -> bool:
    """Up to version 17 a row `\\.` ends CSV data, and what follows is lost without a word."""
    return reading.output.format == "csv" and reading.server_version < 18


def _field(
    reading: Reading, dialect: Dialect, output: Csv | Text, type_name: str, counts: Counter[Alteration]
) -> Field | None:
    """Return what converts a field for a column of this type; None where it is copied as it is written."""
    converts = [
        (convert, kind)
        for convert, kind in (
            (number(reading, type_name), Alteration.NUMBER),
            (boolean(reading, type_name), Alteration.BOOLEAN),
        )
        if convert is not None
    ]
    nulls = frozenset(reading.encode(text) for text in reading.nulls)
    if reading.quoted_nulls:
        nulls |= {reading.encode(reading.output.null)}
    if dialect.same and len(nulls) == 1 and not (reading.quoted_nulls and reading.reads_values):
        nulls = frozenset()  # COPY's own marker, or its FORCE_NULL
    if not (converts or nulls or reading.trim) and dialect.same:
        return None

    def convert(raw: bytes) -> bytes:
        given = raw
        if reading.trim:
            raw = raw.strip(b" \t")
            if raw != given:
                counts[Alteration.TRIMMED] += 1
        cell = dialect.cell(raw)
        value = _null(cell)
        if value is not None:
            for one, kind in converts:
                made = one(value)
                if made is not value:
                    counts[kind] += 1
                    value = made
        if dialect.same and value is cell.value:
            return raw
        return output.write(value)

    def _null(cell: Cell) -> bytes | None:
        if cell.value in nulls and (reading.quoted_nulls or not cell.quoted):
            counts[Alteration.NULL] += 1
            return None
        return cell.value

    return convert
