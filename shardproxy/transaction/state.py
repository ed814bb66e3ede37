"""The client's transaction over the shards: who has joined, which savepoints stand, which settings hold.

No I/O here. A shard joins a transaction when a statement first touches it; it is then brought to the same state
as the others by replaying `log`: BEGIN with its options, the savepoints, the settings changed since. Settings
that hold for the session are in `settings`, and are replayed to each new connection.

States, as ReadyForQuery names them:

    IDLE   --begin-->      ACTIVE     (explicit: the client's BEGIN; implicit: one statement, or one Query or
                                       extended batch of several, which commits by itself)
    ACTIVE --fail-->       FAILED     (only ROLLBACK, ROLLBACK TO and COMMIT, which rolls back, are taken; without
                                       a savepoint the shards have rolled back already)
    FAILED --rollback_to--> ACTIVE
    ACTIVE, FAILED --end--> IDLE
"""

import re
from dataclasses import dataclass, field

from shardproxy.errors import PgError
from shardproxy.sqlstate import IN_FAILED_SQL_TRANSACTION, INVALID_SAVEPOINT_SPECIFICATION

IDLE = b"I"
ACTIVE = b"T"
FAILED = b"E"


_PLAIN = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
"""A setting's name that RESET takes as it is; what a set_config() may be about is none."""


@dataclass(slots=True)
class Entry:
    """A statement that a joining shard replays: a savepoint has a name, a session setting the name it sets."""

    sql: bytes
    savepoint: str | None = None
    setting: str | None = None
    local: bool = False


@dataclass(slots=True)
class Transaction:
    """The state of one session's transaction; see the module's table."""

    state: bytes = IDLE
    implicit: bool = False
    doomed: bool = False  # a participant's connection was lost: its part cannot come back
    defined: bool = False  # it has changed a definition, which others see when it commits
    log: list[Entry] = field(default_factory=list)
    settings: list[Entry] = field(default_factory=list)
    joined: set[int] = field(default_factory=set)

    @property
    def open(self) -> bool:
        """Whether a transaction, also a failed one, is open."""
        return self.state != IDLE

    @property
    def has_set(self) -> bool:
        """Whether it has changed settings, which its end may change back."""
        return any(entry.setting is not None for entry in self.log)

    @property
    def has_savepoints(self) -> bool:
        """Whether a failed transaction could be taken up again."""
        return any(entry.savepoint is not None for entry in self.log)

    @property
    def ready_status(self) -> bytes:
        """What ReadyForQuery says: an implicit transaction is none to the client."""
        return IDLE if self.implicit else self.state

    def begin(self, sql: bytes = b"BEGIN", *, implicit: bool = False) -> None:
        """Open a transaction; no shard has joined yet. On an implicit one: make it the client's own."""
        if self.state != IDLE:
            if self.implicit and not implicit and not self.joined and len(self.log) == 1:
                self.log = [Entry(sql)]  # for the options of the client's BEGIN
            self.implicit = self.implicit and implicit
            return
        self.state = ACTIVE
        self.implicit = implicit
        self.doomed = False
        self.defined = False
        self.log = [Entry(sql)]
        self.joined = set()

    def fail(self) -> None:
        """A statement failed inside the transaction."""
        if self.state != IDLE:
            self.state = FAILED

    def check(self) -> None:
        """Refuse a statement in a failed transaction, in PostgreSQL's words."""
        if self.state == FAILED:
            raise PgError(
                IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )

    def savepoint(self, name: str, sql: bytes) -> None:
        """Note a savepoint that all joined shards have."""
        self.log.append(Entry(sql, savepoint=name))

    def find_savepoint(self, name: str) -> int:
        """Return the place of the latest savepoint of that name, or raise 3B001."""
        for at in range(len(self.log) - 1, -1, -1):
            if self.log[at].savepoint == name:
                return at
        raise PgError(INVALID_SAVEPOINT_SPECIFICATION, f'savepoint "{name}" does not exist')

    def release(self, name: str) -> None:
        """Forget the savepoint and those behind it; what was set since stays."""
        at = self.find_savepoint(name)
        self.log[at:] = [entry for entry in self.log[at:] if entry.savepoint is None]

    def rollback_to(self, name: str) -> None:
        """Take back all that came behind the savepoint."""
        at = self.find_savepoint(name)
        del self.log[at + 1 :]
        self.state = ACTIVE

    def set(self, sql: bytes, name: str | None, *, local: bool) -> None:
        """Note a SET or RESET that all connections have run; name None stands for all settings."""
        entry = Entry(sql, setting=name or "all", local=local)
        if self.state == IDLE:
            if not local:
                self._keep(entry)
        else:
            self.log.append(entry)

    def end(self, *, committed: bool) -> None:
        """Close the transaction: what it set holds from now on, or never did."""
        if committed:
            for entry in self.log:
                if entry.setting is not None and not entry.local:
                    self._keep(entry)
        self.state = IDLE
        self.implicit = False
        self.doomed = False
        self.defined = False
        self.log = []
        self.joined = set()

    def _keep(self, entry: Entry) -> None:
        if entry.setting == "all":
            # RESET ALL and DISCARD ALL bring back what the start-up message asked for.
            self.settings.clear()
            return
        self.settings = [kept for kept in self.settings if kept.setting != entry.setting]
        self.settings.append(entry)

    def joining_sql(self) -> bytes:
        """Return the statements that bring a shard into the transaction."""
        return _script(self.log)

    def restoring_sql(self) -> bytes:
        """Return the statements that give the session's settings back what the open transaction has set; may be empty.

        For a commit that has failed: a shard that had prepared takes the settings for lasting.
        """
        names = {entry.setting for entry in self.log if entry.setting is not None and not entry.local}
        if not names:
            return b""
        plain = [name for name in sorted(names) if _PLAIN.fullmatch(name) and name != "all"]
        resets = [Entry(f"RESET {name}".encode()) for name in plain]
        if len(plain) < len(names):
            return _script([*resets, Entry(b"RESET ALL"), *self.settings])
        return _script(resets + [entry for entry in self.settings if entry.setting in names])

    def settings_sql(self) -> bytes:
        """Return the statements that bring a new connection to the session's settings; may be empty."""
        return _script(self.settings)


def _script(entries: list[Entry]) -> bytes:
    # A newline in front of the semicolon, because a client's statement may end in a comment.
    return b"\n;\n".join(entry.sql for entry in entries)
