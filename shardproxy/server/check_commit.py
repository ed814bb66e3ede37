"""The part of `check` about two-phase commit: whether each shard can take part, and what is in doubt there."""

from collections.abc import Sequence

from shardproxy.config import Database
from shardproxy.errors import PgError
from shardproxy.net.gather import each
from shardproxy.server.check_rules import Finding, Severity
from shardproxy.shard.address import Address, addresses_of
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.transaction.recovery import InDoubt, look, note_committers
from shardproxy.transaction.setup import check_shard, known_identities, set_up

SUBJECT = "two-phase commit"


async def judge_commit(database: Database, reached: frozenset[str], *, fix: bool) -> list[Finding]:
    """Examine the shards named in `reached`; with `fix`, create the tables there first."""
    addresses = [address for address in addresses_of(database) if address.name in reached]
    if database.commit == "one-phase":
        risk = "a failure between the shards' commits can leave some committed and others not"
        findings = [Finding(Severity.WARNING, "one-phase commit", risk, 'Set commit = "two-phase" to rule that out.')]
        return [*findings, *await _in_doubt(database, addresses)]
    findings = []
    failure: PgError | None = None
    if fix:
        try:
            await set_up(addresses)
        except PgError as error:
            failure = error
    refusals = await each(check_shard(address) for address in addresses)
    if failure is not None and not any(refusal and refusal.detail == failure.detail for refusal in refusals):
        findings.append(_finding(Severity.ERROR, SUBJECT, failure))
    for address, refusal in zip(addresses, refusals, strict=True):
        if refusal is not None:
            # `serve` creates the tables at its start too, if it has the privilege.
            level = (
                Severity.WARNING if refusal.sqlstate == OBJECT_NOT_IN_PREREQUISITE_STATE and not fix else Severity.ERROR
            )
            findings.append(_finding(level, f"shard {address.name}", refusal))
    if not findings:
        findings.append(Finding(Severity.OK, SUBJECT, "every shard that was reached can prepare transactions"))
    return [*findings, *await _in_doubt(database, addresses)]


def _finding(level: Severity, subject: str, error: PgError) -> Finding:
    # The detail of a shard that is not set up is the SQL for a DBA.
    return Finding(level, subject, f"{error.message} ({error.sqlstate})", error.hint or "", error.detail or "")


async def _in_doubt(database: Database, addresses: Sequence[Address]) -> list[Finding]:
    identities = await known_identities(addresses)
    found = await look(addresses, identities, complete=len(identities) == len(database.shards))
    await note_committers(found, addresses, identities)
    findings: list[Finding] = []
    if waiting := [doubt for doubt in found.in_doubt if not doubt.committing]:
        who = "A running proxy resolves them; otherwise run" if database.commit == "two-phase" else "Run"
        findings.append(Finding(Severity.WARNING, SUBJECT, f"{_count(waiting)} ago", f"{who} `shardproxy recover`."))
    if found.foreign:
        anchors = ", ".join(sorted({doubt.anchor for doubt in found.foreign}))
        findings.append(
            Finding(
                Severity.WARNING,
                SUBJECT,
                f"{_count(found.foreign)} ago, with an anchor that is none of these shards ({anchors})",
                "The decision is on that shard, in shardproxy.decisions: recover with a configuration that has it.",
            )
        )
    return findings


def _count(doubts: Sequence[InDoubt]) -> str:
    several = "transaction" if len(doubts) == 1 else "transactions"
    return f"{len(doubts)} {several} in doubt, the oldest prepared {max(doubt.age for doubt in doubts):.0f} s"
