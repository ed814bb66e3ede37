"""`shardproxy` commands in processes of their own: to be signalled, killed and waited for."""

import os
import signal
import sys
from pathlib import Path

from tests.support.preloaded import Preloaded


class Command:
    """One run, or another module's that is run as a script. It ends with the test run at the latest."""

    def __init__(self, log: Path, *arguments: object, module: str = "shardproxy") -> None:
        """Start it in `/`; both outputs go to `log`, which is begun anew."""
        self._log = log
        log.write_bytes(b"")
        self._process = Preloaded()
        argv = [sys.executable, "-m", module, *map(str, arguments)]
        self.pid = self._process.start(argv, log, env=dict(os.environ), end_signal=signal.SIGKILL)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process.running

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def signal(self, signum: int) -> None:
        """Send a signal; what has ended does not get it."""
        if self.running:
            os.kill(self.pid, signum)

    def end(self, patience: float = 60.0) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        try:
            assert self._process.wait(patience), f"it did not end within {patience} s:\n{self.output}"
            assert self._process.status is not None
            return self._process.status
        finally:
            self._process.close()

    def close(self) -> None:
        """Kill it if it runs."""
        self._process.close()


def run(log: Path, *arguments: object, module: str = "shardproxy") -> tuple[int, str]:
    """Run a command to its end; return the exit status and the output."""
    command = Command(log, *arguments, module=module)
    return command.end(), command.output
