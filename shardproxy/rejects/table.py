"""Rejects in a table of the target, in the transaction that stores the other rows.

The table has the columns of COLUMNS, in any order, and may have others that INSERT fills. It gets what the .jsonl has.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.rejects.form import literal
from shardproxy.shard.connection import Connection

COLUMNS: Final = {
    "load_id": "load_id",
    "relation": "relation",
    "file": "file",
    "line": "line",
    "byte_offset": "offset",
    "data": "row",
    "sqlstate": "sqlstate",
    "message": "message",
    "detail": "detail",
    "column_name": "column",
    "shard": "shard",
}
"""What the table's columns are, and what each is called in the .jsonl; `load_id` and `relation` are in its name."""

STATEMENT_BYTES: Final = 1 << 20
"""Bytes of rows in one statement, about."""

_NUMBERS: Final = frozenset({"line", "offset"})


def insert_sql(table: str, rows: str) -> str:
    """Return the statement that inserts rows, a JSON array of objects in ASCII; `table` is SQL."""
    names = ", ".join(COLUMNS)
    given = ", ".join(f'x."{name}"' for name in COLUMNS.values())
    types = ", ".join(f'"{name}" pg_catalog.{"int8" if name in _NUMBERS else "text"}' for name in COLUMNS.values())
    return (
        f"INSERT INTO {table} ({names}) SELECT {given} "
        f"FROM pg_catalog.json_to_recordset({literal(rows)}::pg_catalog.json) AS x({types})"
    )


async def check(connection: Connection, table: str) -> None:
    """See that rejects can be inserted. Raises what the server says: 42P01, 42703 for a column, 42501."""
    try:
        await connection.execute(insert_sql(table, "[]"))
    except PgError as error:
        error.fields.setdefault("H", f"It is the table of rejects: see reject_table, {table}, in the configuration.")
        raise


async def insert(
    connection: Connection, table: str, named: Mapping[str, str], rejects: Iterable[Mapping[str, Any]]
) -> None:
    """Insert rejects, given as the .jsonl has them; `named` are `load_id` and `relation`."""
    for rows in _chunks({**named, **one} for one in rejects):
        await connection.execute(insert_sql(table, rows))


def _chunks(rejects: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for reject in rejects:
        # A zero byte has no place in a value of PostgreSQL's.
        texts = {name: value.replace("\0", "\\x00") for name, value in reject.items() if isinstance(value, str)}
        held.append(json.dumps({**reject, **texts}, ensure_ascii=True))
        size += len(held[-1])
        if size > STATEMENT_BYTES:
            yield f"[{','.join(held)}]"
            held.clear()
            size = 0
    if held:
        yield f"[{','.join(held)}]"
