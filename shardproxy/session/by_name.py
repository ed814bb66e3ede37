"""What SQL does by name to what the protocol has made, and the other way round: one name space, as in PostgreSQL.

PREPARE makes a prepared statement like Parse does, so that Bind and EXECUTE take either's. FETCH, MOVE and CLOSE take
portals, which are opened on their shard when SQL first names them. A cursor that a function has opened is found on the
shards of the transaction.
"""

from shardproxy.copy.encoding import Text
from shardproxy.errors import PgError
from shardproxy.session.client import Client
from shardproxy.session.execute import Executor
from shardproxy.session.names import Resolver
from shardproxy.session.namespace import Namespace, shown, unprepared
from shardproxy.session.pieces import open_cursor
from shardproxy.session.portals import READ_BY, Prepared, next_number
from shardproxy.session.relay import Discard, Relay
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.sql import CloseCursor, Deallocate, DeclareCursor, Execute, Fetch, Prepare, Statement, run_as
from shardproxy.sqlstate import DUPLICATE_CURSOR
from shardproxy.transaction.state import ACTIVE, FAILED, IMPLICIT
from shardproxy.wire import encode
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed

BY_NAME = (Prepare, Deallocate, DeclareCursor, Fetch, CloseCursor)
"""The statements that `ByName.run` has a look at."""


class ByName:
    """One session's statements about prepared statements and cursors."""

    def __init__(
        self, client: Client, executor: Executor, resolver: Resolver, shards: Shards, names: Namespace
    ) -> None:
        self._client = client
        self._executor = executor
        self._resolver = resolver
        self._shards = shards
        self._names = names

    async def run(self, statement: Statement, text: Text) -> str | None:
        """Carry a statement out by the names alone, and return its tag; None for what is to be run on a shard."""
        match statement:
            case Prepare():
                return await self._prepare(statement, text)
            case Deallocate():
                self._shards.transaction.check()
                return statement.tag if self._names.deallocate(statement) else None
            case DeclareCursor():
                self._shards.transaction.check()
                # Outside of a transaction block that is what a shard refuses first.
                inside = statement.hold or self._shards.transaction.open
                if inside and await self.is_taken(self._names.key(statement.name)):
                    raise PgError(DUPLICATE_CURSOR, f'cursor "{statement.name}" already exists')
            case CloseCursor(name=None):
                self._shards.transaction.check()
                self._names.forget_portals()
            case Fetch(name=str(name)) | CloseCursor(name=str(name)):
                self._shards.transaction.check()
                portal = self._names.portals.get(self._names.key(name))
                if isinstance(statement, CloseCursor) and portal is not None:
                    self._names.drop_portal(self._names.key(name))
                    return statement.tag
                if portal is not None and portal.reading is None and not portal.done:
                    await open_cursor(self._executor, portal, self._names.key(name))
                else:
                    await self.find_cursor(self._names.key(name))
        return None

    async def find_cursor(self, name: bytes) -> Connection | None:
        """Return where a cursor is that SQL knows; one that a function has opened is on a shard of the transaction."""
        transaction = self._shards.transaction
        if name in self._names.portals:
            return None
        found = self._names.cursor(name)
        if found is not None or not name or b"\\" in name or transaction.state not in {ACTIVE, IMPLICIT}:
            return found
        for connection in self._shards.participants():
            if await _has_cursor(connection, name):
                self._executor.cursor_opened(shown(name), connection)
                return connection
        return None

    def is_blank(self, statement: Statement) -> bool:
        """Whether a statement is about a prepared statement or a cursor that is not there."""
        match statement:
            case Execute(name=name):
                return self._executor.named(name) is None
            case Fetch(name=name):
                key = self._names.key(name)
                return key not in self._names.portals and self._names.cursor(key) is None
        return False

    async def is_taken(self, name: bytes) -> bool:
        """Whether a portal or cursor has this name. A ROLLBACK may have closed a cursor that was known."""
        if name in self._names.portals or name in self._names.failed:
            return True
        connection = self._names.cursor(name)
        if connection is not None and self._shards.transaction.state == FAILED:
            return True
        if connection is not None and (b"\\" in name or await _has_cursor(connection, name)):
            return True
        self._executor.cursor_closed(shown(name))
        return False

    async def knowing(self, prepared: Prepared) -> Connection:
        """Return a connection to a shard that has the statement's relations: the home shard, if not a lone other.

        It has the cursor or the prepared statement that the statement names, too.
        """
        statement = prepared.statement
        if isinstance(statement, Fetch):
            cursor = self._names.cursor(self._names.key(statement.name))
            if cursor is not None:
                return cursor
        executed = self._executor.named(statement.name) if isinstance(statement, Execute) else None
        [connection] = await self._shards.join([await self._executor.lists.shard_for(executed or prepared)])
        if executed is not None:
            await self._executor.prepare(executed, [connection])
        return connection

    async def check(self, prepared: Prepared) -> None:
        """Raise what a shard has against a statement, which is not kept: PostgreSQL looks at the name later."""
        if unprepared(prepared.statement):
            return
        connection = await self.knowing(prepared)
        await self._executor.prepare(prepared, [connection])
        connection.statements.close(prepared.shard_name)

    async def _prepare(self, statement: Prepare, text: Text) -> str:
        """PREPARE on the shard that could describe the statement; the others get it when they need it."""
        self._shards.transaction.check()
        name = self._names.key(statement.name)
        inner_text = self._client.text(text.encode(statement.inner))
        [inner] = await self._client.analyze(inner_text)
        await self._executor.planned(statement)
        read_by = tuple(map(self._client.parameters.get, READ_BY))
        prepared = Prepared(inner_text, inner, (), name, read_by=read_by)
        connection = await self.knowing(prepared)
        stands_in = name in self._names.statements and not connection.statements.knows(name)
        if stands_in:
            # For the shard to refuse the name itself, once it has read the statement with its parameters' types.
            connection.prepare(name, next_number(), b"SELECT")
        head = statement.text.removesuffix(statement.inner) + statement.inner[: inner.location]
        try:
            tag = await connection.execute(text.encode(head + run_as(inner, prepared.listed)))
        except PgError as error:
            self._executor.lists.place(inner, prepared.listed, error, len(head))
            raise
        finally:
            if stands_in:
                connection.statements.close(name)
        connection.statements.parsed(name, prepared.number)
        owed = Owed(Expect.DESCRIBE_STATEMENT, forward=False), SWALLOWED_SYNC
        connection.send(encode.describe(b"S", name) + encode.SYNC, owed)
        [answer] = await Relay([connection], Discard()).run()
        prepared.take(answer.parameters, answer.columns)
        self._names.statements[name] = prepared
        return tag


async def _has_cursor(connection: Connection, name: bytes) -> bool:
    quoted = name.replace(b"'", b"''")
    rows = await connection.fetch(b"SELECT FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) '%s'" % quoted)
    return bool(rows)
