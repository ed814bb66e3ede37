"""`AsyncRows`: the rows of a query on an asynchronous cursor, as an asynchronous iterator of COPY data.

It has no `read`: asyncpg's `copy_to_table` would take an object with one for a file, and call it in a thread.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from shardproxy.rows.blocks import ROWS_PER_FETCH
from shardproxy.rows.encoder import Nul, Types
from shardproxy.rows.errors import FailedEarlierError
from shardproxy.rows.source import Format, at_least_one, encoder_of, names_of

Fetch = Callable[[int], object]


class AsyncRows:
    """A query's rows as COPY data in UTF-8, a block of bytes for each batch of rows.

    The cursor is one with awaitable `execute` and `fetchmany` (psycopg, aiosqlite, aiomysql, asyncmy, oracledb),
    or asyncpg's: a connection, or with None for the query what its `cursor` gives. The query runs when the first block
    is asked for. The other arguments are those of `RowsIO`, and so are the errors.
    """

    def __init__(
        self,
        cursor: Any,
        query: Any,
        parameters: Any = None,
        rows_per_fetch: int = ROWS_PER_FETCH,
        *,
        format: Format = "csv",  # noqa: A002 -- COPY's word
        types: Types | None = None,
        nul: Nul = "error",
    ) -> None:
        self._cursor = cursor
        self._query = query
        self._parameters = parameters
        self._rows_per_fetch = at_least_one(rows_per_fetch)
        self._encoder = encoder_of(format, types, nul)
        self._fetch: Fetch | None = None
        self._ended = self._failed = False

    @property
    def rows(self) -> int:
        """The rows that have been fetched; at the end, the count of COPY's command tag."""
        return self._encoder.rows

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise FailedEarlierError
        if self._ended:
            raise StopAsyncIteration
        self._failed = True  # until it has not, whatever interrupts it
        block = await self._next()
        self._failed = False
        if not block:
            raise StopAsyncIteration
        return block

    async def _next(self) -> bytes:
        begin = b""
        fetch = self._fetch
        if fetch is None:
            fetch = self._fetch = await self._execute()
            begin = self._encoder.begin()
        rows: Sequence[Any] = await self._awaitable(fetch(self._rows_per_fetch))
        if self._encoder.names is None:
            self._encoder.names = names_of(self._cursor, rows)
        if rows:
            return begin + self._encoder.encode(rows)
        self._ended = True
        return begin + self._encoder.end()

    async def _execute(self) -> Fetch:
        """Run the query, in the manner of the cursor; what is returned fetches the next rows."""
        cursor = self._cursor
        # asyncpg's connections have a fetchmany too, which runs a query many times.
        if hasattr(cursor, "fetchmany") and not hasattr(cursor, "fetchrow"):
            if self._query is not None:
                await self._awaitable(
                    cursor.execute(self._query, *(() if self._parameters is None else (self._parameters,)))
                )
            return cursor.fetchmany  # type: ignore[no-any-return]
        if self._query is not None:
            cursor = cursor.cursor(self._query, *(self._parameters or ()))
        if inspect.isawaitable(cursor):
            cursor = await cursor
        return cursor.fetch  # type: ignore[no-any-return]

    def _awaitable(self, result: Any) -> Awaitable[Any]:
        if not inspect.isawaitable(result):
            raise TypeError(f"a {type(self._cursor).__qualname__} is not asynchronous: it needs RowsIO")
        return result

    async def aclose(self) -> None:
        """End the iteration; the cursor is still its owner's to close."""
        self._ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
