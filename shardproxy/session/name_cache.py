"""What names mean to sessions that see them alike, for a while."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from shardproxy.routing import Resolved

KEEP: Final = 1.0
"""Seconds for which a relation is not looked up again: how late DDL from outside the proxy may be noticed by SELECT,
INSERT, UPDATE and DELETE. COPY FROM always looks."""

PLANS: Final = 2000
"""Plans of the fast lane that are kept; past it, all are made anew."""

Names = frozenset[tuple[str | None, str]]


@dataclass(slots=True, eq=False)
class NameCache:
    """Relations, kinds of functions, and the plans that rest on them."""

    relations: dict[tuple[str | None, str], Resolved | None] = field(default_factory=dict)
    aggregates: dict[Names, bool] = field(default_factory=dict)
    plans: dict[Any, Any] = field(default_factory=dict)
    shared: bool = False
    _expires: float = 0.0
    _generation: int = -1

    def refresh(self, generation: int) -> None:
        """Forget what is too old, or from before a change of definitions."""
        now = time.monotonic()
        if now > self._expires or generation != self._generation:
            if self._generation >= 0:
                self.clear()
            self._expires = now + KEEP
            self._generation = generation

    def clear(self) -> None:
        """Forget all."""
        self.relations.clear()
        self.aggregates.clear()
        self.plans.clear()

    def keep_plan(self, key: Any, plan: Any) -> None:
        """Keep a plan as long as what it rests on."""
        if len(self.plans) >= PLANS:
            self.plans.clear()
        self.plans[key] = plan
