"""What becomes of the rows that a client's COPY sets aside."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shardproxy.config.model import Load
from shardproxy.config.names import parse_relation
from shardproxy.errors import PgError
from shardproxy.rejects.files import RejectFiles
from shardproxy.rejects.held import Held
from shardproxy.rejects.hints import common
from shardproxy.rejects.limits import RejectLimit
from shardproxy.rejects.reject import Reject
from shardproxy.rejects.sink import RejectSink
from shardproxy.rejects.table import check, insert
from shardproxy.rejects.upsert import Upsert
from shardproxy.routing.identifiers import ascii_name
from shardproxy.session.copy_verify import Spread
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE, WARNING
from shardproxy.transaction.state import Transaction

HINTS: Final = 100
"""Different hints that are counted."""


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


Warn = Callable[[dict[str, str]], None]


class FileSink:
    """The rejects of a client's COPY: counted, limited, written to files under `reject_dir`."""

    skips = False
    upsert: Upsert | None = None

    def __init__(self, load: Load, place: Place, warn: Warn, transaction: Transaction) -> None:
        """`warn` tells the client; `transaction` is the COPY's. PgError where there is no place for rejects."""
        self._transaction = transaction
        self._limit = RejectLimit.parse(load.reject_limit)
        self._files = RejectFiles(
            check_load(load), place.database, place.schema, place.table, place.load_id, binary=place.binary
        )
        self._place = place
        self._in_table = None if load.reject_table is None else ascii_name(*parse_relation(load.reject_table))
        self._warn = warn
        self._read = self._rejected = 0
        self._held = Held()
        self._hints: Counter[str] = Counter()

    def set_header(self, header: bytes) -> None:
        """The file of rejects begins with it, too."""
        self._files.header = header

    def original(self, reject: Reject) -> Reject:
        """It is what the client has sent."""
        return reject

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """Count rows, and keep rejects."""
        self._read += rows
        self._rejected += len(rejects)
        if rejects:
            self._held.add(rejects)
            if self._held.full:
                self._held.write(self._files)
            last = max(rejects, key=lambda one: one.line)
            sample = f"line {last.line}: {last.sqlstate}: {last.message}"
            for one in rejects:
                if one.hint is not None and (one.hint in self._hints or len(self._hints) < HINTS):
                    self._hints[one.hint] += 1
            self._limit.check(self._read, self._rejected, sample=sample, hint=last.hint)

    def found(self, updated: int, left_out: int) -> None:
        """None has, as there is no `upsert`, and it does not skip."""
        raise AssertionError(f"{updated} rows of a client's have replaced others, {left_out} were left out")

    def passed(self, offset: int) -> None:
        """Nothing else is kept of the client's data."""

    async def finish(self, connections: Iterable[Connection]) -> int:
        """Have the files on the disk, and tell the client of them."""
        self._held.write(self._files)
        self._files.close()
        if self._files.made:
            self._transaction.when_undone(self._files.discard)
        if self._in_table is not None:
            place = self._place
            named = {"load_id": place.load_id, "relation": f"{place.schema}.{place.table}"}
            await insert(next(iter(connections)), self._in_table, named, self._files.facts())
        if self._rejected:
            rows = "1 row" if self._rejected == 1 else f"{self._rejected} rows"
            error = PgError(
                WARNING,
                f'{rows} of "{self._place.table}" {"was" if self._rejected == 1 else "were"} set aside',
                severity="WARNING",
                detail=f"See {self._files.dat} on the proxy's machine; .log and .jsonl beside it tell why.",
                hint=common(self._hints, self._rejected),
            )
            self._warn(error.fields)
        return self._rejected

    async def begin(self, connections: Iterable[Connection]) -> None:
        """See that rows can be set aside. Raises PgError where the table of rejects does not take them."""
        if self._in_table is not None:
            await check(next(iter(connections)), self._in_table)

    def discard(self) -> None:
        """Remove the files."""
        self._held.discard()
        self._files.discard()


MakeSink = Callable[[Load, Place, Warn], RejectSink]


@dataclass(frozen=True, slots=True)
class RejectPolicy:
    """How a COPY sets bad rows aside. `staging_schema`: see `Staging`; `spread`: gives a reference table's rows on."""

    batch_rows: int
    batch_size: int
    max_row: int
    reject_dir: Path | None
    version: int
    staging_schema: str | None
    sink: RejectSink
    spread: Spread | None
