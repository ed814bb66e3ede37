"""Whether the code of a function may write tables, told by its words.

SQL and PL/pgSQL write by statements, and these begin with words that are known. Without any of them, and with calls of
PostgreSQL's own functions alone, code only reads. In doubt it may write: that costs no more than a look at what it did.
"""

import re
from collections.abc import Set
from typing import Final

_NO_CODE: Final = re.compile(
    r"""--[^\n\r]*|(?P<comment>/\*.*?\*/)|'(?:[^']|'')*'|(?P<quoted>"(?:[^"]|"")*")"""
    r"|(?P<dollar>\w\$)|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$",
    re.DOTALL | re.ASCII,
)
"""Comments, strings and quoted names, in the order in which PostgreSQL's scan.l finds them.

A dollar after a word belongs to it, after a number it begins a string. Code with a backslash is not looked at: a string
might end elsewhere.
"""

_DOT: Final = re.compile(r"\s*\.\s*")

_WORD: Final = re.compile(r"[a-z_][a-z0-9_$]*")

_CALL: Final = re.compile(r'([a-z_"][a-z0-9_$."]*)\s*\(')

_STATEMENT: Final = re.compile(r"(;|\bbegin)\s*\b(?:if|perform|return|while)\b")
"""Where these words begin a statement of PL/pgSQL; elsewhere they may be names of functions."""

_ATTRIBUTE: Final = re.compile(
    r'(?<!\.)(?<!\bnew)(?<!\bold)(?<!\bpg_catalog)\.[a-z_"]|\bpg_catalog\.(?![a-z_][a-z0-9_]*\s*\()'
)
"""`x.f` calls f(x) if `x` is a row of a table that has no such column. It never does where `x` is a variable."""

_NO_ALIAS: Final = re.compile(
    r"(?:(?:;|\b(?:begin|else|then))\s*return|\bis\s+(?:not\s+)?distinct\s+from)\s+(?:new|old)\b"
    r"|\bcoalesce\s*\(\s*(?:new|old)\s*,\s*(?:new|old)\s*\)"
)

_ALIAS: Final = re.compile(r"\b(?:new|old)\b(?!\.|\s+is\b)")
"""Where these may be other than a trigger's variables."""

_WRITING: Final = frozenset({
    "alter", "call", "cluster", "comment", "copy", "create", "delete", "do", "drop", "execute", "grant", "import",
    "insert", "load", "lock", "merge", "reassign", "refresh", "reindex", "revoke", "security", "truncate", "update",
    "vacuum",
})  # fmt: skip
"""What a statement that writes has in it, and dynamic SQL."""

_BEFORE_PARENTHESES: Final = frozenset({
    "all", "and", "any", "array", "as", "between", "bit", "case", "char", "check", "coalesce", "default", "distinct",
    "else", "except", "exists", "for", "from", "greatest", "group", "having", "in", "intersect", "into", "lateral",
    "least", "limit", "not", "null", "nullif", "on", "or", "row", "select", "some", "then", "union", "using", "values",
    "varchar", "when", "where", "with",
})  # fmt: skip
"""Key words after which a parenthesis calls no function of that name: what kwlist.h has as reserved or as the name of a
column in all versions. The others are names of functions, too.
"""


def may_write(language: str, source: str, own: Set[str], writing: Set[str]) -> bool:
    """Whether code may write tables.

    `own` are the names that PostgreSQL's own functions alone have, `writing` those among them that write.
    """
    if language == "internal":
        return False
    if language not in {"sql", "plpgsql"} or not source.strip() or "\\" in source:
        return True  # also a body that is kept parsed: BEGIN ATOMIC
    code = _code(source)
    if code is None or (language == "sql" and re.search(r"\b(?:into|new|old)\b", code)):
        return True
    if not _WRITING.isdisjoint(_WORD.findall(code)) or _ATTRIBUTE.search(code):
        return True
    if _ALIAS.search(_NO_ALIAS.sub(" is ", code)):
        return True
    for name in _CALL.findall(_STATEMENT.sub(r"\1;", code)):
        schema, _, function = name.rpartition(".")
        if not schema and function in _BEFORE_PARENTHESES:
            continue
        if schema not in {"", "pg_catalog"} or function not in own or function in writing:
            return True
    return False


def _code(source: str) -> str | None:
    """Return code without comments and strings, each quoted name as `"`; None where it is in doubt what they are."""
    parts, end = [], 0
    for found in _NO_CODE.finditer(source):
        comment, quoted = found["comment"], found["quoted"]
        if found["dollar"] or (comment and "/*" in comment[2:]) or quoted in {'"new"', '"old"'}:
            return None
        parts += [source[end : found.start()], '"' if quoted else " "]
        end = found.end()
    code = "".join((*parts, source[end:]))
    if not code.isascii() or "/*" in code or "'" in code or re.search(r"\buescape\b", code, re.IGNORECASE):
        return None
    return _DOT.sub(".", code.lower())
