"""What the shards have said of a COPY's table, and what is kept of it for the next COPY.

A look is a large query of the catalogs. So what it has found is kept for a short while, and a COPY that begins on a
shard sends a guard first: it takes the lock that COPY takes itself and asks for the table's fingerprint. As long as
that is the one of the look, the look holds, and goes on holding up to the end of the transaction.
"""

import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing import Resolved
from shardproxy.routing.relation import Relation
from shardproxy.session.name_cache import KEEP
from shardproxy.session.portals import next_number, shard_name
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INSUFFICIENT_PRIVILEGE, INVALID_SCHEMA_NAME, UNDEFINED_TABLE, WRONG_OBJECT_TYPE

KEPT: Final = 1000
"""Looks that are kept, the latest."""

LOCKABLE: Final = frozenset({"r", "p"})
"""The relkinds of tables, partitioned or not: COPY FROM locks these as LOCK TABLE does."""

NOT_GUARDED: Final = frozenset({INSUFFICIENT_PRIVILEGE, INVALID_SCHEMA_NAME, UNDEFINED_TABLE, WRONG_OBJECT_TYPE})
"""Refusals of LOCK TABLE that say nothing of COPY: it needs no more than the privilege for its columns."""


class Changed(Exception):  # noqa: N818 - no failure: the COPY begins anew
    """The table is not the one that was looked at, or cannot be guarded."""

    def __init__(self, refusal: PgError | None = None) -> None:
        super().__init__()
        self.refusal = refusal
        """Why it cannot be guarded."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a shard has said of a COPY's table, and of how it could commit (`Database.check_readiness`)."""

    relation: Relation | None
    readiness: Sequence[bytes | None]
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """What a COPY's shard is asked, in front of the COPY, and what each shard has to answer."""

    question: "Question"
    fingerprints: Mapping[int, bytes | None]

    def before(self, sql: bytes, shard: int, whole: bool) -> bytes:
        """Return a COPY after what its shard is asked, in one Query: where BEGIN fails, COPY must not run.

        `whole` for a COPY that commits by itself, before the answer could be looked at.
        """
        asked = self.question.sql
        if whole:
            asked = self.question.asserting(self.fingerprints[shard] or b"")
        return b"%s\n;\n%s" % (asked, sql)


@dataclass(frozen=True, slots=True)
class Question:
    """The lock that COPY takes, and the question for a table's fingerprint, which each connection prepares once.

    To plan it would take a server three times as long as to answer it.
    """

    lock: bytes
    fingerprint: bytes
    number: int = field(default_factory=next_number)
    name: bytes = field(init=False)
    """The prepared statement's."""
    sql: bytes = field(init=False)
    """What is sent in front of a COPY, after `prepare`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", shard_name(self.number))
        object.__setattr__(self, "sql", b"%s; EXECUTE %s(NULL)" % (self.lock, self.name))

    def asserting(self, fingerprint: bytes) -> bytes:
        """Return `sql` that fails if the table has another fingerprint, so that nothing after it is done."""
        return b"%s; EXECUTE %s('%s')" % (self.lock, self.name, fingerprint)

    def prepare(self, connection: Connection) -> None:
        """See that a connection can be sent `sql`."""
        connection.prepare(self.name, self.number, self.fingerprint)


@dataclass(frozen=True, slots=True)
class Looked:
    """A sharded table as all shards have it."""

    looks: Mapping[int, Look]
    resolved: Resolved
    guard: Guard


class Looks:
    """What has been found lately, by whatever a name's meaning depends on."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, tuple[float, Looked]] = OrderedDict()
        self._questions: dict[catalog.Name, Question] = {}  # of listed tables: as many as there are

    def get(self, key: Hashable) -> Looked | None:
        """Return what was found lately."""
        until, looked = self._found.get(key, (0.0, None))
        return looked if until >= time.monotonic() else None

    def keep(self, key: Hashable, looked: Looked, since: float) -> None:
        """Keep what was asked for at `since` (time.monotonic)."""
        self._found[key] = since + KEEP, looked
        self._found.move_to_end(key)
        if len(self._found) > KEPT:
            self._found.popitem(last=False)

    def question(self, name: catalog.Name) -> Question:
        """Return what is asked about a listed table; the same for ever, since connections have it prepared."""
        question = self._questions.get(name)
        if question is None:
            lock, fingerprint = (one.encode("utf-8", "surrogateescape") for one in catalog.guard_sql(name))
            question = self._questions[name] = Question(lock, fingerprint)
        return question

    def drop(self, key: Hashable) -> None:
        """Forget one."""
        self._found.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
