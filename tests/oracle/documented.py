"""The one reviewed list of what may differ from one PostgreSQL: refusals, and differences with their reason.

Whatever is not on it fails the oracle. A refusal is SQLSTATE 0A000 with a HINT (42703 where the key is gone); REFUSALS
tell its kind and where the documentation speaks of it, and every run prints how many there were of each.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.oracle.case import Step
from tests.oracle.transcript import Item, error, fields

LIMITS, STATEMENTS, COPY = "docs/limits.md", "docs/statements.md", "docs/copy.md"


@dataclass(frozen=True)
class Refusal:
    """A kind of refusal by its message, and the page that documents it."""

    reason: str
    pattern: str
    page: str = LIMITS


REFUSALS = (
    Refusal("an aggregate, ORDER BY, DISTINCT, … over several shards", r"over several shards of .* is not supported$"),
    Refusal("sharded tables that are not bound to one shard", r"^the sharded tables .* are not bound to one shard$"),
    Refusal("a sharded table in a sub-query or WITH", r"^sharded table .* in a sub-query or WITH is not supported$"),
    Refusal(
        "a join of a single table with several shards", r"^a join of .* with several shards of .* is not supported$"
    ),
    Refusal("tables on different shards", r"^\".*\" and \".*\" lie on different shards$"),
    Refusal("UPDATE or DELETE over several shards", r"^(UPDATE|DELETE) of sharded table .* is not bound to one shard$"),
    Refusal("UPDATE of a key", r"sets key column .* of sharded table"),
    Refusal(
        "UPDATE of a reference table's key before 18", r"sets key column .* of reference table .* before PostgreSQL 18$"
    ),
    Refusal("INSERT of rows for several shards", r"^INSERT into sharded table .* has rows for \d shards$"),
    Refusal("INSERT … SELECT into a sharded table", r"^INSERT ... SELECT into sharded table"),
    Refusal("INSERT with OVERRIDING USER VALUE", r"^INSERT with OVERRIDING USER VALUE into sharded table"),
    Refusal("a key that is not a constant", r"^the value of key column .* is not a constant$", STATEMENTS),
    Refusal("a key whose value has another type", r"^the value of key column .* is of another type$", STATEMENTS),
    Refusal("a key by a computed default", r"^key column .* has a default that must be computed$"),
    Refusal("a key whose spelling depends on settings", r"^a value for key .* depends on settings$", COPY),
    Refusal("a change that reads other shards", r"^\S+( \S+)* reads .*, which does not lie wholly on the shards"),
    Refusal(
        "a write of a reference table that each copy would do otherwise", r"in a write of reference table .* would make"
    ),
    Refusal("what a trigger or function writes elsewhere", r" of this statement writes (\S+ )?table "),
    Refusal("a COPY that makes the copies of a reference table differ", r"in a COPY into reference table .* makes its"),
    Refusal("a backslash after a change of how strings are read", r"^a backslash in .* after a change of standard_"),
    Refusal(
        "a backslash with standard_conforming_strings = off", r"^a backslash in .* is not supported with standard_"
    ),
    Refusal("FOR UPDATE of a reference table elsewhere", r"^FOR UPDATE of reference table .* is not supported$"),
    Refusal("set_config() beside rows", r"^set_config\(\) "),
    Refusal("a table that is not listed", r"^table .* is not listed in the configuration"),
    Refusal("a view of a sharded table", r"^\".*\" is a view, partition or child of other tables"),
    Refusal("DDL of tables of different placements", r"^\".*\" and \".*\" are on different shards$"),
    Refusal("a write of a table with rules", r"^a write of reference table .*, which has rules, is not supported$"),
    Refusal("COPY with a file of the server", r"^COPY with a file of the server is not supported over", COPY),
    Refusal("COPY of a statement that changes every shard", r"^COPY of a statement that changes every shard is", COPY),
    Refusal("COPY into a view of reference tables", r"^COPY into view .* of reference tables is not supported$"),
    Refusal("CREATE DATABASE", r"^CREATE DATABASE is not supported through shardproxy$"),
    Refusal("a change inside WITH", r"^a change of .* inside WITH is not supported$"),
    Refusal("MERGE into a sharded table", r"^MERGE into sharded table .* is not supported$"),
    Refusal("a table whose key was renamed or dropped", r"^table .* cannot be sharded: key column .* does not exist$"),
    Refusal(
        "a foreign key to a table placed otherwise", r"^a foreign key to sharded table .* cannot be checked on one "
    ),
    Refusal("DDL that rests on other shards", r"^\".*\" is on one shard only, and the statement would need it on "),
    Refusal("DDL that rests on other shards", r"^\".*\" and \".*\", to which it is to belong, are placed differently$"),
    Refusal("DDL that rests on other shards", r"^\".*\" is on all shards, and the statement is about one$"),
    Refusal("a row that refers to a sharded table", r"^a row of reference table .* that refers to a sharded table by "),
    Refusal(
        "DDL that would change a table's place", r" has a placement of its own that is not the one of the table it "
    ),
    Refusal("RETURNING beside a relation named old", r"^RETURNING of reference table .* beside a relation named"),
    Refusal("DDL that would change a table's place", r"cannot be another column than before$"),
    Refusal("an identity column ALWAYS set to DEFAULT", r"^setting column .* of reference table .* to DEFAULT is not "),
    Refusal("foreign keys that fire triggers", r"whose foreign keys fire triggers of other tables, is not supported$"),
    Refusal(
        "a constraint that holds at a write's end", r"^a write of reference table .* that satisfies constraint .* at"
    ),
    Refusal("EXECUTE of a change", r"^EXECUTE of a statement that changes settings, or rows of a reference table"),
    Refusal("a write through a view", r"through view .* of reference tables is not supported$"),
    Refusal("ALTER … TYPE of a key", r"^cannot alter the type of key column"),
)


def refusal(items: Sequence[Item]) -> str | None:
    """The kind of a documented refusal; None for any other answer."""
    found = error(items)
    if found is None or found["C"] not in {"0A000", "42703"} or "H" not in found:
        return None
    return next((one.reason for one in REFUSALS if re.search(one.pattern, found["M"])), None)


@dataclass(frozen=True)
class Known:
    """A difference that is allowed where `holds` tells so of the step, the proxy's answer and PostgreSQL's."""

    reason: str
    ends: bool  # the two sides may differ after it: the case ends
    holds: Callable[[Step, Sequence[Item], Sequence[Item]], bool]


def _rows_before(step: Step, ours: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """The shards run side by side, and PostgreSQL does not promise which row comes first either.

    A simple query's RowDescription comes with its rows, and the end of a piece of a portal after them.
    """
    here, there = error(ours), error(theirs)
    if here is None or there is None:
        return False
    letters = {"D", "E", "s"} if step.params is not None else {"D", "E", "s", "T"}
    if [item for item in ours if item[0] not in letters] != [item for item in theirs if item[0] not in letters]:
        return False
    return here == there or (here["C"].startswith("22") and there["C"].startswith("22"))


_OF_THE_OTHER = {"n": "", "s": "", "t": ""}


def _another_row(_: Step, ours: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """Foreign keys are verified after all rows: each shard does it for its own, and for those that refer to them."""
    here, there = error(ours), error(theirs)
    if here is None or there is None or here["C"] not in {"23001", "23503"}:
        return False
    if here["M"].startswith("update or delete"):  # rows of several tables may refer to one, on a shard each
        here, there = ({**one, "M": one["M"].partition(" violates ")[0], **_OF_THE_OTHER} for one in (here, there))
    return {**here, "D": ""} == {**there, "D": ""}


def _kept_plan(_: Step, ours: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """PL/pgSQL keeps the types of a function's first call in a session; another shard has had no call before."""
    told = [found for found in (error(ours), error(theirs)) if found is not None]
    return any(one["C"] == "42804" and "that when preparing the plan" in one["M"] for one in told)


def without(items: Sequence[Item], letter: str) -> list[Item]:
    """The items but for those of one kind."""
    return [item for item in items if item[0] != letter]


DIFFERENCES: tuple[Known, ...] = (
    Known("rows before an error, and which of them is in error, over several shards", False, _rows_before),
    Known("of several rows that violate a foreign key another is named", False, _another_row),
    Known("a trigger function that has run before the type of a column changed", True, _kept_plan),
)
"""By design, each with the page that documents it."""


def known(step: Step, ours: Sequence[Item], theirs: Sequence[Item]) -> Known | None:
    """The reason for which two answers may differ."""
    return next((one for one in DIFFERENCES if one.holds(step, ours, theirs)), None)


@dataclass(frozen=True)
class KnownSequence:
    """The same of a pipeline."""

    reason: str
    ends: bool
    holds: Callable[[Sequence[object], Sequence[Item], Sequence[Item]], bool]


def first(ours: Sequence[Item], theirs: Sequence[Item]) -> tuple[str, str]:
    """The first two items that differ, by their types, errors and notices with SQLSTATE."""

    def told(item: Item) -> str:
        return f"{item[0]} {fields(item)['C']}" if item[0] in {"E", "N"} else str(item[0])

    here, there = next(pair for pair in zip_longest(ours, theirs, fillvalue=("nothing",)) if pair[0] != pair[1])
    return told(here), told(there)


def _reported(_: Sequence[object], ours: Sequence[Item], theirs: Sequence[Item]) -> bool:
    return without(ours, "S") == without(theirs, "S")


def _any(*wanted: tuple[str, str]) -> Callable[[Sequence[object], Sequence[Item], Sequence[Item]], bool]:
    return lambda _, ours, theirs: first(ours, theirs) in wanted


SEQUENCES: tuple[KnownSequence, ...] = (
    KnownSequence("by design: no warning of a portal that is left bound to COMMIT", True, _any(("C", "N 01000"))),
)
