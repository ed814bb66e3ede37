"""A shard that accepts and discards: stands in front of a real PostgreSQL and keeps the bulk data from it.

Everything passes in both directions but the data of COPY. `COPY ... FROM STDIN` (simple query) is answered here:
its CopyData are counted and dropped, and the tag tells the rows counted. `COPY ... TO STDOUT` sends prebuilt rows,
one a CopyData, in writes of a chosen size. So the proxy meets a server that is never the bottleneck, and the
figures hold the proxy's work only.

For the relay there are two more ports: one that counts and drops bytes in the same way, one that sends the same
rows. `python -m benchmarks.discard --help`; prints `ready: SHARD_PORT SINK_PORT SOURCE_PORT`.
"""

import argparse
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy

from benchmarks.feed import HOST, READ, connect, send
from benchmarks.rows import BINARY_ROW, stream
from benchmarks.splitter import BINARY_HEADER
from shardproxy.wire import encode
from shardproxy.wire.framing import FrameReader

COPY_IN = re.compile(rb"\s*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
COPY_OUT = re.compile(rb"\s*copy\b.*\bto\s+stdout\b", re.IGNORECASE | re.DOTALL)
BINARY = re.compile(rb"\bbinary\b", re.IGNORECASE)
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
COLUMNS = 5
SEPARATOR = b"\n;\n"
"""Between the statements that the proxy sends in one Query."""
READY_SIZE = len(encode.ready_for_query(b"I"))
NEWLINE = 10


@dataclass(frozen=True)
class Options:
    """What a discarding shard does."""

    backend: int
    out_rows: bytes
    out_blocks: int
    out_write: int
    out_count: int


class Counter:
    """Counts the rows of COPY data that come in pieces, as cheaply as can be."""

    def __init__(self, binary: bool) -> None:
        self._binary = binary
        self._lines = 0
        self._bytes = 0

    def add(self, data: memoryview) -> None:
        self._bytes += len(data)
        if not self._binary:
            self._lines += lines_in(data)

    def rows(self) -> int:
        if not self._binary:
            return self._lines
        rows, rest = divmod(self._bytes - len(BINARY_HEADER) - 2, BINARY_ROW)
        if rest:
            raise ValueError(f"{self._bytes} bytes are no whole binary rows")
        return rows


def lines_in(data: memoryview) -> int:
    """Count newlines with vector instructions; bytes.count looks at one byte at a time."""
    return int(numpy.count_nonzero(numpy.frombuffer(data, dtype=numpy.uint8) == NEWLINE))


class Inbox:
    """Bytes of a blocking socket, without a copy of what is only counted."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._view = memoryview(bytearray(READ))
        self._at = self._end = 0

    def _fill(self) -> None:
        self._at, self._end = 0, self._connection.recv_into(self._view)
        if not self._end:
            raise EOFError

    def piece(self, limit: int) -> memoryview:
        """Some bytes, at most `limit`; valid until the next call."""
        if self._at == self._end:
            self._fill()
        count = min(limit, self._end - self._at)
        self._at += count
        return self._view[self._at - count : self._at]

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.piece(count - len(data))
        return data


class Shard:
    """One connection of a client of the shard."""

    def __init__(self, client: socket.socket, options: Options) -> None:
        self._client = client
        self._options = options
        self._inbox = Inbox(client)
        self._server = connect(options.backend)
        self._server.settimeout(None)
        self._status = ord("I")
        self._hidden = False  # the next ReadyForQuery is not for the client
        self._owed = 1  # ReadyForQuery, the first one for the start-up
        self._answered = threading.Condition()

    def run(self) -> None:
        threading.Thread(target=self._answers, daemon=True).start()
        try:
            self._start_up()
            while True:
                kind, length = struct.unpack(">cI", self._inbox.exactly(5))
                payload = self._inbox.exactly(length - 4)
                first, separator, last = payload.rpartition(SEPARATOR)
                if kind == b"Q" and COPY_IN.match(last):
                    if not separator or self._runs(first + b"\0"):
                        self._copy_in(bool(BINARY.search(last)))
                elif kind == b"Q" and self._options.out_blocks and COPY_OUT.match(payload):
                    self._copy_out()
                else:
                    if kind in b"QSF":
                        with self._answered:
                            self._owed += 1
                    self._server.sendall(kind + struct.pack(">I", length) + payload)
        except (EOFError, ConnectionError):
            pass  # the client left
        finally:
            shut(self._server)

    def _runs(self, sql: bytes) -> bool:
        """Run what stands in front of COPY in its Query: one ReadyForQuery answers all."""
        self._turn()
        with self._answered:
            self._owed += 1
            self._hidden = True
        self._server.sendall(b"Q" + struct.pack(">I", len(sql) + 4) + sql)
        self._turn()
        if self._status == ord("E"):
            self._client.sendall(encode.ready_for_query(self._status))
        return self._status != ord("E")

    def _start_up(self) -> None:
        while True:
            length, code = struct.unpack(">II", self._inbox.exactly(8))
            payload = self._inbox.exactly(length - 8)
            if code in {SSL_REQUEST, GSSENC_REQUEST}:
                self._client.sendall(b"N")
                continue
            self._server.sendall(struct.pack(">II", length, code) + payload)
            if code == CANCEL_REQUEST:
                raise EOFError
            return

    def _answers(self) -> None:
        """Pass on what the server sends, and keep the transaction status for our own ReadyForQuery."""
        frames = FrameReader()
        try:
            while data := self._server.recv(READ):
                frames.feed(data)
                ready = 0
                while (message := frames.next()) is not None:
                    if message.type == ord("Z"):
                        ready += 1
                        self._status = message.payload[0]
                if ready and self._hidden:
                    data, self._hidden = data[:-READY_SIZE], False
                self._client.sendall(data)
                with self._answered:
                    self._owed -= ready
                    self._answered.notify_all()
        except ConnectionError:
            pass  # either side is gone; both are closed below
        shut(self._client)

    def _turn(self) -> None:
        """Wait until the server has answered all that came before."""
        with self._answered:
            self._answered.wait_for(lambda: self._owed == 0)

    def _copy_in(self, binary: bool) -> None:
        self._turn()
        self._client.sendall(encode.copy_in_response(int(binary), [int(binary)] * COLUMNS))
        counter = Counter(binary)
        while True:
            kind, length = struct.unpack(">cI", self._inbox.exactly(5))
            left = length - 4
            if kind == b"d":
                while left:
                    piece = self._inbox.piece(left)
                    left -= len(piece)
                    counter.add(piece)
                continue
            self._inbox.exactly(left)
            if kind == b"c":
                done = encode.command_complete(f"COPY {counter.rows()}")
                self._client.sendall(done + encode.ready_for_query(self._status))
                return
            if kind == b"f":
                fields = {"S": "ERROR", "V": "ERROR", "C": "57014", "M": "COPY from stdin failed"}
                failed = ord("E") if self._status == ord("T") else self._status
                self._client.sendall(encode.error_response(fields) + encode.ready_for_query(failed))
                return

    def _copy_out(self) -> None:
        self._turn()
        options = self._options
        self._client.sendall(encode.copy_out_response(0, [0] * COLUMNS))
        send(self._client, options.out_rows, options.out_blocks, options.out_write)
        done = encode.command_complete(f"COPY {options.out_count}")
        self._client.sendall(encode.COPY_DONE + done + encode.ready_for_query(self._status))


def sink(client: socket.socket, _: Options) -> None:
    """Count newlines as a shard does, so that the relay meets an equally quick reader; answer the bytes."""
    view = memoryview(bytearray(READ))
    total = 0
    while count := client.recv_into(view):
        total += count
        lines_in(view[:count])
    client.sendall(b"%d\n" % total)
    shut(client)


def source(client: socket.socket, options: Options) -> None:
    """Send what COPY TO would send, and no more."""
    send(client, options.out_rows, options.out_blocks, options.out_write)
    shut(client)


def shut(connection: socket.socket) -> None:
    """Close a socket that another thread may be reading."""
    with contextlib.suppress(OSError):  # the peer was first
        connection.shutdown(socket.SHUT_RDWR)


def listen(serve: Callable[[socket.socket, Options], None], options: Options) -> int:
    """Serve each connection of a new port in a thread of its own; return the port."""
    listener = socket.create_server((HOST, 0))

    def one(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(ConnectionError):  # who connects may leave, and reports why
            serve(client, options)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=one, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", type=int, required=True, help="port of the real PostgreSQL")
    parser.add_argument("--out-blocks", type=int, default=0, help="blocks that COPY TO sends; 0: ask the server")
    parser.add_argument("--out-write", type=int, default=65536, help="bytes per send of COPY TO")
    arguments = parser.parse_args()
    rows = stream("text", None) if arguments.out_blocks else None
    options = Options(
        backend=arguments.backend,
        out_rows=rows.block if rows else b"",
        out_blocks=arguments.out_blocks,
        out_write=arguments.out_write,
        out_count=rows.rows * arguments.out_blocks if rows else 0,
    )
    ports = [listen(lambda client, given: Shard(client, given).run(), options)]
    ports += [listen(sink, options), listen(source, options)]
    print("ready:", *ports, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
