"""A call that may block for ever, in a thread of its own: whoever waits for it can be cancelled."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return what it returns, raise what it raises.

    Unlike `asyncio.to_thread` it keeps no one from leaving: a FIFO may never be opened by who is to write to it.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def done(value: T | None, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = call()
        except BaseException as raised:  # given to who waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(done, value, error)

    threading.Thread(target=run, name="shardproxy load: reader", daemon=True).start()
    return await result
