"""Rows that COPY's ON_ERROR ignore has skipped, added up over the shards. Sans-IO.

PostgreSQL reports it in two NOTICEs: at the end how many were skipped (copyfrom.c), and with LOG_VERBOSITY verbose a
line for each (copyfromparse.c), which carries the line number in its text. Both are recognised by their source
file, since the text is translated.
"""

import re
from collections.abc import Callable

from shardproxy.errors import PgError
from shardproxy.sqlstate import INVALID_TEXT_REPRESENTATION

_NUMBER = re.compile(r"\d+")


class SkippedRows:
    """Adds up one COPY's skipped rows; `reject_limit` is COPY's own option, None for no limit."""

    def __init__(self, *, on_error_ignore: bool, reject_limit: int | None, everywhere: bool) -> None:
        self._active = on_error_ignore
        self._limit = reject_limit
        self._everywhere = everywhere
        self._summary: dict[str, str] | None = None
        self.total = 0

    def take(self, fields: dict[str, str], client_line: Callable[[int], int | None]) -> bool:
        """Look at a NOTICE. True: it is a summary, kept back for `summary`. Line numbers are replaced in place."""
        if not self._active or fields.get("V") != "NOTICE":
            return False
        number = _NUMBER.search(fields["M"])
        if number is None:
            return False
        if fields.get("F") == "copyfromparse.c":
            line = client_line(int(number[0]))
            if line is not None:
                fields["M"] = fields["M"][: number.start()] + str(line) + fields["M"][number.end() :]
            return False
        if fields.get("F") != "copyfrom.c":
            return False
        count = int(number[0])
        self.total = max(self.total, count) if self._everywhere else self.total + count
        # A plural form, where one of the shards used it, reads better for the total.
        if self._summary is None or count > 1:
            self._summary = fields
        return True

    def summary(self) -> dict[str, str] | None:
        """Return the NOTICE with the total, None if nothing was skipped."""
        if self._summary is None:
            return None
        message = _NUMBER.sub(str(self.total), self._summary["M"], count=1)
        if self.total > 1:
            message = message.replace(" row was skipped", " rows were skipped")
        return {**self._summary, "M": message}

    def check_limit(self) -> None:
        """Raise what PostgreSQL reports when more rows are skipped than REJECT_LIMIT allows."""
        if self._limit is not None and self.total > self._limit:
            raise PgError(
                INVALID_TEXT_REPRESENTATION,
                f"skipped more than REJECT_LIMIT ({self._limit}) rows due to data type incompatibility",
            )
