"""The client's line in a shard's CONTEXT. Sans-IO.

A shard counts the lines that it got; the client must read the lines that it sent. CONTEXT is translated text
("COPY t, line 3, column a: ..."), but in every one of PostgreSQL's catalogues the number follows the relation's
name, with neither quote nor parenthesis up to there. What triggers and functions add in front of it quotes its
SQL and has parentheses after names; what follows it is the client's data. So the first line of that form counts.
"""

import re
from collections.abc import Callable, Iterable

_PLAIN = r"""[^\d\n"'()«»‹›„“”「」:]"""
_WORD = r"[A-Za-z0-9_$]"  # of an identifier; other letters may be the translated text around a name


def map_context(context: str, relation: str, client_line: Callable[[int], int | None]) -> tuple[str, int | None]:
    """Return CONTEXT with the client's line number, and that number (None: CONTEXT names no line).

    A line that `client_line` no longer knows is taken out of the text rather than shown wrong.
    """
    found = _found(context, relation)
    if found is None:
        return context, None
    line = client_line(int(found["line"]))
    if line is None:
        return context[: found.start("between")] + context[found.end("line") :], None
    return context[: found.start("line")] + str(line) + context[found.end("line") :], line


def column_named(context: str, relation: str, columns: Iterable[str]) -> str | None:
    """Return which of a COPY's columns CONTEXT names after the line: its type has refused the value."""
    found = _found(context, relation)
    after = "" if found is None else context[found.end() :]
    named = [name for name in columns if re.match(rf",[^:\n]* {re.escape(name)}: ", after)]
    return max(named, key=len, default=None)


def _found(context: str, relation: str) -> re.Match[str] | None:
    return re.search(
        rf"^{_PLAIN}*?(?<!{_WORD}){re.escape(relation)}(?!{_WORD}|\()(?P<between>{_PLAIN}*?)(?P<line>\d+)",
        context,
        re.MULTILINE,
    )
