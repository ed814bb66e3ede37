"""What is wrong with a row of the source, and where."""

from shardproxy.errors import ShardproxyError


class RowError(ShardproxyError):
    """A row that cannot be written; `row` counts from 1 over the whole result, `column` is its name or number."""

    def __init__(self, message: str, row: int, column: str | None = None) -> None:
        place = f"row {row}" if column is None else f'row {row}, column "{column}"'
        super().__init__(f"{place}: {message}")
        self.row = row
        self.column = column


class RowTypeError(RowError, TypeError):
    """A value whose Python type has no form here, or none for the type of its column."""


class RowValueError(RowError, ValueError):
    """A value that PostgreSQL cannot hold, or a row with more or fewer values than the others."""


class FailedEarlierError(ShardproxyError):
    """A read after one that failed: to answer it with the end of the data would make a short result look whole."""

    def __init__(self) -> None:
        super().__init__("an earlier read of these rows has failed, and the rest of them is lost")
