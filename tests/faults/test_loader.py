"""A few kills in each run; the long form is `python -m tests.faults.loader --kills 200`."""

import pytest

from tests.faults.loader import storm


@pytest.mark.timeout(180)
def test_each_row_once_in_a_small_storm() -> None:
    report = storm(3, seed=2)
    assert report.violations == []
    assert sum(report.faults.values()) == 3
    assert report.rows > 0
