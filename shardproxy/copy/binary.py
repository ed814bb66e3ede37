"""What stands around the rows of COPY's binary format: "Binary Format" under COPY in the PostgreSQL manual. Sans-IO."""

from typing import Final

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"

HEADER: Final = SIGNATURE + bytes(8)
"""The signature, no flags, no header extension."""

TRAILER: Final = b"\xff\xff"
"""A field count of -1."""

_FIXED: Final = len(SIGNATURE) + 4
"""Bytes before the length of the extension."""


def rows_of(data: bytes, *, header: bool, trailer: bool) -> bytes:
    """Return the rows of data that may begin with a header, whose extension has any length, and end with a trailer."""
    begin = _FIXED + 4 + int.from_bytes(data[_FIXED : _FIXED + 4], "big") if header else 0
    return data[begin : len(data) - len(TRAILER) if trailer else len(data)]
