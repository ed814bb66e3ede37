"""Waiting for several connections at once."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Set
from typing import Any, TypeVar

T = TypeVar("T")


async def each(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; when all have ended, return their results or raise the first failure in order.

    None is cancelled when another fails: each connection must be read up to its own ReadyForQuery. Only the
    caller's own cancellation cancels them, and is waited for.
    """
    coroutines = list(jobs)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
        raise
    failures = [task.exception() for task in tasks]
    for failure in failures:
        if failure is not None:
            raise failure
    return [task.result() for task in tasks]


async def settled(tasks: Collection[asyncio.Task[None]], timeout: float | None = None) -> Set[asyncio.Task[None]]:
    """Wait for tasks, if there are any; return those that have not ended."""
    return (await asyncio.wait(tasks, timeout=timeout))[1] if tasks else set()
