"""The fast lane: statements of one shard, from the client's socket to the shard's and back in one synchronous chain.

Theory of operation. `feed` is given each chunk that the client's socket has read while the session's coroutine waits
for a message. It takes whole units from its front: a Query, or [Parse] Bind [Describe] Execute [Sync], whose plan is
known (`NameCache.plans`) and whose shard is connected and needs nothing but, at most, to join the transaction. Such a
unit leaves in one write. What it does not take is left to the coroutine, which first waits for `settled`.

Each unit is a turn, which `turns` answers.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from shardproxy.native import MessageWalk, read_bind, rebind, shape
from shardproxy.session.extended import Extended
from shardproxy.session.lane_plans import LanePlan, Overlap
from shardproxy.session.names import Resolver
from shardproxy.session.portals import Prepared
from shardproxy.session.shards import Shards
from shardproxy.session.transactions import Transactions
from shardproxy.session.turns import LAST, QUERY, SYNC, Turn, Turns
from shardproxy.shard.connection import Connection
from shardproxy.shard.types import ShardTypes
from shardproxy.transaction.state import ACTIVE, FAILED, IDLE, IMPLICIT
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import HEADER_SIZE, F, frontend_limit
from shardproxy.wire.replies import Expect, Owed
from shardproxy.wire.usertypes import FIRST_NORMAL, is_own

_walk: Final = MessageWalk([frontend_limit(kind) for kind in range(256)])

_QUERIED: Final[tuple[Owed, ...]] = (QUERY,)
_PARSE, _BIND, _DESCRIBE = Owed(Expect.PARSE), Owed(Expect.BIND), Owed(Expect.DESCRIBE_PORTAL)
_EXECUTE = Owed(Expect.EXECUTE)


class Tail(NamedTuple):
    """What comes after Bind: the shard's request, and what it will owe if the client has sent Sync, or has not."""

    request: bytes
    ready: tuple[Owed, ...]
    unready: tuple[Owed, ...]
    describes: bool


def _tails() -> Iterator[tuple[bytes, Tail]]:
    execute = encode.execute(b"")
    for sent, owed in (
        (execute, (_BIND, _EXECUTE)),
        (encode.describe(b"P", b"") + execute, (_BIND, _DESCRIBE, _EXECUTE)),
    ):
        yield sent, Tail(sent + encode.SYNC, (*owed, SYNC), (*owed, LAST), _DESCRIBE in owed)


_TAILS: Final = dict(_tails())
"""What the lane takes after Bind: Execute without a limit of the unnamed portal, and Describe in front of it."""

_BEGIN: Final = b"shardproxy_begin"
"""The name of the statement BEGIN on the shards."""
BEGIN_NUMBER: Final = 0
_PARSE_BEGIN: Final = encode.parse(_BEGIN, b"BEGIN")
_BEGIN_AGAIN: Final = encode.bind(b"", _BEGIN, (), (), ()) + encode.execute(b"")
_BEGUN: Final = (
    Owed(Expect.PARSE, forward=False, name=_BEGIN),
    Owed(Expect.BIND, forward=False),
    Owed(Expect.EXECUTE, forward=False),
)

ALWAYS, INSIDE = Overlap.ALWAYS, Overlap.INSIDE

PLAIN_BEGINS: Final = frozenset({b"BEGIN", b"BEGIN TRANSACTION", b"BEGIN WORK", b"START TRANSACTION"})


def _skipped(view: memoryview) -> int:
    """Return how many bytes of messages come before Sync or Terminate: after an error a pipeline has many."""
    types, starts = _walk(view)
    ends = [at for at in (types.find(F.SYNC), types.find(F.TERMINATE)) if at >= 0]
    return starts[min(ends, default=len(types))]


class Lane:
    """One session's fast lane."""

    def __init__(
        self, turns: Turns, shards: Shards, names: Resolver, transactions: Transactions, extended: Extended
    ) -> None:
        self._turns = turns
        self._shards = shards
        self._names = names
        self._transaction = shards.transaction
        self._transactions = transactions
        self._extended = extended

    def feed(self, view: memoryview) -> int:
        """Take units from the front of a chunk; return the bytes used."""
        extended = self._extended
        transaction = self._transaction
        if extended.skipping and not self._turns.failed:
            return _skipped(view)
        if (
            self._turns.failed
            or self._shards.cancelled
            or extended.skipping
            or extended.waiting
            or transaction.doomed
            or transaction.state is FAILED
        ):
            return 0
        types, starts = _walk(view)
        at, count = 0, len(types)
        while at < count:
            kind = types[at]
            if kind == F.BIND:
                taken = self._bind(view, types, starts, at)
            elif kind == F.QUERY:
                taken = self._query(view, starts, at)
            elif kind == F.PARSE:
                taken = self._parse(view, types, starts, at)
            else:
                break
            if not taken:
                break
            at += taken
        if at:
            self._turns.flush()
        return starts[at]

    def _bind(self, view: memoryview, types: bytes, starts: list[int], at: int) -> int:
        """Take Bind and what belongs to it, for a statement that is prepared; return the number of messages."""
        start, end = starts[at] + HEADER_SIZE, starts[at + 1]
        bound = read_bind(view, start, end)
        if bound is None or bound[0]:
            return 0
        prepared = self._extended.names.statements.get(bound[1])
        plan = None if prepared is None else self._names.cache.plans.get(prepared.key)
        if prepared is None or plan is None:
            return 0
        return self._unit(view, types, starts, at, at, prepared, plan)

    def _parse(self, view: memoryview, types: bytes, starts: list[int], at: int) -> int:
        """Take Parse of the unnamed statement and what belongs to it."""
        start, end = starts[at] + HEADER_SIZE, starts[at + 1]
        if types[at + 1 : at + 2] != b"B" or view[start]:
            return 0
        plan = self._names.cache.plans.get(bytes(view[start + 1 : end]))
        if plan is None:
            return 0
        bound = read_bind(view, end + HEADER_SIZE, starts[at + 2])
        if bound is None or bound[0] or bound[1]:
            return 0
        return self._unit(view, types, starts, at, at + 1, plan.prepared, plan)

    def _unit(
        self,
        view: memoryview,
        types: bytes,
        starts: list[int],
        first: int,
        bind: int,
        prepared: Prepared,
        plan: LanePlan,
    ) -> int:
        """Take the unit whose Bind is message `bind`, and whose first one is `first`, a Parse or the Bind."""
        after = bind + 3 if types[bind + 1 : bind + 2] == b"D" else bind + 2
        if after >= len(starts):
            return 0
        if prepared.listed != plan.listed:
            return 0
        start, end = starts[bind] + HEADER_SIZE, starts[bind + 1]
        tail = _TAILS.get(bytes(view[end : starts[after]]))
        shard = None if tail is None else plan.shard(view, start, end, prepared.oids, self._shards)
        connection = None if shard is None else self._free(shard, plan.overlap)
        if tail is None or shard is None or connection is None:
            return 0
        own = connection.statements.types
        if own is not None and not prepared.plain and not _fits(view, start, end, tail, prepared, own):
            return 0
        known = connection.statements.has(prepared.shard_name, prepared.number)
        if first == bind and not known and prepared.read_otherwise(connection.statements):
            return 0
        transaction, extended = self._transaction, self._extended
        state = transaction.state
        synced = types[after : after + 1] == b"S" and starts[after + 1] - starts[after] == HEADER_SIZE
        # The Sync of an implicit transaction commits it: that is the coroutine's.
        ready = synced and (state is ACTIVE or (state is IDLE and not extended.executed))
        if state is IDLE and not ready:
            self._transactions.begin_implicit()
            state = transaction.state
        owed = tail.ready if ready else tail.unready
        request = b""
        if first != bind:
            extended.names.statements[b""] = prepared
            connection.statements.parsed(b"", prepared.number)
            as_sent = plan.listed is None and (own is None or prepared.plain)
            parse = view[starts[first] : starts[bind]] if as_sent else prepared.parse(own)
            request = b"".join((parse, view[starts[bind] : end], tail.request))
            owed = (_PARSE, *owed)
        else:
            renamed = rebind(view, start, end, b"", prepared.shard_name)
            assert renamed is not None
            request = renamed + tail.request
            if not known:
                connection.statements.parsed(prepared.shard_name, prepared.number)
                request = prepared.parse(own) + request
                owed = (Owed(Expect.PARSE, forward=False, name=prepared.shard_name), *owed)
        if plan.held is not None:
            self._shards.holds((shard,), plan.held)
        inside = state is not IDLE
        if inside and shard not in transaction.joined:
            request, owed = self._joined(shard, connection, request, owed)
        extended.names.ran_unnamed(prepared, bytes(view[start:end]) if inside else None)
        extended.executed = not ready
        parsed = prepared if first != bind else None
        overlaps = plan.overlap is ALWAYS or (plan.overlap is INSIDE and inside)
        listed = None if plan.listed is None else plan.listed.after(prepared.statement.location)
        self._turns.send(request, owed, Turn(connection, ready, True, inside, overlaps, parsed, listed, plan.stores))
        return after + ready - first

    def _free(self, shard: int, overlap: Overlap) -> Connection | None:
        """Return a shard's connection, if nothing but a statement is to be sent there, and may be sent now."""
        connection = self._shards.standing(shard) if self._shards.ending is None else None
        if connection is None or connection.cancelling is not None or connection.statements.closes:
            return None
        transaction = self._transaction
        inside = transaction.state is not IDLE
        if not self._turns.admits(connection, overlap is ALWAYS or (overlap is INSIDE and inside)):
            return None
        if not inside or shard in transaction.joined:
            return connection
        # What it has to run first to join the transaction must be what cannot fail.
        log = transaction.log
        return connection if len(log) == 1 and log[0].sql.upper() in PLAIN_BEGINS else None

    def _joined(
        self, shard: int, connection: Connection, request: bytes, owed: tuple[Owed, ...]
    ) -> tuple[bytes, tuple[Owed, ...]]:
        """Put BEGIN in front of a request, in the same batch: should it fail, the server skips the request as well."""
        self._shards.joining(shard)
        if connection.statements.has(_BEGIN, BEGIN_NUMBER):
            return _BEGIN_AGAIN + request, (*_BEGUN[1:], *owed)
        connection.statements.parsed(_BEGIN, BEGIN_NUMBER)
        return _PARSE_BEGIN + _BEGIN_AGAIN + request, (*_BEGUN, *owed)

    def _query(self, view: memoryview, starts: list[int], at: int) -> int:
        """Take a simple Query of one statement."""
        transaction = self._transaction
        start, end = starts[at], starts[at + 1]
        if transaction.state is IMPLICIT or self._extended.executed or view[end - 1]:
            return 0
        inside = transaction.state is not IDLE
        found = shape(view, start + HEADER_SIZE, end - 1)
        if found is None:
            return 0
        text, kinds, texts = found
        plan = self._names.cache.queries.get((text, kinds))
        if plan is None:
            return 0
        shard = plan.shard(kinds, texts, self._shards)
        connection = None if shard is None else self._free(shard, plan.overlap)
        if connection is None or (inside and shard not in transaction.joined):
            # A BEGIN that fails would not keep a Query after it from running.
            return 0
        if plan.held is not None and shard is not None:
            self._shards.holds((shard,), plan.held)
        own = connection.statements.types
        if own is not None and not plan.plain and not own.fresh:
            return 0
        connection.statements.queried()
        self._extended.names.forget_unnamed()
        request, listed = bytes(view[start:end]), plan.listed
        if listed is not None:
            at = HEADER_SIZE + listed.at
            names = listed.names.encode("utf-8", "surrogateescape")
            request = encode.query(request[HEADER_SIZE:at] + names + request[at:-1])
        turn = Turn(connection, True, False, inside, plan.overlap is ALWAYS, None, listed, plan.stores)
        self._turns.send(request, _QUERIED, turn)
        return 1


def _fits(view: memoryview, start: int, end: int, tail: Tail, prepared: Prepared, types: ShardTypes) -> bool:
    """Whether a unit is for a shard what it is for the client, but for descriptions and for the types of a Parse.

    What a binary value has inside is the coroutine's to translate.
    """
    bind = decode.bind(bytes(view[start:end]))
    columns, asked = prepared.columns, prepared.oids
    inside: tuple[int, ...] = ()
    if any(bind.param_formats):
        if prepared.types is None and not (len(prepared.oids) >= len(bind.params) and all(prepared.oids)):
            return False
        inside = prepared.types or prepared.oids
    if any(bind.result_formats):
        if columns is None:
            return False
        inside += columns
    if tail.describes:
        asked += (FIRST_NORMAL,) if columns is None else columns
    if not any(map(is_own, (*asked, *inside))):
        return True
    return types.map is not None and types.fresh and not any(map(types.map.carries, inside))
