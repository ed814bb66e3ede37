"""Binary COPY of values that have OIDs inside: arrays and composite values of the user's own types."""

from collections.abc import Iterable, Mapping
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.identifiers import ascii_identifier, ascii_name
from shardproxy.routing.refusals import refused
from shardproxy.routing.relation import Relation
from shardproxy.session.typed import Carrying
from shardproxy.shard.connection import Connection
from shardproxy.shard.types import Types
from shardproxy.sql import CopyFrom, CopyTo, TableRef
from shardproxy.sql.parse import copied_query
from shardproxy.wire.usertypes import is_own


def _rows_of(copy: CopyTo, sql: bytes) -> bytes:
    """Return a query with the columns that a COPY TO has."""
    data = copy.data
    if isinstance(data, TableRef):
        table = ascii_identifier(data.name) if data.schema is None else ascii_name(data.schema, data.name)
        columns = "*" if copy.columns is None else ", ".join(map(ascii_identifier, copy.columns))
        return f"SELECT {columns} FROM {table}".encode("utf-8", "surrogateescape")
    return sql[copied_query(sql.decode("latin-1"))]  # a character for each byte


_STORED: Final = """SELECT a.atttypid::pg_catalog.int8 FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid OPERATOR(pg_catalog.=) {oid} AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    AND a.attgenerated OPERATOR(pg_catalog.=) '' ORDER BY a.attnum"""


async def carrying_of(copy: CopyTo, sql: bytes, connection: Connection) -> Carrying | None:
    """Return what of a binary COPY's rows has to be rewritten for the client, None if nothing has."""
    types = connection.statements.types
    if types is None:
        return None
    described = await connection.describe(_rows_of(copy, sql))
    oids = [column.type_oid for column in described]
    if isinstance(copy.data, TableRef) and copy.columns is None and described:
        # A star has the generated columns, too, which COPY leaves out.
        stored = await connection.fetch(_STORED.format(oid=described[0].table_oid))
        oids = [int(row[0] or 0) for row in stored]
    if not any(map(is_own, oids)):
        return None
    made = await types.know(oids)
    carrying = made.carrying((made.canonical(oid), 1) for oid in oids)
    return Carrying(made, carrying) if carrying else None


async def check_copied(types: Types, copy: CopyFrom, relations: Mapping[int, Relation | None]) -> None:
    """Refuse a binary COPY FROM whose values have other OIDs inside on the shards: its bytes are not rewritten."""
    for shard, relation in relations.items():
        one = types.of(shard)
        if copy.options.format != "binary" or one is None or relation is None:
            continue
        columns = {
            column.name: column.type_oid
            for column in relation.columns
            if is_own(column.type_oid) and (copy.columns is None or column.name in copy.columns)
        }
        if not columns:
            continue
        made = await one.know(columns.values())
        carrying = [name for name, oid in columns.items() if made.carries(made.canonical(oid))]
        if carrying and not made.same:
            raise _not_binary(carrying)


def _not_binary(columns: Iterable[str]) -> PgError:
    named = ", ".join(f'"{name}"' for name in columns)
    return refused(
        f"COPY FROM in binary is not supported for columns whose types have other OIDs on each shard: {named}",
        "Use COPY's text or CSV format, or INSERT.",
        "The values of arrays and composite types have the OIDs of their elements and fields inside.",
    )
