"""Cutting a byte stream into protocol messages, for either direction.

Manual: "Message Formats" (a type byte, then an int32 length that counts itself). Never interprets a
payload, never reads ahead of what it was given, and never allocates for a length that has not arrived: a
forged length costs nothing, and one over the limit of its type is refused as soon as its five header bytes
are there.

Drive it with `feed(data)`, then `next()` until it returns None. Startup packets, which have no type byte, are read by
`startup.StartupReader`. Each byte is copied once or twice, however the stream is cut.
"""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from shardproxy.errors import ProtocolError
from shardproxy.wire.constants import HEADER_SIZE, MIN_LENGTH, backend_limit
from shardproxy.wire.errors import SilentProtocolError

_unpack_header = Struct("!Bi").unpack_from

LimitOf = Callable[[int], int]
"""Type byte to the greatest length word that it may have; 0 for a type that is not allowed."""


class Message(NamedTuple):
    """One whole message: its type byte, and its payload without type and length."""

    type: int
    payload: bytes


class FrameReader:
    """The messages of one direction of a connection.

    `limit_of` may be replaced between messages (`constants.authentication_limit` before a login is done,
    `constants.frontend_limit` after it); None means a shard's side, `constants.backend_limit`.

    After a ProtocolError the stream has no known message boundary any more: each further `next()` raises it
    again.
    """

    __slots__ = ("_data", "_error", "_need", "_offset", "_peer", "_pending", "limit_of")

    def __init__(self, limit_of: LimitOf | None = None) -> None:
        self.limit_of: LimitOf = backend_limit if limit_of is None else limit_of
        self._peer = "backend" if limit_of is None else "frontend"
        # What is being read is in `_data`, from `_offset` on. What arrives while a message is incomplete gathers in
        # `_pending` and is joined only when `_need` bytes are there, so that a large message in small
        # pieces is not copied again and again.
        self._data = b""
        self._offset = 0
        self._pending = bytearray()
        self._need = HEADER_SIZE
        self._error: ProtocolError | None = None

    @property
    def buffered(self) -> int:
        """Bytes that have been fed and not yet returned."""
        return len(self._data) - self._offset + len(self._pending)

    @property
    def whole(self) -> bool:
        """Whether `next` would return a message or raise an error, as far as its header tells."""
        if self._error is not None:
            return True
        data, offset = self._data, self._offset
        available = len(data) - offset
        buffered = available + len(self._pending)
        if buffered < HEADER_SIZE or buffered < self._need:
            return False
        if available < HEADER_SIZE:
            data, offset, available = self._join()
        kind, length = _unpack_header(data, offset)
        if MIN_LENGTH <= length <= self.limit_of(kind):
            self._need = 1 + length
        return buffered >= self._need

    @property
    def next_type(self) -> int | None:
        """The type byte of the message that `next` would return; None if that would be none."""
        return self._data[self._offset] if self.whole and self._error is None else None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they arrived, cut anywhere. They are copied: the caller may reuse the buffer."""
        if self._error is not None:
            return
        if self._offset == len(self._data) and not self._pending:
            self._data = bytes(data)
            self._offset = 0
        else:
            self._pending += data

    def next(self) -> Message | None:
        """Return the next whole message, or None until more is fed.

        Raises ProtocolError for a type byte that is not allowed here, SilentProtocolError for an impossible
        length.
        """
        data, offset = self._data, self._offset
        available = len(data) - offset
        if available < HEADER_SIZE or available < self._need:
            if self._error is not None:
                raise self._error
            if not self._pending:
                return None
            if available + len(self._pending) < self._need:
                return None
            data, offset, available = self._join()
        kind, length = _unpack_header(data, offset)
        limit = self.limit_of(kind)
        if not MIN_LENGTH <= length <= limit:
            raise self._refuse(kind, limit)
        end = offset + 1 + length
        if end > len(data):
            self._need = 1 + length
            if available + len(self._pending) < self._need:
                return None
            data, offset, available = self._join()
            end = offset + 1 + length
        self._need = HEADER_SIZE
        if end == len(data):
            # Nothing is left: do not hold a large message until the next one arrives.
            self._data = b""
            self._offset = 0
        else:
            self._offset = end
        return Message(kind, data[offset + HEADER_SIZE : end])

    def take(self, expected: bytes) -> bool:
        """Drop these whole messages if they are the next, and tell whether they were: no more than a comparison."""
        data, end = self._data, self._offset + len(expected)
        if self._pending or self._error is not None or not data.startswith(expected, self._offset):
            return False
        self._need = HEADER_SIZE
        if end == len(data):
            self._data = b""
            self._offset = 0
        else:
            self._offset = end
        return True

    def take_rest(self) -> bytes:
        """Return all bytes that no `next()` has returned, and drop them: another reader continues."""
        data, offset, _ = self._join()
        self._data = b""
        self._offset = 0
        self._need = HEADER_SIZE
        return data[offset:]

    def _join(self) -> tuple[bytes, int, int]:
        """Put everything unread into `_data`; return it, its start and its size."""
        if self._pending:
            with memoryview(self._data) as read:
                self._data = b"".join((read[self._offset :], self._pending))
            self._offset = 0
            self._pending = bytearray()
        return self._data, self._offset, len(self._data) - self._offset

    def _refuse(self, kind: int, limit: int) -> ProtocolError:
        if limit:
            self._error = SilentProtocolError(f"invalid message length in {self._peer} message type {kind}")
        else:
            self._error = ProtocolError(f"invalid {self._peer} message type {kind}")
        # Nothing after this point can be trusted. With no data, every further `next()` raises `_error`.
        self._data = b""
        self._offset = 0
        self._pending = bytearray()
        return self._error

    def __repr__(self) -> str:
        state = f"{self.buffered} bytes" if self._error is None else f"failed: {self._error.message}"
        return f"<FrameReader of {self._peer} messages, {state}>"
