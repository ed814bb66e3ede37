"""Command tags of several shards."""

from collections.abc import Sequence

from shardproxy.errors import PgError
from shardproxy.sqlstate import INTERNAL_ERROR


def total_tag(tags: Sequence[str], limit: int | None = None) -> str:
    """Add the row counts of the shards' command tags: `SELECT 2`, `SELECT 3` -> `SELECT 5`; `INSERT 0 1` likewise.

    With `limit` the client gets no more rows than that, and the tag counts these.
    """
    words = tags[0].split()
    if not words or not words[-1].isdecimal():
        return tags[0]
    counts = [tag.split()[-1] if tag else "" for tag in tags]
    if not all(count.isdecimal() for count in counts):
        raise PgError(INTERNAL_ERROR, "the shards gave answers that do not add up", detail=", ".join(tags))
    total = sum(map(int, counts))
    return " ".join([*words[:-1], str(total if limit is None else min(total, limit))])
