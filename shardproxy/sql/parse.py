"""PostgreSQL's own grammar, through pglast: the only module that imports it.

The tree is taken as libpg_query's JSON, not as pglast's node objects: those are built by unchecked recursion
in C, which a client could overflow with a deep expression, and every one of them looks up its character
offset in linear time. JSON offsets are bytes of the UTF-8 text, so statements are cut exactly.
"""

import json
import re
import sys
from collections.abc import Iterator, Set
from typing import Any, Final, NamedTuple

from pglast import parser

from shardproxy.errors import PgError
from shardproxy.sqlstate import STATEMENT_TOO_COMPLEX, SYNTAX_ERROR

Node = dict[str, Any]

# json.loads counts two levels for each level of the tree. 10,000 take about 3 MiB of C stack at the most,
# well under the 8 MiB of a thread; PostgreSQL's own limit (max_stack_depth, 2 MB) lies in the same region.
JSON_DEPTH: Final = 10_000

# Where the bytes of a client encoding other than UTF-8 (surrogate escapes, 0x80 to 0xFF) are moved for the
# parser, which takes UTF-8 only: two bytes each, as the server makes of most of them, letters to its lexer.
_FOREIGN_BASES: Final = (0x80, 0x780, 0x400, 0x600, 0x500)

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_BEYOND_ASCII: Final = re.compile(r"[^\0-\x7f]")


def parts(node: Any) -> Iterator[Any]:
    """Yield what a tree, or a part of one, consists of, itself included; the order is not that of the text."""
    pending = [node]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            pending += part.values()


class ParseFailed(PgError):  # noqa: N818 -- named for what happened, as ConnectionLost is
    """PostgreSQL's grammar refuses the query. `position` is the character, counted from 1, or None."""

    def __init__(self, message: str, position: int | None, state: str = SYNTAX_ERROR) -> None:
        super().__init__(state, message, position=position)
        self.position = position


def parse(sql: str) -> list[tuple[str, int, Node]]:
    """Cut a query string into statements: (text, offset of its first character, raw statement node).

    The text runs from the statement's first token to its semicolon. No statement at all gives an empty list.
    """
    text, back = _as_utf8(sql)
    try:
        tree = parser.parse_sql_json(text)
    except parser.ParseError as error:
        raise _failure(error, text, back) from None
    encoded = text.encode()
    statements = []
    done_bytes = done_characters = 0
    for raw in _loads(tree)["stmts"]:
        start = raw.get("stmt_location", 0)
        end = start + raw["stmt_len"] if "stmt_len" in raw else len(encoded)
        done_characters += len(encoded[done_bytes:start].decode())
        done_bytes = start
        length = len(encoded[start:end].decode())
        original = sql[done_characters : done_characters + length]
        statements.append((original, done_characters, _restore(raw["stmt"], back)))
    return statements


class Token(NamedTuple):
    """A token by its name in the grammar, and the characters from `start` up to, and without, `end`."""

    name: str
    start: int
    end: int


def tokens(sql: str) -> list[Token]:
    """Cut a text that the grammar has accepted, or its beginning; no comments. ParseFailed where that is not possible.

    Keywords with a q may be names.
    """
    try:
        # To the lexer all characters beyond ASCII are letters; pglast looks each one up in linear time.
        found = parser.scan(_BEYOND_ASCII.sub("q", sql))
    except parser.ParseError as error:
        raise ParseFailed(error.args[0], None) from None
    return [Token(one.name, one.start, one.end + 1) for one in found if not one.name.endswith("_COMMENT")]


def prepared_from(sql: str) -> int:
    """Return where the statement begins that a PREPARE holds: after the AS that follows its name and types."""
    depth = 0
    for token in parser.scan(_as_utf8(sql)[0]):
        if token.name == "ASCII_40":
            depth += 1
        elif token.name == "ASCII_41":
            depth -= 1
        elif token.name == "AS" and not depth:
            break
    return int(token.end) + 1


def copied_query(sql: str) -> slice:
    """Return where the query is in a COPY of one: between its parentheses, without them."""
    depth = start = 0
    for token in parser.scan(_as_utf8(sql)[0]):
        if token.name == "ASCII_40":
            start = start if depth else token.end + 1
            depth += 1
        elif token.name == "ASCII_41":
            depth -= 1
            if not depth:
                break
    return slice(start, token.start)


def _loads(tree: str) -> Node:
    try:
        return json.loads(tree)  # type: ignore[no-any-return]
    except RecursionError:
        limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, JSON_DEPTH))
    try:
        return json.loads(tree)  # type: ignore[no-any-return]
    except RecursionError:
        raise ParseFailed("stack depth limit exceeded", None, STATEMENT_TOO_COMPLEX) from None
    finally:
        sys.setrecursionlimit(limit)


def _as_utf8(sql: str) -> tuple[str, dict[int, int]]:
    """Make text that UTF-8 can hold, character for character, and the table that undoes it in the tree."""
    if "\0" in sql:
        raise ParseFailed("a query cannot hold a zero byte", sql.index("\0") + 1)
    try:
        sql.encode()
    except UnicodeEncodeError:
        used = set(map(ord, sql))
    else:
        return sql, {}
    for base in _FOREIGN_BASES:
        if used.isdisjoint(range(base, base + 0x80)):
            table = {0xDC80 + byte: base + byte for byte in range(0x80)}
            return sql.translate(table), {moved: byte for byte, moved in table.items()}
    raise ParseFailed("the query mixes too many characters that are not UTF-8", None)


def _restore(tree: Node, back: dict[int, int]) -> Node:
    """Put foreign bytes back into every string of a tree, in place."""
    pending: list[Any] = [tree] if back else []
    while pending:
        node = pending.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, str):
                node[key] = value.translate(back)
            elif isinstance(value, dict | list):
                pending.append(value)
    return tree


def _failure(error: parser.ParseError, sql: str, back: dict[int, int]) -> ParseFailed:
    """Build ParseFailed with the true position.

    libpg_query counts in characters, pglast takes that for a byte offset and converts it once more. So its
    index names up to four candidates; the right one is where the text stands that the message quotes.
    """
    message, index = error.args[0], error.args[1]
    if index is None:
        position = len(sql) + 1
    elif sql.isascii():
        position = index + 1
    else:
        first = len(sql[:index].encode())
        candidates = range(first, first + len(sql[index].encode()))
        _, _, quoted = message.partition(' at or near "')
        position = 1 + next((at for at in candidates if quoted and sql.startswith(quoted[:-1], at)), first)
    return ParseFailed(message.translate(back), position if position > 0 else None)


def without_options(text: str, names: Set[str]) -> str:
    """Return a COPY FROM STDIN without some of the options in its parentheses."""
    tokens = list(parser.scan(_SURROGATE.sub("x", text)))
    at = next(number for number, token in enumerate(tokens) if token.name == "STDIN") + 1
    begin = tokens[at].start if at < len(tokens) else len(text)
    at += at < len(tokens) and tokens[at].name == "WITH"
    if at == len(tokens) or tokens[at].name != "ASCII_40":
        return text
    depth, start, kept = 0, at + 1, []
    for number in range(at, len(tokens)):
        name = tokens[number].name
        depth += {"ASCII_40": 1, "ASCII_41": -1}.get(name, 0)
        if (depth == 0 and name == "ASCII_41") or (depth == 1 and name == "ASCII_44"):
            option = text[tokens[start].start : tokens[number].start]
            if text[tokens[start].start : tokens[start].end + 1].lower().strip('"') not in names:
                kept.append(option)
            start = number + 1
            if depth == 0:
                break
    options = f"({', '.join(kept)})" if kept else ""
    return text[:begin] + options + text[tokens[start - 1].end + 1 :]


def where_of(text: str) -> str:
    """Return the WHERE of a COPY, which has one, with the word itself."""
    depth = found = 0
    for token in parser.scan(_SURROGATE.sub("x", text)):
        depth += {"ASCII_40": 1, "ASCII_41": -1}.get(token.name, 0)
        if token.name == "WHERE" and depth == 0:
            found = token.start
    return text[found:]
