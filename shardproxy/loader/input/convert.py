"""Rows made into what COPY reads, where the options ask for more than COPY can do.

Fields that no option is about keep their bytes, quotes and all. A dialect that COPY does not read is written anew, as
COPY text.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Fault, Form, Origin
from shardproxy.loader.input.columns import Layout
from shardproxy.loader.input.dialect import Csv, Dialect, Text
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.reading import Reading
from shardproxy.loader.input.scan import Frame
from shardproxy.loader.input.values import Convert, boolean, number
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT

Field = Callable[[bytes], bytes]
"""A raw field of the input to a raw field of the output."""


_BLANKS: Final = (b" ", b"\t")
_BLANK_LINE: Final = (b"\n\n", b"\n\r", b"\n ", b"\r\r", b"\r ")
"""One of them is in rows among which there is an empty or blank one, unless that is the first."""


@dataclass(frozen=True)
class Converter:
    """Of one file: `fields` are those of the layout that are kept; None: all fields are copied as written.

    A row without any of the `needles` has no value to convert; None: each row may have one. `edges`: unless it begins
    or ends with a blank.
    """

    dialect: Dialect
    output: Csv | Text
    layout: Layout
    fields: list[Field | None] | None
    each: Field | None  # a field beyond the known ones
    counts: Counter[Alteration]
    skip_blank: bool
    trailing_delimiter: bool
    quote_marker: bool
    needles: tuple[bytes, ...] | None = None
    edges: bool = False

    def clean(self, data: bytes) -> bool:
        """Whether it is certain that all of these rows are copied as they are: a few searches, where most are so."""
        if self.skip_blank and (data[:1] in {b" ", b"\r", b"\n"} or any(one in data for one in _BLANK_LINE)):
            return False
        if self.quote_marker and b"\\." in data:
            return False
        if self.fields is None:
            return True
        if self.needles is None or any(needle in data for needle in self.needles):
            return False
        return not self.edges or not (
            data.startswith(_BLANKS)
            or data.endswith(_BLANKS)
            or any(blank + end in data for blank in _BLANKS for end in (b"\r", b"\n"))
            or any(end + blank in data for blank in _BLANKS for end in (b"\r", b"\n"))
        )

    def _skips(self, body: bytes) -> bool:
        """Whether the row is copied as it is."""
        needles = self.needles
        if self.fields is None:
            return True
        if needles is None or (self.edges and (body.startswith(_BLANKS) or body.endswith(_BLANKS))):
            return False
        return not any(needle in body for needle in needles)

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
            if not self._skips(body):
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
    counted = layout.kept is not None or bool(layout.constants) or reading.trailing_delimiter
    reads = counted or each is not None or any(fields)
    skip_blank = reading.blank_lines == "skip"
    # Up to version 17 a row `\\.` ends CSV data, and what follows is lost without a word.
    quote_marker = reading.output.format == "csv" and reading.server_version < 18
    if not (reads or skip_blank or quote_marker):
        return None
    needles = None
    if dialect.same and not counted and not any(_by_type(reading, type_name) for type_name in layout.types):
        needles = _needles(reading, output)
    return Converter(
        dialect,
        output,
        layout,
        fields if reads else None,
        each,
        counts,
        skip_blank,
        reading.trailing_delimiter,
        quote_marker,
        needles,
        reading.trim,
    )


def _by_type(reading: Reading, type_name: str) -> bool:
    return number(reading, type_name) is not None or boolean(reading, type_name) is not None


def _needles(reading: Reading, output: Csv | Text) -> tuple[bytes, ...] | None:
    """Return bytes of which a row has some if a value is to be trimmed, or is another spelling of NULL."""
    found = []
    if reading.trim:
        found += [one for blank in _BLANKS for one in (blank + output.delimiter, output.delimiter + blank)]
    spellings = {reading.encode(text) for text in reading.nulls}
    if reading.quoted_nulls:
        return None  # a quote within a spelling may be escaped
    spellings.discard(output.null)
    return None if b"" in spellings else (*found, *spellings)


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
    if not dialect.same:
        return _foreign(reading, dialect, output, converts, nulls, counts)
    if not (converts or nulls or reading.trim):
        return None
    quote = reading.encode(reading.output.quote)

    def convert(raw: bytes) -> bytes:
        if reading.trim:
            given, raw = raw, raw.strip(b" \t")
            if raw != given:
                counts[Alteration.TRIMMED] += 1
        quoted = quote != b"" and quote in raw
        if not quoted and raw in nulls:
            counts[Alteration.NULL] += raw != output.null
            return output.null
        if not converts and not (quoted and reading.quoted_nulls):
            return raw
        value = dialect.cell(raw).value
        if value is None:
            return raw
        if value in nulls and reading.quoted_nulls:
            counts[Alteration.NULL] += 1
            return output.null
        made = _converted(value, converts, counts)
        return raw if made is value else output.write(made)

    return convert


def _foreign(
    reading: Reading,
    dialect: Dialect,
    output: Csv | Text,
    converts: list[tuple[Convert, Alteration]],
    nulls: frozenset[bytes],
    counts: Counter[Alteration],
) -> Field:
    """The same for a dialect that COPY does not read."""

    def convert(raw: bytes) -> bytes:
        if reading.trim:
            given, raw = raw, raw.strip(b" \t")
            if raw != given:
                counts[Alteration.TRIMMED] += 1
        value, quoted = dialect.cell(raw)
        if value is None:
            return output.null
        if value in nulls and (reading.quoted_nulls or not quoted):
            counts[Alteration.NULL] += 1
            return output.null
        return output.write(_converted(value, converts, counts))

    return convert


def _converted(value: bytes, converts: list[tuple[Convert, Alteration]], counts: Counter[Alteration]) -> bytes:
    for one, kind in converts:
        made = one(value)
        if made is not value:
            counts[kind] += 1
            value = made
    return value
