"""The rows of a source as a file of the loader: chunks in COPY's text format, in UTF-8."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Fault, Form, Place
from shardproxy.loader.input.columns import Layout, layout
from shardproxy.loader.input.dialect import copy_dialect
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.files import File
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.loader.source.batch import Result, Row
from shardproxy.loader.source.values import Refused
from shardproxy.native import copy_text
from shardproxy.sqlstate import DATATYPE_MISMATCH

Convert = Callable[[Sequence[Any], str], Sequence[Any]]
"""Makes of the values of a column, and pg_type.typname of the target's, what `copy_text` takes, or Refused."""

_UNFIT: Final = (TypeError, ValueError, AttributeError, ArithmeticError)


def rows_file(
    name: str,
    result: Result,
    convert: Convert,
    reading: Reading,
    target: Sequence[Column] | None,
    altered: Alterations,
) -> File:
    """Return the file; its lines are the numbers of the rows. Raises InputError for columns that do not fit."""
    try:
        laid = layout(list(result.names), reading, target)
    except PgError as error:
        result.close()
        raise InputError(error.sqlstate, error.message, file=name, hint=error.hint) from error
    header = copy_text([tuple(laid.columns or ())])
    return File(name, laid.columns, reading.output, _chunks(name, result, convert, laid, reading, altered), header)


def _chunks(
    name: str, result: Result, convert: Convert, laid: Layout, reading: Reading, altered: Alterations
) -> Iterator[Chunk]:
    form = Form(name, copy_dialect(reading.output, str.encode).row, b"\n", csv=False, numbered=True)
    kept = range(len(result.names)) if laid.kept is None else laid.kept
    row = offset = 0
    try:
        for batch in result.batches:
            columns = list(zip(*batch, strict=True))
            made = [
                _converted(form, convert, columns[at], result.names[at], target, row)
                for at, target in zip(kept, laid.types, strict=True)
            ]
            made += [[value] * len(batch) for value in laid.constants]
            for kind in laid.left_out:
                altered.add(kind, len(batch))
            altered.add(Alteration.CONSTANT, len(laid.constants) * len(batch))
            for rows, refused in _runs(made):
                data = copy_text(rows)
                fault = None if refused is None else _fault(form, refused, row + len(rows), offset + len(data))
                faults = () if fault is None else (replace(fault, before=len(rows)),)
                yield Chunk(form, data, len(rows), row, row + 1, offset, faults)
                row += len(rows) + len(faults)
                offset += len(data) + sum(len(one.original) for one in faults)
    finally:
        result.close()


def _runs(columns: list[Sequence[Any]]) -> Iterator[tuple[list[Row], Row | None]]:
    """Give the rows up to one that has a value which is refused, and that one; at the end None."""
    rows: list[Row] = list(zip(*columns, strict=True))
    if Refused in {kind for column in columns for kind in set(map(type, column))}:
        begin = 0
        for number, row in enumerate(rows):
            if Refused in set(map(type, row)):
                yield rows[begin:number], row
                begin = number + 1
        rows = rows[begin:]
    yield rows, None


def _fault(form: Form, row: Row, number: int, offset: int) -> Fault:
    """Return a row that is set aside here; `number` is that of the row, from 0."""
    first = next(value for value in row if isinstance(value, Refused))
    original = copy_text([tuple(value.value if isinstance(value, Refused) else value for value in row)])
    error = InputError(first.sqlstate, first.message, file=form.file, line=number + 1, offset=offset)
    return Fault(0, error, Place(form.file, number + 1, number + 1, offset), original)


def _converted(
    form: Form, convert: Convert, values: Sequence[Any], column: str, target: str, row: int
) -> Sequence[Any]:
    try:
        return convert(values, target)
    except _UNFIT as error:
        line = _first(convert, values, target, row)
        raise InputError(DATATYPE_MISMATCH, f'column "{column}": {error}', file=form.file, line=line) from error


def _first(convert: Convert, values: Sequence[Any], target: str, row: int) -> int | None:
    """The number of the first row whose value cannot be converted."""
    for number, value in enumerate(values, row + 1):
        try:
            convert([value], target)
        except _UNFIT:
            return number
    return None
