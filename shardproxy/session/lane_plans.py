"""What the fast lane knows of a statement: how its shard follows from its parameters or constants.

A plan is made when a statement has been run the general way, is kept with the names that it rests on
(`NameCache.plans`), and gives the shard that `route` would give. Its key is what a client repeats: the Parse message
after the statement's name, or a Query's text with the constants taken out (`native.shape`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from shardproxy.native import bind_parameter
from shardproxy.routing import Context, Home, OneShard, ParamValue, Plan, Resolved, held_by, may_store
from shardproxy.routing.keyed import Keyed, keyed
from shardproxy.session.portals import Prepared
from shardproxy.session.shards import Shards
from shardproxy.sql import ColumnList, Insert, Select, Statement, TableRef
from shardproxy.wire.usertypes import is_own

_FOR: Final = re.compile(r"\bfor\b", re.IGNORECASE)

_LOCKLESS: Final = frozenset({
    "now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday", "age", "date_trunc",
    "date_part", "extract", "to_char", "to_date", "to_timestamp", "random", "gen_random_uuid", "uuidv4", "uuidv7",
    "nextval", "abs", "ceil", "floor", "round", "length", "lower", "upper", "btrim", "concat", "replace", "substring",
    "md5", "encode", "decode", "array_length", "cardinality", "jsonb_build_object", "to_json", "to_jsonb",
    "count", "sum", "min", "max", "avg", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or",
})  # fmt: skip
"""Functions of PostgreSQL's that wait for no lock until the transaction ends, as pg_advisory_lock() does."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing has found out about a statement, and its plan."""

    statement: Statement
    tables: dict[TableRef, Resolved]
    context: Context
    plan: Plan
    generation: int
    """That of the definitions that these rest on (`Database.certain_generation`)."""

    @property
    def stores(self) -> bool:
        """Whether what the statement has done may be there for others once it has committed."""
        return may_store(self.statement, self.context)


class Overlap(Enum):
    """When a statement may be under way together with others of its kind on other shards.

    One that locks rows must not: two sessions that take the same locks in the same order, as on one server, would
    take them in another one, and wait for each other crosswise.
    """

    ALWAYS = "it changes and locks nothing"
    INSIDE = "it only adds rows, which others see when its transaction has ended"
    NEVER = "it may lock what others want"


@dataclass(frozen=True, slots=True)
class LanePlan:
    """A statement's way to its shard."""

    keyed: Keyed
    overlap: Overlap
    prepared: Prepared
    """The statement as the unnamed one of any session."""
    held: str | None = None
    """What it may leave on its shard (`routing.held_by`)."""
    listed: ColumnList | None = None
    """With what its shard gets the statement, and its key was found."""
    stores: bool = False
    """A lost answer leaves its client in doubt, if it is alone in its transaction (`routing.may_store`)."""

    def shard(self, view: memoryview, start: int, end: int, oids: tuple[int, ...], shards: Shards) -> int | None:
        """Return the shard for the Bind message with the payload view[start:end]; None if `route` has to tell."""
        made = self.keyed
        if made.kind == "home":
            return shards.some if made.free else shards.home
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
    overlap: Overlap
    held: str | None = None
    plain: bool = True
    """It has no columns with types of the user's own."""
    listed: ColumnList | None = None
    """What goes into the Query; only ASCII comes before it."""
    stores: bool = False
    """As for `LanePlan`."""

    def shard(self, kinds: bytes, texts: Sequence[bytes], shards: Shards) -> int | None:
        """Return the shard for a Query with these constants; None if `route` has to tell."""
        if self.keyed.kind == "home":
            return shards.some if self.keyed.free else shards.home
        return self.keyed.shard_of_constants(kinds, texts)


def overlap_of(statement: Statement, context: Context) -> Overlap:
    """Tell where a statement may overlap with others."""
    if any(name not in _LOCKLESS or not context.is_builtin(space, name) for space, name in statement.functions):
        return Overlap.NEVER
    # FOR UPDATE and its kin cannot be spelled without the word; a string that has it costs no more than some waiting.
    if _FOR.search(statement.text) is not None:
        return Overlap.NEVER
    written = sum(table.role == "write" for table in statement.tables)
    if isinstance(statement, Select) and not written:
        return Overlap.ALWAYS
    if isinstance(statement, Insert) and written == 1 and not statement.select and statement.conflict is None:
        return Overlap.INSIDE
    return Overlap.NEVER


def _hides(facts: Facts) -> bool:
    # Another text is run than the client has sent, or the proxy has to see whose process ID it has, or what it writes.
    statement = facts.statement
    if facts.context.unseen is not None:
        return True
    return isinstance(statement, Select) and (statement.visible is not None or statement.processes is not None)


def lane_plan(facts: Facts, prepared: Prepared) -> LanePlan | None:
    """Return the plan of a prepared statement that has been run; `prepared` is unnamed. None: it needs `route`."""
    if _hides(facts):
        return None
    made = keyed(facts.statement, facts.tables, facts.context)
    return (
        None
        if made is None
        else LanePlan(
            made,
            overlap_of(facts.statement, facts.context),
            prepared,
            held_by(facts.statement, facts.context),
            prepared.listed,
            facts.stores,
        )
    )


def query_plan(
    facts: Facts,
    shape: Statement,
    kinds: bytes,
    texts: Sequence[bytes],
    columns: tuple[int, ...] | None,
    listed: ColumnList | None,
) -> QueryPlan | None:
    """Return the plan of a Query that has been run; `shape` is its statement with the constants taken out.

    None if it needs `route`, or if the plan would not have given what the Query was routed to.
    """
    if shape.kind is not facts.statement.kind or _hides(facts) or not set(shape.tables) <= facts.tables.keys():
        return None
    made = keyed(shape, facts.tables, facts.context)
    if made is None:
        return None
    plain = columns is None or not any(map(is_own, columns))
    if listed is not None and not shape.text.isascii():
        return None
    listed = None if listed is None else listed.after(shape.location)
    statement, context = facts.statement, facts.context
    plan = QueryPlan(made, overlap_of(statement, context), held_by(statement, context), plain, listed, facts.stores)
    match facts.plan:
        case Home() if made.kind == "home":
            return plan
        case OneShard(shard) if made.shard_of_constants(kinds, texts) == shard:
            return plan
    return None
