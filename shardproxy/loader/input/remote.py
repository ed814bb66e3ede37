"""A file of a URL: what its file system raises is told as the operating system would tell it."""

import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise OSError for whatever a file system of fsspec raises, with an HTTP status in words."""
    try:
        yield
    except Exception as error:
        # fsspec calls whatever an HTTP server refuses a file that is not there, because of an error with its status.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
        status = getattr(cause, "status", None)
        if status is not None:
            raise OSError(f"{status} {getattr(cause, 'message', '')}".strip()) from error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        raise OSError(f"{type(cause).__name__}: {cause}") from error


class RemoteFile(io.RawIOBase):
    """An open one."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read anywhere, as a zip has to be."""
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See io.RawIOBase."""
        with told():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self._stream.tell()

    def read(self, size: int = -1, /) -> bytes:
        """See io.RawIOBase."""
        with told():
            return self._stream.read(size)

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            self._stream.close()
        super().close()
