"""The options of reading: COPY's own by their names, and what the loader adds to them.

They are checked together here, and tell what is left to COPY: `Reading.copy` without a header, whatever the files
have, and `Reading.settings` for the session. So what PostgreSQL can do itself (one NULL spelling, the order of a
date's parts, an encoding that it knows) costs nothing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from shardproxy.copy.encoding import python_codec, splits_bytewise
from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.errors import PgError
from shardproxy.loader.input.dialect import Csv, Dialect, Fixed, MySql, Text, copy_dialect
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

LONGEST_ROW: Final = 0x3FFFFFFE
"""Bytes of the longest row that a server takes (MaxAllocSize - 1 of utils/memutils.h)."""

CHUNK: Final = 1 << 20
"""Bytes about which a chunk has: far below a batch, so that batches of any size are made of whole chunks and parts."""

NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8", "money"})
"""The types, by pg_type.typname, whose values `decimal` and `thousands` are about."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the target, from its catalog. `type` is pg_type.typname, of a domain its base type's."""

    name: str
    type: str = "text"
    generated: bool = False


@dataclass(frozen=True)
class Reading:
    """How inputs are read. Raises PgError (22023) where two options exclude each other.

    copy: what the rows are, in COPY's own terms. Its `header` "true" skips each file's first row, "match" also
        compares it with the columns.
    layout: "copy" is COPY's own format; "mysql" and "fixed" become COPY text, "parquet" and "arrow" CSV.
    by_name: the first row of each file names the columns, so that files may differ in their order.
    map: names in the header to names of columns; constants: values of columns that no file has (None is NULL).
    extra_columns: what a column is that the header names and the table does not have.
    columns: the columns in the order of the fields, where no header names them.
    nulls: spellings of NULL; without any it is COPY's. `quoted_nulls`: inside quotes, too.
    skip: lines at the start of each file, before the header; skip_footer: rows at its end.
    limit: rows of all files together.
    comment: how a line begins that is none; only at the first byte of a row.
    sep_line: Excel's `sep=;` in the first line sets the delimiter, unless it is "data".
    trim: blanks and tabs around values outside quotes are dropped.
    date_order: as DateStyle has it: DMY, MDY or YMD.
    true, false: spellings of booleans beside PostgreSQL's own, in any case.
    nul: NUL bytes are an error of the server, dropped, or replaced by `nul_replacement`.
    encoding is in `copy`; beside PostgreSQL's names it may be utf-16, utf-16le, utf-16be, utf-32….
    """

    copy: CopyOptions
    layout: Literal["copy", "mysql", "fixed", "parquet", "arrow"] = "copy"
    widths: tuple[int, ...] = ()
    by_name: bool = False
    map: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str | None] = field(default_factory=dict)
    extra_columns: Literal["error", "ignore"] = "error"
    columns: tuple[str, ...] | None = None
    nulls: tuple[str, ...] = ()
    quoted_nulls: bool = False
    skip: int = 0
    skip_footer: int = 0
    limit: int | None = None
    comment: str | None = None
    blank_lines: Literal["keep", "skip"] = "keep"
    trailing_delimiter: bool = False
    byte_order_mark: Literal["drop", "keep"] = "drop"
    sep_line: Literal["use", "data"] = "use"
    trim: bool = False
    date_order: Literal["DMY", "MDY", "YMD"] | None = None
    decimal: str = "."
    thousands: str = ""
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    nul: Literal["error", "strip", "replace"] = "error"
    nul_replacement: str = "\N{REPLACEMENT CHARACTER}"
    max_row_bytes: int = LONGEST_ROW
    compression: str = "auto"
    server_version: int = 18

    def __post_init__(self) -> None:
        for wrong, message in self._excluded():
            if wrong:
                raise PgError(INVALID_PARAMETER_VALUE, message)

    def _excluded(self) -> list[tuple[bool, str]]:
        binary = self.copy.format == "binary"
        spellings = [spelling.lower() for spelling in self.true + self.false]
        converts = self.by_name or self.reads_values or self.drops_rows or bool(self.skip_footer)
        return [
            (self.copy.opaque, "the COPY options contradict each other"),
            (binary and (converts or self.layout != "copy" or self.skip > 0), "binary rows are loaded as they are"),
            (self.copy.default is not None and self.reads_values, "DEFAULT cannot be combined with conversions"),
            (self.layout == "fixed" and not (self.widths and min(self.widths) > 0), "fixed width rows need widths"),
            (self.layout != "copy" and self.by_name and self.layout == "fixed", "fixed width rows have no header"),
            (self.layout == "mysql" and self.copy.format != "csv", "MySQL's rows are read with the options of CSV"),
            (self.layout == "mysql" and not self.copy.escape, "MySQL's rows need an escape character"),
            (
                self.columnar
                and (self.drops_rows or bool(self.skip or self.skip_footer) or self._converts or not self.by_name),
                f"{self.layout} files have typed columns by name: options for text do not apply to them",
            ),
            (bool(self.map) and not self.by_name, "a map needs a header that names the columns"),
            (self.by_name and self.copy.header != "none", "the header is either skipped or names the columns"),
            (min(self.skip, self.skip_footer, self.limit or 0) < 0, "a number of rows is not negative"),
            (not 0 < self.max_row_bytes <= LONGEST_ROW, f"max_row_bytes is between 1 and {LONGEST_ROW}"),
            (len(self.decimal) != 1 or len(self.thousands) > 1, "a decimal or thousands mark is one character"),
            (self.decimal == self.thousands, "the decimal mark cannot be the thousands mark"),
            (len(set(spellings)) < len(spellings), "a spelling is either true or false"),
            (self.comment == "" or (self.comment or "").startswith(("\r", "\n")), "a comment begins with a character"),
            (any("\r" in text or "\n" in text for text in self.nulls), "a NULL spelling is within one line"),
        ]

    @property
    def _converts(self) -> bool:
        """Whether values may be changed, but for constants."""
        return bool(self.true or self.false or self.trim or self.nulls or self.thousands) or self.decimal != "."

    @property
    def transcoded(self) -> bool:
        """Whether Python decodes the input, as its rows cannot be told by their bytes: UTF-16, UTF-32, SJIS…."""
        encoding = self.copy.encoding
        return encoding is not None and (self.wide is not None or not splits_bytewise(encoding))

    @property
    def wide(self) -> str | None:
        """The Python codec of UTF-16 or UTF-32, which PostgreSQL does not know."""
        name = (self.copy.encoding or "").lower().replace("-", "").replace("_", "")
        return _WIDE.get(name)

    @property
    def codec(self) -> str | None:
        """Python's codec for the bytes that the rows are in here; None where it has none."""
        if self.transcoded or self.copy.encoding is None:
            return "utf-8"
        return python_codec(self.copy.encoding)

    def encode(self, text: str) -> bytes:
        """The bytes of an option's text in the data's encoding. Raises PgError where it has none."""
        if text.isascii():
            return text.encode()
        try:
            return text.encode(self.codec or "ascii")
        except UnicodeEncodeError as error:
            message = f'"{text}" has no equivalent in encoding "{self.copy.encoding}"'
            raise PgError(INVALID_PARAMETER_VALUE, message) from error

    @property
    def reads_values(self) -> bool:
        """Whether any field's value may have to be looked at, whatever the columns are."""
        return (
            self.layout in {"mysql", "fixed"}
            or bool(self.constants or self.true or self.false or self.trim or self.trailing_delimiter)
            or self.decimal != "."
            or bool(self.thousands)
            or len(self.nulls) > 1
        )

    @property
    def columnar(self) -> bool:
        """Whether inputs have columns, with names and types, and no lines."""
        return self.layout in {"parquet", "arrow"}

    @property
    def drops_rows(self) -> bool:
        """Whether rows between the first and the last may be left out."""
        return self.comment is not None or self.blank_lines == "skip"

    @property
    def settings(self) -> dict[str, str]:
        """What the session of the load has to SET."""
        return {} if self.date_order is None else {"DateStyle": f"ISO, {self.date_order}"}

    @cached_property
    def output(self) -> CopyOptions:
        """The COPY that takes the chunks, before the delimiter of a file's `sep=` line.

        Its FORCE_NULL is STAR where a NULL spelling counts inside quotes: before version 17, all columns by name.
        """
        if self.columnar:
            return CopyOptions("from", format="csv", quote='"', escape='"', delimiter=",", null="", encoding="UTF8")
        if self.layout != "copy":
            return CopyOptions("from", encoding="UTF8" if self.transcoded else self.copy.encoding)
        copy = replace(self.copy, header="none")
        if self.transcoded:
            copy = replace(copy, encoding="UTF8")
        if self.nulls:
            copy = replace(copy, null=self.nulls[0])
        if self.quoted_nulls and copy.format == "csv" and not self.reads_values:
            copy = replace(copy, force_null=STAR)
        return copy

    def dialect(self, delimiter: str) -> Dialect:
        """How the rows of a file are read, with the delimiter that holds for it."""
        if self.layout == "fixed":
            return Fixed(self.widths, self.codec)
        if self.layout == "mysql":
            return MySql(*(self.encode(text) for text in (delimiter, self.copy.quote, self.copy.escape)))
        return copy_dialect(replace(self.output, delimiter=delimiter), self.encode)

    def written(self, delimiter: str) -> Csv | Text:
        """How they are written for `output`."""
        output = self.output if self.layout != "copy" else replace(self.output, delimiter=delimiter)
        return copy_dialect(output, self.encode)


_WIDE: Final = {
    "utf16": "utf-16",
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    "utf32": "utf-32",
    "utf32le": "utf-32-le",
    "utf32be": "utf-32-be",
    "ucs2": "utf-16",
}
