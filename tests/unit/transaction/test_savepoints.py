"""What a shard that joins late has to run: the log of a transaction, with savepoints set, released and gone back to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import PgError
from shardproxy.transaction.savepoints import Entry, Log


def log(*words: str) -> Log:
    """A log of BEGIN and `s:NAME` for a savepoint, `x:NAME` for a setting."""
    made = Log([Entry(b"BEGIN")])
    for word in words:
        kind, _, name = word.partition(":")
        if kind == "s":
            made.savepoint(name, b"SAVEPOINT " + name.encode())
        else:
            made.add(Entry(b"SET " + name.encode(), setting=name))
    return made


def words(made: Log) -> list[str]:
    return [entry.sql.decode() for entry in made]


def test_release_keeps_the_settings() -> None:
    made = log("s:a", "x:1", "s:b", "x:2")
    made.release("a")
    assert words(made) == ["BEGIN", "SET 1", "SET 2"]
    assert not made.has_savepoints


def test_rollback_to_takes_the_settings_back() -> None:
    made = log("x:0", "s:a", "x:1", "s:b", "x:2")
    made.rollback_to("a")
    assert words(made) == ["BEGIN", "SET 0", "SAVEPOINT a"]
    made.rollback_to("a")  # a savepoint stands as often as it is gone back to
    assert words(made) == ["BEGIN", "SET 0", "SAVEPOINT a"]


def test_of_two_savepoints_with_one_name_the_later_counts() -> None:
    made = log("s:a", "x:1", "s:a", "x:2")
    made.rollback_to("a")
    assert words(made) == ["BEGIN", "SAVEPOINT a", "SET 1", "SAVEPOINT a"]
    made.release("a")
    made.rollback_to("a")
    assert words(made) == ["BEGIN", "SAVEPOINT a"]


@pytest.mark.parametrize("act", [Log.find, Log.release, Log.rollback_to])
def test_a_savepoint_that_does_not_exist(act: object) -> None:
    made = log("s:a", "x:1")
    with pytest.raises(PgError, match='savepoint "b" does not exist') as caught:
        act(made, "b")  # type: ignore[operator]
    assert caught.value.sqlstate == "3B001"
    assert words(made) == ["BEGIN", "SAVEPOINT a", "SET 1"]


STEPS = st.lists(st.tuples(st.sampled_from(["set", "savepoint", "release", "rollback_to"]), st.sampled_from("abc")))


@given(STEPS)
def test_against_a_stack(steps: list[tuple[str, str]]) -> None:
    """The reference: PostgreSQL's nested subtransactions, each with the settings made in it."""
    made = Log()
    stack: list[tuple[str | None, list[str]]] = [(None, [])]
    for number, (step, name) in enumerate(steps):
        at = max((level for level, (own, _) in enumerate(stack) if own == name), default=0)
        if step == "set":
            made.add(Entry(b"SET %d" % number, setting=name))
            stack[-1][1].append(f"SET {number}")
        elif step == "savepoint":
            made.savepoint(name, b"SAVEPOINT " + name.encode())
            stack.append((name, []))
        elif at == 0:
            with pytest.raises(PgError):
                made.find(name)
        elif step == "release":
            made.release(name)
            stack[at - 1][1].extend(setting for _, settings in stack[at:] for setting in settings)
            del stack[at:]
        else:
            made.rollback_to(name)
            del stack[at:]
            stack.append((name, []))
    expected = [word for own, settings in stack for word in ([f"SAVEPOINT {own}"] if own else []) + settings]
    assert words(made) == expected


def test_a_statement_that_ends_in_a_comment_does_not_swallow_the_next() -> None:
    made = Log([Entry(b"BEGIN -- mine"), Entry(b"SET x = 1")])
    assert made.sql() == b"BEGIN -- mine\n;\nSET x = 1"


def chained(made: Log, *, failed: bool = False) -> list[str]:
    return [entry.sql.decode() for entry in made.chained(failed=failed)]


def test_and_chain_takes_the_characteristics_along() -> None:
    made = log("x:TRANSACTION", "s:a", "x:work_mem", "x:transaction_read_only")
    assert chained(made) == ["BEGIN", "SET TRANSACTION", "SET transaction_read_only"]


def test_and_chain_of_a_failed_transaction_takes_what_its_last_savepoint_has_kept() -> None:
    assert chained(log("x:TRANSACTION"), failed=True) == ["BEGIN"]
    made = log("x:TRANSACTION", "s:a", "x:transaction_read_only", "s:b", "x:transaction_deferrable")
    assert chained(made, failed=True) == ["BEGIN", "SET TRANSACTION", "SET transaction_read_only"]


def test_what_and_chain_has_given_outlives_a_failure() -> None:
    made = Log([Entry(b"BEGIN"), Entry(b"SET a", setting="TRANSACTION")], given=2)
    made.add(Entry(b"SET b", setting="TRANSACTION"))
    assert chained(made, failed=True) == ["BEGIN", "SET a"]
