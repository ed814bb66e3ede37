"""The same few hundred pipelines each time. `python -m tests.oracle sequences` takes new ones."""

import pytest

from tests.oracle.arena import Arena
from tests.oracle.generate.pipelines import pipelines
from tests.oracle.kept_pipelines import KEPT_PIPELINES
from tests.oracle.sequences import Sequences

CASES = 40


@pytest.fixture(scope="module")
def sequences(arena: Arena) -> Sequences:
    return Sequences(arena)


@pytest.mark.parametrize("seed", range(CASES))
def test_random_pipelines(sequences: Sequences, seed: int) -> None:
    before = sequences.pipelines
    sequences.run(pipelines(seed))
    assert sequences.pipelines > before


@pytest.mark.parametrize("name", KEPT_PIPELINES)
def test_kept_pipelines(arena: Arena, sequences: Sequences, name: str) -> None:
    known = arena.known.total()
    sequences.run(KEPT_PIPELINES[name])
    assert arena.known.total() == known, "nothing in the list of known differences excuses a case that was mended"
