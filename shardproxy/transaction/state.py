"""The state of a session's transaction over the shards: one table, and what a shard has to run to join it. No I/O.

`TRANSITIONS` is the state machine: what each event makes of each state, or the error that refuses it. The methods of
`Transaction` are its events. The documentation's table is `markdown()`, and the tests walk every entry.

A shard joins a transaction when a statement first touches it. It is then brought to the state of the others by
`joining_sql`: BEGIN with its options, the savepoints, the settings changed since (`savepoints.Log`). Settings that
hold for the session (`settings.SessionSettings`) are replayed on each new connection.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from shardproxy.errors import PgError
from shardproxy.sqlstate import IN_FAILED_SQL_TRANSACTION, NO_ACTIVE_SQL_TRANSACTION
from shardproxy.transaction.savepoints import Entry, Log
from shardproxy.transaction.settings import ALL, EVERYTHING, SessionSettings


class State(Enum):
    """The states of a transaction."""

    __hash__ = object.__hash__  # Enum's own is a Python function, and looks a name up

    IDLE = "none"
    IMPLICIT = "the proxy's own: it commits by itself at the end of the Query, or at Sync"
    ACTIVE = "the client's"
    FAILED = "the client's, after an error"

    @property
    def ready_status(self) -> bytes:
        """The transaction status of ReadyForQuery: to the client an implicit transaction is none."""
        return _READY_STATUS[self]


_READY_STATUS = {State.IDLE: b"I", State.IMPLICIT: b"I", State.ACTIVE: b"T", State.FAILED: b"E"}


class Event(Enum):
    """What happens to a transaction."""

    __hash__ = object.__hash__

    BEGIN = "BEGIN"
    BEGIN_IMPLICIT = "a statement, or several, that must be one transaction"
    STATEMENT = "a statement"
    ERROR = "an error"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE SAVEPOINT"
    ROLLBACK_TO = "ROLLBACK TO SAVEPOINT"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that is refused, in PostgreSQL's words; the state stays."""

    sqlstate: str
    message: str


IDLE, IMPLICIT, ACTIVE, FAILED = State.IDLE, State.IMPLICIT, State.ACTIVE, State.FAILED

_ABORTED = RefusedEvent(
    IN_FAILED_SQL_TRANSACTION, "current transaction is aborted, commands ignored until end of transaction block"
)


def _no_block(event: Event) -> RefusedEvent:
    return RefusedEvent(NO_ACTIVE_SQL_TRANSACTION, f"{event.value} can only be used in transaction blocks")


TRANSITIONS: dict[Event, dict[State, State | RefusedEvent]] = {
    # On an implicit transaction BEGIN makes what has been done in it part of the client's own.
    Event.BEGIN: {IDLE: ACTIVE, IMPLICIT: ACTIVE, ACTIVE: ACTIVE, FAILED: _ABORTED},
    Event.BEGIN_IMPLICIT: {IDLE: IMPLICIT, IMPLICIT: IMPLICIT, ACTIVE: ACTIVE, FAILED: _ABORTED},
    Event.STATEMENT: {IDLE: IDLE, IMPLICIT: IMPLICIT, ACTIVE: ACTIVE, FAILED: _ABORTED},
    # An implicit transaction is rolled back on the shards as well, by the caller.
    Event.ERROR: {IDLE: IDLE, IMPLICIT: IDLE, ACTIVE: FAILED, FAILED: FAILED},
    Event.SAVEPOINT: {
        IDLE: _no_block(Event.SAVEPOINT),
        IMPLICIT: _no_block(Event.SAVEPOINT),
        ACTIVE: ACTIVE,
        FAILED: _ABORTED,
    },
    Event.RELEASE: {
        IDLE: _no_block(Event.RELEASE),
        IMPLICIT: _no_block(Event.RELEASE),
        ACTIVE: ACTIVE,
        FAILED: _ABORTED,
    },
    Event.ROLLBACK_TO: {
        IDLE: _no_block(Event.ROLLBACK_TO),
        IMPLICIT: _no_block(Event.ROLLBACK_TO),
        ACTIVE: ACTIVE,
        FAILED: ACTIVE,
    },
    # On a failed transaction COMMIT rolls back; without one both are a WARNING, which is the caller's.
    Event.COMMIT: {IDLE: IDLE, IMPLICIT: IDLE, ACTIVE: IDLE, FAILED: IDLE},
    Event.ROLLBACK: {IDLE: IDLE, IMPLICIT: IDLE, ACTIVE: IDLE, FAILED: IDLE},
}
"""For each event, what it makes of each state. An entry that is missing is a defect; a test looks for it."""


def markdown() -> Iterator[str]:
    """Yield the table as the documentation has it."""
    yield "| event | " + " | ".join(state.name for state in State) + " |"
    yield "|---" * (len(State) + 1) + "|"
    yield "| *ReadyForQuery* | " + " | ".join(state.ready_status.decode() for state in State) + " |"
    for event, row in TRANSITIONS.items():
        yield f"| {event.value} | " + " | ".join(_cell(row[state]) for state in State) + " |"


def _cell(outcome: State | RefusedEvent) -> str:
    return outcome.name if isinstance(outcome, State) else f"error {outcome.sqlstate}"


@dataclass(slots=True)
class Transaction:
    """The transaction of one session."""

    state: State = IDLE
    doomed: bool = False
    """A participant's connection was lost: its part cannot come back."""
    defined: bool = False
    """It has changed a definition, which others see when it commits."""
    deferring: bool = False
    """It has run SET CONSTRAINTS ... DEFERRED, or may have."""
    definitions: int | None = None
    """How often definitions had changed when it began, or changed them itself last; None if none is open."""
    log: Log = field(default_factory=Log)
    settings: SessionSettings = field(default_factory=SessionSettings)
    joined: set[int] = field(default_factory=set)
    """The numbers of the shards that are in it."""
    leader: int = -1
    """The one that was the first to be."""
    _outside: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    """What takes back things outside the shards, and how many savepoints stood before each was done."""

    @property
    def open(self) -> bool:
        """Whether a transaction, also a failed one, is open."""
        return self.state is not IDLE

    @property
    def implicit(self) -> bool:
        """Whether the open transaction is the proxy's own, which the client does not know of."""
        return self.state is IMPLICIT

    @property
    def ready_status(self) -> bytes:
        """The transaction status of ReadyForQuery."""
        return self.state.ready_status

    @property
    def has_set(self) -> bool:
        """Whether it has changed settings, which its end may change back."""
        return self.log.has_set

    @property
    def has_savepoints(self) -> bool:
        """Whether a failed transaction could be taken up again."""
        return self.log.has_savepoints

    def after(self, event: Event) -> State:
        """Return the state that an event leads to; raise the error that refuses it. Changes nothing."""
        outcome = TRANSITIONS[event][self.state]
        if isinstance(outcome, RefusedEvent):
            raise PgError(outcome.sqlstate, outcome.message)
        return outcome

    def check(self) -> None:
        """Refuse a statement in a failed transaction."""
        self.after(Event.STATEMENT)

    def begin(self, sql: bytes = b"BEGIN", *, implicit: bool = False) -> None:
        """Open a transaction, with no shard in it yet. On an implicit one: make it the client's own."""
        before = self.state
        self.state = self.after(Event.BEGIN_IMPLICIT if implicit else Event.BEGIN)
        if before is IDLE:
            self._clear()
            self.log = Log([Entry(sql)])
        elif before is IMPLICIT and self.state is ACTIVE and not self.joined and len(self.log) == 1:
            self.log = Log([Entry(sql)])  # for the options of the client's BEGIN

    def chain(self, entries: list[Entry]) -> None:
        """Open the transaction that AND CHAIN begins: with what `Log.chained` has told of the one before."""
        self.begin()
        self.log = Log(entries, given=len(entries))

    def fail(self) -> None:
        """Note that a statement has failed."""
        self.state = self.after(Event.ERROR)
        if self.state is IDLE:
            self._undo(0)
            self._clear()

    def join(self, shard: int) -> None:
        """A shard takes part from now on."""
        self.leader = self.leader if self.joined else shard
        self.joined.add(shard)

    def savepoint(self, name: str, sql: bytes) -> None:
        """Note a savepoint that all joined shards have."""
        self.state = self.after(Event.SAVEPOINT)
        self.log.savepoint(name, sql)

    def find_savepoint(self, name: str) -> int:
        """Return the place of the latest savepoint of that name, or raise 3B001."""
        return self.log.find(name)

    def release(self, name: str) -> None:
        """Forget the savepoint and those after it; what was set since stays."""
        state = self.after(Event.RELEASE)
        self.log.release(name)
        self._outside = [(min(depth, self.log.depth), undo) for depth, undo in self._outside]
        self.state = state

    def rollback_to(self, name: str) -> None:
        """Take back all that came after the savepoint."""
        state = self.after(Event.ROLLBACK_TO)
        self.log.rollback_to(name)
        self._undo(self.log.depth)
        self.state = state

    def set(self, sql: bytes, name: str | None, *, local: bool) -> None:
        """Note a SET or RESET that all connections have run; `name` is that of `routing.Settings`."""
        entry = Entry(sql, setting=name or EVERYTHING, local=local)
        if self.open:
            self.log.add(entry)
        elif not local:
            self.settings.keep(entry)

    def end(self, *, committed: bool) -> None:
        """Close the transaction: what it set holds from now on, or never did."""
        self.state = self.after(Event.COMMIT if committed else Event.ROLLBACK)
        if committed:
            for entry in self.log.lasting_settings():
                self.settings.keep(entry)
        else:
            self._undo(0)
        self._clear()

    def when_undone(self, undo: Callable[[], None]) -> None:
        """Have something outside the shards taken back, without an error, if what comes with it is rolled back."""
        self._outside.append((self.log.depth, undo))

    def keep_outside(self) -> None:
        """It is not known whether the transaction was committed."""
        self._outside.clear()

    def _undo(self, depth: int) -> None:
        for at, undo in self._outside:
            if at >= depth:
                undo()
        self._outside = [one for one in self._outside if one[0] < depth]

    def _clear(self) -> None:
        self.doomed = False
        self.defined = self.deferring = False
        self.definitions = None
        self.log = Log()
        self.joined = set()
        self._outside.clear()

    def joining_sql(self) -> bytes:
        """Return the statements that bring a shard into the transaction."""
        return self.log.sql()

    def restoring_sql(self) -> bytes:
        """Return the statements that give the session's settings back what the open transaction has set; may be empty.

        For a commit that has failed: a shard that had prepared takes the settings for lasting.
        """
        return self.settings.restoring_sql({entry.setting or ALL for entry in self.log.lasting_settings()})
