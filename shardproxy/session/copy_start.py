"""The shards' first answers to a COPY: all agree, or the COPY does not begin."""

from collections.abc import Sequence

from shardproxy.errors import PgError, ProtocolError
from shardproxy.net.gather import each
from shardproxy.shard.connection import Connection
from shardproxy.wire import decode
from shardproxy.wire.constants import B

Reply = decode.CopyResponse | PgError


async def first_replies(connections: Sequence[Connection], expected: int) -> list[Reply]:
    """Read each shard's CopyInResponse or CopyOutResponse (`expected`), or its error up to ReadyForQuery."""
    return await each(_first_reply(connection, expected) for connection in connections)


async def _first_reply(connection: Connection, expected: int) -> Reply:
    error: PgError | None = None
    try:
        while True:
            message = await connection.read()
            if message.type == expected:
                with connection.trusted():
                    response = decode.copy_response(message.payload)
                    if not {response.format, *response.column_formats} <= {0, 1}:
                        raise ProtocolError(f"it sent {response}")
                    return response
            if message.type == B.ERROR_RESPONSE:
                error = connection.error()
            elif message.type == B.READY_FOR_QUERY and error is not None:
                return error
            else:
                raise connection.unexpected(message)
    except PgError as lost:
        return error or lost
