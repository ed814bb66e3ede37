"""How many rows may be bad."""

import pytest

from shardproxy.errors import PgError
from shardproxy.rejects.limits import RejectLimit


@pytest.mark.parametrize("text", ["x", "-1", "101%", "5 %%", "1.5", "%"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of rows"):
        RejectLimit.parse(text)


@pytest.mark.parametrize(
    ("limit", "read", "rejected", "ends"),
    [
        ("", 999, 999, False),
        ("", 1000, 1000, True),
        ("", 10**9, 10**9 - 1, False),
        ("0", 1, 0, False),
        ("0", 5, 1, True),
        ("3", 10, 3, False),
        ("3", 10, 4, True),
        ("10%", 299, 298, False),
        ("10%", 300, 30, False),
        ("10 %", 300, 31, True),
        ("0.5%", 1000, 5, False),
        ("0.5%", 1000, 6, True),
    ],
)
def test_limits(limit: str, read: int, rejected: int, ends: bool) -> None:
    parsed = RejectLimit.parse(limit)
    if not ends:
        parsed.check(read, rejected)
        return
    with pytest.raises(PgError) as caught:
        parsed.check(read, rejected, sample="line 3: 22P02: no")
    assert caught.value.sqlstate == "22P02"
    assert caught.value.detail == "Last: line 3: 22P02: no"
