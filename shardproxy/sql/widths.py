"""What is known of the rows of VALUES without a look at each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shardproxy.sql.facts import Default, RowValue


@dataclass(frozen=True, slots=True)
class Widths:
    """How many values the first and the shortest have, and the places at which one has DEFAULT."""

    first: int = 0
    shortest: int = 0
    defaults: frozenset[int] = frozenset()

    @classmethod
    def of(cls, rows: Sequence[Sequence[RowValue]]) -> "Widths":
        """Look at each row."""
        places = {at for row in rows for at, value in enumerate(row) if isinstance(value, Default)}
        return cls(len(rows[0]), min(map(len, rows)), frozenset(places)) if rows else NO_ROWS


NO_ROWS: Final = Widths()
