"""What the shards have said of a COPY's table, and what is kept of it for the next COPY. No I/O.

A look is a large query of the catalogs. So what it has found is kept for a short while, and a COPY that begins on a
shard sends a guard first: it takes the lock that COPY takes itself and asks for the table's fingerprint. As long as
that is the one of the look, the look holds, and goes on holding up to the end of the transaction.
"""

import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing import Resolved
from shardproxy.routing.relation import Relation
from shardproxy.session.name_cache import KEEP
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

    sql: bytes
    fingerprints: Mapping[int, bytes | None]


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

    def drop(self, key: Hashable) -> None:
        """Forget one."""
        self._found.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
