"""`shardproxy load --repair`: indexes that a load has dropped, and has not made again as it died, are made."""

import sys
from pathlib import Path
from typing import Final

from shardproxy.loader.indexes import Restored, lock, open_server, restore
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.target.open import opened, target_of
from shardproxy.shard.address import Address

_TABLES: Final = "SELECT DISTINCT relation, table_name FROM shardproxy.dropped_indexes ORDER BY table_name"


async def repair(
    *, to: str | None = None, config: Path | None = None, database: str | None = None, parallel: int = 2
) -> list[Restored]:
    """Make them on one server, or on all shards of a database. Raises PgError: 55006 while the load still runs."""
    options = LoadOptions(files=("-",), table="-", to=to, config=config, database=database)
    async with opened(target_of(options), options) as target:
        return [one for address in target.addresses for one in await _repair(address, parallel)]


async def _repair(address: Address, parallel: int) -> list[Restored]:
    found = []
    async with open_server(address) as connection:
        if not await connection.fetchval("SELECT to_regclass('shardproxy.dropped_indexes') IS NOT NULL"):
            return []
        for row in await connection.fetch(_TABLES):
            await lock(connection, row["relation"], row["table_name"])
            one = await restore(connection, address, row["relation"], parallel)
            found.append(Restored(f"{row['table_name']} on {address.name}", one.made, one.failed))
    return found


def tell(found: list[Restored]) -> None:
    """Say what was done."""
    if not found:
        print("no load has left indexes dropped", file=sys.stderr)
    for one in found:
        print(f"{one.table}: {', '.join(one.made) or 'nothing'} made again", file=sys.stderr)
        for failed in one.failed:
            print(f"  not made: {failed}", file=sys.stderr)
