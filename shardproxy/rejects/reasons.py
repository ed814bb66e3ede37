"""What types say of values that they do not take: pg_input_error_info(), from PostgreSQL 16 on."""

from collections.abc import Sequence

from shardproxy.rejects.form import literal
from shardproxy.rejects.staging import Refused, encoded, said
from shardproxy.shard.connection import Connection


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
