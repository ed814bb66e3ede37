"""Shards that answer a committer by a script: a two-phase commit without servers, read as a transcript.

A script is a list of steps, each with its answer. The shard recognises what it is asked, and fails the test when
another step comes than the next one of its script. Steps of the committer's own session are named after their SQL;
those on a control connection, which the committer opens when a session is lost, are in capitals:

    CONNECT      the connection is made (OK) or not (UNREACHABLE)
    TERMINATE    the lost backend: IDLE or WAITING for a lock when it was terminated, GONE
    ARBITRATE    the row that is there after the insert of 'abort': "commit", "abort" or None
    PREPARED     whether the gid is still prepared; if so, it is finished
    STATUS       what pg_xact_status returns
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shardproxy.errors import PgError
from shardproxy.shard import errors
from shardproxy.shard.address import Address
from shardproxy.transaction import fence, single_shard, two_phase
from shardproxy.transaction.participant import Limits, Probe, Row
from shardproxy.transaction.two_phase import TwoPhaseCommit

LOST = "the connection is lost, after the server got it"
HANG = "no answer"
OK = "ok"
UNREACHABLE = "unreachable"
IDLE, WAITING, GONE = "idle", "waiting", "gone"

STEPS = {
    "SELECT pg_catalog.pg_current_xact_id_if_assigned()": "probe",
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks": "wrote?",
    "SET CONSTRAINTS ALL IMMEDIATE": "constraints",
    "PREPARE TRANSACTION": "prepare",
    "INSERT INTO shardproxy.decisions": "decide",
    "COMMIT PREPARED": "commit prepared",
    "ROLLBACK PREPARED": "rollback prepared",
    "COMMIT": "commit",
}


def row(
    xid: int | None = None,
    *,
    isolation: str = "read committed",
    read_only: str = "off",
    synchronous: str = "on",
    temporary: int = 0,
) -> Row:
    """The answer to a probe; with an id it has written."""
    values = (xid, "1700000000.5", isolation, read_only, synchronous, temporary, "f", "t")
    return [None if value is None else str(value).encode() for value in values]


def refused(sqlstate: str, message: str = "no", **fields: str) -> PgError:
    """An ErrorResponse of the server."""
    return PgError.from_fields({"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": message, **fields})


@dataclass(eq=False)
class Shard:
    """A connection to a shard, as the committer sees it."""

    number: int
    script: list[tuple[str, Any]]
    log: list[str]
    usable: bool = True
    status: int = ord("T")
    sent: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=lambda: {"session_authorization": "app"})

    @property
    def name(self) -> str:
        return f"s{self.number}"

    @property
    def address(self) -> Address:
        return Address(self.name, "127.0.0.1", 1, "app", "shop")

    @property
    def pid(self) -> int:
        return 100 + self.number

    def abort(self) -> None:
        self.log.append(f"{self.name} aborted")
        self.usable = False

    def next(self, step: str) -> Any:
        """Take the next step of the script, which must be this one; return its answer."""
        assert self.script, f"{self.name}: nothing more was to come, and {step!r} came"
        expected, answer = self.script.pop(0)
        assert step == expected, f"{self.name}: {expected!r} was to come, and {step!r} came"
        self.log.append(f"{self.name} {step}")
        return answer

    async def execute(self, sql: str) -> str:
        tag: str = await self._answer(sql)
        return tag

    async def fetch_row(self, sql: str, columns: int) -> Row:
        values: Row = await self._answer(sql)
        assert len(values) == columns
        return values

    async def _answer(self, sql: str) -> Any:
        assert self.usable, f"{self.name}: {sql!r} was sent on a lost connection"
        step = next(step for start, step in STEPS.items() if sql.startswith(start))
        self.sent.append(sql)
        answer = self.next(step)
        await asyncio.sleep(0)
        if answer is HANG:
            await asyncio.Event().wait()
        if answer is LOST:
            self.usable = False
            raise errors.lost(self.name, "it was cut")
        if isinstance(answer, PgError):
            raise answer
        if step == "commit":
            self.status = ord("I")
        return answer


@dataclass
class Control:
    """A control connection to a scripted shard."""

    shard: Shard

    async def fetchrow(self, sql: str, *args: object) -> Any:
        if "pg_terminate_backend" in sql:
            assert args[0] == self.shard.pid
            answer = self.shard.next("TERMINATE")
            if answer is not GONE:
                self.shard.script.insert(0, ("TERMINATE", GONE))
            return None if answer is GONE else (True, answer is WAITING)
        assert "pg_prepared_xacts" in sql
        return {"owner": "app", "own": True} if self.shard.next("PREPARED") else None

    async def fetchval(self, sql: str, *args: object) -> Any:
        if "pg_xact_status" in sql:
            return self.shard.next("STATUS")
        if "pg_control_checkpoint" in sql:
            return False
        assert sql.startswith("SELECT outcome")
        return self.shard.next("ARBITRATE")

    async def execute(self, sql: str, *args: object) -> None:
        self.shard.sent.append(sql)

    def is_closed(self) -> bool:
        return False


@dataclass
class Manager:
    """What a commit leaves to the database's transaction manager."""

    left: list[str] = field(default_factory=list)

    async def identity(self, address: Address) -> str:
        return address.name[-1] * 32

    async def participant(self, address: Address) -> str:
        return await self.identity(address)

    def forget_identity(self, address: Address) -> None:
        self.left.append(f"forget identity of {address.name}")

    def lost_in_prepare(self, address: Address, pid: int, clock: float, gid: str) -> None:
        self.left.append(f"fence {pid} of {address.name}")

    def unresolved(self, key: str, shards: Iterable[str]) -> None:
        self.left.append(f"unresolved on {', '.join(shards)}")

    def confirmed(self, anchor: Address, key: str) -> None:
        self.left.append(f"confirmed, decision on {anchor.name}")


class Cluster:
    """Scripted shards, and a commit over them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *scripts: list[tuple[str, Any]]) -> None:
        self.log: list[str] = []
        self.shards = [Shard(number, list(script), self.log) for number, script in enumerate(scripts)]
        self.manager = Manager()
        for module in (two_phase, fence, single_shard):
            monkeypatch.setattr(module, "persist", self._persist)

    async def _persist(self, address: Address, deadline: float, job: Callable[[Any], Awaitable[Any]]) -> Any:
        shard = next(shard for shard in self.shards if shard.name == address.name)
        if shard.next("CONNECT") is UNREACHABLE:
            raise errors.unreachable(shard.name, "nothing there")
        return await job(Control(shard))

    async def commit(self, *, probe: Probe | None = None, answers: dict[int, Row] | None = None) -> list[str]:
        """TwoPhaseCommit; return the warnings. When it is over, every script has been played to its end."""
        connections: Any = self.shards
        known: Any = {self.shards[number]: values for number, values in (answers or {}).items()}
        commit = TwoPhaseCommit(connections, self.manager, Limits(0.5, 0.5), probe, known)
        try:
            return [warning.message for warning in await commit.run()]
        finally:
            for shard in self.shards:
                assert not shard.script, f"{shard.name}: {shard.script} was to come, and nothing came"

    async def fail(self) -> PgError:
        """TwoPhaseCommit, which must fail; return the error."""
        with pytest.raises(PgError) as caught:
            await self.commit()
        return caught.value
