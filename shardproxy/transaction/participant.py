"""What a committer asks each shard, and what it knows of the ones that have written. No I/O.

The question, `Probe`, is one row: the transaction's id, a time of the server, and what decides how the participant
can take part. It has to be the last statement before the commit, and it takes the transaction's advisory lock, by
which other proxies' recovery sees that its committer lives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from shardproxy.config import Database
from shardproxy.transaction.gid import lock_key, new_transaction

# Times as numbers: the session's DateStyle and extra_float_digits must not change them.
CLOCK = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::pg_catalog.numeric"

# The function, not the view pg_cursors, which takes the server twice as long to plan.
_PROBE = f"""SELECT pg_catalog.pg_current_xact_id_if_assigned(), {CLOCK},
  pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('transaction_read_only'),
  pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_my_temp_schema(),
  EXISTS (SELECT FROM pg_catalog.pg_cursor() WHERE is_holdable),
  pg_catalog.pg_try_advisory_xact_lock"""

# Whether a transaction that is read-only now has written before it became so: the locks on what it wrote are kept.
WROTE = """SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
    WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
      AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND c.relpersistence IS DISTINCT FROM 't'
      AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}'))"""

Row = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Probe:
    """The question of one commit, the same for all participants."""

    transaction: str = field(default_factory=new_transaction)

    columns = 8

    @property
    def sql(self) -> str:
        """A SELECT of one row of `columns` columns."""
        return f"{_PROBE}({lock_key(self.transaction)}::pg_catalog.int8)"


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What a participant answers to the probe."""

    xid: str | None
    """Its transaction id; None if it has written nothing."""
    clock: float
    """The server's time, in seconds of the epoch."""
    serializable: bool
    read_only: bool
    """With a transaction id: it has temporary tables, was asked for its id, or became read-only after its writes."""
    asynchronous: bool
    """synchronous_commit is off."""
    unpreparable: bool
    """It may have temporary objects or cursors WITH HOLD, which PREPARE TRANSACTION refuses."""

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read the probe's row."""
        xid, clock, isolation, read_only, synchronous, temporary, holdable, _ = row
        return cls(
            xid.decode() if xid is not None else None,
            float(clock or b"0"),
            serializable=isolation == b"serializable",
            read_only=read_only == b"on",
            asynchronous=synchronous == b"off",
            unpreparable=temporary != b"0" or holdable == b"t",
        )


@dataclass(frozen=True, slots=True)
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
        """Return the limits of a configured database."""
        return cls(database.prepare_timeout, database.commit_timeout)
