"""The options of a load: one model for the command line, the load file and the library.

`shardproxy load --skip-footer 2` is `skip_footer = 2` in a load file and `skip_footer=2` in Python. What is wrong with
one value is found here, what excludes each other in `reading_of` and `Reading`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shardproxy.config.problems import did_you_mean
from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.loader.input.reading import LONGEST_ROW, Reading
from shardproxy.rejects.limits import RejectLimit
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

MIB = 2**20

NEWEST: Final = 18
"""The server's major version, for what does not depend on it."""

_MISSING: Final = {"table": "no table is named"}

_OF_FILES = frozenset(
    {
        *("format", "header", "delimiter", "quote", "escape", "null", "default", "encoding", "force_null"),
        *("force_not_null", "columns", "quoted_nulls", "skip", "skip_footer", "comment", "blank_lines", "trim"),
        *("trailing_delimiter", "byte_order_mark", "sep_line", "date_order", "decimal", "thousands", "true", "false"),
        *("nul", "widths", "compression", "import_id"),
    }
)
"""What a source has no use for; `import_id` needs units that can be told apart, which one query has not."""

Strings = tuple[str, ...]


class LoadOptions(BaseModel):
    """All of them, each with its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # What, and where to.
    files: Annotated[Strings, Field(description="names, globs, `-` for standard input, URLs")] = ()
    source: Annotated[
        str | None, Field(description="another database instead: postgresql://…, sqlite:FILE, python:MODULE:FUNCTION")
    ] = None
    query: Annotated[str | None, Field(description="SQL of the source, whose rows are loaded")] = None
    source_table: Annotated[
        str | None,
        Field(description="the source's table, if there is no query and it has another name than the target"),
    ] = None
    table: Annotated[str, Field(description="the table, as in SQL: shop.orders")]
    to: Annotated[str | None, Field(description="a DSN of any PostgreSQL")] = None
    config: Annotated[Path | None, Field(description="the proxy's configuration, instead of a DSN")] = None
    database: Annotated[str | None, Field(description="the database of the configuration, if it has several")] = None

    # COPY's own.
    format: Annotated[
        Literal["csv", "text", "binary", "tsv", "mysql", "fixed", "parquet", "arrow"],
        Field(description="COPY's csv, text or binary; tsv is text; mysql: its OUTFILE; fixed: by `widths`"),
    ] = "csv"
    header: Annotated[
        Literal["none", "names", "skip", "match"],
        Field(description="the first row names the columns; is skipped; must be the columns in their order"),
    ] = "none"
    delimiter: Annotated[str | None, Field(description="between fields")] = None
    quote: Annotated[str | None, Field(description="around fields")] = None
    escape: Annotated[str | None, Field(description="before a quote inside quotes")] = None
    null: Annotated[Strings, Field(description="spellings of NULL; may be given several times")] = ()
    default: Annotated[str | None, Field(description="a marker for the column's default")] = None
    encoding: Annotated[str | None, Field(description="PostgreSQL's name, or utf-16, utf-32")] = None
    force_null: Annotated[Strings, Field(description="columns where a quoted NULL marker is NULL; * for all")] = ()
    force_not_null: Annotated[Strings, Field(description="columns where no marker is NULL; * for all")] = ()

    # How files are read.
    columns: Annotated[Strings, Field(description="the columns of the fields, without a header")] = ()
    map: Annotated[dict[str, str], Field(description="FILE_COLUMN=TABLE_COLUMN")] = {}
    constant: Annotated[dict[str, str], Field(description="COLUMN=VALUE for a column that the file lacks")] = {}
    extra_columns: Annotated[Literal["error", "ignore"], Field(description="columns that the table lacks")] = "error"
    quoted_nulls: Annotated[bool, Field(description="NULL spellings count inside quotes, too")] = False
    skip: Annotated[int, Field(ge=0, description="lines at the start of each file, before the header")] = 0
    skip_footer: Annotated[int, Field(ge=0, description="rows at the end of each file")] = 0
    limit: Annotated[int | None, Field(ge=0, description="rows of all files together")] = None
    comment: Annotated[str | None, Field(description="what a line that is no row begins with")] = None
    blank_lines: Annotated[Literal["keep", "skip"], Field(description="an empty line is a row, or is none")] = "keep"
    trailing_delimiter: Annotated[bool, Field(description="rows end with a delimiter")] = False
    byte_order_mark: Annotated[Literal["drop", "keep"], Field(description="at the start of a file")] = "drop"
    sep_line: Annotated[Literal["use", "data"], Field(description="Excel's sep=; in the first line")] = "use"
    trim: Annotated[bool, Field(description="drop blanks around values outside quotes")] = False
    date_order: Annotated[Literal["DMY", "MDY", "YMD"] | None, Field(description="as in DateStyle")] = None
    decimal: Annotated[str, Field(description="the decimal mark of numbers")] = "."
    thousands: Annotated[str, Field(description="the mark between groups of three digits")] = ""
    true: Annotated[Strings, Field(description="spellings of true beside PostgreSQL's own")] = ()
    false: Annotated[Strings, Field(description="spellings of false")] = ()
    nul: Annotated[Literal["error", "strip", "replace"], Field(description="NUL bytes")] = "error"
    widths: Annotated[tuple[int, ...], Field(description="of the fields, in characters, for format fixed")] = ()
    compression: Annotated[
        Literal["auto", "none", "gzip", "bzip2", "xz", "zstd", "zip"], Field(description="auto: by the first bytes")
    ] = "auto"
    max_row_bytes: Annotated[int, Field(ge=1, le=LONGEST_ROW, description="of the longest row")] = LONGEST_ROW

    # Rows that are bad, or there already.
    on_error: Annotated[
        Literal["stop", "resume_next"], Field(description="a bad row ends the load, or is set aside")
    ] = "resume_next"
    reject_dir: Annotated[Path, Field(description="where rows are set aside")] = Path("rejects")
    reject_table: Annotated[
        str | None, Field(description="a table that gets them, too, in the same transaction; see copy.md")
    ] = None
    reject_limit: Annotated[str, Field(description='bad rows that are too many: "1000", "5%", "" for any')] = ""
    on_conflict: Annotated[
        Literal["error", "skip", "update"], Field(description="a row whose key is there: bad, left out, or it replaces")
    ] = "error"
    conflict_key: Annotated[
        str | None, Field(description="the unique constraint that update goes by, if not the primary key")
    ] = None
    batch_rows: Annotated[int, Field(ge=1, description="rows under one savepoint, at first")] = 25000
    batch_size: Annotated[int, Field(ge=1, description="bytes under one savepoint, at most")] = 16 * MIB

    # Around the load.
    before: Annotated[Strings, Field(description="SQL before the rows, in the same transaction")] = ()
    after: Annotated[Strings, Field(description="SQL after them")] = ()
    truncate: Annotated[bool, Field(description="empty the table first, in the same transaction")] = False
    disable_triggers: Annotated[bool, Field(description="without the table's triggers; needs their owner")] = False
    drop_indexes: Annotated[bool, Field(description="without the table's indexes, which are made again at the end")] = (
        False
    )
    max_parallel_create_index: Annotated[int, Field(ge=1, description="indexes made at once, on each server")] = 2
    analyze: Annotated[bool, Field(description="ANALYZE the table at the end")] = True
    check: Annotated[bool, Field(description="everything but the commit, rejects included")] = False
    dry_run: Annotated[bool, Field(description="say what would be done, and touch nothing")] = False
    concurrency: Annotated[
        int, Field(ge=1, le=64, description="writers of the table; they commit together, in two phases")
    ] = 1
    prefetch: Annotated[int, Field(ge=1, description="bytes read ahead of what is sent")] = 8 * MIB
    set: Annotated[dict[str, str], Field(description="NAME=VALUE: settings of the session")] = {}

    # A load that can be repeated.
    import_id: Annotated[
        str | None, Field(min_length=1, description="a name by which a repeated load leaves out what is stored")
    ] = None
    journal_keep: Annotated[
        int, Field(ge=1, le=36500, description="days until the journal forgets a file that no load names")
    ] = 30

    @model_validator(mode="after")
    def _whole(self) -> "LoadOptions":
        if (self.to is None) == (self.config is None):
            raise ValueError("a load goes to a DSN (`to`) or to a database of a configuration (`config`)")
        if self.database is not None and self.config is None:
            raise ValueError("`database` is one of a configuration: give `config`, too")
        self._check_source()
        if self.conflict_key is not None and self.on_conflict != "update":
            raise ValueError("`conflict_key` is for on_conflict = update")
        if self.import_id is not None and self.limit is not None:
            raise ValueError(
                "`limit` and `import_id` exclude each other: the rows over the limit would never be loaded"
            )
        if self.drop_indexes and self.on_conflict != "error":
            raise ValueError("`drop_indexes` leaves no key for on_conflict to go by")
        RejectLimit.parse(self.reject_limit)
        return self

    def _check_source(self) -> None:
        if self.source is None:
            if self.query is not None or self.source_table is not None:
                raise ValueError("`query` and `source_table` are about a `source`")
            if not self.files:
                raise ValueError("no file is named, and no source")
            return
        if self.files:
            raise ValueError("rows come from files or from a `source`")
        if self.query is not None and self.source_table is not None:
            raise ValueError("`query` and `source_table` exclude each other")
        if wrong := sorted(_OF_FILES & self.model_fields_set):
            raise ValueError(f"`{wrong[0]}` is about files, and not about a `source`")


def options_of(given: Mapping[str, Any]) -> LoadOptions:
    """Make options; PgError (22023) that names the first wrong one, and what was meant perhaps."""
    known = LoadOptions.model_fields
    for name in given:
        if name not in known:
            raise PgError(
                INVALID_PARAMETER_VALUE, f'load has no option "{name}"', hint=did_you_mean(name, known) or None
            )
    try:
        made = LoadOptions.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            name, message = "", _MISSING[name]
        raise PgError(INVALID_PARAMETER_VALUE, f"{name}: {message}" if name else message) from None
    reading_of(made, NEWEST)
    return made


def reading_of(options: LoadOptions, version: int) -> Reading:
    """Return how files are read, for a server of this major version. Raises PgError where options exclude others."""
    if options.source is not None:
        return Reading(
            CopyOptions.read("from", [("format", "text")]),
            by_name=True,
            map=options.map,
            constants=options.constant,
            extra_columns=options.extra_columns,
            limit=options.limit,
            max_row_bytes=options.max_row_bytes,
            server_version=version,
        )
    layout = options.format if options.format in {"mysql", "fixed", "parquet", "arrow"} else "copy"
    columnar = layout in {"parquet", "arrow"}
    form = {"tsv": "text", "fixed": "text", "mysql": "csv", "parquet": "csv", "arrow": "csv"}.get(
        options.format, options.format
    )
    copy: dict[str, Any] = {"format": form, "delimiter": options.delimiter, "quote": options.quote}
    copy |= {"escape": options.escape, "default": options.default, "encoding": options.encoding}
    if options.format == "mysql":
        defaults = {"delimiter": "\t", "quote": '"', "escape": "\\"}
        copy |= {name: copy[name] or value for name, value in defaults.items()}
    copy["header"] = {"skip": "true", "match": "match"}.get(options.header)
    copy["null"] = options.null[0] if options.null else None
    copy["force_null"] = options.force_null or None
    copy["force_not_null"] = options.force_not_null or None
    given = {name: value for name, value in copy.items() if value is not None}
    return Reading(
        copy=_copy_options(given),
        layout=layout,
        widths=options.widths,
        by_name=options.header == "names" or columnar,
        map=options.map,
        constants=options.constant,
        extra_columns=options.extra_columns,
        columns=options.columns or None,
        nulls=options.null,
        quoted_nulls=options.quoted_nulls,
        skip=options.skip,
        skip_footer=options.skip_footer,
        limit=options.limit,
        comment=options.comment,
        blank_lines=options.blank_lines,
        trailing_delimiter=options.trailing_delimiter,
        byte_order_mark=options.byte_order_mark,
        sep_line=options.sep_line,
        trim=options.trim,
        date_order=options.date_order,
        decimal=options.decimal,
        thousands=options.thousands,
        true=options.true,
        false=options.false,
        nul=options.nul,
        max_row_bytes=options.max_row_bytes,
        compression=options.compression,
        server_version=version,
    )


def _copy_options(given: dict[str, Any]) -> CopyOptions:
    """COPY's options. Raises PgError that names those that it does not take."""
    made = CopyOptions.read("from", given.items())
    if made.opaque:
        # Each of them without which the others are right.
        wrong = [
            name
            for name in given
            if name != "format"
            and not CopyOptions.read("from", [pair for pair in given.items() if pair[0] != name]).opaque
        ]
        named = f": {', '.join(wrong)}" if wrong else ""
        raise PgError(INVALID_PARAMETER_VALUE, f"COPY with format {made.format} does not take these options{named}")
    return made
