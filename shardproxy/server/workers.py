"""Several processes behind one port: the parent listens and watches, the workers accept and serve.

The parent makes the listening socket and starts each worker with it; the kernel spreads the clients. A worker that
dies is started again. Each has its configuration from the parent (`Instructions`), as the file may be another by then
than the one in force.

A CancelRequest arrives at any worker. Its process ID names the worker whose session is meant (`Workplace.first_pid`),
and it is passed on there by a datagram socket in a directory that only this user can enter.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shardproxy.server.instructions import packed
from shardproxy.session.cancel import NUMBERS

log = logging.getLogger(__name__)

ENVIRONMENT = "SHARDPROXY_WORKER"
"""Tells a worker what it is: number, listening descriptor, directory."""

RESTART_DELAY = 1.0
"""Seconds before a dead worker is replaced, so that one that cannot start does not spin."""

SECRET = "secret"
"""The file in the workers' directory that holds their common secret."""

_cancel = struct.Struct("!i")


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a worker has been given."""

    number: int
    listening: int
    directory: Path

    @classmethod
    def given(cls) -> "Workplace | None":
        """Return this process's own, None if it is no worker."""
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            return None
        number, listening, directory = text.split(":", 2)
        return cls(int(number), int(listening), Path(directory))

    @property
    def first_pid(self) -> int:
        """Where this worker's session numbers begin."""
        return self.number * NUMBERS

    def secret(self) -> bytes:
        """Return what all workers know and nobody else does."""
        return (self.directory / SECRET).read_bytes()

    def socket(self) -> socket.socket:
        """Return the listening socket."""
        return socket.socket(fileno=self.listening)

    def take_cancels(self, cancel: Callable[[int, bytes], None]) -> None:
        """Take the CancelRequests that other workers pass on."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        path = self._address(self.number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        receiver.bind(path)

        def receive() -> None:
            packet = receiver.recv(1024)
            if len(packet) > _cancel.size:
                cancel(_cancel.unpack_from(packet)[0], packet[_cancel.size :])

        asyncio.get_running_loop().add_reader(receiver, receive)

    def pass_on(self, pid: int, key: bytes) -> None:
        """Pass a CancelRequest to the worker whose session it means; nobody is told if there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(_cancel.pack(pid) + key, self._address(pid // NUMBERS))
            except OSError as error:
                log.debug("a cancel request for no worker: %s", error)

    def _address(self, number: int) -> str:
        return str(self.directory / f"cancel{number}")


class Parent:
    """The process that watches over the workers."""

    def __init__(self, path: Path, text: str, count: int, host: str, port: int, backlog: int) -> None:
        """`text` is the configuration; `path` is where it was read, for messages."""
        self._path = path
        self._first = self._text = text
        self._count = count
        self._failed = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=backlog)
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Where the workers listen."""
        name = self._listening.getsockname()
        return name[0], name[1]

    async def run(self, ready: Callable[[], None]) -> int:
        """Start the workers, call `ready` when all accept clients, watch them until `stop`; return the exit code."""
        with tempfile.TemporaryDirectory(prefix="shardproxy-") as directory:
            (Path(directory) / SECRET).write_bytes(secrets.token_bytes(32))
            try:
                started = [asyncio.Event() for _ in range(self._count)]
                watchers = [
                    asyncio.ensure_future(self._watch(number, directory, started[number]))
                    for number in range(self._count)
                ]
                for event in started:
                    await event.wait()
                if not self._stopping.is_set():
                    ready()
                await asyncio.gather(*watchers)
            finally:
                self._listening.close()
        return 1 if self._failed else 0

    def configure(self, text: str) -> None:
        """Have all workers, those to come included, use this configuration from now on."""
        self._text = text
        for child in self._children.values():
            _tell(child, text)

    def stop(self) -> None:
        """Have all workers drain and end."""
        self._stopping.set()
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()

    async def _watch(self, number: int, directory: str, started: asyncio.Event) -> None:
        while not self._stopping.is_set():
            environment = os.environ | {ENVIRONMENT: f"{number}:{self._listening.fileno()}:{directory}"}
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shardproxy", "serve", "-c", str(self._path)),
                env=environment,
                pass_fds=(self._listening.fileno(),),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            _tell(child, self._first)
            _tell(child, self._text)
            self._children[number] = child
            if self._stopping.is_set():
                child.terminate()
            assert child.stdout is not None
            if await child.stdout.readline():
                started.set()
            code = await child.wait()
            del self._children[number]
            if self._stopping.is_set():
                break
            if started.is_set():
                log.error("worker %d ended with code %d; it is started again", number, code)
                await asyncio.sleep(RESTART_DELAY)
            else:
                # What keeps the first one from starting keeps the next from it, too.
                log.error("worker %d ended with code %d before it accepted clients", number, code)
                self._failed = True
                self.stop()
        started.set()


def _tell(child: asyncio.subprocess.Process, text: str) -> None:
    assert child.stdin is not None
    if not child.stdin.is_closing():
        child.stdin.write(packed(text))
