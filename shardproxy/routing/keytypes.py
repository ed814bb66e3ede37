"""Which columns can be a sharding key: base types to the native core's codes, or a refusal with its remedy.

Decides by catalog facts only; a type that is not listed is refused, never guessed at.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from shardproxy import native
from shardproxy import sqlstate as states
from shardproxy.routing.relation import Column

PlacementKind = Literal["hash", "list", "range", "reference", "single"]

TYPES: Final = {row.code: row for row in native.key_types()}
"""The native core's rows (core/types/types.def), by code."""

NATIVE_TYPES: Final = {row.oid: row.code for row in TYPES.values()}
"""From a base type's oid to the native core's code."""

_NAMES: Final = {spelled: row.name for row in TYPES.values() for spelled in (row.sql, row.name)}


def spells(literal: str, column: Column) -> bool:
    """Whether a default, a literal of this type, has the text that the column's value is read from."""
    code = NATIVE_TYPES.get(column.type_oid)
    return literal == "null" or (code is not None and _NAMES.get(literal) in TYPES[code].literals)


_REMEDY: Final = f"Use a key of type {', '.join(row.sql for row in TYPES.values())}, or a domain over one of them."


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


def key_column(column: Column, kind: PlacementKind) -> KeyColumn | Refusal:
    """Return the column as part of a key of this kind of placement, or why it cannot be one."""
    what = f'key column "{column.name}"'
    native_type = NATIVE_TYPES.get(column.type_oid)
    if column.type_kind == "e":
        return Refusal(
            f"{what} has enum type {column.type_name}: PostgreSQL hashes an enum's values by their OIDs, "
            "which differ from server to server",
            "Use a key of type text, with a CHECK constraint on its values.",
        )
    if native_type is None:
        return Refusal(f"{what} has type {column.type_name}, which cannot be a sharding key", _REMEDY)
    if TYPES[native_type].name == "interval" and column.typmod >= 0 and column.typmod >> 16 & 0x7FFF != 0x7FFF:
        return Refusal(
            f"{what} has type {column.type_name}, which drops fields of its values",
            "Use a key of type interval, without fields.",
        )
    if column.generated:
        return Refusal(
            f"{what} is generated from other columns",
            "Shard by the columns that it is computed from, or make it an ordinary column.",
        )
    if TYPES[native_type].collatable:
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
