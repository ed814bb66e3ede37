"""Loads of the loader in this process, and what they leave."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shardproxy
from shardproxy.loader import Summary


@dataclass
class Loader:
    """Loads into one target; each has a directory for its rejects."""

    target: dict[str, str]
    rejects: Path
    given: dict[str, Any] = field(default_factory=dict)
    _count: int = 0

    def run(self, *files: str | Path, **options: Any) -> "Loaded":
        """Load, to whatever end."""
        self._count += 1
        directory = self.rejects / str(self._count)
        given = {"reject_dir": directory, **self.target, **self.given, **options}
        return Loaded(asyncio.run(shardproxy.load(*files, **given)), directory)


@dataclass
class Loaded:
    """What became of a load."""

    summary: Summary
    directory: Path

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows read, stored, set aside."""
        summary = self.summary
        left = summary.read - summary.stored - summary.updated - summary.set_aside - summary.skipped - summary.dropped
        assert summary.status == "failed" or left == 0
        return summary.read, summary.stored, summary.set_aside

    @property
    def dats(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.directory.rglob("*.dat"))]

    @property
    def facts(self) -> list[dict[str, Any]]:
        """The rejects, as the .jsonl tell them."""
        lines = [line for path in sorted(self.directory.rglob("*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.rglob("*.log")))

    @property
    def error(self) -> dict[str, str]:
        assert self.summary.error is not None
        return self.summary.error
