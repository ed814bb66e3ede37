"""The column list that is written into an INSERT whose rows are placed by their key.

Its values are given to columns by position, and which positions the key has is known from a look that may be up to a
second old, or older than DDL for whose lock the statement then waits. With the list, PostgreSQL stores the key where
it was read, or errs. See `sql.column_list`.
"""

from shardproxy.routing.identifiers import ascii_identifier
from shardproxy.routing.resolved import Resolved, Tables
from shardproxy.sql import ColumnList, CopyTo, Explain, Insert, Statement


def insert_of(statement: Statement) -> Insert | None:
    """Return the INSERT that a statement is or holds."""
    if isinstance(statement, Explain):
        statement = statement.query
    elif isinstance(statement, CopyTo) and isinstance(statement.data, Insert):
        statement = statement.data
    return statement if isinstance(statement, Insert) else None


def _unlisted(statement: Statement, tables: Tables) -> tuple[Insert, Resolved] | None:
    insert = insert_of(statement)
    if insert is None or insert.list_at is None or not tables[insert.target].sharded:
        return None
    return insert, tables[insert.target]


def column_list(statement: Statement, tables: Tables, *, characters: bool) -> ColumnList | None:
    """Return the list to write into a statement; None for what needs none.

    `characters`: the server knows its text as characters; SQL_ASCII has bytes.
    """
    found = _unlisted(statement, tables)
    if found is None:
        return None
    insert, table = found
    names = table.columns[: insert.widths.first]
    if not characters:
        names = tuple(name.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape") for name in names)
    assert insert.list_at is not None
    return ColumnList(insert.list_at, f" ({', '.join(map(ascii_identifier, names))})")


def is_too_long(statement: Statement, tables: Tables) -> bool:
    """Whether an INSERT has more values than its table is known to have columns."""
    found = _unlisted(statement, tables)
    return found is not None and found[0].widths.first > len(found[1].columns)
