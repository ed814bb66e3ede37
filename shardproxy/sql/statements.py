"""A statement's facts by kind: one small value for each kind of statement, over a base that all have.

`text` is the statement alone, without the semicolon; `location` is the offset of its first character in the query
string; `tag` is its command tag where no count belongs to it. A statement that holds another (EXPLAIN, PREPARE,
DECLARE, CREATE TABLE AS, COPY) has that one's relations and functions, and its inner one has the text of the whole.

Match on the class, or look the kind up in a set: each class is the only one of its `kind`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shardproxy.copy.options import CopyOptions
from shardproxy.sql.base import Base, Kind
from shardproxy.sql.facts import Binding, Equality, FromItem, Rewrite, RowValue, SetConfig, TableRef, Unknown, Value
from shardproxy.sql.foreign_keys import ForeignKey
from shardproxy.sql.objects import ColumnRename, Object
from shardproxy.sql.processes import Processes
from shardproxy.sql.visible import Visible
from shardproxy.sql.widths import NO_ROWS, Widths

# Rows.


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Base):
    """The outermost level of a SELECT, UPDATE or DELETE, as far as it selects rows."""

    source: FromItem | None = None  # FROM of SELECT and UPDATE, USING of DELETE
    bindings: tuple[Binding, ...] = ()
    equal: tuple[Equality, ...] = ()
    merges: bool = False  # by USING or NATURAL, columns of several tables into one


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Query):
    """SELECT, VALUES and TABLE; SELECT INTO is a CreateAs."""

    kind = Kind.SELECT
    combining: tuple[str, ...] = ()  # why the rows of several shards, concatenated, would be the wrong answer
    limit: Value | Unknown | None = None  # also FETCH FIRST; None without, as with LIMIT ALL
    offset: Value | Unknown | None = None
    set_configs: tuple[SetConfig, ...] = ()
    visible: Visible | None = None  # what is run instead, for it not to see the proxy's own schema in the catalogs
    processes: Processes | None = None

    @property
    def sets_config(self) -> bool:
        """Calls set_config(): a change of a setting that every shard has to see."""
        return self.calls("set_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Modify(Query):
    """What INSERT, UPDATE, DELETE and MERGE have in common."""

    target: TableRef
    set_columns: tuple[str, ...] = ()  # by UPDATE, ON CONFLICT DO UPDATE, MERGE, or a nested one
    set_defaults: tuple[str, ...] = ()  # those of them that are set to DEFAULT
    returning: bool = False
    old_row: str | None = "old"  # what its RETURNING calls the row before; None if that may be another relation's name
    alone: bool = True  # it looks at no rows but those that it writes, or makes rows of functions alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert(Modify):
    """`columns` is None without a list, `rows` empty for INSERT ... SELECT, one empty row for DEFAULT VALUES."""

    kind = Kind.INSERT
    columns: tuple[str, ...] | None
    rows: Sequence[tuple[RowValue, ...]]
    widths: Widths = NO_ROWS
    select: bool
    conflict: Literal["nothing", "update"] | None = None
    set_excluded: tuple[str, ...] = ()  # those of set_columns that ON CONFLICT DO UPDATE sets to EXCLUDED's
    list_at: int | None = None  # where a column list would stand in the text, if it has VALUES and no list
    overriding: bool = False  # OVERRIDING USER VALUE: identity columns do not take the values that are given


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Modify):
    """UPDATE."""

    kind = Kind.UPDATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Modify):
    """DELETE."""

    kind = Kind.DELETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Modify):
    """MERGE."""

    kind = Kind.MERGE


Endpoint = Literal["client", "file", "program"]
"""Where the data of a COPY come from or go to. The client's are STDIN and STDOUT; the others are the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFrom(Base):
    """COPY table FROM."""

    kind = Kind.COPY_FROM
    table: TableRef
    columns: tuple[str, ...] | None
    options: CopyOptions
    endpoint: Endpoint
    has_where: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTo(Base):
    """COPY TO, of a table or of a query."""

    kind = Kind.COPY_TO
    data: "TableRef | Statement"
    columns: tuple[str, ...] | None
    options: CopyOptions
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAs(Base):
    """CREATE TABLE AS, CREATE MATERIALIZED VIEW and SELECT INTO."""

    kind = Kind.CREATE_AS
    target: TableRef
    query: "Statement"
    temporary: bool
    materialized: bool = False  # it is CREATE MATERIALIZED VIEW
    objects: tuple[Object, ...] = ()
    """The relation that it makes, unless that is temporary."""


# Definitions and code.


@dataclass(frozen=True, slots=True, kw_only=True)
class Utility(Base):
    """DDL and the like."""

    kind = Kind.UTILITY
    block: Literal["allowed", "refused", "required"] = "allowed"
    """What a transaction block means to it: PostgreSQL refuses VACUUM, CREATE DATABASE or CREATE INDEX CONCURRENTLY
    inside of one, and LOCK and SET CONSTRAINTS have an effect in one only."""
    defines: bool = True
    """May change the catalog, so that what is known of relations must be read again."""
    temporary: bool = False
    """Makes a temporary relation."""
    names_own: bool = False  # names the proxy's own schema, or what is in it, otherwise than as a relation
    owners: tuple[str | None, ...] = ()
    """The roles of DROP OWNED and REASSIGN OWNED; None for CURRENT_USER and the like."""
    rewrites: tuple[Rewrite, ...] = ()  # what ALTER TABLE does to columns that have values
    foreign_keys: tuple[ForeignKey, ...] = ()
    objects: tuple[Object, ...] = ()  # the relations, statistics and publications that it is about
    column_rename: ColumnRename | None = None
    makes_database: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(Base):
    """DO and CALL: a body that no parser of SQL can see into."""

    kind = Kind.CODE
    names_own: bool = False  # its text names the proxy's own schema


# Settings.


SNAPSHOT: Final = "TRANSACTION SNAPSHOT"
"""`Set.name` of SET TRANSACTION SNAPSHOT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Set(Base):
    """SET. `local` tells that it ends with the transaction: SET LOCAL, SET TRANSACTION."""

    kind = Kind.SET
    name: str
    local: bool
    values: tuple[str, ...] | None  # the constants that it gives; None for DEFAULT and FROM CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Base):
    """RESET; without a name RESET ALL."""

    kind = Kind.RESET
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Base):
    """DISCARD; the tag tells what."""

    kind = Kind.DISCARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Base):
    """SHOW."""

    kind = Kind.SHOW
    name: str


# Transactions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Base):
    """BEGIN and START TRANSACTION, and their `modes` as SET TRANSACTION has them."""

    kind = Kind.BEGIN
    modes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Base):
    """COMMIT. `chain` is AND CHAIN."""

    kind = Kind.COMMIT
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Base):
    """ROLLBACK. `chain` is AND CHAIN."""

    kind = Kind.ROLLBACK
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoint(Base):
    """SAVEPOINT."""

    kind = Kind.SAVEPOINT
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Base):
    """RELEASE SAVEPOINT."""

    kind = Kind.RELEASE
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackTo(Base):
    """ROLLBACK TO SAVEPOINT."""

    kind = Kind.ROLLBACK_TO
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTransaction(Base):
    """PREPARE TRANSACTION, COMMIT PREPARED and ROLLBACK PREPARED; the tag tells which. The name is the gid."""

    kind = Kind.PREPARE_TRANSACTION
    name: str


# What a session makes by name.


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(Base):
    """PREPARE. `inner` is the text of the statement that it prepares."""

    kind = Kind.PREPARE
    name: str
    query: "Statement"
    inner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Base):
    """EXECUTE."""

    kind = Kind.EXECUTE
    name: str
    args: Sequence[RowValue] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deallocate(Base):
    """DEALLOCATE; without a name DEALLOCATE ALL."""

    kind = Kind.DEALLOCATE
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareCursor(Base):
    """DECLARE. `hold` is WITH HOLD."""

    kind = Kind.DECLARE_CURSOR
    name: str
    query: "Statement"
    hold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Base):
    """FETCH and MOVE; the tag tells which."""

    kind = Kind.FETCH
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCursor(Base):
    """CLOSE; without a name CLOSE ALL."""

    kind = Kind.CLOSE_CURSOR
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen(Base):
    """LISTEN."""

    kind = Kind.LISTEN
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisten(Base):
    """UNLISTEN; without a name UNLISTEN *."""

    kind = Kind.UNLISTEN
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify(Base):
    """NOTIFY."""

    kind = Kind.NOTIFY
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Base):
    """EXPLAIN. `analyze` tells that it runs its statement."""

    kind = Kind.EXPLAIN
    query: "Statement"
    analyze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty(Base):
    """Nothing but blanks and comments."""

    kind = Kind.EMPTY


Control = Begin | Commit | Rollback | Savepoint | Release | RollbackTo
Notification = Listen | Unlisten | Notify
Statement = (
    Select
    | Insert
    | Update
    | Delete
    | Merge
    | CopyFrom
    | CopyTo
    | CreateAs
    | Utility
    | Code
    | Set
    | Reset
    | Discard
    | Show
    | Control
    | PrepareTransaction
    | Prepare
    | Execute
    | Deallocate
    | DeclareCursor
    | Fetch
    | CloseCursor
    | Notification
    | Explain
    | Empty
)

HOLDING: Final = (Explain, Prepare, DeclareCursor, CreateAs)  # statements with another inside, its `query`
