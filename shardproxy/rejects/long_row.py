"""A row that is longer than a load takes, as it comes: the beginning in memory, the rest in a file without a name."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from shardproxy.rejects.files import failed
from shardproxy.rejects.reject import BEGINNING, Reject
from shardproxy.sqlstate import PROGRAM_LIMIT_EXCEEDED


class LongRow:
    """A row whose end is still to come. Every error is PgError: 53100 for a full disk, else 58030."""

    def __init__(self, offset: int, line: int, directory: Path | None) -> None:
        """It begins after so many bytes of the client's input, in this line; `directory` is where its file may be."""
        self.size = 0
        self.row = b""
        """Its beginning."""
        self._offset = offset
        self.line = line
        self._directory = directory
        self._rest: IO[bytes] | None = None

    def take(self, data: bytes) -> None:
        """Take bytes that come next."""
        self.size += len(data)
        room = max(BEGINNING - len(self.row), 0)
        self.row += data[:room]
        if len(data) <= room:
            return
        try:
            if self._rest is None:
                if self._directory is not None:
                    self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._rest = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - until the row is written
            self._rest.write(data[room:])
        except OSError as error:
            raise failed(error, self._directory or Path(tempfile.gettempdir())) from error

    def missing(self, end: int) -> int:
        """Return how many bytes are to come, given where it ends in the client's input."""
        return end - self._offset - self.size

    def reject(self, line: int, limit: int, hint: str | None) -> Reject:
        """It is complete: return it as set aside, with its last line."""
        rest, self._rest = self._rest, None
        return too_long(Reject(line, self._offset, self.row, "", "", hint=hint, rest=rest), self.line, limit)

    def discard(self) -> None:
        """Nothing was loaded."""
        if self._rest is not None:
            self._rest.close()


def too_long(reject: Reject, line: int, limit: int) -> Reject:
    """Return a row that begins in this line as one that is set aside for its length."""
    message = f"the row is longer than max_row_bytes ({limit})"
    return replace(reject, sqlstate=PROGRAM_LIMIT_EXCEEDED, message=message, detail=f"It begins on line {line}.")
