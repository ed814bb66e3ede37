"""What is one transaction of a load: all its files, or with an import id each file by itself."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shardproxy.errors import PgError
from shardproxy.loader.aside import Aside
from shardproxy.loader.blocking import in_thread
from shardproxy.loader.identity import Identity, identify
from shardproxy.loader.input.open import Source, sources
from shardproxy.loader.journal import Journal
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.summary import Summary
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, OBJECT_NOT_IN_PREREQUISITE_STATE, TRANSACTION_ROLLBACK

_LOST: Final = ("08", "57")
"""Classes of the errors after which a COMMIT may have been carried out: a lost connection, an ended server."""


@dataclass(slots=True)
class Unit:
    """One transaction. `files` are names; `first` and `last` of the import, or of the load."""

    files: Sequence[str]
    first: bool = True
    last: bool = True
    source: Source | None = None
    identity: Identity | None = None
    journal: Journal | None = None
    noted: bool = False
    outcome: bool | None = False
    """Whether it is committed; None if that could not be found out."""

    async def copied(self, connections: Iterable[Connection], rejects: Sequence[str]) -> None:
        """A COPY of it has ended: have the journal's row in the transaction of these connections."""
        if self.journal is not None and self.identity is not None and self.journal.changes:
            await self.journal.record(connections, self.identity, rejects)
            self.noted = True

    async def check(self) -> None:
        """Raise if the file is not what the journal says, just before the commit."""
        if self.journal is None or self.identity is None or self.source is None or not self.journal.changes:
            return
        source, name = self.source, self.identity.name
        if not self.noted:
            raise PgError(
                BAD_COPY_FILE_FORMAT,
                f'"{name}" holds no file',
                hint="The journal of an import id has no place for it.",
            )
        if await in_thread(lambda: identify(source)) != self.identity:
            raise PgError(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'file "{name}" has changed while it was loaded',
                hint="Repeat the load when it is complete.",
            )


async def units_of(options: LoadOptions, journal: Journal | None, summary: Summary) -> list[Unit]:
    """Return what is to be done. Raises PgError for files that the journal knows otherwise."""
    if journal is None:
        return [Unit(options.files)]
    found = await in_thread(lambda: [(one, identify(one)) for one in sources(options.files)])
    await journal.look([identity for _, identity in found])
    units: list[Unit] = []
    seen: set[str] = set()
    for source, identity in found:
        entry = journal.judge(identity)
        if entry is not None:
            summary.stored_before[source.name] = str(entry)
        elif identity.path in seen:
            summary.notes.append(f"{source.name} is named more than once, and loaded once")
        else:
            if (alike := journal.alike(identity)) is not None:
                summary.notes.append(f"{source.name} has the size, head and tail of {alike.path}, {alike}")
            units.append(
                Unit([source.name], first=False, last=False, source=source, identity=identity, journal=journal)
            )
        seen.add(identity.path)
    if units:
        units[-1].last = True
        units[0].first = not journal.entries
        around = [name for name in ("before", "truncate") if getattr(options, name)]
        if around and journal.entries:
            summary.notes.append(f"{' and '.join(around)} left out: done when the import began")
        if options.check:
            files = [one.files[0] for one in units]
            units = [Unit(files, first=units[0].first)]
    return units


async def committing(connection: Connection, unit: Unit, aside: Aside, summary: Summary) -> None:
    """Commit a unit, and tell the summary. Once COMMIT is sent its outcome is waited for, whoever cancels.

    Raises what the commit fails with; if it turns out to be committed, only where another unit follows.
    """
    names = list(unit.files)
    unit.outcome = None
    summary.status, summary.in_doubt = "unknown", names
    answer = asyncio.ensure_future(_commit(connection))
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.shield(asyncio.wait({answer}))
    except asyncio.CancelledError as error:
        cancelled = error
        await asyncio.wait({answer})
    refused = answer.exception()
    if refused is None:
        unit.outcome = True
    elif not isinstance(refused, PgError):
        raise refused
    elif unit.journal is not None and unit.identity is not None:
        unit.outcome = await unit.journal.holds(unit.identity.path)
    elif not refused.sqlstate.startswith(_LOST):
        unit.outcome = False
    if unit.outcome is not None:
        summary.in_doubt = []
        summary.committed += names if unit.outcome else []
        summary.status = "part" if summary.committed else "failed"
    if unit.outcome and unit.last:
        summary.status = "loaded"
    if unit.outcome is not False:
        aside.keep()
    if cancelled is not None:
        raise cancelled
    if refused is None:
        return
    if unit.outcome and unit.last:
        summary.notes.append(f"the answer to COMMIT was lost ({refused.sqlstate}); the journal has what it stored")
        return
    raise refused


async def _commit(connection: Connection) -> None:
    tag = await connection.execute("COMMIT")
    if tag != "COMMIT":
        raise PgError(TRANSACTION_ROLLBACK, "the transaction was rolled back")
