"""What speaks against a COPY: the errors of its shards and of the proxy, and which of them is the answer."""

from collections.abc import Callable
from dataclasses import dataclass

from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.native import SplitError
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import CHARACTER_NOT_IN_REPERTOIRE, PROTOCOL_VIOLATION, QUERY_CANCELED
from shardproxy.transaction.single_shard import lost_alone
from shardproxy.wire import encode
from shardproxy.wire.errors import SilentProtocolError

TEXTUAL = 0
"""CopyInResponse's overall format of text and CSV."""

UNENDING = b"x" * 16
"""The begin of a row that never ends. PostgreSQL takes a first row that ends in a carriage return only when it has seen
the byte after it, and calls bytes wrong only with MAX_CONVERSION_INPUT_LENGTH (16) more (copyfromparse.c)."""


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


def split_refusal(error: SplitError, relation: str, words: Callable[[SplitError, str | None], PgError]) -> Refusal:
    """Return what the splitter has refused, in `words`, given CONTEXT."""
    if error.sqlstate == PROTOCOL_VIOLATION:
        # A length that cannot be: nothing after it can be told apart any more, so the session must end.
        return Refusal(SilentProtocolError(error.message), 0)
    # PostgreSQL reads a binary file's header before it has a line to name.
    context = None if error.line is None else f"COPY {relation}, line {error.line}"
    return Refusal(words(error, context), error.line)


def client_refusal(reason: str, relation: str, line: int) -> Refusal:
    """Return what a client's CopyFail means."""
    error = PgError(QUERY_CANCELED, f"COPY from stdin failed: {reason}", context=f"COPY {relation}, line {line}")
    return Refusal(error, line)


def lost_refusal(connection: Connection, error: PgError, whole: bool) -> Refusal:
    """Return what a lost connection means; that of a COPY which commits by itself may have done so."""
    return Refusal(lost_alone(connection, error) if whole else error, None)


def unending_row(copy_format: int) -> bytes:
    """Return what has a shard look at all rows that it was sent, in front of CopyFail: nothing if it does anyway."""
    return encode.copy_data(UNENDING) if copy_format == TEXTUAL else b""


def other_encoding(first: bytes, options: CopyOptions, name: str) -> PgError | None:
    """Return the error for data that begin with what cannot be of the encoding of this name."""
    if options.format == "binary" or first[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
        return None
    return PgError(
        CHARACTER_NOT_IN_REPERTOIRE,
        f"the input is UTF-16, not {name}",
        hint=f"Convert it to {name} first, as `iconv -f UTF-16` does.",
    )
