"""DDL in the SQL storm: tables that one session owns, so that what each may be is known after every answer.

A table is None (not there) or its columns, indexes and rows. A failure that leaves its client in doubt leaves both
states possible; the table is then left alone, as what was asked might still be under way, and the next one is made.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.faults.sql_schema import OWNED, owned
from tests.faults.sql_work import Operation, Step


@dataclass(frozen=True)
class State:
    """A table that is there."""

    columns: tuple[str, ...] = ("id", "op")
    indexes: frozenset[str] = frozenset()
    rows: frozenset[int] = frozenset()


LONGEST = 25
"""Operations on one table."""

Change = Callable[[State | None], State | None]


@dataclass
class Owned:
    """One table, and what it may be."""

    name: str
    placement: str
    states: set[State | None] = field(default_factory=lambda: {None})
    doubtful: bool = False
    told: list[str] = field(default_factory=list)

    @property
    def state(self) -> State | None:
        """What it is, while that is known."""
        [state] = self.states
        return state

    def answered(self, operation: Operation, change: Change) -> None:
        """Note how an operation ended."""
        self.told.append(str(operation))
        if operation.acknowledged:
            self.states = {change(state) for state in self.states}
        elif not operation.certain:
            self.states |= {change(state) for state in self.states}
            self.doubtful = True


class Owner:
    """One session's tables, one after the other, every `stride`th."""

    def __init__(self, placement: str, at: int, stride: int) -> None:
        self._placement = placement
        self._names = iter(range(at, OWNED, stride))
        self.tables = [Owned(owned(placement, next(self._names)), placement)]

    @property
    def left(self) -> bool:
        """Whether there is a table to go on with."""
        if self.tables[-1].doubtful or len(self.tables[-1].told) > LONGEST:
            name = next(self._names, None)
            if name is None:
                return False
            self.tables.append(Owned(owned(self._placement, name), self._placement))
        return True

    def make(self, number: int, chosen: random.Random) -> tuple[Operation, Owned, Change]:
        """Make an operation on the table, and what it makes of the table."""
        table = self.tables[-1]
        steps, change, kind = self._change(table, number, chosen)
        explicit = chosen.random() < 0.3
        if explicit:
            after = replace(table, states={change(table.state)})
            more, then, _ = self._change(after, number + 1, chosen)
            first = change
            steps, change, kind = steps + more, lambda state: then(first(state)), "ddl_transaction"
        return Operation(number, kind, steps, Counter(), explicit=explicit), table, change

    def _change(self, table: Owned, number: int, chosen: random.Random) -> tuple[list[Step], Change, str]:
        name, state = table.name, table.state
        if state is None:
            key = " PRIMARY KEY" if chosen.random() < 0.8 else ""
            return [Step(f"CREATE TABLE {name} (id int8{key}, op int8)")], lambda _: State(), "create"
        columns, rows = state.columns, state.rows

        def becomes(**changed: object) -> Change:
            return lambda _: replace(state, **changed)  # type: ignore[arg-type]

        match chosen.choice(("row", "row", "row", "column", "no column", "index", "truncate", "drop")):
            case "column":
                made = f"c{number}"
                what = chosen.choice(("int", "text DEFAULT 'x'", "numeric DEFAULT 1 NOT NULL"))
                sql = f"ALTER TABLE {name} ADD COLUMN {made} {what}"
                return [Step(sql)], becomes(columns=(*columns, made)), "add_column"
            case "no column" if len(columns) > 2:
                gone = chosen.choice(columns[2:])
                kept = tuple(column for column in columns if column != gone)
                return [Step(f"ALTER TABLE {name} DROP COLUMN {gone}")], becomes(columns=kept), "drop_column"
            case "index":
                made = f"i{number}"
                indexes = state.indexes | {made}
                return [Step(f"CREATE INDEX {made} ON {name} (op)")], becomes(indexes=indexes), "index"
            case "truncate":
                return [Step(f"TRUNCATE {name}")], becomes(rows=frozenset()), "truncate"
            case "drop":
                return [Step(f"DROP TABLE {name}")], lambda _: None, "drop"
            case _:
                sql = f"INSERT INTO {name} (id, op) VALUES ($1, $1)"
                return [Step(sql, (number,), rows=1)], becomes(rows=rows | {number}), "owned_row"


def shared_change(number: int, chosen: random.Random, standing: set[str]) -> tuple[Operation, str, bool]:
    """Add or drop a column of a table that others write; return which, and whether it is added."""
    if standing and chosen.random() < 0.6:
        made, added = chosen.choice(sorted(standing)), False
    else:
        made, added = f"{chosen.choice(('h', 'ref_keys', 'ref_serial', 'ref_plain'))}.z{number}", True
    table, column = made.split(".")
    what = f"ADD COLUMN {column} int" if added else f"DROP COLUMN {column}"
    return Operation(number, "shared_column", [Step(f"ALTER TABLE {table} {what}")], Counter()), made, added
