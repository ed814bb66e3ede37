"""The kinds of ProtocolError that PostgreSQL treats differently. Raised here, acted upon by the session."""

from shardproxy.errors import ProtocolError


class SilentProtocolError(ProtocolError):
    """The byte stream itself is broken: PostgreSQL logs this one (COMMERROR) and closes without an answer.

    An ErrorResponse would be wrong here: what is at the other end may not speak this protocol at all.
    """


def malformed(message: str, detail: str | None = None) -> ProtocolError:
    """Build a ProtocolError with a DETAIL, where PostgreSQL gives one."""
    error = ProtocolError(message)
    if detail is not None:
        error.fields["D"] = detail
    return error
