"""Whether what a statement was planned by still holds once it has its locks.

From then on no change of those definitions can come in between. Before, one may have: the statement has waited for it.
"""

from typing import Final

from shardproxy.routing import route
from shardproxy.session.column_lists import overtaken
from shardproxy.session.follow import sees_old
from shardproxy.session.lane_plans import Facts
from shardproxy.session.names import Resolver
from shardproxy.shard.connection import Connection

WAITED: Final = 0.1
"""Seconds after which a write may have waited for a lock, and that for a definition which changes elsewhere."""

_DETAIL: Final = "The copies of the reference table might come apart."


async def confirm(names: Resolver, facts: Facts, first: Connection, *, changed: bool, waited: bool) -> None:
    """Raise if a write of a reference table would be planned in another way now.

    `changed`: a definition has, as this process knows; `waited`: others may have.
    """
    if not changed and not waited:
        return
    if await sees_old(first):
        if changed:
            raise overtaken(_DETAIL)
        return
    statement = facts.statement
    names.look_anew()
    tables = await names.resolve(statement)
    context = await names.context(statement, tables, ())
    if route(statement, tables, context) != route(statement, facts.tables, facts.context):
        raise overtaken(_DETAIL)
