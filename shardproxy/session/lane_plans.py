"""What the fast lane knows of a statement: which parameters or constants decide its shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shardproxy.errors import PgError
from shardproxy.routing import Context, Home, Memory, OneShard, ParamValue, Resolved, route
from shardproxy.session.portals import Prepared
from shardproxy.sql import Kind, Select, Statement, TableRef

TAKEN = frozenset({Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE})


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing knows of a statement."""

    statement: Statement
    tables: Mapping[TableRef, Resolved]
    context: Context

    @property
    def eligible(self) -> bool:
        """Whether the lane may take it."""
        one = self.statement
        return one.kind in TAKEN and not (isinstance(one, Select) and one.sets_config)

    def shard(self, params: Sequence[ParamValue], home: int) -> int | None:
        """Return the shard, or None if the general way has to tell."""
        try:
            plan = route(self.statement, self.tables, replace(self.context, params=params, home=home), Memory())
        except PgError:
            return None
        match plan:
            case Home():
                return home
            case OneShard(shard):
                return shard
        return None


@dataclass(frozen=True, slots=True)
class ParameterPlan:
    """A statement of the extended protocol."""

    prepared: Prepared
    facts: Facts
    numbers: tuple[int, ...]

    def shard(self, params: Mapping[int, ParamValue], home: int) -> int | None:
        """Return the shard, or None if the general way has to tell."""
        return self.facts.shard(list(params.values()), home)


@dataclass(frozen=True, slots=True)
class ConstantPlan:
    """A statement of the simple protocol, its constants taken out."""

    def shard(self, constants: Sequence[bytes], home: int) -> int | None:
        """Return the shard, or None if the general way has to tell."""
        raise NotImplementedError
