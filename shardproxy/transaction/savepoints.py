"""What a transaction has run that a shard which joins it later has to run too. No I/O.

The log begins with BEGIN and its options. Savepoints and settings follow in the order in which they were made, so
that ROLLBACK TO takes back the settings made since its savepoint, and RELEASE keeps them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from shardproxy.errors import PgError
from shardproxy.sqlstate import INVALID_SAVEPOINT_SPECIFICATION

CHARACTERISTICS = frozenset({
    "TRANSACTION", "transaction_deferrable", "transaction_isolation", "transaction_read_only",
})  # fmt: skip
"""The settings that are a transaction's own; the first is what SET TRANSACTION sets."""

DEFAULTS: Final = re.compile(r"default_transaction_|^all$|\W")
"""What the name of a setting contains that BEGIN's modes come from; that of an undecided change is its text."""

MODES: Final = b"""SELECT pg_catalog.current_setting('transaction_isolation'),
    pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('transaction_deferrable')"""
"""The query for the modes of a transaction, which `modes_entry` reads."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A statement to replay: a savepoint has a name, a change of a setting the setting's name."""

    sql: bytes
    savepoint: str | None = None
    setting: str | None = None
    local: bool = False
    """The setting ends with the transaction."""


@dataclass(slots=True)
class Log:
    """The statements of one transaction, in order."""

    entries: list[Entry] = field(default_factory=list)
    given: int = 0
    """How many of them AND CHAIN has given to the transaction."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, at: int) -> Entry:
        return self.entries[at]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def has_set(self) -> bool:
        """Whether a setting has been changed."""
        return any(entry.setting is not None for entry in self.entries)

    @property
    def has_savepoints(self) -> bool:
        """Whether a savepoint stands."""
        return any(entry.savepoint is not None for entry in self.entries)

    @property
    def depth(self) -> int:
        """How many savepoints stand."""
        return sum(entry.savepoint is not None for entry in self.entries)

    @property
    def latest_savepoint(self) -> str:
        """The name of the innermost savepoint that stands; there must be one."""
        return next(entry.savepoint for entry in reversed(self.entries) if entry.savepoint is not None)

    def add(self, entry: Entry) -> None:
        """Note a statement."""
        self.entries.append(entry)

    def savepoint(self, name: str, sql: bytes) -> None:
        """Note a savepoint. One of the same name hides an earlier one, which RELEASE brings back."""
        self.add(Entry(sql, savepoint=name))

    def find(self, name: str) -> int:
        """Return the place of the latest savepoint of that name, or raise 3B001."""
        for at in range(len(self.entries) - 1, -1, -1):
            if self.entries[at].savepoint == name:
                return at
        raise PgError(INVALID_SAVEPOINT_SPECIFICATION, f'savepoint "{name}" does not exist')

    def release(self, name: str) -> None:
        """Forget a savepoint and those after it; the settings made since stay."""
        at = self.find(name)
        self.entries[at:] = [entry for entry in self.entries[at:] if entry.savepoint is None]

    def rollback_to(self, name: str) -> None:
        """Forget all that came after a savepoint; itself it stands."""
        del self.entries[self.find(name) + 1 :]

    def lasting_settings(self) -> list[Entry]:
        """Return the changes of settings that outlive the transaction if it commits."""
        return [entry for entry in self.entries if entry.setting is not None and not entry.local]

    def chained(self, *, failed: bool) -> list[Entry]:
        """Return what AND CHAIN begins the next transaction with: BEGIN, and the characteristics set since.

        What has `failed` has lost those of its innermost subtransaction. Without a savepoint these are all but what AND
        CHAIN has given to it.
        """
        kept = len(self.entries)
        if failed:
            savepoints = [at for at, entry in enumerate(self.entries) if entry.savepoint is not None]
            kept = savepoints[-1] if savepoints else self.given
        first, *others = self.entries[:kept] or [Entry(b"BEGIN")]
        return [first, *(entry for entry in others if entry.setting in CHARACTERISTICS)]

    @property
    def moves_defaults(self) -> bool:
        """Whether its commit changes, or may, what a BEGIN means that names no modes."""
        return any(DEFAULTS.search(entry.setting or "") is not None for entry in self.lasting_settings())

    def sql(self) -> bytes:
        """Return the statements as one Query."""
        return script(self.entries)


def modes_entry(row: Sequence[bytes | None]) -> Entry:
    """Return the BEGIN of a transaction with these modes."""
    isolation, read_only, deferrable = row
    access = b"READ ONLY" if read_only == b"on" else b"READ WRITE"
    deferring = b"DEFERRABLE" if deferrable == b"on" else b"NOT DEFERRABLE"
    return Entry(b"BEGIN ISOLATION LEVEL %s, %s, %s" % (isolation or b"", access, deferring))


def script(entries: Iterable[Entry]) -> bytes:
    """Join statements to one Query."""
    # A newline before the semicolon, because a client's statement may end in a comment.
    return b"\n;\n".join(entry.sql for entry in entries)
