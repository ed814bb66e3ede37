"""Notices to a client that does not read them: the shards wait, as one server would.

Rows have their own back-pressure in `results.Relay`; notices come between messages that somebody else waits for, and
are written wherever the client is. Driven by: `wrote()` behind each notice, `close()` at the end of the session.
"""

import asyncio
from collections.abc import Callable, Iterable

from shardproxy.backend.connection import Connection
from shardproxy.engine.results import Output


class SlowClient:
    """Pauses all shards of a session until its client has caught up."""

    def __init__(self, output: Output, connections: Callable[[], Iterable[Connection]]) -> None:
        self._output = output
        self._connections = connections
        self._waiting: asyncio.Task[None] | None = None

    def wrote(self) -> None:
        """Something was written to the client that nobody holds back."""
        if self._output.writable:
            return
        for connection in self._connections():
            connection.stream.pause_reading(self)
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._catch_up())

    async def _catch_up(self) -> None:
        await self._output.drain()
        self._waiting = None
        for connection in self._connections():
            connection.stream.resume_reading(self)

    def close(self) -> None:
        """Wait no longer."""
        if self._waiting is not None:
            self._waiting.cancel()
