"""Foreign keys that would give a row of a sharded table another key: it would stay on the shard of the old one.

ON UPDATE CASCADE, SET NULL and SET DEFAULT change referencing rows where these are. DDL that makes such a key is
refused; where there is one already, so are the writes by which it acts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import KeyAction, Place, Resolved
from shardproxy.sql import Delete, ForeignKey, Insert, Merge, Modify, Object, Utility

HINT_ACTION: Final = (
    "Use NO ACTION or RESTRICT, or ON DELETE CASCADE: DELETE the rows, and INSERT them again with another key."
)


def _fires(action: KeyAction, statement: Modify, table: Resolved) -> bool:
    """Whether a statement on the table may have that effect."""
    if action.event == "DELETE":
        return isinstance(statement, Delete | Merge)
    columns, key = set(statement.set_columns), {column.name for column in table.key}
    if columns and action.computed and not action.columns <= key:  # triggers do not change the key of a sharded table
        return True
    if isinstance(statement, Insert):  # a sharded table's key, if all of it is set to EXCLUDED's, has its old shard
        columns -= key if key <= set(statement.set_excluded) else set()
    return not columns.isdisjoint(action.columns)


def acts(statement: object) -> bool:
    """Whether a statement may change or remove rows that others refer to."""
    return isinstance(statement, Modify) and (bool(statement.set_columns) or isinstance(statement, Delete | Merge))


def check_actions(statement: Modify, table: Resolved, actions: Sequence[KeyAction]) -> None:
    """Refuse a write that would set keys of sharded tables."""
    for action in actions:
        if _fires(action, statement, table):
            raise _sets_key(
                f'a foreign key by which {statement.kind.value} of "{table}"',
                action.column,
                action.table,
                "DELETE the referring rows first, and INSERT them again with another key; or make the foreign key "
                "anew with NO ACTION, RESTRICT or ON DELETE CASCADE.",
            )


def check_foreign_keys(statement: Utility, places: Mapping[Object, Place]) -> None:
    """Refuse DDL that makes a foreign key on a sharded table's key with such an action."""
    for key in statement.foreign_keys:
        other = next((place for one, place in places.items() if _is_referenced(one, key)), None)
        for one, place in places.items():
            if one.role not in {"make", "within", "change"} or not place.sharded:
                continue
            if other is None and (one.schema, one.name) == (key.schema, key.table):
                other = place
            column = _set_by(key, place, other)
            if column is not None:
                raise _sets_key("a foreign key that", column, str(one), HINT_ACTION)


def _is_referenced(one: Object, key: ForeignKey) -> bool:
    return one.role == "key" and (one.schema, one.name) == (key.schema, key.table)


def _set_by(key: ForeignKey, table: Place, other: Place | None) -> str | None:
    """The key column that a foreign key sets; no statement sets the key of the sharded table that it refers to."""
    if key.on_delete == "set":
        found = next((column for column in key.set_columns if column in table.key), None)
        if found is not None:
            return found
    if key.on_update == "none":
        return None
    fixed = other.key if other is not None and other.sharded else ()
    if fixed and not key.others:
        return None  # it refers to the primary key, which as a rule is the sharding key; see `check_actions`
    moving = [column for column, their in zip(key.columns, key.others, strict=False) if their not in fixed]
    if not key.others or (key.on_update == "set" and moving):
        moving = list(key.columns)
    return next((column for column in moving if column in table.key), None)


def _sets_key(what: str, column: str, table: str, hint: str) -> PgError:
    return refused(
        f'{what} sets key column "{column}" of sharded table "{table}" is not supported',
        hint,
        "The rows would stay on the shards of their old keys, where no statement by the new ones looks for them.",
    )
