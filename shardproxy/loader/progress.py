"""Progress of a load while it runs: a bar on a terminal, else a line now and then, or a JSON object a line."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, Protocol, TextIO

from shardproxy.loader.stage import Stage

BAR_EVERY: Final = 0.2
LINE_EVERY: Final = 10.0
"""Seconds between two reports."""

Kind = Literal["auto", "bar", "lines", "json", "none"]


class Report(Protocol):
    """One way to show it."""

    every: float

    def show(self, stage: Stage, seconds: float) -> None:
        """Tell how far the load is, after so many seconds."""

    def stalled(self, stage: Stage, seconds: float) -> None:
        """Tell that nothing has moved for so long."""

    def close(self) -> None:
        """The load has ended."""


@contextlib.asynccontextmanager
async def shown(stage: Stage, kind: Kind, output: TextIO) -> AsyncIterator[None]:
    """Show the progress of what is done inside."""
    report = _report(kind, output)
    if report is None:
        yield
        return
    task = asyncio.ensure_future(_watch(stage, report))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        report.close()


async def _watch(stage: Stage, report: Report) -> None:
    begun = time.monotonic()
    told: tuple[object, ...] | None = None
    while True:
        await asyncio.sleep(report.every)
        report.show(stage, time.monotonic() - begun)
        seconds = stage.stalled()
        # Once for each stall.
        if seconds is None:
            told = None
        elif told != (stage.doing,):
            told = (stage.doing,)
            report.stalled(stage, seconds)


def _report(kind: Kind, output: TextIO) -> Report | None:
    if kind == "none":
        return None
    if kind == "json":
        return Json(output)
    if kind == "bar" or (kind == "auto" and output.isatty()):
        return _bar(output)
    return Lines(output)


def _bar(output: TextIO) -> Report:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError:
        return Lines(output)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Bar(Progress(*columns, console=Console(file=output), transient=True))


def _facts(stage: Stage, seconds: float) -> dict[str, Any]:
    summary = stage.summary
    rate = summary.read / seconds if seconds else 0.0
    fraction = stage.fraction
    left = seconds / fraction - seconds if fraction else None
    return {
        "table": summary.table,
        "stage": stage.doing,
        "read": summary.read,
        "set_aside": summary.set_aside,
        "bytes": stage.altered.bytes_read,
        "total_bytes": stage.total,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rate),
        "seconds_left": None if left is None else round(left, 1),
    }


class Lines:
    """A line for people."""

    every = LINE_EVERY

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def show(self, stage: Stage, seconds: float) -> None:
        """Print a line."""
        facts = _facts(stage, seconds)
        part = "" if stage.fraction is None else f" {stage.fraction:.0%},"
        left = "" if facts["seconds_left"] is None else f", {facts['seconds_left']:.0f} s left"
        aside = f", {facts['set_aside']:,} set aside" if facts["set_aside"] else ""
        print(
            f"{facts['table']}: {stage.doing};{part} {facts['read']:,} rows,"
            f" {facts['rows_per_second']:,} rows/s{aside}{left}",
            file=self._output,
            flush=True,
        )

    def stalled(self, stage: Stage, seconds: float) -> None:
        """Print what is waited for."""
        text = f"{stage.summary.table}: nothing has moved for {seconds:.0f} s while {stage.doing}"
        print(text, file=self._output, flush=True)

    def close(self) -> None:
        """Nothing stays open."""


class Json:
    """An object a line, for programs."""

    every = 1.0

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def show(self, stage: Stage, seconds: float) -> None:
        """Print an object."""
        print(json.dumps(_facts(stage, seconds)), file=self._output, flush=True)

    def stalled(self, stage: Stage, seconds: float) -> None:
        """Print an object that has how long nothing has moved."""
        facts = {"table": stage.summary.table, "stage": stage.doing, "stalled_seconds": round(seconds, 1)}
        print(json.dumps(facts), file=self._output, flush=True)

    def close(self) -> None:
        """Nothing stays open."""


class Bar:
    """A bar of rich's, which knows terminals."""

    every = BAR_EVERY

    def __init__(self, progress: Any) -> None:
        """`progress` is rich's Progress, with a column for `rows`."""
        self._progress = progress
        self._task = self._progress.add_task("", total=None, rows="")
        self._progress.start()

    def show(self, stage: Stage, seconds: float) -> None:
        """Move the bar."""
        facts = _facts(stage, seconds)
        aside = f", {facts['set_aside']:,} set aside" if facts["set_aside"] else ""
        self._progress.update(
            self._task,
            description=f"{facts['table']}: {stage.doing}",
            total=stage.total,
            completed=facts["bytes"],
            rows=f"{facts['read']:,} rows, {facts['rows_per_second']:,}/s{aside}",
        )

    def stalled(self, stage: Stage, seconds: float) -> None:
        """Print above the bar what is waited for."""
        self._progress.console.print(
            f"nothing has moved for {seconds:.0f} s while {stage.doing}", highlight=False, markup=False
        )

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()
