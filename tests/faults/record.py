"""What a part of the long proof has measured: kept in a file while it runs, so that nothing is lost with the process.

A part calls `Recorder.keep` as often as it likes, and looks at `Recorder.over`: its time is up, or it was asked
it to end (SIGINT, SIGTERM), which it then does in order, with a judgement of what it has done.
"""

import argparse
import functools
import json
import math
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

EVERY = 1.0  # seconds between writes


@dataclass
class Figure:
    """A measured number, and what it has to be at least, or (`ceiling`) at most."""

    what: str
    value: float
    required: float | None = None
    ceiling: bool = False
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is what it has to be."""
        if self.required is None:
            return True
        return self.value <= self.required if self.ceiling else self.value >= self.required


@dataclass
class Record:
    """What a part reports."""

    figures: list[Figure] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    finished: bool = False
    took: float = 0.0  # seconds
    commit: str = ""  # of what was measured

    @property
    def stands(self) -> bool:
        """Whether it need not be measured again."""
        return self.finished and not self.violations

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read what a part has kept; an empty record if it has not come to that."""
        if not path.exists():
            return cls()
        known = json.loads(path.read_text())
        known["figures"] = [Figure(**figure) for figure in known["figures"]]
        return cls(**known)


class Recorder:
    """Where a part keeps its record, and until when it runs."""

    def __init__(self, path: Path | None = None, seconds: float = math.inf) -> None:
        self._path = path
        self._begun = time.monotonic()
        self._written = 0.0
        self._end = time.monotonic() + seconds
        self._asked = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Recorder":
        """Make the one that the command line asks for, and end by a first SIGINT or SIGTERM in order."""
        made = cls(arguments.record, arguments.seconds)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, made._stop)
        return made

    def _stop(self, signum: int, _: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    @property
    def over(self) -> bool:
        """Whether to come to an end."""
        return self._asked or time.monotonic() > self._end

    @property
    def left(self) -> float:
        """Seconds up to the end."""
        return 0.0 if self._asked else max(self._end - time.monotonic(), 0.0)

    def keep(self, record: Record, *, finished: bool = False) -> None:
        """Write it down, at once if it is the last."""
        if self._path is None or (time.monotonic() - self._written < EVERY and not finished):
            return
        record.finished = finished
        record.took = time.monotonic() - self._begun
        record.commit = _commit()
        self._written = time.monotonic()
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(record)))
        os.replace(beside, self._path)

    def finish(self, record: Record) -> int:
        """Keep the last of it and print it; return the exit status."""
        self.keep(record, finished=True)
        for figure in record.figures:
            print(f"{figure.what}: {figure.value:g}{figure.unit}")
        for line in [*record.lines, *(f"violated: {text}" for text in record.violations)]:
            print(line)
        return 1 if record.violations else 0


@functools.cache
def _commit() -> str:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return described.stdout.strip()


def add_options(parser: argparse.ArgumentParser, *, seconds: float = math.inf) -> None:
    """Add the options of `Recorder.of`."""
    parser.add_argument("--seconds", type=float, default=seconds, help="end after that time, whatever the count")
    parser.add_argument("--record", type=Path, help="a file for the figures, written as they come")
