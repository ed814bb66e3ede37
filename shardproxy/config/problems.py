"""The errors of a configuration file, as values, and the exception that carries all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from shardproxy.errors import ShardproxyError

Path = tuple[str | int, ...]
"""A position in the document: keys and array indexes, such as ("databases", 0, "name")."""


def dotted(path: Path) -> str:
    """Format a path: `databases[0].tables[1].key`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest of `known`, or with all of them if none is near."""
    names = list(dict.fromkeys(known))
    near = get_close_matches(name, names, n=1)
    if near:
        return f'Did you mean "{near[0]}"?'
    return "Known: " + ", ".join(names) + "." if names else "There is none."


@dataclass(frozen=True, slots=True)
class Problem:
    """One error. Never quotes a password or a DSN."""

    line: int | None
    """Counted from 1; None if the error is not about a position in the file."""
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message}"


class ConfigErrors(ShardproxyError):  # noqa: N818 - it is several
    """All errors of one file, in the order of its lines."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        lines = []
        for problem in self.problems:
            place = self.source if problem.line is None else f"{self.source}:{problem.line}"
            lines.append(f"{place}: {problem}")
            if problem.remedy:
                lines.append(f"    {problem.remedy}")
        return "\n".join(lines)
