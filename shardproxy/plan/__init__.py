"""Statements: what their text says (`analyze`) and where they go (`route`).

`analyze` asks PostgreSQL's own grammar and nothing else, `route` adds what the caller has found out about the
relations. Neither does I/O. No other package imports pglast.
"""

from shardproxy.plan.analyze import analyze
from shardproxy.plan.model import (
    Binding,
    Column,
    Const,
    CopyStatement,
    Default,
    Equality,
    FromFunction,
    FromItem,
    FromJoin,
    FromOther,
    FromTable,
    Insert,
    Kind,
    Param,
    SetConfig,
    Statement,
    TableRef,
    Unknown,
    Value,
)
from shardproxy.plan.parse import ParseFailed
from shardproxy.plan.resolved import Context, ParamValue, Resolved, Route
from shardproxy.plan.route import route
from shardproxy.sharding.keytypes import KeyColumn

__all__ = [
    "Binding",
    "Column",
    "Const",
    "Context",
    "CopyStatement",
    "Default",
    "Equality",
    "FromFunction",
    "FromItem",
    "FromJoin",
    "FromOther",
    "FromTable",
    "Insert",
    "KeyColumn",
    "Kind",
    "Param",
    "ParamValue",
    "ParseFailed",
    "Resolved",
    "Route",
    "SetConfig",
    "Statement",
    "TableRef",
    "Unknown",
    "Value",
    "analyze",
    "route",
]
