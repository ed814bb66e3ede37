"""A short run of the protocol's fuzzers, other inputs each time; the seed of a failure is in its message."""

import random

import pytest

from tests.fuzz import protocol

COUNT = 10_000


async def test_damaged_messages_of_both_sides() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    try:
        done = await protocol.run(COUNT, seed)
    except Exception as error:
        pytest.fail(f"seed {seed}: {error!r}")
    assert sum(done.values()) == COUNT
