"""Two-phase commit of one transaction over several shards, without any state outside the shards.

    probe      who has written? one round trip, everywhere; every session takes the transaction's advisory lock
    prepare    PREPARE TRANSACTION on all writers but one, the anchor, which makes its deferred constraints fire
    decide     the anchor inserts (stem, 'commit') into shardproxy.decisions and commits: that is the decision
    complete   COMMIT PREPARED everywhere else

Up to one writer commits plainly, a lone participant without a probe. Any failure before the decision: ROLLBACK
PREPARED where it is prepared; whoever may still prepare, because its connection was lost in the middle, is fenced, by
the `Keeper` if it takes long. The decision's answer lost: arbitration on the anchor (see `decisions`). A failure
behind the decision is a WARNING, and recovery's work.

The advisory lock tells other proxies' recovery that somebody is at it: the anchor's session has it until the
decision, however long the others take to prepare, and loses it at once when the proxy dies.

Never rolls back what is not prepared yet: after a raise the caller's ROLLBACK ends what is still in a transaction
(`Connection.status`). Connections whose state is not known are aborted.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from shardproxy.config import Database
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.shard.address import Address
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.control import persist
from shardproxy.sqlstate import (
    DEADLOCK_DETECTED,
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    NOT_NULL_VIOLATION,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    READ_ONLY_SQL_TRANSACTION,
    SERIALIZATION_FAILURE,
    TRANSACTION_RESOLUTION_UNKNOWN,
    TRANSACTION_ROLLBACK,
    UNDEFINED_TABLE,
    UNIQUE_VIOLATION,
    WARNING,
)
from shardproxy.transaction import single_shard
from shardproxy.transaction.decisions import Outcome, arbitrate, decide_sql, not_set_up
from shardproxy.transaction.fence import fence, finish, xact_status
from shardproxy.transaction.gid import Gid, lock_key, new_transaction, stem
from shardproxy.transaction.single_shard import in_time

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

log = logging.getLogger(__name__)

FENCE_PATIENCE = 2.0
"""Seconds that a client waits, behind a failed PREPARE, for the lost backend to be ended. Then the keeper does it."""

_PROBE = f"""SELECT pg_catalog.pg_current_xact_id_if_assigned(), {single_shard.CLOCK},
  pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('transaction_read_only'),
  pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_my_temp_schema(),
  EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),
  pg_catalog.pg_try_advisory_xact_lock"""

# Whether a transaction that is read-only now has written before it became so: the locks on what it wrote are kept.
_WROTE = """SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
    WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
      AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND c.relpersistence IS DISTINCT FROM 't'
      AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}'))"""

_HINT_NOT_PREPARABLE = (
    "A transaction that writes to several shards cannot use temporary objects, LISTEN or NOTIFY, cursors WITH HOLD "
    "or exported snapshots: use these in a transaction of their own."
)


class Keeper(Protocol):
    """Who looks after what one commit leaves behind; see `coordinator`."""

    async def identity(self, address: Address) -> str:
        """Return the identity of a shard, making its tables if they are missing."""

    def forget_identity(self, address: Address) -> None:
        """Ask the shard again next time."""

    def in_limbo(self, address: Address, pid: int, clock: float, gid: str) -> None:
        """A backend was lost on the way to PREPARE of a transaction that is to abort."""

    def unfinished(self, stem: str, shards: Iterable[str]) -> None:
        """A transaction is left to recovery on these shards."""

    def confirmed(self, anchor: Address, stem: str) -> None:
        """All participants have confirmed the commit: the decision row may go."""


@dataclass(slots=True)
class Participant:
    """One writer's part."""

    connection: Connection
    xid: str
    clock: float
    awkward: bool  # it may have what cannot be prepared: better the anchor
    asynchronous: bool
    frozen: bool  # it became read-only behind its writes
    gid: str = ""
    identity: str = ""
    prepared: bool = False
    fenced: bool = False  # lost, but nothing of it can prepare any more

    @property
    def name(self) -> str:
        """The shard's name."""
        return self.connection.name


@dataclass(slots=True)
class Limits:
    """Deadlines in seconds: of each participant's PREPARE, and of everything from the decision on."""

    prepare: float = 30.0
    commit: float = 30.0

    @property
    def decide(self) -> float:
        """How long after the probe, by the anchor's clock, a decision may be written or asked for."""
        return 2 * self.prepare + 2 * self.commit + 10.0

    @classmethod
    def of(cls, database: Database) -> Self:
        """Return what the configuration says."""
        return cls(database.prepare_timeout, database.commit_timeout)


class Commit:
    """One transaction's commit: `await Commit(...).run()` once. Returns warnings; raises with nothing committed."""

    def __init__(self, connections: Sequence[Connection], keeper: Keeper, limits: Limits) -> None:
        self.transaction = new_transaction()
        self._connections = connections
        self._keeper = keeper
        self._limits = limits
        self._readers: list[Connection] = []
        self._serializable = False

    async def run(self) -> list[PgError]:
        """Commit everywhere or nowhere. Raises 08007 if that alone is sure, and nobody could say which in time."""
        if len(self._connections) == 1:
            # Whether it has written or not, and it says so on the way.
            await single_shard.commit_alone(self._connections[0], self._limits.commit)
            return []
        writers = await self._probe()
        if len(writers) <= 1:
            for writer in writers:
                await single_shard.commit(writer.connection, writer.xid, writer.clock, self._limits.commit)
            return await self._end_readers()
        if any(one.frozen for one in writers):
            raise PgError(
                READ_ONLY_SQL_TRANSACTION,
                "cannot commit on several shards a transaction that became read-only behind its writes",
                detail="The decision to commit is a row, which such a transaction cannot write.",
                hint="Leave SET TRANSACTION READ ONLY away.",
            )
        anchor = next((one for one in writers if one.awkward), writers[0])
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
                self._keeper.unfinished(self._stem(anchor), [one.name for one in others])
            raise
        return await self._complete(anchor, others)

    def _stem(self, anchor: Participant) -> str:
        return stem(anchor.identity, self.transaction)

    # Probe.

    async def _probe(self) -> list[Participant]:
        sql = f"{_PROBE}({lock_key(self.transaction)}::pg_catalog.int8)"
        found = await each(self._ask(connection, sql) for connection in self._connections)
        return [participant for participant in found if participant is not None]

    async def _ask(self, connection: Connection, sql: str) -> Participant | None:
        row = await in_time(connection, connection.fetch_row(sql, 8), self._limits.prepare, "answer")
        xid, clock, isolation, read_only, synchronous, temporary, holdable, _ = row
        self._serializable |= isolation == b"serializable"
        frozen = read_only == b"on"
        # In a read-only transaction an id means temporary tables, or a question for the id, unless it became so late.
        if xid is None or clock is None or (frozen and not await self._wrote(connection)):
            self._readers.append(connection)
            return None
        return Participant(
            connection,
            xid.decode(),
            float(clock),
            awkward=temporary != b"0" or holdable == b"t",
            asynchronous=synchronous == b"off",
            frozen=frozen,
        )

    async def _wrote(self, connection: Connection) -> bool:
        [wrote] = await in_time(connection, connection.fetch_row(_WROTE, 1), self._limits.prepare, "answer")
        return wrote == b"t"

    async def _name(self, anchor: Participant, others: Sequence[Participant]) -> None:
        anchor.identity = await self._keeper.identity(anchor.connection.address)
        for one in others:
            one.identity = await self._keeper.identity(one.connection.address)
            one.gid = str(Gid(anchor.identity, self.transaction, one.identity))

    # Prepare.

    async def _prepare(self, anchor: Participant, others: Sequence[Participant]) -> None:
        await each([self._ready_anchor(anchor), *(self._prepare_one(one) for one in others)])

    async def _ready_anchor(self, anchor: Participant) -> None:
        # The deferred triggers first, under the client's role; the decision is written under the dsn's own.
        # Whatever the client asked of its own durability, the others rely on the anchor's commit.
        durable = "; SET LOCAL synchronous_commit = 'on'" if anchor.asynchronous else ""
        sql = f"SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL ROLE NONE{durable}"
        await in_time(anchor.connection, anchor.connection.execute(sql), self._limits.prepare, "prepare")

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
        """End a backend that was lost in PREPARE, if that is quickly done; return the error to report.

        Its locks are gone then when the client tries again, and it is known whether it waited for somebody else's.
        """

        async def end(control: "Control") -> bool:
            waited = await fence(control, one.connection.pid, one.clock)
            # The decision will not be written behind an error here.
            await finish(control, one.gid, "abort")
            return waited

        try:
            async with asyncio.timeout(FENCE_PATIENCE):
                waited = await persist(one.connection.address, time.monotonic() + FENCE_PATIENCE, end)
        except (PgError, TimeoutError):
            return error
        one.fenced = True
        if not waited:
            return error
        return PgError(
            DEADLOCK_DETECTED,
            f'shard "{one.name}" waited for a lock when its time to prepare was over',
            detail="PostgreSQL cannot see a deadlock between its servers, so it is taken for one.",
            hint="The transaction is rolled back and might succeed if retried.",
        )

    async def _abort(self, others: Sequence[Participant]) -> None:
        """Undo what is prepared. What cannot be undone now is the keeper's; nobody can decide 'commit' any more."""

        async def undo(one: Participant) -> None:
            connection = one.connection
            if one.prepared:
                sql = f"ROLLBACK PREPARED '{one.gid}'"
                try:
                    await in_time(connection, connection.execute(sql), self._limits.commit, "roll back")
                except PgError as error:
                    log.warning('ROLLBACK PREPARED of %s on shard "%s" failed: %s', one.gid, one.name, error)
                    self._keeper.in_limbo(connection.address, connection.pid, one.clock, one.gid)
            elif not connection.usable and not one.fenced:
                self._keeper.in_limbo(connection.address, connection.pid, one.clock, one.gid)

        await each(undo(one) for one in others)

    # Decide.

    async def _decide(self, anchor: Participant, others: Sequence[Participant]) -> None:
        connection = anchor.connection
        identities = [anchor.identity, *(one.identity for one in others)]
        before = anchor.clock + self._limits.decide
        sql = decide_sql(anchor.identity, self._stem(anchor), identities, before)
        single_shard.refuse_lost(connection)
        begun = time.monotonic()
        try:
            tag = await in_time(connection, connection.execute(sql), self._limits.commit, "commit")
        except PgError as error:
            if connection.usable:
                # The server has answered to the end: nothing is committed.
                raise self._refused(anchor, error) from error
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
            return await arbitrate(control, self._stem(anchor), before)

        try:
            outcome = await persist(connection.address, deadline, ask)
        except PgError as error:
            raise single_shard.unknown(anchor.name, error) from lost
        log.warning('decision of %s read back from shard "%s": %s', self.transaction, anchor.name, outcome)
        if outcome is None:
            raise single_shard.unknown(anchor.name, lost)
        if outcome == "abort":
            raise single_shard.as_lost(connection, lost) from lost

    def _refused(self, anchor: Participant, error: PgError) -> PgError:
        """Return what to tell the client when the anchor would not write the decision or commit."""
        about = (error.fields.get("s"), error.fields.get("t"))
        if about == ("shardproxy", "decisions"):
            if error.sqlstate == UNIQUE_VIOLATION:
                return PgError(
                    SERIALIZATION_FAILURE,
                    "the transaction was rolled back by recovery before it could commit",
                    detail="It took longer to prepare than its committer was given.",
                    hint="The transaction might succeed if retried.",
                )
            if error.sqlstate == NOT_NULL_VIOLATION:
                self._keeper.forget_identity(anchor.connection.address)
                return PgError(
                    OBJECT_NOT_IN_PREREQUISITE_STATE,
                    f'the decision could not be written on shard "{anchor.name}"',
                    detail="The shard is not the one that it was, or the transaction took too long to prepare.",
                    hint="The transaction is rolled back and might succeed if retried.",
                )
        if error.sqlstate in {UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE}:
            self._keeper.forget_identity(anchor.connection.address)
            return not_set_up(anchor.name, anchor.connection.address.user, error.message)
        return error

    # Complete.

    async def _complete(self, anchor: Participant, others: Sequence[Participant]) -> list[PgError]:
        decided = self._stem(anchor)
        found = await each([*(self._commit_prepared(one, decided) for one in others)])
        warnings = [warning for warning in found if warning is not None]
        if not warnings:
            self._keeper.confirmed(anchor.connection.address, decided)
        return warnings + await self._end_readers()

    async def _commit_prepared(self, one: Participant, decided: str) -> PgError | None:
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
            self._keeper.unfinished(decided, [one.name])
            log.warning('COMMIT PREPARED of %s on shard "%s" is left to recovery: %s', one.gid, one.name, error)
            return PgError(
                WARNING,
                f'the transaction is committed, but shard "{one.name}" has not confirmed it yet',
                severity="WARNING",
                detail=cause.message,
                hint="Recovery will complete it as soon as the shard answers; until then its rows are not visible.",
            )
        if status == "aborted":
            log.error('prepared transaction %s on shard "%s" was rolled back by somebody else', one.gid, one.name)
            return PgError(
                WARNING,
                f'the transaction is committed, but somebody has rolled back its part on shard "{one.name}"',
                severity="WARNING",
                detail=f'Prepared transaction "{one.gid}" was ended by hand.',
                hint="Repair the rows of that shard.",
            )
        return None

    async def _end_readers(self) -> list[PgError]:
        """Commit where nothing was written. It can lose no data, so a failure is a warning."""

        async def end(connection: Connection) -> PgError | None:
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

        found = await each(end(connection) for connection in self._readers)
        return [warning for warning in found if warning is not None]

    async def _end_reader(self, connection: Connection) -> None:
        await in_time(connection, connection.execute("COMMIT"), self._limits.commit, "commit")
        if connection.status != IDLE:
            raise PgError(TRANSACTION_ROLLBACK, f'shard "{connection.name}" did not end the transaction')
