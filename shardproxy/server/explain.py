"""`shardproxy explain`: where a statement would go, and why. Executes nothing but queries of the shards' catalogs."""

import asyncio
import sys
from pathlib import Path

from shardproxy.config import Config, load
from shardproxy.engine.database import Database
from shardproxy.engine.gang import Gang
from shardproxy.engine.resolver import Resolver
from shardproxy.errors import PgError
from shardproxy.routing import Route, route
from shardproxy.sql import Kind, Statement, analyze

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


async def explain(config: Config, sql: str, name: str) -> int:
    """Print where each statement goes."""
    database = Database(next(entry for entry in config.databases if entry.name == name))
    gang = Gang(database.addresses, {}, lambda shard, connection: None)
    resolver = Resolver(database, gang)
    refused = False
    try:
        for statement in analyze(sql):
            print(" ".join(statement.text.split()))
            tables = await resolver.resolve(statement)
            context = await resolver.context(statement, tables, ())
            try:
                print(_described(database, statement, route(statement, tables, context)))
            except PgError as error:
                refused = True
                print(_refusal(error))
    except PgError as error:
        print(_refusal(error), file=sys.stderr)
        return FAILED
    finally:
        await gang.close()
    return FAILED if refused else 0


def _described(database: Database, statement: Statement, found: Route) -> str:
    names = [address.name for address in database.addresses]
    match found.shards:
        case "home":
            where = "one shard, the session's home shard"
        case "all":
            where = f"all shards ({', '.join(names)})"
        case shards:
            where = ", ".join(names[shard] for shard in shards)
    lines = [f"  goes to:  {where}", f"  because:  {found.reason}"]
    if statement.kind is Kind.COPY_FROM and found.combine == "concatenate":
        lines.append("  answer:   the shards' counts added up")
    elif found.combine == "concatenate":
        lines.append("  answer:   the shards' rows concatenated, counts added up")
    elif found.combine == "same":
        lines.append("  answer:   the same from every shard, counted once")
    return "\n".join(lines)


def _refusal(error: PgError) -> str:
    lines = [f"  refused:  {error.sqlstate}: {error.message}"]
    if error.detail:
        lines.append(f"  detail:   {error.detail}")
    if error.hint:
        lines.append(f"  hint:     {error.hint}")
    return "\n".join(lines)
