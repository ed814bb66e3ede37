"""The place of each shard: which database of the proxy it belongs to, its number, and of how many.

A row is on a shard because of these, so a configuration in which a shard has another number would look for rows
where they are not. Each shard keeps its place in `shardproxy.place`: written when a proxy first uses it, compared
from then on, and changed by `renumber` only.

Two proxies that start at once with different configurations must not each write a part: both lock the shards that
have no place yet, in an order that does not depend on the configuration, and look again before they write.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shardproxy.config.rules import SEPARATE
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.shard.control import session, translated
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.transaction.decisions import PLACE_SQL, SETUP_LOCK, place_sql

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

T = TypeVar("T")

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for a shard's answer; it may wait for another proxy that does the same."""

# Without `to_regclass`, which fails where the role may not use the schema.
_LOOK = """SELECT pg_is_in_recovery() AS standby, c.oid IS NOT NULL AS made, d.oid IS NOT NULL AS decisions,
    coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false) AS readable,
    CASE WHEN c.oid IS NOT NULL
      THEN has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
        AND has_table_privilege(c.oid, 'INSERT')
      WHEN n.oid IS NOT NULL THEN has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')
      ELSE has_database_privilege(current_database(), 'CREATE') END AS writable,
    (SELECT system_identifier FROM pg_control_system()) || ' ' || extract(epoch FROM pg_postmaster_start_time())
      AS server,
    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database
  FROM (SELECT) AS one LEFT JOIN pg_namespace AS n ON n.nspname = 'shardproxy'
    LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'place'
    LEFT JOIN pg_class AS d ON d.relnamespace = n.oid AND d.relname = 'decisions'"""

_READ = "SELECT database, number, shards FROM shardproxy.place"

_WRITE = "INSERT INTO shardproxy.place (database, number, shards) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Place:
    """What a shard is, by itself or by the configuration."""

    database: str
    number: int
    shards: int

    def __str__(self) -> str:
        return f'number {self.number} of {self.shards} of database "{self.database}"'


@dataclass(frozen=True, slots=True)
class Seen:
    """What a shard tells of its place."""

    place: Place | None
    """None if it has none yet, or none that can be read."""
    made: bool
    """The table of its place is there."""
    writable: bool
    """Its place can be written if it has none."""
    decisions: bool
    """The tables of two-phase commit are there."""
    order: tuple[str, str]
    """The running server and the database's OID: its turn to be locked, the same for every proxy."""


class Places:
    """The places that the configuration gives the shards of one database."""

    def __init__(self, database: str, addresses: Sequence[Address]) -> None:
        count = len(addresses)
        self.addresses = tuple(addresses)
        self._given = {address: Place(database, number, count) for number, address in enumerate(addresses)}
        self._unasked: set[Address] = set()  # since `settle`, as they were unreachable then
        self._asking: dict[Address, asyncio.Task[None]] = {}

    # Looking.

    async def look(self) -> dict[Address, Seen | PgError]:
        """Ask all shards at once; change nothing."""

        async def ask(address: Address) -> Seen | PgError:
            try:
                return await _look_at(address)
            except PgError as error:
                return error

        return dict(zip(self.addresses, await each(map(ask, self.addresses)), strict=True))

    def disagreement(self, address: Address, seen: Seen | PgError) -> PgError | None:
        """Return the error of a shard whose own place is not the one that the configuration gives it."""
        given = self._given[address]
        if isinstance(seen, PgError) or seen.place in {None, given}:
            return None
        return PgError(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            f'shard "{address.name}" is {seen.place} by its table shardproxy.place, but {given} by the configuration',
            detail="Shards are numbered from 0, in the order of the configuration; a row is on the shard whose number "
            "its key gives.",
            hint="Correct the configuration. Only if every row is where the configuration wants it, run "
            "`shardproxy check --renumber`, which writes its numbers to the shards.",
        )

    async def compare(self) -> None:
        """Raise if a shard that can be asked disagrees; change nothing."""
        for address, seen in (await self.look()).items():
            if error := self.disagreement(address, seen):
                raise error

    # Writing.

    async def settle(self) -> None:
        """Compare, and write the place of every shard that has none. Raises if a shard disagrees.

        A shard that is unreachable is asked by `confirm` before its first use; one that cannot be written is logged.
        """
        self._unasked.update(await self._settle(await self.look()))

    async def confirm(self, number: int) -> None:
        """Raise if a shard that was unreachable before disagrees, or still cannot be asked."""
        address = self.addresses[number]
        if address not in self._unasked:
            return
        asking = self._asking.get(address)
        if asking is None:
            asking = self._asking[address] = asyncio.ensure_future(self._ask_now(address))
            asking.add_done_callback(lambda task: self._asked(address, task))
        await asyncio.wait({asking})
        asking.result()

    async def renumber(self) -> list[str]:
        """Write the configuration's places over those of the shards; return what was changed. Needs all shards."""
        found = await self.look()
        changed: dict[Address, Seen] = {}
        for address, seen in found.items():
            if isinstance(seen, PgError):
                raise seen
            if seen.place != self._given[address]:
                changed[address] = seen
        _refuse_same(found)
        await self._write(changed, over=True)
        return [
            f"shard {address.name} is {self._given[address]}; it was {seen.place or 'without a place'}"
            for address, seen in changed.items()
        ]

    async def _ask_now(self, address: Address) -> None:
        try:
            seen = await _look_at(address)
        except PgError as error:
            # A refused login, for instance, is the shard's and not the client's own.
            raise errors.unreachable(
                address.name, (_is_unreachable(error) and error.detail) or error.message
            ) from error
        if not await self._settle({address: seen}):
            self._unasked.discard(address)

    def _asked(self, address: Address, task: "asyncio.Task[None]") -> None:
        del self._asking[address]
        # Looked at here, too: whoever waited may have been cancelled.
        if not task.cancelled() and task.exception() is not None:
            log.debug("shard %s: %s", address.name, task.exception())

    async def _settle(self, found: Mapping[Address, Seen | PgError]) -> list[Address]:
        """Do so for these shards; return those that could not be asked."""
        unasked: list[Address] = []
        missing: dict[Address, Seen] = {}
        for address, seen in found.items():
            if error := self.disagreement(address, seen):
                raise error
            if isinstance(seen, PgError):
                unasked.append(address)
            elif seen.place is None and seen.writable:
                missing[address] = seen
            elif seen.place is None:
                log.warning("%s", unwritable(address).message)
        _refuse_same(found)
        try:
            await self._write(missing)
        except PgError as error:
            if not _is_unreachable(error):
                raise
            unasked += missing
        return unasked

    async def _write(self, missing: Mapping[Address, Seen], *, over: bool = False) -> None:
        """Write these places, all or none; unless it is `over` others, raise if another proxy was faster."""
        async with AsyncExitStack() as stack:
            held: list[tuple[Address, Control]] = []
            for address in sorted(missing, key=lambda one: missing[one].order):
                connection = await stack.enter_async_context(session(address, TIMEOUT))
                held.append((address, connection))
                given = self._given[address]
                await _told(address, connection.execute("BEGIN"))
                await _told(address, connection.execute("SELECT pg_advisory_xact_lock($1)", SETUP_LOCK))
                seen = await _told(address, _seen(connection))
                if not over and (error := self.disagreement(address, seen)):
                    raise error
                if seen.place == given:
                    continue
                if not seen.made:
                    await _told(address, connection.execute(PLACE_SQL))
                if seen.place is not None:
                    await _told(address, connection.execute("DELETE FROM shardproxy.place"))
                values = (given.database, given.number, given.shards)
                await _told(address, connection.execute(_WRITE, *values))
            for address, connection in held:
                await _told(address, connection.execute("COMMIT"))


def _is_unreachable(error: PgError) -> bool:
    return error.sqlstate[:2] in {"08", "57"}


def unwritable(address: Address) -> PgError:
    """Return the warning of a shard that has no place, and whose role may not write one."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        f'shard "{address.name}" cannot be told its place: role "{address.user}" may not write shardproxy.place',
        detail=f"SQL: {place_sql(address.user)}",
        hint="As a DBA, run the SQL in the detail on the shard. Until then nothing notices a configuration that has "
        "the shards in another order.",
    )


def _refuse_same(found: Mapping[Address, Seen | PgError]) -> None:
    """Raise if two shards are one database: no place would be right for both."""
    names: dict[tuple[str, str], str] = {}
    for address, seen in found.items():
        if isinstance(seen, PgError):
            continue
        if seen.order in names:
            raise PgError(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'shards "{names[seen.order]}" and "{address.name}" are the same database',
                hint=SEPARATE,
            )
        names[seen.order] = address.name


async def _look_at(address: Address) -> Seen:
    async with session(address, TIMEOUT) as connection:
        return await _seen(connection)


async def _seen(connection: "Control") -> Seen:
    row = await connection.fetchrow(_LOOK)
    assert row is not None
    place = await connection.fetchrow(_READ) if row["readable"] else None
    return Seen(
        None if place is None else Place(*place),
        made=row["made"],
        writable=row["writable"] and not row["standby"],
        decisions=row["decisions"],
        order=(row["server"], row["database"]),
    )


async def _told(address: Address, answer: Awaitable[T]) -> T:
    """Await a shard's answer; several sessions are open, and the error must name this shard."""
    with translated(address):
        return await answer
