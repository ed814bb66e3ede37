"""Scripts for psql, as far as PostgreSQL's regression files need it: their statements, with the data of COPY.

Known are comments, quotes, parentheses, BEGIN ATOMIC, variables, `\\;`, and the commands that send a statement. Other
commands of psql are left out, but for those that set a variable or connect anew.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""--[^\n]*|[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$"""
    r"""|::|:(?P<quoted>['"])(?P<inside>\w+)(?P=quoted)|:(?P<bare>[A-Za-z_]\w*)|\\(?P<meta>;|[^\s\\;]+)(?P<rest>[^\n]*)"""
    r"""|[A-Za-z_]\w*|/\*|[();]|.""",
    re.DOTALL,
)
_SENDS = {"g", "gx", "gset", "gdesc", "gexec", "crosstabview", "bind", "parse", "watch"}
_COPY_IN = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_ATOMIC = re.compile(r"\bbegin\s+atomic\b", re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """A statement, or `connect` for a new connection."""

    sql: str
    data: bytes | None = None
    connect: bool = False


def statements(text: str, variables: Mapping[str, str]) -> Iterator[Said]:
    """The statements of a script."""
    known = dict(variables)
    at, buffer, depth = 0, "", 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None
        token, at = found[0], found.end()
        if token == "/*":
            at = _comment(text, at)
        elif token.startswith("--"):
            pass
        elif found["meta"] == ";":
            at = found.end("meta")
            buffer += ";"
        elif found["meta"] is not None:
            sends = found["meta"] in _SENDS and buffer.strip()
            if sends:
                yield Said(buffer)
            if sends or found["meta"] == "r":
                buffer, depth = "", 0
            if found["meta"] in {"c", "connect"}:
                yield Said("", connect=True)
            if found["meta"] == "set":
                _set(found["rest"], known)
        elif token == ";" and depth <= 0 and not _inside_body(buffer):
            sql, buffer, depth = buffer, "", 0
            data = None
            if _COPY_IN.match(sql):
                at, data = _data(text, at)
            if sql.strip():
                yield Said(sql, data)
        else:
            depth += {"(": 1, ")": -1}.get(token, 0)
            name = found["inside"] or found["bare"]
            buffer += _value(token, found["quoted"], known.get(name or ""))


def _value(token: str, quote: str | None, value: str | None) -> str:
    if value is None:
        return token
    return value if quote is None else quote + value.replace(quote, quote * 2) + quote


def _set(rest: str, known: dict[str, str]) -> None:
    words = re.findall(r"'(?:[^']|'')*'|[^\s']+", rest)
    if words:
        known[words[0]] = "".join(_word(word, known) for word in words[1:])


def _word(word: str, known: Mapping[str, str]) -> str:
    if word[0] == "'":
        return word[1:-1]
    return known.get(word[1:], word) if word[0] == ":" else word


def _comment(text: str, at: int) -> int:
    depth = 1
    for found in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)


def _inside_body(buffer: str) -> bool:
    """Whether a function's BEGIN ATOMIC has not come to its END."""
    begun = _ATOMIC.search(buffer)
    if begun is None:
        return False
    words = re.findall(r"\b(?:begin|case|end)\b", buffer[begun.start() :], re.IGNORECASE)
    return sum(-1 if word.lower() == "end" else 1 for word in words) > 0


def _data(text: str, at: int) -> tuple[int, bytes]:
    """The lines up to `\\.`, after the rest of the statement's own."""
    at = text.index("\n", at) + 1 if "\n" in text[at:] else len(text)
    end = re.compile(r"^\\\.\r?\n?", re.MULTILINE).search(text, at)
    if end is None:
        return len(text), text[at:].encode()
    return end.end(), text[at : end.start()].encode()
