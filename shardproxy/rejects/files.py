"""Where rejects of one load are kept: three files of one name, which no other load writes to.

<reject_dir>/<database>/<schema>.<table>.<load id>.dat     the rows as they were sent, to be loaded again
                                                 .log     for people
                                                 .jsonl   for programs, one object a row
"""

import errno
import io
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from shardproxy.copy.binary import HEADER, TRAILER
from shardproxy.errors import PgError
from shardproxy.rejects.reject import BEGINNING, Reject
from shardproxy.sqlstate import DISK_FULL, IO_ERROR

log = logging.getLogger(__name__)

SHOWN: Final = 200
"""Bytes of a row in the .log."""


def new_load_id() -> str:
    """Return a name for a load that sorts by time and is no other's."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def unusable(directory: Path) -> str | None:
    """Say why rejects cannot be kept under a directory, which may still be to be made; None if they can."""
    there = directory
    while not there.exists() and not there.is_symlink() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f'"{there}" is not a directory'
    if not os.access(there, os.W_OK | os.X_OK):
        return f'"{there}" is not writable'
    return None


class RejectFiles:
    """The files of one load, made with the first reject. Every error is PgError: 53100 for a full disk, else 58030."""

    def __init__(self, directory: Path, database: str, schema: str, table: str, load_id: str, *, binary: bool) -> None:
        # What a name may not be on a disk is written as in a URL.
        name = f"{_file_name(schema)}.{_file_name(table)}.{load_id}"
        self.stem = directory / _file_name(database) / name
        self._binary = binary
        self._files: dict[str, io.BufferedWriter] = {}
        self.header = b""
        """The input's header, newline and all, to begin the .dat with."""
        self._unended = False  # the last row in the .dat has no newline
        self._told = 0  # bytes of the .jsonl that `facts` has given

    @property
    def made(self) -> bool:
        """Whether there has been a reject."""
        return bool(self._files)

    @property
    def dat(self) -> Path:
        """The file of rows."""
        return self.stem.with_name(self.stem.name + ".dat")

    def write(self, rejects: Iterable[Reject]) -> None:
        """Append rejects."""
        try:
            for reject in rejects:
                files = self._files or self._open()
                if self._unended:
                    files["dat"].write(b"\n")  # the end of another file, or of what is tried again
                files["dat"].write(reject.row)
                last = reject.row[-1:] if reject.rest is None else _append(reject.rest, files["dat"])
                self._unended = not self._binary and last not in {b"\n", b"\r"}
                files["log"].write(self._for_people(reject).encode("utf-8", "backslashreplace"))
                files["jsonl"].write(self._for_programs(reject).encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise failed(error, self.stem) from error

    def close(self) -> None:
        """Have all of it on the disk."""
        try:
            if self._files and self._binary:
                self._files["dat"].write(TRAILER)
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
        except OSError as error:
            raise failed(error, self.stem) from error

    def facts(self) -> Iterator[dict[str, Any]]:
        """What has been written for programs since this was asked before."""
        if self._files:
            if not self._files["jsonl"].closed:
                self._files["jsonl"].flush()
            with self.stem.with_name(f"{self.stem.name}.jsonl").open("rb") as file:
                file.seek(self._told)
                yield from map(json.loads, iter(file.readline, b""))
                self._told = file.tell()

    def discard(self) -> None:
        """Remove the files: nothing of the load was stored, so nothing of it was set aside."""
        made, self._files = self._files, {}
        for ending, file in made.items():
            try:
                file.close()
            except OSError:
                file.raw.close()
            path = self.stem.with_name(f"{self.stem.name}.{ending}")
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("rejects of rows that were not loaded stay in %s: %s", path, error)

    def _open(self) -> dict[str, io.BufferedWriter]:
        self.stem.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for ending in ("dat", "log", "jsonl"):
            # Never another load's, nor through a link; the rows may be confidential.
            path = self.stem.with_name(f"{self.stem.name}.{ending}")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self._files[ending] = os.fdopen(descriptor, "wb")
        self._files["dat"].write(HEADER if self._binary else self.header)
        return self._files

    def _for_people(self, reject: Reject) -> str:
        where = f"{reject.file}: " if reject.file else ""
        text = f"{where}line {reject.line}: {reject.sqlstate}: {reject.message}\n"
        for word, value in (("DETAIL", reject.detail), ("HINT", reject.hint), ("shard", reject.shard)):
            text += f"    {word}: {value}\n" if value else ""
        row = reject.row[:SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n")
        return (
            text
            + "    row: "
            + row.replace("\r", "\\r").replace("\n", "\\n")
            + ("..." * (len(reject.row) > SHOWN))
            + "\n"
        )

    def _for_programs(self, reject: Reject) -> str:
        facts = {
            "file": reject.file,
            "line": reject.line,
            "offset": reject.offset,
            "row": reject.row[:BEGINNING].decode("utf-8", "backslashreplace"),
            "sqlstate": reject.sqlstate,
            "message": reject.message,
            "detail": reject.detail,
            "column": reject.column,
            "shard": reject.shard,
        }
        return json.dumps(facts, ensure_ascii=True) + "\n"


def _append(rest: IO[bytes], file: IO[bytes]) -> bytes:
    """Append what follows a row's beginning; return the last byte."""
    rest.seek(-1, io.SEEK_END)
    last = rest.read(1)
    rest.seek(0)
    shutil.copyfileobj(rest, file)
    rest.close()
    return last


def _file_name(name: str) -> str:
    return quote(name, safe=" ,;=@+()[]{}~!$&'").replace(".", "%2E") or "%00"


def failed(error: OSError, stem: Path) -> PgError:
    """Return what a file's error is to a load."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return PgError(
        DISK_FULL if full else IO_ERROR,
        f'could not write rejects to "{stem}": {os.strerror(error.errno) if error.errno else error}',
        hint="None of these rows are loaded. Free space under reject_dir, or choose another one."
        if full
        else "Nothing was loaded.",
    )
