"""PostgreSQL's own regression files, statement by statement, on one PostgreSQL and through the proxy.

    apt-get source --download-only postgresql-18    # from Debian sid; unpack src/test/regress
    python -m tests.oracle.regression src/test/regress --shards 3 --unlisted reference

A second PostgreSQL of its own tells what differs from run to run (times, OIDs, costs): where the two do not agree
nothing is compared. Rows are compared in no order. What the proxy refuses fails in PostgreSQL, too, so that both go on
from the same state. Long: tens of thousands of statements.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from shardproxy.wire import encode
from tests.oracle.arena import FAILS, shown
from tests.oracle.documented import first, refusal
from tests.oracle.scripts import Said, statements
from tests.oracle.transcript import CLOSED, NO_ANSWER, Item, error, read
from tests.support.databases import Databases, Servers, execute
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

SETTINGS = {"TimeZone": "America/Los_Angeles", "DateStyle": "Postgres, MDY", "IntervalStyle": "postgres_verbose"}
"""As pg_regress has them."""
OTHER_OIDS = "".join(f"CREATE TABLE shift{number} (a int); DROP TABLE shift{number};" for number in range(40))
RECOVERY = 60.0  # seconds
SHOWN = 5  # differences of a kind


class _UserTypes(dict[int, str]):
    """Every type that has no fixed OID has the same name."""

    def __contains__(self, oid: object) -> bool:
        return True

    def get(self, oid: int, default: object = None) -> str:
        return "a user's type"


NAMES = _UserTypes()


class Regression:
    """Runs files on the proxy and on two servers."""

    def __init__(self, dsns: list[str]) -> None:
        self._dsns = dsns  # the proxy's, PostgreSQL's, another PostgreSQL's
        self._clients: list[RawClient] = []
        self.count = 0
        self.same = 0
        self.unstable = 0
        self.refused: Counter[str] = Counter()
        self.differences: dict[str, list[str]] = defaultdict(list)

    def _connect(self) -> None:
        for client in self._clients:
            client.close()
        self._clients = [_connected(dsn) for dsn in self._dsns]

    def run(self, path: Path, variables: dict[str, str]) -> None:
        """Run one file."""
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        self._connect()
        for said in statements(text, variables):
            if said.connect:
                self._connect()
                continue
            self.count += 1
            self._statement(path.stem, said)

    def _statement(self, name: str, said: Said) -> None:
        data = encode.query(said.sql.encode("utf-8", "surrogateescape"))
        if said.data is not None:
            data += encode.copy_data(said.data) + encode.COPY_DONE
        ours, theirs, others = self._clients
        got = _answer(ours, data)
        reason = refusal(got)
        expected, again = (_answer(client, FAILS if reason is not None else data) for client in (theirs, others))
        if reason is None and got != expected == again:
            reason = _unlisted(got)
        if reason is not None:
            self.refused[reason] += 1
        elif expected != again:
            self.unstable += 1
        elif got == expected:
            self.same += 1
        else:
            kind = " for ".join(first(got, expected))
            self.differences[kind].append(
                f"{name}: {said.sql.strip()}\n  proxy:      {shown(got)}\n  PostgreSQL: {shown(expected)}"
            )
        if {CLOSED, NO_ANSWER} & {got[-1], expected[-1], again[-1]}:
            self._connect()


def _connected(dsn: str) -> RawClient:
    """Connect; a server that a statement has crashed is back in a moment."""
    until = time.monotonic() + RECOVERY
    while True:
        try:
            return RawClient(dsn, SETTINGS)
        except ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _answer(client: RawClient, data: bytes) -> list[Item]:
    client.send(data)
    return read(client, NAMES, lambda items: items[-1][0] == "Z")


def _unlisted(items: list[Item]) -> str | None:
    """A refusal that is not in the list, by its message without names."""
    told = error(items)
    if told is None or told["C"] != "0A000" or "H" not in told:
        return None
    return "not in the list: " + re.sub(r'"[^"]*"', '"…"', told["M"])


def _files(regress: Path, only: list[str]) -> Iterator[Path]:
    """The files in the order of the schedule."""
    for line in (regress / "parallel_schedule").read_text().splitlines():
        if line.startswith("test:"):
            for name in line.split()[1:]:
                path = regress / "sql" / f"{name}.sql"
                if path.exists() and (not only or name in only or name == "test_setup"):
                    yield path


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.regression", description=__doc__)
    parser.add_argument("regress", type=Path, help="PostgreSQL's src/test/regress")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--unlisted", default="s0", help="s0 or reference")
    parser.add_argument("--version", type=int, default=18)
    parser.add_argument("--only", nargs="*", default=[], help="names of files")
    parser.add_argument("--all", type=Path, help="a file for all differences")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        first_servers, second_servers = Servers(arguments.version), Servers(arguments.version)
        stack.callback(first_servers.close)
        stack.callback(second_servers.close)
        databases = Databases.create(first_servers, shards=arguments.shards)
        other = Databases.create(second_servers, shards=0)
        execute(other.oracle, OTHER_OIDS)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxy = Proxy(directory, databases.config(commit="two-phase", unlisted_tables=arguments.unlisted))
        stack.callback(proxy.close)
        work = Regression([proxy.dsn(), databases.oracle, other.oracle])
        for path in _files(arguments.regress, arguments.only):
            work.run(path, {"abs_srcdir": str(arguments.regress.resolve())})
            differing = sum(map(len, work.differences.values()))
            print(f"{path.stem}: {work.count} statements, {differing} differ", flush=True)
            if arguments.all is not None:
                arguments.all.write_text(_listed(work))
    _tell(work, shown=arguments.all is None)
    return 1 if work.differences else 0


def _listed(work: Regression) -> str:
    """All differences, by kind."""
    lines = []
    for kind, texts in sorted(work.differences.items(), key=lambda item: -len(item[1])):
        lines += [f"## {kind}: {len(texts)}", *texts]
    return "\n".join(lines)


def _tell(work: Regression, *, shown: bool) -> None:
    differing = sum(map(len, work.differences.values()))
    print(
        f"{work.count} statements: {work.same} the same, {sum(work.refused.values())} refused, "
        f"{work.unstable} that differ from run to run, {differing} differ"
    )
    for reason, times in work.refused.most_common():
        print(f"refused: {times:6} {reason}")
    for kind, texts in sorted(work.differences.items(), key=lambda item: -len(item[1])):
        print(f"differ:  {len(texts):6} {kind}")
        if shown:
            print("\n".join(texts[:SHOWN]))


if __name__ == "__main__":
    sys.exit(main())
