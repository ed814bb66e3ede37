"""From a query string to the facts of its statements, cached by text.

`analyze` is the way in. It reads no catalog and no session state, so equal text gives equal facts and the
cache is shared by all sessions. A statement's relations stand there as it names them; who they are is for
routing's caller to resolve.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.sql.build import statement_of
from shardproxy.sql.column_list import ColumnList
from shardproxy.sql.parse import ParseFailed, parse
from shardproxy.sql.statements import Empty, Insert, Query, Select, Statement
from shardproxy.sql.strings import reads_alike
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, STATEMENT_TOO_COMPLEX

CACHE_BYTES: Final = 16 * 2**20
"""All that the cache may hold, by the estimate of `_cost`."""
CACHED_TEXT_BYTES: Final = 256 * 2**10
"""A longer text is a load in disguise: it comes once and would drive out what comes again."""

_cache: OrderedDict[str, tuple[Sequence[Statement], int]] = OrderedDict()
_cached_bytes = 0


def analyze(sql: str) -> Sequence[Statement]:
    """Parse a query string; ParseFailed where PostgreSQL's grammar refuses it.

    Empty text, comments and semicolons alone give one `Empty`. Statements that are left out between semicolons are
    left out here as well, as PostgreSQL does.
    """
    known = analyzed(sql)
    if known is not None:
        return known
    try:
        statements = tuple(statement_of(text, location, tree) for text, location, tree in parse(sql))
    except RecursionError:
        raise ParseFailed("stack depth limit exceeded", None, STATEMENT_TOO_COMPLEX) from None
    statements = statements or (Empty(text=sql, location=0),)
    keep(sql, statements)
    return statements


def analyzed(sql: str) -> Sequence[Statement] | None:
    """Return what is in the cache."""
    known = _cache.get(sql)
    if known is None:
        return None
    _cache.move_to_end(sql)
    return known[0]


def keep(sql: str, statements: Sequence[Statement]) -> None:
    """Put a text's statements into the cache, if they are worth it."""
    global _cached_bytes  # noqa: PLW0603 -- the cache is the module's, as its docstring explains
    if len(sql) > CACHED_TEXT_BYTES or sql in _cache:
        return
    cost = _cost(sql, statements)
    _cache[sql] = (statements, cost)
    _cached_bytes += cost
    while _cached_bytes > CACHE_BYTES:
        _cached_bytes -= _cache.popitem(last=False)[1][1]


def require_conforming_strings(sql: str) -> None:
    """Refuse text whose strings a session with standard_conforming_strings = off reads in another way.

    The grammar reads '...' as the standard specifies.
    """
    if not reads_alike(sql):
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            "a backslash in '...' is not supported with standard_conforming_strings = off",
            hint="SET standard_conforming_strings = on, and write E'...' where a backslash is an escape.",
        )


def run_as(statement: Statement, listed: ColumnList | None = None) -> str:
    """The text to run: the statement's own, but for the system catalogs, and for the column list of an INSERT."""
    if listed is not None:
        return listed.into(statement.text)
    seen = statement.visible if isinstance(statement, Select) else None
    return statement.text if seen is None else seen.text


def _cost(sql: str, statements: Sequence[Statement]) -> int:
    """Estimate what an entry holds: two copies of the text, 4 KiB a statement, 150 bytes a VALUES item."""
    items = sum(len(one.rows) * one.widths.first for one in statements if isinstance(one, Insert))
    bound = sum(len(binding.values) for one in statements if isinstance(one, Query) for binding in one.bindings)
    return 2 * len(sql.encode("utf-8", "surrogateescape")) + 4096 * len(statements) + 150 * (items + bound)
