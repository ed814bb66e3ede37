"""EXECUTE by SQL of a prepared statement of the session: where it goes is decided by that, and by EXECUTE's constants.

The text that runs is the client's EXECUTE, which each shard that takes part reads by its own prepared statement of that
name. So a constant is taken for the parameter's value only where the shard certainly makes the same of it.
"""

from dataclasses import replace
from typing import Final

from shardproxy.copy.encoding import Text
from shardproxy.routing import Gather, Home, OneShard, ParamValue, Plan, Replicate
from shardproxy.routing.keyvalues import without_zeros
from shardproxy.routing.refusals import refused
from shardproxy.session.portals import Prepared
from shardproxy.sql import Const, CreateAs, Execute, Explain, RowValue, Statement

BOOL: Final = 16
INTEGERS: Final = frozenset({20, 21, 23, 1700})
"""bigint, smallint, integer and numeric: an integer constant is one of these values."""

UNREADABLE: Final = ParamValue(-1, 1, b"")
"""The value of an expression that only a shard can compute."""


def executed_by(statement: Statement) -> Execute | None:
    """Return the EXECUTE that a statement is or holds."""
    if isinstance(statement, Explain | CreateAs):
        statement = statement.query
    return statement if isinstance(statement, Execute) else None


def as_executed(
    statement: Statement, executed: Execute, prepared: Prepared
) -> tuple[Statement, tuple[ParamValue, ...]]:
    """Return the statement as it would be without EXECUTE, and its parameters."""
    inner = prepared.statement
    params = tuple(
        _param(value, prepared.oids[number] if number < len(prepared.oids) else 0, prepared.text)
        for number, value in enumerate(executed.args)
    )
    if not isinstance(statement, Explain | CreateAs):
        return inner, params
    whole = replace(
        statement,
        query=inner,
        tables=(*statement.tables, *inner.tables),
        functions=statement.functions | inner.functions,
        attributes=statement.attributes | inner.attributes,
        operators=statement.operators | inner.operators,
        varying=(*statement.varying, *inner.varying),
        params=inner.params,
    )
    return whole, params


def _param(value: RowValue, oid: int, text: Text) -> ParamValue:
    if not isinstance(value, Const) or value.cast is not None:
        return UNREADABLE
    match value.kind:
        case "null":
            return ParamValue(oid, 0, None)
        case "str":
            return ParamValue(oid, 0, text.encode(value.text))
        case "int" if oid in INTEGERS:
            return ParamValue(oid, 0, without_zeros(value.text).encode())
        case "bool" if oid == BOOL:
            return ParamValue(oid, 0, value.text.encode())
    return UNREADABLE


def check_executed(plan: Plan) -> None:
    """Refuse what needs more than the same text on its shards."""
    if not isinstance(plan, Home | OneShard | Gather | Replicate):
        raise refused(
            "EXECUTE of a statement that changes settings, or rows of a reference table, is not supported",
            "Use the protocol's prepared statements (Parse, Bind, Execute), as drivers do.",
        )
