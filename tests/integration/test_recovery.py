"""Recovery over real shards: what a killed proxy, a crashed shard or two of each leave behind is finished, once."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from shardproxy.embedded import Server
from shardproxy.errors import PgError
from shardproxy.shard.connection import Connection
from shardproxy.shard.control import control
from shardproxy.transaction import recover, recovery, setup
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.decisions import RETENTION, decide_sql, setup_sql
from shardproxy.transaction.gid import Gid, decision_key, lock_key, new_transaction
from shardproxy.transaction.participant import Limits
from tests.conftest import StartServer
from tests.support.commits import Shards, until
from tests.support.databases import Databases, Servers, execute, query


@pytest.fixture
async def shards(servers18: Servers) -> AsyncIterator[Shards]:
    databases = Databases.create(servers18)
    shards = Shards(databases)
    yield shards
    await shards.end()
    databases.drop()


class Committer:
    """A committer of another process, of which a test shows as many steps as it lived for."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.transaction = new_transaction()
        self.identities: dict[str, str] = {}
        self.connections: list[Connection] = []

    @property
    def key(self) -> str:
        return decision_key(self.identities["s0"], self.transaction)

    async def prepare(self, number: int = 1, shards: tuple[int, ...] = (1, 2)) -> None:
        """Lock and prepare, with the anchor on s0."""
        self.identities = await setup.set_up(self.shards.addresses)
        self.connections = await self.shards.insert(number)
        for connection in self.connections:
            await connection.fetch(f"SELECT pg_try_advisory_xact_lock({lock_key(self.transaction)})")
        for shard in shards:
            await self.prepare_on(shard)

    async def prepare_on(self, shard: int) -> None:
        gid = Gid(self.identities["s0"], self.transaction, self.identities[f"s{shard}"])
        assert await self.connections[shard].execute(f"PREPARE TRANSACTION '{gid}'") == "PREPARE TRANSACTION"

    async def decide(self) -> None:
        await self.connections[0].execute("SET LOCAL synchronous_commit = 'on'")
        sql = decide_sql(self.identities["s0"], self.key, list(self.identities.values()), time.time() + 60)
        assert await self.connections[0].execute(sql) == "COMMIT"

    def die(self) -> None:
        for connection in self.connections:
            connection.abort()


@pytest.mark.parametrize("decided", [False, True])
async def test_the_committer_is_killed(shards: Shards, decided: bool) -> None:
    committer = Committer(shards)
    await committer.prepare()
    if decided:
        await committer.decide()
    committer.die()
    coordinator = shards.coordinator()
    await coordinator.start()
    await until(lambda: not shards.prepared())
    assert shards.counts(1) == [int(decided)] * 3
    await until(lambda: coordinator.in_doubt == 0)
    await coordinator.close()


async def test_a_backend_of_the_killed_proxy_prepares_behind_the_first_pass(shards: Shards) -> None:
    """The race: a PREPARE takes its time, and nothing is listed yet when the next proxy looks for the first time."""
    coordinator = shards.coordinator()
    committer = Committer(shards)
    await committer.prepare(shards=())
    await coordinator.start()
    assert coordinator.found.in_doubt == []
    await committer.prepare_on(1)
    committer.die()
    await until(lambda: not shards.prepared(), 5)
    await coordinator.close()


async def test_a_shard_goes_away_in_doubt(crashing: Shards) -> None:
    """It lists nothing then, and is counted still."""
    committer = Committer(crashing)
    await committer.prepare()
    committer.die()
    await asyncio.to_thread(crashing.databases.shard_servers[0].kill)
    coordinator = crashing.coordinator()
    await coordinator.start()
    assert coordinator.in_doubt == 1
    await asyncio.to_thread(crashing.databases.shard_servers[1].kill)
    await asyncio.to_thread(crashing.databases.shard_servers[2].kill)
    await until(lambda: len(coordinator.found.unreachable) == 3)
    assert coordinator.in_doubt == 1
    for server in crashing.databases.shard_servers:
        await asyncio.to_thread(server.restart)
    await until(lambda: coordinator.in_doubt == 0, 10)
    assert crashing.prepared() == []
    await coordinator.close()


async def test_a_committer_at_work_is_left_alone(shards: Shards) -> None:
    """However long it takes to prepare, it may decide."""
    committer = Committer(shards)
    await committer.prepare()
    coordinator = shards.coordinator()
    found = await coordinator.recover()
    assert [doubt.committing for doubt in found.in_doubt] == [True]
    assert coordinator.in_doubt == 0
    await committer.decide()
    await asyncio.sleep(recovery.GRACE)
    await coordinator.recover()
    assert shards.prepared() == []
    assert shards.counts(1) == [1, 1, 1]


async def test_an_eager_recovery_makes_the_committer_fail(shards: Shards) -> None:
    """The race: recovery aborts between two PREPAREs. The decision then cannot be written, and the late PREPARE
    is undone by the next pass.
    """
    committer = Committer(shards)
    await committer.prepare(shards=(1,))
    identities = committer.identities
    found = await recovery.look(shards.addresses, identities)
    await recovery.resolve(found, shards.addresses, identities, limit=0.0)
    assert [doubt.outcome for doubt in found.in_doubt] == ["abort"]
    await committer.prepare_on(2)
    with pytest.raises(PgError) as caught:
        await committer.decide()
    assert caught.value.sqlstate == "23505"
    await shards.end()
    coordinator = shards.coordinator()
    await coordinator.recover()
    assert shards.prepared() == []
    assert shards.counts(1) == [0, 0, 0]


async def test_the_client_learns_that_recovery_was_faster(shards: Shards) -> None:
    shards.execute(
        2, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'"
    )
    shards.execute(
        2,
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    coordinator = shards.coordinator()
    await coordinator.start()
    identities = await setup.set_up(shards.addresses)
    commit = asyncio.ensure_future(coordinator.commit(await shards.insert(1)))
    await until(lambda: len(shards.prepared()) == 1)
    found = await recovery.look(shards.addresses, identities)
    await recovery.resolve(found, shards.addresses, identities, limit=0.0)
    with pytest.raises(PgError) as caught:
        await commit
    assert caught.value.sqlstate == "40001"
    assert "recovery" in caught.value.message
    await shards.end()
    await until(lambda: not shards.prepared())
    assert shards.counts(1) == [0, 0, 0]
    await coordinator.close()


async def test_two_proxies_recover_at_once(shards: Shards) -> None:
    """Many transactions, three recoveries at the same time: each has one outcome, the same on all its shards."""
    committers = [Committer(shards) for _ in range(12)]
    for number, committer in enumerate(committers):
        await committer.prepare(number)
        if number % 3 == 0:
            await committer.decide()
        committer.die()
        shards.connections = []
    coordinators = [shards.coordinator() for _ in range(3)]
    async with asyncio.timeout(20):
        while shards.prepared():
            await asyncio.gather(*(coordinator.recover() for coordinator in coordinators))
    for number in range(12):
        assert shards.counts(number) == [int(number % 3 == 0)] * 3


async def test_foreign_transactions_are_not_touched(shards: Shards) -> None:
    """Another program's gid, another cluster's, and one that only looks like ours."""
    coordinator = shards.coordinator()
    await coordinator.start()
    identities = await setup.set_up(shards.addresses)
    other = "0" * 32
    gids = [
        "somebody",
        "shardproxy_mine",
        str(Gid(other, new_transaction(), identities["s1"])),  # an anchor that is none of our shards
        str(Gid(identities["s0"], new_transaction(), other)),  # prepared for another shard
        str(Gid(identities["s0"], new_transaction(), identities["s1"])) + "'",
    ]
    for number, gid in enumerate(gids):
        literal = gid.replace("'", "''")
        execute(shards.databases.shards[1], f"BEGIN; INSERT INTO t VALUES ({number}); PREPARE TRANSACTION '{literal}'")
    found = await coordinator.recover()
    assert found.in_doubt == []
    assert [str(gid) for doubt in found.foreign for gid in doubt.parts.values()] == [gids[2]]
    assert sorted(gid for (gid,) in shards.prepared()) == sorted(gids)
    await coordinator.close()


async def test_a_prepared_transaction_of_another_role(shards: Shards) -> None:
    """A client's SET ROLE: only the owner, or a superuser, may finish it."""
    names = ("twophase_dsn", "twophase_owner")
    shards.databases.execute(
        f"CREATE ROLE {names[0]} LOGIN; CREATE ROLE {names[1]}; GRANT {names[1]} TO {names[0]};"
        f"GRANT ALL ON t TO {', '.join(names)}; GRANT CREATE ON DATABASE {shards.databases.name} TO {names[0]}",
        oracle=False,
    )
    try:
        shards.addresses = [replace(address, user=names[0]) for address in shards.addresses]
        committer = Committer(shards)
        await committer.prepare(shards=())
        for shard in (1, 2):
            await committer.connections[shard].execute(f"SET ROLE {names[1]}")
            await committer.prepare_on(shard)
        await committer.decide()
        committer.die()
        coordinator = shards.coordinator()
        await coordinator.start()
        await until(lambda: not shards.prepared())
        assert shards.counts(1) == [1, 1, 1]
        await coordinator.close()
    finally:
        shards.databases.execute(f"DROP OWNED BY {names[0]}, {names[1]} CASCADE", oracle=False)
        shards.databases.execute(f"DROP ROLE {names[0]}, {names[1]}", oracle=False)


@pytest.fixture
async def crashing(start_server: StartServer) -> AsyncIterator[Shards]:
    """Shards on servers that a test may kill."""
    servers = [start_server() for _ in range(3)]
    shards = Shards(_of(servers))
    yield shards
    await shards.end()


def _of(servers: list[Server]) -> Databases:
    dsns = [server.dsn("postgres") for server in servers]
    return Databases(18, "postgres", dsns, dsns[0], servers[0].psql, servers, servers[0])


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("shard", [0, 1])
async def test_a_shard_crashes_in_doubt(crashing: Shards, decided: bool, shard: int) -> None:
    """The committer dies, and the anchor or a participant crashes and is unreachable for a while."""
    committer = Committer(crashing)
    await committer.prepare()
    if decided:
        await committer.decide()
    committer.die()
    server = crashing.databases.shard_servers[shard]
    await asyncio.to_thread(server.kill)
    coordinator = crashing.coordinator()
    await coordinator.start()
    assert coordinator.found.unreachable.keys() == {f"s{shard}"}
    await asyncio.to_thread(server.restart)
    begun = time.monotonic()
    await until(lambda: not crashing.prepared())
    assert time.monotonic() - begun < 5
    assert crashing.counts(1) == [int(decided)] * 3
    await coordinator.close()


async def test_a_stalled_shard_holds_up_nobody_else(crashing: Shards) -> None:
    """s2 takes connections and says nothing; what it has no part in is resolved in spite of that."""
    identities = await setup.set_up(crashing.addresses)
    transaction = new_transaction()
    gid = Gid(identities["s0"], transaction, identities["s1"])
    coordinator = crashing.coordinator()
    coordinator.addresses = tuple(replace(address, connect_timeout=1.0) for address in crashing.addresses)
    server = crashing.databases.shard_servers[2]
    server.pause()
    try:
        await coordinator.start()
        assert coordinator.found.unreachable.keys() == {"s2"}
        crashing.execute(1, f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}'")
        sql = "SELECT gid FROM pg_prepared_xacts"
        await until(lambda: query(crashing.databases.shards[1], sql) == [])
    finally:
        server.resume()
    await until(lambda: coordinator.found.unreachable == {})
    await coordinator.close()


async def test_a_shard_comes_back_as_a_standby(crashing: Shards) -> None:
    """The race: a participant fails over, and its address leads to the standby before that is promoted.

    A standby lists nothing that is prepared, and does not know yet what the primary has committed. Who believes
    it confirms the transaction and deletes the decision; the promoted server's part would then be rolled back.
    """
    server = crashing.databases.shard_servers[1]
    await asyncio.to_thread(server.restart, settings={"wal_level": "replica"})
    committer = Committer(crashing)
    await committer.prepare()
    await committer.decide()
    await asyncio.to_thread(server.stop, "immediate")
    committer.die()
    (server.data_dir / "standby.signal").touch()
    await asyncio.to_thread(server.restart)
    assert query(crashing.databases.shards[1], "SELECT pg_is_in_recovery()") == [(True,)]
    coordinator = crashing.coordinator()
    await coordinator.start()
    await until(lambda: bool(query(crashing.databases.shards[2], "SELECT FROM t")))
    error = coordinator.found.unreachable["s1"]
    assert (error.sqlstate, error.message) == ("57P03", 'shard "s1" is in recovery')
    with pytest.raises(PgError):
        await recovery.sweep(crashing.addresses, committer.identities, 0.0)
    assert len(crashing.decisions()) == 1
    execute(crashing.databases.shards[1], "SELECT pg_promote()")
    await until(lambda: not crashing.prepared(), 10)
    assert crashing.counts(1) == [1, 1, 1]
    await coordinator.close()


@pytest.mark.parametrize("shard", [0, 1, 2])
async def test_a_shard_crashes_during_commits(crashing: Shards, shard: int) -> None:
    """SIGKILL of a whole server at a random moment of a series of commits: the answers are true.

    The server is back before the commit's deadline, so nobody is left without an answer.
    """
    coordinator = crashing.coordinator()
    await coordinator.start()
    server = crashing.databases.shard_servers[shard]
    answers: dict[int, bool] = {}
    states: set[str] = set()

    async def crash() -> None:
        await asyncio.sleep(0.1 + 0.03 * shard)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)

    crashed = asyncio.ensure_future(crash())
    number = 0
    while not crashed.done() or number < 20:
        number += 1
        with suppress(PgError):
            connections = await crashing.insert(number)
            answers[number] = False
            try:
                await coordinator.commit(connections)
                answers[number] = True
            except PgError as error:
                states.add(error.sqlstate)
        await _leave(crashing)
    await crashed
    await until(lambda: not crashing.prepared(), 10)
    assert any(answers.values())
    assert "08007" not in states
    wrong = {
        number: crashing.counts(number)
        for number, committed in answers.items()
        if crashing.counts(number) != [int(committed)] * 3
    }
    assert wrong == {}
    await coordinator.close()


async def _leave(shards: Shards) -> None:
    for connection in shards.connections:
        connection.abort()
    shards.connections = []


async def test_the_sweep(shards: Shards) -> None:
    """A decision outlives every doubt about it, and goes when there is none."""
    committer = Committer(shards)
    await committer.prepare()
    await committer.decide()
    committer.die()
    identities = committer.identities
    assert await recovery.sweep(shards.addresses, identities, 0.0) == 0  # it is prepared
    coordinator = shards.coordinator()
    await coordinator.start()
    await until(lambda: not shards.prepared())
    await coordinator.close()
    assert await recovery.sweep(shards.addresses, identities, RETENTION) == 0  # it is young
    fewer = {name: identity for name, identity in identities.items() if name != "s2"}
    assert await recovery.sweep(shards.addresses[:2], fewer, 0.0) == 0  # a participant cannot be asked
    for there, elsewhere in ((identities["s2"], "9" * 32), ("9" * 32, identities["s2"])):
        # Between these two its address leads to another server.
        shards.execute(2, f"UPDATE shardproxy.identity SET id = '{elsewhere}' WHERE id = '{there}'")
        if elsewhere != identities["s2"]:
            assert await recovery.sweep(shards.addresses, identities, 0.0) == 0
    assert await recovery.sweep(shards.addresses, identities, 0.0) == 1
    assert shards.decisions() == []


async def test_a_decision_cannot_come_too_late(shards: Shards) -> None:
    """A proxy that was stopped must not decide when its time, by the anchor's clock, is over."""
    committer = Committer(shards)
    await committer.prepare()
    with pytest.raises(PgError) as caught:
        await committer.connections[0].execute(
            decide_sql(committer.identities["s0"], committer.key, [], time.time() - 1)
        )
    assert caught.value.sqlstate == "23502"
    await shards.end()
    await shards.coordinator().recover()
    assert shards.counts(1) == [0, 0, 0]


async def test_the_anchor_is_not_the_server_that_it_was(shards: Shards) -> None:
    coordinator = shards.coordinator()
    await coordinator.start()
    shards.execute(0, "TRUNCATE shardproxy.identity; INSERT INTO shardproxy.identity (id) VALUES (repeat('1', 32))")
    with pytest.raises(PgError) as caught:
        await coordinator.commit(await shards.insert(1))
    assert caught.value.sqlstate == "55000"
    await shards.end()
    assert shards.prepared() == []
    # It has learnt the new one.
    assert await coordinator.commit(await shards.insert(1)) == []
    assert shards.counts(1) == [1, 1, 1]
    await coordinator.close()


async def test_timeouts_of_the_role_do_not_end_recovery(shards: Shards) -> None:
    shards.databases.execute("CREATE ROLE twophase_hasty LOGIN; ALTER ROLE twophase_hasty SET statement_timeout = 1")
    try:
        async with control(replace(shards.addresses[0], user="twophase_hasty"), 5.0) as connection:
            await connection.execute("SELECT pg_sleep(0.1)")
    finally:
        shards.databases.execute("DROP ROLE twophase_hasty")


async def test_set_up_by_many_at_once(shards: Shards) -> None:
    found = await asyncio.gather(*(setup.set_up(shards.addresses) for _ in range(8)))
    assert all(identities == found[0] for identities in found)
    assert len(set(found[0].values())) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in found[0].values())


async def test_set_up_without_the_right_to(shards: Shards) -> None:
    """The error has SQL that a DBA can run as it is; behind that the role can commit."""
    role = 'two"phase'
    quoted = '"two""phase"'
    shards.databases.execute(f"CREATE ROLE {quoted} LOGIN; GRANT ALL ON t TO {quoted}", oracle=False)
    try:
        shards.addresses = [replace(address, user=role) for address in shards.addresses]
        with pytest.raises(PgError) as caught:
            await setup.set_up(shards.addresses)
        assert caught.value.sqlstate == "55000"
        assert await setup.check_shard(shards.addresses[0]) is not None
        sql = (caught.value.detail or "").removeprefix("SQL: ")
        shards.databases.execute(sql, oracle=False)
        assert await setup.check_shard(shards.addresses[0]) is None
        coordinator = shards.coordinator()
        await coordinator.start()
        assert await coordinator.commit(await shards.insert(1)) == []
        assert shards.counts(1) == [1, 1, 1]
        await coordinator.close()
    finally:
        shards.databases.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}", oracle=False)


async def test_twins_are_refused(shards: Shards) -> None:
    await setup.set_up(shards.addresses)
    [(identity,)] = query(shards.databases.shards[0], "SELECT id FROM shardproxy.identity")
    shards.execute(1, f"UPDATE shardproxy.identity SET id = '{identity}'")
    with pytest.raises(PgError) as caught:
        await setup.set_up(shards.addresses)
    assert "same identity" in caught.value.message
    with pytest.raises(PgError):
        await shards.coordinator().start()


async def test_the_command(shards: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shardproxy.toml"
    path.write_text(shards.databases.config(commit="two-phase"))
    committer = Committer(shards)
    await committer.prepare()
    await committer.decide()
    committer.die()
    await asyncio.sleep(recovery.GRACE)
    assert await asyncio.to_thread(recover.run, path) == 0
    said = capsys.readouterr().out
    assert f"shop: {committer.key}" in said
    assert said.rstrip().endswith("committed")
    assert shards.prepared() == []
    assert shards.counts(1) == [1, 1, 1]
    assert await asyncio.to_thread(recover.run, path) == 0
    assert capsys.readouterr().out == "shop: no transaction in doubt\n"


async def test_the_command_leaves_committers_the_time_that_the_configuration_gives(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shardproxy.toml"
    config = shards.databases.config(commit="two-phase")
    path.write_text(config.replace('name = "shop"', 'name = "shop"\nprepare_timeout = 600.0', 1))
    limits: list[Limits] = []

    class Recorder(Coordinator):
        async def recover(self) -> recovery.RecoveryPass:
            limits.append(self.limits)
            return await super().recover()

    monkeypatch.setattr(recover, "Coordinator", Recorder)
    assert await asyncio.to_thread(recover.run, path) == 0
    assert limits == [Limits(600.0, 30.0)]


async def test_the_command_shows_what_it_leaves_alone(
    shards: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shardproxy.toml"
    path.write_text(shards.databases.config(commit="two-phase"))
    identities = await setup.set_up(shards.addresses)
    gid = Gid("0" * 32, new_transaction(), identities["s1"])
    shards.execute(1, f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}'")
    assert await asyncio.to_thread(recover.run, path) == 1
    assert f"{gid.decision_key}, prepared 0 s ago on s1: left alone" in capsys.readouterr().out
    assert shards.prepared() == [(str(gid),)]


async def test_the_command_with_an_unreachable_shard(
    crashing: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committer = Committer(crashing)
    await committer.prepare()
    committer.die()
    await asyncio.to_thread(crashing.databases.shard_servers[0].stop, "immediate")
    path = tmp_path / "shardproxy.toml"
    path.write_text(crashing.databases.config(commit="two-phase"))
    assert await asyncio.to_thread(recover.run, path) == 1
    said = capsys.readouterr().out
    assert "in doubt" in said
    assert "shard s0 is unreachable" in said
    await asyncio.to_thread(crashing.databases.shard_servers[0].restart)
    assert await asyncio.to_thread(recover.run, path) == 0


def test_psycopg_sees_the_tables(shards: Shards) -> None:
    """The SQL for a DBA runs as one string, twice."""
    with psycopg.connect(shards.databases.shards[0], autocommit=True) as connection:
        for _ in range(2):
            connection.execute(setup_sql("postgres").encode())
        assert connection.execute("SELECT count(*) FROM shardproxy.identity").fetchone() == (1,)


def test_limits_stay_below_the_retention() -> None:
    assert Limits().decide * 10 < RETENTION


async def test_nothing_is_left_running(shards: Shards) -> None:
    coordinator = Coordinator("test", shards.addresses)
    await coordinator.start()
    await coordinator.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "Coordinator" in repr(task)]
