"""Waiting for several connections at once."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once; when all have ended, raise the first failure in order.

    Nobody is cancelled when one fails: each connection must be read up to its own ReadyForQuery.
    """
    results = await asyncio.gather(*jobs, return_exceptions=True)
    values: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        values.append(result)
    return values
