"""Which columns can be a sharding key: base types to the native core's codes, or a refusal with its remedy.

Decides by catalog facts only; a type that is not listed is refused, never guessed at.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from shardproxy import native
from shardproxy import sqlstate as states
from shardproxy.routing.relation import Column

Kind = Literal["hash", "list", "range", "reference", "single"]

# Type oids are fixed in src/include/catalog/pg_type.dat.
NATIVE_TYPES: Final = {
    16: native.KEY_BOOL,
    17: native.KEY_BYTEA,
    20: native.KEY_INT8,
    21: native.KEY_INT2,
    23: native.KEY_INT4,
    25: native.KEY_TEXT,
    1042: native.KEY_BPCHAR,
    1043: native.KEY_TEXT,
    1082: native.KEY_DATE,
    1114: native.KEY_TIMESTAMP,
    1184: native.KEY_TIMESTAMPTZ,
    1700: native.KEY_NUMERIC,
    2950: native.KEY_UUID,
}

STRINGS: Final = frozenset({native.KEY_TEXT, native.KEY_BPCHAR})

_INTEGERS: Final = frozenset({20, 21, 23})
_STRINGS: Final = frozenset({25, 1042, 1043})
_TIMES: Final = frozenset({1082, 1114, 1184})

_LITERALS: Final = {
    "smallint": _INTEGERS | _STRINGS | {1700},
    "integer": _INTEGERS | _STRINGS | {1700},
    "bigint": _INTEGERS | _STRINGS | {1700},
    "numeric": _STRINGS | {1700},
    "boolean": _STRINGS | {16},
    "text": _STRINGS,
    "character varying": _STRINGS,
    "character": frozenset({1042}),
    "bpchar": frozenset({1042}),
    "date": _TIMES,
    "timestamp without time zone": _TIMES,
    "timestamp with time zone": _TIMES,
    "uuid": frozenset({2950}),
    "bytea": frozenset({17}),
}
"""Types of a literal, to the key types whose value it spells: a date in a text column is written as DateStyle says, an
inet there loses its netmask, and a char(n) its blanks."""


def spells(literal: str, column: Column) -> bool:
    """Whether a default, a literal of this type, has the text that the column's value is read from."""
    return literal == "null" or column.type_oid in _LITERALS.get(literal, ())


_REMEDY: Final = (
    "Use a key of type smallint, integer, bigint, numeric, text, varchar, char(n), uuid, boolean, date, "
    "timestamp, timestamptz or bytea, or a domain over one of them."
)


class Refusal(NamedTuple):
    """Why a table cannot be placed as configured, and what to do about it."""

    message: str
    remedy: str
    sqlstate: str = states.FEATURE_NOT_SUPPORTED


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of a table's sharding key."""

    name: str
    type: int
    """The native core's code, KEY_..."""
    typmod: int = -1
    type_oid: int = 0
    """The base type's oid."""


def key_column(column: Column, kind: Kind) -> KeyColumn | Refusal:
    """Return the column as part of a key of this kind of placement, or why it cannot be one."""
    what = f'key column "{column.name}"'
    native_type = NATIVE_TYPES.get(column.type_oid)
    if native_type is None:
        return Refusal(f"{what} has type {column.type_name}, which cannot be a sharding key", _REMEDY)
    if column.generated:
        return Refusal(
            f"{what} is generated from other columns",
            "Shard by the columns that it is computed from, or make it an ordinary column.",
        )
    if native_type in STRINGS:
        collation = column.collation or "default"
        if not column.deterministic:
            return Refusal(
                f'{what} has the nondeterministic collation "{collation}": equal values may differ in bytes',
                "Give the column a deterministic collation.",
            )
        if kind == "range" and not column.collation_is_c:
            return Refusal(
                f'{what} sorts by collation "{collation}", which the proxy cannot compare by',
                'Declare the column COLLATE "C", or use hash or list placement.',
            )
    return KeyColumn(column.name, native_type, column.typmod, column.type_oid)
