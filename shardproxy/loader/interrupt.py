"""What SIGINT and SIGTERM end in order: what is open is rolled back, a COMMIT that was sent is waited for.

A second signal does what it does by default.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class SignalError(Exception):
    """A signal has ended it; `exit_code` is what a shell makes of that: 130, or 143."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own. Raises SignalError if a signal has cancelled it."""
    return asyncio.run(_run(work))


async def _run(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(signum: int) -> None:
        received.append(signum)
        _restore(loop)
        task.cancel()

    for one in SIGNALS:
        loop.add_signal_handler(one, stop, one)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        raise SignalError(received[0]) from None
    finally:
        _restore(loop)


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for one in SIGNALS:
        loop.remove_signal_handler(one)
