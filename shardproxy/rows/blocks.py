"""The data of a result as blocks, one for each batch of rows, and how far they have been read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, AnyStr, Final, Generic

from shardproxy.rows.encoder import Encoder
from shardproxy.rows.errors import FailedEarlierError
from shardproxy.rows.source import Cursor, names_of

ROWS_PER_FETCH: Final = 500
"""Rows, as in rowstextio: fewer cost round trips and calls, more cost memory."""


class Blocks(Generic[AnyStr]):
    """What a stream reads; `begin`, `encode` and `end` are the encoder's, as text or as bytes."""

    def __init__(
        self,
        cursor: Cursor,
        rows_per_fetch: int,
        encoder: Encoder,
        *,
        begin: AnyStr,
        encode: Callable[[Sequence[Any]], AnyStr],
        end: AnyStr,
    ) -> None:
        self._cursor = cursor
        self._rows_per_fetch = rows_per_fetch
        self._encoder = encoder
        self._begin: AnyStr = begin
        self._encode: Callable[[Sequence[Any]], AnyStr] = encode
        self._end: AnyStr = end
        self._empty: AnyStr = begin[:0]
        self._block: AnyStr = self._empty
        self._at = 0
        self._begun = self._ended = self._failed = False

    def execute(self, query: Any, parameters: Any) -> None:
        """Run the query; None is for one that the cursor has run already."""
        cursor: Any = self._cursor
        if getattr(cursor, "arraysize", self._rows_per_fetch) < self._rows_per_fetch:
            # Some drivers (oracledb) make round trips of this size, whatever fetchmany is asked for.
            with suppress(AttributeError):  # read-only in others
                cursor.arraysize = self._rows_per_fetch
        if query is not None:
            # sqlite3 takes no None for parameters, and others look for placeholders if there are any.
            cursor.execute(query, *(() if parameters is None else (parameters,)))

    @property
    def rows(self) -> int:
        """The rows that are in the blocks so far."""
        return self._encoder.rows

    def rest(self) -> Iterator[AnyStr]:
        """What has not been read, as the blocks are made."""
        while part := self._part(None):
            yield part

    def read(self, size: int | None) -> AnyStr:
        """As much as asked for, less only at the end; all that is left for None or a negative size."""
        if size is None or size < 0:
            return self._empty.join(self.rest())
        part = self._part(size)
        if len(part) == size or not part:
            return part
        parts = [part]
        left = size - len(part)
        while left and (part := self._part(left)):
            parts.append(part)
            left -= len(part)
        return self._empty.join(parts)

    def read_some(self, size: int | None) -> AnyStr:
        """What is there, at most `size`; nothing only at the end."""
        return self._part(None if size is None or size < 0 else size)

    def line(self, size: int | None, newline: AnyStr) -> AnyStr:
        """Up to a newline and with it, or as much as asked for."""
        parts = []
        left = None if size is None or size < 0 else size
        while left != 0:
            if not self._fill():
                break
            end = self._block.find(newline, self._at) + 1
            length = (end or len(self._block)) - self._at
            part = self._part(length if left is None else min(length, left))
            parts.append(part)
            if part.endswith(newline):
                break
            left = None if left is None else left - len(part)
        return self._empty.join(parts)

    def _part(self, size: int | None) -> AnyStr:
        """The rest of the current block, or of the next, at most `size`; empty at the end, or if that is 0."""
        if size == 0 or not self._fill():
            return self._empty
        start = self._at
        self._at = len(self._block) if size is None else min(start + size, len(self._block))
        return self._block[start : self._at]

    def _fill(self) -> bool:
        """Whether the current block has something to read, after the next has been made if need be."""
        while self._at == len(self._block):
            if self._ended:
                return False
            if self._failed:
                raise FailedEarlierError
            self._failed = True  # until it has not, whatever interrupts it
            self._block, self._at = self._empty, 0  # two batches need not be in memory at once
            self._block = self._next()
            self._failed = False
        return True

    def _next(self) -> AnyStr:
        rows = self._cursor.fetchmany(self._rows_per_fetch)
        begin = self._empty
        if not self._begun:
            self._begun = True
            begin = self._begin
            # Only now: psycopg 2's named cursors have no description before the first fetch.
            self._encoder.names = names_of(self._cursor, rows)
        if rows:
            return begin + self._encode(rows)
        self._ended = True
        return begin + self._end
