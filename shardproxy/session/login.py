"""Start-up and authentication of one client: everything in front of the first ReadyForQuery but the shards.

Manual: "Frontend/Backend Protocol", Start-up. Speaks 3.0 and 3.2 and negotiates what lies between or above.
SSLRequest and GSSENCRequest are answered with a refusal; bytes that a client has sent after such a request,
before it could know the answer, end the connection (the class of CVE-2021-23214).
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from shardproxy.config import Config
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.net.stream import Stream
from shardproxy.session.cancel import CancelKeys
from shardproxy.sqlstate import (
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    INVALID_CATALOG_NAME,
    INVALID_PASSWORD,
)
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import SCRAM_SHA_256, F, frontend_limit
from shardproxy.wire.scram import ScramServer, Verifier
from shardproxy.wire.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    StartupPacket,
    StartupReader,
    unencrypted_data,
)

REFUSED = b"N"
"""The one-byte answer to SSLRequest and GSSENCRequest: not here, go on without."""

PROXY_OWN = frozenset({"user", "database", "replication"})
"""Start-up parameters that are the proxy's business; all others are settings of the client's session."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, and how it wants its session."""

    user: str
    database: str
    version: tuple[int, int]
    settings: dict[str, str]


class Login:
    """The start-up of one connection.

    `secret` must be random, and the same in every worker and after a reload: from it come the salts of users who
    do not exist and of those whose password is configured in the clear, so that they look alike. It must never be
    derived from the passwords, since an unknown user's salt would then tell when a guess at them is right.
    """

    def __init__(self, config: Config, cancel_keys: CancelKeys, secret: bytes) -> None:
        self._config = config
        self._cancel_keys = cancel_keys
        self._secret = secret
        passwords = {user.name: user.password.get_secret_value() for user in config.users}
        self._verifiers = {name: self._verifier_of(name, password) for name, password in passwords.items()}

    async def run(self, stream: Stream, admit: Callable[[], None]) -> Identity | None:
        """Return who has logged in; None when the connection was for a CancelRequest.

        `admit` is called before anybody is authenticated, and may refuse.

        Raises PgError (severity FATAL) with what to tell the client, ProtocolError, ConnectionLost.
        """
        startup = await self._startup(stream)
        if startup is None:
            return None
        admit()
        parameters = startup.params
        if parameters.get("replication", "").lower() not in {"", "false", "off", "no", "0"}:
            raise _fatal(
                FEATURE_NOT_SUPPORTED,
                "replication connections are not supported through shardproxy",
                hint="Connect to the shard itself for replication.",
            )
        await self._authenticate(stream, startup.user, startup.database)
        settings = {name: value for name, value in parameters.items() if name not in PROXY_OWN}
        return Identity(startup.user, startup.database, startup.spoken, settings)

    async def _startup(self, stream: Stream) -> StartupMessage | None:
        packets = _Packets(stream)
        while True:
            packet = await packets.next()
            match packet:
                case SSLRequest() | GSSENCRequest():
                    if packets.reader.rest():
                        raise unencrypted_data(packet)
                    stream.write(REFUSED)
                case CancelRequest():
                    self._cancel_keys.cancel(packet.pid, packet.key)
                    return None
                case StartupMessage():
                    stream.untap()
                    stream.unread(packets.reader.rest())
                    if packet.must_negotiate:
                        stream.write(encode.negotiate_protocol_version(packet.spoken[1], packet.protocol_options))
                    return packet

    async def _authenticate(self, stream: Stream, name: str, database: str) -> None:
        known = any(entry.name == database for entry in self._config.databases)
        if self._config.users:
            user = next((entry for entry in self._config.users if entry.name == name), None)
            await self._scram(stream, name)
            if user is None or (known and database not in user.databases):
                raise _fatal(
                    INSUFFICIENT_PRIVILEGE,
                    f'permission denied for database "{database}"',
                    detail="User does not have CONNECT privilege.",
                    hint="List the database in the user's `databases` in the proxy's configuration.",
                )
        if not known:
            raise _fatal(INVALID_CATALOG_NAME, f'database "{database}" does not exist')
        stream.limit(frontend_limit)
        stream.write(encode.authentication_ok())

    async def _scram(self, stream: Stream, name: str) -> None:
        """Check the password. An unknown user sees the same exchange, and fails at its end."""
        server = ScramServer(self._verifier(name))
        stream.write(encode.authentication_sasl([SCRAM_SHA_256]))
        mechanism, first = decode.sasl_initial_response(await self._password_message(stream))
        if mechanism != SCRAM_SHA_256 or first is None:
            raise ProtocolError("client selected an invalid SASL authentication mechanism")
        stream.write(encode.authentication_sasl_continue(server.first(first)))
        try:
            final = server.final(await self._password_message(stream))
        except PgError as error:
            if error.sqlstate != INVALID_PASSWORD:
                raise
            raise _fatal(INVALID_PASSWORD, f'password authentication failed for user "{name}"') from None
        stream.write(encode.authentication_sasl_final(final))

    def _verifier(self, name: str) -> Verifier:
        known = self._verifiers.get(name)
        if known is not None:
            return known
        # The number of iterations is one that a real user has, or else it would tell who is none.
        counts = sorted(verifier.iterations for verifier in self._verifiers.values())
        choice = zlib.crc32(self._secret + name.encode(errors="surrogateescape")) % len(counts)
        return Verifier.mock(name, self._secret, counts[choice])

    def _verifier_of(self, name: str, password: str) -> Verifier:
        try:
            return Verifier.parse(password)
        except ValueError:
            return Verifier.from_password(password, Verifier.mock(name, self._secret).salt)

    @staticmethod
    async def _password_message(stream: Stream) -> bytes:
        message = await stream.message()
        if message.type != F.PASSWORD:
            raise ProtocolError(f"expected SASL response, got message type {message.type}")
        return message.payload


class _Packets:
    """Startup packets, which have no type byte, off a stream."""

    def __init__(self, stream: Stream) -> None:
        self.reader = StartupReader()
        self._stream = stream
        self._arrived = asyncio.Event()
        stream.on_lost = self._arrived.set
        stream.tap(self._feed)

    def _feed(self, view: memoryview) -> int:
        self.reader.feed(view)
        self._arrived.set()
        return len(view)

    async def next(self) -> StartupPacket:
        while (packet := self.reader.next()) is None:
            if self._stream.lost:
                raise ConnectionLost("the client left during start-up")
            self._arrived.clear()
            await self._arrived.wait()
        return packet


def _fatal(state: str, message: str, *, detail: str | None = None, hint: str | None = None) -> PgError:
    return PgError(state, message, severity="FATAL", detail=detail, hint=hint)
