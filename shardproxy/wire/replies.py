"""What a server still owes: a queue with one entry for each request that it will answer, in order.

Manual: "Message Flow". Sans-IO. `expect` notes what was sent; `take` is given the type of each message that
arrives (but for NoticeResponse, ParameterStatus and NotificationResponse, which answer nothing), returns the entry
that it belongs to, and moves on. So at any moment the queue tells whether the connection is idle, what may come
next, and for whom it is: an entry is forwarded to the client or swallowed.

An ErrorResponse to an extended request drops every entry up to the Sync, as the server skips these messages.
`STEPS` is the whole state machine; the documentation and the tests read it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shardproxy.errors import ProtocolError
from shardproxy.wire.constants import B


class Expect(Enum):
    """The request that an answer belongs to."""

    QUERY = "Query"
    PARSE = "Parse"
    BIND = "Bind"
    DESCRIBE_STATEMENT = "Describe (statement)"
    DESCRIBE_PORTAL = "Describe (portal)"
    EXECUTE = "Execute"
    CLOSE = "Close"
    SYNC = "Sync"


class Step(Enum):
    """What a message does to the entry at the head of the queue."""

    STAYS = "more comes"
    ENDS = "answered"
    SKIPS = "dropped, with all up to Sync"


@dataclass(frozen=True, slots=True, eq=False)
class Owed:
    """One answer that a server owes.

    `forward` tells whether the client reads the answer. `name` is the statement's of a Parse. `aside` is for what the
    proxy sends in front of a request, of its own: `Connection.read` passes over the answer.
    """

    expect: Expect
    forward: bool = True
    name: bytes = b""
    aside: bool = False
    steps: dict[int, Step] = field(init=False, repr=False)
    """What each message that may come does to it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", STEPS[self.expect])


_ROWS: Final = {B.ROW_DESCRIPTION: Step.ENDS, B.NO_DATA: Step.ENDS}
_SKIPS: Final = {B.ERROR_RESPONSE: Step.SKIPS}

STEPS: Final[dict[Expect, dict[int, Step]]] = {
    Expect.QUERY: {
        B.ROW_DESCRIPTION: Step.STAYS,
        B.DATA_ROW: Step.STAYS,
        B.COMMAND_COMPLETE: Step.STAYS,
        B.EMPTY_QUERY_RESPONSE: Step.STAYS,
        B.COPY_IN_RESPONSE: Step.STAYS,
        B.COPY_OUT_RESPONSE: Step.STAYS,
        B.COPY_DATA: Step.STAYS,
        B.COPY_DONE: Step.STAYS,
        B.ERROR_RESPONSE: Step.STAYS,
        B.READY_FOR_QUERY: Step.ENDS,
    },
    Expect.PARSE: {B.PARSE_COMPLETE: Step.ENDS} | _SKIPS,
    Expect.BIND: {B.BIND_COMPLETE: Step.ENDS} | _SKIPS,
    Expect.DESCRIBE_STATEMENT: {B.PARAMETER_DESCRIPTION: Step.STAYS} | _ROWS | _SKIPS,
    Expect.DESCRIBE_PORTAL: _ROWS | _SKIPS,
    Expect.EXECUTE: {
        B.DATA_ROW: Step.STAYS,
        B.COMMAND_COMPLETE: Step.ENDS,
        B.EMPTY_QUERY_RESPONSE: Step.ENDS,
        B.PORTAL_SUSPENDED: Step.ENDS,
    }
    | _SKIPS,
    Expect.CLOSE: {B.CLOSE_COMPLETE: Step.ENDS} | _SKIPS,
    # An error here is the commit's of the implicit transaction that Sync ends.
    Expect.SYNC: {B.ERROR_RESPONSE: Step.STAYS, B.READY_FOR_QUERY: Step.ENDS},
}
"""For each entry the messages that may come, and what they do to it. Any other breaks the protocol."""


def markdown() -> Iterator[str]:
    """Yield `STEPS` as the documentation has it."""
    names = {
        kind: "".join(word.capitalize() for word in name.split("_")) for name, kind in vars(B).items() if name[0] != "_"
    }
    yield "| request | " + " | ".join(step.value for step in Step) + " |"
    yield "|---" * (len(Step) + 1) + "|"
    for expect, steps in STEPS.items():
        cells = (", ".join(names[kind] for kind, does in steps.items() if does is step) for step in Step)
        yield f"| {expect.value} | " + " | ".join(cells) + " |"


SWALLOWED_QUERY: Final = (Owed(Expect.QUERY, forward=False),)
SWALLOWED_SYNC: Final = Owed(Expect.SYNC, forward=False)

HOUSEKEEPING: Final = Owed(Expect.CLOSE, forward=False, aside=True), Owed(Expect.SYNC, forward=False, aside=True)
"""A Close of the proxy's own in front of a request, and the Sync after such."""


class Replies:
    """The answers that one server owes."""

    __slots__ = ("dropped", "queue", "sent")

    def __init__(self) -> None:
        self.queue: deque[Owed] = deque()
        self.dropped: tuple[Owed, ...] = ()
        """The entries that the last ErrorResponse has dropped, the failed one first."""
        self.sent = 0
        """Counts requests: two looks that see the same number and an owed answer have seen one statement."""

    def __bool__(self) -> bool:
        return bool(self.queue)

    def expect(self, owed: Iterable[Owed]) -> None:
        """Note what has been sent."""
        self.sent += 1
        self.queue.extend(owed)

    def take(self, kind: int) -> Owed:
        """Return the entry that a message of this type answers; ProtocolError if none may be answered so."""
        queue = self.queue
        if not queue:
            raise ProtocolError(f"unexpected message of type {chr(kind)!r}: nothing was asked")
        owed = queue[0]
        step = owed.steps.get(kind)
        if step is Step.ENDS:
            queue.popleft()
        elif step is Step.SKIPS:
            self.dropped = tuple(self._skip())
        elif step is None:
            raise ProtocolError(f"unexpected message of type {chr(kind)!r} in answer to {owed.expect.value}")
        return owed

    def _skip(self) -> Iterable[Owed]:
        while self.queue and self.queue[0].expect is not Expect.SYNC:
            yield self.queue.popleft()

    def __repr__(self) -> str:
        return f"<owed: {', '.join(owed.expect.value for owed in self.queue) or 'nothing'}>"
