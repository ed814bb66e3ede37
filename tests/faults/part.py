"""A part of the long proof: a command with its time, run in a process of its own, whose record outlives it."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.record import Record

GRACE = 120.0  # seconds to come to an end, servers and judgement included, after its time
TAIL = 1500  # characters of the output of a part that has crashed


@dataclass(eq=False)
class Part:
    """See the module. `record` is what it has measured so far."""

    title: str
    argv: list[str]
    seconds: float
    path: Path
    bounded: bool = True  # it takes --seconds
    status: int | None = None
    cut: bool = False  # ended before its time
    said: str = ""
    _last: Record = field(default_factory=Record)

    @property
    def command(self) -> str:
        """What to type to run it alone."""
        return " ".join(["python", "-m", *self.argv])

    @property
    def record(self) -> Record:
        """What it has kept, and that it has crashed if so."""
        if self.path.exists():
            self._last = Record.read(self.path)
        record = self._last
        if self.status is not None and not record.finished:
            crash = f"the part itself ended with status {self.status}: {self.said[-TAIL:].strip()}"
            if crash not in record.violations:
                record.violations.append(crash)
        return record

    async def run(self, stopped: asyncio.Event, nice: int) -> None:
        """Run it to its end, to the end of its time, or until all is to end, which it is then told.

        What an earlier run has kept of it, finished and without a violation, stands.
        """
        if Record.read(self.path).stands:
            return
        self.path.unlink(missing_ok=True)
        bound = ["--seconds", f"{self.seconds:.0f}"] if self.bounded else []
        log = self.path.with_suffix(".log")
        with log.open("wb") as written:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self.argv, *bound, "--record", str(self.path)),
                stdout=written,
                stderr=written,
                preexec_fn=lambda: os.nice(nice),
                start_new_session=True,  # a Ctrl-C is for the caller, who tells it
            )
            waiting = asyncio.ensure_future(process.wait())
            stopping = asyncio.ensure_future(stopped.wait())
            try:
                await asyncio.wait(
                    {waiting, stopping}, timeout=self.seconds + GRACE, return_when=asyncio.FIRST_COMPLETED
                )
                if not waiting.done():
                    self.cut = True
                    process.send_signal(signal.SIGINT)
                    await asyncio.wait({waiting}, timeout=GRACE)
            finally:
                stopping.cancel()
                if not waiting.done():
                    process.kill()
                self.status = await waiting
        self.said = log.read_text(errors="replace")

    def summary(self) -> str:
        """Say it in a line."""
        record = self.record
        figures = ", ".join(f"{one.what} {one.value:,g}{one.unit}" for one in record.figures)
        return f"{figures}; {len(record.violations)} violations; {record.took:.0f} s"
