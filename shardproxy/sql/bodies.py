"""Whether the code of a function may write tables, told by its words.

SQL and PL/pgSQL write by statements, and these begin with words that are known. Without any of them, and with calls of
PostgreSQL's own functions alone, code only reads. In doubt it may write: that costs no more than a look at what it did.
"""

import re
from collections.abc import Set
from typing import Final

_NO_CODE: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
"""Comments and strings. Code with a backslash is not looked at: a string might end elsewhere."""

_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')

_WORD: Final = re.compile(r"[a-z_][a-z0-9_$]*")

_CALL: Final = re.compile(r"([a-z_][a-z0-9_$.]*)\s*\(")

_WRITING: Final = frozenset({
    "alter", "call", "cluster", "comment", "copy", "create", "delete", "do", "drop", "execute", "grant", "import",
    "insert", "load", "lock", "merge", "reassign", "refresh", "reindex", "revoke", "security", "truncate", "update",
    "vacuum",
})  # fmt: skip
"""What a statement that writes has in it, and dynamic SQL."""

_BEFORE_PARENTHESES: Final = frozenset({
    "all", "and", "any", "array", "as", "between", "bit", "by", "case", "char", "check", "coalesce", "cursor",
    "default", "distinct", "else", "elsif", "except", "exists", "filter", "for", "from", "greatest", "group", "having",
    "if", "ilike", "in", "intersect", "into", "is", "join", "lateral", "least", "like", "limit", "materialized", "not",
    "null", "nullif", "of", "on", "open", "or", "over", "partition", "perform", "raise", "return", "row", "select",
    "similar", "some", "then", "union", "using", "values", "varchar", "when", "where", "while", "with", "within",
})  # fmt: skip
"""Key words after which a parenthesis calls nothing."""


def may_write(language: str, source: str, own: Set[str], writing: Set[str]) -> bool:
    """Whether code may write tables.

    `own` are the names that PostgreSQL's own functions alone have, `writing` those among them that write.
    """
    if language == "internal":
        return False
    if language not in {"sql", "plpgsql"} or not source.strip() or "\\" in source:
        return True  # also a body that is kept parsed: BEGIN ATOMIC
    code = _QUOTED.sub('"', _NO_CODE.sub(" ", source)).lower()
    words = set(_WORD.findall(code))
    if not words.isdisjoint(_WRITING) or (language == "sql" and "into" in words) or re.search(r'"\s*\(', code):
        return True
    for name in _CALL.findall(code):
        schema, _, function = name.rpartition(".")
        if not schema and function in _BEFORE_PARENTHESES:
            continue
        if schema not in {"", "pg_catalog"} or function not in own or function in writing:
            return True
    return False
