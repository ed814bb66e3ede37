"""The drivers' own suites, on one PostgreSQL and through the proxy: the tests whose outcome differs.

    python -m tests.clients.suites asyncpg
    python -m tests.clients.suites sqlalchemy --unlisted reference --only 'test/dialect/*'
    python -m tests.clients.suites asyncpg --unlisted one-shard --all

Fetches the source distribution with pip into a temporary folder and runs its tests file by file, on one server once,
and through a proxy for each arrangement: three shards with all tables on s0 or with reference tables, and one shard.
What differs and is reviewed stands in docs/clients.md, each line with its reason; the rest is printed, and makes the
exit status 1, as does a line of that list that no longer differs.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy

REVIEWED = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
EXTENSIONS = ("hstore", "citext")
ARRANGEMENTS = ("s0", "reference", "one-shard")
TEST_SECONDS = 300  # for one test, which is a failure then; 3000 rows by executemany can take a minute
FILE_SECONDS = 3600  # for a file or folder; what is not done by then has the outcome "not ended"
NOT_ENDED = "not ended"
IMPORTED = "imported"  # the folder of what tests import beside the suite
SEVERITY = ("skipped", "passed", "failure", "error")
RUN = (0, 1, 5)  # pytest's exit statuses: all passed, some failed, none selected


@dataclass(frozen=True)
class Suite:
    """A driver's tests, and how they find the server."""

    requirement: str
    tests: tuple[str, ...]  # patterns of files and folders in the source distribution
    needed: tuple[str, ...]  # folders of it without which the tests do not run
    imported: tuple[str, ...] = ()  # what the tests import beside

    def setup(self, folder: Path) -> list[str]:
        """Statements for each database; the server can read `folder`."""
        return []

    def arguments(self, dsn: str) -> list[str]:
        """What pytest takes beside the file."""
        return []

    def environment(self, host: str, port: str, database: str) -> dict[str, str]:
        """What the tests are to find in their environment."""
        return {"PGHOST": host, "PGPORT": port, "PGUSER": "postgres", "PGDATABASE": database}


class Sqlalchemy(Suite):
    """SQLAlchemy's: a URI in the command line.

    It begins with CREATE EXTENSION IF NOT EXISTS. Embedded servers have no contrib: domains take the types' place, and
    the tests of those types fail on both sides.
    """

    def setup(self, folder: Path) -> list[str]:
        """Make the extension and the schemas that the suite expects."""
        folder.chmod(0o755)
        (folder / "extension").mkdir(mode=0o755)
        for name in EXTENSIONS:
            (folder / "extension" / f"{name}.control").write_text("default_version = '1.0'")
            (folder / "extension" / f"{name}--1.0.sql").write_text(f"CREATE DOMAIN {name} AS text;")
        return [
            f"SET extension_control_path = '{folder}:$system'; "
            + "; ".join(f"CREATE EXTENSION {n}" for n in EXTENSIONS),
            "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2",
        ]

    def arguments(self, dsn: str) -> list[str]:
        """Its plugin, loaded by its own conftest, leaves out what needs no database or only SQLite's."""
        return ["--dburi", dsn.replace("postgresql:", "postgresql+psycopg:", 1), "-p", "no:xdist", "--backend-only"]


SUITES = {
    "asyncpg": Suite("asyncpg==0.32.0", ("tests/test_*.py",), ("tests",), ("distro",)),
    "sqlalchemy": Sqlalchemy(
        "sqlalchemy==2.0.44",
        (
            "test/dialect/test_suite.py",
            "test/dialect/postgresql/test_*.py",
            "test/engine",
            "test/sql",
            "test/orm",
            "test/ext",
        ),
        ("lib", "test", "setup.cfg", "pyproject.toml"),
    ),
}
"""asyncpg's version is the one of the project's own environment: its tests run on the driver that is installed."""


@dataclass(frozen=True)
class Outcome:
    """How a test has ended."""

    what: str  # passed, skipped, failure, error
    why: str = ""

    @classmethod
    def of(cls, case: ET.Element) -> "Outcome":
        """Read it from pytest's JUnit report."""
        for child in case:
            if child.tag in {"failure", "error", "skipped"}:
                return cls(child.tag, (child.get("message") or "").strip())
        return cls("passed")


Outcomes = dict[str, Outcome]


@dataclass(frozen=True)
class Difference:
    """A test whose outcome differs."""

    name: str
    text: str


def fetch(suite: Suite, folder: Path) -> Path:
    """Download and unpack what the tests need of the source distribution."""
    name = suite.requirement.partition("==")[0]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", str(folder)]
    subprocess.run([*pip, suite.requirement], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        wanted = [member for member in tar if member.name.split("/")[1:2] and member.name.split("/")[1] in suite.needed]
        tar.extractall(folder, wanted, filter="data")
        return folder / wanted[0].name.partition("/")[0]


def run_file(suite: Suite, source: Path, file: str, dsn: str, scratch: Path) -> Outcomes:
    """Run the tests of one file against one server."""
    place = re.fullmatch(r"postgresql://.*@([^:/]+):(\d+)/(\w+)", dsn)
    assert place is not None
    report = scratch / "report.xml"
    report.unlink(missing_ok=True)
    config = source / "pyproject.toml"
    command = [sys.executable, "-m", "pytest", file, "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    command += ["-c", str(config) if "pyproject.toml" in suite.needed else os.devnull, "--rootdir", str(source)]
    command += [
        "--tb=native",
        "-o",
        "addopts=",
        f"--timeout={TEST_SECONDS}",
        f"--junitxml={report}",
        *suite.arguments(dsn),
    ]
    with (scratch / "output.txt").open("w") as output:
        try:
            ended = subprocess.run(
                command,
                cwd=source,
                env=os.environ | {"PYTHONPATH": str(scratch / IMPORTED)} | suite.environment(*place.groups()),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=FILE_SECONDS,
                check=False,  # tests that fail are what is looked for
            )
        except subprocess.TimeoutExpired:
            return {file: Outcome(NOT_ENDED)}
    if ended.returncode not in RUN or not report.exists():
        raise RuntimeError(f"{file} has not run:\n{(scratch / 'output.txt').read_text()}")
    return outcomes(ET.parse(report).iter("testcase"))


def outcomes(cases: Iterable[ET.Element]) -> Outcomes:
    """Read the cases of a JUnit report; of the cases with one name, as subtests have it, the worst counts."""
    found: Outcomes = {}
    for case in cases:
        name, outcome = f"{case.get('classname')}.{case.get('name')}", Outcome.of(case)
        if name not in found or SEVERITY.index(outcome.what) > SEVERITY.index(found[name].what):
            found[name] = outcome
    return found


def differences(direct: Outcomes, proxied: Outcomes) -> Iterator[Difference]:
    """The tests that differ, those of one reason together."""
    absent = Outcome("absent")
    found: list[tuple[str, Difference]] = []
    for name in sorted(direct.keys() | proxied.keys()):
        theirs, ours = direct.get(name, absent), proxied.get(name, absent)
        if theirs.what != ours.what:
            why = ours.why or theirs.why
            text = f"{name}: {theirs.what} on PostgreSQL, {ours.what} through the proxy\n    {why}"
            found.append((_kind(why), Difference(name, text)))
    return (one for _, one in sorted(found, key=lambda one: one[0]))


def _kind(message: str) -> str:
    """A message without what differs from test to test."""
    line = message.partition("\n")[0]
    return re.sub(r"\d+", "0", re.sub(r'"[^"]*"', '"…"', line))


def reviewed(text: str, suite: str, arrangement: str) -> dict[str, bool]:
    """The patterns of the list, a table of tests, arrangements and reason, and whether each differs every time."""
    _, _, section = text.partition(f"\n## {suite}\n")
    section = section.partition("\n## ")[0]
    found: dict[str, bool] = {}
    for tests, where in re.findall(r"^\| (`.*?`) \| (.*?) \| .*? \|$", section, re.MULTILINE):
        places = where.split(", ")
        if "all" in places or arrangement in places:
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", tests), "at times" not in places)
    return found


def selected(suite: Suite, source: Path, only: Iterable[str]) -> list[str]:
    """The files to run, in order."""
    files = [path.relative_to(source).as_posix() for pattern in suite.tests for path in sorted(source.glob(pattern))]
    patterns = list(only)
    return [file for file in files if not patterns or any(fnmatchcase(file, pattern) for pattern in patterns)]


def compare(
    suite: Suite, source: Path, files: Iterable[str], unlisted: str, direct: dict[str, Outcomes]
) -> Iterator[list[Difference]]:
    """Run each file on PostgreSQL, unless it has been (`direct`), and through a proxy, and tell what differs."""
    with ExitStack() as stack:
        servers = Servers(18)
        stack.callback(servers.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if suite.imported:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder / IMPORTED)]
            subprocess.run([*pip, *suite.imported], check=True)
        databases = Databases.create(servers, shards=1 if unlisted == "one-shard" else 3)
        stack.callback(databases.drop)
        for statement in suite.setup(folder):
            databases.execute(statement)
        tables = "s0" if unlisted == "one-shard" else unlisted
        settings = _settings(databases, databases.name, tables)
        # asyncpg's tests also connect to the database that every server has.
        every = _settings(databases, "postgres", tables).replace(f'/{databases.name}"', '/postgres"')
        proxy = Proxy(folder, settings + every[every.index("[[databases]]") :])
        stack.callback(proxy.close)
        for file in files:
            if file not in direct:
                direct[file] = run_file(suite, source, file, databases.oracle, folder)
            theirs = direct[file]
            found = list(differences(theirs, run_file(suite, source, file, proxy.dsn(databases.name), folder)))
            passed = sum(one.what == "passed" for one in theirs.values())
            told = f"{len(theirs)} tests, {passed} pass on PostgreSQL, {len(found)} differ"
            print(f"{unlisted}: {file}: {told}", flush=True)
            yield found


def _settings(databases: Databases, database: str, unlisted: str) -> str:
    return databases.config(database=database, commit="two-phase", unlisted_tables=unlisted)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.suites", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--unlisted", choices=ARRANGEMENTS, action="append", help="all three unless given")
    parser.add_argument("--only", nargs="*", default=[], help="patterns of files and folders")
    parser.add_argument("--source", type=Path, help="an unpacked source distribution, which is not fetched then")
    parser.add_argument("--all", action="store_true", help="print the reviewed differences, too")
    arguments = parser.parse_args()
    suite = SUITES[arguments.suite]
    direct: dict[str, Outcomes] = {}
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source.resolve() if arguments.source else fetch(suite, Path(folder))
        files = selected(suite, source, arguments.only)
        for unlisted in arguments.unlisted or ARRANGEMENTS:
            patterns = reviewed(REVIEWED.read_text(), arguments.suite, unlisted)
            found: list[Difference] = []
            new = 0
            for here in compare(suite, source, files, unlisted, direct):
                found += here
                unknown = [one for one in here if not any(fnmatchcase(one.name, pattern) for pattern in patterns)]
                new += len(unknown)
                for one in here if arguments.all else unknown:
                    print(f"{unlisted}: {one.text}", flush=True)
            names = [one.name for one in found]
            always = [pattern for pattern, every_time in patterns.items() if every_time and not arguments.only]
            idle = [pattern for pattern in always if not any(fnmatchcase(name, pattern) for name in names)]
            for pattern in idle:
                print(f"{unlisted}: reviewed, but does not differ: {pattern}")
            count = sum(map(len, direct.values()))
            print(f"{unlisted}: {count} tests: {len(found)} differ, {len(found) - new} of them reviewed", flush=True)
            status |= bool(new or idle)
    return status


if __name__ == "__main__":
    sys.exit(main())
