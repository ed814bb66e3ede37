"""What a commit asks of its participants, sent together with their last statements: this saves it a round trip.

Driven by: `sql` goes out in front of the client's next statement, of which there is to be none; `read` takes each
answer. A commit may use the answers (`fresh`) if these participants have been sent nothing since.
"""

import time
from collections.abc import Sequence
from typing import Final

from shardproxy.errors import PgError
from shardproxy.shard.connection import Connection
from shardproxy.transaction.participant import Probe, Row
from shardproxy.wire import encode

CHECK: Final = "SET CONSTRAINTS ALL IMMEDIATE"
"""What can fail at commit is to fail on all shards before any commits."""

_CHECKED: Final = encode.command_complete("SET CONSTRAINTS") + encode.ready_for_query(b"T")

AGE: Final = 1.0
"""Seconds for which the answers are used: a decision must follow the probe in a limited time (`Limits.decide`)."""


class Ahead:
    """The questions of one commit and their answers."""

    def __init__(self, *, two_phase: bool) -> None:
        self.probe = Probe() if two_phase else None
        self.answers: dict[Connection, Row] = {}
        """The rows of those that have answered well; empty ones, if it was no probe."""
        self._errors: dict[Connection, PgError] = {}
        self._sent: dict[Connection, int] = {}
        self._since = time.monotonic()

    @property
    def sql(self) -> bytes:
        """The last statement that a participant is sent."""
        return (CHECK if self.probe is None else self.probe.sql).encode()

    async def read(self, connection: Connection) -> None:
        """Take a participant's answer, which comes next. An error is one of the commit's."""
        sent = connection.replies.sent
        try:
            if self.probe is None:
                if not await connection.answered_by(_CHECKED):
                    await connection.completed()
                self.answers[connection] = ()
            else:
                self.answers[connection] = await connection.completed_row(Probe.columns)
        except PgError as error:
            self._errors[connection] = error
        self._sent[connection] = sent

    def fresh(self, participants: Sequence[Connection]) -> bool:
        """Whether all of these have answered, lately, and were sent nothing since; raises what one has refused."""
        if any(self._sent.get(one) != one.replies.sent for one in participants):
            return False
        for one in participants:
            if one in self._errors:
                raise self._errors[one]
        return time.monotonic() < self._since + AGE
