"""What every statement has, and the tag that tells its kind."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from shardproxy.sql.facts import FunctionName, Lock, TableRef
from shardproxy.sql.moments import Reading


class Kind(Enum):
    """The tag of a statement's class. The value is how messages name it."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    MERGE = "MERGE"
    COPY_FROM = "COPY FROM"
    COPY_TO = "COPY TO"
    CREATE_AS = "CREATE TABLE AS"
    UTILITY = "UTILITY"
    CODE = "CODE"
    SET = "SET"
    RESET = "RESET"
    DISCARD = "DISCARD"
    SHOW = "SHOW"
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"
    PREPARE_TRANSACTION = "PREPARE TRANSACTION"
    PREPARE = "PREPARE"
    EXECUTE = "EXECUTE"
    DEALLOCATE = "DEALLOCATE"
    DECLARE_CURSOR = "DECLARE CURSOR"
    FETCH = "FETCH"
    CLOSE_CURSOR = "CLOSE CURSOR"
    LISTEN = "LISTEN"
    UNLISTEN = "UNLISTEN"
    NOTIFY = "NOTIFY"
    EXPLAIN = "EXPLAIN"
    EMPTY = "EMPTY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every statement has."""

    kind: ClassVar[Kind]
    text: str
    location: int
    tag: str = ""
    tables: tuple[TableRef, ...] = ()
    """Every relation that it names, wherever it stands."""
    functions: frozenset[FunctionName] = frozenset()
    attributes: frozenset[str] = frozenset()
    """Names that follow a dot: columns, or functions in functional notation (`t.count` is `count(t)`)."""
    operators: frozenset[str] = frozenset()
    """Operators, types that are cast to (`::integer`) and attributes of expressions (`.x`), without their schemas;
    those that the syntax implies are not there."""
    varying: tuple[str, ...] = ()
    """What may give another result on each shard, functions aside: LIMIT without a total order, 'now'."""
    moments: tuple[str, ...] = ()
    """Those of `varying` that count only where a string is read as a date or a time."""
    readings: tuple[Reading, ...] = ()
    """What may read a string as a date or a time that no constant and no parameter has."""
    params: tuple[tuple[int, int], ...] = ()
    """Each parameter's number and how often it occurs."""
    locks: frozenset[Lock] = frozenset()
    """What FOR UPDATE and its kin lock."""

    def calls(self, function: str) -> bool:
        """Whether it calls this function of the system."""
        return not self.functions.isdisjoint({(None, function), ("pg_catalog", function)})
