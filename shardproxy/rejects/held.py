"""Rejects that are kept to be written in the order of the input; of many, so many at a time."""

from collections.abc import Sequence
from typing import Final

from shardproxy.rejects.files import RejectFiles
from shardproxy.rejects.reject import Reject

HELD_BYTES: Final = 8 << 20
"""Bytes that are kept at most, about."""

REJECT_BYTES: Final = 1000
"""What a reject takes besides its row, about."""


class Held:
    """What has not been written."""

    def __init__(self) -> None:
        self._rejects: list[Reject] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        return self._size > HELD_BYTES

    def add(self, rejects: Sequence[Reject]) -> None:
        """Keep some."""
        self._rejects += rejects
        self._size += sum(len(one.row) + REJECT_BYTES for one in rejects)

    def write(self, files: RejectFiles) -> None:
        """Write them all."""
        files.write(sorted(self._rejects, key=lambda one: one.offset))
        self._rejects.clear()
        self._size = 0

    def discard(self) -> None:
        """Nothing was loaded: forget them, and what is on the disk of a long row."""
        for reject in self._rejects:
            if reject.rest is not None:
                reject.rest.close()
        self._rejects.clear()
        self._size = 0
