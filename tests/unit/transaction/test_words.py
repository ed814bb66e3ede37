"""Errors and SQL that need no server to be judged."""

import pytest

from shardproxy.errors import PgError
from shardproxy.shard.control import is_transient
from shardproxy.transaction.decisions import RETENTION, decide_sql, not_set_up, setup_sql
from shardproxy.transaction.gid import Gid
from shardproxy.transaction.participant import Limits
from shardproxy.transaction.recovery import InDoubt, RecoveryPass
from shardproxy.transaction.setup import cannot_prepare, refuse_twins


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("08006", True),  # connection_failure
        ("08001", True),  # could not connect
        ("57P03", True),  # cannot_connect_now: it starts
        ("57P01", True),  # admin_shutdown
        ("53300", True),  # too_many_connections
        ("55P03", True),  # lock_not_available
        ("55000", True),  # prepared transaction is busy
        ("42501", False),  # insufficient_privilege
        ("28P01", False),  # invalid_password
        ("42P01", False),  # undefined_table
        ("3D000", False),  # no such database
    ],
)
def test_what_is_worth_another_try(state: str, again: bool) -> None:
    assert is_transient(PgError(state, "")) == again


def test_slots() -> None:
    none = cannot_prepare("s0", 0, 0)
    assert none is not None
    assert none.sqlstate == "55000"
    full = cannot_prepare("s0", 10, 10)
    assert full is not None
    assert (full.sqlstate, full.hint) == ("53200", 'Increase "max_prepared_transactions" (currently 10).')
    assert cannot_prepare("s0", 10, 9) is None


def test_twins_are_named() -> None:
    refuse_twins({"s0": "a", "s1": "b"})
    with pytest.raises(PgError, match=r"s0.*s2"):
        refuse_twins({"s0": "a", "s1": "b", "s2": "a"})


def test_roles_are_quoted() -> None:
    assert 'TO "a""b";' in setup_sql('a"b')
    assert "GRANT" not in setup_sql()
    assert setup_sql("low") in (not_set_up("s0", "low", "no tables").detail or "")


def test_the_decision_ends_in_commit() -> None:
    """One Query: what fails before COMMIT keeps it from being run."""
    sql = decide_sql("a" * 32, "key", ["a" * 32, "b" * 32], 1763701234.5)
    assert sql.endswith("; COMMIT")
    assert sql.count(";") == 1
    assert "1763701234.5" in sql


def test_no_decision_outlives_its_row() -> None:
    """`sweep` keeps rows for ten times as long as a committer may take, whatever the timeouts are."""
    assert Limits().decide < RETENTION / 10
    assert Limits(1000.0, 1000.0).decide > RETENTION


def test_what_counts_as_in_doubt() -> None:
    gid = Gid("a" * 32, "b" * 32, "c" * 32)
    doubt = InDoubt(gid.anchor, gid.transaction, {"s1": gid})
    found = RecoveryPass([doubt])
    assert found.unresolved == [doubt]
    assert doubt.decision_key == gid.decision_key
    doubt.committing = True
    assert found.unresolved == []
    doubt.committing = False
    doubt.finished.add("s1")
    assert found.unresolved == []
