"""Compressed inputs, told by their first bytes: gzip, bzip2, xz, zstd, and zip with several entries.

The name of a file is not looked at: a .gz that holds plain text is plain text. gzip is read by isal where that is
installed, else by zlib. Concatenated members are one input. Bytes after the last member are counted and ignored, as
gzip(1) does ("decompression OK, trailing garbage ignored"); a member that ends early is an error with its offset.
"""

import bz2
import io
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, Final, Protocol

from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.open import PIECE, Source, pieces
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, FEATURE_NOT_SUPPORTED, IO_ERROR

ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""A local file header, and the end of the central directory, which an empty archive begins with."""

_LONGEST_MAGIC: Final = 10  # bytes
_SPOOLED: Final = 8 << 20
"""Bytes of a zip file from a stream that are kept in memory: its directory stands at its end, so it has to be kept."""


class _Decompressor(Protocol):
    """One member, as bz2 and lzma have it: at most `max_length` bytes out, the rest of the input kept inside."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Zlib:
    """zlib's object under the same interface."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)  # gzip alone

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstandard:
    """zstandard's object under the same interface.

    It has no limit for what comes out, so little goes in at once: a block of 128 KiB may be as short as four bytes.
    """

    INPUT: Final = 512  # bytes, and so at most 16 MiB out

    def __init__(self, zstandard: Any) -> None:
        self._error: type[Exception] = zstandard.ZstdError
        self._inner: Any = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._input = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._input

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        given = memoryview(self._input + data if self._input else data)
        out, length, at = [], 0, 0
        while at < len(given) and length < max_length and not self._inner.eof:
            try:
                out.append(self._inner.decompress(given[at : at + self.INPUT]))
            except self._error as error:
                raise ValueError(str(error)) from error
            length += len(out[-1])
            at += self.INPUT
        self._input = bytes(given[at:])
        return b"".join(out)


def _gzip() -> _Decompressor:
    try:
        from isal import igzip_lib
    except ImportError:
        return _Zlib()
    made: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return made


def _zstd() -> _Decompressor:
    try:
        import zstandard
    except ImportError as error:
        hint = "Install it by: pip install 'shardproxy[load]'"
        raise PgError(FEATURE_NOT_SUPPORTED, "zstd needs the package zstandard", hint=hint) from error
    return _Zstandard(zstandard)


@dataclass(frozen=True, slots=True)
class Compression:
    """A way of compressing: the first bytes of each member, and what reads one."""

    name: str
    magics: tuple[bytes, ...]
    member: Callable[[], _Decompressor]

    def begins(self, data: bytes) -> bool:
        """Whether a member begins here."""
        return data.startswith(self.magics)


COMPRESSIONS: Final = (
    Compression("gzip", (b"\x1f\x8b\x08",), _gzip),
    Compression(
        "bzip2",
        # Each block size, then the magic of a block or of the end.
        tuple(b"BZh%d" % size + next_ for size in range(1, 10) for next_ in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")),
        bz2.BZ2Decompressor,
    ),
    Compression("xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    Compression(
        "zstd",
        (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + skippable, 0x2A, 0x4D, 0x18)) for skippable in range(16))),
        _zstd,
    ),
)


def entries(source: Source, altered: Alterations, compression: str = "auto") -> Iterator[tuple[str, Iterator[bytes]]]:
    """Open an input; give each file in it (several in a zip) as its name and its decompressed pieces.

    The pieces of one entry must have been read, or given up, before the next is asked for. `compression` is "auto",
    "none", or the name of the one that the input must have.
    """
    stream = source.open()
    with closing(stream):
        first = b""
        while compression != "none" and len(first) < _LONGEST_MAGIC and (more := _read(stream, source.name)):
            first += more
        if compression in {"auto", "zip"} and first.startswith(ZIP):
            yield from _zip_entries(source, stream, first)
            return
        raw = _after(first, stream, source.name, altered)
        for one in COMPRESSIONS:
            if compression in {"auto", one.name} and one.begins(first):
                yield source.name, _decompressed(one, raw, source.name, altered)
                return
        if compression not in {"auto", "none"}:
            raise InputError(BAD_COPY_FILE_FORMAT, f"the input is not compressed by {compression}", file=source.name)
        yield source.name, raw


def compressed(source: Source) -> bool:
    """Whether an input begins as a compressed one does."""
    with closing(source.open()) as stream:
        first = _read(stream, source.name)
    return first.startswith(ZIP) or any(one.begins(first) for one in COMPRESSIONS)


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(PIECE)
    except OSError as error:
        raise InputError.from_os(IO_ERROR, error, name) from error


def _after(first: bytes, stream: BinaryIO, name: str, altered: Alterations) -> Iterator[bytes]:
    for piece in chain([first] if first else [], pieces(stream, name)):
        altered.bytes_read += len(piece)
        yield piece


def _decompressed(one: Compression, raw: Iterator[bytes], name: str, altered: Alterations) -> Iterator[bytes]:
    """Read member after member. Raises InputError with the offset of the compressed data."""
    consumed = 0  # of the compressed bytes, by the members before
    data = b""
    while True:
        try:
            member = one.member()
        except PgError as error:
            raise InputError(error.sqlstate, error.message, file=name, hint=error.hint) from error
        given = 0  # to this member
        while not member.eof:
            if member.needs_input and not data:
                data = next(raw, b"")
                if not data:
                    raise InputError(
                        BAD_COPY_FILE_FORMAT,
                        f"the {one.name} data end before their end, at byte {consumed + given}",
                        file=name,
                        offset=consumed + given,
                    )
            given += len(data)
            try:
                piece = member.decompress(data, PIECE)
            except _errors(one) as error:
                at = consumed + given - len(data)
                raise InputError(
                    BAD_COPY_FILE_FORMAT,
                    f"the {one.name} data are corrupt after byte {at}: {error}",
                    file=name,
                    offset=at,
                ) from error
            data = b""
            if piece:
                yield piece
        data = member.unused_data
        consumed += given - len(data)
        while len(data) < _LONGEST_MAGIC and (more := next(raw, b"")):
            data += more
        if not one.begins(data):
            break
    ignored, zeros = len(data), not data.strip(b"\0")
    for more in raw:
        ignored += len(more)
        zeros = zeros and not more.strip(b"\0")
    if not zeros:  # those are padding, of a tape or of xz
        note = f"{name}: {ignored} bytes after the {one.name} data ignored, from byte {consumed}"
        altered.add(Alteration.TRAILING_GARBAGE, ignored, note)


def _errors(one: Compression) -> tuple[type[Exception], ...]:
    """What corrupt data raise; the packages that are no part of Python are not loaded for it."""
    errors: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error)
    if one.name == "gzip":
        try:
            from isal.igzip_lib import IsalError
        except ImportError:
            return errors
        return (*errors, IsalError)
    return errors


def _zip_entries(source: Source, stream: BinaryIO, first: bytes) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file of an archive, in its order. One that cannot be sought is first copied to a temporary file."""
    if source.path is not None:
        archive: Any = io.BufferedReader(stream)
        archive.seek(0)
    else:
        archive = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115 -- closed below
        archive.write(first)
        for piece in pieces(stream, source.name):
            archive.write(piece)
    with closing(archive):
        try:
            opened = zipfile.ZipFile(archive)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(BAD_COPY_FILE_FORMAT, f"the zip file is corrupt: {error}", file=source.name) from error
        for entry in opened.infolist():
            if not entry.is_dir():
                name = f"{source.name}!{entry.filename}"
                yield name, _zip_pieces(opened, entry, name)


def _zip_pieces(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
    try:
        with opened.open(entry) as stream:
            while piece := stream.read(PIECE):
                yield piece
    except NotImplementedError as error:
        raise InputError(FEATURE_NOT_SUPPORTED, f"the zip entry cannot be read: {error}", file=name) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
        # RuntimeError: it is encrypted.
        raise InputError(BAD_COPY_FILE_FORMAT, f"the zip entry cannot be read: {error}", file=name) from error
