"""What a load has done, for people and for programs."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from shardproxy.errors import PgError

NAMED: Final = 10
"""Files that one line names."""

WARNINGS: Final = 20
"""Different warnings that are told."""

STORED, FAILED, ASIDE, PART, INTERRUPTED = 0, 1, 3, 4, 130
"""Exit codes, see docs/load.md."""


_COUNTS: Final = ("read", "stored", "updated", "set_aside", "skipped", "dropped", "bytes", "files")


@dataclass
class Phase:
    """One step of a load, and how long it took."""

    name: str
    seconds: float = 0.0


@dataclass
class Summary:
    """Of one table. read = stored + updated + set_aside + skipped + dropped, or the load has failed."""

    table: str
    target: str
    load_id: str
    status: str = "failed"
    """loaded, checked or dry run (nothing was committed, as was asked for), failed (nothing was), part (some was: the
    files in `committed`; the counts are of them), unknown (as part; and whether `in_doubt` was is not known)."""
    read: int = 0
    stored: int = 0
    updated: int = 0
    """Rows that have replaced one whose key was there, by on_conflict."""
    set_aside: int = 0
    skipped: int = 0
    """Rows whose key was there already, by on_conflict."""
    dropped: int = 0
    """Rows that a trigger has dropped."""
    bytes: int = 0
    seconds: float = 0.0
    files: int = 0
    committed: list[str] = field(default_factory=list)
    """The files that this load has committed, with an import id one by one."""
    stored_before: dict[str, str] = field(default_factory=dict)
    """The files that were left out as the journal of the import has them, and by which load they were stored."""
    in_doubt: list[str] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)
    """The .dat files."""
    altered: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unmade: list[str] = field(default_factory=list)
    """Indexes that have been dropped and could not be made again, each with its error."""
    phases: list[Phase] = field(default_factory=list)
    error: dict[str, str] | None = None
    """sqlstate, message, and as far as there are any detail, hint and where."""

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.status in {"part", "unknown"}:
            return PART
        if self.status == "failed":
            return FAILED
        return ASIDE if self.set_aside or self.unmade else STORED

    def interrupted(self) -> str:
        """What Ctrl-C has left."""
        if self.status == "loaded":
            return f"{self.table}: the rows were committed"
        said = f"committed: {_named(self.committed)}; nothing else was" if self.committed else "nothing was committed"
        if self.in_doubt:
            said = f"it is not known whether this was committed: {_named(self.in_doubt)}"
            said += f"; committed: {_named(self.committed)}" if self.committed else ""
        return f"{self.table}: {said}"

    def counts(self) -> tuple[int, ...]:
        """What counts rows, bytes and files, for `restore`."""
        return tuple(getattr(self, name) for name in _COUNTS)

    def restore(self, counts: tuple[int, ...]) -> None:
        """What was counted since has come to nothing."""
        for name, count in zip(_COUNTS, counts, strict=True):
            setattr(self, name, count)

    def failed(self, error: PgError) -> None:
        """It ends with this error; what was committed before is `committed`."""
        if self.status != "unknown":
            self.status = "part" if self.committed else "failed"
        facts = {"sqlstate": error.sqlstate, "message": error.message, "detail": error.detail, "hint": error.hint}
        facts["where"] = error.context
        self.error = {name: value for name, value in facts.items() if value}

    def facts(self) -> dict[str, Any]:
        """As JSON has it: docs/load.schema.json."""
        return {**asdict(self), "exit_code": self.exit_code}

    def text(self) -> str:
        """For a terminal."""
        rate = f"{(self.stored + self.updated) / self.seconds:,.0f} rows/s" if self.seconds > 0 else ""
        lines = [
            f"{self.table}: {self.status}",
            f"  read {self.read:,}, stored {self.stored:,}, updated {self.updated:,}, set aside {self.set_aside:,},"
            f" skipped {self.skipped:,}, dropped {self.dropped:,}",
            f"  {self.bytes:,} bytes in {self.seconds:.2f} s; {rate}",
        ]
        lines += [f"  {phase.name:<12} {phase.seconds:8.2f} s" for phase in self.phases]
        lines += [f"  altered: {count:,} {kind}" for kind, count in self.altered.items()]
        lines += [f"  left out: {name}: {why}" for name, why in self.stored_before.items()]
        if self.status in {"part", "unknown"}:
            lines += [f"  committed: {name}" for name in self.committed]
            lines += [f"  not known whether committed: {name}" for name in self.in_doubt]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  not made again: {what} (`shardproxy load --repair` tries again)" for what in self.unmade]
        lines += [f"  set aside in {name} (.log and .jsonl beside it tell why)" for name in self.rejects]
        return "\n".join(lines)


def _named(files: list[str]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


class Warnings:
    """What the server warns of: a trigger may do so for each row."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, message: str) -> None:
        """Count one."""
        if message in self._counts or len(self._counts) < WARNINGS:
            self._counts[message] += 1
        else:
            self._others += 1

    def notes(self) -> list[str]:
        """The different ones, as they came first."""
        notes = [message if count == 1 else f"{message} ({count:,} times)" for message, count in self._counts.items()]
        return [*notes, f"{self._others:,} other warnings"] if self._others else notes


class Timer:
    """Times the phases of a summary."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._begun = self._last = time.monotonic()

    def ended(self, name: str) -> None:
        """A phase ends here."""
        now = time.monotonic()
        for phase in self._summary.phases:
            if phase.name == name:
                phase.seconds += now - self._last
                break
        else:
            self._summary.phases.append(Phase(name, now - self._last))
        self._last = now
        self._summary.seconds = now - self._begun
