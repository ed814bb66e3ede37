"""`shardproxy explain`: where a statement would go, and why. Executes nothing but queries of the shards' catalogs."""

import asyncio
import sys
from collections.abc import Hashable
from pathlib import Path

from shardproxy.config import Config, load
from shardproxy.errors import PgError
from shardproxy.routing import Memory
from shardproxy.routing.explain import Explanation
from shardproxy.routing.explain import explain as explained
from shardproxy.session.database import Database
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.sql import analyze

FAILED = 1
USAGE = 2


def run(path: Path, sql: str, database: str | None) -> int:
    """Explain each statement of `sql` on standard output; 1 if one would be refused."""
    config = load(path)
    names = [entry.name for entry in config.databases]
    if database is None and len(names) > 1:
        print(f"the file has several databases; use --database with one of {', '.join(names)}", file=sys.stderr)
        return USAGE
    if database is not None and database not in names:
        print(f'no database "{database}" in the file; it has {", ".join(names)}', file=sys.stderr)
        return USAGE
    return asyncio.run(explain(config, sql, database or names[0]))


class NoClient:
    """Nothing is sent to a client, and nothing comes from one."""

    writable = True

    def pause_reading(self, reason: Hashable) -> None:
        """Nothing comes."""

    def resume_reading(self, reason: Hashable) -> None:
        """Nothing comes."""


async def explain(config: Config, sql: str, name: str) -> int:
    """Print where each statement goes."""
    database = Database(next(entry for entry in config.databases if entry.name == name))
    shards = Shards(
        database.addresses,
        {},
        NoClient(),
        lambda shard, connection: None,
        {},
        database.deadlocks,
        favoured=database.unlisted_shard,
    )
    resolver = Resolver(database, shards)
    names = [address.name for address in database.addresses]
    refused = False
    try:
        statements = analyze(sql)
        # As one Query: several statements are one transaction.
        memory = Memory(in_transaction=len(statements) > 1)
        for statement in statements:
            print(" ".join(statement.text.split()))
            tables = await resolver.resolve(statement)
            context = await resolver.context(statement, tables, ())
            try:
                found = explained(statement, tables, context, memory, names)
            except PgError as error:
                refused = True
                print(_refusal(error))
            else:
                memory = memory.after(statement, found.first(context.home))
                print(_described(found))
    except PgError as error:
        print(_refusal(error), file=sys.stderr)
        return FAILED
    finally:
        shards.close()
    return FAILED if refused else 0


def _described(found: Explanation) -> str:
    lines = [f"  goes to:  {found.where}", f"  because:  {found.why}"]
    if found.answer is not None:
        lines.append(f"  answer:   {found.answer}")
    return "\n".join(lines)


def _refusal(error: PgError) -> str:
    lines = [f"  refused:  {error.sqlstate}: {error.message}"]
    if error.detail:
        lines.append(f"  detail:   {error.detail}")
    if error.hint:
        lines.append(f"  hint:     {error.hint}")
    return "\n".join(lines)
