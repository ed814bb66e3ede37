"""The decisions: `shardproxy.decisions` on every shard, and the arbitration that its unique index makes.

A transaction has one row, on its anchor. The committer inserts 'commit' in the anchor's own transaction, so the
anchor's commit is the decision; whoever doubts inserts 'abort' and reads who won: the insert waits for a commit
in flight. Without a row and without a committer a transaction is undecided, and the first insert decides.

When a row may go:
- the committer deletes 'commit' once every participant has confirmed (nobody can be in doubt any more);
- what killed proxies left is deleted after RETENTION when no participant has the transaction prepared.
  A row must outlive its committer: a proxy that was stopped for an hour and goes on must not find 'abort' gone
  and commit. So `decide_sql` refuses, by the anchor's own clock, what comes later than `limit` seconds behind the
  moment at which the transaction began to prepare, and limits are far below RETENTION.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from shardproxy.errors import PgError
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

Outcome = Literal["commit", "abort"]

RETENTION = 3600.0
"""Seconds that a row of an unfinished committer stays: far beyond any deadline of a committer."""

SHOWN_SETUP = "`shardproxy check --fix` makes the tables; as a DBA, run the SQL in the detail on the shard."


def setup_sql(role: str | None = None) -> str:
    """Return the SQL that makes what two-phase commit needs on one shard; fit to be run again.

    `role` is the one of the shard's dsn, where another, a DBA's, runs it.
    """
    lines = [
        "CREATE SCHEMA IF NOT EXISTS shardproxy;",
        "CREATE TABLE IF NOT EXISTS shardproxy.identity ("
        "one boolean PRIMARY KEY DEFAULT true CHECK (one), id text NOT NULL);",
        "CREATE TABLE IF NOT EXISTS shardproxy.decisions ("
        "gid text PRIMARY KEY, "
        "outcome text NOT NULL CHECK (outcome IN ('commit', 'abort')), "
        "participants text[] NOT NULL DEFAULT '{}', "
        "decided timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());",
        "INSERT INTO shardproxy.identity (id) "
        "VALUES (pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '')) ON CONFLICT DO NOTHING;",
    ]
    if role is not None:
        quoted = '"' + role.replace('"', '""') + '"'
        lines += [
            f"GRANT USAGE ON SCHEMA shardproxy TO {quoted};",
            f"GRANT SELECT ON shardproxy.identity TO {quoted};",
            f"GRANT SELECT, INSERT, DELETE ON shardproxy.decisions TO {quoted};",
        ]
    return "\n".join(lines) + "\n"


def decide_sql(anchor: str, stem: str, participants: Sequence[str], before: float) -> str:
    """Return the anchor's last words: its decision row and COMMIT, one Query.

    The row cannot be written (23502) on a server that is not the anchor that the gids name, such as a copy of it,
    nor later than `before` (seconds of the epoch). Operators are spelled out, as the session may have any
    search_path.
    """
    return f"""INSERT INTO shardproxy.decisions (gid, outcome, participants) VALUES ('{stem}',
  (SELECT CASE WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) pg_catalog.to_timestamp({before!r})
    THEN 'commit' END FROM shardproxy.identity AS i WHERE i.id OPERATOR(pg_catalog.=) '{anchor}'),
  '{{{",".join(participants)}}}'); COMMIT"""


_ARBITRATE = """INSERT INTO shardproxy.decisions (gid, outcome)
  SELECT $1, 'abort' WHERE $2::float8 IS NULL OR clock_timestamp() < to_timestamp($2) ON CONFLICT DO NOTHING"""


async def arbitrate(connection: "Control", stem: str, before: float | None = None) -> Outcome | None:
    """Return the outcome of a transaction, 'abort' if it had none; `connection` is to its anchor.

    With `before` (seconds of the epoch, the anchor's clock) nothing is decided later, and the answer is then None:
    the row may have been there, and be gone.
    """
    await connection.execute(_ARBITRATE, stem, before)
    # A statement of its own, for its snapshot must see what the insert has waited for.
    return await read(connection, stem)


async def read(connection: "Control", stem: str) -> Outcome | None:
    """Return the outcome if there is one."""
    outcome: Outcome | None = await connection.fetchval("SELECT outcome FROM shardproxy.decisions WHERE gid = $1", stem)
    return outcome


async def forget(connection: "Control", stems: Sequence[str]) -> None:
    """Delete decisions about which nobody can be in doubt any more."""
    await connection.execute("DELETE FROM shardproxy.decisions WHERE gid = ANY ($1::text[])", list(stems))


def not_set_up(shard: str, role: str, cause: str) -> PgError:
    """Return the error of a shard without the tables, with the SQL that makes them."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        f'shard "{shard}" is not set up for two-phase commit: {cause}',
        detail=f"SQL: {setup_sql(role)}",
        hint=SHOWN_SETUP,
    )
