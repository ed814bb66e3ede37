"""For a proxy whose tasks are to be counted: with this directory on PYTHONPATH it writes their number on SIGUSR1."""

import asyncio
import signal
import sys


def _tell(signum: int, frame: object) -> None:
    print(f"tasks: {len(asyncio.all_tasks())}", file=sys.stderr, flush=True)


signal.signal(signal.SIGUSR1, _tell)
