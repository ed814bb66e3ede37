"""`shardproxy recover`: show the transactions in doubt and resolve them now.

`serve` does the same by itself; this command is for times without it, and for looking. Exit code 0: nothing is
in doubt any more; 1: something is, or a shard was unreachable.
"""

import asyncio
import logging
import sys
from pathlib import Path

from shardproxy.config import load
from shardproxy.shard.address import addresses_of
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.participant import Limits
from shardproxy.transaction.place import Places
from shardproxy.transaction.recovery import InDoubt, RecoveryPass


def run(config: Path) -> int:
    """Run the command; return the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(message)s")
    return asyncio.run(_recover(config))


async def _recover(path: Path) -> int:
    left = 0
    for database in load(path).databases:
        addresses = addresses_of(database)
        await Places(database.name, addresses).compare()
        coordinator = Coordinator(database.name, addresses, Limits.of(database))
        found = await coordinator.recover()
        _show(database.name, found)
        left += len(found.unresolved) + len(found.foreign) + len(found.unreachable)
    return 1 if left else 0


def _show(database: str, found: RecoveryPass) -> None:
    if not found.in_doubt and not found.foreign and not found.unreachable:
        print(f"{database}: no transaction in doubt")
    for one in found.in_doubt:
        print(f"{database}: {_described(one)}: {_outcome(one)}")
        for error in one.errors:
            print(f"  {error.message}")
    for one in found.foreign:
        print(f"{database}: {_described(one)}: left alone")
        print(f"  its anchor, {one.anchor}, is not a shard of this configuration")
    for name, error in found.unreachable.items():
        print(f"{database}: shard {name} is unreachable: {error.message}")


def _described(one: InDoubt) -> str:
    return f"{one.decision_key}, prepared {one.age:.0f} s ago on {', '.join(one.parts)}"


def _outcome(one: InDoubt) -> str:
    if one.committing:
        return "being committed"
    if one.outcome is None:
        return "in doubt"
    word = "committed" if one.outcome == "commit" else "rolled back"
    waiting = sorted(set(one.parts) - one.finished)
    return f"{word}; pending on {', '.join(waiting)}" if waiting else word
