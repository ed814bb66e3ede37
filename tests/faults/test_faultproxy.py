"""The fault proxy itself leaves nothing behind."""

import asyncio

from tests.support.faultproxy import FaultProxy

PATIENCE = 5.0


async def test_a_connection_that_has_just_come_is_closed_at_the_end() -> None:
    """The race: its task is cancelled before its first step, so that nothing of it runs, no `finally` either."""
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
    async with await asyncio.start_server(lambda *streams: came.set_result(streams), "127.0.0.1", 0) as listener:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        accepted = await came
        async with FaultProxy("127.0.0.1", 1) as fault:
            fault._accept(*accepted)
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
