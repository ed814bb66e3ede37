"""Long texts of statements, which are parsed in a process of their own, lest other clients wait.

To make facts of a text takes some 5 to 15 us a token, and up to a hundred times its size in memory.
"""

import asyncio
import errno
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.session.parse_process import LENGTH
from shardproxy.sql import Statement
from shardproxy.sql.packed import unpack
from shardproxy.sqlstate import INSUFFICIENT_RESOURCES, OUT_OF_MEMORY, STATEMENT_TOO_COMPLEX

LONG: Final = 32 * 1024
"""Characters from which on a text is long, whatever it says."""

PLACED_BESIDE: Final = 4 * 1024
"""Characters of a statement from which on it is placed in a thread: it may have thousands of rows."""

SHORT: Final = 2 * 1024
"""Characters up to which no text is long."""

TOKENS: Final = 1500
"""Tokens from which on a text between these is long: some 20 ms. The way to the process and back takes two."""

_TOKEN: Final = re.compile(r"'[^']*'|[\w.]+|\S")
"""About what the grammar takes for one."""

MEMORY: Final = 1 << 30
"""Bytes of address space that the process may use. The facts of a list of IN take up to 130 times as much as its text.
"""

IDLE: Final = 60.0
"""Seconds after which the process is ended. It has some 40 MiB, and to start it takes a third of a second."""


def is_long(text: str) -> bool:
    """Whether other clients would notice that a text is parsed."""
    if len(text) <= SHORT:
        return False
    return len(text) >= LONG or next(islice(_TOKEN.finditer(text), TOKENS, None), None) is not None


class LongTexts:
    """Parses long texts: one at a time that may take seconds, and one beside it that does not."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._long, self._other = _Parser(memory), _Parser(memory)

    async def analyze(self, text: str) -> Sequence[Statement]:
        """As `sql.analyze`; a text that needs too much memory is 54001."""
        return await (self._long if len(text) >= LONG else self._other).analyze(text)

    async def close(self) -> None:
        """End the processes."""
        await self._long.close()
        await self._other.close()


class _Parser:
    """One process at most."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._turn = asyncio.Lock()
        self._process: Process | None = None  # one that waits for a text
        self._idle: asyncio.TimerHandle | None = None

    async def analyze(self, text: str) -> Sequence[Statement]:
        async with self._turn:
            # One that has waited may have been killed meanwhile: that tells nothing of the text.
            waiting = self._take()
            found = None if waiting is None else await self._answer(waiting, text)
            if found is None:
                found = await self._answer(await self._start(), text)
        if found is None:
            raise PgError(
                STATEMENT_TOO_COMPLEX,
                "statement is too complex to be parsed",
                hint="Send fewer rows or values in a statement, an array as a parameter, or use COPY.",
            )
        if isinstance(found, dict):
            raise PgError.from_fields(found)
        statements: Sequence[Statement] = found
        return statements

    async def close(self) -> None:
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
        try:
            return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        except OSError as error:
            raise PgError(
                OUT_OF_MEMORY if error.errno == errno.ENOMEM else INSUFFICIENT_RESOURCES,
                f"could not start a process to parse a long statement: {error.strerror}",
                hint="Try again later, or send shorter statements.",
            ) from error

    async def _answer(self, process: Process, text: str) -> Any:
        """Return what a process says of a text; None if it has ended before."""
        try:
            return await self._ask(process, text)
        except (EOFError, OSError):
            return None
        finally:
            if self._process is None:
                await _end(process)

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
