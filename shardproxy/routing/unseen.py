"""What a statement may write besides what it names: by triggers, rules and functions of the user's.

Where it writes on one shard what belongs to all, or to another, copies would differ and rows be where no key finds
them. Reference tables are guarded on their own (`copies`); this is about sharded tables, those of one shard, and
SELECT. What certainly writes nothing is told by its code (`sql.may_write`); for all else the session looks at what has
been written, when the statement has run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shardproxy.routing.effects import WRITING
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import Resolved, TableName, Tables, Unseen
from shardproxy.routing.written import EVENTS, Trigger, may_move
from shardproxy.sql import (
    CopyFrom,
    CopyTo,
    CreateAs,
    DeclareCursor,
    Delete,
    Explain,
    Insert,
    Merge,
    Modify,
    Select,
    Statement,
    Update,
    may_write,
)

Names = frozenset[str]

WATCHED = Select | Insert | Update | Delete | Merge | CopyFrom | CopyTo | CreateAs | Explain | DeclareCursor


@dataclass(frozen=True, slots=True)
class Body:
    """A function's code. `trusted`: it is PostgreSQL's own, an extension's in C, or immutable."""

    name: str
    language: str
    source: str
    trusted: bool = False

    def may_write(self, builtin: Names) -> bool:
        """Whether it may write tables. `builtin` are the names that PostgreSQL's own functions alone have."""
        return not self.trusted and may_write(self.language, self.source, builtin, WRITING)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What runs when a table is written: with its partitions, the tables that a view shows, and those that foreign keys
    change with it (`cascaded`).

    Each trigger has its function's code, and whether it is one of those others. `others` are functions of defaults and
    of CHECK. `hidden`: the database has operators or casts whose functions are not immutable.
    `moving` are the columns by which the table is partitioned.
    """

    triggers: tuple[tuple[Trigger, Body, bool], ...] = ()
    others: tuple[Body, ...] = ()
    rules: bool = False
    cascaded: frozenset[TableName] = frozenset()
    hidden: bool = False
    moving: Names = frozenset()


def written_by(statement: Statement, tables: Tables) -> list[Resolved]:
    """Return the tables that a statement writes, where what else that writes is to be looked at."""
    if not isinstance(statement, WATCHED):
        return []
    return [table for ref, table in tables.items() if ref.role == "write" and (table.sharded or table.kind == "single")]


def unseen_writer(
    statement: Statement,
    hooks: Mapping[TableName, tuple[Resolved, Hooks]],
    called: Iterable[Body],
    builtin: Names,
    *,
    deferring: bool = False,
) -> Unseen | None:
    """Return what of a statement may write unseen: of what its tables run, or a function that it calls.

    `deferring` where its transaction has run SET CONSTRAINTS ... DEFERRED.
    """
    what = [f"function {one.name}()" for one in called if one.may_write(builtin)]
    for table, hooked in hooks.values():
        events = _seen(statement, hooked)
        fired = [one for one, body, cascaded in hooked.triggers
                 if (hooked.hidden or body.may_write(builtin)) and _fires(one, events, cascaded)]  # fmt: skip
        late = next((one for one in fired if one.is_late(deferring=deferring)), None)
        if late is not None:
            raise refused(
                f'a write of table "{table}" with deferred trigger "{late.name}", which may write other tables, '
                "is not supported",
                "Leave the trigger immediate, or drop it.",
                "What it writes when the transaction commits could not be looked at.",
            )
        what = [f'trigger "{one.name}"' for one in fired] + ["a rule"] * hooked.rules + what
        what += [f"function {one.name}()" for one in hooked.others if one.may_write(builtin)]
    if not what:
        return None
    sharded = next((name for name, (table, _) in hooks.items() if table.sharded), None)
    return Unseen(what[0], frozenset(hooks), sharded, frozenset().union(*(one.cascaded for _, one in hooks.values())))


def truncate_writer(
    triggers: Iterable[tuple[str, Body]], tables: frozenset[TableName], builtin: Names
) -> Unseen | None:
    """Return what of a TRUNCATE that may empty these tables may write: of the triggers that it fires."""
    what = next((f'trigger "{name}"' for name, body in triggers if body.may_write(builtin)), None)
    return None if what is None else Unseen(what, truncated=tables)


def _seen(statement: Statement, hooks: Hooks) -> Sequence[str]:
    """Return the events of a statement, those of a row that moves to another partition among them."""
    events = _events(statement)
    own = (trigger for trigger, _, cascaded in hooks.triggers if not cascaded)
    return tuple(EVENTS) if "UPDATE" in events and may_move(hooks.moving, _set_by(statement), own) else events


def _set_by(statement: Statement) -> Sequence[str]:
    match statement:
        case Explain(query=inner) | CopyTo(data=Update() as inner):
            return _set_by(inner)
        case Modify(set_columns=columns):
            return columns
    return ()


def _fires(trigger: Trigger, events: Sequence[str], cascaded: bool) -> bool:
    return any(map(trigger.fires_at, events)) if not cascaded else any(event != "INSERT" for event in events)


def _events(statement: Statement) -> Sequence[str]:
    if any(ref.nested and ref.role == "write" for ref in statement.tables):
        return ("INSERT", "UPDATE", "DELETE")  # a change inside WITH
    match statement:
        case Explain(query=inner) | CopyTo(data=Insert() | Update() | Delete() as inner):
            return _events(inner)
        case Insert(conflict=conflict):
            return ("INSERT", "UPDATE") if conflict == "update" else ("INSERT",)
        case CopyFrom():
            return ("INSERT",)
        case Update():
            return ("UPDATE",)
        case Delete():
            return ("DELETE",)
    return ("INSERT", "UPDATE", "DELETE")
