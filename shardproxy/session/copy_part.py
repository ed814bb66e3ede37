"""What one shard gets of a COPY that sets bad rows aside: its batches, and what became of them."""

import asyncio
from array import array
from collections import deque
from dataclasses import dataclass, field

from shardproxy.rejects.copying import Copying
from shardproxy.rejects.isolate import Isolation
from shardproxy.rejects.reject import Outcome
from shardproxy.shard.connection import Connection


@dataclass(slots=True)
class Batch:
    """Rows of one shard: CopyData messages, and where each row stands in the client's input."""

    messages: list[bytes] = field(default_factory=list)
    size: int = 0
    marks: "array[int] | None" = None
    """Line and offset of each, once the batch is complete."""
    trailer: bool = False
    """The binary format's trailer is at its end."""


class Part:
    """What one shard gets."""

    def __init__(self, shard: int, connection: Connection, isolation: Isolation, rows: int) -> None:
        self.shard = shard
        self.connection = connection
        self.isolation = isolation
        self.batches: deque[Batch] = deque([Batch()])
        self.wake = asyncio.Event()
        self.most = rows  # of a batch
        self.cut_at = 0  # the shard's rows up to the last cut
        self.cut_to = 0  # and the bytes of the client's data before the next, at least
        self.judged = 0  # the rows of which it is known what has become of them
        self.judged_to = 0  # the bytes of the client's data before the next, at least
        self.last = False  # no other batch comes
        self.begun = False  # a batch has been sent
        self.trailed = False  # a batch has the trailer
        self.at_once = True  # a batch is tried as it comes; no, as most rows of the last one had a key that was there
        self.outcome = Outcome()
        self.copying: Copying | None = None
        """What has been begun before there were rows."""

    def take(self, message: bytes) -> None:
        """Take a message for the batch that is being filled."""
        batch = self.batches[-1]
        batch.messages.append(message)
        batch.size += len(message)
        self.wake.set()

    def passed(self, marks: "array[int]") -> None:
        """The rows of these marks have been judged."""
        if marks:
            self.judged += len(marks) // 2
            self.judged_to = marks[-1]

    def cut(self, marks: "array[int]", rows: int, *, last: bool, trailed: bool) -> None:
        """The batch that is being filled is complete; `trailed`: the binary format's trailer has come."""
        self.batches[-1].trailer = trailed and not self.trailed
        self.trailed = trailed
        self.batches[-1].marks = marks
        self.cut_at = rows
        if marks:
            self.cut_to = marks[-1]
        self.last = last
        if not last:
            self.batches.append(Batch())
        self.wake.set()
