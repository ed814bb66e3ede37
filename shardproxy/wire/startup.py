"""Reading the packets without a type byte that open a connection.

Follows ProcessStartupPacket (src/backend/tcop/backend_startup.c) in order, limits, messages and SQLSTATEs;
manual: "Message Flow", Start-up. Writes nothing itself: the caller sends the single byte for an encryption request,
the NegotiateProtocolVersion, or nothing at all.

Drive it with `feed(data)` and `next()`. After an SSLRequest or GSSENCRequest `rest()` must be empty; otherwise
plaintext was injected where encrypted bytes are expected (CVE-2021-23214): raise `unencrypted_data(request)`. If the
request was declined, continue with the same reader; if it was accepted, with a new one for the encrypted stream,
`StartupReader(encrypted=True)`. After a StartupMessage, `rest()` belongs to a FrameReader.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from shardproxy import sqlstate
from shardproxy.errors import ProtocolError
from shardproxy.wire.constants import (
    CANCEL_REQUEST_CODE,
    MAX_CANCEL_KEY_LENGTH,
    MAX_STARTUP_PACKET_LENGTH,
    NEGOTIATE_GSS_CODE,
    NEGOTIATE_SSL_CODE,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    PROTOCOL_LATEST,
    ProtocolVersion,
)
from shardproxy.wire.errors import SilentProtocolError, malformed

_int32 = Struct("!i").unpack_from
_uint32 = Struct("!I").unpack_from


class SSLRequest(NamedTuple):
    """The client asks for TLS; the answer is one byte, `S` or `N`."""


class GSSENCRequest(NamedTuple):
    """The client asks for GSSAPI encryption; the answer is one byte, `G` or `N`."""


class CancelRequest(NamedTuple):
    """Cancel the statement of the session with this pid and key. It is never answered."""

    pid: int
    key: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """The start of a session: the requested version, and run-time parameters, always with `user`.

    `protocol_options` are the names that begin with `_pq_.`, which are not run-time parameters.
    """

    version: ProtocolVersion
    params: dict[str, str]
    protocol_options: tuple[str, ...] = field(default=())

    @property
    def user(self) -> str:
        """The user name."""
        return self.params["user"]

    @property
    def database(self) -> str:
        """The database, which defaults to the user's name."""
        return self.params.get("database") or self.user

    @property
    def spoken(self) -> ProtocolVersion:
        """The version that the session will use: 3.2 if requested or newer, else 3.0 (3.1 is reserved)."""
        return PROTOCOL_3_2 if self.version >= PROTOCOL_3_2 else PROTOCOL_3_0

    @property
    def must_negotiate(self) -> bool:
        """Whether a NegotiateProtocolVersion with `spoken` and `protocol_options` must be sent."""
        return self.version != self.spoken or bool(self.protocol_options)


StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


class StartupReader:
    """The startup packets of one connection, which may request each kind of encryption once."""

    __slots__ = ("_buffer", "_error", "_gss_done", "_ssl_done")

    def __init__(self, *, encrypted: bool = False) -> None:
        self._buffer = b""
        self._ssl_done = encrypted
        self._gss_done = encrypted
        self._error: ProtocolError | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they arrived. The caller calls `next()` after each, so little is ever buffered."""
        if self._error is None:
            self._buffer += data

    def next(self) -> StartupPacket | None:
        """Return the next packet, or None until more is fed.

        Raises SilentProtocolError where PostgreSQL closes without an answer, else ProtocolError. Either is
        final.
        """
        if self._error is not None:
            raise self._error
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length = _int32(buffer)[0] - 4
        try:
            if not 4 <= length <= MAX_STARTUP_PACKET_LENGTH:
                raise SilentProtocolError("invalid length of startup packet")
            if len(buffer) < 4 + length:
                return None
            packet = self._packet(buffer[4 : 4 + length])
        except ProtocolError as error:
            self._error = error
            self._buffer = b""
            raise
        self._buffer = buffer[4 + length :]
        return packet

    def rest(self) -> bytes:
        """Return all bytes after the last packet; they stay in the reader."""
        return self._buffer

    def _packet(self, body: bytes) -> StartupPacket:
        code = _uint32(body)[0]
        if code == CANCEL_REQUEST_CODE:
            return _cancel_request(body)
        if code == NEGOTIATE_SSL_CODE and not self._ssl_done:
            self._ssl_done = True
            return SSLRequest()
        if code == NEGOTIATE_GSS_CODE and not self._gss_done:
            self._gss_done = True
            return GSSENCRequest()
        return _startup_message((code >> 16, code & 0xFFFF), body)

    def __repr__(self) -> str:
        state = f"failed: {self._error.message}" if self._error is not None else f"{len(self._buffer)} bytes"
        return f"<StartupReader {state}>"


def unencrypted_data(request: SSLRequest | GSSENCRequest) -> ProtocolError:
    """Build PostgreSQL's refusal of plaintext right after an encryption request."""
    what = "SSL" if isinstance(request, SSLRequest) else "GSSAPI encryption"
    return malformed(
        f"received unencrypted data after {what} request",
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    )


def _cancel_request(body: bytes) -> CancelRequest:
    if len(body) < 8:
        raise SilentProtocolError("invalid length of query cancel packet")
    key = body[8:]
    if not 0 < len(key) <= MAX_CANCEL_KEY_LENGTH:
        raise SilentProtocolError("invalid length of query cancel key")
    return CancelRequest(_int32(body, 4)[0], key)


def _startup_message(version: ProtocolVersion, body: bytes) -> StartupMessage:
    if version[0] != PROTOCOL_LATEST[0]:
        raise ProtocolError(
            f"unsupported frontend protocol {version[0]}.{version[1]}: "
            f"server supports {PROTOCOL_3_0[0]}.0 to {PROTOCOL_LATEST[0]}.{PROTOCOL_LATEST[1]}",
            sqlstate=sqlstate.FEATURE_NOT_SUPPORTED,
        )
    # Names and values alternate, each with its zero byte; one more zero byte ends the packet.
    pieces = body[4:].split(b"\0")
    if len(pieces) % 2 or pieces[-2:] != [b"", b""] or b"" in pieces[:-2:2]:
        raise ProtocolError("invalid startup packet layout: expected terminator as last byte")
    texts = [piece.decode("utf-8", "surrogateescape") for piece in pieces[:-2]]
    params: dict[str, str] = {}
    options: list[str] = []
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        if name.startswith("_pq_."):
            options.append(name)
        else:
            params[name] = value
    if not params.get("user"):
        raise ProtocolError(
            "no PostgreSQL user name specified in startup packet",
            sqlstate=sqlstate.INVALID_AUTHORIZATION_SPECIFICATION,
        )
    return StartupMessage(version, params, tuple(options))
