"""A few faults under SQL in each run; the long form is `python -m tests.faults.sql_storm --faults 500`."""

import asyncio

import pytest

from tests.faults.sql_storm import storm


@pytest.mark.timeout(300)
async def test_every_write_once_or_never_in_a_small_storm() -> None:
    report = await asyncio.to_thread(storm, 12, seed=3)
    assert report.violations == []
    assert sum(report.faults.values()) == 12
    assert report.told.errors["acknowledged"] > 0
    assert report.marks > 0
