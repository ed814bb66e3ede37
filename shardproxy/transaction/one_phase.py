"""Commit on one shard after the other: no state left over, no guarantee when a shard dies in between.

For `commit = "one-phase"`, and the way every transaction ends that touched a single shard. What can fail is made
to fail first: deferred constraints are checked on all shards before any commits.
"""

from collections.abc import Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import TRANSACTION_RESOLUTION_UNKNOWN, TRANSACTION_ROLLBACK
from shardproxy.transaction.ahead import CHECK
from shardproxy.transaction.single_shard import unknown
from shardproxy.wire import encode

_COMMITTED: Final = encode.command_complete("COMMIT") + encode.ready_for_query(b"I")


async def commit(participants: Sequence[Connection], *, checked: bool = False) -> None:
    """Commit on every participant; `checked` if their constraints were, just now (`ahead`).

    Raises the server's error with nothing committed; or 08007 that names the shards that have committed and the one
    that may not have, when it failed after another's commit or its connection was lost.
    """
    if len(participants) > 1 and not checked:
        await each(connection.execute(CHECK) for connection in participants)
    done: list[str] = []
    for connection in participants:
        try:
            await _commit_one(connection)
        except PgError as error:
            if not done and connection.usable:
                raise
            raise _doubt(connection, error, done, alone=len(participants) == 1) from error
        done.append(connection.name)


def _doubt(connection: Connection, error: PgError, done: Sequence[str], *, alone: bool) -> PgError:
    """Return the error of a commit that has failed on a shard after those that are `done`, or got no answer there."""
    if alone:
        return unknown(connection.name, error)
    message = f'outcome of the transaction is unknown: shard "{connection.name}" does not answer'
    detail = f"It is rolled back on all other shards. Shard {connection.name}: {error.message}"
    if done:
        message = f'the transaction is committed on some shards, but failed on shard "{connection.name}"'
        detail = f"Committed on: {', '.join(done)}. Shard {connection.name}: {error.message}"
    return PgError(
        TRANSACTION_RESOLUTION_UNKNOWN,
        message,
        detail=detail,
        hint='Use commit = "two-phase" to commit on all shards or none.',
    )


async def _commit_one(connection: Connection) -> None:
    """COMMIT on one shard; a failed transaction, which answers ROLLBACK without an error, is one here."""
    connection.query(b"COMMIT")
    if await connection.answered_by(_COMMITTED):
        return
    tag = await connection.completed()
    if tag != "COMMIT":
        raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" rolled the transaction back')
