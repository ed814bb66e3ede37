"""What one session's shards have counted as written: asked for, and kept as long as nothing more is sent to them."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from shardproxy.combine.answers import Answer
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.session.portals import next_number, shard_name
from shardproxy.session.relay import BEHIND, Relay
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.unseen import CHANGES, Changes, parse_changes
from shardproxy.sqlstate import INVALID_SQL_STATEMENT_NAME

log = logging.getLogger(__name__)

_NUMBER: Final = next_number()
_NAME: Final = shard_name(_NUMBER)
"""The prepared statement's: to plan the question would take a server longer than to answer it."""

_SAVEPOINT: Final = b"shardproxy_counts"

_QUESTION: Final = b"SAVEPOINT %s; EXECUTE %s; RELEASE %s" % (_SAVEPOINT, _NAME, _SAVEPOINT)
_BACK: Final = b"ROLLBACK TO %s; RELEASE %s" % (_SAVEPOINT, _SAVEPOINT)


class CountsSoFar:
    """One session's view of them."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._seen: dict[Connection, tuple[int, Changes]] = {}
        """With the number of requests that the connection had been sent."""

    async def join(self, shards: Sequence[int]) -> None:
        """Bring shards into the transaction that are to be asked, and ask them on the way."""
        await each(self._join(shard) for shard in shards)

    async def _join(self, shard: int) -> None:
        [connection] = await self._shards.open([shard])
        if joining := self._shards.joining(shard):
            self._send(connection, joining)
            await self._read(connection)

    async def run(self, relay: Relay, request: Callable[[Connection], object]) -> list[Answer]:
        """Send every shard of a relay a request and then the question, which `of` reads; return what they answer."""

        def send(connection: Connection) -> None:
            request(connection)
            self._send(connection)

        try:
            return await relay.ask(send)
        except PgError:
            await each(self._drop(connection) for connection in relay.connections)
            raise

    async def of(self, connections: Sequence[Connection]) -> dict[Connection, Changes]:
        """Return what each has counted up to now in the transaction; nothing for one that has left it."""
        await each(self._look(one) for one in connections)
        found = {one: self._seen[one][1] for one in connections}
        self._seen = {one: seen for one, seen in self._seen.items() if one.usable}
        return found

    async def _look(self, connection: Connection) -> None:
        if not connection.replies.queue:
            if connection.status == IDLE:
                self._seen[connection] = connection.replies.sent, {}
                return
            sent, _ = self._seen.get(connection, (None, None))
            if sent == connection.replies.sent:
                return
            self._send(connection)
        await self._read(connection)

    def _send(self, connection: Connection, joining: bytes = b"") -> None:
        connection.prepare(_NAME, _NUMBER, CHANGES.encode())
        connection.query(b"%s\n;\n%s" % (joining, _QUESTION) if joining else _QUESTION, (BEHIND,))

    async def _read(self, connection: Connection) -> None:
        try:
            [[answer]] = await connection.completed_last([1])
        except PgError as error:
            if error.sqlstate != INVALID_SQL_STATEMENT_NAME:
                raise
            # A function of the client's may have run DEALLOCATE ALL: it is prepared again.
            connection.statements.close(_NAME)
            await connection.execute(_BACK)
            connection.prepare(_NAME, _NUMBER, CHANGES.encode())
            [answer] = await connection.fetch_row(b"EXECUTE " + _NAME, 1)
        self._seen[connection] = connection.replies.sent, parse_changes(catalog.text(answer))

    async def _drop(self, connection: Connection) -> None:
        """Read an answer that nobody needs: where the statement has failed the question has, too."""
        try:
            await connection.complete()
        except PgError as error:
            log.debug("the counts after a failed statement: %s", error)
