"""A row that was set aside, and rows of which some may be. Sans-IO."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Final

from shardproxy.errors import PgError

BEGINNING: Final = 1 << 16
"""Bytes of a long row that are kept in memory and shown to programs."""

FATAL_CLASSES = frozenset({"08", "0A", "25", "26", "2D", "3B", "40", "42", "53", "55", "57", "58", "F0", "XX"})
"""Classes of SQLSTATE that say nothing of a row: the load ends with the error. 0A and 42 are of the statement."""


def is_fatal(sqlstate: str) -> bool:
    """Whether an error ends the load, whatever row it was reported for."""
    return sqlstate[:2] in FATAL_CLASSES


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that was set aside, and why."""

    line: int
    """Its last line in the client's input, from 1, as COPY's CONTEXT counts."""
    offset: int
    """Bytes of the client's input before it."""
    row: bytes
    """As it was sent, newline and all."""
    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None
    column: str | None = None
    constraint: str | None = None
    shard: str | None = None
    file: str | None = None
    """The input's name, if it has one."""
    rest: IO[bytes] | None = None
    """What follows `row`, of one that is too long to be kept in memory."""

    typed: bool = False
    """Whether a value is one that its column's type does not take."""
    table: tuple[str, str] | None = None
    """Schema and name of the table whose constraint it violates, as the server names it: a partition, perhaps."""

    def error(self, context: str) -> PgError:
        """Return it as the error that ends a load."""
        error = PgError(self.sqlstate, self.message, detail=self.detail, hint=self.hint, context=context)
        error.fields |= {code: value for code, value in (("c", self.column), ("n", self.constraint)) if value}
        return error

    def because(self, error: PgError) -> "Reject":
        """Return the same row with a server's reason."""
        fields = error.fields
        return replace(
            self,
            sqlstate=error.sqlstate,
            message=error.message,
            detail=error.detail,
            hint=error.hint,
            column=fields.get("c"),
            constraint=fields.get("n"),
            table=(fields["s"], fields["t"]) if {"s", "t"} <= fields.keys() else None,
        )


@dataclass(slots=True)
class Outcome:
    """What became of rows: stored + dropped + left out + set aside is all of them."""

    stored: int = 0
    dropped: int = 0
    """By a trigger or COPY's WHERE."""
    updated: int = 0
    """Of those stored, the ones that have replaced a row that was there."""
    left_out: int = 0
    """As their key was there."""
    rejects: list[Reject] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Take in what became of other rows."""
        self.stored += other.stored
        self.dropped += other.dropped
        self.updated += other.updated
        self.left_out += other.left_out
        self.rejects += other.rejects


@dataclass(slots=True)
class Rows:
    """Whole rows of one shard, in the order in which they came."""

    data: bytes
    """Their bytes, one after the other."""
    ends: Sequence[int]
    """The offset in `data` after each."""
    lines: Sequence[int]
    """The last line of each in the client's input."""
    offsets: Sequence[int]
    """The offset after each in the client's input."""
    picked: Sequence[int] = field(default=())
    """The numbers of the rows that are meant, ascending."""
    extra_lines: bool = False
    """Whether a row may have more than one line."""

    def __len__(self) -> int:
        return len(self.picked)

    def row(self, number: int) -> bytes:
        """Return the bytes of a row."""
        return self.data[self.ends[number - 1] if number else 0 : self.ends[number]]

    def reject(self, number: int, sqlstate: str, message: str) -> Reject:
        """Return a row as one that is set aside."""
        row = self.row(number)
        return Reject(self.lines[number], self.offsets[number] - len(row), row, sqlstate, message)

    def pick(self, picked: Sequence[int]) -> "Rows":
        """Return the same with other rows meant."""
        return replace(self, picked=picked)

    def without(self, numbers: set[int]) -> "Rows":
        """Return the same without some rows."""
        return self.pick([number for number in self.picked if number not in numbers]) if numbers else self

    @property
    def bytes(self) -> bytes:
        """The bytes of the rows that are meant."""
        picked = self.picked
        if len(picked) == len(self.ends):
            return self.data
        parts, at = [], 0
        while at < len(picked):
            first = last = picked[at]
            while at + 1 < len(picked) and picked[at + 1] == last + 1:
                at += 1
                last += 1
            parts.append(self.data[self.ends[first - 1] if first else 0 : self.ends[last]])
            at += 1
        return b"".join(parts)

    def _lines_of_first(self) -> int:
        """Before a server has met a row's end it counts carriage returns in quotes, and newlines only afterwards."""
        row = self.row(self.picked[0])
        end = 2 if row.endswith(b"\r\n") else 1
        return 1 + row[:-end].count(b"\r")

    def at_line(self, line: int, spans: Sequence[int]) -> int | None:
        """Return the number of the row that a COPY of these rows calls line `line`; None if there is no such line.

        `spans` are the lines in `data` up to the end of each of all rows.
        """
        if not self.extra_lines:
            return self.picked[line - 1] if 0 < line <= len(self.picked) else None
        counts: list[int] = []
        total = 0
        for number in self.picked:
            total += spans[number] - (spans[number - 1] if number else 0) if counts else self._lines_of_first()
            counts.append(total)
        found = bisect_left(counts, line)
        return self.picked[found] if found < len(counts) else None
