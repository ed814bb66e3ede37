"""The client's line in a shard's CONTEXT. Sans-IO.

A shard counts the lines that it got; the client must read the lines that it sent. CONTEXT is translated text
("COPY t, line 3, column a: ..."), but in every one of PostgreSQL's catalogues the number follows the relation's
name. A trigger's own text stands in front of it, so the last match counts.
"""

import re
from collections.abc import Callable


def map_context(context: str, relation: str, client_line: Callable[[int], int | None]) -> tuple[str, int | None]:
    """Return CONTEXT with the client's line number, and that number (None: CONTEXT names no line).

    A line that `client_line` no longer knows is taken out of the text rather than shown wrong.
    """
    numbers = list(re.finditer(rf"{re.escape(relation)}(?P<between>[^\d\n]*?)(?P<line>\d+)", context))
    if not numbers:
        return context, None
    found = numbers[-1]
    line = client_line(int(found["line"]))
    if line is None:
        return context[: found.start("between")] + context[found.end("line") :], None
    return context[: found.start("line")] + str(line) + context[found.end("line") :], line
