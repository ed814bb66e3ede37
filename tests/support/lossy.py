"""A TCP proxy between the product and a shard that loses what a test tells it to.

It knows as much of the protocol as to find a text in what the client sends, and nothing else.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Fault = Literal["lose_reply", "lose_request", "stall"]


class Lossy:
    """Forwards to (host, port). The first connection whose data hold `trigger` suffers `fault`:

    lose_reply    the data go on, and the connection is cut when the server has begun to answer
    lose_request  the connection is cut in front of the data
    stall         the data go on, and nothing is forwarded to the client any more

    With `answer`, what the server says in front of these bytes still reaches the client.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.trigger = b""
        self.fault: Fault = "lose_reply"
        self.answer = b""
        self.closed_to_new = False
        self.hit = 0

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def arm(self, trigger: bytes, fault: Fault, *, closed_to_new: bool = False, answer: bytes = b"") -> None:
        """Wait for `trigger`; with `closed_to_new` no further connection is let through once it has come."""
        self.trigger, self.fault, self.closed_to_new, self.hit = trigger, fault, closed_to_new, 0
        self.answer = answer

    def heal(self) -> None:
        """Forward all from now on."""
        self.trigger, self.closed_to_new = b"", False

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.hit and self.closed_to_new:
            writer.transport.abort()
            return
        # Known from here on, and not from the task's first step: who comes at the very end must be closed as well.
        self._writers.add(writer)
        task = asyncio.ensure_future(self._client(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        both = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._writers.add(server_writer)
            both.append(server_writer)
            state = {"lost": False}
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, server_writer, writer, state))
                group.create_task(self._down(server_reader, writer, server_writer, state))
        except* OSError:
            pass  # the test cuts connections, or stops the server: that is what it is for
        finally:
            for one in both:
                one.transport.abort()
                self._writers.discard(one)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        state: dict[str, bool],
    ) -> None:
        while data := await reader.read(65536):
            if self.trigger and not self.hit and self.trigger in data:
                self.hit += 1
                state["lost"] = True
                if self.fault == "lose_request":
                    break
            writer.write(data)
            await writer.drain()
        client.transport.abort()
        writer.transport.abort()

    async def _down(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        state: dict[str, bool],
    ) -> None:
        while data := await reader.read(65536):
            if state["lost"]:
                kept, found, _ = data.partition(self.answer) if self.answer else (b"", b"x", b"")
                writer.write(kept)
                await writer.drain()
                if self.fault == "stall" or not found:
                    continue
                break
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
        server.transport.abort()

    @classmethod
    @contextlib.asynccontextmanager
    async def between(cls, host: str, port: int) -> "AsyncIterator[Lossy]":
        """Run one as long as the block."""
        lossy = cls(host, port)
        lossy._server = await asyncio.start_server(lossy._accept, "127.0.0.1", 0)
        try:
            yield lossy
        finally:
            lossy._server.close()
            await asyncio.sleep(0)  # whom the event loop has just accepted
            for writer in list(lossy._writers):
                writer.transport.abort()
            if lossy._tasks:
                await asyncio.wait(lossy._tasks)
