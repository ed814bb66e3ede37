"""One pass of recovery: find what is prepared and abandoned, and finish it as its anchor has decided.

Any proxy may do it, several at once: the decision's unique index gives all of them one outcome, and who finds
nothing to finish any more was merely second. Never touches a gid whose anchor is not one of these shards, nor one
whose committer is still at it: that is whoever holds the transaction's advisory lock on the anchor. A committer
that hangs for longer than it could still decide (`limit`) has lost its claim.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.control import control
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.transaction.decisions import RETENTION, Outcome, arbitrate, forget
from shardproxy.transaction.fence import finish
from shardproxy.transaction.gid import PREFIX, Gid, lock_key
from shardproxy.transaction.setup import known_identities

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for a shard's answer before it counts as away."""

RETURN_TIMEOUT = 2.0
"""Seconds for the answer of a shard that was away at the last look."""

GRACE = 1.0
"""Seconds for which a committed transaction is left to its committer, which is about to finish it itself."""

_LIST = """SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age FROM pg_prepared_xacts
  WHERE database = current_database() AND starts_with(gid, $1)"""

_OLD = """SELECT gid, participants FROM shardproxy.decisions
  WHERE decided < clock_timestamp() - make_interval(secs => $1::float8)"""


@dataclass(slots=True)
class Doubt:
    """A transaction with prepared parts; what became of it is filled in by `resolve`."""

    anchor: str
    transaction: str
    parts: dict[str, Gid] = field(default_factory=dict)  # by shard name
    age: float = 0.0  # seconds since its oldest part was prepared
    alive: bool = False  # its committer is at it
    own: bool = False  # and that is one of this process
    outcome: Outcome | None = None
    finished: set[str] = field(default_factory=set)  # shard names
    worked: bool = False  # some part was finished here, not by somebody faster
    errors: list[PgError] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """The key of its decision."""
        return next(iter(self.parts.values())).stem

    @property
    def open(self) -> bool:
        """Whether it is in doubt still."""
        return not self.alive and set(self.parts) != self.finished


@dataclass(slots=True)
class Found:
    """What a pass has seen and done."""

    doubts: list[Doubt] = field(default_factory=list)
    strangers: list[Doubt] = field(default_factory=list)  # whose anchor is none of the shards: not ours to end
    away: dict[str, PgError] = field(default_factory=dict)  # shards that did not answer, by name

    @property
    def open(self) -> list[Doubt]:
        """What is in doubt still."""
        return [doubt for doubt in self.doubts if doubt.open]


async def look(
    addresses: Sequence[Address],
    identities: Mapping[str, str],
    *,
    complete: bool = True,
    returning: Collection[str] = (),
) -> Found:
    """List what is prepared on the shards. `identities` are those known, by shard name.

    Unless they are `complete`, a gid with an unknown anchor may be ours and is listed. The shards named in
    `returning` were away: they get RETURN_TIMEOUT to answer, so that they hold up nobody else's recovery.
    """
    found = Found()
    doubts: dict[str, Doubt] = {}

    async def ask(address: Address) -> None:
        try:
            patience = RETURN_TIMEOUT if address.name in returning else TIMEOUT
            async with control(address, patience) as connection:
                rows = await connection.fetch(_LIST, PREFIX)
        except PgError as error:
            found.away[address.name] = error
            return
        for row in rows:
            gid = Gid.parse(row["gid"])
            # The participant is this shard, or the gid is another's: of a server shared with another cluster.
            if gid is None or identities.get(address.name, gid.participant) != gid.participant:
                continue
            doubt = doubts.setdefault(gid.stem, Doubt(gid.anchor, gid.transaction))
            doubt.parts[address.name] = gid
            doubt.age = max(doubt.age, row["age"])

    await each(ask(address) for address in addresses)
    ours = set(identities.values())
    for doubt in doubts.values():
        (found.doubts if doubt.anchor in ours or not complete else found.strangers).append(doubt)
    return found


async def note_committers(found: Found, addresses: Sequence[Address], identities: Mapping[str, str]) -> None:
    """Note which of the transactions their committers are still at; decides nothing.

    Those whose anchor cannot be asked stay in doubt.
    """

    async def ask(address: Address, doubts: Sequence[Doubt]) -> None:
        try:
            async with control(address, TIMEOUT) as connection:
                for doubt in doubts:
                    doubt.alive = await _committing(connection, doubt)
        except PgError as error:
            for doubt in doubts:
                doubt.errors.append(error)

    asked = [address for address in addresses if address.name in identities]
    await each(ask(one, [doubt for doubt in found.doubts if doubt.anchor == identities[one.name]]) for one in asked)


async def _committing(anchor: "Control", doubt: Doubt) -> bool:
    """Whether somebody holds the transaction's lock."""
    # Outside of a transaction the lock is given back at once: this only looks whether it is free.
    return not await anchor.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock_key(doubt.transaction))


async def resolve(
    found: Found,
    addresses: Sequence[Address],
    identities: Mapping[str, str],
    *,
    limit: float,
    in_flight: Collection[str] = (),
) -> None:
    """Finish what `look` has found, and note it there.

    `limit` is for how many seconds a committer may be at it; `in_flight` are the transactions of this process's
    own committers.
    """
    by_name = {address.name: address for address in addresses}
    by_identity = {identity: by_name[name] for name, identity in identities.items() if name in by_name}
    at_anchor: defaultdict[str, list[Doubt]] = defaultdict(list)
    for doubt in found.doubts:
        if doubt.transaction in in_flight:
            doubt.alive = doubt.own = True
        elif doubt.anchor in by_identity:
            at_anchor[doubt.anchor].append(doubt)
        else:
            doubt.errors.append(PgError(OBJECT_NOT_IN_PREREQUISITE_STATE, "its anchor shard is away"))
    await each(_judge(by_identity[anchor], doubts, limit) for anchor, doubts in at_anchor.items())
    at_shard: defaultdict[str, list[Doubt]] = defaultdict(list)
    for doubt in found.doubts:
        if doubt.outcome is not None:
            for name in doubt.parts:
                at_shard[name].append(doubt)
    await each(_finish(by_name[name], doubts) for name, doubts in at_shard.items())


async def _judge(anchor: Address, doubts: Sequence[Doubt], limit: float) -> None:
    """Find out each transaction's outcome, deciding 'abort' where nobody has decided and nobody is at it."""
    left = list(doubts)
    try:
        async with control(anchor, TIMEOUT) as connection:
            while left:
                doubt = left[0]
                if await _committing(connection, doubt) and doubt.age < limit:
                    doubt.alive = True
                else:
                    outcome = await arbitrate(connection, doubt.stem)
                    if outcome == "commit" and doubt.age < GRACE:
                        doubt.alive = True
                    else:
                        doubt.outcome = outcome
                del left[0]
    except PgError as error:
        for doubt in left:
            doubt.errors.append(error)


async def _finish(address: Address, doubts: Sequence[Doubt]) -> None:
    for doubt in doubts:
        assert doubt.outcome is not None
        gid = doubt.parts[address.name]
        try:
            # A connection each: after an error, or another's role, nothing of it must reach the next.
            async with control(address, TIMEOUT) as connection:
                done = await finish(connection, str(gid), doubt.outcome)
        except PgError as error:
            doubt.errors.append(error)
            continue
        doubt.finished.add(address.name)
        if done:
            doubt.worked = True
            log.warning('recovery: %s of %s on shard "%s"', doubt.outcome, gid, address.name)


async def sweep(addresses: Sequence[Address], identities: Mapping[str, str], retention: float = RETENTION) -> int:
    """Delete decisions, older than `retention` seconds, that no prepared transaction asks for; return how many.

    The decisions are read before the prepared transactions are listed, on all shards, so what is not listed then
    is finished, or, for 'abort', was never prepared in all this time. Does nothing while a shard is away, or while
    its address leads to another one: what is prepared on the true one is not listed then.
    """
    old: dict[Address, list[tuple[str, Sequence[str]]]] = {}
    for address in addresses:
        async with control(address, TIMEOUT) as connection:
            records = await connection.fetch(_OLD, retention)
            old[address] = [(record["gid"], record["participants"]) for record in records]
    if not any(old.values()):
        return 0
    found = await look(addresses, identities)
    if found.away or await known_identities(addresses) != identities:
        return 0
    prepared = {doubt.stem for doubt in found.doubts}
    known = set(identities.values())
    count = 0
    for address, rows in old.items():
        # A participant that has left the configuration may still hold its part: then the row must stay.
        stems = [one for one, participants in rows if one not in prepared and known.issuperset(participants)]
        if stems:
            async with control(address, TIMEOUT) as connection:
                await forget(connection, stems)
            count += len(stems)
    return count
