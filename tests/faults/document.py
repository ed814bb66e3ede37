"""The document of the long run: a table of what is required and reached, then each part with its command."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import VERSIONS
from tests.faults.part import Part
from tests.faults.record import Figure

TOLD = 30  # violations of a part

HEAD = """# Reliability, measured

Written by `{command}` on {cores} cores, PostgreSQL {versions}; nothing in it is edited by hand. Each part names its
command, the commit that it measured and its time. The module that its command runs explains each figure.
{interrupted}
**Violations: {violations}. Requirements not met: {short}.**

| figure | measured | required | met |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Requirement:
    """Figures that count summed."""

    what: str
    figures: tuple[str, ...]  # how their names begin
    required: float | None
    ceiling: bool = False
    summed: bool = True  # their sum; else the worst of them
    unit: str = ""

    def value(self, figures: Sequence[Figure]) -> float | None:
        """Return what was measured."""
        values = [one.value for one in figures if one.what.startswith(self.figures)]
        if not values:
            return None
        return sum(values) if self.summed else max(values) if self.ceiling else min(values)


REQUIREMENTS = (
    *(Requirement(f"cases of the matrix of faults, PostgreSQL {v}", (f"cases of the matrix, PostgreSQL {v}",), 600)
      for v in VERSIONS),
    Requirement("SIGKILLs of proxies and crashes of shards under load", ("kills and crashes",), 1000),
    Requirement("COPYs checked during them", ("COPYs judged",), None),
    Requirement("faults beside SQL", ("faults beside SQL",), 500),
    Requirement("operations judged under them", ("operations judged",), None),
    Requirement("kills and crashes during imports with `shardproxy load`", ("faults during imports",), 100),
    Requirement("rows of these imports, each stored once", ("rows stored once",), None),
    Requirement("in doubt, p99 (seconds)", ("in doubt, p99",), None, ceiling=True, summed=False),
    Requirement("in doubt, longest (seconds)", ("in doubt, longest",), None, ceiling=True, summed=False),
    Requirement("fuzz inputs, C core and protocol", ("fuzz inputs",), 10_000_000),
    Requirement("damaged sessions against a live proxy", ("damaged sessions",), None),
    Requirement("random COPY cases against one PostgreSQL", ("random COPY cases",), 100_000),
    Requirement("differences", ("differences",), 0, ceiling=True),
    Requirement("scripted cases of hostile peers", ("scripted cases, hostile",), 1),
    Requirement("scripted outcomes of a commit", ("scripted cases, outcomes",), 1),
    Requirement("connections of one byte a second", ("connections of one byte",), 1000),
    Requirement("p99 of a well-behaved client beside them, ratio to alone", ("p99 of a well",), 2, ceiling=True),
    Requirement("idle clients", ("idle clients",), 1000),
    Requirement("memory of an idle client (KiB)", ("memory of an idle",), None, ceiling=True),
    Requirement("connects, descriptors and tasks flat", ("connects",), 100_000),
)  # fmt: skip


def _row(requirement: Requirement, figures: Sequence[Figure]) -> tuple[str, bool]:
    """Return the row of the table, and whether it is reached."""
    value = requirement.value(figures)
    required, ceiling = requirement.required, requirement.ceiling
    reached = required is None or (value is not None and (value <= required if ceiling else value >= required))
    wanted = "" if required is None else f"at {'most' if ceiling else 'least'} {required:,.10g}"
    measured = "not run" if value is None else f"{value:,.10g}"
    return (
        f"| {requirement.what} | {measured} | {wanted} | {'' if required is None else 'yes' if reached else 'NO'} |\n",
        reached,
    )


def _section(part: Part) -> str:
    record = part.record
    figures = [f"{one.what}: {one.value:,.10g}{one.unit}" for one in record.figures]
    wrong = [f"violated: {' '.join(text.split())}" for text in record.violations[:TOLD]]
    state = "" if record.finished and not part.cut else ", incomplete"
    body = "\n".join(
        f"- {line}" for line in [*figures, *record.lines, *wrong, f"{record.took:.0f} s{state}, commit {record.commit}"]
    )
    return f"\n## {part.title}\n\n    {part.command}\n\n{body}\n"


def write(out: Path, command: str, parts: Sequence[Part], *, interrupted: bool) -> tuple[int, int]:
    """Write it; return how many violations there are, and how much that is required was not reached."""
    figures = [figure for part in parts for figure in part.record.figures]
    rows = [_row(requirement, figures) for requirement in REQUIREMENTS]
    violations = sum(len(part.record.violations) for part in parts)
    short = sum(not reached for _, reached in rows)
    text = HEAD.format(
        command=command,
        cores=os.cpu_count(),
        versions=" and ".join(map(str, VERSIONS)),
        interrupted="\nIt was interrupted: the figures are those measured so far.\n" if interrupted else "",
        violations=violations,
        short=short,
    )
    text += "".join(row for row, _ in rows) + "".join(map(_section, parts))
    beside = out.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, out)
    return violations, short
