"""What a coordinator keeps between passes of recovery, without servers."""

from collections.abc import Callable

import pytest

from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.shard.errors import unreachable
from shardproxy.transaction import coordinator, recovery
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.gid import Gid
from shardproxy.transaction.recovery import InDoubt, RecoveryPass

GID = Gid("a" * 32, "b" * 32, "c" * 32)


class Looks:
    """A coordinator over shards that are never asked: each pass finds what the test has set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        addresses = [Address(name, "127.0.0.1", 1, "app", "shop") for name in ("s0", "s1")]
        self.coordinator = Coordinator("test", addresses)
        self.meanwhile: Callable[[], None] = lambda: None
        self.found = RecoveryPass()

        async def look(*_: object, **__: object) -> RecoveryPass:
            self.meanwhile()
            return self.found

        def control(*_: object) -> None:
            raise AssertionError("a shard was asked")

        monkeypatch.setattr(coordinator, "UNREACHABLE_PAUSE", 0.0)
        monkeypatch.setattr(recovery, "look", look)
        monkeypatch.setattr(recovery, "control", control)

    async def look(self, *in_doubt: InDoubt, **errors: PgError) -> None:
        self.found = RecoveryPass(list(in_doubt), unreachable=errors)
        await self.coordinator._pass()


def in_doubt() -> InDoubt:
    return InDoubt(GID.anchor, GID.transaction, {"s1": GID}, age=5.0)


async def test_a_commit_ends_while_recovery_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The race: a shard lists a gid as prepared, and its commit ends before the pass judges it.

    It would be arbitrated for nothing, by connections to the anchor and the participant, after each second.
    """
    looks = Looks(monkeypatch)
    anchor = looks.coordinator.addresses[0]
    looks.meanwhile = lambda: looks.coordinator.confirmed(anchor, GID.decision_key)
    monkeypatch.setattr(looks.coordinator, "_ensure_task", lambda: None)
    await looks.look(in_doubt())
    [one] = looks.coordinator.found.in_doubt
    assert (one.committing, one.own) == (True, True)
    assert looks.coordinator.in_doubt == 0


async def test_in_doubt_on_a_shard_that_becomes_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shard lists nothing then, and its part holds locks still: it counts until the shard has been asked."""
    looks = Looks(monkeypatch)
    shop = looks.coordinator
    await looks.look(in_doubt())
    assert (shop.in_doubt, shop.oldest) == (1, 5.0)
    await looks.look(s1=unreachable("s1", "nothing there"))
    assert shop.in_doubt == 1
    assert shop.oldest >= 5.0
    await looks.look()
    assert (shop.in_doubt, shop.oldest) == (0, 0.0)


async def test_a_commit_left_unresolved_counts_until_its_shard_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    shop = looks.coordinator
    monkeypatch.setattr(shop, "_ensure_task", lambda: None)
    shop.unresolved(GID.decision_key, ["s1"])
    assert shop.in_doubt == 1
    await looks.look(s1=unreachable("s1", "nothing there"))
    assert shop.in_doubt == 1
    await looks.look()
    assert shop.in_doubt == 0
