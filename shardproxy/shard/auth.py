"""Authentication towards a shard: trust, clear text, MD5 and SCRAM-SHA-256.

Manual: "Frontend/Backend Protocol", Start-up. Drives the sans-IO parts of `wire`; knows no client.
"""

from shardproxy.errors import PgError, ProtocolError
from shardproxy.net.stream import Stream
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INVALID_PASSWORD
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import SCRAM_SHA_256, Auth, B
from shardproxy.wire.scram import ScramClient, md5_password


async def authenticate(stream: Stream, user: str, password: str | None) -> None:
    """Answer the server's authentication requests until AuthenticationOk; raise its ErrorResponse."""
    scram: ScramClient | None = None
    while True:
        message = await stream.message()
        if message.type == B.ERROR_RESPONSE:
            raise PgError.from_fields(decode.fields(message.payload))
        if message.type == B.NEGOTIATE_PROTOCOL_VERSION:
            continue
        if message.type != B.AUTHENTICATION:
            raise ProtocolError(f"the server sent message type {chr(message.type)!r} during authentication")
        code, rest = decode.authentication(message.payload)
        if code == Auth.OK:
            if scram is not None and not scram.verified:
                # Whoever cannot prove that it knows the password is not the server that we were told of.
                raise ProtocolError("the server ended SCRAM authentication without proving itself")
            return
        if code == Auth.SASL_FINAL and scram is not None:
            scram.verify(rest)
            continue
        if password is None:
            raise PgError(
                INVALID_PASSWORD,
                f'the server asks for a password for user "{user}", and the shard\'s dsn has none',
                severity="FATAL",
            )
        if code == Auth.CLEARTEXT_PASSWORD:
            stream.write(encode.password_message(password.encode("utf-8", "surrogateescape")))
        elif code == Auth.MD5_PASSWORD:
            stream.write(encode.password_message(md5_password(user, password, rest)))
        elif code == Auth.SASL:
            if SCRAM_SHA_256.encode() not in rest.split(b"\0"):
                raise _unsupported(f"SASL mechanisms {rest!r}")
            scram = ScramClient(password)
            stream.write(encode.sasl_initial_response(SCRAM_SHA_256, scram.first()))
        elif code == Auth.SASL_CONTINUE and scram is not None:
            stream.write(encode.sasl_response(scram.final(rest)))
        else:
            raise _unsupported(f"authentication request {code}")


def _unsupported(what: str) -> PgError:
    return PgError(
        FEATURE_NOT_SUPPORTED,
        f"the server asks for {what}, which shardproxy does not speak",
        hint="Use trust, password, md5 or scram-sha-256 in the shard's pg_hba.conf for the proxy's address.",
        severity="FATAL",
    )
