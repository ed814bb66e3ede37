"""One pass of recovery: find what is prepared and abandoned, and finish it as its anchor has decided.

Any proxy may do it, several at once: the decision's unique index gives all of them one outcome, and one that finds
nothing left to finish was merely second. Never touches a gid whose anchor is not one of these shards, nor one whose
committer lives: its session holds the transaction's advisory lock on the anchor. A committer that hangs for longer
than it could still decide (`limit`) is not waited for.
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
"""Seconds for a shard's answer before it counts as unreachable."""

RETURN_TIMEOUT = 2.0
"""Seconds for the answer of a shard that was unreachable at the last look."""

GRACE = 1.0
"""Seconds for which a committed transaction is left to its committer, which is about to finish it itself."""

_LIST = """SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age FROM pg_prepared_xacts
  WHERE database = current_database() AND starts_with(gid, $1)"""

_OLD = """SELECT gid, participants FROM shardproxy.decisions
  WHERE decided < clock_timestamp() - make_interval(secs => $1::float8)"""


@dataclass(slots=True)
class InDoubt:
    """An in-doubt transaction: it has prepared parts. What became of it is filled in by `resolve`."""

    anchor: str
    transaction: str
    parts: dict[str, Gid] = field(default_factory=dict)  # by shard name
    age: float = 0.0  # seconds since its oldest part was prepared
    committing: bool = False  # its committer lives
    own: bool = False  # and is one of this process
    outcome: Outcome | None = None
    finished: set[str] = field(default_factory=set)  # shard names
    worked: bool = False  # some part was finished here, not by another that was faster
    errors: list[PgError] = field(default_factory=list)

    @property
    def decision_key(self) -> str:
        """The key of its decision."""
        return next(iter(self.parts.values())).decision_key

    @property
    def unresolved(self) -> bool:
        """Whether it is in doubt still."""
        return not self.committing and set(self.parts) != self.finished


@dataclass(slots=True)
class RecoveryPass:
    """What a pass has seen and done."""

    in_doubt: list[InDoubt] = field(default_factory=list)
    foreign: list[InDoubt] = field(default_factory=list)  # whose anchor is none of the shards: not ours to end
    unreachable: dict[str, PgError] = field(default_factory=dict)  # shards that did not answer, by name

    @property
    def unresolved(self) -> list[InDoubt]:
        """What is in doubt still."""
        return [one for one in self.in_doubt if one.unresolved]


async def look(
    addresses: Sequence[Address],
    identities: Mapping[str, str],
    *,
    complete: bool = True,
    returning: Collection[str] = (),
) -> RecoveryPass:
    """List what is prepared on the shards. `identities` are those known, by shard name.

    Unless they are `complete`, a gid with an unknown anchor may be ours and is listed. The shards named in
    `returning` were unreachable: they get RETURN_TIMEOUT to answer, so that they do not hold up the others' recovery.
    """
    found = RecoveryPass()
    by_key: dict[str, InDoubt] = {}

    async def ask(address: Address) -> None:
        try:
            timeout = RETURN_TIMEOUT if address.name in returning else TIMEOUT
            async with control(address, timeout) as connection:
                rows = await connection.fetch(_LIST, PREFIX)
        except PgError as error:
            found.unreachable[address.name] = error
            return
        for row in rows:
            gid = Gid.parse(row["gid"])
            # The participant is this shard, or the gid is another's: of a server shared with another cluster.
            if gid is None or identities.get(address.name, gid.participant) != gid.participant:
                continue
            one = by_key.setdefault(gid.decision_key, InDoubt(gid.anchor, gid.transaction))
            one.parts[address.name] = gid
            one.age = max(one.age, row["age"])

    await each(ask(address) for address in addresses)
    ours = set(identities.values())
    for one in by_key.values():
        (found.in_doubt if one.anchor in ours or not complete else found.foreign).append(one)
    return found


async def note_committers(found: RecoveryPass, addresses: Sequence[Address], identities: Mapping[str, str]) -> None:
    """Note which of the transactions are being committed; decides nothing.

    Those whose anchor cannot be asked stay in doubt.
    """

    async def ask(address: Address, transactions: Sequence[InDoubt]) -> None:
        try:
            async with control(address, TIMEOUT) as connection:
                for one in transactions:
                    one.committing = await _committing(connection, one)
        except PgError as error:
            for one in transactions:
                one.errors.append(error)

    asked = [address for address in addresses if address.name in identities]
    await each(
        ask(address, [one for one in found.in_doubt if one.anchor == identities[address.name]]) for address in asked
    )


async def _committing(anchor: "Control", one: InDoubt) -> bool:
    """Whether the transaction's lock is held."""
    # Outside of a transaction the lock is given back at once: this only looks whether it is free.
    return not await anchor.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock_key(one.transaction))


async def resolve(
    found: RecoveryPass,
    addresses: Sequence[Address],
    identities: Mapping[str, str],
    *,
    limit: float,
    in_flight: Collection[str] = (),
) -> None:
    """Finish what `look` has found, and note it there.

    `limit` is how many seconds a committer may take; `in_flight` are the transactions of this process's own
    committers.
    """
    by_name = {address.name: address for address in addresses}
    by_identity = {identity: by_name[name] for name, identity in identities.items() if name in by_name}
    at_anchor: defaultdict[str, list[InDoubt]] = defaultdict(list)
    for one in found.in_doubt:
        if one.transaction in in_flight:
            one.committing = one.own = True
        elif one.anchor in by_identity:
            at_anchor[one.anchor].append(one)
        else:
            one.errors.append(PgError(OBJECT_NOT_IN_PREREQUISITE_STATE, "its anchor shard is unreachable"))
    await each(_judge(by_identity[anchor], transactions, limit) for anchor, transactions in at_anchor.items())
    at_shard: defaultdict[str, list[InDoubt]] = defaultdict(list)
    for one in found.in_doubt:
        if one.outcome is not None:
            for name in one.parts:
                at_shard[name].append(one)
    await each(_finish(by_name[name], transactions) for name, transactions in at_shard.items())


async def _judge(anchor: Address, transactions: Sequence[InDoubt], limit: float) -> None:
    """Find out each transaction's outcome, deciding 'abort' where there is no decision and no committer."""
    left = list(transactions)
    try:
        async with control(anchor, TIMEOUT) as connection:
            while left:
                one = left[0]
                if await _committing(connection, one) and one.age < limit:
                    one.committing = True
                else:
                    outcome = await arbitrate(connection, one.decision_key)
                    if outcome == "commit" and one.age < GRACE:
                        one.committing = True
                    else:
                        one.outcome = outcome
                del left[0]
    except PgError as error:
        for one in left:
            one.errors.append(error)


async def _finish(address: Address, transactions: Sequence[InDoubt]) -> None:
    for one in transactions:
        assert one.outcome is not None
        gid = one.parts[address.name]
        try:
            # A connection each: after an error, or another's role, nothing of it must reach the next.
            async with control(address, TIMEOUT) as connection:
                done = await finish(connection, str(gid), one.outcome)
        except PgError as error:
            one.errors.append(error)
            continue
        one.finished.add(address.name)
        if done:
            one.worked = True
            log.warning('recovery: %s of %s on shard "%s"', one.outcome, gid, address.name)


async def sweep(addresses: Sequence[Address], identities: Mapping[str, str], retention: float = RETENTION) -> int:
    """Delete decisions, older than `retention` seconds, that no prepared transaction asks for; return how many.

    The decisions are read before the prepared transactions are listed, on all shards, so what is not listed then
    is finished, or, for 'abort', was never prepared in all this time. Does nothing while a shard is unreachable, or
    while its address leads to another one: what is prepared on the true one is not listed then.
    """
    old: dict[Address, list[tuple[str, Sequence[str]]]] = {}
    for address in addresses:
        async with control(address, TIMEOUT) as connection:
            records = await connection.fetch(_OLD, retention)
            old[address] = [(record["gid"], record["participants"]) for record in records]
    if not any(old.values()):
        return 0
    found = await look(addresses, identities)
    if found.unreachable or await known_identities(addresses) != identities:
        return 0
    prepared = {one.decision_key for one in found.in_doubt}
    known = set(identities.values())
    count = 0
    for address, rows in old.items():
        # A participant that has left the configuration may still hold its part: then the row must stay.
        keys = [one for one, participants in rows if one not in prepared and known.issuperset(participants)]
        if keys:
            async with control(address, TIMEOUT) as connection:
                await forget(connection, keys)
            count += len(keys)
    return count
