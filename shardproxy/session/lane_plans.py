"""What the fast lane knows of a statement: how its shard follows from its parameters or constants.

A plan is made when a statement has been run the general way, is kept with the names that it rests on
(`NameCache.plans`), and gives the shard that `route` would give. Its key is what a client repeats: the Parse message
after the statement's name, or a Query's text with the constants taken out (`native.shape`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shardproxy.native import bind_parameter
from shardproxy.routing import Context, Home, OneShard, ParamValue, Plan, Resolved
from shardproxy.routing.keyed import Keyed, keyed
from shardproxy.session.portals import Prepared
from shardproxy.sql import Select, Statement, TableRef

_FOR: Final = re.compile(r"\bfor\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing has found out about a statement, and its plan."""

    statement: Statement
    tables: dict[TableRef, Resolved]
    context: Context
    plan: Plan
    generation: int
    """That of the definitions that these rest on."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """A statement's way to its shard."""

    keyed: Keyed
    reads: bool
    """It changes and locks nothing."""
    prepared: Prepared
    """The statement as the unnamed one of any session."""

    def shard(self, view: memoryview, start: int, end: int, oids: tuple[int, ...], home: int) -> int | None:
        """Return the shard for the Bind message with the payload view[start:end]; None if `route` has to tell."""
        made = self.keyed
        if made.kind == "home":
            return home
        values: dict[int, ParamValue] = {}
        for number in made.numbers:
            found = bind_parameter(view, start, end, number)
            if found is None:
                return None
            values[number] = ParamValue(oids[number - 1] if number <= len(oids) else 0, *found)
        return made.shard(values)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The way to its shard of a Query whose constants were taken out."""

    keyed: Keyed
    reads: bool

    def shard(self, kinds: bytes, texts: Sequence[bytes], home: int) -> int | None:
        """Return the shard for a Query with these constants; None if `route` has to tell."""
        return home if self.keyed.kind == "home" else self.keyed.shard_of_constants(kinds, texts)


def _reads(statement: Statement) -> bool:
    # FOR UPDATE and its kin cannot be spelled without the word; a string that has it costs no more than some waiting.
    return isinstance(statement, Select) and not statement.functions and _FOR.search(statement.text) is None


def lane_plan(facts: Facts, prepared: Prepared) -> LanePlan | None:
    """Return the plan of a prepared statement that has been run; `prepared` is unnamed. None: it needs `route`."""
    made = keyed(facts.statement, facts.tables, facts.context)
    return None if made is None else LanePlan(made, _reads(facts.statement), prepared)


def query_plan(facts: Facts, shape: Statement, kinds: bytes, texts: Sequence[bytes]) -> QueryPlan | None:
    """Return the plan of a Query that has been run; `shape` is its statement with the constants taken out.

    None if it needs `route`, or if the plan would not have given what the Query was routed to.
    """
    if shape.kind is not facts.statement.kind or not set(shape.tables) <= facts.tables.keys():
        return None
    made = keyed(shape, facts.tables, facts.context)
    if made is None:
        return None
    match facts.plan:
        case Home() if made.kind == "home":
            return QueryPlan(made, _reads(facts.statement))
        case OneShard(shard) if made.shard_of_constants(kinds, texts) == shard:
            return QueryPlan(made, _reads(facts.statement))
    return None
