"""What `route` is given besides the statement. Plain values; nothing here decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from shardproxy.native import Placement
from shardproxy.routing.hidden import NOTHING_HIDDEN, Hidden
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.keytypes import KeyColumn
from shardproxy.routing.written import Written
from shardproxy.sql import FunctionName, Object, TableRef

NOTIFICATIONS: Final = 0
"""The shard of LISTEN, NOTIFY and pg_notify(): a session gets what others send only where all use the same one."""

TableKind = Literal["hash", "list", "range", "reference", "single", "catalog", "unlisted", "derived", "missing"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Who a TableRef is, for this session and now.

    kind "catalog": a relation of pg_catalog or information_schema, different on each shard. "unlisted": not
    listed while the database's unlisted_tables is "error". Under its other settings an unlisted table is
    "reference" or "single". "derived": a view, partition or child of other tables, whose placement it cannot
    have. "missing": does not exist, which PostgreSQL reports in its own words.
    A temporary table is "single" on the session's home shard.
    `columns` are all live ones in attnum order, generated ones too; `types` has the oids of their base types.
    `defaults` has each column whose value is the same wherever it is left out: its constant default as text,
    None where it has none (or is generated from other columns). A column that is missing there has a default
    that must be computed.
    `lockable`: LOCK TABLE takes it, which is for tables and views alone.
    `hooked`: triggers, rules or functions of the user's may run when it is written.
    """

    kind: TableKind
    schema: str
    name: str
    shard: int | None = None
    placement: Placement | None = None
    key: tuple[KeyColumn, ...] = ()
    columns: tuple[str, ...] = ()
    defaults: Mapping[str, bytes | None] = field(default_factory=dict)
    lockable: bool = True
    types: Mapping[str, int] = field(default_factory=dict)
    hooked: bool = False

    @property
    def sharded(self) -> bool:
        """Its rows are spread over the shards."""
        return self.kind in {"hash", "list", "range"}

    def locked(self, mode: str) -> str:
        """The statement that locks it."""
        return f"LOCK TABLE {ascii_name(self.schema, self.name)} IN {mode} MODE"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class ParamValue(NamedTuple):
    """One parameter as Bind gives it. `oid` is its type, 0 while it is not known; `format` 1 is binary."""

    oid: int
    format: int
    value: bytes | None


Tables = Mapping[TableRef, Resolved]
"""Who each relation of a statement is."""

TableName = tuple[str, str]
"""Schema and name."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a statement is watched: `what` may write.

    `targets` are the tables that it names as written, `sharded` the one of them that is sharded, if one is, and
    `cascaded` those that foreign keys change with them. `truncated` are those that TRUNCATE may empty, which counts no
    rows.
    """

    what: str
    targets: frozenset[TableName] = frozenset()
    sharded: TableName | None = None
    cascaded: frozenset[TableName] = frozenset()
    truncated: frozenset[TableName] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one object of a DDL statement is, or is to be made.

    kind is that of `Resolved`, "temporary", "type" for a composite type, "own" for what is in the proxy's schema, or
    "schema", whose groups are those of its tables. `shard` is the one shard that has it, None
    where all have it. `group` is equal for tables whose rows are placed alike; `own` is the group that the object's
    own name would have, whatever it belongs to, and `listed` tells that the configuration has that name.
    `derived`: it belongs to others, a view to what it reads, an index to its table. `key` has the names of the key's
    columns; `lacks` those that the table has not, and that no column may become any more. `heir` is a sharded table
    whose key would change with a column.
    """

    kind: str
    shard: int | None = None
    group: object = None
    own: object = None
    listed: bool = False
    derived: bool = False
    key: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()
    heir: str | None = None

    @property
    def sharded(self) -> bool:
        """Its rows are spread over the shards."""
        return self.kind in {"hash", "list", "range"}


OWN: Final = Place("own")
"""What is in the proxy's own schema, which no statement may change."""

NOWHERE: Final = ("unlisted",)
"""The group of tables that are not listed where `unlisted_tables` is "error": their rows cannot be reached."""


@dataclass(frozen=True, slots=True)
class KeyAction:
    """A write of a table by which a foreign key, or several in turn, sets a key column of a sharded table.

    `columns` are those of the written table of which an UPDATE has to set one for that. `computed`: any UPDATE may, as
    one of them is generated, or a BEFORE trigger may set it.
    """

    event: Literal["UPDATE", "DELETE"]
    columns: frozenset[str]
    table: str
    column: str
    computed: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What routing needs to know of the session and its database.

    `is_aggregate` tells whether any of some functions (schema or None, name) is an aggregate or a window
    function in the catalog; without it every function counts as one. The codecs are Python's names of the
    encodings of client and server; None where there is none, and then text beyond ASCII binds nothing.
    Parameters are those of Bind, numbered from 1. `places` has the objects of a DDL statement.
    """

    nshards: int
    home: int = 0
    is_aggregate: Callable[[frozenset[tuple[str | None, str]]], bool] = bool
    params: Sequence[ParamValue] = ()
    client_codec: str | None = "utf-8"
    server_codec: str | None = "utf-8"
    steady: int = 0
    """The shard, the same for all sessions, of what must not be elsewhere next time: sequences and locks."""
    users: frozenset[str] = frozenset()
    """The roles as which the session uses its shards."""
    places: Mapping[Object, Place] = field(default_factory=dict)
    written: Written | None = None
    """The reference table that the statement writes."""
    builtin: frozenset[str] = frozenset()
    """The names that PostgreSQL's own functions alone have."""
    immutable: frozenset[FunctionName] = frozenset()
    """Those of the statement's other functions that are immutable."""
    actions: tuple[KeyAction, ...] = ()
    """What writes of the table that the statement changes do to keys."""
    unseen: Unseen | None = None
    """What may write tables that the statement does not name as written."""

    @property
    def makes_temporary(self) -> bool:
        """Whether the statement makes a temporary relation, as its name or the search_path begins with pg_temp."""
        return any(place.kind == "temporary" and one.role in {"make", "view"} for one, place in self.places.items())

    @property
    def hidden(self) -> Hidden:
        """The functions that a write of a reference table may call without naming them."""
        return NOTHING_HIDDEN if self.written is None else self.written.hidden

    def lasting(self) -> "Context":
        """What holds for the statement whatever its parameters are: their values may be large, and are not kept."""
        return replace(self, params=()) if self.params else self

    def is_builtin(self, schema: str | None, name: str) -> bool:
        """Whether a function is one of PostgreSQL's own."""
        return schema in {None, "pg_catalog"} and name in self.builtin

    def may_be_builtin(self, schema: str | None, name: str) -> bool:
        """Whether it may be one, where `builtin` has not been asked for: then it is empty."""
        return schema in {None, "pg_catalog"} and (not self.builtin or name in self.builtin)


def in_turn(*locks: tuple[Resolved, str]) -> str | None:
    """The locks, with their modes, under which every shard makes the same change; None if there are none to take.

    What cannot be locked is left to PostgreSQL: it is only read, or cannot be written either.
    """
    return "; ".join(table.locked(mode) for table, mode in locks if table.lockable) or None
