"""How a connection to a shard comes to be: dial, authenticate, read up to the first ReadyForQuery."""

import asyncio
from collections.abc import Mapping
from typing import Final

from shardproxy.errors import ConnectionLost, PgError
from shardproxy.net import dial
from shardproxy.net.stream import Stream
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.shard.auth import authenticate
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import (
    CANT_CHANGE_RUNTIME_PARAM,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    TOO_MANY_CONNECTIONS,
)
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B

SETTINGS_CLASSES = frozenset({"22", "42", CANT_CHANGE_RUNTIME_PARAM})
"""SQLSTATEs and classes of a start-up parameter that the server does not take: invalid value, unknown name, fixed."""


ALIKE: Final = (
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "client_encoding",
    "standard_conforming_strings",
)
"""Settings by which a statement means the same on all shards of a session. What they are by default may differ between
servers, and ALTER ROLE or ALTER DATABASE may change it between two connections; a session keeps what it began with."""


async def connect(address: Address, parameters: Mapping[str, str]) -> Connection:
    """Connect with the given start-up parameters (without user and database).

    Raises PgError: the server's own error where it refuses a parameter or has no place (53300); else 08001
    naming the shard, when it refuses the proxy or cannot be reached in `address.connect_timeout` seconds.
    """
    stream: Stream | None = None
    try:
        async with asyncio.timeout(address.connect_timeout):
            stream = await dial.dial(address.host, address.port)
            connection = Connection(address, stream, lambda: alive(address))
            await start(connection, parameters)
            return connection
    except (OSError, TimeoutError, ConnectionLost, PgError) as error:
        if stream is not None:
            stream.abort()
        if isinstance(error, PgError):
            if {error.sqlstate, error.sqlstate[:2]} & SETTINGS_CLASSES:
                error.fields["S"] = error.fields["V"] = "ERROR"
                raise
            if error.sqlstate == TOO_MANY_CONNECTIONS:
                # The client may wait and try again, as it would with one server.
                raise errors.reported_by(PgError(TOO_MANY_CONNECTIONS, error.message), address.name) from error
        raise errors.unreachable(address.name, error) from error
    except BaseException:
        if stream is not None:
            stream.abort()
        raise


async def connect_alike(address: Address, parameters: Mapping[str, str], first: dict[str, str]) -> Connection:
    """Connect, as `connect`, so that the settings of ALIKE begin as on a session's first connection.

    `first` are those, and is filled by that connection.
    """
    connection = await connect(address, parameters)
    reported = connection.parameters
    if not first:
        first.update({name: reported[name] for name in ALIKE if name in reported})
    others = {name: value for name, value in first.items() if reported.get(name, value) != value}
    if not others:
        return connection
    connection.close()
    return await connect(address, {**parameters, **others})


async def start(connection: Connection, parameters: Mapping[str, str]) -> None:
    """Bring a connection that was just dialled up to its first ReadyForQuery."""
    address, stream = connection.address, connection.stream
    stream.on_idle_data = None
    stream.write(encode.startup_message({**parameters, "user": address.user, "database": address.database}))
    await authenticate(stream, address.user, address.password)
    await ready(connection)


async def ready(connection: Connection) -> None:
    """Read what comes after the authentication, up to the first ReadyForQuery. Raises the server's error.

    Until then `stream.on_idle_data` must be None.
    """
    stream = connection.stream
    while True:
        message = await stream.message()
        if connection.asynchronous(message):
            continue
        if message.type == B.ERROR_RESPONSE:
            raise PgError.from_fields(decode.fields(message.payload))
        if message.type == B.BACKEND_KEY_DATA:
            connection.pid, connection.secret = decode.backend_key_data(message.payload)
        elif message.type == B.READY_FOR_QUERY:
            stream.on_idle_data = connection.idle_data
            return


async def alive(address: Address) -> bool:
    """Whether a server answers a new connection; any refusal of its own is an answer."""
    try:
        connection = await connect(address, {})
    except PgError as error:
        return error.sqlstate != SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION
    connection.close()
    return True
