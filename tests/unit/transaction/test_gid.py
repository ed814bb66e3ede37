"""Gids: what they hold, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.transaction.gid import Gid, decision_key, lock_key, new_transaction, transaction_of

IDS = st.from_regex("[0-9a-f]{32}", fullmatch=True)


@given(IDS, IDS, IDS)
def test_round_trip(anchor: str, transaction: str, participant: str) -> None:
    gid = Gid(anchor, transaction, participant)
    text = str(gid)
    assert Gid.parse(text) == gid
    assert gid.decision_key == decision_key(anchor, transaction)
    assert text.startswith(gid.decision_key)
    assert transaction_of(gid.decision_key) == transaction
    # PostgreSQL's GIDSIZE, with its terminating zero byte.
    assert len(text) < 200


@given(IDS)
def test_lock_keys_are_of_bigint(transaction: str) -> None:
    assert -(1 << 63) <= lock_key(transaction) < 1 << 63


def test_transactions_differ() -> None:
    made = {new_transaction() for _ in range(1000)}
    assert len(made) == 1000
    assert len({lock_key(transaction) for transaction in made}) == 1000


GID = str(Gid("a" * 32, "b" * 32, "c" * 32))


@pytest.mark.parametrize(
    "text", ["", "x", "shardproxy_", GID[:-1], GID + "\n", GID + "0", " " + GID, GID.upper(), GID.replace("a", "g")]
)
def test_what_is_not_ours(text: str) -> None:
    assert Gid.parse(text) is None
