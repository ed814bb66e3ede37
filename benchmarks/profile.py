"""Where the proxy's time goes: cProfile inside the proxy while it runs one kind of statement, again and again.

`python -m benchmarks.profile KIND`, prepared without one. Prints the calls and the time of each statement, the modules,
then the functions that take most. `--callers NAME` prints who calls them, `--sort cumulative` another order's list.

cProfile makes a call dearer and leaves native code as it is: compare with `benchmarks.statement` before believing a
share. uvloop's own work appears as none of the functions; the time between calls is the event loop's and the kernel's.
"""

import argparse
import os
import pstats
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import real, small, stage
from benchmarks.processes import ROOT, MeasurementError

HOOK_FILE = Path(__file__).parent / "hook" / "sitecustomize.py"
PATIENCE = 30.0  # seconds
BUILT_IN = "~"
"""What pstats calls the file of a function in C."""

Key = tuple[str, int, str]


@dataclass(frozen=True)
class Cost:
    """One function: calls, and seconds in itself."""

    calls: int
    seconds: float


class Profile:
    """Profiles a process that was started with `environment`. Signals go to `pid` itself: workers are not followed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def environment(self) -> dict[str, str]:
        """What the process needs in its environment."""
        return {"PYTHONPATH": f"{ROOT}{os.pathsep}{HOOK_FILE.parent}", "PROFILE": str(self._file)}

    @contextmanager
    def of(self, pid: int) -> Iterator[None]:
        """Profile what the process does while the block runs."""
        self._file.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        self._wait(full=False)
        yield
        os.kill(pid, signal.SIGUSR2)
        self._wait(full=True)

    def _wait(self, full: bool) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._file.exists() or (full and not self._file.stat().st_size):
            if time.monotonic() > deadline:
                raise MeasurementError("the process does not react to the signals of the profile")
            time.sleep(0.002)

    @property
    def raw(self) -> pstats.Stats:
        """The profile of the last block, for all that pstats can print."""
        return pstats.Stats(str(self._file))

    @property
    def costs(self) -> Mapping[Key, Cost]:
        """The profile of the last block; functions in C have the file BUILT_IN."""
        figures: dict[Key, tuple[Any, ...]] = vars(self.raw)["stats"]
        return {
            key: Cost(calls, seconds) for key, (_, calls, seconds, _, _) in figures.items() if key[0] != str(HOOK_FILE)
        }

    def calls(self) -> tuple[int, int]:
        """Calls of Python functions, each resumption of a coroutine included, and of functions in C."""
        python = sum(cost.calls for (file, _, _), cost in self.costs.items() if file != BUILT_IN)
        return python, sum(cost.calls for cost in self.costs.values()) - python


STATEMENTS = {
    "prepared": "SELECT by key, prepared",
    "extended": "SELECT by key, extended",
    "simple": "SELECT by key, simple",
    "insert": "INSERT by key, prepared",
    "copy": "COPY of 1 row",
    "pipeline": "psycopg pipeline of 500 INSERTs",
    "transaction": "transaction of INSERT and SELECT",
    "executemany": f"asyncpg executemany of {small.PIPELINE} INSERTs",
    "visit": "connect, SELECT by key, leave",
}


def module(file: str) -> str:
    """The file of a function, from its package on."""
    parts = Path(file).with_suffix("").parts
    for root in ("shardproxy", "site-packages", "python3.11"):
        if root in parts[:-1]:
            return "/".join(parts[parts.index(root) + (root != "shardproxy") :])
    return file


def report(profile: Profile, times: int, sort: str, top: int, callers: str | None) -> None:
    """Print it, per statement."""
    costs = profile.costs
    python, native = profile.calls()
    total = sum(cost.seconds for cost in costs.values())
    print(
        f"{times} statements; for each {python / times:.1f} Python calls, {native / times:.1f} calls of C, "
        f"{total / times * 1e6:.0f} µs under the profiler\n"
    )
    modules: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (file, _, _), cost in costs.items():
        modules[module(file)][0] += cost.calls
        modules[module(file)][1] += cost.seconds
    print(f"{'calls':>8} {'µs':>8}  module")
    for name, (calls, seconds) in sorted(modules.items(), key=lambda item: -item[1][1])[:top]:
        print(f"{calls / times:8.1f} {seconds / times * 1e6:8.1f}  {'(functions in C)' if name == BUILT_IN else name}")
    print(f"\n{'calls':>8} {'µs':>8}  function")
    for (file, line, name), cost in sorted(costs.items(), key=lambda item: -item[1].seconds)[:top]:
        where = "" if file == BUILT_IN else f"  {module(file)}:{line}"
        print(f"{cost.calls / times:8.1f} {cost.seconds / times * 1e6:8.1f}  {name}{where}")
    print()
    stats = profile.raw
    stats.stream = sys.stdout  # type: ignore[attr-defined]
    if callers is not None:
        stats.sort_stats(sort).print_callers(callers)
    elif sort != "tottime":
        stats.sort_stats(sort).print_stats(top)


def main() -> None:
    """Run servers and the proxy, and profile one kind of statement."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("statement", choices=STATEMENTS, nargs="?", default="prepared")
    options.add_argument("--times", type=int, default=1000)
    options.add_argument("--top", type=int, default=40, help="lines of each list")
    options.add_argument("--sort", default="tottime", help="another order of pstats: its own list is then printed, too")
    options.add_argument("--callers", metavar="NAME", help="print who calls the functions of that name")
    options.add_argument("--commit", choices=("one-phase", "two-phase"), default="one-phase")
    arguments = options.parse_args()
    real.scratch()
    with stage.directory() as path, ExitStack() as stack:
        servers = small.start(stack)
        profile = Profile(path / "profile")
        proxy = stack.enter_context(stage.proxy(path, small.dsns(servers), arguments.commit, env=profile.environment()))
        session = stack.enter_context(small.session(stage.url(proxy)))
        small.fill(session)
        operation = small.OPERATIONS[STATEMENTS[arguments.statement]]
        for _ in range(max(small.WARM_UP, arguments.times // 10)):
            operation.run(session)
        with profile.of(proxy.pid):
            for _ in range(arguments.times):
                operation.run(session)
        report(profile, arguments.times * operation.statements, arguments.sort, arguments.top, arguments.callers)


if __name__ == "__main__":
    main()
