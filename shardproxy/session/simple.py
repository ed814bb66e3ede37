"""The simple query protocol of one client. Manual: "Simple Query".

The statements of one Query are one implicit transaction if there are several, and get one ReadyForQuery.
"""

from shardproxy.copy.encoding import Text
from shardproxy.errors import ConnectionLost, PgError
from shardproxy.session.by_name import BY_NAME
from shardproxy.session.client import Client
from shardproxy.session.copy_client import CopyClient
from shardproxy.session.copy_setup import is_copy_in
from shardproxy.session.execute import Executor
from shardproxy.session.extended import Extended
from shardproxy.session.transactions import Transactions
from shardproxy.sql import Empty, Statement, run_as
from shardproxy.sql.strings import reads_alike
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED
from shardproxy.wire import decode
from shardproxy.wire.errors import decoded

FORGETTING = frozenset({"DISCARD ALL", "DEALLOCATE ALL"})
"""Tags of what ends all prepared statements."""


class Simple:
    """The Queries of one session."""

    def __init__(
        self, client: Client, executor: Executor, transactions: Transactions, extended: Extended, copies: CopyClient
    ) -> None:
        self._client = client
        self._executor = executor
        self._transactions = transactions
        self._extended = extended
        self._copies = copies

    async def query(self, payload: bytes) -> None:
        """Serve a Query message."""
        client, transactions = self._client, self._transactions
        offset = 0
        running: Statement | None = None
        try:
            await self._extended.end_batch()
            text = client.text(decoded(decode.query, payload))
            conforming = client.conforming
            statements = await self._executor.read(text)
            for number, statement in enumerate(statements, 1):
                if client.conforming != conforming:
                    _check_strings(statement)
                if client.stream.lost:
                    raise ConnectionLost("the client left between two statements")
                if len(statements) > 1:
                    # Anew after a COMMIT among them: what follows is one transaction again.
                    transactions.begin_implicit()
                client.offset = offset = statement.location
                running = statement
                tag = await self._run(statement, text, alone=len(statements) == 1)
                running = None
                if not isinstance(statement, Empty):
                    self._extended.names.drop_portal(b"")
                if number == len(statements):
                    # As PostgreSQL: the last tag is sent after the commit, for it may still fail.
                    await transactions.end_implicit()
                if len(statements) == 1:
                    self._executor.offers.query(payload)
                if tag in FORGETTING:
                    self._extended.names.forget_statements()
                client.complete(tag)
                await client.stream.drain()
        except PgError as error:
            if running is not None:
                self._extended.names.query_failed(running, error)
            await transactions.fail(error, offset)
        client.offset = 0
        self._extended.ready()

    async def _run(self, statement: Statement, text: Text, *, alone: bool) -> str | None:
        """Run one statement, the only one of its Query if it is `alone`; return its tag."""
        if is_copy_in(statement):
            return await self._copies.run(statement, text, alone=alone)
        if isinstance(statement, BY_NAME) and (tag := await self._extended.by_name.run(statement, text)) is not None:
            return tag
        statement = await self._extended.signals.answered(statement)
        try:
            return (await self._executor.run(statement, text.encode(run_as(statement)))).tag
        except PgError as error:
            self._executor.lists.place(statement, self._executor.lists.now, error)
            raise


def _check_strings(statement: Statement) -> None:
    """Refuse a string that a shard would read otherwise: PostgreSQL reads all of a Query before it runs any of it."""
    if not reads_alike(statement.text):
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            "a backslash in '...' after a change of standard_conforming_strings in the same query is not supported",
            hint="Send the change in a query of its own.",
        )
