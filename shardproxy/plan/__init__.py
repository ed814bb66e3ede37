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
    FromFunction,
    FromItem,
    FromJoin,
    FromOther,
    FromTable,
    Insert,
    Kind,
    Param,
    Statement,
    TableRef,
    Unknown,
)
from shardproxy.plan.parse import ParseFailed

__all__ = [
    "Binding",
    "Column",
    "Const",
    "CopyStatement",
    "Default",
    "FromFunction",
    "FromItem",
    "FromJoin",
    "FromOther",
    "FromTable",
    "Insert",
    "Kind",
    "Param",
    "ParseFailed",
    "Statement",
    "TableRef",
    "Unknown",
    "analyze",
]
