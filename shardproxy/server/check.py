"""`shardproxy check`: the errors of the file, then those of the shards, all at once.

Examines all shards in parallel, each within its database's connect_timeout; without `--fix` and `--renumber` it changes
nothing. Exit codes: 0 no error (there may be warnings), 1 a shard or a table has an error, 2 the file has errors.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shardproxy.config import Config, ConfigErrors, Database, load
from shardproxy.config.model import Load
from shardproxy.rejects.files import unusable
from shardproxy.server.check_commit import judge_commit
from shardproxy.server.check_facts import ask_all
from shardproxy.server.check_places import judge_places
from shardproxy.server.check_rules import Finding, Severity, judge


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of all databases of one file."""

    config: Config
    findings: tuple[tuple[Database, tuple[Finding, ...]], ...]

    def count(self, level: Severity) -> int:
        """Return the number of findings of a level."""
        return Counter(finding.level for _, findings in self.findings for finding in findings)[level]

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return 1 if self.count(Severity.ERROR) else 0

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report."""
        databases = self.config.databases
        tables = sum(len(database.tables) for database in databases)
        counts = [_count(len(databases), "database"), _count(tables, "table")]
        users = len(self.config.users)
        counts.append(_count(users, "user") if users else "all clients on this machine are trusted")
        yield f"configuration: no errors; {', '.join(counts)}"
        for database, findings in self.findings:
            yield f"database {database.name}, {database.commit} commit"
            for finding in findings:
                yield f"  {finding.level.value:8} {finding.subject}: {finding.message}"
                if finding.remedy:
                    yield f"  {'':8} -> {finding.remedy}"
                for line in finding.detail.splitlines():
                    yield f"  {'':8} {line}"
        yield f"{_count(self.count(Severity.ERROR), 'error')}, {_count(self.count(Severity.WARNING), 'warning')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


async def check(path: Path, *, fix: bool = False, renumber: bool = False) -> Report:
    """Check a configuration file and its shards; ConfigErrors if the file has errors.

    `fix` creates the proxy's tables on the shards, `renumber` writes the shards' places; without them nothing is
    changed.
    """
    config = load(path)
    owners: dict[tuple[str, str], str] = {}
    places = [await judge_places(database, owners, fix=fix, renumber=renumber) for database in config.databases]
    databases = await asyncio.gather(
        *(_database(database, found, fix=fix) for database, found in zip(config.databases, places, strict=True))
    )
    return Report(config, tuple(zip(config.databases, databases, strict=True)))


async def _database(database: Database, places: Sequence[Finding], *, fix: bool) -> tuple[Finding, ...]:
    facts = await ask_all(database)
    # That a shard cannot prepare at all is already reported.
    able = (one.shard.name for one in facts if one.server is not None and one.server.prepared > 0)
    # On the shards of another database nothing is made.
    fix = fix and not any(finding.level is Severity.ERROR for finding in places)
    commit = await judge_commit(database, frozenset(able), fix=fix) if len(database.shards) > 1 else []
    return (*judge(database, facts), *_load(database.load), *places, *commit)


def _load(load: Load) -> Iterator[Finding]:
    reason = None if load.reject_dir is None else unusable(Path(load.reject_dir))
    if reason is not None:
        yield Finding(Severity.ERROR, "reject_dir", reason, "Make it writable for the proxy, or choose another one.")


def run(config: Path, *, fix: bool = False, renumber: bool = False) -> int:
    """Print the report of a configuration file and return the exit code."""
    try:
        report = asyncio.run(check(config, fix=fix, renumber=renumber))
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        print(_count(len(errors.problems), "error"), file=sys.stderr)
        return 2
    for line in report.lines():
        print(line)
    return report.exit_code
