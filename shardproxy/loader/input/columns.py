"""Which column each field of a file is for.

A header that names the columns costs nothing where it has the table's columns alone, in whatever order: it becomes the
column list of the file's COPY. Only columns to leave out, and constants, are work for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, DUPLICATE_COLUMN, UNDEFINED_COLUMN


@dataclass(frozen=True, slots=True)
class Layout:
    """Of one file. `columns` are COPY's column list; None: COPY has none, so the fields are the table's columns.

    `width`: fields of a row, None where that is not known. `kept`: the fields that go on, None for all; `left_out`:
    the others, by the kind of alteration. `types` has pg_type.typname of each field kept, as far as it is known.
    `constants` follow the fields.
    """

    columns: tuple[str, ...] | None
    width: int | None
    kept: tuple[int, ...] | None
    left_out: tuple[Alteration, ...]
    types: tuple[str, ...]
    constants: tuple[bytes | None, ...]


def layout(names: Sequence[str] | None, reading: Reading, target: Sequence[Column] | None) -> Layout:
    """Lay out the fields of a file whose header has these names; None: it has none, or it is skipped.

    Raises PgError: a column that the table does not have (42703) or that two fields are for (42701), and a header
    that HEADER MATCH refuses (22P04).
    """
    known = None if target is None else {column.name: column for column in target}
    constants = {_resolve(name, known): value for name, value in reading.constants.items()}
    values = tuple(None if value is None else reading.encode(value) for value in constants.values())
    if names is None or not reading.by_name:
        columns = reading.columns
        if columns is None and target is not None:
            columns = tuple(one.name for one in target if not one.generated and one.name not in constants)
        if columns is None and constants:
            raise PgError(UNDEFINED_COLUMN, "constants need the names of the columns")
        if names is not None and reading.copy.header == "match" and columns is not None:
            _match(names, columns)
        told = reading.columns is not None or bool(constants)
        return Layout(
            (*columns, *constants) if columns is not None and told else None,
            None if columns is None else len(columns),
            None,
            (),
            tuple(_type(name, known) for name in columns or ()),
            values,
        )
    unknown = [name for name in reading.map if name not in names]
    if unknown:
        raise PgError(UNDEFINED_COLUMN, f'the header has no column "{unknown[0]}"', hint=_nearest(unknown[0], names))
    kept: list[int] = []
    columns_kept: list[str] = []
    left_out: list[Alteration] = []
    for number, name in enumerate(names):
        column = _find(reading.map.get(name, name), known)
        if column is None:
            if reading.extra_columns == "error" or name in reading.map:
                hint = _nearest(name, known or ()) or "Map it to a column, or ignore extra columns."
                if not name and number == len(names) - 1:
                    hint = "The header ends with a delimiter. If the rows do, too, set trailing_delimiter."
                raise PgError(UNDEFINED_COLUMN, f'the table has no column "{reading.map.get(name, name)}"', hint=hint)
            left_out.append(Alteration.EXTRA_COLUMN)
        elif known is not None and known[column].generated:
            left_out.append(Alteration.GENERATED_COLUMN)
        elif column in columns_kept or column in constants:
            raise PgError(DUPLICATE_COLUMN, f'column "{column}" is given more than once')
        else:
            kept.append(number)
            columns_kept.append(column)
    return Layout(
        (*columns_kept, *constants),
        len(names),
        tuple(kept) if left_out else None,
        tuple(left_out),
        tuple(_type(name, known) for name in columns_kept),
        values,
    )


def _type(name: str, known: dict[str, Column] | None) -> str:
    column = None if known is None else known.get(name)
    return "" if column is None else column.type


def _find(name: str, known: dict[str, Column] | None) -> str | None:
    """The column of a name in a header: spelled alike, or else the only one but for the case and blanks around it."""
    if known is None or name in known:
        return name
    folded = name.strip().casefold()
    found = [one for one in known if one.casefold() == folded]
    return found[0] if len(found) == 1 else None


def _resolve(name: str, known: dict[str, Column] | None) -> str:
    found = _find(name, known)
    if found is None:
        raise PgError(UNDEFINED_COLUMN, f'the table has no column "{name}"', hint=_nearest(name, known or ()))
    return found


def _nearest(name: str, names: "Sequence[str] | dict[str, Column]") -> str | None:
    near = get_close_matches(name, list(names), 1)
    return f'Perhaps you meant "{near[0]}".' if near else None


def _match(names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse what HEADER MATCH does, in its words (NextCopyFromRawFieldsInternal)."""
    if len(names) != len(columns):
        message = f"wrong number of fields in header line: got {len(names)}, expected {len(columns)}"
        raise PgError(BAD_COPY_FILE_FORMAT, message)
    for number, (name, column) in enumerate(zip(names, columns, strict=True), 1):
        if name != column:
            message = f'column name mismatch in header line field {number}: got "{name}", expected "{column}"'
            raise PgError(BAD_COPY_FILE_FORMAT, message)
