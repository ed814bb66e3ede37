"""What a session remembers of earlier statements, as far as later ones go where it tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shardproxy.sql import CloseCursor, DeclareCursor, Discard, Statement


@dataclass(frozen=True, slots=True)
class Memory:
    """A value: each change gives another one.

    `cursors` gives the shard of each name, `held` are the cursors WITH HOLD.
    `in_transaction` tells that a transaction is open, also an implicit one.
    """

    cursors: Mapping[str, int] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    in_transaction: bool = False

    def after(self, statement: Statement, shard: int) -> "Memory":
        """What it is when a statement has succeeded; `shard` is where it was run, the first of several."""
        match statement:
            case DeclareCursor(name=name, hold=hold):
                return self.with_cursor(name, shard, hold=hold)
            case CloseCursor(name=None):
                return replace(self, cursors={}, held=frozenset())
            case CloseCursor(name=str(name)):
                return self.without_cursor(name)
            case Discard(tag="DISCARD ALL"):
                return Memory(in_transaction=self.in_transaction)
            case _:
                return self

    def with_cursor(self, name: str, shard: int, *, hold: bool = False) -> "Memory":
        """A cursor is open; a named portal of the protocol is one, too."""
        held = self.held | {name} if hold else self.held - {name}
        return replace(self, cursors={**self.cursors, name: shard}, held=held)

    def without_cursor(self, name: str) -> "Memory":
        """A cursor is closed."""
        cursors = {one: shard for one, shard in self.cursors.items() if one != name}
        return replace(self, cursors=cursors, held=self.held - {name})

    def transaction_ended(self) -> "Memory":
        """The transaction is over, and with it the cursors that are not held."""
        cursors = {name: shard for name, shard in self.cursors.items() if name in self.held}
        return replace(self, cursors=cursors, in_transaction=False)
