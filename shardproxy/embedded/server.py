"""One embedded PostgreSQL server: start, signal, stop, crash, restart.

Calls block for as long as PostgreSQL takes (a start about 0.2 s once the template exists); coroutines use
`asyncio.to_thread`. Each server runs under its own supervisor process, which ends it and removes its directory when
this process ends, however it ends. Only loopback TCP, no Unix socket; all users are trusted unless `hba` is given.
"""

import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from shardproxy.embedded import supervisor
from shardproxy.embedded.installation import (
    SUPERUSER,
    EmbeddedError,
    Installation,
    account,
    installation,
    scratch_root,
    template,
)
from shardproxy.embedded.supervised import Supervised, SupervisedError

HOST = "127.0.0.1"
TRUST = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"

# Below the range from which kernels take the source ports of outgoing connections (32768 on Linux), so that a
# port stays free between a stop and a restart.
PORTS = range(15000, 32000)
PORT_ATTEMPTS = 5

START_TIMEOUT = 60.0  # seconds; a slow machine that recovers from a crash, not the usual 0.2
STOP_TIMEOUT = 30.0

# Settings for disposable data, and for two-phase commit (PostgreSQL's default is 0 prepared transactions).
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_prepared_transactions": "64",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Segments in the data directory: /dev/shm keeps those of a killed server, and containers make it small.
    "dynamic_shared_memory_type": "mmap",
}

StopMode = Literal["smart", "fast", "immediate"]
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def free_port() -> int:
    """Pick a loopback port that is free and that no outgoing connection takes by chance."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise EmbeddedError(f"no free port between {PORTS.start} and {PORTS.stop}")


class Server:
    """A running PostgreSQL. Make one with `Server.start`; `close` (or the end of the process) removes it."""

    def __init__(self, where: Installation, port: int, settings: Mapping[str, str], hba: str) -> None:
        self.version = where.major
        self.bin = where.bin
        self.host = HOST
        self.port = port
        self.superuser = SUPERUSER
        self.settings = dict(settings)
        self._lock = threading.RLock()
        # Ours, so that the server's account cannot put a link where we write; it may pass through to its data.
        self.directory = Path(tempfile.mkdtemp(prefix="shardproxy-pg-", dir=scratch_root()))
        self.directory.chmod(0o711)
        self.data_dir = self.directory / "data"
        self._keep_data = False
        self.log_path = self.directory / "server.log"
        self.hba_path = self.directory / "pg_hba.conf"
        self._write_hba(hba)
        self._process = Supervised(self.directory)

    @classmethod
    def start(
        cls,
        version: int = 18,
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        port: int = 0,
        *,
        encoding: str = "UTF8",
        locale: str | None = None,
        hba: str = TRUST,
    ) -> "Server":
        """Start a server of a major version and return it when it accepts connections.

        `data_dir` is initialised if it is absent or empty, and kept at the end; without it the data are removed
        with the server. `settings` override SETTINGS (fsync off, 64 prepared transactions, ...). Port 0 takes
        a free one. The locale is C.UTF-8 for UTF8, else C. `hba` is the text of pg_hba.conf.
        """
        where = installation(version)
        source = template(where, encoding, locale or ("C.UTF-8" if encoding == "UTF8" else "C"))
        server = cls(where, port, SETTINGS | dict(settings or {}), hba)
        try:
            if data_dir is not None:
                server.data_dir = data_dir.resolve()
                server._keep_data = True
            server._fill_data_dir(source)
            for attempt in range(1, PORT_ATTEMPTS + 1):
                server.port = port or free_port()
                try:
                    server._launch()
                    break
                except EmbeddedError:
                    # Another process may have taken the port since it was probed.
                    if port or attempt == PORT_ATTEMPTS or "could not bind" not in server.log():
                        raise
        except BaseException:
            server.close()
            raise
        return server

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process.pid else "stopped"
        return f"<Server {self.version} {self.host}:{self.port} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the postmaster runs."""
        return self._process.running

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process.pid is None:
            raise EmbeddedError(f"{self!r} is not running")
        return self._process.pid

    @property
    def psql(self) -> Path:
        """The psql of the same version."""
        return self.bin / "psql"

    @property
    def pgbench(self) -> Path:
        """The pgbench of the same version."""
        return self.bin / "pgbench"

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER) -> str:
        """Return the URI of a database of this server."""
        return f"postgresql://{user}@{self.host}:{self.port}/{dbname}"

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def pids(self) -> list[int]:
        """List the process ids of the postmaster and its children."""
        pid = self._process.pid
        return [pid, *supervisor.children(pid)] if pid is not None else []

    def set_hba(self, text: str) -> None:
        """Replace pg_hba.conf and have the server read it, for connections made after it has done so."""
        self._write_hba(text)
        self.reload()

    def reload(self) -> None:
        """Have the server read its configuration files again (asynchronous, as in PostgreSQL)."""
        os.kill(self.pid, signal.SIGHUP)

    def stop(self, mode: StopMode = "fast") -> None:
        """Shut down and wait; the data are kept for `restart`. Does nothing if the server does not run."""
        with self._lock:
            if not self.running:
                return
            self.resume()
            supervisor.send(self.pid, _STOP_SIGNALS[mode])
            if not self._process.wait(STOP_TIMEOUT):
                self.kill()
                raise EmbeddedError(f"{self!r} ignored a {mode} shutdown and was killed")

    def kill(self) -> None:
        """SIGKILL every process at once, as in a crash of the machine; the data are kept for `restart`."""
        with self._lock:
            if not self.running:
                return
            # Frozen first: a postmaster that sees a child die would start its own crash recovery.
            for pid in reversed(supervisor.freeze(self.pid)):
                supervisor.send(pid, signal.SIGKILL)
            if not self._process.wait(STOP_TIMEOUT):
                raise EmbeddedError(f"{self!r} survived SIGKILL")

    def pause(self) -> None:
        """SIGSTOP every process: sockets stay open, nothing answers."""
        supervisor.freeze(self.pid)

    def resume(self) -> None:
        """SIGCONT every process."""
        for pid in reversed(self.pids()):
            supervisor.send(pid, signal.SIGCONT)

    def restart(self, mode: StopMode = "fast", settings: Mapping[str, str] | None = None) -> None:
        """Stop if it runs, then start with the same port and data, and `settings` changed."""
        with self._lock:
            self.stop(mode)
            self.settings.update(settings or {})
            self._launch()

    def close(self) -> None:
        """End the server and remove its directory (a caller's `data_dir` is kept). May be called twice."""
        with self._lock:
            if self._keep_data:
                # The supervisor's immediate shutdown may lose the last commits, as synchronous_commit is off.
                self.stop()
            self._process.close()

    def _write_hba(self, text: str) -> None:
        self.hba_path.write_text(text)
        self.hba_path.chmod(0o644)

    def _fill_data_dir(self, source: Path) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.data_dir.iterdir()):
            return
        account().own(self.data_dir)
        copied = account().run("cp", "-Rp", f"{source}/.", self.data_dir)
        if copied.returncode != 0:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            raise EmbeddedError(f"cannot copy the data directory: {copied.stderr.strip()}")

    def _launch(self) -> None:
        """Start the postmaster and wait until its pid file reports that it is ready, as pg_ctl does."""
        fixed = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "hba_file": str(self.hba_path),
        }
        argv = [str(self.bin / "postgres"), "-D", str(self.data_dir)]
        for name, value in {**self.settings, **fixed}.items():
            argv += ["-c", f"{name}={value}"]
        pid_file = self.data_dir / "postmaster.pid"
        user = account()
        with self._lock:
            try:
                pid = self._process.start(argv, self.log_path, uid=user.uid, gid=user.gid)
            except SupervisedError as error:
                raise EmbeddedError(f"cannot start PostgreSQL: {error}") from error
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                # Its lines: pid, data directory, start time, port, socket directory, host, memory, status.
                lines = _lines(pid_file)
                if len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in {"ready", "standby"}:
                    return
                if not self._process.running or time.monotonic() > deadline:
                    tail = "\n".join(self.log().splitlines()[-5:])
                    raise EmbeddedError(f"PostgreSQL {self.version} did not start:\n{tail}")
                time.sleep(0.005)


def _lines(file: Path) -> list[str]:
    """Return the lines of a file; none if it is missing, as a starting server removes that of a crashed one."""
    try:
        return file.read_text().splitlines()
    except FileNotFoundError:
        return []
