"""Several loads, so many at once; each is a transaction of its own."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Final

from shardproxy.loader.run import Load
from shardproxy.loader.summary import ASIDE, FAILED, PART, STORED

VERSION: Final = 1
"""Of the JSON: a member that changes its meaning, or goes, makes it another."""


class Loads:
    """What a command does."""

    def __init__(self, loads: Sequence[Load], workers: int) -> None:
        self.loads = loads
        self._turn = asyncio.Semaphore(workers)
        self._begun = time.monotonic()
        self.seconds = 0.0

    async def run(self) -> None:
        """Carry them out. One that fails does not end the others; what is a bug does."""
        try:
            async with asyncio.TaskGroup() as group:
                for load in self.loads:
                    group.create_task(self._one(load))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # as of one load
        self.seconds = time.monotonic() - self._begun

    async def _one(self, load: Load) -> None:
        async with self._turn:
            await load.run()

    @property
    def exit_code(self) -> int:
        """That of all: PART where some were loaded and some failed."""
        codes = {load.summary.exit_code for load in self.loads}
        if codes == {FAILED}:
            return FAILED
        if codes & {FAILED, PART}:
            return PART
        return ASIDE if ASIDE in codes else STORED

    def as_json(self) -> str:
        """One object, as docs/load.schema.json has it."""
        facts = {
            "version": VERSION,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "loads": [load.summary.facts() for load in self.loads],
        }
        return json.dumps(facts, indent=2)
