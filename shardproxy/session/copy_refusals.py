"""What speaks against a COPY: the errors of its shards and of the proxy, and which of them is the answer."""

from dataclasses import dataclass

from shardproxy.errors import PgError


@dataclass(slots=True)
class Refusal:
    """An error and the client line that it is about; None where PostgreSQL names no line."""

    error: PgError
    line: int | None

    @property
    def order(self) -> tuple[bool, int]:
        """Earlier lines first, errors without a line last."""
        return (self.line is None, self.line or 0)


def answer(refusals: "list[Refusal]") -> PgError:
    """Return the error to report, that of the earliest line; the list is empty afterwards."""
    error = min(refusals, key=lambda refusal: refusal.order).error
    # Raised, it refers to its COPY; referred to in turn, both would stay until the garbage collector comes by.
    refusals.clear()
    return error
