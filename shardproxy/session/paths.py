"""Names without a schema that the search_path finds differently on each shard: what the earliest schema has counts.

A table of one shard, in a schema that comes before that of another table of its name, hides that on its shard alone.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar


class InSchema(Protocol):
    """Something that a name means."""

    @property
    def schema(self) -> str:
        """Where it is."""


T = TypeVar("T", bound=InSchema)


async def in_front(
    searched: Sequence[str], found: str, shards: Iterable[int], look: Callable[[int], Awaitable[T | None]]
) -> tuple[T, int] | None:
    """Return what one of some shards has of a name that was found in a schema, and hides it, with its number; or None.

    `searched` are the schemas of the search_path, `look` looks on a shard.
    """
    before = searched[: searched.index(found)] if found in searched else ()
    hiding: tuple[T, int] | None = None
    for shard in shards if before else ():
        one = await look(shard)
        if one is not None and one.schema in before:
            hiding, before = (one, shard), before[: before.index(one.schema)]
    return hiding
