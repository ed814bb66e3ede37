"""`shardproxy recover`: show the transactions in doubt and resolve them now.

`serve` does the same by itself; this is for a time without it, and for who wants to see. Exit code 0: nothing is
in doubt any more; 1: something is, or a shard could not be asked.
"""

import asyncio
import logging
import sys
from pathlib import Path

from shardproxy.config import load
from shardproxy.shard.address import addresses_of
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.recovery import Doubt, Found
from shardproxy.transaction.two_phase import Limits


def run(config: Path) -> int:
    """Run the command; return the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(message)s")
    return asyncio.run(_recover(config))


async def _recover(path: Path) -> int:
    left = 0
    for database in load(path).databases:
        coordinator = Coordinator(database.name, addresses_of(database), Limits.of(database))
        found = await coordinator.recover()
        _show(database.name, found)
        left += len(found.open) + len(found.strangers) + len(found.away)
    return 1 if left else 0


def _show(database: str, found: Found) -> None:
    if not found.doubts and not found.strangers and not found.away:
        print(f"{database}: nothing in doubt")
    for doubt in found.doubts:
        print(f"{database}: {doubt.stem}, prepared {doubt.age:.0f} s ago on {', '.join(doubt.parts)}: {_fate(doubt)}")
        for error in doubt.errors:
            print(f"  {error.message}")
    for doubt in found.strangers:
        print(f"{database}: {doubt.stem}, prepared {doubt.age:.0f} s ago on {', '.join(doubt.parts)}: left alone")
        print(f"  its anchor, {doubt.anchor}, is none of the shards of this configuration")
    for name, error in found.away.items():
        print(f"{database}: shard {name} could not be asked: {error.message}")


def _fate(doubt: Doubt) -> str:
    if doubt.alive:
        return "being committed"
    if doubt.outcome is None:
        return "in doubt"
    word = "committed" if doubt.outcome == "commit" else "rolled back"
    waiting = sorted(set(doubt.parts) - doubt.finished)
    return f"{word}; not yet on {', '.join(waiting)}" if waiting else word
