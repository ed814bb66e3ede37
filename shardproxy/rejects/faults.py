"""What can be seen to be wrong with a row without a server, in PostgreSQL's words. Sans-IO."""

from array import array
from collections.abc import Callable, Sequence
from functools import partial

from shardproxy.copy.options import CopyOptions
from shardproxy.native import ROW_ENCODING, ROW_EXTRA, ROW_MISSING, ROW_REFUSED, ROW_UNTERMINATED, check_rows
from shardproxy.rejects.reject import Rows
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, CHARACTER_NOT_IN_REPERTOIRE

Fault = tuple[int, int, int, str | None, str | None]
Look = Callable[[bytes, int], tuple["array[int]", "array[int]", list[Fault]]]
"""check_rows for one COPY: it takes rows and the newline that they should have, 0 for the first one's."""


def looking(options: CopyOptions, version: int, fields: int, *, utf8: bool = False) -> Look:
    """Return check_rows for a COPY."""
    check = partial(check_rows, format=options.format, server_version=version, utf8=utf8)
    if options.format != "binary":
        check = partial(check, delimiter=_marker(options.delimiter))
    if options.format == "csv":
        check = partial(check, quote=_marker(options.quote), escape=_marker(options.escape))

    def look(data: bytes, newline: int) -> tuple["array[int]", "array[int]", list[Fault]]:
        return check(data, fields, newline=newline)

    return look


def _marker(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def fault_words(
    fault: int, at: int, message: str | None, rows: Rows, number: int, names: Sequence[str], options: CopyOptions
) -> tuple[str, str]:
    """Say in PostgreSQL's words what check_rows has found."""
    if fault == ROW_ENCODING:
        return CHARACTER_NOT_IN_REPERTOIRE, f'invalid byte sequence for encoding "UTF8": {_bad_bytes(rows.data, at)}'
    if fault == ROW_UNTERMINATED:
        return BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field"
    if fault == ROW_REFUSED:
        return BAD_COPY_FILE_FORMAT, message or "the row does not end as the others do"
    if options.format == "binary":
        return BAD_COPY_FILE_FORMAT, f"row field count is {at}, expected {len(names)}"
    if fault == ROW_EXTRA:
        return BAD_COPY_FILE_FORMAT, "extra data after last expected column"
    assert fault == ROW_MISSING
    return BAD_COPY_FILE_FORMAT, f'missing data for column "{names[at]}"'


def _bad_bytes(data: bytes, at: int) -> str:
    """Name bytes as report_invalid_encoding() in src/backend/utils/mb/mbutils.c."""
    first = data[at]
    length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4 if first < 0xF8 else 1
    return " ".join(f"0x{byte:02x}" for byte in data[at : at + length])
