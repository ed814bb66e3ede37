"""Cancel keys: which session a CancelRequest means. Manual: "Canceling Requests in Progress".

The keys come from `secrets` and are compared in constant time: who can guess one can stop other people's work.
A CancelRequest is never answered, whether it found its session or not.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Protocol

KEY_BYTES_3_0 = 4
KEY_BYTES_3_2 = 32
"""Protocol 3.2 allows up to 256; PostgreSQL 18 sends 32."""

NUMBERS = 2**22
"""Session numbers of one process, above `first_pid`; workers share the int32 of a process ID."""


class Cancellable(Protocol):
    """A session that can stop what it runs."""

    def cancel(self) -> None:
        """Cancel the running statement, if any, on every shard that works for it."""


class CancelKeys:
    """The sessions of this process by their BackendKeyData.

    Process IDs count from `first_pid`; `elsewhere` gets the requests for those of other processes.
    """

    def __init__(self, first_pid: int = 0, elsewhere: Callable[[int, bytes], None] | None = None) -> None:
        self._first_pid = first_pid
        self._elsewhere = elsewhere
        self._sessions: dict[int, tuple[bytes, Cancellable]] = {}

    def add(self, session: Cancellable, version: tuple[int, int]) -> tuple[int, bytes]:
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

    def cancel(self, pid: int, key: bytes) -> None:
        """Take a CancelRequest."""
        if not 0 <= pid - self._first_pid < NUMBERS:
            if self._elsewhere is not None and pid > 0:
                self._elsewhere(pid, key)
            return
        found = self._sessions.get(pid)
        if found is not None and hmac.compare_digest(found[0], key):
            found[1].cancel()
