"""A short form of the oracle: the same few hundred statements each time. `python -m tests.oracle` takes new ones."""

import pytest

from tests.oracle.arena import Arena
from tests.oracle.generate.scripts import script
from tests.oracle.kept import KEPT

CASES = 16


@pytest.mark.parametrize("seed", range(CASES))
def test_random_statements(arena: Arena, seed: int) -> None:
    accepted = arena.accepted
    arena.run(script(seed, 25))
    assert arena.accepted > accepted


@pytest.mark.parametrize("name", KEPT)
def test_kept_cases(arena: Arena, name: str) -> None:
    known = arena.known.total()
    arena.run(KEPT[name])
    assert arena.known.total() == known, "nothing in the list of known differences excuses a case that was mended"
