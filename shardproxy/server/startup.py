"""What `serve` examines on its shards before it accepts clients.

A table that cannot be placed as configured stops it: a guess would put rows on wrong shards. Everything else that
`check` reports is logged, since an unreachable shard or a missing table must not make the others unavailable.
"""

import logging
from collections.abc import Iterator, Sequence

from shardproxy.config import Config, ConfigErrors, Database, Problem
from shardproxy.routing.table import ShardedTable
from shardproxy.server.check_facts import ShardFacts, ask_all
from shardproxy.server.check_rules import Severity, judge

log = logging.getLogger(__name__)


async def examine_shards(config: Config) -> None:
    """Examine all shards; ConfigErrors for tables whose rows could not be placed."""
    if config.admin is not None:
        log.warning("[admin] listen = %r is not served by this version", config.admin.listen)
    problems: list[Problem] = []
    for database in config.databases:
        facts = await ask_all(database)
        for finding in judge(database, facts):
            if finding.level is not Severity.OK:
                log.warning("%s: %s: %s. %s", database.name, finding.subject, finding.message, finding.remedy)
        problems += _misplaced(database, facts)
    if problems:
        raise ConfigErrors("the shards", problems)


def _misplaced(database: Database, shards: Sequence[ShardFacts]) -> Iterator[Problem]:
    numbers = {shard.name: number for number, shard in enumerate(database.shards)}
    for table in database.tables:
        refusals = {
            refusal: facts.shard.name
            for facts in shards
            if table in facts.tables
            for refusal in ShardedTable.examine(table, facts.tables[table].relation, numbers)
        }
        for refusal, shard in refusals.items():
            path = f"{database.name}: {table.schema}.{table.relation} on shard {shard}"
            yield Problem(None, path, refusal.message, refusal.remedy)
