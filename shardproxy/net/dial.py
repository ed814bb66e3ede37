"""The one road to a shard: every socket of client traffic and every CancelRequest starts here."""

import asyncio

from shardproxy.net.stream import Stream
from shardproxy.wire import encode
from shardproxy.wire.framing import FrameReader

CANCEL_TIMEOUT = 5.0
"""Seconds for a CancelRequest, which no server answers: only the connection's end is awaited."""


async def dial(host: str, port: int) -> Stream:
    """Return a connected stream; OSError if it is refused. The caller bounds the time."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: Stream(FrameReader()), host, port)
    return stream


async def cancel(host: str, port: int, pid: int, secret: bytes) -> None:
    """Ask a server to cancel what a backend runs. Manual: "Canceling Requests in Progress".

    Returns when the server has closed the connection: from then on the request has had its effect, if any. Nothing
    tells whether it came in time. A server that cannot be reached needs no cancel: the statement's own connection
    shows that it is lost, or its deadline does.
    """
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT):
            stream = await dial(host, port)
            try:
                stream.write(encode.cancel_request(pid, secret))
                await stream.closed()
            finally:
                stream.abort()
    except (OSError, TimeoutError):
        return
