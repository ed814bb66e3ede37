"""A small storm in each run; the long one is `python -m tests.faults.kill_storm --kills 1000`."""

import asyncio

import pytest

from tests.faults.kill_storm import storm


@pytest.mark.timeout(180)
async def test_nothing_is_lost_in_a_small_storm() -> None:
    report = await asyncio.to_thread(storm, 15)
    assert report.violations == []
    assert sum(report.faults.values()) == 15
    assert report.told["acknowledged"] > 0
    assert report.rows > 0
