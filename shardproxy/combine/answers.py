"""The answers of several shards to one request, as one server would have given them.

Driven by `take` for each reply of each shard, in whatever order the shards answer; it returns what the client
reads. Each acknowledgement and description is forwarded once, from the shard that gives it first. Rows are
`native.FrameMerge`'s; the command tags are kept, since the client gets one CommandComplete, made of all.
"""

from dataclasses import dataclass

from shardproxy.errors import PgError, ProtocolError
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE
from shardproxy.wire import decode
from shardproxy.wire.constants import B
from shardproxy.wire.encode import message
from shardproxy.wire.replies import Expect, Owed
from shardproxy.wire.usertypes import type_oids

DESCRIPTIONS = frozenset({B.ROW_DESCRIPTION, B.NO_DATA, B.PARAMETER_DESCRIPTION})


@dataclass(slots=True)
class Answer:
    """What one shard has answered besides rows."""

    tag: str | None = None
    suspended: bool = False
    empty: bool = False
    parameters: tuple[int, ...] | None = None
    """The types of a statement's parameters, where they were asked for."""
    columns: tuple[int, ...] | None = None
    """The types of its columns, where they were."""


class Answers:
    """One request's answers."""

    def __init__(self, shards: int) -> None:
        self.shards = [Answer() for _ in range(shards)]
        self._forwarded: set[tuple[Expect, int]] = set()
        self._columns: list[str] | None = None

    def take(self, shard: int, kind: int, payload: bytes, owed: Owed) -> bytes:
        """Return what the client reads of a reply, which may be nothing.

        PgError 55000 if two shards describe different columns; ProtocolError for what no row merge lets through.
        """
        answer = self.shards[shard]
        if kind == B.COMMAND_COMPLETE:
            answer.tag = decode.command_complete(payload)
        elif kind == B.EMPTY_QUERY_RESPONSE:
            answer.empty = True
        elif kind == B.PORTAL_SUSPENDED:
            answer.suspended = True
        elif kind in DESCRIPTIONS or kind in {B.PARSE_COMPLETE, B.BIND_COMPLETE}:
            if kind == B.PARAMETER_DESCRIPTION:
                answer.parameters = decode.parameter_description(payload)
            elif kind == B.NO_DATA:
                answer.columns = ()
            elif kind == B.ROW_DESCRIPTION:
                answer.columns = tuple(oid for _, oid, _ in type_oids(payload))
                if len(self.shards) > 1:
                    self._compare(payload)
            return self._once(kind, payload, owed)
        elif kind not in {B.CLOSE_COMPLETE, B.COPY_DONE, B.READY_FOR_QUERY}:
            raise ProtocolError(f"unexpected message of type {chr(kind)!r}")
        return b""

    def _once(self, kind: int, payload: bytes, owed: Owed) -> bytes:
        # NoData or RowDescription: the same place in the answer.
        place = owed.expect, B.ROW_DESCRIPTION if kind == B.NO_DATA else kind
        if not owed.forward or (len(self.shards) > 1 and place in self._forwarded):
            return b""
        self._forwarded.add(place)
        return message(kind, payload)

    def _compare(self, description: bytes) -> None:
        """Compare a shard's columns with the first one's, before its rows come. Types of the user's have other OIDs."""
        names = [column.name for column in decode.row_description(description)]
        if self._columns is None:
            self._columns = names
        elif names != self._columns:
            raise columns_differ()


def columns_differ() -> PgError:
    """The error of rows that would not be of one kind."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the shards give different columns",
        hint="`shardproxy check` shows the difference.",
    )
