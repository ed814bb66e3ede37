"""How many rows may be set aside before a load is given up. Sans-IO."""

import re
from dataclasses import dataclass
from typing import Final

from shardproxy.errors import PgError
from shardproxy.sqlstate import INVALID_TEXT_REPRESENTATION

PERCENT_FROM: Final = 300
"""Rows before which a percentage means nothing."""

GUARD: Final = 1000
"""If so many rows are all bad at the beginning, the rest will be, too."""


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """`rows` or `percent` of those read may be set aside; None for no limit."""

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> "RejectLimit":
        """Read '1000', '2.5%', or '' for none; ValueError for anything else."""
        if not text:
            return cls()
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text.strip())
        if found is None or (found[2] is not None and float(found[2]) > 100):
            raise ValueError(f'"{text}" is not a number of rows, such as 1000, or a percentage, such as 5%')
        return cls(int(found[1])) if found[1] is not None else cls(percent=float(found[2]))

    def check(self, read: int, rejected: int, *, sample: str = "", hint: str | None = None) -> None:
        """Raise when there are too many among the rows judged so far.

        `sample` is what the last one was refused for, `hint` what it looks like.
        """
        detail = f"Last: {sample}" if sample else None
        if self.rows is not None and rejected > self.rows:
            raise _too_many(f"more than reject_limit ({self.rows}) rows were bad", detail, hint)
        if self.percent is not None and read >= PERCENT_FROM and rejected > read * self.percent / 100:
            raise _too_many(f"more than reject_limit ({self.percent:g} %) of {read} rows were bad", detail, hint)
        if read == rejected and read >= GUARD:
            raise _too_many(f"the first {read} rows were all bad", detail, hint)


_SEE: Final = "See whether format, delimiter, header, columns and encoding are those of the data."


def _too_many(message: str, detail: str | None, hint: str | None) -> PgError:
    return PgError(
        INVALID_TEXT_REPRESENTATION,
        message,
        detail=detail,
        hint=f"None of these rows are loaded. {hint or _SEE}",
    )
