"""A client that costs nothing: blocking sockets, prebuilt streams, no look at a row.

`Client` speaks the protocol with a PostgreSQL or the proxy; `through` and `out_of` only move bytes, for the relay.
"""

import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

from benchmarks.processes import MeasurementError
from benchmarks.rows import Stream

HOST = "127.0.0.1"
WRITE = 256 * 1024
"""Bytes per send. Large, so that the relay's reads are full: a baseline of small reads would be a slow one."""

READ = 1024 * 1024
READY = b"Z\0\0\0\5"
END_OF_COPY = re.compile(rb"c\0\0\0\x04C\0\0\0.([^\0]*)\0Z\0\0\0\x05.\Z", re.DOTALL)
"""CopyDone, CommandComplete, ReadyForQuery."""

TIMEOUT = 120.0  # seconds without any progress; a stalled benchmark must end


def connect(port: int) -> socket.socket:
    """Connect to a program of the benchmark's."""
    connection = socket.create_connection((HOST, port), timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, block: bytes, times: int, write: int = WRITE) -> None:
    """Send a block `times` times, `write` bytes at a time."""
    view = memoryview(block)
    for _ in range(times):
        for at in range(0, len(view), write):
            connection.sendall(view[at : at + write])


class Client:
    """One session. Any ErrorResponse ends the benchmark: there is then nothing to measure."""

    def __init__(self, port: int, database: str, user: str = "postgres") -> None:
        self._socket = connect(port)
        startup = f"user\0{user}\0database\0{database}\0\0".encode()
        self._socket.sendall(struct.pack(">II", len(startup) + 8, 196608) + startup)
        self._buffered = b""
        self._until(b"Z")

    def _message(self) -> tuple[bytes, bytes]:
        while len(self._buffered) < 5 or len(self._buffered) < 1 + struct.unpack_from(">I", self._buffered, 1)[0]:
            data = self._socket.recv(READ)
            if not data:
                raise MeasurementError("the server closed the connection")
            self._buffered += data
        end = 1 + struct.unpack_from(">I", self._buffered, 1)[0]
        message = self._buffered[:1], self._buffered[5:end]
        self._buffered = self._buffered[end:]
        return message

    def _until(self, wanted: bytes) -> str:
        """Read up to a message of type `wanted`; return the last command tag on the way."""
        tag = ""
        while True:
            kind, payload = self._message()
            if kind == b"E":
                raise MeasurementError("; ".join(part.decode() for part in payload.split(b"\0") if part))
            if kind == b"C":
                tag = payload.rstrip(b"\0").decode()
            if kind == wanted:
                return tag

    def _query(self, sql: str) -> None:
        text = sql.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack(">I", len(text) + 4) + text)

    def run(self, sql: str) -> str:
        """Run a statement and return its tag."""
        self._query(sql)
        return self._until(b"Z")

    def begin_copy_in(self, sql: str) -> None:
        """Start COPY FROM STDIN."""
        self._query(sql)
        self._until(b"G")

    def copy_in(self, stream: Stream, times: int, write: int = WRITE) -> int:
        """Send the stream, and return the rows, which must be all that were sent."""
        send(self._socket, stream.head, 1)
        send(self._socket, stream.block, times, write)
        self._socket.sendall(stream.tail + b"c\0\0\0\4")
        return self._rows(self._until(b"Z"), stream.rows * times)

    def copy_out(self, sql: str, expected: int, after_first: Callable[[], None] | None = None) -> int:
        """Run COPY TO STDOUT of `expected` rows, drop them, and return the bytes of their CopyData messages.

        `after_first` is called once the first rows are there, while it is not read.
        """
        self._query(sql)
        self._until(b"H")
        scratch = memoryview(bytearray(READ))
        tail, total = self._buffered, len(self._buffered)
        # Rows are printable and lengths small, so nothing but ReadyForQuery itself looks like it.
        while tail[-6:-1] != READY:
            count = self._socket.recv_into(scratch)
            if count == 0:
                raise MeasurementError("the server closed the connection")
            total += count
            tail = (tail + bytes(scratch[max(0, count - 64) : count]))[-64:]
            if after_first is not None:
                after_first()
                after_first = None
        ends = END_OF_COPY.search(tail)
        if ends is None:
            raise MeasurementError(f"COPY TO ended by {tail!r}")
        self._rows(ends[1].decode(), expected)
        self._buffered = b""
        return total - len(ends[0])

    @staticmethod
    def _rows(tag: str, expected: int) -> int:
        if tag != f"COPY {expected}":
            raise MeasurementError(f"sent {expected} rows, the tag is {tag!r}")
        return expected

    def close(self) -> None:
        """Leave."""
        self._socket.sendall(b"X\0\0\0\4")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def through(port: int, stream: Stream, times: int, write: int = WRITE) -> None:
    """Send the stream's bytes through the relay; what the sinks have counted must be what was sent."""
    with connect(port) as connection:
        send(connection, stream.block, times, write)
        connection.shutdown(socket.SHUT_WR)
        counts = b""
        while data := connection.recv(READ):
            counts += data
    if sum(map(int, counts.split())) != len(stream.block) * times:
        raise MeasurementError(f"the relay passed {counts!r} of {len(stream.block) * times} bytes")


def out_of(port: int) -> int:
    """Read all that the relay gives; return the bytes."""
    scratch = memoryview(bytearray(READ))
    total = 0
    with connect(port) as connection:
        while count := connection.recv_into(scratch):
            total += count
    return total


class Background:
    """A call in a thread of its own; its exception, or its end, is met at `wait`."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Wait for its end and raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
