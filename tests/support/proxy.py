"""A running `shardproxy serve` for a test, in a process of its own."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from shardproxy.embedded.proxy import ProxyError, serve
from shardproxy.embedded.supervised import Supervised
from tests.support.preloaded import Preloaded, interpreter_reads

STOP_PATIENCE = 40.0  # seconds; the drain timeout is 30 by default

# What a proxy must never write, whatever a test does to it.
ALARMS = (
    "Traceback (most recent call last)",
    "was never retrieved",
    "was never awaited",
    "Exception ignored",
    "ResourceWarning",
    "AddressSanitizer",
    "runtime error:",
)


class Proxy:
    """One `shardproxy serve`, which ends with the test run even if that is killed."""

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration into `directory`, start, and wait until it is ready."""
        self.config_path = directory / "shardproxy.toml"
        self.log_path = directory / "proxy.log"
        self.config_path.write_text(config)
        self.config_path.chmod(0o600)
        self.host, self.port = "", 0
        self._arguments = list(arguments)
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process = Supervised() if interpreter_reads(env) else Preloaded()
        try:
            self.start()
        except BaseException:
            self._process.close()
            raise

    def start(self) -> None:
        """Start (again) and wait until it is ready."""
        self.host, self.port = serve(
            self._process, self.config_path, self.log_path, arguments=self._arguments, env=self._env
        )

    def dsn(self, dbname: str = "shop", user: str = "postgres", password: str | None = None) -> str:
        """Return the URI of a database of the proxy."""
        secret = f":{password}" if password is not None else ""
        return f"postgresql://{user}{secret}@{self.host}:{self.port}/{dbname}"

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process.pid is None:
            raise ProxyError("it does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.running

    @property
    def status(self) -> int | None:
        """How the last run ended: exit status, negative for a signal."""
        return self._process.status

    def log(self) -> str:
        """Return all that it has written to either output."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def rss(self) -> int:
        """Resident memory in bytes (Linux)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def signal(self, signum: int) -> None:
        """Send a signal, for instance SIGHUP to reload or SIGSTOP to stall it."""
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """SIGKILL it and wait."""
        self.signal(signal.SIGKILL)
        if not self._process.wait(STOP_PATIENCE):
            raise ProxyError("it, or a child of it, survived SIGKILL")

    def stop(self) -> int | None:
        """Ask it to drain with SIGTERM, wait, and return its exit status; an overdue one fails the test."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int | None:
        """Wait for what has had its SIGTERM, and return its exit status; an overdue one fails the test."""
        if not self._process.wait(STOP_PATIENCE):
            log = self.log()
            self._process.close()
            raise ProxyError(f"did not stop within {STOP_PATIENCE} s of SIGTERM:\n{log}")
        return self.status

    def close(self) -> None:
        """Stop it for good and fail if its log holds what no log should."""
        try:
            self.stop()
        finally:
            self._process.close()
        alarms = [alarm for alarm in ALARMS if alarm in self.log()]
        if alarms:
            raise ProxyError(f"the log holds {alarms}:\n{self.log()}")
