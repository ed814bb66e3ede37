"""Another PostgreSQL, or a database of a proxy: `postgresql://…`, from COPY to COPY.

What COPY TO writes in the text format is what COPY FROM reads: its bytes are passed on as they are, whole rows at a
time. Columns that are to be left out, and constants, are a matter of the query.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from shardproxy.config.dsn import DsnError, parse_dsn
from shardproxy.config.environment import UnresolvedError
from shardproxy.errors import PgError
from shardproxy.loader.input.alterations import Alteration, Alterations
from shardproxy.loader.input.chunk import Chunk, Form
from shardproxy.loader.input.columns import layout
from shardproxy.loader.input.dialect import copy_dialect
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.files import File
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.native import copy_text
from shardproxy.rejects.form import literal
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.shard.control import CLOSE_TIMEOUT, losses, opened
from shardproxy.sqlstate import CONNECTION_FAILURE, INVALID_PARAMETER_VALUE

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

TIMEOUT: Final = 3600.0
"""Seconds that a query may take until its first row, and COPY until it has ended without a row in between."""

SETTINGS: Final = {
    "application_name": "shardproxy load",
    "client_encoding": "UTF8",
    # So that the text of each value is the value, whatever the role's own settings are.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "default_transaction_read_only": "on",
    "statement_timeout": "0",
}


def table_sql(name: str) -> str:
    """Return the query for all rows of a table, by its name as it is."""
    return f"SELECT * FROM {quote_identifier(name)}"


def read_file(
    address: str, query: str, reading: Reading, target: Sequence[Column] | None, altered: Alterations
) -> File:
    """Ask what the query gives, and begin to read it. Raises InputError."""
    puller = _Puller(_address(address))
    name = str(puller)
    try:
        names = puller.columns(query)
        laid = layout(names, reading, target)
        wanted = [quote_identifier(names[at]) for at in laid.kept or range(len(names))]
        wanted += ["NULL" if value is None else literal(value.decode()) for value in laid.constants]
        chunks = _chunks(puller, f"SELECT {', '.join(wanted)} FROM ({query}) AS q", name, reading)
        for kind in dict.fromkeys((*laid.left_out, *[Alteration.CONSTANT] * len(laid.constants))):
            altered.notes.append(f"{name}: {kind}")
        return File(name, laid.columns, reading.output, chunks, copy_text([tuple(laid.columns or ())]))
    except PgError as error:
        puller.close()
        raise InputError(error.sqlstate, error.message, file=name, detail=error.detail, hint=error.hint) from error


def _address(dsn: str) -> Address:
    try:
        found = parse_dsn(dsn, os.environ)
    except (DsnError, UnresolvedError) as error:
        raise InputError(INVALID_PARAMETER_VALUE, str(error), file="source", hint=error.remedy or None) from None
    password = found.password.get_secret_value() if found.password else None
    return Address("source", found.host, found.port, found.user, found.database, password)


def _chunks(puller: "_Puller", sql: str, name: str, reading: Reading) -> Iterator[Chunk]:
    form = Form(name, copy_dialect(reading.output, str.encode).row, b"\n", csv=False, numbered=True)
    row = offset = 0
    rest = b""
    with contextlib.closing(puller):
        try:
            for block in puller.copy(sql):
                whole = block.rfind(b"\n") + 1  # the text format has no other in a row
                data, rest = rest + block[:whole], block[whole:] if whole else rest + block
                if not whole:
                    continue
                rows = data.count(b"\n")
                yield Chunk(form, data, rows, row, row + 1, offset)
                row += rows
                offset += len(data)
        except PgError as error:
            raise InputError(error.sqlstate, error.message, file=name, detail=error.detail, hint=error.hint) from error


class _Puller:
    """A connection in an event loop of its own, which runs only while a block is waited for.

    The loader reads in a thread: between two blocks the source is not read, and waits.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._connection: Control | None = None

    def __str__(self) -> str:
        one = self._address
        return f"postgresql://{one.host}:{one.port}/{one.database}"

    async def _connected(self) -> "Control":
        if self._connection is None:
            self._connection = await opened(self._address, TIMEOUT, SETTINGS)
        return self._connection

    def columns(self, query: str) -> list[str]:
        """Return the names of a query's columns."""

        async def ask() -> list[str]:
            with _translated():
                connection = await self._connected()
                return [one.name for one in (await connection.prepare(query)).get_attributes()]

        return self._loop.run_until_complete(ask())

    def copy(self, sql: str) -> Iterator[bytes]:
        """Give what COPY TO writes, block by block."""
        blocks: asyncio.Queue[bytes | None] = asyncio.Queue(1)

        async def run() -> None:
            try:
                with _translated():
                    connection = await self._connected()
                    await connection.copy_from_query(sql, output=blocks.put, format="text", timeout=TIMEOUT)
            finally:
                await blocks.put(None)

        copying = self._loop.create_task(run())
        while (block := self._loop.run_until_complete(blocks.get())) is not None:
            yield block
        self._loop.run_until_complete(copying)

    def close(self) -> None:
        """End what is under way, and the connection."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._connection is not None:
                with contextlib.suppress(*losses()):
                    await self._connection.close(timeout=CLOSE_TIMEOUT)

        self._loop.run_until_complete(end())
        self._loop.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise asyncpg's errors as PgError."""
    import asyncpg

    try:
        yield
    except losses() as error:
        raise PgError(CONNECTION_FAILURE, "connection to the source was lost", detail=str(error)) from error
    except asyncpg.PostgresError as error:
        raise errors.from_asyncpg(error) from error
