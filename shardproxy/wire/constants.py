"""Type bytes, codes and limits of the frontend/backend protocol, version 3. Data only: nothing here parses.

Names are PostgreSQL's own (manual: "Message Formats"; source: src/include/libpq/protocol.h and pqcomm.h). A
type byte is an int, as in indexing bytes; no other module of the package spells one out.
"""

from collections.abc import Mapping
from typing import Final

ProtocolVersion = tuple[int, int]
"""Major and minor number."""

PROTOCOL_3_0: Final[ProtocolVersion] = (3, 0)
PROTOCOL_3_2: Final[ProtocolVersion] = (3, 2)
"""PostgreSQL 18: cancel keys of up to 256 bytes. 3.1 was never used and is reserved."""
PROTOCOL_LATEST: Final = PROTOCOL_3_2

# Codes in the place of a StartupMessage's version.
CANCEL_REQUEST_CODE: Final = (1234 << 16) | 5678
NEGOTIATE_SSL_CODE: Final = (1234 << 16) | 5679
NEGOTIATE_GSS_CODE: Final = (1234 << 16) | 5680


class F:
    """Type bytes of frontend (F) messages."""

    BIND: Final = ord("B")
    CLOSE: Final = ord("C")
    COPY_DATA: Final = ord("d")
    COPY_DONE: Final = ord("c")
    COPY_FAIL: Final = ord("f")
    DESCRIBE: Final = ord("D")
    EXECUTE: Final = ord("E")
    FLUSH: Final = ord("H")
    FUNCTION_CALL: Final = ord("F")
    PARSE: Final = ord("P")
    PASSWORD: Final = ord("p")
    """PasswordMessage, SASLInitialResponse and SASLResponse: which one depends on the request before it."""
    QUERY: Final = ord("Q")
    SYNC: Final = ord("S")
    TERMINATE: Final = ord("X")


class B:
    """Type bytes of backend (B) messages."""

    AUTHENTICATION: Final = ord("R")
    BACKEND_KEY_DATA: Final = ord("K")
    BIND_COMPLETE: Final = ord("2")
    CLOSE_COMPLETE: Final = ord("3")
    COMMAND_COMPLETE: Final = ord("C")
    COPY_BOTH_RESPONSE: Final = ord("W")
    COPY_DATA: Final = ord("d")
    COPY_DONE: Final = ord("c")
    COPY_IN_RESPONSE: Final = ord("G")
    COPY_OUT_RESPONSE: Final = ord("H")
    DATA_ROW: Final = ord("D")
    EMPTY_QUERY_RESPONSE: Final = ord("I")
    ERROR_RESPONSE: Final = ord("E")
    FUNCTION_CALL_RESPONSE: Final = ord("V")
    NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
    NOTICE_RESPONSE: Final = ord("N")
    NOTIFICATION_RESPONSE: Final = ord("A")
    NO_DATA: Final = ord("n")
    PARAMETER_DESCRIPTION: Final = ord("t")
    PARAMETER_STATUS: Final = ord("S")
    PARSE_COMPLETE: Final = ord("1")
    PORTAL_SUSPENDED: Final = ord("s")
    READY_FOR_QUERY: Final = ord("Z")
    ROW_DESCRIPTION: Final = ord("T")


class Auth:
    """The int32 codes of Authentication (B) messages."""

    OK: Final = 0
    KERBEROS_V5: Final = 2
    CLEARTEXT_PASSWORD: Final = 3
    MD5_PASSWORD: Final = 5
    GSS: Final = 7
    GSS_CONTINUE: Final = 8
    SSPI: Final = 9
    SASL: Final = 10
    SASL_CONTINUE: Final = 11
    SASL_FINAL: Final = 12


SCRAM_SHA_256: Final = "SCRAM-SHA-256"

# Limits, in bytes. Those of messages apply to the length word, which counts itself but not the type byte.

HEADER_SIZE: Final = 5
"""Type byte and length word."""

MIN_LENGTH: Final = 4
"""The least value of a length word, which counts itself."""

MAX_LENGTH: Final = 2**31 - 1
"""The greatest value of an int32 length word."""

MAX_STARTUP_PACKET_LENGTH: Final = 10_000
"""Startup packet without its length word; pqcomm.h: "arbitrary, to prevent DoS attacks"."""

PQ_SMALL_MESSAGE_LIMIT: Final = 10_000
"""Messages that contain at most a name; libpq.h."""

PQ_LARGE_MESSAGE_LIMIT: Final = 0x3FFFFFFF - 1
"""Messages that contain data: MaxAllocSize - 1, just under 1 GiB; libpq.h."""

PG_MAX_AUTH_TOKEN_LENGTH: Final = 65_535
"""Any message before authentication is done; auth.h. An unauthenticated peer can make us buffer no more."""

PG_MAX_SASL_MESSAGE_LENGTH: Final = 1024
"""A SASL message, which is text of a few hundred bytes; auth-sasl.h."""

MAX_BACKEND_SMALL_LENGTH: Final = 30_000
"""Backend messages other than rows and texts; libpq reports a longer one as a loss of synchronisation."""

MAX_BACKEND_LARGE_LENGTH: Final = 0x3FFFFFFF + 4
"""A backend builds a message in one StringInfo of at most MaxAllocSize; the length word is added to that."""

MAX_CANCEL_KEY_LENGTH: Final = 256
MIN_CANCEL_KEY_LENGTH: Final = 4
"""Cancel keys have 4 bytes in 3.0, and 4 to 256 in 3.2; fe-protocol3.c."""

MAX_INT16_COUNT: Final = 65_535
"""Counts of parameters, columns and format codes are read as unsigned."""

_SMALL, _LARGE = PQ_SMALL_MESSAGE_LIMIT, PQ_LARGE_MESSAGE_LIMIT


def _table(limits: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(limits.get(code, 0) for code in range(256))


_frontend = _table(
    {
        F.BIND: _LARGE,
        F.CLOSE: _SMALL,
        F.COPY_DATA: _LARGE,
        F.COPY_DONE: _SMALL,
        F.COPY_FAIL: _SMALL,
        F.DESCRIBE: _SMALL,
        F.EXECUTE: _SMALL,
        F.FLUSH: _SMALL,
        F.FUNCTION_CALL: _LARGE,
        F.PARSE: _LARGE,
        F.QUERY: _LARGE,
        F.SYNC: _SMALL,
        F.TERMINATE: _SMALL,
    }
)

_authentication = _table({F.PASSWORD: PG_MAX_AUTH_TOKEN_LENGTH, F.TERMINATE: _SMALL})

_backend = _table(
    {
        code: MAX_BACKEND_SMALL_LENGTH
        for name, code in vars(B).items()
        if not name.startswith("_") and isinstance(code, int)
    }
    | dict.fromkeys(
        (
            B.COPY_DATA,
            B.DATA_ROW,
            B.ERROR_RESPONSE,
            B.FUNCTION_CALL_RESPONSE,
            B.NOTICE_RESPONSE,
            B.NOTIFICATION_RESPONSE,
            B.PARAMETER_DESCRIPTION,
            B.PARAMETER_STATUS,
            B.ROW_DESCRIPTION,
        ),
        MAX_BACKEND_LARGE_LENGTH,
    )
    | {B.AUTHENTICATION: PG_MAX_AUTH_TOKEN_LENGTH}
)

# For FrameReader: type byte -> greatest length word, 0 for a type that is not allowed. Item access of a tuple, as it
# is called for each message.

frontend_limit: Final = _frontend.__getitem__
"""Limits after authentication, as in SocketBackend (tcop/postgres.c); PasswordMessage is not allowed."""

authentication_limit: Final = _authentication.__getitem__
"""Limits before authentication is done: a password or SASL message, or Terminate."""

backend_limit: Final = _backend.__getitem__
"""Limits for what a shard sends, as in libpq's pqParseInput3, but a ParameterStatus of any length."""
