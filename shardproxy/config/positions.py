"""The line of each key and array element of a TOML document.

The standard library's tomllib gives values without positions, so tree-sitter's TOML grammar gives the positions
without values. Driven with text that tomllib has accepted. For an unknown path it returns the nearest enclosing
position.
"""

import tomllib
from collections.abc import Iterator

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from shardproxy.config.problems import Path

_LANGUAGE = Language(tree_sitter_toml.language())
_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


class Positions:
    """The lines, counted from 1, of one document."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {(): 1}
        self._tables: dict[Path, int] = {}  # how many [[elements]] each array of tables has so far
        root = Parser(_LANGUAGE).parse(text.encode()).root_node
        for node in root.named_children:
            match node.type:
                case "pair":
                    self._pair(node, ())
                case "table":
                    self._members(node, self._enter(_header(node)))
                case "table_array_element":
                    path = (*self._enter(_header(node)[:-1]), _header(node)[-1])
                    index = self._tables.get(path, 0)
                    self._tables[path] = index + 1
                    self._note(path, node)
                    self._note((*path, index), node)
                    self._members(node, (*path, index))

    def line(self, path: Path) -> int:
        """Return the line of this path, or of the nearest enclosing one."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _note(self, path: Path, node: Node) -> None:
        self._lines.setdefault(path, node.start_point.row + 1)

    def _enter(self, header: list[str]) -> Path:
        """Return the path of a header: through the last element of each array of tables in it."""
        path: Path = ()
        for name in header:
            path = (*path, name)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _members(self, node: Node, path: Path) -> None:
        self._note(path, node)
        for child in node.named_children:
            if child.type == "pair":
                self._pair(child, path)

    def _pair(self, node: Node, path: Path) -> None:
        key, *values = (child for child in node.named_children if child.type != "comment")
        for name in _names(key):
            path = (*path, name)
            self._note(path, node)
        for value in values:
            self._value(value, path)

    def _value(self, node: Node, path: Path) -> None:
        if node.type == "inline_table":
            self._members(node, path)
        elif node.type == "array":
            elements = (child for child in node.named_children if child.type != "comment")
            for index, element in enumerate(elements):
                self._note((*path, index), element)
                self._value(element, (*path, index))


def _header(node: Node) -> list[str]:
    return next(list(_names(child)) for child in node.named_children if child.type in _KEYS)


def _names(key: Node) -> Iterator[str]:
    if key.type == "dotted_key":
        for child in key.named_children:
            yield from _names(child)
        return
    text = (key.text or b"").decode()
    # tomllib knows the escapes of a quoted key.
    yield next(iter(tomllib.loads(f"{text} = 0"))) if key.type == "quoted_key" else text
