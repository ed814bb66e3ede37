"""One client after its login: the message loop and the life of a session.

A message of the client is either taken by the lane (`lane`), in the call that read it from the socket, or served here,
one at a time, by a coroutine. Statements are the executor's; what each protocol makes of them is `simple`'s and
`extended`'s. Exactly one ReadyForQuery is sent for each Query or Sync, and no answer is written in part.

Cancellation. A client that disconnects cancels the task, except while a commit is being carried out: a commit
goes on without its client, so that it ends as all or none and never in between.
"""

import asyncio

from shardproxy.combine.notices import Fields
from shardproxy.config.names import NAMEDATALEN
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.net.stream import Stream
from shardproxy.routing.resolved import NOTIFICATIONS
from shardproxy.session.cancel import CancelKeys
from shardproxy.session.client import Client
from shardproxy.session.copy_client import CopyClient
from shardproxy.session.database import Database, parameters_key
from shardproxy.session.execute import Executor
from shardproxy.session.extended import TYPES, Extended
from shardproxy.session.lane import Lane
from shardproxy.session.login import Identity
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.session.signals import Signals
from shardproxy.session.simple import Simple
from shardproxy.session.transactions import Transactions
from shardproxy.session.turns import Turns
from shardproxy.shard.connection import Connection
from shardproxy.shard.errors import TimedOut
from shardproxy.shard.stop import stop
from shardproxy.sqlstate import ADMIN_SHUTDOWN, FEATURE_NOT_SUPPORTED, IDLE_SESSION_TIMEOUT
from shardproxy.wire import encode
from shardproxy.wire.constants import F
from shardproxy.wire.framing import Message

COPY = frozenset({F.COPY_DATA, F.COPY_DONE, F.COPY_FAIL})


class Session:
    """A client that has logged in."""

    def __init__(self, stream: Stream, identity: Identity, database: Database, cancel_keys: CancelKeys) -> None:
        self.stream = stream
        self.identity = identity
        self._cancel_keys = cancel_keys
        self.database = database
        known = database.known_parameters(identity.settings)
        self.client = Client(stream, database.long_texts, database.config.max_statement_size)
        self.shards = Shards(
            database.addresses,
            identity.settings,
            stream,
            self._connected,
            known or {},
            database.deadlocks,
            database.places.confirm,
            database.steady,
            database.next_shard(),
        )
        self._names = Resolver(database, self.shards, parameters_key(identity.settings))
        self._transactions = Transactions(database, self.shards, self._names, self.client)
        executor = Executor(database, self.shards, self._names, self._transactions, self.client)
        startup = identity.settings
        copies = CopyClient(database, self.shards, self._names, executor, self._transactions, self.client, startup)
        signals = Signals(self.client, self.shards.transaction, cancel_keys, identity.user, lambda: self._pid)
        self._extended = Extended(self.client, executor, self._transactions, self._names, self.shards, copies, signals)
        self._simple = Simple(self.client, executor, self._transactions, self._extended, copies)
        self.shards.on_held_lost = self._held_lost
        self._known = known
        self._busy = False
        self._pid = 0
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        self._ending: PgError | None = None
        self._wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns = Turns(self.client, self.shards, self._extended, self._attend)
        self._feed = Lane(self._turns, self.shards, self._names, self._transactions, self._extended).feed

    # The life of a session.

    async def run(self) -> None:
        """Serve the client until it leaves or must."""
        self._task = asyncio.current_task()
        self.stream.on_lost = self._client_lost
        self.stream.on_writable = self.shards.client_writable
        self.shards.on_lost = self._shard_lost
        self.stream.cork()
        self._pid, key = self._cancel_keys.add(self, self.identity.version)
        self.client.pid = self._pid
        try:
            for name, value in (await self._start()).items():
                self.client.parameter(name, value)
            self.stream.write(encode.backend_key_data(self._pid, key))
            self._extended.ready()
            while (message := await self._message()).type != F.TERMINATE:
                await self._serve(message)
        except asyncio.CancelledError:
            if not self.stream.lost:
                self.stream.write(encode.error_response(_shutdown().fields))
            raise
        finally:
            self.stream.on_lost = None
            self.stream.on_writable = None
            self._cancel_keys.remove(self._pid)
            await asyncio.shield(self._close())

    async def _start(self) -> dict[str, str]:
        """Return the settings to report to a new client, connecting to a shard if no session like it has been."""
        name = self.identity.settings.get("application_name")
        if self._known is None or not (name is None or _stays(name)):
            return dict((await self.shards.open_home()).parameters)
        # Each client has its own; all else is the same for sessions that ask for the same.
        return self._known if name is None else {**self._known, "application_name": name}

    async def _message(self) -> Message:
        """Return the next message that is not the lane's, when the lane has answered all that came before it."""
        while True:
            if self.stream.sink is None:
                self.stream.tap(self._feed)
            # Or else a COPY has failed, and goes on dropping its data, which may stop in the middle of a message.
            if self._draining and not self.shards.transaction.open and not self._turns.busy:
                self._attend()
            if self._ending is not None and not self._turns.busy:
                raise self._ending
            message = await self.stream.read(until=self._wake)
            if message is not None or self.stream.sink is self._feed:
                self.stream.untap()
            if self._wake.done():
                self._wake = asyncio.get_running_loop().create_future()
            if self._turns.busy or self._turns.failed:
                await self._lane_ends()
                if message is not None:
                    # It may have waited for its turn only.
                    self.stream.put_back(message)
                    continue
            if message is None:
                if self._ending is not None:
                    raise self._ending
                if self._draining and not self.shards.transaction.open:
                    raise _shutdown()
            elif message.type not in COPY:
                # Those are what a client had under way when its COPY failed.
                return message

    async def _lane_ends(self) -> None:
        """Wait for what the lane has under way; after an error in a transaction bring the shards to its end."""
        self._busy = True
        try:
            await self._turns.settled()
            if self._turns.failed:
                await self._transactions.statement_failed()
                self._extended.give_up()
                self._extended.skipping = self._turns.skipping
                self._turns.failed = self._turns.skipping = False
        finally:
            self._busy = False

    def _attend(self) -> None:
        """Wake the session's task, which waits for a message."""
        if not self._wake.done():
            self._wake.set_result(None)

    async def _serve(self, message: Message) -> None:
        """Serve one message."""
        if self._extended.skipping and message.type != F.SYNC:
            return
        self._busy = True
        try:
            # Between two statements of a batch it is kept, and ends the second: what is one transaction fails as one.
            if self.shards.cancelled and (self._extended.skipping or not self._extended.executed):
                await self.shards.cancel_sent()
                self.shards.cancelled = False
            if message.type == F.QUERY:
                await self._simple.query(message.payload)
            elif message.type in TYPES:
                await self._extended.take(message)
            else:
                self.client.error(
                    PgError(
                        FEATURE_NOT_SUPPORTED,
                        "function calls by protocol message are not supported through shardproxy",
                        hint="Call the function in a SELECT.",
                    )
                )
                self._extended.ready()
        finally:
            self._busy = False
        await self.stream.drain()

    async def _close(self) -> None:
        """Leave the shards. What still runs there is cancelled, what is open is rolled back."""
        self.shards.client_writable(True)
        await each(stop(connection) for connection in self.shards.connections if connection.busy)
        self.shards.close()
        # The parts of a session refer to each other: what it has of the client's data shall not stay as long as they.
        self._extended.give_up()
        self._extended.names.statements.clear()
        self.stream.tap(len)

    def cancel(self) -> None:
        """Cancel what runs now, if anything does; but not a commit over several: it ends as all or none by itself."""
        if self._transactions.committing and len(self.shards.transaction.joined) > 1:
            return
        if self._busy or self._turns.busy:
            # Of several statements under way PostgreSQL would cancel the first. In a transaction the others fail with
            # it, and its shard may have done all that it has to do.
            self.shards.cancel(None if self._turns.inside else self._turns.first)

    @property
    def user(self) -> str:
        """Who has logged in."""
        return self.identity.user

    def terminate(self) -> None:
        """End the session at once, as pg_terminate_backend() does; after a commit if one is being carried out."""
        if self._transactions.committing or self._task is None:
            self._ending = _shutdown()
            self._attend()
        else:
            self._task.cancel()

    async def ended(self, seconds: float) -> bool:
        """Wait for the session's end; return whether it has come."""
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return bool(done)

    def drain(self) -> None:
        """End the session as soon as no transaction is open."""
        self._draining = True
        self._attend()

    def _shard_lost(self, connection: Connection) -> None:
        """End the session with the time-out by which a shard has. An idle one's last connection waits as long as it."""
        self._turns.connection_lost(connection)
        if connection.address is self.shards.addresses[NOTIFICATIONS]:
            self.database.speakers.pop(connection.pid, None)
        error = connection.lost_error()
        if isinstance(error, TimedOut) and (error.sqlstate != IDLE_SESSION_TIMEOUT or not self.shards.connections):
            self._ending = error
            self._attend()

    def _client_lost(self) -> None:
        if self._busy and not self._transactions.committing and self._task is not None:
            self._task.cancel()

    # What the shards tell at any time.

    def _held_lost(self, error: PgError) -> None:
        """Something of the session's has ended with a shard's connection: so does the session, as on one server."""
        self._ending = error
        self._attend()

    def _connected(self, shard: int, connection: Connection) -> None:
        connection.on_notice = lambda fields: self._notice(shard, connection, fields)
        connection.on_notification = lambda payload: self.client.notification(payload, self.database.speakers)
        if shard == NOTIFICATIONS:
            self.database.speakers[connection.pid] = self._pid
        connection.statements.types = self.database.types.of(shard)
        connection.on_parameter = lambda name, value: self._parameter(shard, name, value)
        if len(self.shards.connections) == 1:
            self.database.remember_parameters(self.identity.settings, dict(connection.parameters))
            for name, value in connection.parameters.items():
                # It has not the session's settings yet, if it takes the place of one that was lost.
                self.client.parameter(name, value, later=self._busy)
        self._names.connected()

    def _notice(self, shard: int, connection: Connection, fields: Fields) -> None:
        owed = connection.replies.queue
        if fields.get("V") == "DEBUG" and not (owed and owed[0].forward):
            return  # about a statement of the proxy's own
        self.client.on_notice(shard, fields)

    def _parameter(self, shard: int, name: str, value: str) -> None:
        if shard == self.shards.connected[0]:
            self.client.parameter(name, value, later=self._busy)


def _shutdown() -> PgError:
    return PgError(ADMIN_SHUTDOWN, "terminating connection due to administrator command", severity="FATAL")


def _stays(name: str) -> bool:
    """Whether PostgreSQL takes an application_name as it is; other characters it replaces, a long one it cuts."""
    return name.isascii() and name.isprintable() and len(name) < NAMEDATALEN
