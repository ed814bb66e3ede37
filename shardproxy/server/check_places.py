"""The part of `check` about the shards' places: their order and number, as they know it themselves."""

from shardproxy.config import Database
from shardproxy.errors import PgError
from shardproxy.server.check_rules import Finding, Severity
from shardproxy.shard.address import addresses_of
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.transaction.place import Places, Seen, unwritable

SUBJECT = "places"


async def judge_places(
    database: Database, owners: dict[tuple[str, str], str], *, fix: bool, renumber: bool
) -> list[Finding]:
    """Compare each shard's place with the configuration; `fix` writes those that are missing, `renumber` all.

    `owners` has, by `Seen.order`, the databases of the file that were judged before, and gets this one.
    """
    places = Places(database.name, addresses_of(database))
    findings: list[Finding] = []
    try:
        if renumber:
            changes = await places.renumber()
            findings += [Finding(Severity.OK, SUBJECT, change) for change in changes]
        elif fix:
            await places.settle()
    except PgError as error:
        # A shard that disagrees is found again below, as are all others.
        if renumber or error.sqlstate != OBJECT_NOT_IN_PREREQUISITE_STATE:
            findings.append(_finding(Severity.ERROR, SUBJECT, error))
    for address, seen in (await places.look()).items():
        subject = f"shard {address.name}"
        if isinstance(seen, PgError):
            continue  # that it is unreachable is reported with the shard
        other = owners.setdefault(seen.order, database.name)
        if disagreement := places.disagreement(address, seen):
            findings.append(_finding(Severity.ERROR, subject, disagreement))
        elif other != database.name:
            message = f'it is a shard of database "{other}" of this file, too'
            findings.append(Finding(Severity.ERROR, subject, message, "Give each its own; one would not be served."))
        elif _stays_unknown(database, seen):
            findings.append(_finding(Severity.WARNING, subject, unwritable(address)))
    return findings


def _finding(level: Severity, subject: str, error: PgError) -> Finding:
    detail = error.detail if error.detail and error.detail.startswith("SQL") else ""
    return Finding(level, subject, error.message, error.hint or "", detail)


def _stays_unknown(database: Database, seen: Seen) -> bool:
    # Without the tables of two-phase commit, the SQL that makes them makes this one too, and is shown already.
    shown = database.commit == "two-phase" and len(database.shards) > 1 and not seen.decisions
    return seen.place is None and not seen.writable and not shown
