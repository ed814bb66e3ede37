"""What names mean to sessions that see them alike, for a while."""

import time
from dataclasses import dataclass, field
from typing import Final, TypeVar

from shardproxy.routing import Resolved, Written
from shardproxy.routing.resolved import KeyAction
from shardproxy.routing.unseen import Body, Hooks
from shardproxy.session.lane_plans import LanePlan, QueryPlan

KEEP: Final = 1.0
"""Seconds for which a relation is not looked up again: how late DDL from outside the proxy may be noticed by SELECT,
INSERT, UPDATE and DELETE. COPY FROM verifies what it knows under its lock."""

PLANS: Final = 2000
"""Plans of the fast lane that are kept; beyond that, all are made again."""

Names = frozenset[tuple[str | None, str]]


K = TypeVar("K")
V = TypeVar("V")


class Plans(dict[K, V | None]):
    """Plans of the fast lane; None stands for what it does not take."""

    def keep(self, key: K, plan: V | None) -> None:
        """Keep a plan as long as what it rests on."""
        if len(self) >= PLANS:
            self.clear()
        self[key] = plan


@dataclass(slots=True, eq=False)
class NameCache:
    """Relations, kinds of functions, and the plans that rest on them."""

    relations: dict[tuple[str | None, str], Resolved] = field(default_factory=dict)
    """Those that exist."""
    aggregates: dict[Names, bool] = field(default_factory=dict)
    immutable: dict[Names, Names] = field(default_factory=dict)
    """Of functions that are not PostgreSQL's own, those that are."""
    bodies: dict[Names, tuple[Body, ...]] = field(default_factory=dict)
    """Their code."""
    hooks: dict[tuple[str, str], Hooks] = field(default_factory=dict)
    """By schema and name, what else runs when a table is written."""
    written: dict[tuple[str, str], Written] = field(default_factory=dict)
    """By schema and name, reference tables that were written."""
    actions: dict[tuple[str, str], tuple[KeyAction, ...]] = field(default_factory=dict)
    """By schema and name, the keys that writes of tables set by foreign keys."""
    plans: Plans[bytes, LanePlan] = field(default_factory=Plans)
    """By the Parse message after the statement's name."""
    queries: Plans[tuple[bytes, bytes], QueryPlan] = field(default_factory=Plans)
    """By the text and kinds of `native.shape`."""
    shared: bool = False
    transactional: bool = False
    """What is known may hold in one transaction only."""
    expires: float = 0.0
    """When it is too old, by time.monotonic()."""
    generation: int = -1
    """The definitions that it rests on."""

    def renew(self, generation: int) -> None:
        """Forget what is too old, or from before a change of definitions."""
        if self.generation >= 0:
            self.clear()
        self.expires = time.monotonic() + KEEP
        self.generation = generation

    def clear(self) -> None:
        """Forget all. Who waits for an answer keeps what was known before, and leaves nothing for those after."""
        self.relations = {}
        self.aggregates = {}
        self.immutable = {}
        self.bodies = {}
        self.hooks = {}
        self.written = {}
        self.actions = {}
        self.plans = Plans()
        self.queries = Plans()
