"""What a client has sent of the same write of a reference table, to be run in one batch: see `follow_many`.

The first execution goes the general way, and gives the plan. What has then arrived whole is taken as long as it is
Bind, maybe Describe, and Execute of the same statement with the same plan, by the unnamed portal. Anything else, and
what is to be refused, is left in the stream: the general way serves it.
"""

import time
from dataclasses import replace
from typing import Final

from shardproxy.errors import PgError, ProtocolError
from shardproxy.routing import Copies, route
from shardproxy.routing.copies import FIRST
from shardproxy.session.client import Client
from shardproxy.session.confirm import planned
from shardproxy.session.execute import Executor
from shardproxy.session.follow_many import FollowMany, goes_together
from shardproxy.session.names import Resolver
from shardproxy.session.namespace import TEXT_AND_BINARY, Namespace, check_parameters
from shardproxy.session.portals import Portal, Prepared
from shardproxy.session.shards import Shards
from shardproxy.sql import Modify
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import HEADER_SIZE, F
from shardproxy.wire.framing import Message
from shardproxy.wire.usertypes import is_own

MOST: Final = 500
"""Executions in one batch."""

MOST_BYTES: Final = 1 << 20
"""Bytes of their Bind messages after which a batch is full."""

_UNNAMED: Final = b"\0"
_DESCRIBE: Final = encode.describe(b"P", b"")[HEADER_SIZE:]


class Together:
    """The batches of one session."""

    def __init__(
        self, client: Client, executor: Executor, names: Namespace, resolver: Resolver, shards: Shards
    ) -> None:
        self._client = client
        self._executor = executor
        self._names = names
        self._resolver = resolver
        self._shards = shards

    async def run(self, prepared: Prepared) -> None:
        """Run and answer what has come of a statement that has just been run, if its transaction is still open."""
        plan = self._plan(prepared) if self._shards.transaction.open else None
        while plan is not None and (units := self._taken(prepared, plan)):
            await self._batch(plan, units)

    def _plan(self, prepared: Prepared) -> Copies | None:
        """Return the plan that further executions are to have, if they may go together."""
        facts, statement = self._executor.offers.facts, prepared.statement
        if facts is None or facts.statement is not statement or not isinstance(facts.plan, Copies):
            return None
        if facts.context.unseen is not None:
            return None
        if not isinstance(statement, Modify) or statement.returning or not goes_together(facts.plan):
            return None
        return facts.plan if prepared.listed is None and self._executor.offers.hold(facts) else None

    # What has come.

    def _taken(self, prepared: Prepared, plan: Copies) -> list[tuple[Portal, bool]]:
        """Take portals from the stream, and whether each is described."""
        units: list[tuple[Portal, bool]] = []
        size = 0
        while len(units) < MOST and size < MOST_BYTES and not self._shards.cancelled:
            messages = self._unit(prepared)
            portal = None if messages is None else self._portal(prepared, plan, messages[0].payload)
            if messages is None or portal is None:
                self._put_back(messages or [])
                break
            units.append((portal, len(messages) > 2))
            size += len(messages[0].payload)
        return units

    def _unit(self, prepared: Prepared) -> list[Message] | None:
        """Take the messages of one execution; None if something else comes next."""
        stream = self._client.stream
        taken: list[Message] = []
        # A limit of rows means nothing to what returns none.
        for kind, start in ((F.BIND, b"\0" + prepared.name + b"\0"), (F.DESCRIBE, _DESCRIBE), (F.EXECUTE, _UNNAMED)):
            if kind == F.DESCRIBE and stream.next_type == F.EXECUTE:
                continue
            message = stream.take() if stream.next_type == kind else None
            if message is not None:
                taken.append(message)
            if message is None or not message.payload.startswith(start):
                self._put_back(taken)
                return None
        return taken

    def _put_back(self, messages: list[Message]) -> None:
        for message in reversed(messages):
            self._client.stream.put_back(message)

    def _portal(self, prepared: Prepared, plan: Copies, payload: bytes) -> Portal | None:
        """Return the portal of a Bind; None if the general way is to serve it."""
        facts = self._executor.offers.facts
        assert facts is not None
        try:
            bind = decode.bind(payload)
            check_parameters(prepared, bind)
            portal = Portal(prepared, bind, depth=self._shards.transaction.log.depth)
            context = replace(facts.context, params=portal.parameters())
            same = route(facts.statement, facts.tables, context) == plan
        except (PgError, ProtocolError):
            return None
        formats = {*bind.param_formats, *bind.result_formats}
        inside = any(bind.param_formats) and any(map(is_own, prepared.types or prepared.oids))
        if not same or not formats.issubset(TEXT_AND_BINARY) or inside or prepared.takes_binary(bind):
            return None
        return portal

    # What comes of it.

    async def _batch(self, plan: Copies, units: list[tuple[Portal, bool]]) -> None:
        portals = [portal for portal, _ in units]
        self._names.running = portals[0]
        self._client.statement_begins()
        facts, began = self._executor.offers.facts, time.monotonic()
        [first] = await self._shards.join((FIRST,))
        done = await FollowMany(self._shards, plan, portals, self._executor.database.is_copied).run(first)
        if facts is not None and done.failed is None:
            await self._executor.confirm(facts, first, began)
        for number, (_, described) in enumerate(units[: done.bound]):
            answer = encode.BIND_COMPLETE + (encode.NO_DATA if described else b"")
            tag = encode.command_complete(done.tags[number]) if number < len(done.tags) else b""
            self._client.write(answer + tag)
        last = portals[min(len(done.tags), len(portals) - 1)]
        self._names.bind(last)
        if done.failed is not None:
            self._names.running = last
            with planned(self._resolver, facts):
                raise done.failed
        last.done, self._names.running = True, None
        await self._client.stream.drain()
