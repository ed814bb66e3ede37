"""What types say of values that they do not take: pg_input_error_info(), and the notices of COPY's ON_ERROR."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from shardproxy.rejects.form import literal
from shardproxy.rejects.staging import Refused, encoded, said
from shardproxy.shard.connection import Connection

_SKIPPED: Final = re.compile(r'skipping row due to data type incompatibility at line (\d+) for column "(.*)', re.DOTALL)
"""CopyFrom() in src/backend/commands/copyfromparse.c; see `Target.tells_skipped`."""


def line_of(notice: Mapping[str, str]) -> int | None:
    """Return the line of a row that ON_ERROR has skipped."""
    found = _SKIPPED.match(notice["M"])
    return None if found is None else int(found[1])


def value_named(notice: Mapping[str, str], values: Mapping[str, bytes | None]) -> tuple[str, bytes] | None:
    """Return the column that a notice names, and its value; a NULL is none."""
    found = _SKIPPED.match(notice["M"])
    names = [] if found is None else [name for name in values if found[2].startswith(f'{name}"')]
    name = max(names, key=len, default="")
    value = values.get(name)
    return None if value is None else (name, value)


async def reasons(connection: Connection, asked: Sequence[tuple[bytes, str]]) -> list[Refused]:
    """Ask what types say of values, given as pairs of a value and a type in SQL; without an SQLSTATE it is nothing."""
    if not asked:
        return []
    values = ",".join(
        f"({n}, {literal(value.decode('utf-8', 'surrogateescape'))}, {literal(kind)})"
        for n, (value, kind) in enumerate(asked)
    )
    sql = f"""SELECT e.message, e.detail, e.hint, e.sql_error_code FROM (VALUES {values}) AS v(n, value, kind),
        pg_catalog.pg_input_error_info(v.value, v.kind) AS e ORDER BY v.n"""
    rows = await connection.fetch(encoded(sql))
    return [
        Refused(0, said(state), said(message), said(detail), said(hint), typed=True)
        for message, detail, hint, state in rows
    ]
