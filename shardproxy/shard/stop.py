"""The end of what a connection runs, when no client waits for its answer any more."""

import asyncio
from contextlib import suppress
from typing import Final

from shardproxy.errors import PgError
from shardproxy.shard.connection import Connection

PATIENCE: Final = (0.1, 0.4, 1.5)
"""Seconds for the answer to each cancel request."""


async def stop(connection: Connection) -> None:
    """Cancel what runs, and wait until it has ended; a server on which it does not end is given up.

    A request that comes before the server has read the statement has no effect, so it is made again. A statement that
    writes nothing would outlive its connection.
    """
    connection.stream.untap()
    for patience in PATIENCE:
        await connection.cancel()
        with suppress(TimeoutError, PgError):
            async with asyncio.timeout(patience):
                while connection.busy:
                    await connection.read()
        if not connection.busy:
            return
    connection.abort()
