"""The baseline: a relay on asyncio and uvloop that does nothing but move bytes, over the sockets that the proxy has.

For COPY: one client, several backends. What the client sends goes to the backends in turn, a chunk each; what they
send goes to the client. `python -m benchmarks.relay PORT...`

For statements: each client has one backend, the next port's, and all that either sends goes to the other.
`python -m benchmarks.relay --one PORT...`

Buffers, water marks and pausing are the proxy's.
"""

import argparse
import asyncio
import functools
import itertools
import socket
from typing import cast

import uvloop

HOST = "127.0.0.1"
SCRATCH = 256 * 1024
HIGH_WATER = 1024 * 1024
LOW_WATER = 256 * 1024


class End(asyncio.BufferedProtocol):
    """One socket of the relay."""

    def __init__(self, scratch: memoryview) -> None:
        self.scratch = scratch
        self.targets: list[End] = []
        self.open_sources = 0
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []  # what came before this end was connected
        self._behind: set[End] = set()
        self._turn = 0
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self.transport.writelines(self.early)
        if not self.open_sources:
            self.transport.write_eof()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.scratch

    def buffer_updated(self, nbytes: int) -> None:
        target = self.targets[self._turn]
        self._turn = (self._turn + 1) % len(self.targets)
        data = bytes(self.scratch[:nbytes])
        if target.transport is not None:
            target.transport.write(data)
        else:
            target.early.append(data)

    def eof_received(self) -> bool:
        if not self._ended:  # reading that is resumed meets the end again
            self._ended = True
            for target in self.targets:
                target.source_ended()
        return True

    def source_ended(self) -> None:
        self.open_sources -= 1
        if not self.open_sources and self.transport is not None:
            self.transport.write_eof()

    def pause_writing(self) -> None:
        # A target is the client of all backends, or a backend of the one client.
        for source in self.targets:
            source.target_behind(self)

    def resume_writing(self) -> None:
        for source in self.targets:
            source.target_caught_up(self)

    def target_behind(self, target: "End") -> None:
        if not self._behind and self.transport is not None:
            self.transport.pause_reading()
        self._behind.add(target)

    def target_caught_up(self, target: "End") -> None:
        self._behind.discard(target)
        if not self._behind and self.transport is not None:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        for target in self.targets:
            if exc is not None and target.transport is not None:
                target.transport.abort()


async def connected(client: socket.socket, scratch: memoryview, ports: list[int]) -> None:
    """Relay one client."""
    loop = asyncio.get_running_loop()
    end = End(scratch)
    end.targets, end.open_sources = [End(scratch) for _ in ports], len(ports)
    sockets = [client]
    for backend, port in zip(end.targets, ports, strict=True):
        backend.targets, backend.open_sources = [end], 1
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        await loop.sock_connect(sockets[-1], (HOST, port))
    for one, connection in zip([end, *end.targets], sockets, strict=True):
        await loop.connect_accepted_socket(functools.partial(_same, one), connection)


def _same(end: End) -> End:
    return end


async def serve(ports: list[int], one: bool) -> None:
    """Relay until the process is ended; with `one` each client to one port, else to all."""
    scratch = memoryview(bytearray(SCRATCH))
    loop = asyncio.get_running_loop()
    backends = itertools.cycle([[port] for port in ports] if one else [ports])
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        print(f"ready: {HOST}:{listener.getsockname()[1]}", flush=True)
        while True:
            client, _ = await loop.sock_accept(listener)
            await connected(client, scratch, next(backends))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", action="store_true", help="give each client one backend, the ports in turn")
    parser.add_argument("ports", type=int, nargs="+")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.ports, arguments.one))
