"""Over which connections a load's rows go, and what stands around them."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from shardproxy.errors import PgError
from shardproxy.loader.blocking import in_thread
from shardproxy.loader.input import Alterations, Reading, read
from shardproxy.loader.input.open import give_up, size_of
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.target.concurrency import Spread, several, spread_of, unable
from shardproxy.loader.target.table import Table
from shardproxy.loader.target.writers import alive
from shardproxy.session.database import Database
from shardproxy.shard.connection import Connection

Session = Callable[[Database], "contextlib.AbstractAsyncContextManager[Connection]"]


@dataclass(frozen=True, slots=True)
class Ways:
    """`connection` is a session over `database`, for the rows and their transaction.

    `apart`: what stands around the rows has a session, and transactions, of its own: with several writers a lock of the
    table would be each other's.
    """

    database: Database
    connection: Connection
    apart: Connection | None = None


@contextlib.asynccontextmanager
async def ways(
    options: LoadOptions,
    database: Database,
    connection: Connection,
    table: Table,
    reading: Reading,
    session: Session,
    note: Callable[[str], None],
) -> AsyncIterator[Ways]:
    """Open them; `note` is told why there are less writers than were asked for. Raises PgError."""
    plain = Ways(database, connection)
    async with contextlib.AsyncExitStack() as stack:
        if options.config is not None:
            if options.concurrency > 1:
                note("concurrency is left out: each shard has a writer of its own")
            yield plain
            return
        await stack.enter_async_context(alive(database.addresses[0]))
        if options.concurrency == 1:
            yield plain
            return
        spread = await _spread(options, connection, table, reading)
        if not spread.key:
            note(f"one writer, as {spread.why}")
            yield plain
            return
        try:
            writers = await stack.enter_async_context(several(database, table, spread.key, options.concurrency))
        except PgError as error:
            if not unable(error):
                raise
            note(f"one writer, as several could not commit together: {error.message}")
            yield plain
            return
        yield Ways(writers, await stack.enter_async_context(session(writers)), connection)


async def _spread(options: LoadOptions, connection: Connection, table: Table, reading: Reading) -> Spread:
    if options.check:
        return Spread(why="nothing is to be committed")
    if options.on_conflict == "update":
        return Spread(why="rows may replace others")
    if options.drop_indexes or options.disable_triggers:
        return Spread(why="the transaction that drops indexes or disables triggers locks the table")
    if options.import_id is not None and (options.before or options.truncate or options.after):
        return Spread(why="what stands around the rows of an import belongs to their transactions")
    return await spread_of(connection, table, await in_thread(lambda: _loaded(options, table, reading)))


def _loaded(options: LoadOptions, table: Table, reading: Reading) -> Collection[str] | None:
    """Return the columns that the first file fills; None if it cannot be opened twice."""
    if options.source is not None or size_of(options.files) is None:
        return None
    for file in read(options.files, reading, table.columns, Alterations()):
        give_up(file.chunks)
        return file.columns or table.filled
    return table.filled
