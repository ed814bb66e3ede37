"""What the fast lane is offered: the plan of a statement that has been run the general way."""

from dataclasses import replace
from typing import Final

from shardproxy.native import shape
from shardproxy.session.column_lists import ColumnLists
from shardproxy.session.database import Database
from shardproxy.session.lane_plans import Facts, lane_plan, query_plan
from shardproxy.session.names import Resolver
from shardproxy.session.portals import Prepared, next_number
from shardproxy.shard.statements import UNNAMED
from shardproxy.sql import ParseFailed, analyze
from shardproxy.transaction.state import Transaction

LONGEST: Final = 8192
"""Bytes of a statement's text beyond which the lane leaves it: such a one is a load, and would fill memory, and others
would wait while the lane looks at it."""


class Offers:
    """Those of one session."""

    def __init__(self, database: Database, names: Resolver, lists: ColumnLists, transaction: Transaction) -> None:
        self.facts: Facts | None = None
        """Of the last statement."""
        self.columns: tuple[int, ...] | None = None
        """Those of the last statement, where a shard has told them."""
        self._database = database
        self._names = names
        self._lists = lists
        self._transaction = transaction

    def prepared(self, prepared: Prepared) -> None:
        """A prepared statement has been run."""
        prepared.returns(self.columns)
        facts, cache = self._new_facts(), self._names.cache
        if facts is None or facts.statement is not prepared.statement or prepared.key in cache.plans:
            return
        if not 0 < len(prepared.key) <= LONGEST:
            return
        unnamed = replace(prepared, name=UNNAMED, number=next_number())
        cache.plans.keep(prepared.key, lane_plan(facts, unnamed))

    def query(self, payload: bytes) -> None:
        """A Query of one statement has been run."""
        if len(payload) > LONGEST:
            return
        found = shape(payload, 0, len(payload) - 1)
        facts, cache = self._new_facts(), self._names.cache
        if found is None or facts is None or found[:2] in cache.queries:
            return
        text, kinds, texts = found
        try:
            statements = analyze(text.decode())
        except ParseFailed:
            statements = ()
        plan = None
        if len(statements) == 1:
            plan = query_plan(facts, statements[0], kinds, texts, self.columns, self._lists.now)
        cache.queries.keep((text, kinds), plan)

    @property
    def alone(self) -> bool:
        """Whether the last statement commits by itself, and would then be there."""
        return self.facts is not None and self.facts.stores and not self._transaction.open

    def hold(self, facts: Facts) -> bool:
        """Whether no definition has changed since they were found."""
        return facts.generation == self._database.generation and not self._database.defining

    def _new_facts(self) -> Facts | None:
        """Return the facts of the last statement, if they hold."""
        return None if self.facts is None or not self.hold(self.facts) else self.facts
