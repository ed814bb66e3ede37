"""What stands around the rows of COPY's binary format: "Binary Format" under COPY in the PostgreSQL manual. Sans-IO."""

from typing import Final

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"

HEADER: Final = SIGNATURE + bytes(8)
"""The signature, no flags, no header extension."""

TRAILER: Final = b"\xff\xff"
"""A field count of -1."""
