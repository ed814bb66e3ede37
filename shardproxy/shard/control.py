"""Short-lived connections of the proxy's own to a shard, beside those that carry clients' transactions.

asyncpg's, with every parameter passed, so that no PG... variable and no .pgpass counts. Nothing of a client
reaches them. Whatever fails leaves as PgError that names the shard (see `errors`): 08001 it cannot be reached, 08006
it was reached and did not answer, 57P03 it is a standby, else the server's own error.

asyncpg is imported with the first of them: many a load needs none, and is started for some seconds of work.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from shardproxy.errors import PgError
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.sqlstate import CANNOT_CONNECT_NOW

if TYPE_CHECKING:
    import asyncpg

    Control: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

T = TypeVar("T")

LOCK_TIMEOUT = 5.0
"""Seconds to wait for a commit in flight, or for another recovery of the same transaction, before looking again."""

SETTINGS = {
    # The application_name is how a DBA knows these sessions.
    "application_name": "shardproxy recovery",
    "search_path": "pg_catalog",
    # The role's own timeout could end what may take its time; `command_timeout` bounds it.
    "statement_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT:.0f}s",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}

AWAKE: Final = """SELECT set_config('idle_session_timeout', '0', false) FROM pg_settings
  WHERE name = 'idle_session_timeout'"""
"""For a session that holds a lock and does nothing else meanwhile; the setting is there from version 14 on."""

CLOSE_TIMEOUT = 1.0
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
"""Seconds between attempts to reach an unreachable shard: doubled from the first to the most."""

# A decision that a crash could take back is none, whatever the server's default for other transactions.
_BEGIN = """SELECT pg_is_in_recovery(), CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END"""


def losses() -> tuple[type[Exception], ...]:
    """What asyncpg raises where a connection is lost.

    InternalClientError if the server has ended it just before a request, ConnectionDoesNotExistError in the middle of
    one: though it has a SQLSTATE (08003), no server has said it.
    """
    import asyncpg

    lost = (asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.ConnectionDoesNotExistError)
    return OSError, TimeoutError, *lost


@contextlib.contextmanager
def translated(address: Address) -> Iterator[None]:
    """Raise asyncpg's errors on a connection that stands as PgError that names the shard."""
    import asyncpg

    try:
        yield
    except losses() as error:
        raise errors.lost(address.name, error) from error
    except asyncpg.PostgresError as error:
        raise errors.reported_by(errors.from_asyncpg(error), address.name) from error


async def opened(address: Address, timeout: float, settings: Mapping[str, str]) -> "Control":
    """Connect, raising what asyncpg raises; the timeout is as for `session`."""
    import asyncpg
    from asyncpg.connect_utils import SessionAttribute

    return await asyncpg.connect(
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
        server_settings=dict(settings),
    )


@contextlib.asynccontextmanager
async def session(address: Address, timeout: float, settings: Mapping[str, str] = SETTINGS) -> AsyncIterator["Control"]:
    """Connect to a shard, primary or standby; yield the connection, close it.

    `timeout` is in seconds, for the connect and for each command.
    """
    import asyncpg

    try:
        connection = await opened(address, timeout, settings)
    except losses() as error:
        raise errors.unreachable(address.name, error) from error
    except asyncpg.PostgresError as error:
        raise errors.reported_by(errors.from_asyncpg(error), address.name) from error
    try:
        with translated(address):
            yield connection
    finally:
        # The work is done: a shard that does not answer Terminate is cut off.
        with contextlib.suppress(asyncpg.PostgresError, *losses()):
            await connection.close(timeout=CLOSE_TIMEOUT)


@contextlib.asynccontextmanager
async def control(address: Address, timeout: float) -> AsyncIterator["Control"]:
    """Connect to a shard's primary, fit for decisions and recovery; `timeout` as for `session`."""
    async with session(address, timeout) as connection:
        # A standby lists nothing as prepared and may not know yet what is committed. Trusted while its shard fails
        # over, it would let a decision be deleted that a participant needs which is prepared there once it is promoted.
        if await connection.fetchval(_BEGIN):
            raise PgError(
                CANNOT_CONNECT_NOW,
                f'shard "{address.name}" is in recovery',
                detail="It is a standby, which can tell nothing about prepared transactions.",
                hint="Promote it, or let the shard's dsn lead to the primary server.",
            )
        yield connection


def is_transient(error: PgError) -> bool:
    """Whether trying again may help: the shard is unreachable, starting, stopping or full, or a lock is held."""
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
            if not is_transient(error) or time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, RETRY_MOST)
