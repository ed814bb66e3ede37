"""A cursor over rows in memory."""

from collections.abc import Sequence
from typing import Any


class ListCursor:
    """PEP 249's cursor over a list; it notes what was asked of it."""

    def __init__(self, rows: Sequence[Any], names: Sequence[str] | None = None) -> None:
        self._rows = rows
        self._at = 0
        self.description = None if names is None else [(name, None, None, None, None, None, None) for name in names]
        self.arraysize = 1
        self.executed: list[tuple[Any, ...]] = []
        self.fetched: list[int] = []

    def execute(self, *query: Any) -> None:
        self.executed.append(query)

    def fetchmany(self, size: int) -> Sequence[Any]:
        self.fetched.append(size)
        self._at += size
        return self._rows[self._at - size : self._at]
