"""The decisions: `shardproxy.decisions` on every shard, and the arbitration that its unique index makes.

A transaction has one row, on its anchor. The committer inserts 'commit' in the anchor's own transaction, so the
anchor's commit is the decision; recovery inserts 'abort' and reads which row is there: the insert waits for a commit
in flight. Without a row and without a committer a transaction is undecided, and the first insert decides. The row's
key, in the column `gid`, is what the gids of all participants begin with (`gid.decision_key`).

When a row may be deleted:
- the committer deletes 'commit' once every participant has confirmed (nothing is in doubt any more);
- what killed proxies left is deleted after RETENTION when no participant has the transaction prepared.
  A row must outlive its committer: a proxy that was stopped for an hour and goes on must not find 'abort' gone
  and commit. So `decide_sql` refuses, by the anchor's own clock, what comes later than `limit` seconds after the
  moment at which the transaction began to prepare, and limits are far below RETENTION.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.sqlstate import (
    INSUFFICIENT_PRIVILEGE,
    NOT_NULL_VIOLATION,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    SERIALIZATION_FAILURE,
    UNDEFINED_TABLE,
    UNIQUE_VIOLATION,
)

if TYPE_CHECKING:
    from shardproxy.shard.control import Control

Outcome = Literal["commit", "abort"]

RETENTION = 3600.0
"""Seconds that a row of an unfinished committer stays: far beyond any deadline of a committer."""

SETUP_HINT = "`shardproxy check --fix` makes the tables; as a DBA, run the SQL in the detail on the shard."


SETUP_LOCK = 0x73687264_70727879
"""Key of the advisory lock around the making of the tables: the letters "shrdprxy"."""

SCHEMA_SQL = "CREATE SCHEMA IF NOT EXISTS shardproxy;"

PLACE_SQL = f"""{SCHEMA_SQL}
CREATE TABLE IF NOT EXISTS shardproxy.place (one boolean PRIMARY KEY DEFAULT true CHECK (one), \
database text NOT NULL, number integer NOT NULL, shards integer NOT NULL);"""


IMPORTS_SQL = f"""{SCHEMA_SQL}
CREATE TABLE IF NOT EXISTS shardproxy.imports (import_id text, relation text, path text, size bigint NOT NULL, \
digest text NOT NULL, load_id text NOT NULL, rejects text[] NOT NULL DEFAULT '{{}}', \
loaded timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), expires timestamptz NOT NULL, \
PRIMARY KEY (import_id, relation, path));"""
"""The journal of loads with an import id, see `loader.journal`."""


def imports_sql(role: str) -> str:
    """Return the SQL by which a DBA makes that journal for the role of a dsn."""
    return f"{IMPORTS_SQL}\n{_grants(role, imports=_IMPORTS_RIGHTS)}\n"


_IMPORTS_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


def place_sql(role: str) -> str:
    """Return the SQL by which a DBA makes the table of a shard's place for the role of its dsn."""
    return f"{PLACE_SQL}\n{_grants(role, place='SELECT, INSERT')}\n"


def _grants(role: str, **tables: str) -> str:
    quoted = '"' + role.replace('"', '""') + '"'
    grants = [f"GRANT {privileges} ON shardproxy.{table} TO {quoted};" for table, privileges in tables.items()]
    return "\n".join([f"GRANT USAGE ON SCHEMA shardproxy TO {quoted};", *grants])


def setup_sql(role: str | None = None) -> str:
    """Return the SQL that makes what two-phase commit needs on one shard; it can be run again.

    `role` is the role of the shard's dsn, if another one, a DBA's, runs it.
    """
    lines = [
        PLACE_SQL,
        "CREATE TABLE IF NOT EXISTS shardproxy.identity ("
        "one boolean PRIMARY KEY DEFAULT true CHECK (one), id text NOT NULL);",
        "CREATE TABLE IF NOT EXISTS shardproxy.decisions ("
        "gid text PRIMARY KEY, "
        "outcome text NOT NULL CHECK (outcome IN ('commit', 'abort')), "
        "participants text[] NOT NULL DEFAULT '{}', "
        "decided timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());",
        "INSERT INTO shardproxy.identity (id) "
        "VALUES (pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '')) ON CONFLICT DO NOTHING;",
        IMPORTS_SQL,
    ]
    if role is not None:
        rights = {"place": "SELECT, INSERT", "identity": "SELECT", "decisions": "SELECT, INSERT, DELETE"}
        lines.append(_grants(role, **rights, imports=_IMPORTS_RIGHTS))
    return "\n".join(lines) + "\n"


def decide_sql(anchor: str, key: str, participants: Sequence[str], before: float) -> str:
    """Return what the anchor runs last, its decision row and COMMIT, as one Query.

    The row cannot be written (23502) on a server that is not the anchor that the gids name, such as a copy of it,
    nor later than `before` (seconds of the epoch). Operators are spelled out, as the session may have any
    search_path.
    """
    return f"""INSERT INTO shardproxy.decisions (gid, outcome, participants) VALUES ('{key}',
  (SELECT CASE WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) pg_catalog.to_timestamp({before!r})
    THEN 'commit' END FROM shardproxy.identity AS i WHERE i.id OPERATOR(pg_catalog.=) '{anchor}'),
  '{{{",".join(participants)}}}'); COMMIT"""


_ARBITRATE = """INSERT INTO shardproxy.decisions (gid, outcome)
  SELECT $1, 'abort' WHERE $2::float8 IS NULL OR clock_timestamp() < to_timestamp($2) ON CONFLICT DO NOTHING"""


async def arbitrate(connection: "Control", key: str, before: float | None = None) -> Outcome | None:
    """Return the outcome of a transaction, 'abort' if it had none; `connection` is to its anchor.

    With `before` (seconds of the epoch, the anchor's clock) nothing is decided later, and the answer is then None:
    the row may have been there, and be gone.
    """
    await connection.execute(_ARBITRATE, key, before)
    # A statement of its own, for its snapshot must see what the insert has waited for.
    return await read(connection, key)


async def read(connection: "Control", key: str) -> Outcome | None:
    """Return the outcome if there is one."""
    outcome: Outcome | None = await connection.fetchval("SELECT outcome FROM shardproxy.decisions WHERE gid = $1", key)
    return outcome


async def forget(connection: "Control", keys: Sequence[str]) -> None:
    """Delete decisions that no transaction in doubt can need any more."""
    await connection.execute("DELETE FROM shardproxy.decisions WHERE gid = ANY ($1::text[])", list(keys))


def not_set_up(shard: str, role: str, cause: str) -> PgError:
    """Return the error of a shard without the tables, with the SQL that makes them."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        f'shard "{shard}" is not set up for two-phase commit: {cause}',
        detail=f"SQL: {setup_sql(role)}",
        hint=SETUP_HINT,
    )


def refused(error: PgError, anchor: Address) -> PgError | None:
    """Return what the anchor's refusal to write the decision means; None for an error of the client's own making."""
    if (error.fields.get("s"), error.fields.get("t")) == ("shardproxy", "decisions"):
        if error.sqlstate == UNIQUE_VIOLATION:
            return PgError(
                SERIALIZATION_FAILURE,
                "the transaction was rolled back by recovery before it could commit",
                detail="It was not prepared within prepare_timeout.",
                hint="The transaction might succeed if retried.",
            )
        if error.sqlstate == NOT_NULL_VIOLATION:
            return PgError(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'the decision could not be written on shard "{anchor.name}"',
                detail="The shard's identity has changed, or the transaction took too long to prepare.",
                hint="The transaction is rolled back and might succeed if retried.",
            )
    if error.sqlstate in {UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE}:
        return not_set_up(anchor.name, anchor.user, error.message)
    return None
