"""LIMIT over several shards: how many of their rows are the answer, whichever come first.

Without ORDER BY any n rows are right. So each shard runs the statement as it is, and gives n rows at most; the client
gets the first n of all.
"""

from dataclasses import dataclass
from typing import Final

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.routing.effects import OWNED, may_call
from shardproxy.routing.keyvalues import UNBOUND, Unbound, key_text
from shardproxy.routing.refusals import HINT_KEY, refused
from shardproxy.routing.resolved import Context
from shardproxy.sql import FunctionName, Param, Select, Unknown, Value

_HINT_LIMIT: Final = f"Give LIMIT as a constant or as a parameter of an integer type. {HINT_KEY}"
_HINT_OFFSET: Final = f"Skip the rows in the client. {HINT_KEY}"
_HINT_EFFECT: Final = f"Read the rows without it, and lock or change those in a statement of their own. {HINT_KEY}"

_REFUSED: Final = -1
"""What stands for a count that PostgreSQL refuses, as it does every negative one."""


@dataclass(frozen=True, slots=True)
class Counted:
    """LIMIT and OFFSET of a statement. None: there is none; UNBOUND: only a shard can compute it."""

    limit: int | Param | Unbound | None
    offset: int | Param | Unbound | None

    @property
    def rowless(self) -> bool:
        """Whether there are no rows, or an error that every shard reports alike: PostgreSQL runs nothing of it."""
        return (isinstance(self.limit, int) and self.limit <= 0) or (isinstance(self.offset, int) and self.offset < 0)


def counted(statement: Select, context: Context) -> Counted:
    """Read a statement's LIMIT and OFFSET."""
    uses = dict(statement.params)
    return Counted(*(_count(value, context, uses) for value in (statement.limit, statement.offset)))


def _count(value: Value | Unknown | None, context: Context, uses: dict[int, int]) -> int | Param | Unbound | None:
    if value is None or isinstance(value, Unknown):
        return None if value is None else UNBOUND
    if isinstance(value, Param) and not 1 <= value.number <= len(context.params):
        return value
    # PostgreSQL takes it as it would store it in a bigint.
    text = key_text(value, native.KEY_INT8, context, uses, storing=True)
    if text is None or isinstance(text, Unbound):
        return text
    number = native.output(native.KEY_INT8, text)
    return _REFUSED if isinstance(number, int) else int(number)


def not_limited(
    statement: Select, rows: Counted, called: frozenset[FunctionName], names: str, context: Context
) -> PgError | None:
    """Say why the first of several shards' rows would not be the answer; None: they are."""
    several = f"over several shards of {names} is not supported"
    if isinstance(rows.limit, Unbound):
        return refused(f"a computed LIMIT {several}", _HINT_LIMIT)
    if rows.offset not in {None, 0}:
        return refused(f"OFFSET {several}", _HINT_OFFSET)
    if rows.limit is None:
        return None
    if statement.locks:
        return refused(
            f"LIMIT with FOR UPDATE or FOR SHARE {several}",
            _HINT_EFFECT,
            "Each shard would lock as many rows as the client gets of all.",
        )
    if may_call(called, context, OWNED):
        functions = ", ".join(sorted(f"{name}()" for _, name in called))
        return refused(
            f"LIMIT with a function that may lock or write {several}",
            _HINT_EFFECT,
            f"Each shard would call it for as many rows as the client gets of all. The functions are {functions}.",
        )
    return None
