"""What the workers of one address tell each other: datagrams in a directory that only this user can enter.

A CancelRequest, and an order about a session, may arrive at any worker; the process ID tells which one has the session.
What each knows of tables has to be looked up again when a session of another has changed a definition.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from shardproxy.session.cancel import FIRST_PID, NUMBERS, CancelKeys, Ended, Order

log = logging.getLogger(__name__)

CANCEL: Final = b"c"
ORDER: Final = b"o"
ANSWER: Final = b"a"
DEFINED: Final = b"d"

PATIENCE: Final = 1.0
"""Seconds for another worker's answer; one that has none has died, and its sessions with it."""

LARGEST: Final = 4096
"""Bytes: an order's largest part is a user's name, which is shorter than a startup packet's share of it."""

_NAME: Final = "worker"
"""What the names of the workers' sockets begin with."""

_head = struct.Struct("!ciiq")
"""The kind, the process ID, the worker to answer, and the order's number there."""


class Datagrams:
    """One worker's socket."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._orders: set[asyncio.Task[None]] = set()

    def receive(self, keys: CancelKeys, defined: Callable[[str], None]) -> None:
        """Carry out what other workers pass on; `defined` gets the database in which definitions have changed."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        path = self._address(self._number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        receiver.bind(path)

        def receive() -> None:
            packet = receiver.recv(LARGEST)
            if len(packet) > _head.size:
                self._take(keys, defined, packet)

        asyncio.get_running_loop().add_reader(receiver, receive)

    def _take(self, keys: CancelKeys, defined: Callable[[str], None], packet: bytes) -> None:
        kind, pid, worker, number = _head.unpack_from(packet)
        rest = packet[_head.size :]
        if kind == CANCEL:
            keys.cancel(pid, rest)
        elif kind == DEFINED:
            defined(rest.decode())
        elif kind == ORDER:
            task = asyncio.ensure_future(self._answer(keys, pid, worker, number, Order.unpacked(rest)))
            self._orders.add(task)
            task.add_done_callback(self._orders.discard)
        elif (waiting := self._waiting.get(number)) is not None and not waiting.done():
            waiting.set_result(Ended(rest))

    async def _answer(self, keys: CancelKeys, pid: int, worker: int, number: int, order: Order) -> None:
        ended = await keys.order(pid, order)
        self._send(worker, _head.pack(ANSWER, pid, self._number, number) + ended.value)

    def defined(self, database: str) -> None:
        """Tell all other workers that definitions in a database have changed."""
        packet = _head.pack(DEFINED, 0, self._number, 0) + database.encode()
        for path in self._directory.glob(f"{_NAME}*"):
            number = int(path.name.removeprefix(_NAME))
            if number != self._number:
                self._send(number, packet)

    def pass_on(self, pid: int, key: bytes) -> None:
        """Pass a CancelRequest on to the worker that has the session; if there is none, only the log shows it."""
        self._send(_worker_of(pid), _head.pack(CANCEL, pid, self._number, 0) + key)

    async def order(self, pid: int, order: Order) -> Ended:
        """Have the worker that has the session carry an order out."""
        number = next(self._numbers)
        waiting: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            if not self._send(_worker_of(pid), _head.pack(ORDER, pid, self._number, number) + order.packed()):
                return Ended.UNKNOWN
            async with asyncio.timeout(PATIENCE + order.timeout / 1000):
                return await waiting
        except TimeoutError:
            return Ended.UNKNOWN
        finally:
            del self._waiting[number]

    def _send(self, worker: int, packet: bytes) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(packet, self._address(worker))
            except OSError as error:
                log.debug("a message for no worker: %s", error)
                return False
        return True

    def _address(self, number: int) -> str:
        return str(self._directory / f"{_NAME}{number}")


def _worker_of(pid: int) -> int:
    return (pid - FIRST_PID) // NUMBERS
