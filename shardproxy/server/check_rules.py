"""The findings of `check`, from the facts of the shards. No I/O.

An error is something that `serve` needs and the shards lack; a warning works, but may surprise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from shardproxy import sqlstate as states
from shardproxy.config import Database, Table
from shardproxy.config.rules import SEPARATE
from shardproxy.errors import PgError
from shardproxy.routing.relation import Column
from shardproxy.routing.table import ShardedTable
from shardproxy.server.check_facts import ServerFacts, ShardFacts, TableFacts

OLDEST, NEWEST = 13, 18
"""The supported major versions."""


class Severity(Enum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; with a remedy unless it is OK, and what the remedy refers to as the detail."""

    level: Severity
    subject: str
    message: str
    remedy: str = ""
    detail: str = ""


def judge(database: Database, shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    """Yield the findings of one database, its shards first and then its tables."""
    reached: list[tuple[ShardFacts, ServerFacts]] = []
    for facts in shards:
        yield from _shard(facts, database)
        if facts.server is not None:
            reached.append((facts, facts.server))
    yield from _across_shards(database, reached)
    complete = [facts for facts in shards if facts.failure is None]
    for table in database.tables:
        yield from _table(database, table, complete)


def _shard(facts: ShardFacts, database: Database) -> Iterator[Finding]:
    subject = f"shard {facts.shard.name}"
    server = facts.server
    if facts.failure is not None:
        yield _failure(facts, facts.failure)
    if server is None:
        return
    sound = facts.failure is None
    major = server.version_num // 10000
    if major < OLDEST:
        sound = False
        yield Finding(
            Severity.ERROR,
            subject,
            f"PostgreSQL {server.version} is older than {OLDEST}",
            f"Upgrade it to {OLDEST} or newer.",
        )
    elif major > NEWEST:
        yield Finding(
            Severity.WARNING,
            subject,
            f"PostgreSQL {server.version} is newer than {NEWEST}, the newest that shardproxy knows",
            "Use a newer shardproxy.",
        )
    if server.standby:
        sound = False
        yield Finding(Severity.ERROR, subject, "it is a standby and accepts no writes", "Set the dsn to the primary.")
    if database.commit == "two-phase" and server.prepared == 0:
        sound = False
        yield Finding(
            Severity.ERROR,
            subject,
            "max_prepared_transactions is 0, and two-phase commit needs prepared transactions",
            "Set max_prepared_transactions in postgresql.conf (max_connections is a good value) and restart the "
            'server, or set commit = "one-phase".',
        )
    if sound:
        prepared = f", {server.prepared} prepared transactions" if database.commit == "two-phase" else ""
        message = f"{facts.shard.dsn}: PostgreSQL {server.version}, {server.encoding}, {server.locale}{prepared}"
        yield Finding(Severity.OK, subject, message)


def _failure(facts: ShardFacts, failure: PgError) -> Finding:
    dsn = facts.shard.dsn
    text = failure.message
    match failure.sqlstate:
        case states.INVALID_AUTHORIZATION_SPECIFICATION | states.INVALID_PASSWORD:
            remedy = "Correct user and password in the dsn, or the server's pg_hba.conf."
        case states.INVALID_CATALOG_NAME:
            remedy = f'Create the database "{dsn.database}" there, or correct the dsn.'
        case states.TOO_MANY_CONNECTIONS:
            remedy = "Raise max_connections there, or close connections."
        case states.SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION | states.CONNECTION_FAILURE:
            text = failure.detail or text
            if isinstance(failure.__cause__, TimeoutError):
                remedy = f"Check the address {dsn.host}:{dsn.port}, and that no firewall drops packets to it."
            else:
                remedy = f"Start the server, or correct the address {dsn.host}:{dsn.port} in the dsn."
        case _:
            remedy = "Resolve what PostgreSQL reports, and check again."
    what = "cannot be reached" if facts.server is None else "its tables cannot be examined"
    return Finding(Severity.ERROR, f"shard {facts.shard.name}", f"{what} as {dsn}: {text}", remedy)


def _across_shards(database: Database, shards: Sequence[tuple[ShardFacts, ServerFacts]]) -> Iterator[Finding]:
    subject = f"database {database.name}"
    seen: dict[str, str] = {}
    for facts, server in shards:
        name = facts.shard.name
        if server.identity in seen:
            yield Finding(
                Severity.ERROR,
                f"shard {name}",
                f"is the same database as shard {seen[server.identity]}, under another address",
                SEPARATE,
            )
        seen.setdefault(server.identity, name)
    differing: tuple[tuple[Severity, str, Callable[[ServerFacts], object], str], ...] = (
        (
            Severity.ERROR,
            "encodings",
            lambda server: server.encoding,
            "Create the databases with the same ENCODING: the hash of a text key is that of its bytes.",
        ),
        (
            Severity.WARNING,
            "major versions",
            lambda server: server.version_num // 10000,
            "Upgrade them together: versions differ in what COPY and SQL accept.",
        ),
        (
            Severity.WARNING,
            "collations",
            lambda server: server.locale,
            "Create the databases with the same LC_COLLATE; otherwise text sorts differently on each.",
        ),
    )
    for level, what, fact, remedy in differing:
        values = {facts.shard.name: str(fact(server)) for facts, server in shards}
        if len(set(values.values())) > 1:
            yield Finding(level, subject, f"the shards have different {what}: {_spread(values)}", remedy)


def _table(database: Database, table: Table, shards: Sequence[ShardFacts]) -> Iterator[Finding]:
    subject = f"table {table.schema}.{table.relation}"
    wanted = [facts for facts in shards if table.shard in {None, facts.shard.name}]
    there = {facts.shard.name: facts.tables[table] for facts in wanted if table in facts.tables}
    absent = [facts.shard.name for facts in wanted if table not in facts.tables]
    total = 1 if table.shard else len(database.shards)
    findings: list[Finding] = []
    if absent:
        findings.append(
            Finding(
                Severity.ERROR,
                subject,
                "does not exist on any shard" if len(absent) == total > 1 else f"does not exist on {', '.join(absent)}",
                "Run its CREATE TABLE through shardproxy, which creates it on every shard."
                if not there
                else "Create it as it is on the other shards.",
            )
        )
    numbers = {shard.name: number for number, shard in enumerate(database.shards)}
    merged: dict[tuple[Severity, str, str], list[str]] = {}
    sharded = {(one.schema, one.relation): one.key for one in database.tables}
    for name, facts in there.items():
        for level, message, remedy in [*_one_table(table, facts, numbers), *_actions(table, facts, sharded)]:
            merged.setdefault((level, message, remedy), []).append(name)
    for (level, message, remedy), names in merged.items():
        where = "" if len(names) == len(wanted) else f" (on {', '.join(names)})"
        findings.append(Finding(level, subject, message + where, remedy))
    findings += _differences(subject, there)
    yield from findings
    if wanted and not any(finding.level is Severity.ERROR for finding in findings):
        key = f" by {', '.join(table.key)}" if table.key else ""
        yield Finding(Severity.OK, subject, f"{table.placement}{key}, on {_places(list(there), total)}")


def _one_table(table: Table, facts: TableFacts, numbers: Mapping[str, int]) -> Iterator[tuple[Severity, str, str]]:
    relation = facts.relation
    if relation.kind == "f":
        yield Severity.ERROR, "it is a foreign table", "List only tables whose rows are on the shards themselves."
    for refusal in ShardedTable.examine(table, relation, numbers):
        yield Severity.ERROR, refusal.message, refusal.remedy
    if facts.partition:
        yield (
            Severity.WARNING,
            "it is a partition of another table, through which it also gets rows",
            "List the root of the partitioned table instead.",
        )
    if facts.lacks:
        yield (
            Severity.WARNING,
            f"the dsn's user lacks the privileges {', '.join(facts.lacks)}",
            "GRANT them if clients need them: all clients act as the dsn's user.",
        )
    for name, columns in facts.unique if table.key else ():
        if not set(table.key) <= columns:
            yield (
                Severity.WARNING,
                f'unique index "{name}" does not contain the key, so it is enforced within each shard only',
                "Add the key's columns to it, or choose the key from its columns.",
            )


def _actions(
    table: Table, facts: TableFacts, sharded: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[tuple[Severity, str, str]]:
    """Foreign keys that would give rows another key. No statement sets the key of a sharded table they refer to."""
    for action in facts.actions:
        fixed = sharded.get((action.schema, action.relation), ()) if action.event == "UPDATE" else ()
        moving = [mine for mine, their in action.columns if their not in fixed]
        if moving and not action.cascades:
            moving = [mine for mine, _ in action.columns]
        for column in moving:
            if column in table.key:
                yield (
                    Severity.WARNING,
                    f'foreign key "{action.name}" sets key column "{column}" ON {action.event}: {action.event} of '
                    f'"{action.schema}.{action.relation}" is refused, as the rows would stay on the shards of their '
                    "old keys",
                    "Make it anew with NO ACTION, RESTRICT or ON DELETE CASCADE.",
                )


def _differences(subject: str, tables: Mapping[str, TableFacts]) -> Iterator[Finding]:
    """Compare each shard's columns with the first one's."""
    names = list(tables)
    for name in names[1:]:
        model, other = tables[names[0]].relation.columns, tables[name].relation.columns
        layouts = [[_layout(column) for column in columns] for columns in (model, other)]
        if layouts[0] != layouts[1]:
            yield Finding(
                Severity.ERROR,
                subject,
                f"differs between shards: {names[0]} has ({', '.join(layouts[0])}), "
                f"{name} has ({', '.join(layouts[1])})",
                "ALTER it on one of them until the names, types and order of the columns are the same.",
            )
            continue
        for one, two in zip(model, other, strict=True):
            for what, fact in _DETAILS:
                if fact(one) != fact(two):
                    yield Finding(
                        Severity.WARNING,
                        subject,
                        f'column "{one.name}" differs in its {what}: {fact(one)} on {names[0]}, {fact(two)} on {name}',
                        "ALTER it on one of them; otherwise a statement has different effects on each.",
                    )


_DETAILS: tuple[tuple[str, Callable[[Column], object]], ...] = (
    ("collation", lambda column: column.collation or "none"),
    ("default", lambda column: column.default or "none"),
    ("NOT NULL", lambda column: "set" if column.not_null else "not set"),
)


def _layout(column: Column) -> str:
    return f"{column.name} {column.type_name}{' generated' if column.generated else ''}"


def _places(names: Sequence[str], total: int) -> str:
    return f"all {total} shards" if len(names) == total > 1 else ", ".join(names)


def _spread(values: Mapping[str, str]) -> str:
    """Format `UTF8 (s0, s1), LATIN1 (s2)`."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in groups.items())
