"""What `check` says of two-phase commit: whether each shard can take part, and what is in doubt there."""

from collections.abc import Iterator

from shardproxy.backend.together import each
from shardproxy.commit.control import addresses_of
from shardproxy.commit.recovery import Found, look
from shardproxy.commit.setup import check_shard, set_up
from shardproxy.config import Database
from shardproxy.errors import PgError
from shardproxy.server.check_rules import Finding, Level
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE

SUBJECT = "two-phase commit"


async def judge_commit(database: Database, reached: frozenset[str], *, fix: bool) -> list[Finding]:
    """Look at the shards named in `reached`; with `fix`, make the tables there first."""
    if database.commit == "one-phase":
        risk = "a failure between the shards' commits can leave some committed and others not"
        return [Finding(Level.WARNING, "one-phase commit", risk, 'Say commit = "two-phase" to rule that out.')]
    addresses = [address for address in addresses_of(database) if address.name in reached]
    findings: list[Finding] = []
    failure: PgError | None = None
    if fix:
        try:
            await set_up(addresses)
        except PgError as error:
            failure = error
    refusals = await each(check_shard(address) for address in addresses)
    if failure is not None and not any(refusal and refusal.detail == failure.detail for refusal in refusals):
        findings.append(_finding(Level.ERROR, SUBJECT, failure))
    for address, refusal in zip(addresses, refusals, strict=True):
        if refusal is not None:
            # `serve` makes the tables at its start, too, if it may.
            level = Level.WARNING if refusal.sqlstate == OBJECT_NOT_IN_PREREQUISITE_STATE and not fix else Level.ERROR
            findings.append(_finding(level, f"shard {address.name}", refusal))
    if not findings:
        findings.append(Finding(Level.OK, SUBJECT, "every shard that was reached can prepare transactions"))
    findings += _in_doubt(await look(addresses, {}, complete=False))
    return findings


def _finding(level: Level, subject: str, error: PgError) -> Finding:
    # The detail of a shard that is not set up is the SQL for a DBA.
    return Finding(level, subject, f"{error.message} ({error.sqlstate})", error.hint or "", error.detail or "")


def _in_doubt(found: Found) -> Iterator[Finding]:
    waiting = [doubt for doubt in found.doubts if not doubt.alive]
    if waiting:
        oldest = max(doubt.age for doubt in waiting)
        several = "transaction" if len(waiting) == 1 else "transactions"
        yield Finding(
            Level.WARNING,
            SUBJECT,
            f"{len(waiting)} {several} in doubt, the oldest prepared {oldest:.0f} s ago",
            "A running proxy resolves them; without one, run `shardproxy recover`.",
        )
