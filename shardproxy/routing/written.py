"""What the catalogs tell of a reference table that is written: its key, its columns, and what else would run."""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Final

from shardproxy.routing.hidden import NOTHING_HIDDEN, Hidden
from shardproxy.wire.usertypes import FIRST_NORMAL

# pg_trigger.tgtype, src/include/catalog/pg_trigger.h
BEFORE: Final = 1 << 1
TRUNCATE: Final = 1 << 5
EVENTS: Final = {"INSERT": 1 << 2, "DELETE": 1 << 3, "UPDATE": 1 << 4}

_SENDS: Final = {
    600: "point_send",
    601: "lseg_send",
    602: "path_send",
    603: "box_send",
    604: "poly_send",
    628: "line_send",
    700: "float4send",
    701: "float8send",
    718: "circle_send",
    790: "cash_send",
    1082: "date_send",
    1114: "timestamp_send",
    1184: "timestamptz_send",
    1186: "interval_send",
    1266: "timetz_send",
    **dict.fromkeys(
        (
            629,
            719,
            791,
            1017,
            1018,
            1019,
            1020,
            1021,
            1022,
            1027,
            1115,
            1182,
            1185,
            1187,
            1270,
            3909,
            3911,
            3913,
            6152,
            6153,
            6155,
        ),
        "array_send",
    ),
    **dict.fromkeys((3908, 3910, 3912), "range_send"),
    **dict.fromkeys((4533, 4534, 4535), "multirange_send"),
}
"""Built-in types whose text depends on settings (DateStyle, IntervalStyle, extra_float_digits, lc_monetary), by OID:
the function that gives a value's binary form, which does not."""


_MOVING: Final = frozenset({
    1082, 1083, 1114, 1184, 1266, 1115, 1182, 1183, 1185, 1270, 3908, 3909, 3910, 3911, 3912, 3913, 4533, 4534, 4535,
    6152, 6153, 6155,
})  # fmt: skip
"""date, time and timestamp with or without time zone, their ranges and multiranges, and arrays of all these."""


BY_OID: Final = frozenset({
    24, 1008, 2202, 2203, 2204, 2205, 2206, 2207, 2208, 2209, 2210, 2211, 3734, 3735, 3769, 3770, 4089, 4090, 4096,
    4097, 4191, 4192,
})  # fmt: skip
"""regproc and its kin, and their arrays: the same name has another OID on each shard."""


@dataclass(frozen=True, slots=True)
class WrittenColumn:
    """One column. `type` is the OID of its type, of a domain's base; `default` the text of its default."""

    name: str
    type: int = 0
    generated: bool = False
    always: bool = False
    """GENERATED ALWAYS AS IDENTITY: UPDATE cannot set it."""
    default: str | None = None
    composed: bool = False
    """Of a type of the user's that is made of others: a composite, a range, an array."""

    @property
    def moves(self) -> bool:
        """Whether its text may depend on when it is read: 'now'."""
        return self.composed or self.type in _MOVING

    @property
    def is_date(self) -> bool:
        """Whether it holds dates or times as such, so that reading them again gives the same at any time."""
        return self.type in _MOVING

    @property
    def settled(self) -> bool:
        """Whether its text may depend on settings, and has no binary form that means the same on every shard."""
        return self.type >= FIRST_NORMAL

    @property
    def send(self) -> str | None:
        """The function that gives the binary form, for types whose text does not give the value exactly."""
        return _SENDS.get(self.type)


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of the user's that is enabled. `type` is pg_trigger.tgtype.

    It fires when the transaction commits if it is `deferred`, or `deferrable` and SET CONSTRAINTS has said so.
    """

    name: str
    type: int
    deferred: bool = False
    deferrable: bool = False

    @property
    def is_before(self) -> bool:
        """It may change the row."""
        return bool(self.type & BEFORE)

    def is_late(self, *, deferring: bool) -> bool:
        """Whether it fires at the end; `deferring` where the transaction has run SET CONSTRAINTS ... DEFERRED."""
        return self.deferred or (deferring and self.deferrable)

    def fires_at(self, event: str) -> bool:
        """Whether INSERT, UPDATE or DELETE fires it."""
        return bool(self.type & EVENTS[event])


@dataclass(frozen=True, slots=True)
class Written:
    """A reference table that is written.

    `key` has the columns of its primary key, or else of another unique index that can tell rows apart; it is empty
    without one. `cascades`: an action of a foreign key that refers to it fires triggers elsewhere;
    `defaults_referring`: one gives rows a default that each shard would compute. `referenced` are the columns that
    foreign keys refer to, `unique` those on which a value of unique indexes and exclusion constraints
    depends, `late` the same of constraints that are verified at a statement's end, or later.
    `spread` are its own foreign keys that refer to sharded tables. `can_silence`: the session may set
    session_replication_role. `recursive`: a foreign key refers to the table itself.
    `inherited`: it has children, whose rows its key does not tell apart from its own, and so has none.
    `moving` are the columns by which it is partitioned: to set one may move a row, which is deleted and inserted.
    `hidden` are the database's functions that a statement may call without naming them.
    """

    kind: str = "r"
    version: int = 0
    key: tuple[str, ...] = ()
    columns: tuple[WrittenColumn, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    rules: bool = False
    cascades: bool = False
    defaults_referring: bool = False
    referenced: frozenset[str] = field(default_factory=frozenset)
    spread: frozenset[str] = field(default_factory=frozenset)
    can_silence: bool = False
    unique: frozenset[str] = field(default_factory=frozenset)
    late: frozenset[str] = field(default_factory=frozenset)
    recursive: bool = False
    inherited: bool = False
    moving: frozenset[str] = field(default_factory=frozenset)
    hidden: Hidden = NOTHING_HIDDEN

    @property
    def computes(self) -> bool:
        """Whether a column's default may call functions."""
        return any(column.default is not None for column in self.columns)

    def sets_referenced(self, columns: Collection[str]) -> bool:
        """Whether an UPDATE that sets these columns sets one that foreign keys refer to, triggers aside."""
        if not columns:
            return False
        generated = {column.name for column in self.columns if column.generated}
        return not self.referenced.isdisjoint(generated.union(columns))

    def events(self, verbs: Set[str], columns: Collection[str]) -> frozenset[str]:
        """Return what triggers see of a statement that may be `verbs`, and sets these columns if it is an UPDATE."""
        if "UPDATE" in verbs and may_move(self.moving, columns, self.triggers):
            return frozenset(EVENTS)
        return frozenset(verbs)

    def deferring(self) -> "Written":
        """Return it as it is after SET CONSTRAINTS ... DEFERRED."""
        late = (replace(one, deferred=one.is_late(deferring=True)) for one in self.triggers)
        return replace(self, triggers=tuple(late))

    def fired(self, events: Set[str]) -> tuple[Trigger, ...]:
        """Return the triggers that one of these events fires."""
        return tuple(one for one in self.triggers if any(one.fires_at(event) for event in events))


def may_move(moving: Set[str], columns: Collection[str], triggers: Iterable[Trigger]) -> bool:
    """Whether an UPDATE that sets these columns may move a row to another partition; so may a BEFORE trigger."""
    if not moving:
        return False
    return not moving.isdisjoint(columns) or any(one.is_before and one.fires_at("UPDATE") for one in triggers)
