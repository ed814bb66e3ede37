"""SCRAM-SHA-256, both sides, and the md5 response; no I/O and no clock.

RFC 5802 and 7677, as PostgreSQL implements them: src/common/scram-common.c, src/backend/libpq/auth-scram.c,
src/interfaces/libpq/fe-auth-scram.c; manual: "SASL Authentication". There is no channel binding yet, so the
server side accepts the flags `n` and `y` and refuses `p`, and the client side sends `n`.

Each exchange is an object for one login: its methods are called in the order in which they are defined.
Secrets are compared in constant time, and an unknown user takes the same path as a known one.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from shardproxy import sqlstate
from shardproxy.errors import PgError, ProtocolError
from shardproxy.wire.errors import malformed
from shardproxy.wire.saslprep import prepare

SCRAM_SHA_256_KEY_LEN: Final = 32
SCRAM_RAW_NONCE_LEN: Final = 18
"""Bytes of our part of the nonce before base64; scram-common.h."""

SCRAM_DEFAULT_SALT_LEN: Final = 16
SCRAM_SHA_256_DEFAULT_ITERATIONS: Final = 4096

MAX_CLIENT_ITERATIONS: Final = 5_000_000
"""The most that a shard may request, about a second: it must not block the whole event loop."""

_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$([0-9]{1,10}):([^:$]*)\$([^:$]*):([^:$]*)")
_NOT_PRINTABLE: Final = re.compile(rb"[^\x21-\x2b\x2d-\x7e]")

_MALFORMED: Final = "malformed SCRAM message"


def md5_password(user: str, password: str, salt: bytes) -> bytes:
    """Answer AuthenticationMD5Password, for `encode.password_message`; salt has four bytes."""
    inner = hashlib.md5(_raw(password) + _raw(user), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server stores of a password (RFC 5803), as in pg_authid.rolpassword.

    `doomed` is PostgreSQL's word for one that no password matches.
    """

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    doomed: bool = False

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """Read `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, or raise a ValueError that does not quote it."""
        match = _VERIFIER.fullmatch(text)
        if match is None:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        iterations = int(match[1])
        try:
            salt, stored_key, server_key = (_unbase64(match[n].encode()) for n in (2, 3, 4))
        except ValueError:
            raise ValueError("a SCRAM-SHA-256 verifier has a part that is not base64") from None
        if len(stored_key) != SCRAM_SHA_256_KEY_LEN or len(server_key) != SCRAM_SHA_256_KEY_LEN:
            raise ValueError("a SCRAM-SHA-256 verifier has a key that is not 32 bytes long")
        if not 0 < iterations < 2**31:
            raise ValueError("a SCRAM-SHA-256 verifier has an impossible number of iterations")
        return cls(iterations, salt, stored_key, server_key)

    @classmethod
    def from_password(
        cls, password: str, salt: bytes | None = None, iterations: int = SCRAM_SHA_256_DEFAULT_ITERATIONS
    ) -> "Verifier":
        """Derive it as in pg_be_scram_build_secret; with a random salt unless one is given."""
        if salt is None:
            salt = secrets.token_bytes(SCRAM_DEFAULT_SALT_LEN)
        salted = _salted_password(password, salt, iterations)
        return cls(iterations, salt, _sha256(_hmac(salted, b"Client Key")), _hmac(salted, b"Server Key"))

    @classmethod
    def of(cls, password: str) -> "Verifier":
        """Read a configured password as CREATE ROLE does: a verifier if it has that form, else clear text."""
        try:
            return cls.parse(password)
        except ValueError:
            return cls.from_password(password)

    @classmethod
    def mock(cls, user: str, secret: bytes, iterations: int = SCRAM_SHA_256_DEFAULT_ITERATIONS) -> "Verifier":
        """Build the verifier of a user who does not exist or has no password: the same each time, never matched.

        Otherwise a changing salt, or none, would reveal which users exist. `secret` is random and lives as long
        as the users; `iterations` must be that of the real verifiers.
        """
        salt = _hmac(secret, b"salt:" + _raw(user))[:SCRAM_DEFAULT_SALT_LEN]
        stored, server = (_hmac(secret, what + _raw(user)) for what in (b"stored key:", b"server key:"))
        return cls(iterations, salt, stored, server, doomed=True)

    def __str__(self) -> str:
        salt, stored, server = (_base64(x).decode() for x in (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


class ScramClient:
    """The client's side, towards a shard. ProtocolError: the shard violates SCRAM."""

    def __init__(self, password: str, *, nonce: str | None = None, user: str = "") -> None:
        """`nonce` and `user` are for test vectors; PostgreSQL ignores the user here."""
        self._password = password
        self._nonce = (nonce or _new_nonce()).encode()
        self._first_bare = b"n=" + user.encode() + b",r=" + self._nonce
        self._server_signature = b""
        self.verified = False
        """Whether the server has proved that it knows the password. An AuthenticationOk before that is invalid."""

    def first(self) -> bytes:
        """Return the client-first-message, for SASLInitialResponse."""
        return b"n,," + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """Return the client-final-message, for SASLResponse. Deriving the key takes some milliseconds."""
        attributes = _Attributes(server_first)
        nonce = attributes.value("r")
        if not nonce.startswith(self._nonce):
            raise ProtocolError("invalid SCRAM response (nonce mismatch)")
        try:
            salt = _unbase64(attributes.value("s"))
        except ValueError:
            raise malformed(_MALFORMED, "The salt is not base64.") from None
        count = attributes.value("i")
        if not re.fullmatch(rb"[0-9]{1,10}", count) or not 0 < int(count) <= MAX_CLIENT_ITERATIONS:
            raise malformed(_MALFORMED, "The iteration count is invalid.")
        if not attributes.at_end:
            raise malformed(_MALFORMED, "There is garbage at the end of server-first-message.")
        without_proof = b"c=biws,r=" + nonce
        auth_message = b",".join((self._first_bare, server_first, without_proof))
        salted = _salted_password(self._password, salt, int(count))
        client_key = _hmac(salted, b"Client Key")
        proof = _xor(client_key, _hmac(_sha256(client_key), auth_message))
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), auth_message)
        return without_proof + b",p=" + _base64(proof)

    def verify(self, server_final: bytes) -> None:
        """Verify that the server knows the password too; PgError 28000 if it does not, or if it sent `e=`."""
        attributes = _Attributes(server_final)
        if server_final.startswith(b"e="):
            reason = attributes.value("e").decode("utf-8", "backslashreplace")
            raise PgError(
                sqlstate.INVALID_AUTHORIZATION_SPECIFICATION,
                f"error received from server in SCRAM exchange: {reason}",
                severity="FATAL",
            )
        try:
            signature = _unbase64(attributes.value("v"))
        except ValueError:
            raise malformed(_MALFORMED, "The server signature is not base64.") from None
        if not attributes.at_end:
            raise malformed(_MALFORMED, "There is garbage at the end of server-final-message.")
        if not self._server_signature or not hmac.compare_digest(signature, self._server_signature):
            raise PgError(sqlstate.INVALID_AUTHORIZATION_SPECIFICATION, "incorrect server signature", severity="FATAL")
        self.verified = True


class ScramServer:
    """The server's side, towards a client. Its errors (08P01, 0A000, 28P01) are PostgreSQL's."""

    def __init__(self, verifier: Verifier, *, user: str = "", nonce: str | None = None) -> None:
        """`user` is for the error message; `nonce` for test vectors."""
        self._verifier = verifier
        self._user = user
        self._nonce = (nonce or _new_nonce()).encode()
        self._flag = b""
        self._first_bare = b""
        self._server_first = b""

    def first(self, client_first: bytes) -> bytes:
        """Return the server-first-message, for AuthenticationSASLContinue."""
        if not client_first:
            raise malformed(_MALFORMED, "The message is empty.")
        self._flag, rest = _gs2_flag(client_first)
        if rest.startswith(b"a"):
            raise _unsupported("client uses authorization identity, but it is not supported")
        if not rest.startswith(b","):
            raise malformed(_MALFORMED, f'Unexpected attribute "{_shown(rest)}" in client-first-message.')
        self._first_bare = rest[1:]
        if self._first_bare.startswith(b"m"):
            raise _unsupported("client requires an unsupported SCRAM extension")
        attributes = _Attributes(self._first_bare)
        # The name is ignored: that of the startup packet counts.
        attributes.value("n")
        client_nonce = attributes.value("r")
        if _NOT_PRINTABLE.search(client_nonce):
            raise ProtocolError("non-printable characters in SCRAM nonce")
        while not attributes.at_end:
            attributes.any()
        self._nonce = client_nonce + self._nonce
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            _base64(self._verifier.salt),
            self._verifier.iterations,
        )
        return self._server_first

    def final(self, client_final: bytes) -> bytes:
        """Return the server-final-message, for AuthenticationSASLFinal; PgError 28P01 for a wrong proof."""
        if not client_final:
            raise malformed(_MALFORMED, "The message is empty.")
        attributes = _Attributes(client_final)
        if attributes.value("c") != {b"n": b"biws", b"y": b"eSws"}.get(self._flag):
            raise ProtocolError("unexpected SCRAM channel-binding attribute in client-final-message")
        nonce = attributes.value("r")
        while True:
            without_proof = client_final[: attributes.at - 1]
            name, value = attributes.any()
            if name == b"p":
                break
        try:
            proof = _unbase64(value)
        except ValueError:
            proof = b""
        if len(proof) != SCRAM_SHA_256_KEY_LEN:
            raise malformed(_MALFORMED, "Malformed proof in client-final-message.")
        if not attributes.at_end:
            raise malformed(_MALFORMED, "Garbage found at the end of client-final-message.")
        if not hmac.compare_digest(nonce, self._nonce):
            raise malformed("invalid SCRAM response", "Nonce does not match.")
        auth_message = b",".join((self._first_bare, self._server_first, without_proof))
        client_key = _xor(proof, _hmac(self._verifier.stored_key, auth_message))
        fits = hmac.compare_digest(_sha256(client_key), self._verifier.stored_key)
        if self._verifier.doomed or not fits:
            raise PgError(
                sqlstate.INVALID_PASSWORD,
                f'password authentication failed for user "{self._user}"',
                severity="FATAL",
            )
        return b"v=" + _base64(_hmac(self._verifier.server_key, auth_message))


class _Attributes:
    """The comma-separated `name=value` list of a SCRAM message, read in order."""

    def __init__(self, message: bytes) -> None:
        if b"\0" in message:
            raise malformed(_MALFORMED, "Message length does not match input length.")
        self._message = message
        self.at = 0

    @property
    def at_end(self) -> bool:
        return self.at >= len(self._message)

    def value(self, name: str) -> bytes:
        """Read the value of the attribute that must come next."""
        found = self._message[self.at : self.at + 1]
        if found != name.encode():
            raise malformed(_MALFORMED, f'Expected attribute "{name}" but found "{_shown(found)}".')
        return self._value(found)

    def any(self) -> tuple[bytes, bytes]:
        """Read whatever attribute comes next."""
        if self.at_end:
            raise malformed(_MALFORMED, "Attribute expected, but found end of string.")
        name = self._message[self.at : self.at + 1]
        if not name.isalpha():
            raise malformed(_MALFORMED, f'Attribute expected, but found invalid character "{_shown(name)}".')
        return name, self._value(name)

    def _value(self, name: bytes) -> bytes:
        if self._message[self.at + 1 : self.at + 2] != b"=":
            raise malformed(_MALFORMED, f'Expected character "=" for attribute "{_shown(name)}".')
        start = self.at + 2
        end = self._message.find(b",", start)
        if end < 0:
            end = len(self._message)
        self.at = end + 1
        return self._message[start:end]


def _gs2_flag(client_first: bytes) -> tuple[bytes, bytes]:
    """Split off the channel-binding flag and its comma (RFC 5802, section 7: gs2-cbind-flag)."""
    flag, rest = client_first[:1], client_first[1:]
    if flag == b"p":
        raise malformed(
            _MALFORMED,
            "The client selected SCRAM-SHA-256 without channel binding, "
            "but the SCRAM message includes channel binding data.",
        )
    if flag not in {b"n", b"y"}:
        raise malformed(_MALFORMED, f'Unexpected channel-binding flag "{_shown(flag)}".')
    if not rest.startswith(b","):
        raise malformed(_MALFORMED, f'Comma expected, but found character "{_shown(rest)}".')
    return flag, rest[1:]


def _unsupported(message: str) -> PgError:
    return PgError(sqlstate.FEATURE_NOT_SUPPORTED, message, severity="FATAL")


def _shown(data: bytes) -> str:
    """Show the first byte as auth-scram.c's sanitize_char does; an empty string for the end of a message."""
    byte = data[:1]
    return byte.decode("ascii") if not byte or 0x21 <= byte[0] <= 0x7E else f"0x{byte[0]:02x}"


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _new_nonce() -> str:
    return _base64(secrets.token_bytes(SCRAM_RAW_NONCE_LEN)).decode()


def _salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", prepare(_raw(password)), salt, iterations)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data)


def _unbase64(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
