"""Back-pressure between a client and its shards, whatever runs.

A shard that reads too slowly holds the client back, a client that reads too slowly holds every shard back.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

from shardproxy.shard.connection import Connection


class Source(Protocol):
    """Where requests and data come from: a client's stream, or whatever stands for one."""

    writable: bool

    def pause_reading(self, reason: Hashable) -> None:
        """Hold what comes back."""

    def resume_reading(self, reason: Hashable) -> None:
        """Let it come."""


class Pressure:
    """That of one client."""

    def __init__(self, client: Source) -> None:
        self._client = client

    def attach(self, connection: Connection, on_lost: Callable[[], None]) -> None:
        """Watch a new connection; `on_lost` is called when it is lost."""

        def writable(writable: bool) -> None:
            if writable:
                self._client.resume_reading(connection)
            else:
                self._client.pause_reading(connection)

        def lost() -> None:
            self._client.resume_reading(connection)
            on_lost()

        connection.stream.on_writable = writable
        connection.stream.on_lost = lost
        if not self._client.writable:
            connection.stream.pause_reading(self)

    def client_writable(self, connections: Iterable[Connection], writable: bool) -> None:
        """The client has fallen behind in reading, or has caught up."""
        for connection in connections:
            if writable:
                connection.stream.resume_reading(self)
            else:
                connection.stream.pause_reading(self)

    def hold(self, reason: Hashable) -> None:
        """Hold the client back for another reason than a shard's."""
        self._client.pause_reading(reason)

    def go_on(self, reason: Hashable) -> None:
        """That reason is gone."""
        self._client.resume_reading(reason)

    def release_client(self, connections: Iterable[Connection]) -> None:
        """Let the client's data come whatever the shards read."""
        for connection in connections:
            self._client.resume_reading(connection)
