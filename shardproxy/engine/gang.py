"""The shard connections of one session ("gang"): opened when first needed, brought to the session's state.

A connection that a statement uses has run every SET of the session, and inside a transaction its BEGIN and
savepoints. Connections are never shared between sessions, so nothing of one client reaches another.
"""

from collections.abc import Callable, Mapping, Sequence

from shardproxy.backend.connection import IDLE, Connection
from shardproxy.backend.together import each
from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.sqlstate import (
    INVALID_SQL_STATEMENT_NAME,
    QUERY_CANCELED,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    TOO_MANY_CONNECTIONS,
)
from shardproxy.transaction.state import Transaction


class Gang:
    """One session's connections by shard number."""

    def __init__(
        self,
        addresses: Sequence[Address],
        parameters: Mapping[str, str],
        on_connect: Callable[[int, Connection], None],
    ) -> None:
        self.addresses = addresses
        self.transaction = Transaction()
        self._parameters = parameters
        self._on_connect = on_connect
        self._open: dict[int, Connection] = {}
        self._home: int | None = None
        self.cancelled = False  # the client wants the statement that runs to end

    @property
    def everyone(self) -> tuple[int, ...]:
        """The numbers of all shards."""
        return tuple(range(len(self.addresses)))

    @property
    def connections(self) -> list[Connection]:
        """The connections that stand."""
        return [connection for connection in self._open.values() if connection.usable]

    @property
    def home(self) -> int:
        """The shard for what any one can answer, the same as long as its connection stands."""
        home = self._open.get(self._home) if self._home is not None else None
        if home is None or not home.usable:
            self._home = next((shard for shard, one in self._open.items() if one.usable), 0)
        assert self._home is not None
        return self._home

    def parameter(self, name: str, default: str) -> str:
        """Return a setting that the shards report, as the session has it."""
        for connection in self.connections:
            if name in connection.parameters:
                return connection.parameters[name]
        return default

    @property
    def client_encoding(self) -> str:
        """The session's client_encoding."""
        return self.parameter("client_encoding", "UTF8")

    @property
    def server_encoding(self) -> str:
        """The shards' server_encoding."""
        return self.parameter("server_encoding", "UTF8")

    @property
    def timezone(self) -> str:
        """The session's TimeZone."""
        return self.parameter("TimeZone", "")

    async def open_home(self) -> Connection:
        """Return a connection to any shard: the first that can be reached when none is open yet."""
        if self.connections:
            return await self._get(self.home)
        for shard in self.everyone[:-1]:
            try:
                return await self._get(shard)
            except PgError as error:
                if error.sqlstate not in {SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, TOO_MANY_CONNECTIONS}:
                    raise
        return await self._get(self.everyone[-1])

    @property
    def others(self) -> tuple[int, ...]:
        """The connected shards besides home."""
        return tuple(shard for shard, one in self._open.items() if one.usable and shard != self.home)

    async def open(self, shards: Sequence[int]) -> list[Connection]:
        """Return the shards' connections, in no transaction that they are not in yet."""
        return await each(self._get(shard) for shard in shards)

    async def join(self, shards: Sequence[int]) -> list[Connection]:
        """Return the shards' connections, each inside the session's transaction if there is one.

        Every statement passes here before it is sent: one whose cancel came earlier ends here.
        """
        self._check_cancelled()
        connections = await each(self._join(shard) for shard in shards)
        # A shard that has said BEGIN takes no notice of a cancel before it has the statement.
        self._check_cancelled()
        return connections

    async def ask(
        self, shards: Sequence[int], question: Callable[[Connection], str], columns: Sequence[int]
    ) -> list[tuple[Connection, list[list[bytes | None]]]]:
        """Join the shards, and on the way ask each a question, whose answers are rows of so many columns."""
        self._check_cancelled()
        answers = await each(self._ask(shard, question, columns) for shard in shards)
        self._check_cancelled()
        return answers

    def _check_cancelled(self) -> None:
        if self.cancelled:
            raise PgError(QUERY_CANCELED, "canceling statement due to user request")

    async def _get(self, shard: int) -> Connection:
        connection = self._open.get(shard)
        if connection is not None and connection.usable:
            return connection
        if shard in self.transaction.joined:
            self.transaction.doomed = True
            assert connection is not None
            raise connection.lost_error(Exception("its part of the transaction is rolled back"))
        connection = await Connection.connect(self.addresses[shard], self._parameters)
        self._open[shard] = connection
        self._on_connect(shard, connection)
        if self.transaction.settings:
            try:
                await connection.execute(self.transaction.settings_sql())
            except PgError:
                self._open.pop(shard).abort()
                raise
        return connection

    async def _join(self, shard: int) -> Connection:
        connection = await self._get(shard)
        if joining := self._joining(shard):
            await connection.execute(joining)
        return connection

    async def _ask(
        self, shard: int, question: Callable[[Connection], str], columns: Sequence[int]
    ) -> tuple[Connection, list[list[bytes | None]]]:
        connection = await self._get(shard)
        joining = self._joining(shard)

        async def answer() -> list[list[bytes | None]]:
            # A setting that is replayed may answer with a row, too: set_config().
            return await connection.fetch_last(b"%s\n;\n%s" % (joining, question(connection).encode()), columns)

        try:
            return connection, await answer()
        except PgError as error:
            if error.sqlstate != INVALID_SQL_STATEMENT_NAME:
                raise
            # A plan is gone (`Connection.planned`), in front of which nothing but the joining has been done.
            if joining:
                await connection.execute("ROLLBACK")
            return connection, await answer()

    def _joining(self, shard: int) -> bytes:
        """Return what a shard must run to be in the transaction, as it will from now on; nothing if it has."""
        transaction = self.transaction
        if not transaction.open or shard in transaction.joined:
            return b""
        # The shards may have left a failed one (`leave`): nothing is to begin it anew.
        transaction.check()
        transaction.joined.add(shard)
        return transaction.joining_sql()

    def standing(self, shard: int) -> Connection | None:
        """Return a shard's connection if it stands."""
        connection = self._open.get(shard)
        return connection if connection is not None and connection.usable else None

    def number_of(self, connection: Connection) -> int:
        """Return the shard that a connection leads to."""
        return next(shard for shard, one in self._open.items() if one is connection)

    def participants(self) -> list[Connection]:
        """Return the connections inside the transaction, in the order of the shards."""
        return [self._open[shard] for shard in sorted(self.transaction.joined)]

    async def on_all(self, connections: Sequence[Connection], sql: str | bytes) -> list[str]:
        """Run a statement without a result on several connections; return the tags."""
        return await each(connection.execute(sql) for connection in connections)

    async def rollback(self) -> None:
        """Roll back wherever the transaction is open, and end it."""
        await self.leave()
        self.transaction.end(committed=False)

    async def leave(self) -> None:
        """Roll back wherever the transaction is open. A connection that cannot is given up, which does the same."""
        # A failed COMMIT may have ended the transaction on some shards already.
        participants = [one for one in self.participants() if one.usable and one.status != IDLE]

        async def roll_back(connection: Connection) -> None:
            try:
                await connection.execute("ROLLBACK")
            except PgError:
                connection.abort()

        await each(roll_back(connection) for connection in participants)
        self.transaction.joined.clear()

    async def restore(self, connections: Sequence[Connection], sql: bytes) -> None:
        """Run what brings settings back where the transaction was; a connection that cannot is given up."""

        async def run(connection: Connection) -> None:
            try:
                await connection.execute(sql)
            except PgError:
                connection.abort()

        await each(run(connection) for connection in connections if connection.usable)

    async def cancel(self) -> None:
        """Cancel whatever the connections run."""
        await each(connection.cancel() for connection in self.connections)

    async def close(self) -> None:
        """Leave all shards; an open transaction is rolled back by them."""
        self.transaction.end(committed=False)
        for connection in self._open.values():
            await connection.close()
        self._open.clear()
