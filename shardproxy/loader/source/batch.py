"""What a source gives: named columns, and rows in batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Row = tuple[Any, ...]

ROWS: Final = 1000
"""Rows of one batch: some hundred kilobytes, far below what is read ahead."""


@dataclass(slots=True)
class Result:
    """The rows of a query. `batches` blocks; `close` ends the query, and what it was asked on.

    Values are None, bytes or str as COPY's text format has them before it is escaped, numbers, or whatever else
    `shardproxy.rows` has a form for.
    """

    names: Sequence[str]
    batches: Iterator[Sequence[Row]]
    close: Callable[[], None]
