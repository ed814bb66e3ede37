"""For a process to be profiled: with this directory on PYTHONPATH, SIGUSR1 starts cProfile and SIGUSR2 ends it.

The environment's PROFILE names a file. It is empty once the profile has started, and holds the figures, as pstats
reads them, once it has ended. `benchmarks.profile` is the other side. Only the main thread is profiled.
"""

import cProfile
import os
import signal
from pathlib import Path

_profile = cProfile.Profile()
_file = Path(os.environ["PROFILE"])


def _start(signum: int, frame: object) -> None:
    _file.write_bytes(b"")
    _profile.clear()
    _profile.enable()


def _stop(signum: int, frame: object) -> None:
    _profile.disable()
    partial = _file.with_suffix(".partial")
    _profile.dump_stats(partial)
    partial.replace(_file)


signal.signal(signal.SIGUSR1, _start)
signal.signal(signal.SIGUSR2, _stop)
