"""Which session a CancelRequest means, or pg_cancel_backend() and pg_terminate_backend().

Manual: "Canceling Requests in Progress". The keys come from `secrets` and are compared in constant time: who can guess
one can stop other people's work. A CancelRequest is never answered, whether it found its session or not.
"""

import hmac
import secrets
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Protocol

KEY_BYTES_3_0 = 4
KEY_BYTES_3_2 = 32
"""Protocol 3.2 allows up to 256; PostgreSQL 18 sends 32."""

NUMBERS = 2**22
"""Session numbers of one process, above `first_pid`; workers share the int32 of a process ID."""

FIRST_PID = NUMBERS
"""The first number: above those that Linux gives to processes (PID_MAX_LIMIT), so that none is a backend's, too."""

_order = Struct("!?q")


@dataclass(frozen=True, slots=True)
class Order:
    """What a user wants of a session: to cancel what it runs, or to end, and for how many milliseconds to wait."""

    ends: bool
    timeout: int
    user: str

    def packed(self) -> bytes:
        """Return it as bytes."""
        return _order.pack(self.ends, self.timeout) + self.user.encode("utf-8", "surrogateescape")

    @classmethod
    def unpacked(cls, data: bytes) -> "Order":
        """Read what `packed` has made."""
        ends, timeout = _order.unpack_from(data)
        return cls(ends, timeout, data[_order.size :].decode("utf-8", "surrogateescape"))


class Ended(Enum):
    """What has become of an order."""

    DONE = b"d"
    STAYS = b"s"  # after the time that was to be waited for
    DENIED = b"p"  # the session is another user's
    UNKNOWN = b"u"  # no session has this process ID


class Signalled(Protocol):
    """A session that can stop what it runs."""

    @property
    def user(self) -> str:
        """Who has logged in."""

    def cancel(self) -> None:
        """Cancel the running statement, if any, on every shard that works for it."""

    def terminate(self) -> None:
        """End the session, as an administrator."""

    async def ended(self, seconds: float) -> bool:
        """Wait for its end; return whether it has come."""


class Others(Protocol):
    """The other processes that serve the same address."""

    def pass_on(self, pid: int, key: bytes) -> None:
        """Give a CancelRequest to the one that has the session."""

    async def order(self, pid: int, order: Order) -> Ended:
        """Have the one that has the session carry an order out."""


class CancelKeys:
    """The sessions of this process by their BackendKeyData.

    Process IDs count from `first_pid`; `others` get what is for those of other processes.
    """

    def __init__(self, first_pid: int = FIRST_PID, others: Others | None = None) -> None:
        self._first_pid = first_pid
        self._others = others
        self._sessions: dict[int, tuple[bytes, Signalled]] = {}

    def add(self, session: Signalled, version: tuple[int, int]) -> tuple[int, bytes]:
        """Make a process ID and a key for a session."""
        pid = 0
        while pid == 0 or pid in self._sessions:
            pid = self._first_pid + secrets.randbelow(NUMBERS)
        key = secrets.token_bytes(KEY_BYTES_3_2 if version >= (3, 2) else KEY_BYTES_3_0)
        self._sessions[pid] = key, session
        return pid, key

    def remove(self, pid: int) -> None:
        """Forget a session that has ended."""
        self._sessions.pop(pid, None)

    def _is_here(self, pid: int) -> bool:
        return 0 <= pid - self._first_pid < NUMBERS

    def cancel(self, pid: int, key: bytes) -> None:
        """Take a CancelRequest."""
        if not self._is_here(pid):
            if self._others is not None and pid >= FIRST_PID:
                self._others.pass_on(pid, key)
            return
        found = self._sessions.get(pid)
        if found is not None and hmac.compare_digest(found[0], key):
            found[1].cancel()

    async def order(self, pid: int, order: Order) -> Ended:
        """Carry out an order about a session of any process that serves this address."""
        if not self._is_here(pid):
            if self._others is None or pid < FIRST_PID:
                return Ended.UNKNOWN
            return await self._others.order(pid, order)
        found = self._sessions.get(pid)
        if found is None:
            return Ended.UNKNOWN
        session = found[1]
        if session.user != order.user:
            return Ended.DENIED
        if not order.ends:
            session.cancel()
            return Ended.DONE
        session.terminate()
        return Ended.DONE if not order.timeout or await session.ended(order.timeout / 1000) else Ended.STAYS
