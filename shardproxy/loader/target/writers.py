"""Several writers of one table of one server: each is a shard of a database that the loader makes up.

They commit together, as shards do: all but the anchor prepare, and the anchor's commit, with the decision in
`shardproxy.decisions`, decides. As they are in one database, what tells them apart in a gid is a number: the identity
of the database with a few bits changed. `alive` ends what a killed load has left prepared; a proxy's recovery leaves
it alone, as no shard of its own has such an identity.
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from shardproxy.config import Database as DatabaseConfig
from shardproxy.errors import PgError
from shardproxy.session.database import Database
from shardproxy.shard.address import Address
from shardproxy.shard.control import AWAKE, control, translated
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.decisions import arbitrate
from shardproxy.transaction.fence import finish
from shardproxy.transaction.gid import PREFIX, Gid
from shardproxy.transaction.participant import Limits
from shardproxy.transaction.setup import set_up_one
from shardproxy.transaction.two_phase import TwoPhaseCommit

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

log = logging.getLogger(__name__)

TIMEOUT: Final = 30.0
"""Seconds for an answer."""

_PREPARED: Final = """SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1)"""

# Without to_regclass, which fails where the role may not use the schema: then it has prepared nothing.
_MADE: Final = """SELECT count(*) = 2 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = 'shardproxy' AND c.relname IN ('identity', 'decisions')
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"""

ALIVE: Final = 0x73687264_6C6F6164
"""Key of the advisory lock that loads share while they may prepare: the letters "shrdload"."""


class Writers(Database):
    """One server's database, with as many connections to it as the configuration has shards."""

    def __init__(self, config: DatabaseConfig) -> None:
        super().__init__(config)
        self.coordinator: Together = Together(config.name, self.addresses, Limits.of(config))

    @property
    def readiness_sql(self) -> str | None:
        """Whether they can commit together was asked when the coordinator was made ready."""
        return None

    def check_readiness(self, answers: Mapping[int, Sequence[bytes | None]]) -> None:
        """See `readiness_sql`."""


class Together(Coordinator):
    """Commits of several connections to one database."""

    def __init__(self, database: str, addresses: Sequence[Address], limits: Limits) -> None:
        super().__init__(database, addresses, limits)
        self._begun: set[str] = set()

    async def participant(self, address: Address) -> str:
        """Return what stands for one of them in a gid."""
        number = self.addresses.index(address) + 1
        return f"{int(await self.identity(address), 16) ^ number:032x}"

    async def _learn(self, address: Address) -> None:
        self._identities[address.name] = next(iter(self._identities.values()), None) or await set_up_one(address)

    async def _commit(self, commit: TwoPhaseCommit) -> list[PgError]:
        self._begun.add(commit.transaction)
        return await super()._commit(commit)

    async def _pass(self) -> None:
        await self._fence()
        async with control(self.addresses[0], TIMEOUT) as connection:
            await _settle(connection, lambda transaction: transaction in self._begun - self._in_flight)
        self._unasked.clear()


@contextlib.asynccontextmanager
async def alive(address: Address) -> AsyncIterator[None]:
    """End what killed loads have left prepared; let other loads know inside that this one lives. Raises PgError.

    The transactions of a load that lives cannot be told from those of a killed one, so while another does nothing is
    ended: that one has done so when it began.
    """
    held = control(address, TIMEOUT)
    connection = await held.__aenter__()
    try:
        with translated(address):
            await connection.execute(AWAKE)
            if await connection.fetchval(f"SELECT pg_try_advisory_lock({ALIVE})"):
                await _settle(connection, lambda transaction: True)
                await connection.execute(f"SELECT pg_advisory_lock_shared({ALIVE}), pg_advisory_unlock({ALIVE})")
            else:
                await connection.execute(f"SELECT pg_advisory_lock_shared({ALIVE})")
        yield
    finally:
        # Not told of an error, which is that of the load and none of this session's.
        await held.__aexit__(None, None, None)


async def _settle(connection: "Control", ended: Callable[[str], bool]) -> None:
    """Commit or roll back what writers of the database have left prepared, as their anchors have decided."""
    identity = await connection.fetchval(_MADE) and await connection.fetchval("SELECT id FROM shardproxy.identity")
    if not identity:
        return
    left: defaultdict[str, list[Gid]] = defaultdict(list)
    for row in await connection.fetch(_PREPARED, PREFIX):
        gid = Gid.parse(row["gid"])
        if gid is not None and gid.anchor == identity and gid.participant != identity and ended(gid.transaction):
            left[gid.transaction].append(gid)
    for gids in left.values():
        outcome = await arbitrate(connection, gids[0].decision_key)
        for gid in gids:
            if outcome is not None and await finish(connection, str(gid), outcome):
                log.warning("a load that has ended had left %s prepared: %s", gid, outcome)
