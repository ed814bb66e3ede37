"""COMMIT on one shard, with a true answer also when the shard's own gets lost.

PostgreSQL alone leaves a client whose connection breaks in COMMIT in doubt. The proxy knows the transaction's id,
and asks another connection what became of it.
"""

import asyncio
import time

from shardproxy.backend.connection import Connection
from shardproxy.commit.control import persist
from shardproxy.commit.fence import committed
from shardproxy.errors import ConnectionLost, PgError
from shardproxy.sqlstate import CONNECTION_FAILURE, TRANSACTION_RESOLUTION_UNKNOWN, TRANSACTION_ROLLBACK
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B

# Times as numbers: what a session's DateStyle or extra_float_digits makes of them must not matter.
CLOCK = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::pg_catalog.numeric"
_WHO = f"SELECT pg_catalog.pg_current_xact_id_if_assigned(), {CLOCK}"


async def commit(connection: Connection, timeout: float) -> None:
    """Commit the transaction that `connection` is in; `timeout` in seconds, for the COMMIT and again for doubts.

    Raises the server's error with nothing committed, or 08007 if it could not be found out. The question for the
    transaction's id travels with the COMMIT, so it costs no time of its own; its answer is sent, by a server of
    any version, before COMMIT begins.
    """
    connection.write(encode.query(_WHO.encode()))
    connection.write(encode.query(b"COMMIT"))
    xid: str | None = None
    clock = 0.0
    tag = ""
    error: PgError | None = None
    answered = 0
    try:
        async with asyncio.timeout(timeout):
            while answered < 2:
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
                    case B.READY_FOR_QUERY:
                        answered += 1
                        if answered < 2:
                            # The connection takes itself for idle now, but the COMMIT's answer is to come.
                            connection.write(b"")
                    case B.ROW_DESCRIPTION:
                        pass
                    case _:
                        raise connection.unexpected(message)
    except (PgError, TimeoutError) as lost:
        connection.stream.abort(ConnectionLost(str(lost)))
        if clock and xid is None:
            # It wrote nothing, so nothing depends on the answer but a notification.
            raise as_lost(connection, lost, error) from lost
        await settle(connection, xid, clock, time.monotonic() + timeout, lost, error)
        return
    if error is not None:
        raise error
    if tag != "COMMIT":
        raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" rolled the transaction back')


async def settle(
    connection: Connection,
    xid: str | None,
    clock: float,
    deadline: float,
    cause: PgError | TimeoutError,
    said: PgError | None = None,
) -> None:
    """Return if a lost connection's COMMIT came through; raise 08006, or what the server said, if not.

    Raises 08007 if nobody knows by `deadline` (time.monotonic).
    """
    outcome: bool | None = None
    doubt: PgError | None = None
    if xid is not None:
        try:
            outcome = await persist(
                connection.address, deadline, lambda control: committed(control, connection.pid, clock, xid)
            )
        except PgError as error:
            doubt = error
    if outcome:
        return
    if outcome is False:
        raise as_lost(connection, cause, said) from cause
    raise unknown(connection.name, doubt or cause) from cause


def as_lost(connection: Connection, cause: BaseException, said: PgError | None) -> PgError:
    """Return the error of a transaction that a lost connection has rolled back; `said` is the server's own."""
    if said is not None:
        return said
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
