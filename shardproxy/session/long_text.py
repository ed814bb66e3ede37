"""Long texts of statements, which are parsed in a process of their own, lest other clients wait.

PostgreSQL's grammar takes some 20 ms for 64 KiB, and up to a hundred times a text's size in memory.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.session.parse_process import LENGTH
from shardproxy.sql import Statement
from shardproxy.sql.packed import unpack
from shardproxy.sqlstate import STATEMENT_TOO_COMPLEX

LONG: Final = 32 * 1024
"""Characters from which on a text is long."""

MEMORY: Final = 1 << 30
"""Bytes of address space that the process may use. The facts of a list of IN take up to 130 times as much as its text.
"""

IDLE: Final = 10.0
"""Seconds after which the process is ended."""


class LongTexts:
    """Parses long texts, one at a time."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._turn = asyncio.Lock()
        self._process: Process | None = None  # one that waits for a text
        self._idle: asyncio.TimerHandle | None = None

    async def analyze(self, text: str) -> Sequence[Statement]:
        """As `sql.analyze`; a text that needs too much memory is 54001."""
        async with self._turn:
            process = self._take() or await self._start()
            try:
                found = await self._ask(process, text)
            except (EOFError, OSError):
                raise PgError(
                    STATEMENT_TOO_COMPLEX,
                    "statement is too complex to be parsed",
                    hint="Send fewer rows or values in a statement, an array as a parameter, or use COPY.",
                ) from None
            finally:
                if self._process is None:
                    await _end(process)
        if isinstance(found, dict):
            raise PgError.from_fields(found)
        statements: Sequence[Statement] = found
        return statements

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            process = self._take()
            if process is not None:
                await _end(process)

    def _take(self) -> Process | None:
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        return process

    async def _start(self) -> Process:
        command = (sys.executable, "-m", "shardproxy.session.parse_process", str(self._memory))
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)

    async def _ask(self, process: Process, text: str) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        data = text.encode("utf-8", "surrogatepass")
        process.stdin.write(LENGTH.pack(len(data)))
        process.stdin.write(data)
        await process.stdin.drain()
        [size] = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        found, stays = unpack(await process.stdout.readexactly(size))
        if stays:
            self._process = process
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._end_idle)
        return found

    def _end_idle(self) -> None:
        process = self._take()
        if process is not None and process.stdin is not None:
            process.stdin.close()  # it ends, and the loop's watcher sees it


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
