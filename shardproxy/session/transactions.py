"""The client's transaction on its shards: begun, marked by savepoints, committed or rolled back everywhere alike.

What state it is in is `transaction.state`'s, how a commit over several shards is made atomic is `Database.commit`'s;
this module carries the client's words to the shards that take part.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from shardproxy.errors import PgError, ProtocolError
from shardproxy.routing import Settings
from shardproxy.routing.identifiers import ascii_identifier
from shardproxy.routing.refusals import check_gid
from shardproxy.session.client import Client
from shardproxy.session.database import Database
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import IN_TRANSACTION, Connection
from shardproxy.shard.errors import TimedOut
from shardproxy.sql import Begin, Commit, PrepareTransaction, Release, Rollback, RollbackTo, Savepoint
from shardproxy.sqlstate import ACTIVE_SQL_TRANSACTION, CONNECTION_FAILURE, NO_ACTIVE_SQL_TRANSACTION
from shardproxy.transaction.savepoints import MODES, modes_entry
from shardproxy.transaction.settings import ALL
from shardproxy.transaction.state import ACTIVE, FAILED

CONNECTION_EXCEPTION = "08"
"""The class of SQLSTATEs after which it may not be known whether a COMMIT has been carried out."""

Control = Begin | Commit | Rollback | Savepoint | Release | RollbackTo
"""The statements that `Transactions.control` carries out."""


class Transactions:
    """Begins and ends of one session's transactions."""

    def __init__(self, database: Database, shards: Shards, names: Resolver, client: Client) -> None:
        self._database = database
        self._shards = shards
        self._names = names
        self._client = client
        self._transaction = shards.transaction
        self.committing = False
        self.subtransactions_ended: Callable[[bool], None] = lambda _: None
        """Called after RELEASE (True) or ROLLBACK TO (False)."""

    async def control(self, statement: Control, sql: bytes) -> str:
        """Carry out BEGIN, COMMIT, ROLLBACK or what is about a savepoint; return the tag."""
        match statement:
            case Begin():
                return await self._begin(statement, sql)
            case Commit() | Rollback():
                return await self._end(statement)
        return await self._savepoint(statement, sql)

    def check(self) -> None:
        """Refuse a statement in a failed transaction."""
        self._transaction.check()

    # Implicit transactions.

    def begin_implicit(self) -> None:
        """Make what follows one transaction, which `end_implicit` commits."""
        if not self._transaction.open:
            self._transaction.begin(implicit=True)
            self._transaction.definitions = self._database.generation

    async def end_implicit(self, tag: str | None = None) -> None:
        """Commit an implicit transaction, if one is open; an error tells that its statement has ended with this tag."""
        if self._transaction.open and self._transaction.implicit:
            try:
                await self._commit()
            except PgError as error:
                error.tag = tag
                raise

    async def statement_failed(self) -> None:
        """A statement has failed: an implicit transaction ends, the client's own one waits for its ROLLBACK."""
        transaction = self._transaction
        if not transaction.open:
            return
        if transaction.implicit:
            await self._shards.rollback()
        else:
            again = transaction.state is FAILED
            transaction.fail()
            if not transaction.has_savepoints:
                # Nothing of it can come back: PostgreSQL, too, lets its locks go before the client sends ROLLBACK.
                await self._shards.leave()
            elif not again:
                await self._fail_subtransaction()
        self._names.forget()

    async def _fail_subtransaction(self) -> None:
        """End the innermost subtransaction where nothing has failed: its locks and settings go, as on one server."""
        shards = self._shards
        standing = [one for one in shards.participants() if one.usable and one.status == IN_TRANSACTION]
        if standing:
            await shards.cancel_sent()
            rollback = f"ROLLBACK TO {ascii_identifier(self._transaction.log.latest_savepoint)}"
            await shards.run_or_abort(standing, rollback.encode("utf-8", "surrogateescape"))

    async def setting_failed(self, connections: Sequence[Connection], plan: Settings) -> None:
        """Give back its value to a setting that these shards have taken, and another has refused."""
        if not self._transaction.open and connections:
            await self._shards.run_or_abort(connections, self._transaction.settings.restoring_sql({plan.name or ALL}))

    async def fail(self, error: PgError, offset: int = 0) -> None:
        """Bring the transaction to where an error leaves it, and send the error. Some end it all."""
        if isinstance(error, ProtocolError | TimedOut) or error is self._shards.ending:
            raise error
        await self.statement_failed()
        if error.tag is not None:
            self._client.complete(error.tag)
        self._client.error(error, offset)

    # The client's own.

    async def _begin(self, statement: Begin, sql: bytes) -> str:
        transaction, shards = self._transaction, self._shards
        again = transaction.open and not transaction.implicit
        if again:
            transaction.check()
            self._client.warn(ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress")
        # As PostgreSQL, which sets them whether or not a transaction has begun; one that they fail in is not opened.
        modes = f"SET TRANSACTION {statement.modes}".encode() if statement.modes else b""
        setting = bool(modes) and (again or bool(transaction.joined) or len(transaction.log) > 1)
        if setting:
            await shards.cancel_sent()
            await shards.on_all(shards.participants(), modes)
        if not again:
            transaction.begin(sql)
            if not transaction.joined:
                transaction.definitions = self._database.generation
        if setting:
            transaction.set(modes, "TRANSACTION", local=True)
        return statement.tag

    async def _commit(self) -> None:
        """Commit everywhere or nowhere; the transaction is over in either case."""
        shards, transaction = self._shards, self._transaction
        # A request on its way would hit the commit on some shards and not on others.
        await shards.cancel_sent()
        participants = shards.participants()
        self.committing = True
        try:
            if any(not connection.usable for connection in participants):
                raise PgError(
                    CONNECTION_FAILURE,
                    "the transaction is rolled back: the connection to a shard that took part was lost",
                    detail=", ".join(connection.name for connection in participants if not connection.usable),
                )
            if participants:
                with self._database.definitions_commit() if transaction.defined else nullcontext():
                    try:
                        warnings = await self._database.commit(participants, shards.ahead)
                    except BaseException as error:
                        if not isinstance(error, PgError) or error.sqlstate.startswith(CONNECTION_EXCEPTION):
                            transaction.keep_outside()
                        raise
                for warning in warnings:
                    self._client.notice(warning.fields)
        except BaseException:
            restoring = transaction.restoring_sql()
            await shards.rollback()
            if restoring:
                await shards.run_or_abort(participants, restoring)
            # Nor do the definitions hold that were seen inside it.
            self._names.forget()
            raise
        finally:
            self.committing = False
        changed = transaction.has_set
        shards.end(committed=True)
        if changed:
            self._names.forget()
        else:
            self._names.transaction_ended()

    async def _end(self, statement: Commit | Rollback) -> str:
        transaction = self._transaction
        chained = transaction.log.chained(failed=transaction.state is FAILED) if transaction.open else []
        if not transaction.open or transaction.implicit:
            if statement.chain:
                raise PgError(
                    NO_ACTIVE_SQL_TRANSACTION,
                    f"{statement.tag} AND CHAIN can only be used in transaction blocks",
                )
            self._client.warn(NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress")
        tag = statement.tag
        if transaction.open:
            if isinstance(statement, Commit) and transaction.state is not FAILED:
                if statement.chain and transaction.log.moves_defaults:
                    chained = [modes_entry(await self._shards.participants()[0].fetch_row(MODES, 3))]
                await self._commit()
            else:
                await self._shards.rollback()
                self._names.forget()
                tag = "ROLLBACK"
        if statement.chain:
            transaction.chain(chained)
            transaction.definitions = self._database.generation
        return tag

    async def prepare(self, statement: PrepareTransaction, sql: bytes) -> str:
        """PREPARE TRANSACTION, of a database of one shard: no other has a part in it."""
        shards, transaction = self._shards, self._transaction
        check_gid(statement.name)
        if not transaction.open or transaction.implicit:
            self._client.warn(NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress")
        if transaction.state is not ACTIVE:
            if transaction.state is FAILED:
                await shards.rollback()
                self._names.forget()
            return "ROLLBACK"
        defined = transaction.defined
        await shards.cancel_sent()
        [connection] = await shards.join(shards.everyone)
        try:
            tag = await connection.execute(sql)
        except PgError:
            await shards.rollback()
            raise
        finally:
            self._names.forget()
        shards.end(committed=True)
        if defined:
            self._database.definitions_changed()
        return tag

    async def _savepoint(self, statement: Savepoint | Release | RollbackTo, sql: bytes) -> str:
        transaction = self._transaction
        name = statement.name
        if not transaction.open or transaction.implicit:
            what = statement.kind.value.removesuffix("SAVEPOINT").rstrip()
            words = f"{what} SAVEPOINT".lstrip()
            raise PgError(NO_ACTIVE_SQL_TRANSACTION, f"{words} can only be used in transaction blocks")
        if not isinstance(statement, RollbackTo):
            transaction.check()
        if not isinstance(statement, Savepoint):
            transaction.find_savepoint(name)
        participants = self._shards.participants()
        if transaction.doomed or any(not connection.usable for connection in participants):
            transaction.fail()
            raise PgError(
                CONNECTION_FAILURE,
                "the transaction cannot go on: the connection to a shard that took part was lost",
                hint="ROLLBACK, and run the transaction again.",
            )
        await self._shards.cancel_sent()
        await self._shards.on_all(participants, sql)
        match statement:
            case Savepoint():
                transaction.savepoint(name, sql)
            case Release():
                transaction.release(name)
                self.subtransactions_ended(True)
            case _:
                transaction.rollback_to(name)
                self._names.forget()
                self.subtransactions_ended(False)
        return statement.tag
