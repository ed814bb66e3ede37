"""COMMIT on one shard, with a true answer also when the shard's own gets lost.

PostgreSQL leaves a client whose connection breaks in COMMIT in doubt. The proxy knows the transaction's id, and asks
on another connection what became of it. A lone participant is asked for its id in the same round trip as the COMMIT;
08007 is left for one that is lost before it has answered.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from shardproxy.errors import ConnectionLost, PgError
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import persist
from shardproxy.shard.errors import NO_ANSWER, Ended
from shardproxy.sqlstate import (
    CONNECTION_FAILURE,
    DEADLOCK_DETECTED,
    TRANSACTION_RESOLUTION_UNKNOWN,
    TRANSACTION_ROLLBACK,
)
from shardproxy.transaction.fence import committed
from shardproxy.transaction.participant import CLOCK
from shardproxy.wire import decode
from shardproxy.wire.constants import B

T = TypeVar("T")

_WHO = f"SELECT pg_catalog.pg_current_xact_id_if_assigned(), {CLOCK}"


async def commit_alone(connection: Connection, timeout: float) -> None:
    """Commit the transaction that `connection` is in, written or not, as `commit` does.

    The question for the transaction's id travels with the COMMIT; its answer is sent, by a server of any version,
    before COMMIT begins.
    """
    refuse_lost(connection)
    connection.query(_WHO.encode())
    connection.query(b"COMMIT")
    xid: str | None = None
    clock = 0.0
    tag = ""
    error: PgError | None = None
    try:
        async with asyncio.timeout(timeout):
            while connection.replies:
                message = await connection.read()
                match message.type:
                    case B.DATA_ROW:
                        row = decode.data_row(message.payload)
                        xid = row[0].decode() if row[0] is not None else None
                        clock = float(row[1] or b"0")
                    case B.COMMAND_COMPLETE:
                        tag = decode.command_complete(message.payload)
                    case B.ERROR_RESPONSE:
                        error = error or PgError.from_fields(decode.fields(message.payload))
                    case B.ROW_DESCRIPTION | B.READY_FOR_QUERY:
                        pass
                    case _:
                        raise connection.unexpected(message)
    except (PgError, TimeoutError) as lost:
        connection.stream.abort(ConnectionLost(str(lost)))
        if error is not None:
            raise error from lost
        if clock and xid is None:
            # It wrote nothing, so nothing depends on the answer but a notification.
            raise rolled_back(connection, lost) from lost
        if xid is None:
            raise unknown(connection.name, lost) from lost
        await _settle(connection, xid, clock, time.monotonic() + timeout, lost)
        return
    if error is not None:
        raise error
    if tag != "COMMIT":
        raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" rolled the transaction back')


async def commit(connection: Connection, xid: str, clock: float, timeout: float) -> None:
    """Commit the transaction `xid` that `connection` is in.

    `timeout` is in seconds, for the COMMIT and again to resolve it. `clock` is a time of the server (seconds of the
    epoch) at which the session was known to live. Raises the server's error with nothing committed, or 08007 if it
    could not be found out.
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
    """Raise for a connection that is lost already, before a COMMIT: what is not sent leaves nothing in doubt."""
    if not connection.usable:
        raise rolled_back(connection, ConnectionLost("The connection was lost before the COMMIT."))


async def in_time(connection: Connection, job: "Coroutine[Any, Any, T]", limit: float, what: str) -> T:
    """Await an exchange; one that takes longer than `limit` seconds ends the connection: its state is not known.

    When this raises and the connection is still `usable`, the server has answered to the end, and refused.
    """
    try:
        async with asyncio.timeout(limit):
            return await job
    except TimeoutError as error:
        lost = f'shard "{connection.name}" did not {what} within {limit:g} seconds'
        connection.abort()
        raise PgError(CONNECTION_FAILURE, lost) from error


async def _settle(
    connection: Connection,
    xid: str,
    clock: float,
    deadline: float,
    cause: PgError | TimeoutError,
) -> None:
    """Return if a lost connection's COMMIT came through; raise 08006 if not.

    Raises 08007 if it is not known by `deadline` (time.monotonic).
    """
    outcome: bool | None = None
    failure: PgError | None = None
    try:
        outcome = await persist(
            connection.address, deadline, lambda control: committed(control, connection.pid, clock, xid)
        )
    except PgError as error:
        failure = error
    if outcome:
        return
    if outcome is False:
        raise rolled_back(connection, cause) from cause
    raise unknown(connection.name, failure or cause) from cause


def rolled_back(connection: Connection, cause: BaseException) -> PgError:
    """Return the error of a transaction that a lost connection has rolled back."""
    return PgError(
        CONNECTION_FAILURE,
        f'the transaction is rolled back: connection to shard "{connection.name}" was lost',
        detail=str(cause) or NO_ANSWER,
    )


def unknown(shard: str, cause: BaseException) -> PgError:
    """Return the error of a transaction whose outcome could not be determined in time."""
    reason = cause.message if isinstance(cause, PgError) else str(cause)
    return PgError(
        TRANSACTION_RESOLUTION_UNKNOWN,
        f'outcome of the transaction is unknown: shard "{shard}" does not answer',
        detail=reason or None,
        hint="The transaction is committed on all shards or on none. Check the data before running it again.",
    )


def lost_alone(connection: Connection, error: PgError) -> PgError:
    """Return `error` of a statement that commits by itself; 08007 if it means that the connection is lost.

    Then it may have committed, unless the server has said FATAL before it answered.
    """
    if connection.usable or error.sqlstate != CONNECTION_FAILURE:
        return error
    told = connection.stream.error
    if isinstance(told, Ended) and told.reason.fields.get("V", told.reason.fields.get("S")) == "FATAL":
        return error
    return unknown(connection.name, error)


def deadlocked(shard: str) -> PgError:
    """Return the error of a transaction that was waiting for a lock when prepare_timeout expired."""
    return PgError(
        DEADLOCK_DETECTED,
        f'shard "{shard}" was waiting for a lock when prepare_timeout expired',
        detail="PostgreSQL cannot detect a deadlock between servers, so a wait that long is treated as one.",
        hint="The transaction is rolled back and might succeed if retried.",
    )
