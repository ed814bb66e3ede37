"""The table of a transaction's states: every entry walked, and what is kept and forgotten on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shardproxy.errors import PgError
from shardproxy.transaction.state import TRANSITIONS, Event, RefusedEvent, State, Transaction, markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "architecture.md"


def idle() -> Transaction:
    transaction = Transaction()
    transaction.begin(b"BEGIN")
    transaction.end(committed=True)
    return transaction


def implicit() -> Transaction:
    transaction = Transaction()
    transaction.begin(implicit=True)
    return transaction


def active() -> Transaction:
    transaction = Transaction()
    transaction.begin(b"BEGIN")
    transaction.savepoint("a", b"SAVEPOINT a")
    return transaction


def failed() -> Transaction:
    transaction = active()
    transaction.fail()
    return transaction


def lasting(transaction: Transaction) -> list[bytes]:
    """The statements that give a new connection the session's settings."""
    return [entry.sql for entry in transaction.settings]


IN_STATE = {State.IDLE: idle, State.IMPLICIT: implicit, State.ACTIVE: active, State.FAILED: failed}

ACTIONS: dict[Event, Callable[[Transaction], None]] = {
    Event.BEGIN: Transaction.begin,
    Event.BEGIN_IMPLICIT: lambda transaction: transaction.begin(implicit=True),
    Event.STATEMENT: Transaction.check,
    Event.ERROR: Transaction.fail,
    Event.SAVEPOINT: lambda transaction: transaction.savepoint("b", b"SAVEPOINT b"),
    Event.RELEASE: lambda transaction: transaction.release("a"),
    Event.ROLLBACK_TO: lambda transaction: transaction.rollback_to("a"),
    Event.COMMIT: lambda transaction: transaction.end(committed=True),
    Event.ROLLBACK: lambda transaction: transaction.end(committed=False),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_transition(event: Event, state: State) -> None:
    transaction = IN_STATE[state]()
    assert transaction.state is state
    outcome = TRANSITIONS[event][state]
    if isinstance(outcome, State):
        assert transaction.after(event) is outcome
        ACTIONS[event](transaction)
        assert transaction.state is outcome
        assert transaction.open == (outcome is not State.IDLE)
        return
    with pytest.raises(PgError) as caught:
        ACTIONS[event](transaction)
    assert (caught.value.sqlstate, caught.value.message) == (outcome.sqlstate, outcome.message)
    assert transaction.state is state


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert all(set(row) == set(State) for row in TRANSITIONS.values())


def test_every_state_is_reached_and_left() -> None:
    for state in State:
        reached = {row[before] for row in TRANSITIONS.values() for before in State if before is not state}
        assert state in reached
        assert any(isinstance(row[state], State) and row[state] is not state for row in TRANSITIONS.values())


def test_what_a_failed_transaction_takes() -> None:
    """PostgreSQL's list: COMMIT, ROLLBACK and ROLLBACK TO, and no event but an error that goes nowhere."""
    taken = {event for event, row in TRANSITIONS.items() if not isinstance(row[State.FAILED], RefusedEvent)}
    assert taken == {Event.COMMIT, Event.ROLLBACK, Event.ROLLBACK_TO, Event.ERROR}


@pytest.mark.parametrize(
    ("state", "status"), [(State.IDLE, b"I"), (State.IMPLICIT, b"I"), (State.ACTIVE, b"T"), (State.FAILED, b"E")]
)
def test_ready_for_query(state: State, status: bytes) -> None:
    assert IN_STATE[state]().ready_status == status


def test_the_document_has_the_table() -> None:
    assert "\n".join(markdown()) in DOCUMENT.read_text("utf-8"), "put the lines of markdown() there"


def test_begin_on_an_implicit_transaction() -> None:
    """Its options count as long as no shard is in it; then it is too late, as in PostgreSQL."""
    transaction = implicit()
    transaction.begin(b"BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert transaction.joining_sql() == b"BEGIN ISOLATION LEVEL SERIALIZABLE"
    transaction = implicit()
    transaction.joined.add(1)
    transaction.begin(b"BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert transaction.joining_sql() == b"BEGIN"
    assert transaction.joined == {1}


@pytest.mark.parametrize("committed", [True, False])
def test_the_end_forgets_all_but_settings(committed: bool) -> None:
    transaction = active()
    transaction.set(b"SET DateStyle = German", "datestyle", local=False)
    transaction.set(b"SET LOCAL work_mem = '1MB'", "work_mem", local=True)
    transaction.joined.add(0)
    transaction.doomed = transaction.defined = True
    assert (transaction.has_set, transaction.has_savepoints) == (True, True)
    transaction.end(committed=committed)
    assert transaction == Transaction(settings=transaction.settings)
    assert lasting(transaction) == ([b"SET DateStyle = German"] if committed else [])


def test_a_failed_implicit_transaction_forgets_all() -> None:
    transaction = implicit()
    transaction.set(b"SET a.b = 1", "a.b", local=False)
    transaction.fail()
    assert transaction == Transaction()


def test_set_outside_of_a_transaction() -> None:
    transaction = Transaction()
    transaction.set(b"SET LOCAL work_mem = '1MB'", "work_mem", local=True)
    assert lasting(transaction) == []
    transaction.set(b"SET a.b = 1", "a.b", local=False)
    transaction.set(b"SET a.c = 1 -- why", "a.c", local=False)
    transaction.set(b"SET a.b = 2", "a.b", local=False)
    assert lasting(transaction) == [b"SET a.c = 1 -- why", b"SET a.b = 2"]
    transaction.set(b"RESET ALL", None, local=False)
    assert lasting(transaction) == []


def test_what_a_failed_commit_restores() -> None:
    """A shard that had prepared keeps what the transaction has set: the session's values are set there again."""
    transaction = Transaction()
    assert transaction.restoring_sql() == b""
    transaction.set(b"SET a.b = 1", "a.b", local=False)
    transaction.set(b"SET a.c = 1", "a.c", local=False)
    transaction.begin()
    transaction.set(b"SET LOCAL a.c = 2", "a.c", local=True)
    assert transaction.restoring_sql() == b""
    transaction.set(b"SET a.b = 2", "a.b", local=False)
    transaction.set(b"SET work_mem = '1MB'", "work_mem", local=False)
    assert transaction.restoring_sql() == b"RESET a.b\n;\nRESET work_mem\n;\nSET a.b = 1"
    # What set_config() was about is not known: all is set again.
    transaction.set(b"SELECT set_config(x, '1', false) FROM t", "SELECT set_config(x, ...", local=False)
    assert transaction.restoring_sql() == (
        b"RESET a.b\n;\nRESET work_mem\n;\nRESET ALL\n;\nSET a.b = 1\n;\nSET a.c = 1"
    )


@pytest.mark.parametrize(
    ("end", "undone"),
    [
        (lambda one: one.end(committed=True), []),
        (lambda one: one.end(committed=False), ["first", "second", "third"]),
        (lambda one: one.rollback_to("b"), ["third"]),
        (lambda one: one.rollback_to("a"), ["second", "third"]),
        (lambda one: (one.release("b"), one.rollback_to("a")), ["second", "third"]),
        (lambda one: (one.release("a"), one.savepoint("c", b""), one.rollback_to("c")), []),
        (lambda one: (one.release("a"), one.end(committed=False)), ["first", "second", "third"]),
        (lambda one: (one.rollback_to("b"), one.end(committed=False)), ["third", "first", "second"]),
        (lambda one: (one.fail(), one.rollback_to("b")), ["third"]),
        (lambda one: (one.keep_outside(), one.end(committed=False)), []),
    ],
)
def test_what_is_outside_the_shards_goes_with_its_transaction(
    end: Callable[[Transaction], object], undone: list[str]
) -> None:
    transaction, found = Transaction(), list[str]()
    transaction.begin()
    transaction.when_undone(lambda: found.append("first"))
    transaction.savepoint("a", b"SAVEPOINT a")
    transaction.when_undone(lambda: found.append("second"))
    transaction.savepoint("b", b"SAVEPOINT b")
    transaction.when_undone(lambda: found.append("third"))
    end(transaction)
    assert found == undone
