"""A row whose key is there replaces what is there: the clause of INSERT for it, and when it may be done in sets.

What holds is what rows would leave that are upserted one by one, in their order. Sans-IO.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shardproxy.routing.identifiers import ascii_identifier


@dataclass(frozen=True, slots=True)
class Upsert:
    """The constraint by which rows are the same, and what is known of the table's others."""

    constraint: str
    key: tuple[str, ...]
    """Its columns."""
    operators: tuple[str, ...]
    """What it compares them by, in SQL."""
    nulls_distinct: bool = True
    fixed: frozenset[str] = frozenset()
    """Columns that no UPDATE sets: identities that are GENERATED ALWAYS."""
    checked: tuple[frozenset[str], ...] = ()
    """The columns of each CHECK."""
    partitioned: bool = False
    """Whether the table has partitions, whose rows' system columns cannot be asked for."""
    alone: bool = True
    """Whether a row that another of the same key replaces at once can be left out: nothing but NOT NULL, CHECK and
    foreign keys could refuse it."""
    in_sets: bool = True
    """Whether rows of different keys are independent of each other but for what an immediate unique index tells."""

    @property
    def key_list(self) -> str:
        """The key in SQL."""
        return ", ".join(map(ascii_identifier, self.key))

    @property
    def without_key(self) -> str:
        """SQL that is true of a row that is the same as no other."""
        if not self.nulls_distinct:
            return "false"
        return " OR ".join(f"{ascii_identifier(name)} IS NULL" for name in self.key)

    def clause(self, table: str, name: str, columns: Sequence[str]) -> str:
        """Return ON CONFLICT for rows of these columns, with RETURNING whether a row was updated.

        `table` is SQL, `name` the table's own, without its schema.
        """
        names = [ascii_identifier(name) for name in columns if name not in self.fixed]
        action = f"UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in names)}" if names else "NOTHING"
        # A row that was there has been locked before it was updated, and what took its place tells that.
        updated = (
            "xmax OPERATOR(pg_catalog.<>) 0" if not self.partitioned else self._was_there(table, ascii_identifier(name))
        )
        return f"ON CONFLICT ON CONSTRAINT {ascii_identifier(self.constraint)} DO {action} RETURNING {updated}"

    def _was_there(self, table: str, bare: str) -> str:
        """SQL for RETURNING, which sees the table as it was before the statement."""
        same = []
        for name, is_ in zip(map(ascii_identifier, self.key), self.operators, strict=True):
            nulls = "" if self.nulls_distinct else f" OR o.{name} IS NULL AND {bare}.{name} IS NULL"
            same.append(f"(o.{name} {is_} {bare}.{name}{nulls})")
        return f"EXISTS (SELECT FROM {table} AS o WHERE {' AND '.join(same)})"

    def may_leave_out(self, columns: Sequence[str]) -> bool:
        """Whether a row of these columns can be left out that one with the same key replaces."""
        return self.alone and all(one.issubset(columns) for one in self.checked)
