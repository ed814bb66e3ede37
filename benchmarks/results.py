"""What was measured, kept by benchmark in results.json; RESULTS.md, results.png and README's table are made from it.

So one benchmark can be measured again without touching what the others have found, and each records on which version
and beside how much foreign work it ran.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks.figures import DISTURBED, Figure, report
from benchmarks.processes import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"

HEADLINES = {
    "COPY FROM, CSV: CPU": ("COPY FROM", "CSV, 128 KiB frames"),
    "COPY TO: CPU": ("COPY TO", "text, shards write 64 KiB at a time"),
    "psql's `\\copy` into four servers: time": ("real shards", "wall time of psql's \\copy"),
    "memory for a large COPY FROM": ("memory", "a large COPY FROM"),
    "SELECT by key, prepared: CPU": ("statement", "pgbench -S, prepared"),
    "SELECT by key, simple: CPU": ("statement", "pgbench -S, simple"),
    "COPY of one row: time": ("small operations", "COPY of 1 row"),
    "500 INSERTs in psycopg's pipeline: time": ("small operations", "psycopg pipeline of 500 INSERTs"),
    "connect, SELECT by key, leave: time": ("small operations", "connect, SELECT by key, leave"),
    "`shardproxy load` of a CSV file: time": ("load", "clean CSV, one writer"),
}
"""README's lines, the unfavourable ones among them: a name, and the benchmark and the figure that it shows."""


@dataclass(frozen=True)
class Result:
    """One benchmark's run."""

    figures: list[Figure]
    length: str
    machine: str
    version: str
    others: float
    """Share of the machine that others took meanwhile."""
    missing: str = ""
    """Why there are no figures."""

    @classmethod
    def of(cls, stored: dict[str, object]) -> Self:
        """Read what `asdict` has made."""
        figures = stored.pop("figures")
        assert isinstance(figures, list)
        return cls(figures=[Figure(**figure) for figure in figures], **stored)  # type: ignore[arg-type]

    def provenance(self) -> str:
        """How, on what and beside what it was measured."""
        disturbed = "; disturbed by that: its wall times are not reliable" if self.others > DISTURBED else ""
        failed = f" **Not measured:** {self.missing}" if self.missing else ""
        return f"{self.length}, shardproxy at {self.version}; others took {self.others:.0%}{disturbed}.{failed}"


def load(directory: Path) -> dict[str, Result]:
    """The results of a directory; none where there are none."""
    file = directory / "results.json"
    if not file.exists():
        return {}
    return {name: Result.of(stored) for name, stored in json.loads(file.read_text()).items()}


def save(results: Mapping[str, Result], directory: Path) -> None:
    """Write results.json and RESULTS.md."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = {name: asdict(result) for name, result in results.items()}
    (directory / "results.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    (directory / "RESULTS.md").write_text(text(results))


def text(results: Mapping[str, Result]) -> str:
    """RESULTS.md."""
    machines = dict.fromkeys(result.machine for result in results.values())
    lines = [
        "# Results",
        "",
        f"Written by `python -m benchmarks` on {'; and on '.join(machines)}.",
        "",
        report([figure for result in results.values() for figure in result.figures]),
        "",
        "![the figures beside their targets](results.png)",
        "",
        "In brackets: lowest and highest run. 1 GB is 10^9 bytes of the client's CopyData messages. "
        "A ratio is the median of each run's own.",
        "",
        *(f"- {name}: {result.provenance()}" for name, result in results.items()),
    ]
    return "\n".join(lines) + "\n"


def headlines(results: Mapping[str, Result]) -> str:
    """README's table."""
    lines = ["| | through shardproxy | in the same run |", "|---|---|---|"]
    for name, (benchmark, figure) in HEADLINES.items():
        measured = results[benchmark].figures if benchmark in results else []
        lines += [f"| {name} | {one.value:.3g} {one.unit} | {one.baseline} |" for one in measured if one.name == figure]
    return "\n".join(lines)


def write_readme(results: Mapping[str, Result], file: Path = README) -> bool:
    """Write README's table between its two marks; False if it has none."""
    before = file.read_text()
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    after, count = between.subn(lambda _: f"{headlines(results)}\n", before)
    if count:
        file.write_text(after)
    return bool(count)
