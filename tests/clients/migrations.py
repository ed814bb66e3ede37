"""Migrations of Django, Alembic and Knex, and SQLAlchemy's own DDL, twice up and down, beside one PostgreSQL.

    python -m tests.clients.migrations
    python -m tests.clients.migrations django --unlisted reference

Fetches each tool with pip or npm into a temporary folder; one that cannot be fetched is skipped with the reason. Every
command of a project (tests/clients/projects) runs on one server and through the proxy over three shards. After each,
both must have ended alike, and the servers must hold the same:

* with `unlisted_tables = "reference"` every shard the schema of the one server, and all shards the same rows;
* with `"s0"` that shard the schema and the numbers of rows of the one server, and the other shards no table.

Sequences count on the first shard, so their values are compared there. The exit status is 1 if something differs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

PROJECTS = Path(__file__).parent / "projects"
ARRANGEMENTS = ("reference", "s0")
COMMAND_SECONDS = 180  # Django's first `migrate` takes 3 on a server
FETCH_SECONDS = 300
LINES = 12  # of what is told of one difference
TABLE = re.compile(r"^CREATE (?:UNLOGGED )?(?:TABLE|VIEW|SEQUENCE|INDEX)", re.MULTILINE)
ROWS = re.compile(r"^INSERT INTO (\S+|\".*?\")", re.MULTILINE)
CHANGING = re.compile(r"\\(?:un)?restrict \S+")  # pg_dump's random key against hostile servers


@dataclass(frozen=True)
class Step:
    """A command of a project."""

    command: tuple[str, ...]
    same_output: bool = False  # whether what it prints must be the same

    def __str__(self) -> str:
        return " ".join(self.command)


def steps(program: Sequence[str], *commands: str, same_output: Sequence[str] = ()) -> list[Step]:
    """Commands of one program, given as words with spaces between."""
    return [Step((*program, *command.split()), command in same_output) for command in commands]


@dataclass(frozen=True)
class Tool:
    """What is fetched, and what is run in its project, twice."""

    project: str
    requirements: tuple[str, ...]
    up_and_down: list[Step]


DJANGO_APPS = ("shop", "admin", "auth", "contenttypes", "sessions", "sites", "flatpages", "redirects")
DJANGO = ("python", "-m", "django")
TABLES = ("python", "tables.py")
ALEMBIC = ("python", "-m", "alembic")
KNEX = ("node_modules/.bin/knex",)
TOOLS = {
    "django": Tool(
        "django",
        ("django>=5.2,<7", "psycopg[binary]==3.3.9"),
        [
            *steps(DJANGO, "migrate", "migrate --check", "makemigrations --check --dry-run"),
            Step((*DJANGO, "shell", "-v", "0", "-c", "from shop.rows import write; write()"), same_output=True),
            Step((*DJANGO, "inspectdb"), same_output=True),
            *steps(DJANGO, "migrate shop 0002", "migrate shop", "flush --no-input"),
            *steps(DJANGO, *(f"migrate {app} zero" for app in DJANGO_APPS)),
        ],
    ),
    "sqlalchemy": Tool(
        "alembic",
        ("sqlalchemy>=2,<3", "psycopg[binary]==3.3.9"),
        steps(TABLES, "create", "inspect", "write", "inspect", "drop", same_output=("inspect", "write")),
    ),
    "alembic": Tool(
        "alembic",
        ("alembic>=1.13,<2", "sqlalchemy>=2,<3", "psycopg[binary]==3.3.9"),
        [
            *steps(ALEMBIC, "upgrade head", "check", "current", same_output=("current",)),
            *steps(TABLES, "inspect", "write", same_output=("inspect", "write")),
            *steps(ALEMBIC, "downgrade -1", "upgrade +1", "downgrade base", "upgrade +1", "downgrade base"),
        ],
    ),
    "knex": Tool(
        "knex",
        ("knex@3", "pg@8"),
        [
            *steps(KNEX, "migrate:latest", "seed:run", "seed:run", "migrate:down", "migrate:up"),
            *steps(KNEX, "migrate:rollback", "migrate:latest", "migrate:rollback --all"),
        ],
    ),
}


class NotFetchedError(Exception):
    """A tool cannot be had here."""


def fetch(tool: Tool, folder: Path) -> dict[str, str]:
    """Copy the project into `folder`, install what it needs beside it, and return the environment to run it in."""
    shutil.copytree(PROJECTS / tool.project, folder, dirs_exist_ok=True)
    if tool.project == "knex":
        if shutil.which("npm") is None:
            raise NotFetchedError("no npm")
        (folder / "package.json").write_text("{}")
        _fetch(["npm", "install", "--no-audit", "--no-fund", *tool.requirements], folder)
        return dict(os.environ)
    _fetch([sys.executable, "-m", "venv", "venv"], folder)
    _fetch(["venv/bin/python", "-m", "pip", "install", "-q", *tool.requirements], folder)
    path = f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": "settings"}


def _fetch(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.CalledProcessError as error:
        raise NotFetchedError(f"{' '.join(command)}: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NotFetchedError(f"{' '.join(command)}: not done in {FETCH_SECONDS} s") from error


def run(step: Step, folder: Path, environment: dict[str, str], dsn: str) -> "subprocess.CompletedProcess[str]":
    """Run a step against one server."""
    return subprocess.run(
        step.command,
        cwd=folder,
        env={**environment, "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,  # how it ends is compared
    )


def dump(databases: Databases, dsn: str) -> str:
    """What a server holds, without the proxy's own schema."""
    command = [str(databases.psql.with_name("pg_dump")), "--inserts", "--exclude-schema=shardproxy", dsn]
    return CHANGING.sub("", subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def held(databases: Databases, unlisted: str) -> Iterator[str]:
    """What the shards hold that they should not, or the reverse."""
    expected, *dumps = (dump(databases, dsn) for dsn in (databases.oracle, *databases.shards))
    first = dumps[0]
    for number, ours in enumerate(dumps):
        if number == 0 or unlisted == "reference":
            if _schema(ours) != _schema(expected):
                yield f"s{number}'s schema:\n{_difference(_schema(expected), _schema(ours))}"
            if _lines(ours, "INSERT") != _lines(first, "INSERT"):
                yield f"s{number}'s rows are not those of s0:\n{_difference(first, ours)}"
        elif TABLE.search(ours):
            yield f"s{number} has relations:\n{ours}"
    if sorted(ROWS.findall(first)) != sorted(ROWS.findall(expected)):
        yield f"s0 has other numbers of rows:\n{_difference(expected, first)}"
    if _lines(first, "SELECT pg_catalog.setval") != _lines(expected, "SELECT pg_catalog.setval"):
        yield f"s0's sequences are elsewhere:\n{_difference(expected, first)}"


def _schema(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(("INSERT", "SELECT pg_catalog.setval")))


def _lines(text: str, start: str) -> list[str]:
    return sorted(line for line in text.splitlines() if line.startswith(start))


def _end(process: "subprocess.CompletedProcess[str]") -> str:
    return "\n".join(f"  {line}" for line in (process.stdout + process.stderr).strip().splitlines()[-LINES:])


def _difference(theirs: str, ours: str) -> str:
    both = set(theirs.splitlines()) & set(ours.splitlines())
    lines = [f"  - {line}" for line in theirs.splitlines() if line not in both]
    return "\n".join([*lines, *(f"  + {line}" for line in ours.splitlines() if line not in both)][:LINES])


def differences(
    databases: Databases, proxy: Proxy, folder: Path, environment: dict[str, str], step: Step, unlisted: str
) -> Iterator[str]:
    """Run a step on both sides, and tell what differs."""
    theirs = run(step, folder, environment, databases.oracle)
    ours = run(step, folder, environment, proxy.dsn(databases.name))
    if theirs.returncode != 0:
        yield f"fails on PostgreSQL:\n{_end(theirs)}"
    if ours.returncode != theirs.returncode:
        yield f"ends with {ours.returncode} through the proxy:\n{_end(ours)}"
    elif step.same_output and ours.stdout != theirs.stdout:
        yield f"prints something else:\n{_difference(theirs.stdout, ours.stdout)}"
    yield from held(databases, unlisted)


def migrate(name: str, unlisted: str, servers: Servers, folder: Path, environment: dict[str, str]) -> bool:
    """Run a tool's steps twice in fresh databases, up to one that differs; return whether one does."""
    databases = Databases.create(servers)
    found: list[str] = []
    done = 0
    with ExitStack() as stack:
        stack.callback(databases.drop)
        settings = databases.config(database=databases.name, commit="two-phase", unlisted_tables=unlisted)
        proxy = Proxy(Path(stack.enter_context(tempfile.TemporaryDirectory())), settings)
        stack.callback(proxy.close)
        up_and_down = TOOLS[name].up_and_down
        for step in [*up_and_down, *up_and_down]:
            found = list(differences(databases, proxy, folder, environment, step, unlisted))
            done += not found
            for what in found:
                print(f"{name} {unlisted}: {step}: {what}", flush=True)
            if found:
                break  # what follows would differ by it
    print(f"{name} {unlisted}: {done} of {2 * len(up_and_down)} steps are the same", flush=True)
    return bool(found)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.migrations", description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="tool", help=f"of {', '.join(TOOLS)}; all unless given")
    parser.add_argument("--unlisted", choices=ARRANGEMENTS, action="append", help="both unless given")
    arguments = parser.parse_args()
    if unknown := set(arguments.tools) - set(TOOLS):
        parser.error(f"no tool {', '.join(sorted(unknown))}")
    differ = 0
    with ExitStack() as stack:
        servers = Servers(18)
        stack.callback(servers.close)
        for name in arguments.tools or TOOLS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="migrations-")))
            try:
                environment = fetch(TOOLS[name], folder)
            except NotFetchedError as error:
                print(f"{name}: skipped: {error}", flush=True)
                continue
            for unlisted in arguments.unlisted or ARRANGEMENTS:
                differ += migrate(name, unlisted, servers, folder, environment)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
