"""What another connection can do about a session that was lost: end its backend, and finish what it prepared.

A backend outlives its connection: it may prepare, or commit, seconds after its client is gone. So it is terminated and
waited for before any conclusion about its transaction is drawn. It is found by its pid, and known not to be a later one
of the same pid by having started before `clock`, a time of that server (seconds of the epoch) at which the session was
known to live.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.shard.control import persist
from shardproxy.transaction.decisions import Outcome

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

log = logging.getLogger(__name__)

POLL = 0.02
"""Seconds between looks at a backend that is ending."""

_TERMINATE = """SELECT pg_terminate_backend(pid), wait_event_type = 'Lock' FROM pg_stat_activity
  WHERE pid = $1 AND backend_start <= to_timestamp($2::float8)"""

_PREPARED = """SELECT owner::text, owner = current_user AS own FROM pg_prepared_xacts
  WHERE gid = $1 AND database = current_database()"""


async def fence(connection: "Control", pid: int, clock: float) -> bool:
    """Terminate a backend and wait until it is gone; return whether it was waiting for a lock.

    Has no deadline of its own.
    """
    row = await connection.fetchrow(_TERMINATE, pid, clock)
    waiting = bool(row is not None and row[1])
    while row is not None:
        await asyncio.sleep(POLL)
        # Again, not only a look: the signal may have come while it was not listening yet.
        row = await connection.fetchrow(_TERMINATE, pid, clock)
    return waiting


async def finish(connection: "Control", gid: str, outcome: Outcome) -> bool:
    """COMMIT or ROLLBACK PREPARED; return False if nothing is prepared under that gid any more.

    As its owner, since PostgreSQL allows only the owner or a superuser: a client may have used SET ROLE.
    """
    import asyncpg

    row = await connection.fetchrow(_PREPARED, gid)
    if row is None:
        return False
    if not row["own"]:
        quoted = '"' + row["owner"].replace('"', '""') + '"'
        await connection.execute(f"SET ROLE {quoted}")
    try:
        # The only statement of its Query: PostgreSQL runs it in no transaction block.
        await connection.execute(f"{'COMMIT' if outcome == 'commit' else 'ROLLBACK'} PREPARED '{gid}'")
    except asyncpg.UndefinedObjectError:
        return False
    finally:
        if not row["own"] and not connection.is_closed():
            await connection.execute("RESET ROLE")
    return True


async def end_lost(address: Address, pid: int, clock: float, gid: str, timeout: float) -> bool | None:
    """End a backend that was lost in PREPARE of `gid`, and roll back what it prepared.

    Returns whether it was waiting for a lock, None if it could not be ended in `timeout` seconds. Its own locks are
    free then when the client tries again.
    """

    async def end(connection: "Control") -> bool:
        waited = await fence(connection, pid, clock)
        # The decision will not be written after the error that brought us here.
        await finish(connection, gid, "abort")
        return waited

    try:
        async with asyncio.timeout(timeout):
            return await persist(address, time.monotonic() + timeout, end)
    except (PgError, TimeoutError):
        return None


async def xact_status(connection: "Control", xid: str) -> str | None:
    """Return 'committed', 'aborted', 'in progress', or None for one too old to tell.

    A transaction id from the server's future was lost in a crash: nothing of it was ever durable.
    """
    import asyncpg

    try:
        status: str | None = await connection.fetchval("SELECT pg_xact_status($1::text::xid8)", xid)
    except asyncpg.InvalidParameterValueError:
        return "aborted"
    return status


# After a crash, transaction ids that had not reached the disk are given out again. The checkpoint at the end of crash
# recovery tells from which id on. Without the right to see the checkpointer, a crash that the postmaster survived is
# not noticed here; the id would have to be used again within the moments until this question.
_REUSED = """SELECT greatest(pg_postmaster_start_time(), (SELECT max(backend_start) FROM pg_stat_activity
      WHERE backend_type = 'checkpointer')) > to_timestamp($1::float8)
    AND (SELECT split_part(next_xid, ':', 1)::numeric * 4294967296 + split_part(next_xid, ':', 2)::numeric
      FROM pg_control_checkpoint()) <= $2::text::numeric"""


async def committed(connection: "Control", pid: int, clock: float, xid: str) -> bool | None:
    """Return whether a lost session's transaction `xid` is committed, once nothing can change that any more."""
    await fence(connection, pid, clock)
    match await xact_status(connection, xid):
        case "committed":
            return None if await connection.fetchval(_REUSED, clock, xid) else True
        case "aborted":
            return False
        case _:
            return None
