"""Several processes on one port: the parent listens and watches, the workers accept and serve.

The parent makes the listening socket and starts each worker with it; the kernel distributes the clients. A worker that
dies is started again. Workers get the configuration from the parent (`Instructions`), as the file may have been edited
since it was read.

A CancelRequest may arrive at any worker. Its process ID belongs to one worker's range (`Worker.first_pid`), to which
it is passed on (`Datagrams`).
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shardproxy.server.instructions import packed
from shardproxy.session.cancel import FIRST_PID, NUMBERS

log = logging.getLogger(__name__)

ENVIRONMENT = "SHARDPROXY_WORKER"
"""The variable that makes a process a worker: number, listening descriptor, directory."""

RESTART_DELAY = 1.0
"""Seconds before a dead worker is started again, so that one that cannot start does not spin."""

SECRET = "secret"
"""The file in the workers' directory that holds their common secret."""


@dataclass(frozen=True, slots=True)
class Worker:
    """This process as one of several workers: what it has from its parent."""

    number: int
    listening: int
    directory: Path

    @classmethod
    def from_environment(cls) -> "Worker | None":
        """Return that of this process, None if it is not a worker."""
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            return None
        number, listening, directory = text.split(":", 2)
        return cls(int(number), int(listening), Path(directory))

    @property
    def first_pid(self) -> int:
        """The first process ID of this worker's sessions."""
        return FIRST_PID + self.number * NUMBERS

    def secret(self) -> bytes:
        """Return the secret that only the workers share."""
        return (self.directory / SECRET).read_bytes()

    def socket(self) -> socket.socket:
        """Return the listening socket."""
        return socket.socket(fileno=self.listening)


class Parent:
    """The process that starts and watches the workers."""

    def __init__(self, path: Path, text: str, count: int, host: str, port: int, backlog: int) -> None:
        """`text` is the configuration; `path` is where it was read from, for messages."""
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
        """The address that the workers listen on."""
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
        """Have all workers, later ones too, use this configuration from now on."""
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
                log.error("worker %d exited with code %d; it is started again", number, code)
                await asyncio.sleep(RESTART_DELAY)
            else:
                # What keeps one from starting keeps the next from starting too.
                log.error("worker %d exited with code %d before it accepted clients", number, code)
                self._failed = True
                self.stop()
        started.set()


def _tell(child: asyncio.subprocess.Process, text: str) -> None:
    assert child.stdin is not None
    if not child.stdin.is_closing():
        child.stdin.write(packed(text))
