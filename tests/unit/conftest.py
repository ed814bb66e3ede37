"""Fixtures of unit tests."""

from collections.abc import AsyncIterator

import pytest

from tests.support.playbook import Playbook


@pytest.fixture(params=[None, 1], ids=["whole", "byte by byte"])
async def playbook(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Playbook]:
    """A client and two shards, which the test is; what shards say arrives whole, and byte by byte."""
    made = Playbook(monkeypatch, request.param)
    yield made
    await made.end()
