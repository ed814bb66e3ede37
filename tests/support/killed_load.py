"""A load that dies: `python -m tests.support.killed_load WHEN OPTIONS`.

WHEN is "before the rows", when its transaction has dropped the indexes; or after its commit, "before making", when no
index has been made again, or "before completing", when they lack their constraints. OPTIONS are a load's as a Python
dictionary.
"""

import ast
import asyncio
import os
import sys

import shardproxy
from shardproxy.loader import indexes, run

KILLED = 9


PLACES = {
    "before the rows": (run, "copy_file"),
    "before making": (indexes, "restore"),
    "before completing": (indexes, "_complete"),
}


async def _die(*_: object) -> None:
    os._exit(KILLED)


if __name__ == "__main__":
    _, when, given = sys.argv
    setattr(*PLACES[when], _die)
    options = ast.literal_eval(given)
    asyncio.run(shardproxy.load(*options.pop("files"), **options))
