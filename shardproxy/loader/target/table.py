"""What the table of a load is."""

from dataclasses import dataclass
from typing import Final

from shardproxy.config.names import split_qualified
from shardproxy.errors import PgError
from shardproxy.loader.input.reading import Column
from shardproxy.rejects.form import literal, pinned
from shardproxy.routing.identifiers import quote_identifier
from shardproxy.shard.catalog import text
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE, UNDEFINED_TABLE, WRONG_OBJECT_TYPE

BASE_TYPE: Final = """(WITH RECURSIVE d(oid) AS (SELECT a.atttypid UNION ALL
   SELECT t.typbasetype FROM d JOIN pg_catalog.pg_type AS t ON t.oid = d.oid WHERE t.typtype = 'd')
   SELECT d.oid FROM d JOIN pg_catalog.pg_type AS t ON t.oid = d.oid WHERE t.typtype <> 'd')"""
"""SQL, to be pinned: the type of a column `a`, or what its domain is over, which may be another domain."""

_TABLE: Final = pinned("""SELECT s.nspname, c.relname, c.relkind,
  pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass({name})""")

_COLUMNS: Final = pinned(f"""SELECT a.attname, b.typname, a.attgenerated <> ''
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS b ON b.oid = {BASE_TYPE}
WHERE a.attrelid = pg_catalog.to_regclass({{name}}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""")

_LOADED: Final = frozenset({"r", "p", "v", "f"})
"""pg_class.relkind of what COPY FROM fills: tables, partitioned ones, views with a trigger, foreign tables."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the target. `version` is the server's major version."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    version: int

    @property
    def quoted(self) -> str:
        """Its name in SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def filled(self) -> tuple[str, ...]:
        """The columns that a COPY without a column list fills."""
        return tuple(one.name for one in self.columns if not one.generated)

    @classmethod
    async def find(cls, connection: Connection, name: str) -> "Table":
        """Look a table up by its name in SQL. Raises PgError: 42P01 if there is none."""
        try:
            parts = split_qualified(name)
        except ValueError as error:
            raise PgError(INVALID_PARAMETER_VALUE, f"table: {error}") from None
        quoted = literal(".".join(map(quote_identifier, parts)))
        found = await connection.fetch(_TABLE.format(name=quoted))
        if not found:
            raise PgError(UNDEFINED_TABLE, f'relation "{name}" does not exist')
        schema, relation, kind, version = map(text, found[0])
        if kind not in _LOADED:
            raise PgError(WRONG_OBJECT_TYPE, f'cannot copy to "{name}": it is no table')
        rows = await connection.fetch(_COLUMNS.format(name=quoted))
        columns = (Column(text(column), text(kind), generated == b"t") for column, kind, generated in rows)
        return cls(schema, relation, tuple(columns), int(version))
