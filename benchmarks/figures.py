"""A figure: what was measured, its target, the baseline beside it, and what that makes of it."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.processes import Load, MeasurementError

SHORTEST = 0.02
"""CPU seconds below which start-up and the scheduler are most of what one sees."""

DISTURBED = 0.1
"""Share of the machine taken by others above which wall times are not reliable."""


@dataclass(frozen=True)
class Scale:
    """How long to measure."""

    quick: bool = False
    commit: str = "one-phase"

    @property
    def gigabytes(self) -> float:
        """Data per run."""
        return 0.2 if self.quick else 2.0

    @property
    def repeats(self) -> int:
        """Runs of which the median counts."""
        return 2 if self.quick else 5


@dataclass(frozen=True)
class Figure:
    """One line of the results. With a target, `value` must be at most (or at least) that."""

    group: str
    name: str
    value: float
    unit: str
    baseline: str
    target: float | None = None
    at_least: bool = False
    samples: Sequence[float] = field(default=())

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target is None:
            return "reported"
        return "met" if (self.value >= self.target) == self.at_least or self.value == self.target else "missed"

    def cells(self) -> list[str]:
        """The line of the table."""
        sign = "at least" if self.at_least else "at most"
        target = "–" if self.target is None else f"{sign} {self.target:g} {self.unit}"
        spread = f" ({min(self.samples):.3g} to {max(self.samples):.3g})" if len(self.samples) > 1 else ""
        value = f"{self.value:.3g} {self.unit}{spread}"
        return [self.group, self.name, value, target, self.baseline, self.verdict]


HEADER = ["benchmark", "figure", "measured", "target", "baseline, same run", "verdict"]


def per_gigabyte(seconds: float, size: float) -> float:
    """CPU seconds per 10^9 bytes; a cost too small to be told from noise is no figure."""
    if seconds < SHORTEST:
        raise MeasurementError(f"{seconds * 1000:.1f} ms of CPU are too few to measure")
    return seconds / size * 1e9


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    if not samples:
        raise MeasurementError("no run")
    return statistics.median(samples)


def report(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = [HEADER, ["---"] * len(HEADER), *(figure.cells() for figure in figures)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(run: Callable[[Scale], list[Figure]]) -> None:
    """Run one benchmark alone."""
    scale = scale_of(parser())
    load = Load()
    print(report(run(scale)))
    print(f"\nOthers took {load.foreign_share():.0%} of the machine.")


def parser() -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="short runs: whether it works, not how fast it is")
    options.add_argument("--commit", choices=("one-phase", "two-phase"), default="one-phase")
    return options


def scale_of(options: argparse.ArgumentParser) -> Scale:
    """Read the command line."""
    arguments = options.parse_args()
    return Scale(quick=arguments.quick, commit=arguments.commit)
