"""What a session's COPY does with bad rows: its settings, and what becomes of the rows that are set aside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shardproxy.config.model import Load
from shardproxy.errors import PgError
from shardproxy.native import Splitter
from shardproxy.rejects.files import RejectFiles
from shardproxy.rejects.limits import RejectLimit
from shardproxy.rejects.reject import Reject
from shardproxy.session.copy_verify import Spread
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, WARNING

NAMES: Final = ("on_error", "reject_limit", "batch_rows", "batch_size")
"""The settings of a session that take the place of the configuration's, each after `shardproxy.`."""

HELD_BYTES: Final = 8 << 20
"""Bytes of rejects that are kept until the end, to be written in the order of the input; of more, so many at a time."""

REJECT_BYTES: Final = 1000
"""What a reject takes besides its row, about."""

ASKED: Final = "SELECT " + ", ".join(f"pg_catalog.current_setting('shardproxy.{name}', true)" for name in NAMES)


def is_setting(name: str) -> bool:
    """Whether a setting of the session's is one of these."""
    return name.startswith("shardproxy.")


def settled(load: Load, values: Sequence[bytes | None]) -> Load:
    """Return what holds for a COPY, given the session's values in the order of NAMES."""
    given = {name: value.decode("utf-8", "replace") for name, value in zip(NAMES, values, strict=True) if value}
    for name, value in given.items():
        if not _valid(name, value):
            raise PgError(
                INVALID_PARAMETER_VALUE,
                f'invalid value for parameter "shardproxy.{name}": "{value}"',
                hint=_HINTS[name],
            )
    return load.model_copy(update={name: int(value) if name in _NUMBERS else value for name, value in given.items()})


_NUMBERS: Final = frozenset({"batch_rows", "batch_size"})

_HINTS: Final = {
    "on_error": "Available values: stop, resume_next.",
    "reject_limit": "A number of rows, such as 1000, or a percentage, such as 5%.",
    "batch_rows": "A number of rows from 1 on.",
    "batch_size": "A number of bytes from 1 on.",
}


def _valid(name: str, value: str) -> bool:
    if name == "on_error":
        return value in {"stop", "resume_next"}
    if name in _NUMBERS:
        return value.isascii() and value.isdigit() and int(value) > 0
    try:
        RejectLimit.parse(value)
    except ValueError:
        return False
    return True


def check_load(load: Load) -> Path:
    """Return where rejects go; PgError without such a place, as rows would be lost."""
    if load.reject_dir is None:
        raise PgError(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            "shardproxy.on_error = 'resume_next' needs a place for the rows that are set aside",
            hint="Set reject_dir in [databases.load] of the proxy's configuration.",
        )
    return Path(load.reject_dir)


@dataclass(frozen=True, slots=True)
class Place:
    """What the rejects of one COPY are of."""

    database: str
    schema: str
    table: str
    load_id: str
    binary: bool


class Keeping:
    """The rejects of one COPY: counted, limited, written."""

    def __init__(
        self,
        load: Load,
        place: Place,
        version: int,
        staging_schema: str | None,
        warn: Callable[[dict[str, str]], None],
        spread: Spread | None,
    ) -> None:
        self.batch_rows = load.batch_rows
        self.batch_size = load.batch_size
        self.version = version
        self.staging_schema = staging_schema
        self._limit = RejectLimit.parse(load.reject_limit)
        directory = check_load(load)
        self._files = RejectFiles(
            directory, place.database, place.schema, place.table, place.load_id, binary=place.binary
        )
        self._table = place.table
        self._warn = warn
        self._spread = spread
        self._read = self._rejected = 0
        self._held: list[Reject] = []
        self._held_bytes = 0

    def set_header(self, header: bytes) -> None:
        """The input has one: the file of rejects begins with it."""
        self._files.header = header

    def judged(self, rows: int, rejects: Sequence[Reject], *, shard: str | None = None) -> None:
        """So many rows have been judged, and these set aside; PgError if they are too many."""
        self._read += rows
        self._rejected += len(rejects)
        if rejects:
            self._held += [replace(one, shard=shard) for one in rejects]
            self._held_bytes += sum(len(one.row) + REJECT_BYTES for one in rejects)
            if self._held_bytes > HELD_BYTES:
                self._write()
            last = max(rejects, key=lambda one: one.line)
            sample = f"line {last.line}: {last.sqlstate}: {last.message}"
            self._limit.check(self._read, self._rejected, sample=sample)

    def _write(self) -> None:
        self._files.write(sorted(self._held, key=lambda one: one.offset))
        self._held.clear()
        self._held_bytes = 0

    def finish(self) -> int:
        """All is judged: have the files on the disk, tell the client, return how many rows were set aside."""
        self._write()
        self._files.close()
        if self._rejected:
            rows = "1 row" if self._rejected == 1 else f"{self._rejected} rows"
            error = PgError(
                WARNING,
                f'{rows} of "{self._table}" {"was" if self._rejected == 1 else "were"} set aside',
                severity="WARNING",
                detail=f"See {self._files.dat} on the proxy's machine; .log and .jsonl beside it tell why.",
            )
            self._warn(error.fields)
        return self._rejected

    def discard(self) -> None:
        """Nothing was loaded."""
        self._held.clear()
        self._files.discard()

    async def spread(
        self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]
    ) -> None:
        """Give a reference table's rows to the other shards."""
        if self._spread is not None:
            await self._spread.check(splitter, connections, counts)
