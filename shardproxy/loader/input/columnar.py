"""Parquet and Arrow files as rows for COPY: CSV, written by Arrow itself, batch by batch.

Every value that is not NULL is quoted, so that NULL and '' stay apart. What Arrow's CSV has no form for (bytes, lists,
structs, durations) is written as PostgreSQL reads it. A row's line is its number in the file, and its bytes, for the
file of rejects, are those of the CSV.
"""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Form
from shardproxy.loader.input.columns import Layout, layout
from shardproxy.loader.input.dialect import copy_dialect
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.open import Source
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.rows.literals import array, bytea, interval, json_text
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, FEATURE_NOT_SUPPORTED

ROWS: Final = 1 << 14
"""Rows of one batch: some megabytes."""

SPOOLED: Final = 32 << 20
"""Bytes of an input that cannot be sought which are kept in memory; more go to a temporary file."""

ARROW_FILE: Final = b"ARROW1"


def columnar_file(
    source: Source, reading: Reading, target: Sequence[Column] | None, altered: Alterations
) -> "tuple[tuple[str, ...] | None, bytes, Iterator[Chunk]]":
    """Return COPY's columns, a CSV header for the file of rejects, and the chunks. Raises InputError."""
    arrow = _arrow(source.name)
    stack = ExitStack()
    try:
        schema, batches = _opened(arrow, source, reading, stack)
        laid = layout(list(schema.names), reading, target)
        chunks = _chunks(arrow, source.name, batches, laid, reading.output, schema, altered, stack)
        header = ",".join('"' + name.replace('"', '""') + '"' for name in laid.columns or ())
        return laid.columns, header.encode() + b"\n", chunks
    except PgError as error:
        stack.close()
        raise InputError(error.sqlstate, error.message, file=source.name, hint=error.hint) from error
    except (arrow.ArrowException, OSError) as error:
        stack.close()
        raise _corrupt(source.name, error) from error


def _arrow(name: str) -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        hint = "Install it by: pip install 'shardproxy[parquet]'"
        raise InputError(FEATURE_NOT_SUPPORTED, f'"{name}" needs the package pyarrow', file=name, hint=hint) from error
    return pyarrow


def _corrupt(name: str, error: Exception) -> InputError:
    return InputError(BAD_COPY_FILE_FORMAT, f"the file cannot be read: {error}", file=name)


def _opened(arrow: Any, source: Source, reading: Reading, stack: ExitStack) -> tuple[Any, Iterator[Any]]:
    """Return the schema and the record batches."""
    file: Any = stack.enter_context(source.open())
    if not file.seekable():
        spooled = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOLED))  # noqa: SIM115 -- the stack does
        shutil.copyfileobj(file, spooled)
        spooled.seek(0)
        file = spooled
    elif isinstance(file, io.RawIOBase):
        file = stack.enter_context(io.BufferedReader(file))
    if reading.layout == "parquet":
        opened = arrow.parquet.ParquetFile(file)
        return opened.schema_arrow, opened.iter_batches(batch_size=ROWS)
    first = file.read(len(ARROW_FILE))
    file.seek(0)
    if first != ARROW_FILE:
        stream = arrow.ipc.open_stream(file)
        return stream.schema, iter(stream)
    reader = arrow.ipc.open_file(file)
    return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _chunks(
    arrow: Any,
    name: str,
    batches: Iterator[Any],
    laid: Layout,
    output: CopyOptions,
    schema: Any,
    altered: Alterations,
    stack: ExitStack,
) -> Iterator[Chunk]:
    kept = range(len(schema.names)) if laid.kept is None else laid.kept
    types = [schema.field(number).type for number in kept]
    writers = [_writer(arrow, kind, target) for kind, target in zip(types, laid.types, strict=True)]
    for number, kind in zip(kept, types, strict=True):
        if arrow.types.is_temporal(kind) and getattr(kind, "unit", "") == "ns":
            altered.add(
                Alteration.NANOSECONDS, note=f"{name}: PostgreSQL rounds {schema.names[number]} to microseconds"
            )
    options = arrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    form = Form(name, copy_dialect(output, str.encode).row, b"\n", numbered=True)
    row = offset = 0
    with stack:
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                for part in (batch.slice(at, ROWS) for at in range(0, batch.num_rows, ROWS)):
                    arrays = [write(part.column(number)) for number, write in zip(kept, writers, strict=True)]
                    arrays += [arrow.array([_text(value)] * part.num_rows, arrow.string()) for value in laid.constants]
                    written = io.BytesIO()
                    columns = arrow.table(arrays, [str(number) for number in range(len(arrays))])
                    arrow.csv.write_csv(columns, written, options)
                    data = written.getvalue()
                    for kind in laid.left_out:
                        altered.add(kind, part.num_rows)
                    altered.add(Alteration.CONSTANT, len(laid.constants) * part.num_rows)
                    yield Chunk(form, data, part.num_rows, row, row + 1, offset)
                    row += part.num_rows
                    offset += len(data)
            except (arrow.ArrowException, OSError, ValueError, TypeError) as error:
                raise _corrupt(name, error) from error


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _writer(arrow: Any, kind: Any, target: str) -> Callable[[Any], Any]:
    """Return what makes a column into one that Arrow's CSV has a form for."""
    types = arrow.types
    if types.is_dictionary(kind):
        return lambda column: _writer(arrow, kind.value_type, target)(column.dictionary_decode())
    is_bytes = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    if any(one(kind) for one in is_bytes):
        return lambda column: _made(arrow, column, bytea if target == "bytea" else bytes.decode)
    if types.is_string_view(kind):
        return lambda column: column.cast(arrow.string())
    if types.is_duration(kind):
        return lambda column: _made(arrow, column.cast(arrow.duration("us"), safe=False), interval)
    if types.is_nested(kind):
        plain = target in {"json", "jsonb"} or not (types.is_list(kind) or types.is_large_list(kind))
        return lambda column: _made(arrow, column, json_text if plain else array)
    return lambda column: column


def _made(arrow: Any, column: Any, write: Callable[[Any], str]) -> Any:
    texts = [None if value is None else write(value) for value in column.to_pylist()]
    return arrow.array(texts, arrow.string())
