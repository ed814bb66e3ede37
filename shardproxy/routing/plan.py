"""What is done with a statement: one value for each way, with what its executor has to know and nothing else.

`route` makes a plan, the session carries it out, and `explain` tells it. A way of its own is a class here, a case in
`explain`, and its executor; the type checker names what is forgotten.
"""

from dataclasses import dataclass, field

from shardproxy.routing.written import WrittenColumn
from shardproxy.sql import Param


@dataclass(frozen=True, slots=True)
class Local:
    """The session answers by itself: transaction control, and nothing at all."""


@dataclass(frozen=True, slots=True)
class Home:
    """Any shard could answer, and the session's home shard does.

    `free`: the answer is the same on all of them, so that one which the session is connected to will do.
    """

    free: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class OneShard:
    """The answer of this shard is the answer."""

    shard: int


@dataclass(frozen=True, slots=True)
class Gather:
    """The rows of several shards, as they arrive; counts are added.

    `writes`: a function that it calls may write, on all of these shards or on none. `limit` is LIMIT's: each shard
    gives so many rows at most, and so many of all are the answer, whichever come first. It is a parameter where the
    value is not known: then there is nothing to run.
    """

    shards: tuple[int, ...]
    writes: bool = False
    limit: int | Param | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Columns that each shard fills in its own way, if their table has rows; `added` are those that are new.

    Of those that are `typed` only the type may have a default. `watched` is a function that might write other tables.
    """

    schema: str
    name: str
    columns: frozenset[str]
    added: frozenset[str]
    typed: frozenset[str]
    why: str
    watched: str | None = None

    @property
    def table(self) -> str:
        """The table's name in messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Replicate:
    """Every shard does the same, in one transaction, and its answer counts once.

    `lock` is the SQL that is run before on the first shard and then on the others, so that writers of a table's copies
    wait for each other in the same order everywhere. With `fill` there is more to do after it.
    """

    lock: str | None = None
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """How the rows that came of a write on the first shard get to the other copies of its table.

    `alias` is what the statement calls the table. `columns` are those to be sent, the key's among them. `old_key`: the
    first shard is asked for the key that a row had before, which the statement's own RETURNING calls `old_row`.
    `upserts`: an INSERT may have changed a row that was there. `triggers` may change the rows once more: what comes of
    it is compared; `silent` keeps them from it, and foreign keys from acting: then the columns `kept` may not change.
    `old_shown`: the shards have RETURNING old.*. `watched` is what might write other tables, which is refused when it
    does. `one_by_one`: unique values change, in an order that matters. `recursive`: the rows may refer to each other;
    `late`: constraints are verified when all have been changed.
    """

    schema: str
    name: str
    alias: str
    verb: str
    columns: tuple[WrittenColumn, ...]
    key: tuple[str, ...]
    upserts: bool = False
    old_key: bool = False
    old_row: str = "old"
    returning: bool = False
    triggers: tuple[str, ...] = ()
    silent: bool = False
    kept: tuple[str, ...] = ()
    old_shown: bool = False
    watched: str | None = None
    one_by_one: bool = False
    recursive: bool = False
    late: bool = False

    @property
    def whole(self) -> bool:
        """One statement is to write all rows."""
        return self.recursive or self.late


@dataclass(frozen=True, slots=True)
class Copies:
    """A write of a reference table: the first shard decides, the others follow, and the counts are compared.

    With `rows` they get the rows that came of it there, else they run the same statement. `keyed` tells that it is
    about one row at most. `lock` is the SQL by which a writer waits for its turn, as with `Replicate`. `spread` are
    the table's foreign keys that refer to rows of one shard each.
    """

    lock: str | None = None
    rows: Rows | None = None
    keyed: bool = False
    spread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ShardByShard:
    """On all shards, one after the other, outside of any transaction block; the answer counts once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A change of settings: on every connection of the session, and on those to come.

    `name` is the setting that an earlier change of the same need not be kept for; "all" stands for those that RESET ALL
    takes back, None for all of them. `local` tells that the transaction ends it. Without `lasting` later connections
    need not run it.
    """

    name: str | None
    local: bool = False
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class Connected:
    """On every connection of the session; the answer counts once."""


@dataclass(frozen=True, slots=True)
class ByKey:
    """Each row of a COPY goes to the shard of its key."""


@dataclass(frozen=True, slots=True)
class CopyFromClient:
    """COPY FROM STDIN; `rows` tells where its rows go."""

    rows: Home | OneShard | ByKey | Replicate | Copies


@dataclass(frozen=True, slots=True)
class CopyToClient:
    """COPY TO STDOUT; `rows` tells where its rows come from."""

    rows: Home | OneShard | Gather


Plan = (
    Local
    | Home
    | OneShard
    | Gather
    | Replicate
    | Copies
    | ShardByShard
    | Settings
    | Connected
    | CopyFromClient
    | CopyToClient
)


def lock_for(plan: Plan) -> str | None:
    """Return the statement that takes a change's lock on each of its shards, None if it has none to take first."""
    change = plan.rows if isinstance(plan, CopyFromClient) else plan
    return change.lock if isinstance(change, Replicate | Copies) else None


def limit_of(plan: Plan) -> int | None:
    """Return how many of its shards' rows the client gets at most; None for all."""
    rows = plan.rows if isinstance(plan, CopyToClient) else plan
    return rows.limit if isinstance(rows, Gather) and isinstance(rows.limit, int) else None
