"""The same few hundred pipelines each time. `python -m tests.oracle sequences` takes new ones."""

import pytest

from tests.oracle.arena import Arena
from tests.oracle.generate.pipelines import pipelines
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
