"""A statement that may write tables which it does not name: whether it has, and whether that was right on its shards.

PostgreSQL counts for each session what its transaction writes, table by table. A trigger, rule or function may write
what its shard alone has. It may not write one copy of a reference table, nor rows of a sharded table, which may belong
to other shards, nor a table that another shard has: then the statement is refused, and undone with its transaction.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shardproxy.combine.answers import Answer
from shardproxy.errors import PgError
from shardproxy.native import Splitter
from shardproxy.routing import Settings
from shardproxy.routing.refusals import own_schema, refused
from shardproxy.routing.resolved import TableName, Unseen
from shardproxy.session.counts import CountsSoFar
from shardproxy.session.database import Database
from shardproxy.session.lane_plans import Facts
from shardproxy.session.locate import TEMPORARY
from shardproxy.session.relay import Relay
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.shard.unseen import NONE, Changes, Counts
from shardproxy.sql import SCHEMA, DeclareCursor, Fetch, Modify, Statement, TableRef, Utility

EXCLUSIVE = 2
"""`Counts.locked` of a table that is truncated or altered."""

_COMMANDS = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})

_HINT = (
    "Let the application write it, by a statement of its own. Or see to it that no shard but this one has the table."
)


class Own(NamedTuple):
    """How many rows a statement has written itself, and by which command: the first word of its tag."""

    command: str
    rows: int

    @classmethod
    def told_by(cls, answers: Sequence[Answer]) -> "Own | None":
        """Read the tags of what the shards have answered; None if they do not tell."""
        tags = [(answer.tag or "").split(" ") for answer in answers]
        if not all(tag[0] in _COMMANDS and tag[-1].isdigit() for tag in tags):
            return None
        return cls(tags[0][0], sum(int(tag[-1]) for tag in tags))

    @classmethod
    def copied(cls, data: TableRef | Statement, tag: str) -> "Own | None":
        """Read the tag of a COPY TO of what RETURNING gives, which is one row for each that is written."""
        return cls(data.kind.name, int(tag.rpartition(" ")[2])) if isinstance(data, Modify) else None

    def explains(self, counts: Counts) -> bool:
        """Whether no more than that has been written; a row that moves to another partition is deleted and inserted."""
        added = counts.inserted + counts.updated
        match self.command:
            case "MERGE":
                return added + counts.deleted <= self.rows
            case "DELETE":
                return added == 0 and counts.deleted <= self.rows
            case "UPDATE":
                return added <= self.rows and counts.deleted <= counts.inserted
        return added <= self.rows and counts.deleted == 0


_NOTHING = Own("", 0)


@dataclass(frozen=True, slots=True)
class Watch:
    """One statement. Its shards are in the transaction."""

    database: Database
    shards: Shards
    counts: CountsSoFar
    unseen: Unseen
    before: dict[Connection, Changes]

    async def run(self, relay: Relay, request: Callable[[Connection], object]) -> list[Answer]:
        """Have a relay's shards run it, and return what they answer; what `check` asks goes along."""
        return await self.counts.run(relay, request)

    async def check(self, own: Own | None = None) -> None:
        """Raise if it has written where it may not; `own` is what it has written itself, if that is known.

        Otherwise nothing may have been written in its sharded table.
        """
        total = NONE
        for connection, changes in (await self.counts.of(list(self.before))).items():
            shard = self.shards.number_of(connection)
            for table, counts in _written(self.before[connection], changes).items():
                if counts[:3] == NONE[:3] and not self.unseen.truncated.isdisjoint(table):
                    continue
                if SCHEMA in {schema for schema, _ in table}:
                    raise own_schema()
                if self.unseen.sharded in table:
                    total = Counts(*map(sum, zip(total, counts, strict=True)))
                elif self.unseen.targets.isdisjoint(table) and not self._follows(table, counts):
                    self._check(table, counts, shard, connection)
        sharded = self.unseen.sharded
        if sharded is None or sharded in self.unseen.cascaded or (own or _NOTHING).explains(total):
            return
        if own is not None:
            raise self._refused("sharded table", sharded, "Its rows may belong to other shards.")
        raise refused(
            f'a write of sharded table "{".".join(sharded)}" with {self.unseen.what}, which may write tables, '
            "is not supported in this statement",
            "Send INSERT, UPDATE or DELETE as a statement of its own.",
            "Its tag does not tell how many rows it has written itself.",
        )

    def _follows(self, table: tuple[TableName, ...], counts: Counts) -> bool:
        """Whether it is what a foreign key does."""
        return not self.unseen.cascaded.isdisjoint(table) and counts.inserted == 0

    def _check(self, table: tuple[TableName, ...], counts: Counts, shard: int, connection: Connection) -> None:
        schema, _ = name = table[0]
        if schema.startswith(TEMPORARY):
            return
        here = f'It was about to be written on shard "{connection.name}" alone.'
        if self.unseen.truncated and len(self.before) > 1:
            here = "Each shard was about to write it for itself."
        name, listed = next(((one, found) for one in table if (found := self.database.table(*one))), (name, None))
        unlisted = self.database.config.unlisted_tables
        if listed is None and unlisted == "error":
            return  # each shard has its own
        if listed.placement == "reference" if listed is not None else unlisted == "reference":
            if counts[:3] == NONE[:3] and counts.locked < EXCLUSIVE:
                return  # no row was found here, and so none would be on another shard
            raise self._refused("reference table", name, here)
        alone = self.database.shard_of(listed) if listed is not None else self.database.unlisted_shard
        if alone is None:
            raise self._refused("sharded table", name, f"{here} Its rows may belong to other shards.")
        if alone != shard:
            raise self._refused("table", name, f'It lies on shard "{self.shards.addresses[alone].name}". {here}')

    def _refused(self, kind: str, name: TableName, detail: str) -> PgError:
        return refused(f'{self.unseen.what} of this statement writes {kind} "{".".join(name)}"', _HINT, detail)


@dataclass(frozen=True, slots=True)
class WatchedCopy:
    """A COPY FROM STDIN."""

    watch: Watch

    async def check(self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]) -> None:
        """Raise if it has written where it may not; `counts` are the rows that the shards have taken."""
        await self.watch.check(Own("COPY", sum(counts.values())))

    def check_setting_aside(self) -> None:
        """Raise if a COPY that sets rows aside could not be checked: what its savepoints take back is counted as well.

        For its own rows that is too much; for those of other tables any is.
        """
        unseen = self.watch.unseen
        if unseen.sharded is not None:
            raise refused(
                f'a COPY that sets rows aside, into sharded table "{".".join(unseen.sharded)}" with {unseen.what}, '
                "which may write tables, is not supported",
                "Disable the triggers meanwhile. Or let COPY stop at the first bad row: shardproxy.on_error = 'stop'.",
                "It could not be told from the rows that were taken back whether it has written others.",
            )

    async def check_set_aside(self) -> None:
        """Do the same as `check` for such a COPY into another table."""
        await self.watch.check()


class Watches:
    """Those of one session."""

    def __init__(self, database: Database, shards: Shards) -> None:
        self._database = database
        self._shards = shards
        self._counts = CountsSoFar(shards)
        self._cursors: dict[str, Unseen] = {}

    def needed(self, statement: Statement, facts: Facts | None) -> Unseen | None:
        """Return why a statement is to be watched, which has been planned."""
        if isinstance(statement, Fetch):
            return self.of_cursor(statement.name)
        unseen = None if facts is None else facts.context.unseen
        if isinstance(statement, DeclareCursor):
            if unseen is not None and statement.hold:
                raise refused(
                    f"DECLARE CURSOR WITH HOLD is not supported with {unseen.what}, which may write tables",
                    "Read with a plain SELECT.",
                    "What it writes when the transaction commits could not be looked at.",
                )
            self.opened(statement.name, unseen)
            return None
        if unseen is not None and facts is not None and isinstance(facts.plan, Settings):
            raise refused(
                f"a change of settings that calls {unseen.what}, which may write tables, is not supported",
                "Call it in a SELECT of its own, and give the setting what that returns.",
                "A setting is changed on each shard that the session uses, and it would be called on all of them.",
            )
        return unseen

    def learn(self, statement: Statement) -> None:
        """A statement has been run."""
        transaction = self._shards.transaction
        if transaction.open and isinstance(statement, Utility) and statement.tag == "SET CONSTRAINTS":
            transaction.deferring |= "deferred" in statement.text.lower()

    def opened(self, cursor: str, unseen: Unseen | None) -> None:
        """A cursor has been opened whose reads are watched for this reason."""
        self._cursors.pop(cursor, None)
        if unseen is not None:
            self._cursors[cursor] = unseen

    def of_cursor(self, name: str | None) -> Unseen | None:
        """Return why reading a cursor is to be watched."""
        return None if name is None else self._cursors.get(name)

    async def join(self, shards: Sequence[int]) -> None:
        """Bring shards into the transaction for a statement that is to be watched: what `begin` asks goes along."""
        await self._counts.join(shards)

    async def begin(self, unseen: Unseen | None, connections: Sequence[Connection]) -> Watch | None:
        """Ask before a statement runs, if there is a reason; its shards are in the transaction."""
        return None if unseen is None else await self.of(unseen, connections)

    async def over(self, facts: Facts | None, connection: Connection, run: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return what `run` does, and look at what its statement has written on this one of its shards."""
        watch = await self.begin(None if facts is None else facts.context.unseen, [connection])
        answer = await run()
        if watch is not None:
            await watch.check()
        return answer

    async def of(self, unseen: Unseen, connections: Sequence[Connection]) -> Watch:
        """Ask before a statement runs for this reason; its shards are in the transaction."""
        return Watch(self._database, self._shards, self._counts, unseen, await self._counts.of(connections))


def _written(before: Changes, after: Changes) -> dict[tuple[TableName, ...], Counts]:
    """Return what was written in between, by the names of each table and of those that it belongs to."""
    found: dict[tuple[TableName, ...], Counts] = {}
    for oid, (now, names) in after.items():
        then, _ = before.get(oid, (NONE, ()))
        # A shard that a COPY has left may have reported its counts, and begun anew.
        more = Counts(*(max(new - old, 0) for old, new in zip(then, now, strict=True)))
        counts = more._replace(locked=now.locked if more.locked else 0)
        if counts != NONE:
            found[names] = counts
    return found
