"""Two-phase commit of one transaction over several shards, without any state outside the shards.

    probe      which have written? one round trip, to all; every session takes the transaction's advisory lock
    prepare    PREPARE TRANSACTION on all writers but one, the anchor, which makes its deferred constraints fire
    decide     the anchor inserts (decision key, 'commit') into shardproxy.decisions and commits: that is the decision
    complete   COMMIT PREPARED everywhere else

One writer, or none, commits by a plain COMMIT (`single_shard`); a lone participant without a probe. Any failure before
the decision: ROLLBACK PREPARED where it is prepared; a backend that may still prepare, because its connection was lost
in the middle, is fenced, by the `Manager` if it takes long. The decision's answer lost: arbitration on the anchor (see
`decisions`). A failure after the decision is a WARNING, and recovery's work.

The advisory lock tells other proxies' recovery that the committer lives: the anchor's session has it until the
decision, however long the others take to prepare, and loses it at once when the proxy dies.

Never rolls back what is not prepared yet: after a raise the caller's ROLLBACK ends what is still in a transaction
(`Connection.status`). Connections whose state is not known are aborted.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.control import persist
from shardproxy.sqlstate import (
    FEATURE_NOT_SUPPORTED,
    READ_ONLY_SQL_TRANSACTION,
    TRANSACTION_RESOLUTION_UNKNOWN,
    TRANSACTION_ROLLBACK,
    WARNING,
)
from shardproxy.transaction import single_shard
from shardproxy.transaction.decisions import Outcome, arbitrate, decide_sql, refused
from shardproxy.transaction.fence import end_lost, fence, finish, xact_status
from shardproxy.transaction.gid import Gid, decision_key
from shardproxy.transaction.participant import WROTE, Limits, Probe, ProbeAnswer, Row
from shardproxy.transaction.single_shard import in_time

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

log = logging.getLogger(__name__)

FENCE_TIMEOUT = 2.0
"""Seconds that a client waits, after a failed PREPARE, for the lost backend to be ended. Then the manager does it."""

_HINT_NOT_PREPARABLE = (
    "A transaction that writes to several shards cannot use temporary objects, LISTEN or NOTIFY, cursors WITH HOLD "
    "or exported snapshots. Use these in a separate transaction."
)


class Manager(Protocol):
    """What one commit needs of the database's transaction manager, and leaves to it; see `coordinator`."""

    async def identity(self, address: Address) -> str:
        """Return the identity of a shard, making its tables if they are missing."""

    async def participant(self, address: Address) -> str:
        """Return what names a shard as a participant in a gid: its identity."""

    def forget_identity(self, address: Address) -> None:
        """Ask the shard again next time."""

    def lost_in_prepare(self, address: Address, pid: int, clock: float, gid: str) -> None:
        """A backend was lost on its way to PREPARE of a transaction that is to abort."""

    def unresolved(self, key: str, shards: Iterable[str]) -> None:
        """The transaction with this decision key is left to recovery on these shards."""

    def confirmed(self, anchor: Address, key: str) -> None:
        """All participants have confirmed the commit: the decision may be deleted."""


@dataclass(slots=True)
class Participant:
    """One writer."""

    connection: Connection
    xid: str
    answer: ProbeAnswer
    gid: str = ""
    identity: str = ""
    prepared: bool = False
    fenced: bool = False
    """Lost, but nothing of it can prepare any more."""

    @property
    def name(self) -> str:
        """The shard's name."""
        return self.connection.name

    @property
    def clock(self) -> float:
        """A time of its server at which the session was known to live."""
        return self.answer.clock


class TwoPhaseCommit:
    """One transaction's commit: `await TwoPhaseCommit(...).run()` once. Returns warnings; raises if rolled back."""

    def __init__(
        self,
        connections: Sequence[Connection],
        manager: Manager,
        limits: Limits,
        probe: Probe | None = None,
        answers: Mapping[Connection, Row] | None = None,
    ) -> None:
        self.probe = probe or Probe()
        self.transaction = self.probe.transaction
        self._connections = connections
        self._answers = answers or {}
        self._manager = manager
        self._limits = limits
        self._readers: list[Connection] = []
        self._serializable = False

    async def run(self) -> list[PgError]:
        """Commit everywhere or nowhere. Raises 08007 if the outcome could not be determined in time."""
        if len(self._connections) == 1:
            # Whether it has written or not: it is asked on the way.
            await single_shard.commit_alone(self._connections[0], self._limits.commit)
            return []
        writers = await self._probe()
        if len(writers) <= 1:
            for writer in writers:
                await single_shard.commit(writer.connection, writer.xid, writer.clock, self._limits.commit)
            return await self._end_readers()
        if any(one.answer.read_only for one in writers):
            raise PgError(
                READ_ONLY_SQL_TRANSACTION,
                "cannot commit a transaction over several shards that became read-only after its writes",
                detail="The decision to commit is stored as a row, which such a transaction cannot write.",
                hint="Omit SET TRANSACTION READ ONLY.",
            )
        anchor = next((one for one in writers if one.answer.unpreparable), writers[0])
        others = [one for one in writers if one is not anchor]
        await self._name(anchor, others)
        try:
            await self._prepare(anchor, others)
            if self._serializable:
                # Their COMMIT can find that the whole must not be: ask while it can still be rolled back.
                await each(self._end_reader(connection) for connection in self._readers)
                self._readers = []
            await self._decide(anchor, others)
        except PgError as error:
            if error.sqlstate != TRANSACTION_RESOLUTION_UNKNOWN:
                await self._abort(others)
            else:
                self._manager.unresolved(self._key(anchor), [one.name for one in others])
            raise
        return await self._complete(anchor, others)

    def _key(self, anchor: Participant) -> str:
        return decision_key(anchor.identity, self.transaction)

    # Probe.

    async def _probe(self) -> list[Participant]:
        found = await each(self._ask(connection) for connection in self._connections)
        return [participant for participant in found if participant is not None]

    async def _ask(self, connection: Connection) -> Participant | None:
        row = self._answers.get(connection)
        if row is None:
            asking = connection.fetch_row(self.probe.sql, Probe.columns)
            row = await in_time(connection, asking, self._limits.prepare, "answer")
        answer = ProbeAnswer.of(row)
        self._serializable |= answer.serializable
        if answer.xid is None or (answer.read_only and not await self._wrote(connection)):
            self._readers.append(connection)
            return None
        return Participant(connection, answer.xid, answer)

    async def _wrote(self, connection: Connection) -> bool:
        [wrote] = await in_time(connection, connection.fetch_row(WROTE, 1), self._limits.prepare, "answer")
        return wrote == b"t"

    async def _name(self, anchor: Participant, others: Sequence[Participant]) -> None:
        anchor.identity = await self._manager.identity(anchor.connection.address)
        for one in others:
            one.identity = await self._manager.participant(one.connection.address)
            one.gid = str(Gid(anchor.identity, self.transaction, one.identity))

    # Prepare.

    async def _prepare(self, anchor: Participant, others: Sequence[Participant]) -> None:
        await each([self._ready_anchor(anchor), *(self._prepare_one(one) for one in others)])

    async def _ready_anchor(self, anchor: Participant) -> None:
        # The deferred triggers first, under the client's role; the decision is written under the dsn's own.
        # Whatever the client asked of its own durability, the others rely on the anchor's commit.
        durable = "; SET LOCAL synchronous_commit = 'on'" if anchor.answer.asynchronous else ""
        connection = anchor.connection
        changed = connection.parameters.get("session_authorization") != connection.address.user
        own = "SET LOCAL SESSION AUTHORIZATION DEFAULT; " if changed else ""
        sql = f"SET CONSTRAINTS ALL IMMEDIATE; {own}SET LOCAL ROLE NONE{durable}"
        await in_time(connection, anchor.connection.execute(sql), self._limits.prepare, "prepare")

    async def _prepare_one(self, one: Participant) -> None:
        try:
            tag = await in_time(
                one.connection,
                one.connection.execute(f"PREPARE TRANSACTION '{one.gid}'"),
                self._limits.prepare,
                "prepare",
            )
        except PgError as error:
            if not one.connection.usable:
                raise await self._fence(one, error) from error
            if error.sqlstate == FEATURE_NOT_SUPPORTED and error.hint is None:
                error.fields["H"] = _HINT_NOT_PREPARABLE
            raise
        # In a failed transaction PREPARE answers ROLLBACK, and no error.
        if tag != "PREPARE TRANSACTION":
            raise PgError(TRANSACTION_ROLLBACK, f'shard "{one.name}" rolled the transaction back')
        one.prepared = True

    async def _fence(self, one: Participant, error: PgError) -> PgError:
        """End a backend that was lost in PREPARE, if that is quickly done; return the error to report."""
        ended = await end_lost(one.connection.address, one.connection.pid, one.clock, one.gid, FENCE_TIMEOUT)
        one.fenced = ended is not None
        return single_shard.deadlocked(one.name) if ended else error

    async def _abort(self, others: Sequence[Participant]) -> None:
        """Undo what is prepared. What cannot be undone now is the manager's; 'commit' cannot be decided any more."""

        async def undo(one: Participant) -> None:
            connection = one.connection
            if one.prepared:
                sql = f"ROLLBACK PREPARED '{one.gid}'"
                try:
                    await in_time(connection, connection.execute(sql), self._limits.commit, "roll back")
                except PgError as error:
                    log.warning('ROLLBACK PREPARED of %s on shard "%s" failed: %s', one.gid, one.name, error)
                    self._manager.lost_in_prepare(connection.address, connection.pid, one.clock, one.gid)
            elif not connection.usable and not one.fenced:
                self._manager.lost_in_prepare(connection.address, connection.pid, one.clock, one.gid)

        await each(undo(one) for one in others)

    # Decide.

    async def _decide(self, anchor: Participant, others: Sequence[Participant]) -> None:
        connection = anchor.connection
        identities = [anchor.identity, *(one.identity for one in others)]
        before = anchor.clock + self._limits.decide
        sql = decide_sql(anchor.identity, self._key(anchor), identities, before)
        single_shard.refuse_lost(connection)
        begun = time.monotonic()
        try:
            tag = await in_time(connection, connection.execute(sql), self._limits.commit, "commit")
        except PgError as error:
            if connection.usable:
                # The server has answered to the end: nothing is committed.
                if refusal := refused(error, connection.address):
                    self._manager.forget_identity(connection.address)
                raise refusal or error from error
            # A suspended process must not get new time when it wakes up.
            await self._read_back(anchor, begun + 2 * self._limits.commit, before, error)
            return
        if tag != "COMMIT":
            raise PgError(TRANSACTION_ROLLBACK, f'shard "{anchor.name}" rolled the transaction back')

    async def _read_back(self, anchor: Participant, deadline: float, before: float, lost: PgError) -> None:
        """Return if the anchor has committed though its answer was lost; raise `lost` if not, 08007 if in doubt."""
        connection = anchor.connection

        async def ask(control: "Control") -> Outcome | None:
            # Not needed for the truth, which the index makes, but a backend that hangs would keep it waiting.
            await fence(control, connection.pid, anchor.clock)
            return await arbitrate(control, self._key(anchor), before)

        try:
            outcome = await persist(connection.address, deadline, ask)
        except PgError as error:
            raise single_shard.unknown(anchor.name, error) from lost
        log.warning('decision of %s read back from shard "%s": %s', self.transaction, anchor.name, outcome)
        if outcome is None:
            raise single_shard.unknown(anchor.name, lost)
        if outcome == "abort":
            raise single_shard.rolled_back(connection, lost) from lost

    # Complete.

    async def _complete(self, anchor: Participant, others: Sequence[Participant]) -> list[PgError]:
        key = self._key(anchor)
        found = await each(
            [*(self._commit_prepared(one, key) for one in others), *(self._end(one) for one in self._readers)]
        )
        if not any(found[: len(others)]):
            self._manager.confirmed(anchor.connection.address, key)
        return [warning for warning in found if warning is not None]

    async def _commit_prepared(self, one: Participant, key: str) -> PgError | None:
        """Commit one participant; return a warning if it is left to recovery."""
        connection = one.connection
        deadline = time.monotonic() + self._limits.commit
        try:
            tag = await in_time(
                connection, connection.execute(f"COMMIT PREPARED '{one.gid}'"), self._limits.commit, "commit"
            )
            if tag == "COMMIT PREPARED":
                return None
            cause: PgError = PgError(TRANSACTION_ROLLBACK, f"it answered {tag!r}")
        except PgError as error:
            cause = error

        async def again(control: "Control") -> str | None:
            if await finish(control, one.gid, "commit"):
                return "committed"
            return await xact_status(control, one.xid)

        try:
            # A stalled shard has had its time; one that came back, or only refused this session, gets another.
            status = await persist(connection.address, deadline, again)
        except PgError as error:
            self._manager.unresolved(key, [one.name])
            log.warning('COMMIT PREPARED of %s on shard "%s" is left to recovery: %s', one.gid, one.name, error)
            return PgError(
                WARNING,
                f'the transaction is committed, but shard "{one.name}" has not confirmed it yet',
                severity="WARNING",
                detail=cause.message,
                hint="Recovery will complete it as soon as the shard answers; until then its rows are not visible.",
            )
        if status == "aborted":
            log.error('prepared transaction %s on shard "%s" was rolled back by another session', one.gid, one.name)
            return PgError(
                WARNING,
                f'the transaction is committed, but its part was rolled back manually on shard "{one.name}"',
                severity="WARNING",
                detail=f'The prepared transaction was "{one.gid}".',
                hint="Restore the rows on that shard.",
            )
        return None

    async def _end_readers(self) -> list[PgError]:
        found = await each(self._end(connection) for connection in self._readers)
        return [warning for warning in found if warning is not None]

    async def _end(self, connection: Connection) -> PgError | None:
        """Commit where nothing was written. It can lose no data, so a failure is a warning."""
        try:
            await self._end_reader(connection)
        except PgError as error:
            return PgError(
                WARNING,
                f'COMMIT failed on shard "{connection.name}", where the transaction had only read',
                severity="WARNING",
                detail=error.message,
            )
        return None

    async def _end_reader(self, connection: Connection) -> None:
        await in_time(connection, connection.execute("COMMIT"), self._limits.commit, "commit")
        if connection.status != IDLE:
            raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" did not end the transaction')
