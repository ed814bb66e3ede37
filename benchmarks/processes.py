"""Processes of a benchmark, and what they cost: CPU seconds, resident memory, and who else kept the machine busy.

Every program runs below a supervisor that ends it when the benchmark ends, however that happens. CPU is read from
the kernel's own clock of the process (nanoseconds), so it does not depend on what else runs, as wall time does.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from shardproxy.embedded import Server
from shardproxy.embedded.supervised import Supervised
from shardproxy.embedded.supervisor import children

ROOT = Path(__file__).parent.parent
READY = re.compile(r"^ready: (.+)$", re.MULTILINE)
START_PATIENCE = 30.0  # seconds
SAMPLE = 0.02  # seconds between looks at a process's memory; VmHWM sees what falls in between
TICK = os.sysconf("SC_CLK_TCK")


class MeasurementError(Exception):
    """A run did not do what was to be measured, so there is no figure."""


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, past ones included (Linux: clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _stat(path: str) -> list[str]:
    # "pid (command) state ...": the command may hold blanks and parentheses.
    return Path(path).read_text().rpartition(")")[2].split()


def server_cpu_seconds(server: Server) -> float:
    """CPU time of a PostgreSQL: postmaster, backends that have ended, and its live children."""
    fields = _stat(f"/proc/{server.pid}/stat")
    total = sum(int(field) for field in fields[11:15]) / TICK
    for child in children(server.pid):
        try:
            total += cpu_seconds(child)
        except OSError:
            continue  # it has ended just now; the postmaster's own figure will hold it
    return total


def command_line(pid: int) -> bytes:
    """What a process calls itself; nothing for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def memory(pid: int, name: str) -> int:
    """One of the Vm... figures of /proc/PID/status, in bytes."""
    match = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if match is None:
        raise MeasurementError(f"the kernel does not tell {name} of process {pid}")
    return int(match[1]) * 1024


class Program:
    """A program of the benchmark's, in a process of its own; `ready` is what it printed after "ready: "."""

    def __init__(
        self, directory: Path, name: str, arguments: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Run `python ARGUMENTS`, with `env` added to the environment, and wait until it is ready."""
        self.log_path = directory / f"{name}-{time.monotonic_ns()}.log"
        self._process = Supervised()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
        try:
            self._process.start([sys.executable, *arguments], self.log_path, env=environment, end_signal=signal.SIGTERM)
            self.ready = self._wait()
        except BaseException:
            self._process.close()
            raise

    def _wait(self) -> str:
        deadline = time.monotonic() + START_PATIENCE
        while not (found := READY.search(self.log())):
            if not self._process.running or time.monotonic() > deadline:
                raise MeasurementError(f"{self.log_path.stem} did not start:\n{self.log()}")
            time.sleep(0.01)
        return found[1]

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process.pid is None:
            raise MeasurementError(f"{self.log_path.stem} has ended:\n{self.log()}")
        return self._process.pid

    @property
    def port(self) -> int:
        """The port of a program that has one."""
        return int(self.ready.rpartition(":")[2])

    def log(self) -> str:
        """What it has written."""
        return self.log_path.read_text(errors="replace")

    def cpu(self) -> float:
        """CPU seconds up to now."""
        return cpu_seconds(self.pid)

    def close(self) -> None:
        """End it."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PeakMemory:
    """The largest resident memory of a process while the block runs, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE):
            self.peak = max(self.peak, memory(self._pid, "VmRSS"))

    def __enter__(self) -> Self:
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # VmHWM starts again from here: proc(5)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, memory(self._pid, "VmHWM"))


class Load:
    """Which share of the machine's CPU time others than the benchmark took since this was made."""

    def __init__(self) -> None:
        self._busy, self._all, self._ours = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        times = [int(field) / TICK for field in first[1:9]]
        idle = times[3] + times[4]
        return sum(times) - idle, sum(times), _tree(os.getpid())

    def foreign_share(self) -> float:
        """From 0 to 1; steal by the hypervisor counts as foreign."""
        busy, everything, ours = self._now()
        passed = everything - self._all
        if passed <= 0:
            raise MeasurementError("the kernel's CPU accounting stood still")
        return max(0.0, (busy - self._busy) - (ours - self._ours)) / passed


def _tree(pid: int) -> float:
    """CPU time of a process and all below it, reaped ones included."""
    try:
        total = sum(int(field) for field in _stat(f"/proc/{pid}/stat")[11:15]) / TICK
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return total + sum(_tree(child) for child in children(pid))
