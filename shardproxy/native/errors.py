"""What the row splitter refuses, as the error a client is to see."""

from shardproxy.errors import PgError


class SplitError(PgError):
    """The client's COPY data cannot be split or placed; all rows before `line` have been placed.

    `line` is the line of the client's input as PostgreSQL counts it, or None where PostgreSQL names none.
    `key_values` are the refused row's key values where the key is at fault (text spellings, or the bytes of
    binary fields), else None. `consumed` is how many bytes the failing `feed` took.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        line: int | None = None,
        key_values: list[bytes | None] | None = None,
        consumed: int = 0,
    ) -> None:
        super().__init__(sqlstate, message, detail=detail, hint=hint)
        self.line = line
        self.key_values = key_values
        self.consumed = consumed
