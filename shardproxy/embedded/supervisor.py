"""The process between a server (PostgreSQL, or the proxy itself) and its owner, the process that started it.

It starts the server, reports its exit, and when its standard input ends (the owner closed it, or died, even by
SIGKILL) it ends the server with all its children and removes its directory. The server does not outlive the
supervisor either: on Linux the kernel sends it `end_signal` when the supervisor dies.

It imports nothing of shardproxy and runs as a script: `python -I -S supervisor.py OWNER_PID [DIRECTORY]`, one
JSON object a line both ways:
  {"argv": [...], "env": {...}|null, "uid": int|null, "gid": int|null, "log": path, "end_signal": int}
  answered by {"pid": int} or {"error": str};
  {"exit": status} follows once the server and all its children have exited.
It keeps the privileges of its owner, so that it can signal and remove what an unprivileged user owns.
"""

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36

TICK = 1.0  # seconds between checks of the owner, as another process may have inherited its end of the pipe
TIMEOUT = 5.0  # seconds for an immediate shutdown; it needs milliseconds, so after that it is stuck


def children(pid: int) -> list[int]:
    """List the processes whose parent is `pid`, from /proc if it exists, else from ps."""
    found = []
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", "rb") as file:
                        # "pid (command) state ppid ...": the command may contain blanks and parentheses.
                        parent = int(file.read().rpartition(b")")[2].split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if parent == pid:
                    found.append(int(entry))
        return found
    listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(row.split()[0]) for row in listing.splitlines() if int(row.split()[1]) == pid]


def send(pid: int, signum: int) -> bool:
    """Signal a process; False if it does not exist any more."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def state(pid: int) -> str:
    """Return the letter that ps shows for a process's state, "X" if there is no such process."""
    if os.path.isdir("/proc/self"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                return chr(file.read().rpartition(b")")[2].split()[0][0])
        except (FileNotFoundError, ProcessLookupError):
            return "X"
    listing = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip()[:1] or "X"


def stop(pids: list[int]) -> list[int]:
    """SIGSTOP processes and wait until they have stopped: a running one stops a moment later."""
    stopped = [pid for pid in pids if send(pid, signal.SIGSTOP)]
    deadline = time.monotonic() + TIMEOUT
    while any(state(pid) not in "TZX" for pid in stopped) and time.monotonic() < deadline:
        time.sleep(0.001)
    return stopped


def freeze(parent: int) -> list[int]:
    """Stop a process and then all its children; return the pids that were stopped.

    PostgreSQL's backends are sessions of their own, so no process group contains them; a stopped parent does not
    fork any more.
    """
    return [*stop([parent]), *stop(children(parent))]


def _prctl() -> Callable[[int, int], object] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def call(option: int, value: int) -> None:
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    return call


class Supervisor:
    """At most one server at a time, over any number of restarts."""

    def __init__(self, owner: int, directory: str | None) -> None:
        self._owner = owner
        self._directory = directory
        self._prctl = _prctl()
        self._server: subprocess.Popen[bytes] | None = None
        self._status: int | None = None  # of a server that ended before its children did
        self._ended_at = 0.0
        self._end_signal: int = signal.SIGQUIT
        self._stopping = False

    def run(self) -> None:
        """Serve until the owner has ended, then end and remove everything."""
        if self._prctl is not None:
            # Children of a server that died become ours instead of init's, so that we can end them too.
            self._prctl(PR_SET_CHILD_SUBREAPER, 1)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(reader, selectors.EVENT_READ)
            buffered = b""
            while not self._stopping and os.getppid() == self._owner:
                ready = {key.fd for key, _ in selector.select(TICK)}
                if reader in ready:
                    os.read(reader, 4096)
                if 0 in ready:
                    data = os.read(0, 65536)
                    if not data:
                        break
                    *lines, buffered = (buffered + data).split(b"\n")
                    for line in lines:
                        self._start(json.loads(line))
                self._reap()
        self._end()

    def _on_term(self, _signum: int, _frame: object) -> None:
        self._stopping = True

    def _reply(self, message: dict[str, Any]) -> None:
        try:
            os.write(1, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self._stopping = True

    def _start(self, command: dict[str, Any]) -> None:
        prctl, supervisor = self._prctl, os.getpid()
        self._end_signal = command["end_signal"]

        def bind_life() -> None:
            # After the change of user, which clears the setting.
            if prctl is not None:
                prctl(PR_SET_PDEATHSIG, command["end_signal"])
                if os.getppid() != supervisor:
                    os._exit(1)

        try:
            with open(command["log"], "ab") as log:
                self._server = subprocess.Popen(
                    command["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=command["env"],
                    user=command["uid"],
                    group=command["gid"],
                    extra_groups=None if command["uid"] is None else [],
                    umask=0o077,
                    start_new_session=True,
                    preexec_fn=bind_life,  # noqa: PLW1509 - this process has one thread
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._reply({"error": str(error)})
        else:
            self._status = None
            self._reply({"pid": self._server.pid})

    def _reap(self) -> None:
        """Collect exited children; report the exit once no process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if self._server is not None and self._status is not None:
                    self._server.returncode = self._status
                    self._server = None
                    self._reply({"exit": self._status})
                return
            if pid == 0:
                if self._status is not None and time.monotonic() - self._ended_at > TIMEOUT:
                    self._kill_rest()
                return
            if self._server is not None and pid == self._server.pid:
                self._status = os.waitstatus_to_exitcode(status)
                self._ended_at = time.monotonic()

    def _kill_rest(self) -> None:
        for pid in children(os.getpid()):
            for grandchild in freeze(pid)[1:]:
                send(grandchild, signal.SIGKILL)
            send(pid, signal.SIGKILL)

    def _end(self) -> None:
        if self._server is not None:
            for pid in [*children(self._server.pid), self._server.pid]:
                send(pid, signal.SIGCONT)
            send(self._server.pid, self._end_signal)
            deadline = time.monotonic() + TIMEOUT
            while self._server is not None and time.monotonic() < deadline:
                self._reap()
                time.sleep(0.01)
            while self._server is not None:
                self._kill_rest()
                self._reap()
                time.sleep(0.01)
        if self._directory is not None:
            shutil.rmtree(self._directory)


if __name__ == "__main__":
    Supervisor(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None).run()
