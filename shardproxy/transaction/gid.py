"""Global transaction identifiers (gids), and the lock that a committer holds. No I/O.

    shardproxy_<anchor>_<transaction>_<participant>       109 bytes; PostgreSQL takes up to 199

Anchor and participant are identities: a random id that each shard keeps in `shardproxy.identity`. So a gid leads
to the shard that has the decision whatever the configuration calls it or in which order it lists the shards, and
a gid whose anchor is none of ours is not ours. The part up to the transaction is the key of the decision.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Self

PREFIX = "shardproxy_"

_GID = re.compile(r"shardproxy_(?P<anchor>[0-9a-f]{32})_(?P<transaction>[0-9a-f]{32})_(?P<participant>[0-9a-f]{32})")


def new_transaction() -> str:
    """Return a transaction identifier that no other proxy will choose, nor any client guess."""
    return secrets.token_hex(16)


def lock_key(transaction: str) -> int:
    """Return the advisory lock that the committer's anchor session holds until the transaction is decided."""
    return int(transaction[:16], 16) - (1 << 63)


@dataclass(frozen=True, slots=True)
class Gid:
    """The global identifier of one participant's prepared transaction."""

    anchor: str
    transaction: str
    participant: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a gid; None for one that no shardproxy made."""
        match = _GID.fullmatch(text)
        return cls(**match.groupdict()) if match is not None else None

    @property
    def decision_key(self) -> str:
        """The key of the decision: the part that the gids of all participants share."""
        return decision_key(self.anchor, self.transaction)

    def __str__(self) -> str:
        return f"{self.decision_key}_{self.participant}"


def decision_key(anchor: str, transaction: str) -> str:
    """Return the key of a transaction's decision, with which all its gids begin."""
    return f"{PREFIX}{anchor}_{transaction}"


def transaction_of(key: str) -> str:
    """Return the transaction identifier in a decision key."""
    return key.rpartition("_")[2]
