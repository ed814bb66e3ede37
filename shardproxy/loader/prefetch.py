"""Reads ahead of what is sent: in a thread of its own, up to so many bytes."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """The items of a blocking iterator, asynchronously."""

    def __init__(self, items: Iterator[T], size_of: Callable[[T], int], limit: int) -> None:
        """Hold at most `limit` bytes, by `size_of`, and one item more."""
        self._items = items
        self._size_of = size_of
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._ready: deque[T] = deque()
        self._held = 0
        self._room = threading.Condition()
        self._arrived = asyncio.Event()
        self._done = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="shardproxy load: reader", daemon=True)

    async def __aenter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Have the thread end; one that waits for a FIFO or a terminal is left to itself."""
        with self._room:
            self._stopped = True
            self._room.notify()
        self._ready.clear()

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._room:
                    self._room.wait_for(lambda: self._stopped or self._held < self._limit)
                    if self._stopped:
                        return
                    self._held += self._size_of(item)
                    self._ready.append(item)
                self._tell()
        except BaseException as error:  # given to whoever waits for the next item
            self._error = error
        self._done = True
        self._tell()

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            while self._ready:
                item = self._ready.popleft()
                yield item
                with self._room:
                    self._held -= self._size_of(item)
                    self._room.notify()
            if self._done and not self._ready:
                if self._error is not None:
                    raise self._error
                return
            await self._arrived.wait()
            self._arrived.clear()
