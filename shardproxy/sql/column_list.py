"""The column list that an INSERT lacks: where it would stand, and a text with it.

Without a list PostgreSQL gives the values to the columns in the order that these have when the statement has the
table's lock. The proxy has read the key by an order that it found earlier. With the names written in, both mean the
same columns, or PostgreSQL knows one of the names no more.
"""

from typing import Final, NamedTuple

from shardproxy.sql.parse import ParseFailed, tokens

_FIRST: Final = 1000
"""Characters in which the head of an INSERT is looked for first: to cut all of a long text takes long."""

_GOES_ON: Final = frozenset({"ASCII_46", "AS", "UESCAPE"})
"""What stands between two parts of a relation's name and alias: a dot, or the word."""


class ColumnList(NamedTuple):
    """Names of columns in parentheses, and how many characters of the statement's text come before them."""

    at: int
    names: str

    def after(self, before: int) -> "ColumnList":
        """Return the same for a text with so many more characters in front."""
        return ColumnList(self.at + before, self.names)

    def into(self, text: str) -> str:
        """Return the statement's text with the list."""
        return text[: self.at] + self.names + text[self.at :]

    def original(self, position: int) -> int:
        """Return where in the statement's text a position (from 1) in the longer one is."""
        return position if position <= self.at else max(position - len(self.names), self.at + 1)


def list_at(text: str) -> int | None:
    """Return where the column list goes in an INSERT without one, or in a statement that holds it."""
    size = _FIRST
    while size < len(text):
        try:
            found = _list_at(text[:size])
        except ParseFailed:  # the cut is within a token
            found = None
        if found is not None:
            return found
        size *= 8
    return _list_at(text)


def _list_at(text: str) -> int | None:
    """Return the same if two more tokens are there, of which the last may be cut."""
    found = tokens(text)
    names = [token.name for token in found]
    depth = -1 if names[:1] == ["COPY"] else 0  # what is deeper is within WITH
    for number, name in enumerate(names):
        depth += {"ASCII_40": 1, "ASCII_41": -1}.get(name, 0)
        if name == "INSERT" and depth == 0 and names[number + 1 : number + 2] == ["INTO"]:
            last = number + 2
            while names[last + 1 : last + 2] and names[last + 1] in _GOES_ON:
                last += 2
            return found[last].end if last + 2 < len(found) else None
    return None
