"""What a load does at a moment, for whoever watches it."""

import time
from dataclasses import dataclass, field

from shardproxy.loader.input.alterations import Alterations
from shardproxy.loader.summary import Summary

STALLED = 30.0
"""Seconds without any movement after which a stage is named."""


@dataclass
class Stage:
    """`doing` is a present participle: "reading a.csv". `total`: bytes of all inputs, None where that is not known."""

    summary: Summary
    altered: Alterations
    doing: str = "connecting"
    total: int | None = None
    _moved: tuple[object, float] = field(default=(None, 0.0), repr=False)

    @property
    def fraction(self) -> float | None:
        """How much of the input has been read, 0 to 1."""
        return min(self.altered.bytes_read / self.total, 1.0) if self.total else None

    def stalled(self) -> float | None:
        """How many seconds nothing has moved; None if they are few. Is to be called now and then."""
        now = time.monotonic()
        mark = (self.doing, self.summary.read, self.summary.bytes, self.altered.bytes_read)
        if mark != self._moved[0]:
            self._moved = mark, now
        seconds = now - self._moved[1]
        return seconds if seconds >= STALLED else None
