"""Every outcome that two-phase commit promises, by name, against servers and proxies that really die."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from shardproxy.embedded import Server
from shardproxy.wire.constants import F
from tests.conftest import StartServer
from tests.faults.cell import HEALED, UNKNOWN, Cell, Outcome, lines, outcome_of
from tests.faults.matrix import ALL, BEFORE_COMMIT, COMMIT, DEADLINE, LARGE, SMALL, WIDE, Step
from tests.support.databases import Databases, Servers
from tests.support.faultproxy import Fault, FaultProxy, Rule, When
from tests.support.proxy import Proxy

PATIENCE = 15.0
MIB = 1 << 20

STEPS = {step.name: step for step in (*COMMIT, *BEFORE_COMMIT) if step.flow == "copy"}
COPY_STEPS = ("connect", "begin", "copy", "first data", "copy done", "probe", "prepare", "decide", "complete")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _shared(servers18: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cell]:
    databases = await asyncio.to_thread(Databases.create, servers18)
    async with Cell.over(databases.shards, tmp_path_factory.mktemp("cell")) as made:
        yield made
    await asyncio.to_thread(databases.drop)


@pytest_asyncio.fixture(loop_scope="module")
async def cell(_shared: Cell) -> AsyncIterator[Cell]:
    """A cell over the shared servers, for tests that break connections and proxies only."""
    yield _shared
    await _shared.heal()


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(servers18: Servers, tmp_path: Path) -> AsyncIterator[Cell]:
    """A cell of a test's own, whose tables it may change."""
    databases = await asyncio.to_thread(Databases.create, servers18)
    async with Cell.over(databases.shards, tmp_path) as made:
        yield made
    await asyncio.to_thread(databases.drop)


@pytest.fixture(scope="module")
def mortal() -> Iterator[list[Server]]:
    """Three servers that the tests of this module may kill and pause; each test leaves them running."""
    settings = {"shared_buffers": "16MB", "autovacuum": "off", "synchronous_commit": "on"}
    servers = [Server.start(18, settings=settings) for _ in ALL]
    yield servers
    for server in servers:
        server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _over_mortals(mortal: list[Server], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cell]:
    async with Cell.over([server.dsn() for server in mortal], tmp_path_factory.mktemp("doomed")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def doomed(_over_mortals: Cell) -> AsyncIterator[Cell]:
    """A cell over servers that may be killed and paused."""
    yield _over_mortals
    await _over_mortals.heal()


async def stalled_copy(cell: Cell, step: Step, shard: int, when: When = When.BEFORE) -> "Copying":
    """Start a COPY and stop it where `step` reaches the shard."""
    copying = Copying(cell, step, shard, when)
    await copying.start()
    return copying


class Copying:
    """A COPY that stands still before (or after) one message of one shard."""

    def __init__(self, cell: Cell, step: Step, shard: int, when: When) -> None:
        self.load = next(cell.numbers)
        self.rows, self._width = (LARGE, WIDE) if step.type == F.COPY_DATA else (SMALL, 20)
        self._cell = cell
        self._name = f"copy{self.load}"
        self.rule = Rule(Fault.STALL, step.type, step.text, step.nth, when, self._name)
        cell.faults[shard].add(self.rule)
        self.task: asyncio.Task[Outcome] | None = None

    async def start(self) -> None:
        client = await self._cell.connect(self._name)
        self.task = asyncio.ensure_future(self._copy(client))
        await asyncio.wait_for(self.rule.fired.wait(), PATIENCE)

    async def _copy(self, client: "psycopg.AsyncConnection[Any]") -> Outcome:
        try:
            return await self._cell.copy(client, self.load, self.rows, self._width)
        finally:
            await client.close()

    async def outcome(self) -> Outcome:
        assert self.task is not None
        return await asyncio.wait_for(self.task, PATIENCE)

    async def count(self) -> int:
        """Rows on the shards, seen past the faults."""
        found = await self._cell.ask(f"SELECT count(*) FROM loads WHERE load = {self.load}")
        return sum(count for ((count,),) in found)

    async def right(self, outcome: Outcome) -> None:
        assert await self._cell.judge(self.load, self.rows, outcome) == []


# The client.


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET, Fault.CUT])
@pytest.mark.parametrize(
    ("code", "when"),
    [(F.COPY_DATA, When.BEFORE), (F.COPY_DATA, When.SENT), (F.COPY_DONE, When.BEFORE), (F.COPY_DONE, When.SENT)],
    ids=["before data", "after data", "before CopyDone", "after CopyDone"],
)
async def test_the_client_dies(cell: Cell, fault: Fault, code: int, when: When) -> None:
    """Before CopyDone: no row. Behind it: all or none, whichever."""
    load = next(cell.numbers)
    async with FaultProxy(cell.proxy.host, cell.proxy.port) as between:
        between.add(Rule(fault, code, when=when))
        dsn = f"host=127.0.0.1 port={between.port} dbname=shop user=postgres sslmode=disable"
        client = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        outcome = await cell.copy(client, load, SMALL)
        await client.close()
        assert outcome.sqlstate == "lost"
    assert await cell.judge(load, SMALL, outcome) == []
    if not (code == F.COPY_DONE and when is When.SENT):
        found = await cell.ask(f"SELECT count(*) FROM loads WHERE load = {load}")
        assert [count for ((count,),) in found] == [0, 0, 0]


async def test_the_client_sends_copy_fail(cell: Cell) -> None:
    load = next(cell.numbers)
    async with await cell.connect() as client:
        with contextlib.suppress(EOFError):
            async with client.cursor().copy("COPY loads FROM STDIN") as copy:
                await copy.write(lines(load, SMALL, 20))
                raise EOFError
        assert await cell.judge(load, SMALL, Outcome("57014")) == []
        assert (await cell.copy(client, next(cell.numbers), 3)).acknowledged


# The proxy.


async def _kill_proxy(cell: Cell, copying: Copying, shard: int) -> None:
    """SIGKILL it, its sockets with it, and start it again."""
    await asyncio.to_thread(cell.proxy.kill)
    cell.faults[shard].drop()
    assert (await copying.outcome()).sqlstate == "lost"
    await asyncio.to_thread(cell.proxy.start)


@pytest.mark.parametrize("step", ["copy done", "prepare", "decide"])
async def test_the_proxy_is_killed_before_the_decision(cell: Cell, step: str) -> None:
    """None, at most 5 s after it is back."""
    copying = await stalled_copy(cell, STEPS[step], shard := STEPS[step].shards[0])
    await _kill_proxy(cell, copying, shard)
    await copying.right(Outcome("lost"))
    assert await copying.count() == 0


async def test_a_decision_arrives_long_after_its_proxy_was_killed(cell: Cell) -> None:
    """The network keeps the anchor's session open and the decision for itself: recovery waits for as long as it
    could still be written, then rolls back; when it arrives at last it finds that it is too late."""
    copying = await stalled_copy(cell, STEPS["decide"], 0)
    await asyncio.to_thread(cell.proxy.kill)
    await copying.outcome()
    await asyncio.to_thread(cell.proxy.start)
    deadline = time.monotonic() + 10 + 4 * DEADLINE + 2 * HEALED
    while await cell.prepared():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    assert await copying.count() == 0
    await cell.heal()
    await copying.right(Outcome("lost"))
    assert await copying.count() == 0


@pytest.mark.parametrize("when", [When.SENT, When.ANSWERED])
async def test_the_proxy_is_killed_while_it_decides(cell: Cell, when: When) -> None:
    """All or none. When the anchor has answered, it is all."""
    copying = await stalled_copy(cell, STEPS["decide"], 0, when)
    await _kill_proxy(cell, copying, 0)
    await copying.right(Outcome("lost"))
    if when is When.ANSWERED:
        assert await copying.count() == copying.rows


@pytest.mark.parametrize("when", [When.BEFORE, When.SENT])
async def test_the_proxy_is_killed_after_the_decision(cell: Cell, when: When) -> None:
    """All, at most 5 s after it is back."""
    copying = await stalled_copy(cell, STEPS["complete"], 1, when)
    await _kill_proxy(cell, copying, 1)
    await copying.right(Outcome("lost"))
    assert await copying.count() == copying.rows


@pytest.mark.parametrize("step", ["decide", "complete"])
async def test_two_proxies_recover_at_once(cell: Cell, tmp_path: Path, step: str) -> None:
    """One outcome, the same on both: the index of the decisions arbitrates."""
    copying = await stalled_copy(cell, STEPS[step], shard := STEPS[step].shards[0])
    await asyncio.to_thread(cell.proxy.kill)
    cell.faults[shard].drop()
    await copying.outcome()
    directory = tmp_path / "second"
    directory.mkdir()
    starting = asyncio.to_thread(Proxy, directory, cell.proxy.config_path.read_text())
    second, _ = await asyncio.gather(starting, asyncio.to_thread(cell.proxy.start))
    try:
        await copying.right(Outcome("lost"))
        assert await copying.count() == (0 if step == "decide" else copying.rows)
    finally:
        await asyncio.to_thread(second.close)


# A shard.


@pytest.mark.parametrize("step", COPY_STEPS)
async def test_a_shard_dies(doomed: Cell, mortal: list[Server], step: str) -> None:
    """Up to PREPARE: none, and an error that names it. In COMMIT PREPARED: a success with a WARNING."""
    if step != "connect":
        copying = await stalled_copy(doomed, STEPS[step], shard := STEPS[step].shards[-1])
        await asyncio.to_thread(mortal[shard].kill)
    else:
        await asyncio.to_thread(mortal[shard := 2].kill)
        copying = Copying(doomed, STEPS["connect"], 0, When.BEFORE)
        await copying.start()
    try:
        await doomed.heal()
        outcome = await copying.outcome()
    finally:
        await asyncio.to_thread(mortal[shard].restart)
    if step == "complete":
        assert outcome.acknowledged
        assert any(f"s{shard}" in warning for warning in outcome.warnings)
    elif step == "decide":
        assert outcome.acknowledged or f"s{shard}" in outcome.said
    else:
        assert not outcome.acknowledged
        assert f"s{shard}" in outcome.said
        assert outcome.sqlstate != UNKNOWN
    await copying.right(outcome)


@pytest.mark.parametrize("step", ["begin", "copy", "first data", "copy done", "prepare", "decide", "complete"])
async def test_a_shard_stalls(doomed: Cell, mortal: list[Server], step: str) -> None:
    """SIGSTOP: a deadline, then none (all after the decision); other sessions are unhurt."""
    copying = await stalled_copy(doomed, STEPS[step], shard := STEPS[step].shards[-1])
    ids = [await _id_of(doomed, number) for number in ALL if number != shard]
    mortal[shard].pause()
    try:
        await doomed.heal()
        begun = time.monotonic()
        async with await doomed.connect("bystander") as bystander:
            for number in ids:
                told = await asyncio.wait_for(doomed.insert(bystander, next(doomed.numbers), [number]), PATIENCE)
                assert told.acknowledged, told
        assert time.monotonic() - begun < 5.0
        outcome = await copying.outcome()
    finally:
        mortal[shard].resume()
    if step == "complete":
        assert outcome.acknowledged
    elif not outcome.acknowledged:
        assert f"s{shard}" in outcome.said
        assert outcome.sqlstate == UNKNOWN if step == "decide" else outcome.sqlstate != UNKNOWN
    await copying.right(outcome)


async def _id_of(cell: Cell, shard: int) -> int:
    connection = await cell.shard(shard)
    cursor = await connection.execute(
        f"""SELECT min(id) FROM generate_series(1, 1000) AS id
          WHERE satisfies_hash_partition('placed'::regclass, {len(ALL)}, {shard}, id::int8)""".encode()
    )
    row = await cursor.fetchone()
    assert row is not None
    number: int = row[0]
    return number


async def test_a_stalled_shard_costs_no_memory(doomed: Cell, mortal: list[Server]) -> None:
    """A client goes on sending 64 MiB; the proxy holds it back, then gives the shard up."""
    client = await doomed.connect()
    # What a COPY needs once is there before the measurement.
    assert (await doomed.copy(client, next(doomed.numbers), LARGE, WIDE)).acknowledged
    before = doomed.proxy.rss()
    peak = 0
    load = next(doomed.numbers)
    outcome = Outcome(None)
    mortal[2].pause()
    try:
        async with asyncio.timeout(PATIENCE):
            try:
                async with client.cursor().copy("COPY loads FROM STDIN") as copy:
                    for _ in range(64):
                        await copy.write(lines(load, 1024, 1000))
                        peak = max(peak, doomed.proxy.rss())
            except psycopg.Error as error:
                outcome = outcome_of(error)
    finally:
        mortal[2].resume()
        await client.close()
    assert outcome.sqlstate not in {None, UNKNOWN, "lost"}
    assert "s2" in outcome.said
    assert peak - before < 32 * MIB
    assert await doomed.judge(load, 64 * 1024, outcome) == []


# The anchor's answer.


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET, Fault.CUT])
async def test_the_answer_to_the_decision_is_lost(cell: Cell, fault: Fault) -> None:
    """The decision is read back; the client is told the truth: success."""
    decide = STEPS["decide"]
    cell.faults[0].add(Rule(fault, decide.type, decide.text, when=When.ANSWERED))
    load = next(cell.numbers)
    async with await cell.connect() as client:
        outcome = await cell.copy(client, load, SMALL)
    assert outcome.acknowledged
    assert await cell.judge(load, SMALL, outcome) == []


async def test_the_decision_is_unknown(cell: Cell) -> None:
    """The only way to 08007: the anchor takes the decision, and is unreachable until the deadline."""
    decide = STEPS["decide"]
    cell.faults[0].add(Rule(Fault.CLOSE, decide.type, decide.text, when=When.ANSWERED, spread=True))
    load = next(cell.numbers)
    async with await cell.connect() as client:
        outcome = await cell.copy(client, load, SMALL)
    assert outcome.sqlstate == UNKNOWN
    await cell.heal()
    assert await cell.judge(load, SMALL, outcome) == []
    found = await cell.ask(f"SELECT count(*) FROM loads WHERE load = {load}")
    assert sum(count for ((count,),) in found) == SMALL


# What a shard refuses: none, and its SQLSTATE.


async def _refused(cell: Cell, sqlstate: str, shard: int | None, *settings: str) -> None:
    load = next(cell.numbers)
    async with await cell.connect() as client:
        for setting in settings:
            await client.execute(setting.encode())
        outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
    assert outcome.sqlstate == sqlstate, outcome
    if shard is not None:
        assert f"s{shard}" in outcome.said
    assert await cell.judge(load, SMALL, outcome) == []


async def _on_shard(cell: Cell, shard: int, statement: str) -> None:
    await (await cell.shard(shard)).execute(statement.encode())


TRIGGER = """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$;
CREATE {} TRIGGER fail {} INSERT ON loads {} FOR EACH ROW EXECUTE FUNCTION fail()"""


@pytest.mark.parametrize("shard", ALL)
async def test_a_disk_is_full(fresh: Cell, shard: int) -> None:
    refuse = "IF NEW.id > 30 THEN RAISE 'no space left on device' USING ERRCODE = '53100'; END IF;"
    await _on_shard(fresh, shard, TRIGGER.format(refuse, "", "BEFORE", ""))
    await _refused(fresh, "53100", shard)


async def _command(*argv: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(subprocess.run, argv, check=False, capture_output=True, text=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_a_disk_is_really_full(fresh: Cell, servers18: Servers, tmp_path: Path) -> None:
    small = Path("/dev/shm") / f"full{os.getpid()}"
    small.mkdir()
    mounted = await _command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small))
    if mounted.returncode != 0:
        small.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        owner = servers18.shards[1].data_dir.stat()
        os.chown(small, owner.st_uid, owner.st_gid)
        await _on_shard(fresh, 1, f"CREATE TABLESPACE small LOCATION '{small}'")
        await _on_shard(fresh, 1, "ALTER TABLE loads SET TABLESPACE small")
        load = next(fresh.numbers)
        rows = 64 * 1024
        async with await fresh.connect() as client:
            outcome = await asyncio.wait_for(fresh.copy(client, load, rows, 1000), 60)
        assert outcome.sqlstate == "53100", outcome
        assert "s1" in outcome.said
        assert await fresh.judge(load, rows, outcome) == []
        await _on_shard(fresh, 1, "DROP TABLE loads")
        await _on_shard(fresh, 1, "DROP TABLESPACE small")
    finally:
        assert (await _command("umount", str(small))).returncode == 0
        small.rmdir()


async def test_no_connection_slots(start_server: StartServer, tmp_path: Path) -> None:
    servers = [
        await asyncio.to_thread(
            start_server, 18, settings={"max_connections": "8" if number == 1 else "30", "reserved_connections": "0"}
        )
        for number in ALL
    ]
    async with Cell.over([server.dsn() for server in servers], tmp_path) as cell:
        # A role without the superuser's three reserved places takes all others.
        await _on_shard(cell, 1, "CREATE ROLE crowd LOGIN")
        crowd: list[psycopg.AsyncConnection[Any]] = []
        try:
            while len(crowd) < 8:
                try:
                    dsn = servers[1].dsn(user="crowd")
                    crowd.append(await psycopg.AsyncConnection.connect(dsn))
                except psycopg.OperationalError:
                    dsn = servers[1].dsn()
                    crowd.append(await psycopg.AsyncConnection.connect(dsn))
        except psycopg.OperationalError:
            pass  # full
        load = next(cell.numbers)
        async with await cell.connect() as client:
            outcome = await cell.copy(client, load, SMALL)
        for one in crowd:
            await one.close()
        assert outcome.sqlstate == "53300", outcome
        assert "s1" in outcome.said
        assert await cell.judge(load, SMALL, outcome) == []


async def test_statement_timeout(fresh: Cell) -> None:
    await _on_shard(fresh, 1, TRIGGER.format("PERFORM pg_sleep(0.05);", "", "BEFORE", ""))
    await _refused(fresh, "57014", 1, "SET statement_timeout = 300")


async def test_lock_timeout(cell: Cell) -> None:
    async with await psycopg.AsyncConnection.connect(cell.dsns[2]) as holder:
        await holder.execute("LOCK TABLE loads")
        load = next(cell.numbers)
        async with await cell.connect() as client:
            await client.execute("SET lock_timeout = 300")
            outcome = await asyncio.wait_for(cell.copy(client, load, SMALL), PATIENCE)
    assert outcome.sqlstate == "55P03"
    assert await cell.judge(load, SMALL, outcome) == []


@pytest.mark.parametrize("shard", ALL)
async def test_a_deferred_constraint_fails(fresh: Cell, shard: int) -> None:
    """It fires at PREPARE, on the anchor (0) right before its decision."""
    refuse = "RAISE 'refused at the end' USING ERRCODE = '23514';"
    await _on_shard(fresh, shard, TRIGGER.format(refuse, "CONSTRAINT", "AFTER", "DEFERRABLE INITIALLY DEFERRED"))
    await _refused(fresh, "23514", None)


async def test_no_room_for_prepared_transactions(start_server: StartServer, tmp_path: Path) -> None:
    """Refused before the client is asked for its data."""
    servers = [
        await asyncio.to_thread(start_server, 18, settings={"max_prepared_transactions": "1" if at == 2 else "5"})
        for at in ALL
    ]
    async with Cell.over([server.dsn() for server in servers], tmp_path) as cell:
        await _on_shard(cell, 2, "BEGIN")
        await _on_shard(cell, 2, "CREATE TABLE other (x int)")
        await _on_shard(cell, 2, "PREPARE TRANSACTION 'not ours'")
        load = next(cell.numbers)
        async with await cell.connect() as client:
            outcome = await cell.copy(client, load, SMALL)
        assert outcome.sqlstate == "53200"
        assert "s2" in outcome.said
        # Nobody else's transaction is ever touched.
        assert await cell.prepared() == ["not ours"]
        await _on_shard(cell, 2, "ROLLBACK PREPARED 'not ours'")
        assert await cell.judge(load, SMALL, outcome) == []
