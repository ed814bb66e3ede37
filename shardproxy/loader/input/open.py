"""From the names of a command line to open byte streams: files, globs, `-`, FIFOs, and URLs by fsspec.

Names are found out at once, so that a misspelled one fails a load before its first row. A FIFO or URL is opened
when its turn comes.
"""

import glob
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.remote import RemoteFile, told
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, IO_ERROR, UNDEFINED_FILE

STANDARD_INPUT: Final = "-"

PIECE: Final = 1 << 20
"""Bytes of one read. Larger ones are no faster from the page cache; a FIFO gives at most 64 KiB anyway."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input. `path` is that of a regular file, which alone can be read in several places at once."""

    name: str
    path: str | None
    _open: Callable[[], BinaryIO] = field(repr=False)

    def open(self) -> BinaryIO:
        """Open it for reading, unbuffered where the system allows."""
        try:
            return self._open()
        except OSError as error:
            raise InputError.from_os(IO_ERROR, error, self.name) from error


def sources(names: Iterable[str]) -> list[Source]:
    """Return the inputs in the order of the names; a glob's matches are sorted, as a shell sorts them in locale C.

    A name that is a file is that file, whatever characters it has. Raises InputError for a missing file, a
    directory, a glob without a match, and a standard input named twice.
    """
    found: list[Source] = []
    for name in names:
        found += _remote(name) if "://" in name else _local(name)
    if sum(1 for source in found if source.name == STANDARD_INPUT) > 1:
        raise InputError(INVALID_PARAMETER_VALUE, "standard input is named more than once", file=STANDARD_INPUT)
    return found


def size_of(names: Iterable[str]) -> int | None:
    """Return how many bytes the inputs have; None where that is not known, as of a FIFO or a URL."""
    found = [source.path for source in sources(name for name in names if "://" not in name)]
    if any("://" in name for name in names) or None in found:
        return None
    return sum(os.path.getsize(path) for path in found if path is not None)


def pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Read to the end, closing the stream then or when the iteration is given up. No piece is empty."""
    with closing(stream):
        while True:
            try:
                piece = stream.read(PIECE)
            except OSError as error:
                raise InputError.from_os(IO_ERROR, error, name) from error
            if not piece:
                return
            yield piece


def give_up(stream: Iterator[Any]) -> None:
    """Close what the pieces come from now: an error that refers to them may live for long."""
    if isinstance(stream, Generator):
        stream.close()


def _local(name: str) -> list[Source]:
    if name == STANDARD_INPUT:
        return [Source(name, None, _standard_input)]
    if not os.path.lexists(name) and glob.has_magic(name):
        matches = sorted(match for match in glob.glob(name, recursive=True) if not os.path.isdir(match))
        if not matches:
            raise InputError(UNDEFINED_FILE, f'no file matches "{name}"', file=name)
        return [_file(match) for match in matches]
    return [_file(name)]


def _file(name: str) -> Source:
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError as error:
        raise InputError(UNDEFINED_FILE, f'file "{name}" does not exist', file=name) from error
    except OSError as error:
        raise InputError.from_os(IO_ERROR, error, name) from error
    if stat.S_ISDIR(mode):
        hint = f"Name its files, for instance by {os.path.join(name, '*')!r}."
        raise InputError(IO_ERROR, f'"{name}" is a directory', file=name, hint=hint)
    return Source(name, name if stat.S_ISREG(mode) else None, lambda: open(name, "rb", buffering=0))


def _standard_input() -> BinaryIO:
    return open(os.dup(0), "rb", buffering=0)


def _remote(name: str) -> list[Source]:
    try:
        import fsspec
    except ImportError as error:
        raise InputError(
            FEATURE_NOT_SUPPORTED,
            f'"{name}" needs the package fsspec',
            file=name,
            hint="Install it by: pip install 'shardproxy[remote]'",
        ) from error
    scheme = name.partition("://")[0]
    try:
        files, path = fsspec.url_to_fs(name)
        paths = sorted(files.glob(path)) if glob.has_magic(path) and scheme not in {"http", "https"} else [path]
        missing = [one for one in paths if scheme not in {"http", "https"} and not files.exists(one)]
    except (ImportError, ValueError, OSError) as error:
        # fsspec names the package of a file system that is not installed, and the schemes that it knows.
        raise InputError(IO_ERROR, f'could not read "{name}": {error}', file=name) from error
    if not paths:
        raise InputError(UNDEFINED_FILE, f'no file matches "{name}"', file=name)
    if missing:
        raise InputError(UNDEFINED_FILE, f'file "{name}" does not exist', file=name)

    def opener(one: str) -> Callable[[], BinaryIO]:
        def opened() -> Any:
            with told():
                return RemoteFile(files.open(one, "rb"))

        return opened

    return [Source(name if one == path else files.unstrip_protocol(one), None, opener(one)) for one in paths]
