"""Tables as the statements believe them to be."""

from dataclasses import dataclass, field

from tests.oracle.case import Step
from tests.oracle.generate.placed import Placed
from tests.oracle.generate.values import Type


@dataclass
class Table:
    """A table, or what is read like one; DDL that has failed, or was rolled back, makes it wrong."""

    placed: Placed
    columns: dict[str, Type]
    unique: tuple[str, ...] = ()  # a primary key or unique constraint
    arbiters: list[str] = field(default_factory=list)  # what else ON CONFLICT may name
    computed: set[str] = field(default_factory=set)  # columns that mostly get DEFAULT alone
    held: dict[str, list[str]] = field(default_factory=dict)  # by column what it was filled with

    @property
    def name(self) -> str:
        """Its name."""
        return self.placed.name


@dataclass
class Schema:
    """All tables, and the steps that make and fill them."""

    tables: list[Table]
    steps: list[Step]
    version: int  # of PostgreSQL


def quoted(name: str) -> str:
    """A column's name as SQL needs it."""
    return f'"{name}"' if not name.isidentifier() else name
