"""A load that dies after its commit: `python -m tests.support.killed_load WHEN OPTIONS`.

WHEN is "before making", when no index has been made again, or "before completing", when they lack their constraints;
OPTIONS are a load's as a Python dictionary.
"""

import ast
import asyncio
import os
import sys

import shardproxy
from shardproxy.loader import indexes

KILLED = 9


async def _die(*_: object) -> None:
    os._exit(KILLED)


if __name__ == "__main__":
    _, when, given = sys.argv
    setattr(indexes, {"before making": "restore", "before completing": "_complete"}[when], _die)
    options = ast.literal_eval(given)
    asyncio.run(shardproxy.load(*options.pop("files"), **options))
