"""What the parent sends a worker, on its standard input: texts of configurations, each after its length.

The first is that of the parent's start, whose [server] applies until the end; the second, and each further one, is the
configuration to use from then on. The worker never reads the file: it may have been edited since, without a SIGHUP so
far. The input ends when the parent does, since no other process has the other end of the pipe.
"""

import asyncio
import os
import struct
from collections.abc import Callable

from shardproxy.errors import ConnectionLost

STANDARD_INPUT = 0
CHUNK = 65536  # bytes asked for at a time

_length = struct.Struct("!I")


def packed(text: str) -> bytes:
    """Return a configuration as the bytes to send."""
    data = text.encode()
    return _length.pack(len(data)) + data


class Instructions:
    """The worker's end: the texts that arrive."""

    def __init__(self, descriptor: int = STANDARD_INPUT) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def wait(self) -> str:
        """Return the next text, blocking until it is there; ConnectionLost if the parent has ended."""
        while (text := self._next()) is None:
            if not self._receive():
                raise ConnectionLost("the parent process has ended")
        return text

    def watch(self, use: Callable[[str], None], orphaned: Callable[[], None]) -> None:
        """Call `use` with each text that arrives from now on, and `orphaned` when the parent has ended."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            if not self._receive():
                loop.remove_reader(self._descriptor)
                orphaned()
            while (text := self._next()) is not None:
                use(text)

        loop.add_reader(self._descriptor, readable)

    def _receive(self) -> bool:
        data = os.read(self._descriptor, CHUNK)
        self._buffer += data
        return bool(data)

    def _next(self) -> str | None:
        if len(self._buffer) < _length.size:
            return None
        end = _length.size + _length.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return None
        text = self._buffer[_length.size : end].decode()
        self._buffer = self._buffer[end:]
        return text
