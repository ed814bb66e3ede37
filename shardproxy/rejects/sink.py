"""Who keeps the rows that a COPY sets aside: the proxy writes them to files, the loader knows where they are from."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from shardproxy.rejects.reject import Reject
from shardproxy.rejects.upsert import Upsert
from shardproxy.shard.connection import Connection


class RejectSink(Protocol):
    """The rejects of one COPY."""

    skips: bool
    """Whether a row is left out, and no reject, that has one of the table's keys that are there."""
    upsert: Upsert | None
    """By what a row replaces one that is there; None: it is a reject."""

    async def begin(self, connections: Iterable[Connection]) -> None:
        """See that rows can be set aside, before any comes. The connections are those that `finish` gets."""

    def set_header(self, header: bytes) -> None:
        """The data begin with a header, newline and all."""

    def original(self, reject: Reject) -> Reject:
        """Return the row as it was, and where, if it is not as it was sent to the COPY. Called once for each row."""

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """So many more rows have been judged, and these set aside. Raises PgError where they are too many."""

    def found(self, updated: int, left_out: int) -> None:
        """So many of the rows that were stored have replaced one that was there, and so many were left out for one."""

    def passed(self, offset: int) -> None:
        """All rows that begin before this byte of the data have been judged, or are held as rejects."""

    async def finish(self, connections: Iterable[Connection]) -> int:
        """All rows have been judged: have what is kept last, and return how many rows were set aside or left out.

        What is done on the shards' connections is of the transaction that stores the rows.
        """

    def discard(self) -> None:
        """Nothing was loaded."""
