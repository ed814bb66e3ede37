"""`RowsIO`: CPU per row of a query's result on its way into COPY, beside csv.writer with the same rows.

The rows lie in memory, so that no driver is measured: the five columns of the other benchmarks, and nine of more kinds
(numeric, boolean, date, NULL, text with quotes and line ends). csv.writer stands for what one writes oneself; it cannot
tell NULL from an empty string.
"""

import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from benchmarks.figures import SHORTEST, Figure, Scale, main, median
from benchmarks.processes import MeasurementError
from benchmarks.rows import columns
from shardproxy.rows import RowsIO
from shardproxy.rows.source import Format

TYPES = ["int8", "text", "text", "int4", "timestamp"]
MIXED_TYPES = ["int8", "text", "text", "numeric", "float8", "bool", "date", "text", "timestamp"]

Rows = list[tuple[Any, ...]]


class Result:
    """A cursor whose rows are there already."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._at = 0

    def execute(self, _query: str) -> None:
        """Begin anew."""
        self._at = 0

    def fetchmany(self, size: int) -> Sequence[tuple[Any, ...]]:
        """The next rows."""
        self._at += size
        return self._rows[self._at - size : self._at]


def mixed(rows: Rows) -> Rows:
    """Rows of nine columns."""
    notes = ("", 'said "no"', "two\nlines", "plain, but for a comma", "été")
    return [
        (key, name, None if key % 3 else city, Decimal(amount) / 100, amount / 7, key % 2 == 0, created.date(),
         notes[key % 5], created)
        for key, name, city, amount, created in rows
    ]  # fmt: skip


def by_csv_writer(rows: Rows) -> int:
    """What one writes oneself: batches of the same size, in UTF-8."""
    size = 0
    for at in range(0, len(rows), 500):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows[at : at + 500])
        size += len(out.getvalue().encode())
    return size


def by_rows_io(rows: Rows, format_: Format, types: Sequence[str]) -> int:
    """All blocks."""
    stream = RowsIO(Result(rows), "", format=format_, types=types)
    size = sum(map(len, stream.blocks()))
    if stream.rows != len(rows):
        raise MeasurementError(f"{stream.rows} rows of {len(rows)}")
    return size


def cpu(work: Callable[..., int], *arguments: object) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    if not work(*arguments):
        raise MeasurementError("no data")
    seconds = time.process_time() - started
    if seconds < SHORTEST:
        raise MeasurementError(f"{seconds * 1000:.1f} ms of CPU are too few to measure")
    return seconds


def run(scale: Scale) -> list[Figure]:
    """Each format beside csv.writer, in turns."""
    five: Rows = list(columns(20_000 if scale.quick else 200_000))
    figures = []
    for name, rows, types in (("five columns", five, TYPES), ("nine columns", mixed(five), MIXED_TYPES)):
        formats: tuple[Format, ...] = ("csv", "text", "binary")
        samples: dict[str, list[float]] = {format_: [] for format_ in formats}
        ratios: dict[str, list[float]] = {format_: [] for format_ in formats}
        baseline = []
        for _ in range(scale.repeats):
            print(".", end="", file=sys.stderr, flush=True)
            baseline.append(cpu(by_csv_writer, rows))
            for format_ in formats:
                seconds = cpu(by_rows_io, rows, format_, types)
                samples[format_].append(seconds)
                ratios[format_].append(seconds / baseline[-1])
        for format_ in formats:
            seconds = median(samples[format_])
            cost, ours = (1e6 * spent / len(rows) for spent in (median(baseline), seconds))
            text = f"csv.writer {cost:.2f} µs a row; RowsIO {ours:.2f}, {1e3 / ours:.0f} thousand rows a second"
            target = None if format_ == "binary" else 1.0
            figures.append(
                Figure(
                    "rows of a query",
                    f"RowsIO, {format_}, {name}",
                    median(ratios[format_]),
                    "× csv.writer",
                    text,
                    target,
                    samples=ratios[format_],
                )
            )
    return figures


if __name__ == "__main__":
    main(run)
