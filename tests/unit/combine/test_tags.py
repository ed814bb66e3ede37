"""Command tags of several shards."""

import pytest

from shardproxy.combine.tags import total_tag
from shardproxy.errors import PgError


@pytest.mark.parametrize(
    ("tags", "total"),
    [
        (["SELECT 2", "SELECT 3"], "SELECT 5"),
        (["INSERT 0 1", "INSERT 0 0", "INSERT 0 2"], "INSERT 0 3"),
        (["COPY 0"], "COPY 0"),
        (["CREATE TABLE", "CREATE TABLE"], "CREATE TABLE"),
        (["", ""], ""),
    ],
)
def test_counts_are_added(tags: list[str], total: str) -> None:
    assert total_tag(tags) == total


@pytest.mark.parametrize(("limit", "total"), [(4, "SELECT 4"), (5, "SELECT 5"), (6, "SELECT 5"), (None, "SELECT 5")])
def test_rows_after_a_limit_do_not_count(limit: int | None, total: str) -> None:
    assert total_tag(["SELECT 2", "SELECT 3"], limit) == total


@pytest.mark.parametrize("other", ["", "SELECT", "SELECT x"])
def test_tags_that_do_not_add_up(other: str) -> None:
    with pytest.raises(PgError) as caught:
        total_tag(["SELECT 2", other])
    assert caught.value.sqlstate == "XX000"
