"""The prepared statements that a server has for one connection, by name: facts of the protocol, whoever uses it.

A name is noted when its Parse is sent, since the next request may follow at once, and taken back if an error drops
the Parse before it was answered. A simple Query destroys the unnamed statement.
"""

from collections.abc import Mapping
from types import MappingProxyType

from shardproxy.shard.types import ShardTypes
from shardproxy.wire import encode
from shardproxy.wire.replies import Expect, Owed

UNNAMED = b""


class Statements:
    """Which statement each name means to the server; a statement is known by its number."""

    __slots__ = ("_numbers", "closes", "read_by", "types")

    def __init__(self, read_by: Mapping[str, str] = MappingProxyType({})) -> None:
        self.read_by = read_by
        """The settings that the server reports, with which it reads a statement now."""
        self.types: ShardTypes | None = None
        """What the types of the user's own are there; None if they are as the client knows them."""
        self._numbers: dict[bytes, int] = {}
        self.closes: list[bytes] = []
        """The Close messages to send first."""

    def has(self, name: bytes, number: int) -> bool:
        """Whether the server has this statement under that name."""
        return self._numbers.get(name) == number

    def knows(self, name: bytes) -> bool:
        """Whether the server has any statement under that name."""
        return name in self._numbers

    def parsed(self, name: bytes, number: int) -> None:
        """A Parse is on its way."""
        self._numbers[name] = number

    def dropped(self, owed: Owed) -> None:
        """An error has dropped a request."""
        if owed.expect is Expect.PARSE:
            self._numbers.pop(owed.name, None)

    def queried(self) -> None:
        """A simple Query is on its way."""
        self._numbers.pop(UNNAMED, None)

    def close(self, name: bytes) -> None:
        """Have the server forget a statement, with whatever is sent to it next."""
        if self._numbers.pop(name, None) is not None and name != UNNAMED:
            self.closes.append(encode.close(b"S", name))

    def close_portal(self, name: bytes) -> None:
        """Have the server forget a portal, with whatever is sent to it next."""
        self.closes.append(encode.close(b"P", name))

    def closing(self) -> list[bytes]:
        """Return the Close messages to send first, and forget them."""
        closing, self.closes = self.closes, []
        return closing

    def forget(self) -> None:
        """DISCARD ALL or DEALLOCATE ALL has run."""
        self._numbers.clear()
        self.closes.clear()
