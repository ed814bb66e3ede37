"""`RowsIO` and `RowsTextIO`: files to read from, whose content is the rows of a query.

They hold one batch of rows, and read the next when that is used up. The query runs when they are made, on the cursor
that they are given; that cursor is still its owner's to close.
"""

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from shardproxy.rows.blocks import ROWS_PER_FETCH, Blocks
from shardproxy.rows.encoder import Nul, Types
from shardproxy.rows.source import Cursor, Format, at_least_one, encoder_of
from shardproxy.rows.text import TextEncoder

if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """What asyncpg's stubs ask for, and what this is at run time."""
else:
    _BinaryFile = io.BufferedIOBase


class RowsIO(_BinaryFile):
    """A query's rows as COPY data in UTF-8, to be read from like a binary file.

    `query` and `parameters` are as the cursor's driver takes them; None for a query that the cursor has run already.
    `rows_per_fetch` rows are in memory at a time, if the cursor leaves the others with its server. `types` gives
    columns' types: all for the binary format, else those of json and jsonb, where a list is no array.
    Reading raises RowTypeError or RowValueError, with row and column, for what PostgreSQL could not store.
    """

    def __init__(
        self,
        cursor: Cursor,
        query: Any,
        parameters: Any = None,
        rows_per_fetch: int = ROWS_PER_FETCH,
        *,
        format: Format = "csv",  # noqa: A002 -- COPY's word
        types: Types | None = None,
        nul: Nul = "error",
    ) -> None:
        encoder = encoder_of(format, types, nul)
        self._blocks = Blocks(
            cursor,
            at_least_one(rows_per_fetch),
            encoder,
            begin=encoder.begin(),
            encode=encoder.encode,
            end=encoder.end(),
        )
        self._blocks.execute(query, parameters)

    @property
    def rows(self) -> int:
        """The rows that have been fetched; at the end, the count of COPY's command tag."""
        return self._blocks.rows

    def readable(self) -> bool:
        """True while it is open."""
        return not self.closed

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer only at the end; all that are left without a size."""
        self._check_open()
        return self._blocks.read(size)

    def read1(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, those of one batch."""
        self._check_open()
        return self._blocks.read_some(size)

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; the number of bytes, fewer than it holds only at the end."""
        self._check_open()
        return _into(buffer, self._blocks.read)

    def readinto1(self, buffer: Any, /) -> int:
        """Put into a buffer what is there, at most a batch."""
        self._check_open()
        return _into(buffer, self._blocks.read_some)

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line: in the text format a row, in CSV a part of one if its values hold line ends."""
        self._check_open()
        return self._blocks.line(size, b"\n")

    def blocks(self) -> Iterator[bytes]:
        """What has not been read, a batch of rows each: the cheapest way to read all."""
        self._check_open()
        return self._blocks.rest()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("read of closed rows")


class RowsTextIO(io.TextIOBase):
    """A query's rows as COPY data, to be read from like a text file; `RowsIO` is the same in UTF-8, and faster."""

    def __init__(
        self,
        cursor: Cursor,
        query: Any,
        parameters: Any = None,
        rows_per_fetch: int = ROWS_PER_FETCH,
        *,
        format: Format = "csv",  # noqa: A002 -- COPY's word
        types: Types | None = None,
        nul: Nul = "error",
    ) -> None:
        encoder = encoder_of(format, types, nul)
        if not isinstance(encoder, TextEncoder):
            raise ValueError(f"the {format} format is bytes: it needs RowsIO")
        self._blocks = Blocks(cursor, at_least_one(rows_per_fetch), encoder, begin="", encode=encoder.text, end="")
        self._blocks.execute(query, parameters)

    @property
    def rows(self) -> int:
        """The rows that have been fetched; at the end, the count of COPY's command tag."""
        return self._blocks.rows

    def readable(self) -> bool:
        """True while it is open."""
        return not self.closed

    def read(self, size: int | None = -1, /) -> str:
        """`size` characters, fewer only at the end; all that are left without a size."""
        self._check_open()
        return self._blocks.read(size)

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """A line: in the text format a row, in CSV a part of one if its values hold line ends."""
        self._check_open()
        return self._blocks.line(size, "\n")

    def blocks(self) -> Iterator[str]:
        """What has not been read, a batch of rows each: the cheapest way to read all."""
        self._check_open()
        return self._blocks.rest()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("read of closed rows")


def _into(buffer: Any, read: Callable[[int], bytes]) -> int:
    view = memoryview(buffer).cast("B")
    data = read(len(view))
    view[: len(data)] = data
    return len(data)
