"""A session of the proxy in this process, with the loader as its client over a pair of sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Final

from shardproxy.errors import ConnectionLost, PgError
from shardproxy.net.stream import Stream
from shardproxy.session.cancel import CancelKeys
from shardproxy.session.database import Database
from shardproxy.session.login import Identity
from shardproxy.session.session import Session
from shardproxy.shard.connect import ready
from shardproxy.shard.connection import Connection
from shardproxy.wire import encode
from shardproxy.wire.constants import frontend_limit
from shardproxy.wire.framing import FrameReader

PROTOCOL: Final = (3, 0)


@contextlib.asynccontextmanager
async def connect(database: Database, settings: Mapping[str, str]) -> AsyncIterator[Connection]:
    """Begin a session with these start-up parameters; at the end what is open is rolled back.

    The database must have been started, if it has to be. Raises PgError as a client would see it.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    address = database.addresses[0]
    identity = Identity(address.user, database.config.name, PROTOCOL, dict(settings))
    sessions: list[asyncio.Task[None]] = []

    def accept(stream: Stream) -> None:
        stream.limit(frontend_limit)
        sessions.append(loop.create_task(_serve(stream, Session(stream, identity, database, CancelKeys()))))

    await loop.connect_accepted_socket(lambda: Stream(FrameReader(frontend_limit), accept), theirs)
    _, stream = await loop.create_connection(lambda: Stream(FrameReader()), sock=ours)
    connection = Connection(address, stream, _stands)
    stream.on_idle_data = None
    begun = False
    try:
        await ready(connection)
        begun = True
        yield connection
    finally:
        if connection.busy:
            connection.abort()
        else:
            connection.close()
        if not begun:
            # It may wait for a server that does not answer; later it sees for itself that its client has left.
            for session in sessions:
                session.cancel()
        await asyncio.shield(asyncio.wait(sessions))
        for session in sessions:
            if not session.cancelled():
                session.result()  # a bug in it is not to look like a lost connection


async def _serve(stream: Stream, session: Session) -> None:
    """Run a session as the listener does; its end is the connection's."""
    try:
        with contextlib.suppress(ConnectionLost):  # the loader has left, as it does when it is interrupted
            await session.run()
    except PgError as error:
        error.fields["S"] = error.fields["V"] = "FATAL"
        stream.write(encode.error_response(error.fields))
    finally:
        stream.close()


async def _stands() -> bool:
    """The other end is in this process."""
    return True
