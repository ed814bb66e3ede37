"""A SQLite file: `sqlite:shop.db`, by the standard library.

Text is read as the bytes that it is, whatever the column is declared as: SQLite keeps any type in any column.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from shardproxy.loader.input.errors import InputError
from shardproxy.loader.source.batch import ROWS, Result, Row
from shardproxy.loader.source.values import MOMENTS, Refused, column
from shardproxy.sqlstate import DATETIME_FIELD_OVERFLOW, IO_ERROR, SYNTAX_ERROR, UNDEFINED_FILE

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JULIAN_EPOCH: Final = 210_866_760_000_000
"""Milliseconds from the beginning of Julian days to 1970."""
_A_DAY: Final = 86_400_000
MILLISECONDS: Final = 10**11
"""From here on an integer is milliseconds: as seconds it would be after the year 5138."""


def convert(values: Sequence[Any], target: str) -> Sequence[Any]:
    """See `rows.Convert`; numbers in a column of dates are dates as SQLite's own functions take them."""
    if target in MOMENTS and not {int, float}.isdisjoint(map(type, values)):
        values = [moment(value, target) for value in values]
    return column(values, target)


def moment(value: Any, target: str) -> Any:
    """Return a date or time: seconds or milliseconds since 1970, or a real, which is a Julian day; text is as it is."""
    match value:
        case int():
            since = value if abs(value) >= MILLISECONDS else value * 1000
        case float() if isfinite(value):
            since = int(value * _A_DAY + 0.5) - _JULIAN_EPOCH  # as SQLite does (date.c, setRawDateNumber)
        case _:
            return value
    try:
        found = _EPOCH + timedelta(milliseconds=since % _A_DAY if target in {"time", "timetz"} else since)
    except OverflowError:
        return Refused(value, DATETIME_FIELD_OVERFLOW, f"{value!r} is out of range for type {target}")
    day, time = found.isoformat(" ").split(" ")
    return {"date": day, "time": time, "timetz": time}.get(target, f"{day} {time}")


def table_sql(name: str) -> str:
    """Return the query for all rows of a table, by its name as it is."""
    return 'SELECT * FROM "' + name.replace('"', '""') + '"'


def read(address: str, query: str) -> Result:
    """Run a query of a file. Raises InputError for a file or a query that is none."""
    path = address.partition(":")[2]
    if not Path(path).is_file():
        raise InputError(UNDEFINED_FILE, f'file "{path}" does not exist', file=address)
    try:
        # The loader reads in a thread, and closes in whatever thread it ends in.
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise InputError(IO_ERROR, f'could not open "{path}": {error}', file=address) from error
    connection.text_factory = bytes
    try:
        cursor = connection.execute(query)
        names = [str(one[0]) for one in cursor.description or ()]
    except (sqlite3.Error, sqlite3.Warning) as error:
        connection.close()
        raise InputError(SYNTAX_ERROR, f"SQLite refuses the query: {error}", file=address) from error
    return Result(names, _batches(cursor, address), connection.close)


def _batches(cursor: sqlite3.Cursor, address: str) -> Iterator[Sequence[Row]]:
    try:
        while rows := cursor.fetchmany(ROWS):
            yield rows
    except sqlite3.Error as error:
        raise InputError(IO_ERROR, f"SQLite could not read any further: {error}", file=address) from error
