"""Where string constants are in a text, as far as standard_conforming_strings makes a difference."""

import re
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      --[^\r\n]*
    | "[^"]*"
    | [eE]'(?:[^'\\]|\\.|'')*'
    | \$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff]\w*)?)\$.*?\$(?P=tag)\$
    | [A-Za-z_\u0080-\U0010ffff][\w$]*
    | /\*(?P<comment>)
    | (?P<plain>'(?:[^'\\]|\\.|'')*')
    | .
    """,
    re.DOTALL | re.VERBOSE,
)
"""What PostgreSQL's lexer takes as one with standard_conforming_strings = off; single characters of all else."""

_COMMENT: Final = re.compile(r"/\*|\*/")


def reads_alike(sql: str) -> bool:
    """Whether a text means the same with standard_conforming_strings on and off.

    So it does if each backslash is in E'...', $$...$$, a quoted identifier or a comment: those have the same ends in
    either case. Outside of all these a backslash is an error in either.
    """
    if "\\" not in sql:
        return True
    at = 0
    while found := _TOKEN.match(sql, at):
        if "\\" in (found["plain"] or "") or found[0] == "'":
            return False
        at = found.end() if found["comment"] is None else _after_comment(sql, found.end())
    return True


def _after_comment(sql: str, at: int) -> int:
    depth = 1
    while depth and (found := _COMMENT.search(sql, at)):
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at if not depth else len(sql)
