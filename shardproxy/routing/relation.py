"""What the proxy knows of a table: the facts of a shard's catalog that placement needs, as plain values.

Never reads a catalog itself and never does I/O: the queries that fill these stand with the connections that
run them. Driven by building a `Relation` from one shard's answer and comparing it with the others'.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One live column. The type is the base type: domains are resolved, typmod and all."""

    name: str
    attnum: int
    type_oid: int
    type_name: str
    typmod: int = -1
    type_kind: str = "b"
    """`pg_type.typtype`: base, enum, composite, ..."""
    collation: str | None = None
    deterministic: bool = True
    """False for a collation made with `deterministic = false`: equal strings may differ in their bytes."""
    collation_is_c: bool = False
    """True where strings sort by their bytes: "C" or "POSIX", or "default" in a database whose own is."""
    generated: bool = False
    """GENERATED ALWAYS AS (...): COPY does not take a value for it. Identity columns are not meant."""
    not_null: bool = False
    default: str | None = None
    """`pg_get_expr` of the column's default, None without one."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as one shard's catalog shows it, columns in attnum order without the dropped ones."""

    oid: int
    schema: str
    name: str
    kind: str
    """`pg_class.relkind`."""
    columns: tuple[Column, ...]
    server_version: int
    """The major version, such as 16."""
    server_encoding: str
    """`server_encoding` as PostgreSQL names it, such as UTF8."""
    database_collation_is_c: bool = False
    hooked: bool = False
    """It may have triggers or rules, or partitions that have; a view shows tables that may."""

    def column(self, name: str) -> Column | None:
        """Return the column of this exact name, None when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        return None
