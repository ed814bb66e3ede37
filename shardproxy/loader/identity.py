"""What the journal knows a file by: its path, its size, and a hash of its head and tail.

A file that has grown or was written anew is told from the one that was loaded without reading all of it; a change in
the middle of a large file that leaves its size as it was is not seen.
"""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.open import Source
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, IO_ERROR

END: Final = 1 << 16
"""Bytes of the head, and of the tail, that are hashed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A file as it is now. `path` is absolute, or a URL."""

    name: str
    path: str
    size: int
    digest: str


def identify(source: Source) -> Identity:
    """Look at an input. Raises InputError: 0A000 if it can be read only once, 58030 if it cannot be read."""
    remote = source.path is None and "://" in source.name
    if source.path is None and not remote:
        raise InputError(
            FEATURE_NOT_SUPPORTED,
            f'"{source.name}" cannot be loaded with an import id: standard input and a FIFO have no size or hash by '
            "which a repeated load would know them",
            file=source.name,
            hint="Write it to a file first.",
        )
    path = source.name if remote else os.path.abspath(source.name)
    try:
        with source.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            digest = hashlib.sha256(str(size).encode())
            for at in (0, max(size - END, END)):
                stream.seek(at)
                digest.update(_up_to(stream.read, END))
    except (OSError, ValueError) as error:  # ValueError: of a server that sends no ranges
        message = f'could not read the head and the tail of "{source.name}": {error}'
        raise InputError(IO_ERROR, message, file=source.name) from error
    return Identity(source.name, _text(path), size, digest.hexdigest())


def _up_to(read: Callable[[int], bytes | None], size: int) -> bytes:
    """Read so many bytes, or to the end: an unbuffered stream may give fewer at once."""
    parts: list[bytes] = []
    while size and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _text(path: str) -> str:
    """A name as PostgreSQL can hold it: bytes that are no characters are written as \\x.."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
