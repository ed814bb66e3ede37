"""COMMIT on one shard, with a true answer also when the shard's own gets lost.

PostgreSQL alone leaves a client whose connection breaks in COMMIT in doubt. The proxy knows the transaction's id,
and asks another connection what became of it.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from shardproxy.backend.connection import Connection
from shardproxy.commit.control import persist
from shardproxy.commit.fence import committed
from shardproxy.errors import ConnectionLost, PgError
from shardproxy.sqlstate import CONNECTION_FAILURE, TRANSACTION_RESOLUTION_UNKNOWN, TRANSACTION_ROLLBACK

T = TypeVar("T")

# Times as numbers: what a session's DateStyle or extra_float_digits makes of them must not matter.
CLOCK = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::pg_catalog.numeric"


async def commit(connection: Connection, xid: str, clock: float, timeout: float) -> None:
    """Commit the transaction `xid` that `connection` is in; `timeout` in seconds, for the COMMIT and again for doubts.

    `clock` is a time of the server (seconds of the epoch) at which the session was known to live. Raises the
    server's error with nothing committed, or 08007 if it could not be found out.
    """
    refuse_lost(connection)
    try:
        tag = await in_time(connection, connection.execute("COMMIT"), timeout, "commit")
    except PgError as error:
        if connection.usable:
            raise
        await _settle(connection, xid, clock, time.monotonic() + timeout, error)
        return
    if tag != "COMMIT":
        raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" rolled the transaction back')


def refuse_lost(connection: Connection) -> None:
    """Raise for a connection that is lost already, in front of a COMMIT: what is not sent leaves nobody in doubt."""
    if not connection.usable:
        raise as_lost(connection, ConnectionLost("The connection was lost before the COMMIT."))


async def in_time(connection: Connection, job: "Coroutine[Any, Any, T]", limit: float, what: str) -> T:
    """Await an exchange; one that takes longer than `limit` seconds ends the connection: its state is not known.

    When this raises and the connection is still `usable`, the server itself has refused, and answered to the end.
    """
    try:
        async with asyncio.timeout(limit):
            return await job
    except TimeoutError as error:
        lost = f'shard "{connection.name}" did not {what} within {limit:g} seconds'
        # With an error, so that it is unusable from now on, not only when the event loop has closed it.
        connection.stream.abort(ConnectionLost(lost))
        raise PgError(CONNECTION_FAILURE, lost) from error
    except PgError as error:
        if connection.busy:
            connection.stream.abort(ConnectionLost(str(error)))
        raise


async def _settle(
    connection: Connection,
    xid: str,
    clock: float,
    deadline: float,
    cause: PgError,
) -> None:
    """Return if a lost connection's COMMIT came through; raise 08006 if not.

    Raises 08007 if nobody knows by `deadline` (time.monotonic).
    """
    outcome: bool | None = None
    doubt: PgError | None = None
    try:
        outcome = await persist(
            connection.address, deadline, lambda control: committed(control, connection.pid, clock, xid)
        )
    except PgError as error:
        doubt = error
    if outcome:
        return
    if outcome is False:
        raise as_lost(connection, cause) from cause
    raise unknown(connection.name, doubt or cause) from cause


def as_lost(connection: Connection, cause: BaseException) -> PgError:
    """Return the error of a transaction that a lost connection has rolled back."""
    return PgError(
        CONNECTION_FAILURE,
        f'the transaction is rolled back: connection to shard "{connection.name}" was lost',
        detail=str(cause) or "The shard did not answer in time.",
    )


def unknown(shard: str, cause: BaseException) -> PgError:
    """Return the error of a transaction of which nobody could say in time how it ended."""
    said = cause.message if isinstance(cause, PgError) else str(cause)
    return PgError(
        TRANSACTION_RESOLUTION_UNKNOWN,
        f'it is not known whether the transaction is committed: shard "{shard}" does not answer',
        detail=said or None,
        hint="It is committed on all shards or on none. Look at the data before you run it again.",
    )
