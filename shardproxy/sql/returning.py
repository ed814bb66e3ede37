"""What RETURNING calls the row that was there before."""

from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

_DEFAULT = "old"
_NAMES = ("relname", "aliasname")


def old_row(node: Node) -> str | None:
    """Return the name by which a change's own RETURNING has the old row; None if that may be another relation's.

    `node` is the statement. From PostgreSQL 18 on it is `old`, unless WITH (OLD AS ...) gives it another name.
    """
    for option in node.get("returningClause", {}).get("options", ()):
        given = option.get("ReturningOption", option)
        if given["option"] == "RETURNING_OPTION_OLD":
            name: str = given["value"]
            return name
    sources = [node.get(part) for part in ("relation", "fromClause", "usingClause", "sourceRelation")]
    return None if _DEFAULT in _named(sources) else _DEFAULT


def _named(node: Any) -> Iterator[str]:
    """What relations are called, those of sub-selects and functions among them."""
    if isinstance(node, list):
        for one in node:
            yield from _named(one)
    elif isinstance(node, dict):
        yield from (node[name] for name in _NAMES if name in node)
        for name, inner in node.items():
            if name == "funcname":
                yield inner[-1]["String"]["sval"]
            yield from _named(inner)
