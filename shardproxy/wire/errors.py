"""The kinds of ProtocolError that PostgreSQL treats differently. Raised here, acted upon by the session."""

from collections.abc import Callable
from typing import TypeVar

from shardproxy.errors import PgError, ProtocolError

T = TypeVar("T")


class SilentProtocolError(ProtocolError):
    """The byte stream itself is broken: PostgreSQL logs this one (COMMERROR) and closes without an answer.

    An ErrorResponse would be wrong here: the peer may not speak this protocol at all.
    """


def malformed(message: str, detail: str | None = None) -> ProtocolError:
    """Build a ProtocolError, with a DETAIL if PostgreSQL has one."""
    error = ProtocolError(message)
    if detail is not None:
        error.fields["D"] = detail
    return error


def decoded(decode: Callable[[bytes], T], payload: bytes) -> T:
    """Read the payload of a client's message; a malformed one is an ERROR, not FATAL, since the framing is intact."""
    try:
        return decode(payload)
    except ProtocolError as error:
        raise PgError.from_fields(error.fields | {"S": "ERROR", "V": "ERROR"}) from None
