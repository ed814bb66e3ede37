"""The shard connections of one session: opened when first needed, brought to the session's state, joined to its
transaction.

A connection that a statement uses has run every SET of the session, and inside a transaction its BEGIN and
savepoints.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.routing import LOCKING
from shardproxy.session.deadlock import DeadlockWatch
from shardproxy.session.pressure import Pressure, Source
from shardproxy.shard.address import Address
from shardproxy.shard.connect import connect_alike
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.lease import Lease, SessionState, run_or_abort
from shardproxy.sqlstate import (
    QUERY_CANCELED,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    TOO_MANY_CONNECTIONS,
)
from shardproxy.transaction.ahead import Ahead
from shardproxy.transaction.state import Transaction
from shardproxy.wire.replies import SWALLOWED_QUERY, Owed

UNREACHABLE = frozenset({SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, TOO_MANY_CONNECTIONS})
"""What connecting fails with where another shard may be connected to in its place."""


class Shards:
    """One session's connections by shard number."""

    def __init__(
        self,
        addresses: Sequence[Address],
        parameters: Mapping[str, str],
        client: Source,
        on_connect: Callable[[int, Connection], None],
        assumed: Mapping[str, str],
        deadlocks: DeadlockWatch,
        confirm: Callable[[int], Awaitable[None]] | None = None,
        favoured: int | None = None,
        spread: int = 0,
    ) -> None:
        """`confirm` raises for a shard that is not the one which the configuration means. `favoured` has more than the
        others, and so is home while it can be reached. `spread` is to be asked first what any shard can answer."""
        self.addresses = addresses
        self.transaction = Transaction()
        self.ahead: Ahead | None = None  # what the transaction's commit has asked already
        self.on_lost: Callable[[Connection], None] | None = None
        self.on_held_lost: Callable[[PgError], None] = lambda _: None
        self.ending: PgError | None = None  # why it ends: what it had on a shard is lost
        self.pressure = Pressure(client)
        self._parameters = parameters
        self._first: dict[str, str] = {}  # what the first connection has reported
        self._assumed = assumed
        self._deadlocks = deadlocks
        self._on_connect = on_connect
        self._confirm = confirm
        self._leases: dict[int, Lease] = {}
        self._home = -1
        self._favoured = favoured
        self._spread = spread
        self.cancelled = False  # the client wants the statement that runs to end

    @property
    def everyone(self) -> tuple[int, ...]:
        """The numbers of all shards."""
        return tuple(range(len(self.addresses)))

    @property
    def connections(self) -> list[Connection]:
        """The connections that stand."""
        return [lease.connection for lease in self._leases.values() if lease.connection.usable]

    @property
    def connected(self) -> tuple[int, ...]:
        """The shards whose connections stand, at least one, home first if it is among them."""
        first = self.some
        return (first, *(shard for shard in self.standing_by_shard() if shard != first))

    @property
    def home(self) -> int:
        """The shard for what any one can answer, the same as long as its connection stands."""
        home = self._leases.get(self._home)
        if home is None or not home.connection.usable:
            self._home = next(iter(self.standing_by_shard()), 0) if self._favoured is None else self._favoured
        return self._home

    @property
    def some(self) -> int:
        """The shard for what all answer alike: the transaction's first, whose now() stays, or one of the connected."""
        standing = self.standing_by_shard()
        among = self.transaction.joined & standing.keys() or standing.keys()
        if self.transaction.leader in self.transaction.joined & among:
            return self.transaction.leader
        return self.home if self.home in among or self._favoured is None else min(among, default=self._spread)

    async def open_some(self) -> Connection:
        """Return a connection to `some` shard; if it is unreachable, to any."""
        return await self._reach(self.some) or await self.open_home()

    def parameter(self, name: str, default: str) -> str:
        """Return a setting that the shards report, as the session has it, or is assumed to before it is connected."""
        return next((one.parameters for one in self.connections), self._assumed).get(name, default)

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

    # Connecting.

    async def open_home(self) -> Connection:
        """Return a connection to any shard: the first that can be reached when none is open yet."""
        if self._favoured is not None:
            if (connection := await self._reach(self.home)) is not None:
                return connection
            self._favoured = None
        if self.connections:
            return await self._get(self.home)
        for shard in self.everyone[:-1]:
            if (connection := await self._reach(shard)) is not None:
                return connection
        return await self._get(self.everyone[-1])

    async def _reach(self, shard: int) -> Connection | None:
        """Return a shard's connection, None if it is unreachable."""
        try:
            return await self._get(shard)
        except PgError as error:
            if error.sqlstate not in UNREACHABLE:
                raise
            return None

    async def open(self, shards: Sequence[int]) -> list[Connection]:
        """Return the shards' connections, in no transaction that they are not in yet."""
        return await each(self._get(shard) for shard in shards)

    async def _get(self, shard: int) -> Connection:
        lease = self._leases.get(shard)
        self._heed_loss(lease)
        if self.ending is not None:
            raise self.ending
        if lease is not None and lease.connection.usable:
            connection = lease.connection
            if connection.cancelling is not None:
                await asyncio.wait({connection.cancelling})
            return connection
        if shard in self.transaction.joined:
            self.transaction.doomed = True
            assert lease is not None
            raise lease.connection.lost_error(Exception("Its part of the transaction is rolled back."))
        if self._confirm is not None:
            await self._confirm(shard)
        connection = await connect_alike(self.addresses[shard], self._parameters, self._first)
        lease = self._leases[shard] = Lease(shard, connection, SessionState())
        self.pressure.attach(connection, partial(self._lost, lease))
        self._on_connect(shard, connection)
        state = SessionState(tuple(entry.sql for entry in self.transaction.settings))
        settings = lease.state.sql_to(state)
        if settings:
            try:
                await connection.execute(settings)
            except PgError:
                self._leases.pop(shard).connection.abort()
                raise
        lease.state = state
        return connection

    # Back-pressure.

    def _lost(self, lease: Lease) -> None:
        if self.on_lost is not None:
            self.on_lost(lease.connection)
        self._heed_loss(lease)

    def _heed_loss(self, lease: Lease | None) -> None:
        """If what it held is lost, no statement may run any more: it would do so without what the session counts on."""
        if lease is not None and lease.held and self.ending is None and not lease.connection.usable:
            self.ending = lease.ending()
            self.on_held_lost(self.ending)

    def client_writable(self, writable: bool) -> None:
        """The client has fallen behind in reading, or has caught up."""
        self.pressure.client_writable(self.connections, writable)

    def release_client(self) -> None:
        """Let the client's data come whatever the shards read: they are dropped."""
        self.pressure.release_client(self.connections)

    # The transaction.

    async def join(self, shards: Sequence[int]) -> list[Connection]:
        """Return the shards' connections, each inside the session's transaction if there is one.

        Every statement passes here before it is sent: one whose cancel came earlier ends here.
        """
        self.check_cancelled()
        connections = await each(self._join(shard) for shard in shards)
        # A shard that has run BEGIN takes no notice of a cancel before it has the statement.
        self.check_cancelled()
        return connections

    async def ask(
        self, shards: Sequence[int], question: str, columns: Sequence[int]
    ) -> list[tuple[Connection, list[list[bytes | None]]]]:
        """Join the shards, and on the way ask each a question, whose answers are rows of so many columns."""
        self.check_cancelled()
        answers = await each(self._ask(shard, question, columns) for shard in shards)
        self.check_cancelled()
        return answers

    async def ask_outside(
        self, shards: Sequence[int], question: str, columns: Sequence[int]
    ) -> list[list[list[bytes | None]]]:
        """Ask shards that are in no transaction a question, as `ask`, and leave them so."""

        async def ask(shard: int) -> list[list[bytes | None]]:
            connection = await self._get(shard)
            return await connection.fetch_last(question, columns)

        self.check_cancelled()
        answers = await each(ask(shard) for shard in shards)
        self.check_cancelled()
        return answers

    def begin(
        self,
        shard: int,
        sql: bytes,
        data: bytes = b"",
        *,
        prepare: Callable[[Connection], None] | None = None,
        owed: Iterable[Owed] = SWALLOWED_QUERY,
        join: bool = True,
    ) -> Connection:
        """Queue statements on a shard whose connection stands, after what brings it into the transaction.

        `data` are the messages after the Query, `prepare` comes first, `owed` will be answered. Does not wait; the
        answer is the caller's to read. Without `join` they are a transaction of their own.
        """
        self.check_cancelled()
        connection = self._leases[shard].connection
        if prepare is not None:
            prepare(connection)
        joining = self.joining(shard) if join else b""
        connection.query(b"%s\n;\n%s" % (joining, sql) if joining else sql, owed, data)
        return connection

    async def withdraw(self, shard: int, answered: Awaitable[object] | None = None) -> None:
        """Take a shard out of the transaction that has done nothing there; `answered` reads what it owes already."""
        connection = self._leases[shard].connection
        connection.query(b"ROLLBACK")
        try:
            if answered is not None:
                await answered
            await connection.complete()
        except PgError:
            connection.abort()
        if connection.status != IDLE:
            connection.abort()
        self.transaction.joined.discard(shard)

    def check_cancelled(self) -> None:
        """Raise if the client has cancelled the statement that is about to run."""
        if self.cancelled:
            raise PgError(QUERY_CANCELED, "canceling statement due to user request")

    async def _join(self, shard: int) -> Connection:
        connection = await self._get(shard)
        if joining := self.joining(shard):
            await connection.execute(joining)
        return connection

    async def _ask(
        self, shard: int, question: str, columns: Sequence[int]
    ) -> tuple[Connection, list[list[bytes | None]]]:
        connection = await self._get(shard)
        # A setting that is replayed may answer with a row, too: set_config().
        asked = b"%s\n;\n%s" % (self.joining(shard), question.encode())
        return connection, await connection.fetch_last(asked, columns)

    def joining(self, shard: int) -> bytes:
        """Return what a shard must run to be in the transaction, as it will from now on; nothing if it has."""
        transaction = self.transaction
        if not transaction.open or shard in transaction.joined:
            return b""
        # The shards may have left a failed one (`leave`): it must not begin again.
        transaction.check()
        transaction.join(shard)
        if len(transaction.joined) == 2:
            self._deadlocks.watch(self)
        return transaction.joining_sql()

    def standing(self, shard: int) -> Connection | None:
        """Return a shard's connection if it stands."""
        lease = self._leases.get(shard)
        return None if lease is None or lease.connection.stream.lost else lease.connection

    def number_of(self, connection: Connection) -> int:
        """Return the shard that a connection leads to."""
        return next(lease.shard for lease in self._leases.values() if lease.connection is connection)

    def holds(self, shards: Iterable[int], what: str) -> None:
        """The session has, or may have, something on shards that ends with its connections there."""
        for shard in shards:
            self._leases[shard].held.add(what)
        if what in LOCKING:
            self._deadlocks.watch(self)

    def holding(self, what: str) -> int | None:
        """Return the shard on which the session has, or may have, this; None if there is none."""
        return next((shard for shard, lease in self._leases.items() if what in lease.held), None)

    def holds_no_more(self, what: Iterable[str]) -> None:
        """The session has let go of it on all shards."""
        for lease in self._leases.values():
            lease.held.difference_update(what)
        self._unwatch()

    def _unwatch(self) -> None:
        """The transaction is over, or locks of the session's own are let go: it may hold nothing any more."""
        if not any(lease.held & LOCKING for lease in self._leases.values()):
            self._deadlocks.ended(self)

    @property
    def waits_at_risk(self) -> bool:
        """Whether a wait for a lock that lasts is taken for a deadlock: the transaction is on several shards."""
        return len(self.transaction.joined) > 1

    def standing_by_shard(self) -> dict[int, Connection]:
        """Return the connections that stand by the numbers of their shards."""
        return {shard: lease.connection for shard, lease in self._leases.items() if lease.connection.usable}

    def participants(self) -> list[Connection]:
        """Return the connections inside the transaction, in the order of the shards."""
        return [self._leases[shard].connection for shard in sorted(self.transaction.joined)]

    async def on_all(self, connections: Sequence[Connection], sql: str | bytes) -> list[str]:
        """Run a statement without a result on several connections; return the tags."""
        return await each(connection.execute(sql) for connection in connections)

    async def rollback(self) -> None:
        """Roll back wherever the transaction is open, and end it."""
        await self.leave()
        self.end(committed=False)

    def end(self, *, committed: bool) -> None:
        """The transaction is over on every shard."""
        self._unwatch()
        self.ahead = None
        self.transaction.end(committed=committed)

    async def leave(self) -> None:
        """Roll back wherever the transaction is open. A connection that cannot is given up, which does the same."""
        # A failed COMMIT may have ended the transaction on some shards already.
        await self.run_or_abort([one for one in self.participants() if one.status != IDLE], b"ROLLBACK")
        self.transaction.joined.clear()
        self._unwatch()

    async def run_or_abort(self, connections: Sequence[Connection], sql: bytes) -> None:
        """Run what brings connections to where they have to be; one that cannot is given up."""
        await each(run_or_abort(connection, sql) for connection in connections if connection.usable)

    def cancel(self, only: Connection | None = None) -> None:
        """Cancel whatever runs, and what is about to; with `only`, what runs on that connection."""
        self.cancelled = True
        for connection in self.connections if only is None else [only]:
            if connection.busy:
                connection.cancel()

    async def cancel_sent(self) -> None:
        """Wait for the cancel requests under way: one would hit what is sent next."""
        if under_way := {one.cancelling for one in self.connections if one.cancelling is not None}:
            await asyncio.wait(under_way)

    def close(self) -> None:
        """Leave all shards; an open transaction is rolled back by them."""
        self.end(committed=False)
        for lease in self._leases.values():
            lease.connection.stream.on_lost = None
            lease.connection.close()
        self._leases.clear()
        self._deadlocks.ended(self)
