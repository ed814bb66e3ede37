"""Short-lived connections of the proxy's own to a shard, beside those that carry clients' transactions.

asyncpg's, told everything by argument, so that no PG... variable and no .pgpass has a say. Nothing of a client
reaches them. Whatever fails leaves as PgError that names the shard: 08001 it cannot be reached, 08006 it was
reached and did not answer, 57P03 it is a standby, else the server's own error.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from shardproxy.backend.connection import Address
from shardproxy.config import Database
from shardproxy.errors import PgError
from shardproxy.sqlstate import (
    CANNOT_CONNECT_NOW,
    CONNECTION_FAILURE,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
)

if TYPE_CHECKING:
    Control: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

T = TypeVar("T")

APPLICATION = "shardproxy recovery"
"""The application_name, by which a DBA knows these sessions."""

LOCK_TIMEOUT = 5.0
"""Seconds to wait for a commit in flight, or for another recovery at the same transaction, before looking again."""

CLOSE_TIMEOUT = 1.0
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
"""Seconds between attempts to reach a shard that is away: doubled from the first to the most."""

# A decision that a crash could take back is none, whatever the server's default for other transactions.
_BEGIN = """SELECT pg_is_in_recovery(), CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END"""


def addresses_of(database: Database) -> tuple[Address, ...]:
    """Return where the shards of a configured database are."""
    return tuple(
        Address(
            name=shard.name,
            host=shard.dsn.host,
            port=shard.dsn.port,
            user=shard.dsn.user,
            database=shard.dsn.database,
            password=shard.dsn.password.get_secret_value() if shard.dsn.password else None,
            connect_timeout=database.connect_timeout,
            stall_timeout=database.stall_timeout,
        )
        for shard in database.shards
    )


@contextlib.asynccontextmanager
async def control(address: Address, timeout: float) -> AsyncIterator["Control"]:
    """Connect, yield the connection, close it; `timeout` is in seconds, for the connect and for each command."""
    try:
        connection = await asyncpg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            database=address.database,
            # Not None: asyncpg would look for one in the environment.
            password=address.password or "",
            ssl=False,
            target_session_attrs=SessionAttribute.any,
            timeout=min(timeout, address.connect_timeout),
            command_timeout=timeout,
            statement_cache_size=0,
            server_settings={
                "application_name": APPLICATION,
                "search_path": "pg_catalog",
                # The role's own would end what may take its time; `command_timeout` bounds it.
                "statement_timeout": "0",
                "lock_timeout": f"{LOCK_TIMEOUT:.0f}s",
                "default_transaction_isolation": "read committed",
                "default_transaction_read_only": "off",
            },
        )
    except asyncpg.PostgresError as error:
        raise pg_error(error, address) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise PgError(
            SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            f'could not connect to shard "{address.name}"',
            detail=str(error) or "it did not answer in time",
        ) from error
    try:
        # A standby lists nothing as prepared and may not know yet what is committed: believed, while its shard fails
        # over, it would let a decision go that the part needs which is prepared there once it is promoted.
        if await connection.fetchval(_BEGIN):
            raise PgError(
                CANNOT_CONNECT_NOW,
                f'shard "{address.name}" is in recovery',
                detail="It is a standby, which can tell nothing about prepared transactions.",
                hint="Promote it, or let the shard's dsn lead to the primary server.",
            )
        yield connection
    except asyncpg.PostgresError as error:
        raise pg_error(error, address) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise PgError(
            CONNECTION_FAILURE,
            f'connection to shard "{address.name}" was lost',
            detail=str(error) or "it did not answer in time",
        ) from error
    finally:
        # What could be said has been said: a shard that does not answer the farewell is cut off.
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=CLOSE_TIMEOUT)


def pg_error(error: "asyncpg.PostgresError", address: Address) -> PgError:
    """Turn asyncpg's exception into ours, and say which shard it is about."""
    state: str = error.sqlstate or CONNECTION_FAILURE
    detail: str | None = getattr(error, "detail", None)
    said_by = f'Reported by shard "{address.name}".'
    return PgError(
        state,
        getattr(error, "message", None) or str(error),
        detail=f"{detail}\n{said_by}" if detail else said_by,
        hint=getattr(error, "hint", None),
    )


def passing(error: PgError) -> bool:
    """Whether trying again may help: the shard is away, starts, stops, is full, or somebody is just at it."""
    state = error.sqlstate
    # 55000 is also "prepared transaction is busy"; 55P03 the lock timeout, 53300 no free slot.
    return state[:2] in {"08", "57"} or state in {"53300", "55000", "55P03", "40P01"}


async def persist(address: Address, deadline: float, job: "Callable[[Control], Awaitable[T]]") -> T:
    """Run a job on a control connection, again and again until it works or `deadline` (time.monotonic) passes.

    The last error is raised. A job must be fit to be run twice: the first one's answer may have been lost.
    """
    pause = RETRY_FIRST
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            async with control(address, left) as connection:
                return await job(connection)
        except PgError as error:
            if not passing(error) or time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, RETRY_MOST)
