"""What a statement's text tells of relations, columns, values and joins: the words that statements are described in.

Nothing of the parse tree survives here, so a cached statement stays small and no other package depends on the parser.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

FunctionName = tuple[str | None, str]
"""A function as written: its schema, None without one, and its name."""

Lock = tuple[str, bool]
"""A table by its name in FROM, and whether FOR UPDATE or FOR NO KEY UPDATE keep others' FOR UPDATE from it."""


@dataclass(frozen=True, slots=True)
class TableRef:
    """One relation as the statement names it. A common table expression is never one.

    `nested` tells that it stands elsewhere than as the target or in the FROM of the outermost query.
    """

    schema: str | None
    name: str
    alias: str | None = None
    role: Literal["read", "write"] = "read"
    nested: bool = False

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Const:
    """A constant. `text` is its value as text (strings unescaped), `cast` the built-in type it is cast to."""

    kind: Literal["int", "str", "float", "bool", "null"]
    text: str
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter `$number`, and the built-in type it is cast to."""

    number: int
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class Default:
    """The keyword DEFAULT in a row of VALUES or in SET."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any expression whose value is known to the server alone."""


Value = Const | Param
RowValue = Const | Param | Default | Unknown


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column as written: `table` is the alias or table name before it, `schema` what stands before that."""

    name: str
    table: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """In every row of the result `column` is one of `values`, unless its table is the missing side of a join.

    `only` are the tables of which that holds: those of an outer join's inner side, for its ON does not restrict
    the other; None means any.
    """

    column: ColumnRef
    values: Sequence[Value]
    only: tuple[TableRef, ...] | None = None


@dataclass(frozen=True, slots=True)
class Equality:
    """Two columns are equal in every row of the result, unless a table is the missing side of a join.

    What is known of the one is known of the other, if that belongs to one of the tables in `only`.
    """

    one: ColumnRef
    other: ColumnRef
    only: tuple[TableRef, ...] | None = None


@dataclass(frozen=True, slots=True)
class FromTable:
    """A relation in FROM."""

    table: TableRef


@dataclass(frozen=True, slots=True)
class FromFunction:
    """A function in FROM; it reads no relation that the statement names."""


@dataclass(frozen=True, slots=True)
class FromOther:
    """A sub-select, a CTE reference, a sampled table, or whatever else FROM may hold."""

    what: str


@dataclass(frozen=True, slots=True)
class FromJoin:
    """A join; a comma in FROM is an inner one."""

    kind: Literal["inner", "left", "right", "full"]
    left: "FromItem"
    right: "FromItem"


FromItem = FromTable | FromFunction | FromOther | FromJoin


@dataclass(frozen=True, slots=True)
class SetConfig:
    """A call of set_config(): the setting's name and value, and whether the transaction ends it.

    None is known at run time.
    """

    name: Value | None
    value: Value | None
    local: Value | None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What ALTER TABLE does to a column: "drop", "add", or "type", which is None if more than the type changes.

    `varying` is what may fill it differently on each shard, if `functions` are PostgreSQL's own.
    """

    what: Literal["drop", "add", "type"]
    column: str
    type: str | None = None
    varying: str | None = None
    functions: frozenset[FunctionName] = frozenset()


def has_others(item: FromItem | None) -> bool:
    """Whether something else than relations stands in a FROM itself."""
    pending = [] if item is None else [item]
    while pending:
        item = pending.pop()
        if isinstance(item, FromFunction | FromOther):
            return True
        if isinstance(item, FromJoin):
            pending += (item.right, item.left)
    return False


def tables_in(item: FromItem | None) -> Iterator[TableRef]:
    """The relations that stand in a FROM itself, from left to right."""
    pending = [] if item is None else [item]
    while pending:
        item = pending.pop()
        if isinstance(item, FromTable):
            yield item.table
        elif isinstance(item, FromJoin):
            pending += (item.right, item.left)
