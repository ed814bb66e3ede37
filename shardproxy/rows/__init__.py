"""The rows of any query as a stream that COPY FROM STDIN reads.

A cursor's rows are fetched some hundred at a time and written in COPY's text, CSV or binary format: `RowsTextIO` and
`RowsIO` are files to read from, `AsyncRows` an asynchronous iterator. `literals` writes one value as PostgreSQL's
input functions read it, `packing` as its receive functions do; `text` and `binary` make blocks of rows of them.
"""

from shardproxy.rows.asynchronous import AsyncRows
from shardproxy.rows.errors import RowError, RowTypeError, RowValueError
from shardproxy.rows.files import RowsIO, RowsTextIO

__all__ = ["AsyncRows", "RowError", "RowTypeError", "RowValueError", "RowsIO", "RowsTextIO"]
