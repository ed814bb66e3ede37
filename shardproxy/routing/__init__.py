"""Where statements and rows go: a table's placement, the values of its key, and a statement's plan. No I/O.

`route` decides from the facts of a statement (`shardproxy.sql`), what the caller has found out about its relations,
and what the session remembers. A row's shard is computed by the native core alone.
"""

from shardproxy.routing.effects import HIDING, LOCKING, changes_together, held_by, held_no_more, may_store
from shardproxy.routing.hidden import Hidden
from shardproxy.routing.keyed import Keyed, keyed
from shardproxy.routing.keytypes import KeyColumn
from shardproxy.routing.memory import Memory
from shardproxy.routing.plan import (
    ByKey,
    Connected,
    Copies,
    CopyFromClient,
    CopyToClient,
    Gather,
    Home,
    Local,
    OneShard,
    Plan,
    Replicate,
    Rows,
    Settings,
    ShardByShard,
    limit_of,
    lock_for,
)
from shardproxy.routing.resolved import Context, ParamValue, Place, Resolved, Tables
from shardproxy.routing.route import route
from shardproxy.routing.select import functions_of
from shardproxy.routing.written import Written

__all__ = [
    "HIDING",
    "LOCKING",
    "ByKey",
    "Connected",
    "Context",
    "Copies",
    "CopyFromClient",
    "CopyToClient",
    "Gather",
    "Hidden",
    "Home",
    "KeyColumn",
    "Keyed",
    "Local",
    "Memory",
    "OneShard",
    "ParamValue",
    "Place",
    "Plan",
    "Replicate",
    "Resolved",
    "Rows",
    "Settings",
    "ShardByShard",
    "Tables",
    "Written",
    "changes_together",
    "functions_of",
    "held_by",
    "held_no_more",
    "keyed",
    "limit_of",
    "lock_for",
    "may_store",
    "route",
]
