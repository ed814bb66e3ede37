"""The keys of CancelRequests: nobody guesses one who knows others, or how this process was started."""

import random
import secrets

import pytest

from shardproxy.session.cancel import CancelKeys
from shardproxy.wire.constants import PROTOCOL_3_0, PROTOCOL_3_2


class Idle:
    """A session that does nothing."""

    user = "me"

    def cancel(self) -> None:
        """Nothing runs."""

    def terminate(self) -> None:
        """It may stay."""

    async def ended(self, seconds: float) -> bool:
        return False


VERSIONS = pytest.mark.parametrize(("version", "length"), [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)], ids=["3.0", "3.2"])


@VERSIONS
def test_a_key_comes_from_secrets(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], length: int) -> None:
    """Not from a generator that tells what comes next to who has seen enough of it."""
    made: list[bytes] = []
    token_bytes = secrets.token_bytes

    def told(count: int | None = None) -> bytes:
        made.append(token_bytes(count))
        return made[-1]

    monkeypatch.setattr(secrets, "token_bytes", told)
    keys = CancelKeys()
    got = [keys.add(Idle(), version)[1] for _ in range(20)]
    assert got == made
    assert {len(key) for key in got} == {length}


@VERSIONS
def test_a_seed_repeats_no_key(version: tuple[int, int], length: int) -> None:
    before = random.getstate()
    try:
        runs = []
        for _ in range(2):
            random.seed(7)
            runs.append([CancelKeys().add(Idle(), version)[1] for _ in range(20)])
    finally:
        random.setstate(before)
    assert runs[0] != runs[1]
    assert len({key for run in runs for key in run}) > 30
