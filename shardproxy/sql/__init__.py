"""What the text of statements says: PostgreSQL's own grammar, and facts taken from it. No I/O.

`analyze` is the way in. It reads no catalog and no session state. No other package imports pglast.
"""

from shardproxy.sql.analyze import analyze
from shardproxy.sql.model import (
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
from shardproxy.sql.parse import ParseFailed

__all__ = [
    "Binding",
    "Column",
    "Const",
    "CopyStatement",
    "Default",
    "Equality",
    "FromFunction",
    "FromItem",
    "FromJoin",
    "FromOther",
    "FromTable",
    "Insert",
    "Kind",
    "Param",
    "ParseFailed",
    "SetConfig",
    "Statement",
    "TableRef",
    "Unknown",
    "Value",
    "analyze",
]
