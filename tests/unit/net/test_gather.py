"""`each`: all end, whichever fails."""

import asyncio

import pytest

from shardproxy.net.gather import each


async def test_results_in_order() -> None:
    async def job(number: int) -> int:
        for _ in range(3 - number):
            await asyncio.sleep(0)
        return number

    assert await each(job(number) for number in range(3)) == [0, 1, 2]
    assert await each([job(7)]) == [7]
    assert await each([]) == []


async def test_a_failure_waits_for_the_others() -> None:
    """Each connection is read up to its own ReadyForQuery; the first failure in order is raised, not in time."""
    ended: list[int] = []

    async def job(number: int) -> None:
        for _ in range(9 - number):
            await asyncio.sleep(0)
        ended.append(number)
        if number:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        await each(job(number) for number in range(3))
    assert ended == [2, 1, 0]


async def test_the_callers_cancellation_cancels_all_and_is_waited_for() -> None:
    ended: list[int] = []

    async def job(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    waiting = asyncio.ensure_future(each(job(number) for number in range(2)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(ended) == [0, 1]
