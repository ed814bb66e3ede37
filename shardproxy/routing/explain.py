"""A plan in words, for people: where a statement goes, why, and how the answers become one.

`explain` calls `route`, as the proxy does, so it always agrees with it. The words are made from the plan, the
statement and its tables, here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from shardproxy.routing.memory import Memory
from shardproxy.routing.plan import (
    ByKey,
    Connected,
    Copies,
    CopyFromClient,
    CopyToClient,
    Gather,
    Home,
    Local,
    OneShard,
    Plan,
    Replicate,
    Settings,
    ShardByShard,
)
from shardproxy.routing.refusals import key_of
from shardproxy.routing.resolved import Context, Resolved, Tables
from shardproxy.routing.route import route
from shardproxy.sql import (
    CloseCursor,
    CopyFrom,
    CreateAs,
    Deallocate,
    DeclareCursor,
    Empty,
    Execute,
    Explain,
    Fetch,
    Insert,
    Listen,
    Modify,
    Notify,
    Param,
    Prepare,
    Select,
    Show,
    Statement,
    Unlisten,
    Utility,
)

ANY = "one shard, the session's home shard"
GATHERED = "the shards' rows concatenated, counts added up"
FIRST_ALONE = "the first shard's; the others get the rows that came of it there"
SAME = "the same from every shard, counted once"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a statement goes, why, and how its answer is made, if that needs a word."""

    plan: Plan
    where: str
    why: str
    answer: str | None = None

    def first(self, home: int) -> int:
        """The first of the shards that it goes to."""
        match self.plan.rows if isinstance(self.plan, CopyFromClient | CopyToClient) else self.plan:
            case OneShard(shard):
                return shard
            case Gather(shards):
                return shards[0]
        return home


def explain(
    statement: Statement, tables: Tables, context: Context, memory: Memory, names: Sequence[str]
) -> Explanation:
    """Route a statement and tell about it; `names` are the shards'. PgError where it is refused."""
    plan = route(statement, tables, context, memory)
    everywhere = f"all shards ({', '.join(names)})"
    match plan.rows if isinstance(plan, CopyFromClient | CopyToClient) else plan:
        case Local():
            return Explanation(plan, "the proxy", _why_local(statement))
        case Home():
            return Explanation(plan, ANY, _why_home(statement, tables, context, memory))
        case OneShard(shard):
            return Explanation(plan, names[shard], _why_one(statement, tables, context, memory, names))
        case Gather(shards, limit=limit):
            where = everywhere if len(shards) == context.nshards else ", ".join(names[shard] for shard in shards)
            return Explanation(plan, where, _why_several(tables, shards, context), _gathered(limit))
        case ByKey():
            [table] = tables.values()
            why = f"each row goes to the shard of its key ({key_of(table)})"
            return Explanation(plan, everywhere, why, "the shards' counts added up")
        case Replicate():
            return Explanation(plan, everywhere, _why_all(statement, tables), SAME)
        case Copies(rows=rows):
            return Explanation(plan, everywhere, _why_all(statement, tables), SAME if rows is None else FIRST_ALONE)
        case ShardByShard():
            return Explanation(plan, everywhere, "it runs on one shard after the other, in no transaction", SAME)
        case Settings():
            return Explanation(plan, everywhere, "settings are the same on every shard", SAME)
        case Connected():
            return Explanation(plan, everywhere, "it goes wherever the session has a connection", SAME)
        case other:
            assert_never(other)


def _why_local(statement: Statement) -> str:
    if isinstance(statement, Empty):
        return "the statement is empty"
    return "transaction control: it goes to every shard that takes part"


def _of_kind(tables: Tables, *kinds: str) -> Resolved | None:
    return next((table for table in tables.values() if table.kind in kinds), None)


def _sharded(tables: Tables) -> str:
    return " and ".join(f"({key_of(table)}) of {table}" for table in tables.values() if table.sharded)


def _why_home(statement: Statement, tables: Tables, context: Context, memory: Memory) -> str:
    missing = _of_kind(tables, "missing")
    match statement:
        case Utility(block="refused") if memory.in_transaction:
            return "PostgreSQL refuses it inside a transaction block"
        case Utility(block="required") if not memory.in_transaction:
            return "PostgreSQL answers it with an error or a warning outside a transaction block"
        case Utility(temporary=True):
            return "temporary relations are on the session's home shard"
        case Prepare():
            return "the other shards get the statement when EXECUTE or Bind first needs it there"
        case Execute() | Deallocate() | Explain(query=Execute()):
            return "no prepared statement of this name is known; the home shard reports the error"
        case Show():
            return "settings are the same on every shard"
    if context.nshards == 1:
        return "there is only one shard"
    if missing is not None and not isinstance(statement, CreateAs):
        return f"{missing} does not exist; the home shard reports the error"
    if sharded := _sharded(tables):
        if isinstance(statement, Insert):
            return "PostgreSQL refuses a key value; any shard reports the error"
        return f"no row of any shard satisfies the conditions on the key {sharded}"
    if _of_kind(tables, "reference") is not None:
        return "reference tables are the same on every shard: one is read"
    if tables:
        return "relations of the system catalog are read on the session's home shard"
    return "no user table: the session's home shard answers"


def _why_one(statement: Statement, tables: Tables, context: Context, memory: Memory, names: Sequence[str]) -> str:
    match statement:
        case Listen() | Unlisten() | Notify():
            return "notifications pass through one shard, where all sessions meet"
        case Fetch() | CloseCursor():
            return "the cursor is there"
        case CreateAs():
            return f"{statement.target} is made on one shard"
        case Utility(objects=(one, *_)):
            return f"{one} is, or is to be, on one shard"
        case Explain(query=inner) | DeclareCursor(query=inner):
            alone = explain(inner, tables, context, memory, names)
            if isinstance(alone.plan, OneShard):
                return f"{statement.kind.value} goes with its statement: {alone.why}"
            return f"the plan of the first of its shards; as a statement: {alone.why}"
    sharded, single = _sharded(tables), _of_kind(tables, "single")
    if sharded and isinstance(statement, Insert):
        return f"the key {sharded} of every row belongs to one shard"
    if sharded:
        return f"the key {sharded} is bound to one shard"
    if single is not None:
        return f"{single} lies on one shard"
    if isinstance(statement, Select) and not statement.calls("pg_notify"):
        return "sequences and locks are on one shard, the same for all sessions"
    return "pg_notify() passes through one shard, where all sessions meet"


def _gathered(limit: int | Param | None) -> str:
    if limit is None:
        return GATHERED
    many = f"${limit.number}" if isinstance(limit, Param) else limit
    return f"the first {many} of the shards' rows that arrive; each shard gives so many at most"


def _why_several(tables: Tables, shards: Sequence[int], context: Context) -> str:
    table = _of_kind(tables, "hash", "list", "range")
    if table is not None and len(shards) < context.nshards:
        return f"the key ({key_of(table)}) is bound to {len(shards)} shards"
    return f"rows of {table} come from every shard as they arrive"


def _why_all(statement: Statement, tables: Tables) -> str:
    match statement:
        case Modify(target=target):
            return f"{tables[target]} is a reference table: every shard makes the same change"
        case CopyFrom(table=target):
            return f"{tables[target]} is a reference table: every shard gets every row"
        case CreateAs(target=target):
            return f"{target} is made on every shard from what is the same on all"
    return "definitions and utility statements are carried out on every shard"
