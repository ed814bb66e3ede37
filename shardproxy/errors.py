"""The package's exceptions. Every layer may raise them; none does I/O here.

`PgError` is what a client gets as an ErrorResponse, whether a shard reported it or the proxy did: it carries the
fields of the protocol's "Error and Notice Message Fields", so that a shard's words pass through verbatim.
"""

from collections.abc import Mapping
from typing import Self

from shardproxy import sqlstate as states


class ShardproxyError(Exception):
    """The base of all that this package raises on purpose."""


class PgError(ShardproxyError):
    """An ErrorResponse: single-letter field codes of the protocol manual to text.

    Foreign bytes in the text are kept as surrogate escapes, so encoding them again gives the same bytes.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        severity: str = "ERROR",
        detail: str | None = None,
        hint: str | None = None,
        context: str | None = None,
        position: int | None = None,
    ) -> None:
        fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
        optional = {"D": detail, "H": hint, "W": context}
        fields |= {code: value for code, value in optional.items() if value is not None}
        if position is not None:
            fields["P"] = str(position)
        super().__init__(sqlstate, message)
        self.fields = fields
        self.described = False
        """A shard had described the statement's rows before."""
        self.tag: str | None = None
        """How the statement had ended, where it was the commit at Sync that failed."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        """Wrap the fields of an ErrorResponse as they came from a server."""
        error = cls(fields.get("C", states.INTERNAL_ERROR), fields.get("M", ""))
        error.fields = dict(fields)
        return error

    @property
    def sqlstate(self) -> str:
        """The five-character SQLSTATE."""
        return self.fields.get("C", states.INTERNAL_ERROR)

    @property
    def message(self) -> str:
        """The primary message."""
        return self.fields.get("M", "")

    @property
    def detail(self) -> str | None:
        """The DETAIL field."""
        return self.fields.get("D")

    @property
    def hint(self) -> str | None:
        """The HINT field."""
        return self.fields.get("H")

    @property
    def context(self) -> str | None:
        """The CONTEXT field."""
        return self.fields.get("W")

    def __str__(self) -> str:
        return f"{self.fields.get('S', 'ERROR')}:  {self.sqlstate}: {self.message}"


class ProtocolError(PgError):
    """The peer broke the wire protocol; the connection cannot go on (SQLSTATE 08P01 unless PostgreSQL uses another)."""

    def __init__(self, message: str, *, sqlstate: str = states.PROTOCOL_VIOLATION) -> None:
        super().__init__(sqlstate, message, severity="FATAL")


class ConnectionLost(ShardproxyError):  # noqa: N818 -- it names what happened
    """The peer's socket closed or failed in the middle of something."""


def let_go(error: BaseException) -> None:
    """Have an error that is dealt with, and those that led to it, refer to no frame that it has passed through.

    Some of the frames refer to it in turn. All would stay, with what they hold of the client's data, until the garbage
    collector comes by, which counts objects and not their bytes.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()  # errors may lead to one another in a circle, and to one by several ways
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            pending += [one.__cause__, one.__context__]
