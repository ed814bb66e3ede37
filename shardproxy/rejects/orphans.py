"""Rows that lack their parent where one of the same COPY may still bring it: tried again when all have come.

They stay in the staging table; what is to be told of them is on the disk beyond a few, as all rows may be such.
"""

import json
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Final

from shardproxy.rejects.files import failed
from shardproxy.rejects.reject import Outcome, Reject
from shardproxy.rejects.staging import Refused, Staging, between, numbered

IN_MEMORY: Final = 1 << 20
"""Bytes of them that are kept in memory."""

AT_ONCE: Final = 10_000
"""Rows of one statement."""

_NAMES: Final = [one.name for one in fields(Reject)]
_FACTS: Final = attrgetter(*_NAMES)
_ROW: Final = _NAMES.index("row")


class Orphans:
    """Those of one COPY on one shard."""

    def __init__(self) -> None:
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._numbers = array("q")  # in the staging table, ascending
        self._places = array("q")  # in the file
        self._settled = bytearray()  # 1 for one that is stored or dropped after all

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, reject: Reject) -> None:
        """Keep one, with its number in the staging table and what was said of it. Raises PgError for a full disk."""
        facts = list(_FACTS(reject))
        facts[_ROW] = reject.row.decode("latin-1")
        self._file = self._file or tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - see close
        try:
            self._places.append(self._file.tell())
            self._file.write(json.dumps(facts).encode() + b"\n")
        except OSError as error:
            raise failed(error, Path(tempfile.gettempdir())) from error
        self._numbers.append(number)
        self._settled.append(0)

    async def settle(self, staging: Staging) -> Outcome:
        """Try them until nothing moves; return what became of those that are settled, without the `rejects`.

        All are tried, and then those whose parents have been stored by that, and so on; a trigger may have brought
        others, so all are tried again if one was stored.
        """
        outcome = Outcome()
        if self:
            await staging.index_parents()
        while moved := await self._try_all(staging, outcome):
            while moved:
                waiting = [one for one in await self._children(staging, moved) if self._waits(one)]
                await self._forget(staging, moved)
                moved = []
                for at in range(0, len(waiting), AT_ONCE):
                    tried = waiting[at : at + AT_ONCE]
                    moved += await self._take(staging, tried, await staging.insert_each(numbered(tried)), outcome)
        return outcome

    async def _try_all(self, staging: Staging, outcome: Outcome) -> list[int]:
        moved: list[int] = []
        for at in range(0, len(self), AT_ONCE):
            part = [one for one in self._numbers[at : at + AT_ONCE] if self._waits(one)]
            if part:
                refused = await staging.insert_each(between(part[0], part[-1]))
                moved += await self._take(staging, part, refused, outcome)
        return moved

    async def _children(self, staging: Staging, moved: Sequence[int]) -> list[int]:
        found: set[int] = set()
        for at in range(0, len(moved), AT_ONCE):
            found.update(await staging.children(moved[at : at + AT_ONCE]))
        return sorted(found)

    async def _forget(self, staging: Staging, moved: Sequence[int]) -> None:
        for at in range(0, len(moved), AT_ONCE):
            await staging.forget(numbered(moved[at : at + AT_ONCE]))

    async def _take(
        self, staging: Staging, tried: Sequence[int], refused: Sequence[Refused], outcome: Outcome
    ) -> list[int]:
        """Count what has become of rows; return those that are stored."""
        left = {one.n for one in refused if one.sqlstate}
        dropped = {one.n for one in refused}.intersection(tried) - left
        await self._forget(staging, sorted(dropped))  # `between` would try them again
        outcome.dropped += len(dropped)
        moved = [one for one in tried if one not in left and one not in dropped]
        outcome.stored += len(moved)
        for number in (*moved, *dropped):
            self._settled[bisect_left(self._numbers, number)] = 1
        return moved

    def _waits(self, number: int) -> bool:
        at = bisect_left(self._numbers, number)
        return at < len(self._numbers) and self._numbers[at] == number and not self._settled[at]

    def left(self) -> Iterator[Outcome]:
        """Yield those that are left with what spoke against them when they came, so many at a time."""
        # Another may have taken the place of a row since.
        for at in range(0, len(self), AT_ONCE):
            places = [self._places[one] for one in range(at, min(at + AT_ONCE, len(self))) if not self._settled[one]]
            if places:
                yield Outcome(rejects=[self._read(place) for place in places])

    def _read(self, place: int) -> Reject:
        assert self._file is not None
        self._file.seek(place)
        facts = json.loads(self._file.readline())
        facts[_ROW] = facts[_ROW].encode("latin-1")
        return Reject(*facts)

    def close(self) -> None:
        """Forget them."""
        if self._file is not None:
            self._file.close()
