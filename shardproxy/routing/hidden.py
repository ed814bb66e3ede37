"""Functions of the user's that a statement calls without naming them: by an operator, a cast, or as an attribute.

Only those that are not immutable count. Operators and types are compared without their schemas: some statements are
taken to call what they do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from shardproxy.sql import Base, CreateAs, Explain, FunctionName, Statement, Utility

NO_FUNCTIONS: Final[frozenset[FunctionName]] = frozenset()

_IMPLIED: Final = frozenset({"=", "<>", "<", ">", "<=", ">="})
"""Operators that the syntax implies: CASE, BETWEEN, USING, row comparison."""

AnyStatement = TypeVar("AnyStatement", bound=Statement)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a database has of them.

    `operators` has also those of casts, by the type (`::name`); `attributes` those that can follow a dot; `assigned`
    those of casts that need not be written, by the OID of the type, or of its arrays.
    """

    operators: Mapping[str, frozenset[FunctionName]] = field(default_factory=dict)
    attributes: Mapping[str, frozenset[FunctionName]] = field(default_factory=dict)
    assigned: Mapping[int, frozenset[FunctionName]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.operators or self.attributes)

    def called_by(self, statement: Base) -> frozenset[FunctionName]:
        """Return those that a statement may call."""
        found = NO_FUNCTIONS
        for name in statement.operators | _IMPLIED:
            found |= self.operators.get(name, NO_FUNCTIONS)
        for name in statement.attributes:
            found |= self.attributes.get(name, NO_FUNCTIONS)
        return found

    def assigned_to(self, oid: int, *, composed: bool) -> frozenset[FunctionName]:
        """Return those that assigning a value of this type may call; one that is `composed` is made of others."""
        inside = self.assigned.values() if composed else ()
        return NO_FUNCTIONS.union(self.assigned.get(oid, NO_FUNCTIONS), *inside)

    def shown_in(self, statement: AnyStatement) -> AnyStatement:
        """Return a statement as if it named them."""
        if not self:
            return statement
        called = self.called_by(statement)
        if not called:
            return statement
        changes: dict[str, Any] = {"functions": statement.functions | called}
        if isinstance(statement, Explain | CreateAs):
            changes["query"] = self.shown_in(statement.query)
        if isinstance(statement, Utility):
            changes["rewrites"] = tuple(replace(one, functions=one.functions | called) for one in statement.rewrites)
        return replace(statement, **changes)


NOTHING_HIDDEN: Final = Hidden()
