"""What is known of a statement from its text alone: facts that name neither a shard nor a placement.

`analyze` makes them; `route` reads them together with the catalog's view of the tables. Nothing of the parse
tree survives here, so a cached statement stays small and no other module depends on the parser.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from shardproxy.copy.options import CopyOptions


class Kind(Enum):
    """What a statement is to a session: who answers it and what it does to the transaction."""

    COPY_FROM = "COPY FROM"
    COPY_TO = "COPY TO"
    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    MERGE = "MERGE"
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"
    PREPARE_TRANSACTION = "PREPARE TRANSACTION"
    """Also COMMIT PREPARED and ROLLBACK PREPARED; the tag tells which."""
    SET = "SET"
    RESET = "RESET"
    """Also DISCARD; the tag tells which."""
    SHOW = "SHOW"
    UTILITY = "UTILITY"
    """DDL and the like, which may run in a transaction block."""
    UTILITY_NO_TRANSACTION = "UTILITY (no transaction)"
    """What PostgreSQL refuses in a transaction block: VACUUM, CREATE DATABASE, CREATE INDEX CONCURRENTLY."""
    PREPARE = "PREPARE"
    EXECUTE = "EXECUTE"
    DEALLOCATE = "DEALLOCATE"
    DECLARE_CURSOR = "DECLARE CURSOR"
    FETCH = "FETCH"
    """Also MOVE; the tag tells which."""
    CLOSE_CURSOR = "CLOSE CURSOR"
    LISTEN = "LISTEN"
    UNLISTEN = "UNLISTEN"
    NOTIFY = "NOTIFY"
    EXPLAIN = "EXPLAIN"
    CODE = "CODE"
    """DO and CALL: a body that no parser of SQL can see into."""
    EMPTY = "EMPTY"


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
Source = Literal["stdin", "file", "program"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as written: `table` is the alias or table name before it, `schema` what stands before that."""

    name: str
    table: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """In every row of the result `column` is one of `values`, unless its table is the missing side of a join.

    `only` are the tables of which that holds: those of an outer join's inner side, for its ON says nothing of
    the other; None means any.
    """

    column: Column
    values: tuple[Value, ...]
    only: tuple[TableRef, ...] | None = None


@dataclass(frozen=True, slots=True)
class Equality:
    """Two columns are equal in every row of the result, unless a table is the missing side of a join.

    What is known of the one is known of the other, if that belongs to one of the tables in `only`.
    """

    one: Column
    other: Column
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
class Insert:
    """INSERT's own facts: `columns` None when the statement has no list, `rows` empty for INSERT ... SELECT.

    INSERT ... DEFAULT VALUES is one row without columns. `conflict` is None, "nothing" or "update".
    """

    columns: tuple[str, ...] | None
    rows: tuple[tuple[RowValue, ...], ...]
    select: bool
    conflict: str | None = None


@dataclass(frozen=True, slots=True)
class CopyStatement:
    """COPY's own facts: exactly one of `table` and `query` is set."""

    table: TableRef | None
    columns: tuple[str, ...] | None
    options: CopyOptions
    source: Source
    """Where the data come from or go to; "stdin" stands for STDOUT as well."""
    query: "Statement | None" = None
    has_where: bool = False


@dataclass(frozen=True, slots=True)
class SetConfig:
    """A call of set_config(): the setting's name, and whether the transaction ends it; None is known at run time."""

    name: Value | None
    local: Value | None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What ALTER TABLE does to a column: "drop", "add", or "type", which is None if more than the type changes.

    `varying` is what may fill it differently on each shard.
    """

    what: Literal["drop", "add", "type"]
    column: str
    type: str | None = None
    varying: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a query string.

    `text` is this statement alone, without the semicolon; `location` is the offset of its first character.
    `name` is the savepoint, setting, prepared statement, cursor, channel or transaction identifier that the
    statement is about; None also where it means all (DEALLOCATE ALL, RESET ALL).
    `inner` is the statement inside EXPLAIN, PREPARE, DECLARE, CREATE TABLE AS, COPY; its text is the whole.
    """

    text: str
    location: int
    kind: Kind
    tag: str = ""
    name: str | None = None
    chain: bool = False
    """AND CHAIN of COMMIT and ROLLBACK."""
    local: bool = False
    """SET LOCAL, SET TRANSACTION: ends with the transaction."""
    set_values: tuple[str, ...] | None = None
    """The constants that SET gives; None for DEFAULT, FROM CURRENT and RESET."""
    hold: bool = False
    """DECLARE ... WITH HOLD."""
    analyze: bool = False
    """EXPLAIN ANALYZE, which runs its statement."""
    temporary: bool = False
    """Makes a temporary relation."""
    definition: bool = False
    """May change the catalog, so that what is known of relations must be read again."""
    tables: tuple[TableRef, ...] = ()
    functions: frozenset[tuple[str | None, str]] = frozenset()
    copy: CopyStatement | None = None
    inner: "Statement | None" = None
    source: FromItem | None = None
    """FROM of the outermost SELECT, FROM of UPDATE, USING of DELETE."""
    combining: tuple[str, ...] = ()
    """Why the rows of several shards, put one behind the other, would be the wrong answer."""
    varying: tuple[str, ...] = ()
    """What may give another result on each shard, functions aside: LIMIT without a total order, 'now'."""
    into: bool = False
    """SELECT INTO, CREATE TABLE AS."""
    locking: bool = False
    """FOR UPDATE and its kin."""
    bindings: tuple[Binding, ...] = ()
    equal: tuple[Equality, ...] = ()
    insert: Insert | None = None
    set_configs: tuple[SetConfig, ...] = ()
    set_columns: tuple[str, ...] = ()
    """Columns that UPDATE, ON CONFLICT DO UPDATE or a nested UPDATE sets."""
    set_defaults: tuple[str, ...] = ()
    """Those of them that are set to DEFAULT."""
    returning: bool = False
    rewrites: tuple[Rewrite, ...] = ()
    params: tuple[tuple[int, int], ...] = field(default=())
    """Each parameter's number and how often it occurs."""

    @property
    def calls_set_config(self) -> bool:
        """Calls set_config(), or does when what it defines is used."""
        return self._calls("set_config")

    @property
    def sets_config(self) -> bool:
        """Is a SELECT of set_config(): a change of a setting that every shard has to see."""
        return self.kind is Kind.SELECT and not self.into and self.calls_set_config

    @property
    def notifies(self) -> bool:
        """Calls pg_notify()."""
        return self._calls("pg_notify")

    def _calls(self, function: str) -> bool:
        return not self.functions.isdisjoint({(None, function), ("pg_catalog", function)})

    @property
    def single_table(self) -> bool:
        """Exactly one relation, and it stands alone in the outermost FROM."""
        return len(self.tables) == 1 and isinstance(self.source, FromTable)

    @property
    def target(self) -> TableRef | None:
        """The relation that INSERT, UPDATE, DELETE, MERGE or COPY is about."""
        if self.copy is not None:
            return self.copy.table
        if self.kind not in {Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE}:
            return None
        return next(table for table in self.tables if table.role == "write" and not table.nested)


def tables_in(item: FromItem | None) -> Iterator[TableRef]:
    """The relations that stand in a FROM itself, from left to right."""
    pending = [] if item is None else [item]
    while pending:
        item = pending.pop()
        if isinstance(item, FromTable):
            yield item.table
        elif isinstance(item, FromJoin):
            pending += (item.right, item.left)
