"""One COPY: the rows of one file, on their way to the target."""

import asyncio

from shardproxy.errors import PgError
from shardproxy.loader.aside import Aside
from shardproxy.loader.input.chunk import Chunk
from shardproxy.loader.input.files import File
from shardproxy.loader.origins import Origins
from shardproxy.loader.prefetch import Prefetch
from shardproxy.loader.stage import Stage
from shardproxy.loader.target.table import Table
from shardproxy.rejects.form import copy_sql
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INTERNAL_ERROR
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B

PIECE = 1 << 18
"""Bytes of one CopyData message."""


async def copy_file(
    connection: Connection, table: Table, file: File, aside: Aside, stage: Stage, prefetch: int
) -> None:
    """Store the rows of a file, in the transaction that is open. Raises PgError."""
    origins, sink = aside.begin(file.header)
    summary = stage.summary
    reading, sending = f"reading {file.name}", f"waiting for the target to take the rows of {file.name}"
    stage.doing = reading
    columns = file.columns or table.filled
    aside.conflicts.check_columns(columns)
    connection.query(copy_sql(table.quoted, columns, file.options).encode())
    reply = await connection.read()
    if reply.type != B.COPY_IN_RESPONSE:
        await connection.complete()
        raise connection.error() if reply.type == B.ERROR_RESPONSE else connection.unexpected(reply)
    answer = asyncio.ensure_future(connection.read())
    rows = 0
    try:
        async with Prefetch(file.chunks, _size, prefetch) as chunks:
            _send(connection, origins, file.head)
            async for chunk in chunks:
                if answer.done():
                    break
                aside.faults(chunk.faults)
                origins.sent(chunk)
                rows += chunk.rows
                summary.bytes += len(chunk.data)
                _put(connection, chunk.data)
                if not connection.stream.writable:
                    stage.doing = sending
                    await connection.stream.drain()
                    stage.doing = reading
        _put(connection, file.tail)
    except BaseException as error:
        # An input that cannot be read, a row that ends the load: nothing of this COPY stays.
        connection.stream.write(encode.copy_fail("the input cannot be read any further"))
        if isinstance(error, PgError):
            await asyncio.wait({answer})
            await connection.complete()
        else:
            answer.cancel()  # whoever ends the load closes the connection
        raise
    stage.doing = f"waiting for the target to have stored the rows of {file.name}"
    connection.stream.write(encode.COPY_DONE)
    reply = await answer
    if reply.type == B.ERROR_RESPONSE:
        refused = connection.error()
        await connection.complete()
        raise refused
    with connection.trusted():
        stored = int(decode.command_complete(reply.payload).split()[-1])
    await connection.complete()
    if sink.rows != rows:
        raise PgError(INTERNAL_ERROR, f"{rows} rows were sent, and of {sink.rows} it is known what became of them")
    summary.stored += stored - sink.replaced
    summary.updated += sink.replaced
    summary.dropped += rows - stored - sink.rejected


def _size(chunk: Chunk) -> int:
    return len(chunk.data) + (len(chunk.source) if chunk.source is not None else 0)


def _send(connection: Connection, origins: Origins, head: bytes) -> None:
    origins.skip(len(head))
    _put(connection, head)


def _put(connection: Connection, data: bytes) -> None:
    for at in range(0, len(data), PIECE):
        connection.stream.write(encode.copy_data(data[at : at + PIECE]))
