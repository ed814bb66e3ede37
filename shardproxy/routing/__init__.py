"""Where statements and rows go: a table's placement, the values of its key, and a statement's plan. No I/O.

`route` decides from the facts of a statement (`shardproxy.sql`) and what the caller has found out about its
relations. A row's shard is computed by the native core alone.
"""

from shardproxy.routing.keytypes import KeyColumn
from shardproxy.routing.resolved import Context, ParamValue, Resolved, Route
from shardproxy.routing.route import route

__all__ = ["Context", "KeyColumn", "ParamValue", "Resolved", "Route", "route"]
