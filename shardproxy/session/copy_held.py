"""A COPY FROM STDIN that has begun well a moment ago: its client is answered at once, and its data are held.

What the shards will answer is known, so CopyInResponse need not wait for them. If the client ends the COPY soon, as it
does with a few rows, each shard with rows gets BEGIN, guard, COPY, data and CopyDone in one write (`CopyIn.hold`), and
no other shard hears of it. If a guard then finds that the table has changed, nothing has been done but on shards that
are rolled back: the COPY starts anew, with a fresh look, from the data as the client sent them. So it does if it lasts
longer than FLUSH_DELAY, or has more data than HELD_DATA: then it starts as any other.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from shardproxy.net.stream import READ_AHEAD
from shardproxy.session.copy_in import FLUSH_DELAY, CopyIn
from shardproxy.session.copy_look import Looked
from shardproxy.session.copy_setup import CopySetup
from shardproxy.session.pressure import Source
from shardproxy.wire import decode

HELD_DATA: Final = 64 * 1024
"""Bytes of messages, and what was read with the last of them, that are held: from here on a round trip more costs
little."""


@dataclass(frozen=True, slots=True)
class Begun:
    """How a COPY began, for the next of the same statement in the same session."""

    setup: CopySetup
    looked: Looked
    view: object
    """What the session knew of names (`Resolver.cache`): another object once they may mean something else."""
    state: Hashable
    """What else the setup rests on."""
    response: decode.CopyResponse


class HeldCopy:
    """A COPY that has begun on no shard. If its client ends it now, `copy` is finished, else another has its `data`."""

    def __init__(self, copy: CopyIn, source: Source) -> None:
        self.copy = copy
        self.data = bytearray()
        """All messages so far."""
        self.response = copy.response
        self._source = source
        self._dropping = False
        loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = loop.create_future()
        """Done when the COPY is to be held no longer."""
        self._timer = loop.call_later(FLUSH_DELAY, self._due)

    def feed(self, data: memoryview) -> int:
        """Take raw messages; return the bytes used, stopping in front of what is not CopyData."""
        used = self.copy.feed(data)
        if not self._dropping:
            self.data += data[:used]
            if len(self.data) > HELD_DATA or self.copy.failed.done():
                self._due()
            if len(self.data) > READ_AHEAD:
                self._source.pause_reading(self)
        return used

    def _due(self) -> None:
        if not self.failed.done():
            self.failed.set_result(None)

    def release(self) -> None:
        """The client has ended its data, or has taken its time."""
        self._timer.cancel()

    def end(self) -> None:
        """Another COPY has the data, or none does; what still comes is dropped."""
        self._dropping = True
        self.data.clear()
        self.copy.drop()
        self._source.resume_reading(self)
