"""Two-phase commit over real shards: every way in which it ends, and what is left then."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shardproxy.embedded import Server
from shardproxy.errors import PgError
from shardproxy.shard.connect import connect
from shardproxy.shard.connection import Connection
from shardproxy.transaction import two_phase
from shardproxy.transaction.participant import Limits
from shardproxy.transaction.setup import READY, check_ready, set_up
from shardproxy.wire import encode
from tests.conftest import StartServer
from tests.support.commits import Shards, until
from tests.support.databases import Databases, Servers, query
from tests.support.lossy import Fault


@pytest.fixture
async def shards(shard_databases: Databases) -> AsyncIterator[Shards]:
    shards = Shards(shard_databases)
    yield shards
    await shards.end()


@pytest.fixture
async def shards18(servers18: Servers) -> AsyncIterator[Shards]:
    databases = Databases.create(servers18)
    shards = Shards(databases)
    yield shards
    await shards.end()
    databases.drop()


async def test_commits_everywhere_and_forgets_the_decision(shards: Shards) -> None:
    coordinator = shards.coordinator()
    await coordinator.start()
    connections = await shards.insert(1)
    assert await coordinator.commit(connections) == []
    assert shards.counts(1) == [1, 1, 1]
    assert shards.prepared() == []
    assert len(shards.decisions()) == 1
    # The connections are fit for the next transaction.
    for connection in connections:
        assert await connection.execute("BEGIN; INSERT INTO t VALUES (2, 'y')") == "INSERT 0 1"
    assert await coordinator.commit(connections) == []
    assert shards.counts(2) == [1, 1, 1]
    await coordinator.close()
    assert shards.decisions() == []


async def test_a_single_writer_commits_plainly(shards18: Shards) -> None:
    shards = shards18
    coordinator = shards.coordinator()
    await coordinator.start()
    connections = await shards.begin("SELECT 1", "INSERT INTO t VALUES (1)", "SELECT count(*) FROM t")
    said: list[dict[str, str]] = []
    for connection in connections:
        connection.on_notice = said.append
    assert await coordinator.commit(connections) == []
    assert shards.counts(1) == [0, 1, 0]
    assert said == []
    assert [connection.status for connection in connections] == [ord("I")] * 3
    assert shards.decisions() == []
    await coordinator.close()


async def test_a_lone_participant_is_not_probed(shards18: Shards) -> None:
    coordinator = shards18.coordinator()
    server = shards18.databases.shard_servers[1]
    earlier = len(server.log())  # other tests' statements are in it, too
    shards18.databases.execute("CREATE TABLE d (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)", oracle=False)
    [connection] = await shards18.insert(1, [1])
    await connection.execute("SET log_statement = 'all'")
    assert await coordinator.commit([connection]) == []
    await connection.execute("BEGIN; INSERT INTO d VALUES (2)")
    with pytest.raises(PgError) as caught:
        await coordinator.commit([connection])
    assert caught.value.sqlstate == "23503"
    await connection.execute("BEGIN; SELECT count(*) FROM t")
    assert await coordinator.commit([connection]) == []
    assert connection.status == ord("I")
    assert shards18.counts(1) == [0, 1, 0]
    log = server.log()[earlier:]
    assert "COMMIT" in log
    assert "advisory" not in log
    await shards18.end()
    await coordinator.close()


async def test_readers_beside_two_writers(shards18: Shards) -> None:
    coordinator = shards18.coordinator()
    insert = "INSERT INTO t VALUES (1)"
    for begin in ("BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE"):
        connections = await shards18.begin(insert, "SELECT count(*) FROM t", insert, begin=begin)
        assert await coordinator.commit(connections) == []
        assert shards18.counts(1) == [1, 0, 1]
        assert [connection.status for connection in connections] == [ord("I")] * 3
        shards18.databases.execute("TRUNCATE t", oracle=False)
        await shards18.end()
    await coordinator.close()


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_deferred_constraint_fails(shards: Shards, failing: int) -> None:
    """On the anchor (0) as on the others: its SQLSTATE, and nothing anywhere."""
    shards.databases.execute("CREATE TABLE d (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED)", oracle=False)
    coordinator = shards.coordinator()
    insert = "INSERT INTO t VALUES (1)"
    connections = await shards.begin(
        *(f"{insert}; INSERT INTO d VALUES ({2 if shard == failing else 1})" for shard in range(3))
    )
    with pytest.raises(PgError) as caught:
        await coordinator.commit(connections)
    assert caught.value.sqlstate == "23503"
    assert [connection.usable for connection in connections] == [True, True, True]
    await shards.end()
    assert shards.counts(1) == [0, 0, 0]
    assert shards.prepared() == []
    assert shards.decisions() == []
    await coordinator.close()


async def test_a_failed_transaction_is_not_prepared(shards18: Shards) -> None:
    """PREPARE TRANSACTION answers ROLLBACK there, without an error; the probe sees it even before."""
    coordinator = shards18.coordinator()
    connections = await shards18.insert(1)
    with pytest.raises(PgError):
        await connections[1].execute("SELECT 1/0")
    with pytest.raises(PgError) as caught:
        await coordinator.commit(connections)
    assert caught.value.sqlstate == "25P02"
    await shards18.end()
    assert shards18.counts(1) == [0, 0, 0]
    await coordinator.close()


async def test_temporary_objects(shards18: Shards) -> None:
    """One shard's are no obstacle, for it becomes the anchor; two shards' are refused with a hint."""
    coordinator = shards18.coordinator()
    insert = "INSERT INTO t VALUES ({})"
    temporary = "CREATE TEMP TABLE mine (x int); INSERT INTO mine VALUES (1); " + insert
    connections = await shards18.begin(insert.format(1), insert.format(1), temporary.format(1))
    assert await coordinator.commit(connections) == []
    assert shards18.counts(1) == [1, 1, 1]
    await shards18.end()
    connections = await shards18.begin(temporary.format(2), insert.format(2), temporary.format(2))
    with pytest.raises(PgError) as caught:
        await coordinator.commit(connections)
    assert caught.value.sqlstate == "0A000"
    assert "temporary objects" in (caught.value.hint or "")
    await shards18.end()
    assert shards18.counts(2) == [0, 0, 0]
    assert shards18.prepared() == []
    await coordinator.close()


async def test_sessions_of_other_roles_and_settings(shards18: Shards) -> None:
    """The role of the moment owns the prepared transaction; the decision is the dsn's role's."""
    shards18.databases.execute(
        "DROP ROLE IF EXISTS twophase_low; CREATE ROLE twophase_low; GRANT ALL ON t TO twophase_low", oracle=False
    )
    try:
        coordinator = shards18.coordinator()
        insert = "INSERT INTO t VALUES ({}); SET DateStyle = 'German'; SET extra_float_digits = -15"
        roles = ("SET LOCAL ROLE twophase_low", "SET ROLE twophase_low", "SET SESSION AUTHORIZATION twophase_low")
        for number, role in enumerate(roles):
            connections = await shards18.begin(*[f"{role}; {insert.format(number)}"] * 3)
            assert await coordinator.commit(connections) == []
            assert shards18.counts(number) == [1, 1, 1]
            [[user]] = await connections[0].fetch("SELECT current_user")
            assert user == (b"postgres" if number == 0 else b"twophase_low")
            await shards18.end()
        assert shards18.prepared() == []
        await coordinator.close()
    finally:
        shards18.databases.execute("DROP OWNED BY twophase_low; DROP ROLE twophase_low", oracle=False)


async def test_asynchronous_commit_does_not_weaken_the_decision(shards18: Shards) -> None:
    coordinator = shards18.coordinator()
    connections = await shards18.begin(*["SET synchronous_commit = off; INSERT INTO t VALUES (1)"] * 3)
    await connections[0].execute("SET LOCAL log_statement = 'all'")
    assert await coordinator.commit(connections) == []
    log = shards18.databases.shard_servers[0].log()
    assert "SET LOCAL ROLE NONE; SET LOCAL synchronous_commit = 'on'" in log
    [[setting]] = await connections[0].fetch("SHOW synchronous_commit")
    assert setting == b"off"
    await coordinator.close()


@pytest.mark.parametrize("version", [16, 18])
async def test_readiness(start_server: StartServer, version: int) -> None:
    server = start_server(version, settings={"max_prepared_transactions": "0"})
    databases = _one(server)
    shards = Shards(databases)
    [connection] = await shards.insert(1, [0])
    with pytest.raises(PgError) as caught:
        check_ready(connection.address, await connection.fetch_row(READY, 3))
    assert caught.value.sqlstate == "55000"
    assert caught.value.message == "prepared transactions are disabled"
    with pytest.raises(PgError, match="disabled"):
        await shards.coordinator().start()
    await shards.end()
    server.restart(settings={"max_prepared_transactions": "1"})
    [connection] = await shards.insert(1, [0])
    with pytest.raises(PgError) as caught:
        check_ready(connection.address, await connection.fetch_row(READY, 3))
    assert caught.value.sqlstate == "55000"
    assert "CREATE TABLE IF NOT EXISTS shardproxy.decisions" in (caught.value.detail or "")
    await set_up(shards.addresses)
    check_ready(connection.address, await connection.fetch_row(READY, 3))
    await connection.execute("PREPARE TRANSACTION 'somebody'; BEGIN")
    with pytest.raises(PgError) as caught:
        check_ready(connection.address, await connection.fetch_row(READY, 3))
    assert caught.value.sqlstate == "53200"
    # In PostgreSQL's own words.
    await connection.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(PgError) as own:
        await connection.execute("PREPARE TRANSACTION 'another'")
    assert own.value.message == caught.value.message
    assert own.value.sqlstate == caught.value.sqlstate
    await connection.execute("ROLLBACK PREPARED 'somebody'")
    await shards.end()


def _one(server: Server) -> Databases:
    """A single shard in a server of its own."""
    dsn = server.dsn("postgres")
    return Databases(server.version, "postgres", [dsn], dsn, server.psql, [server], server)


async def test_a_participant_dies_while_preparing(shards18: Shards) -> None:
    """Its PREPARE waits for a lock, its backend is killed: nothing anywhere, and it is named."""
    shards18.execute(2, SLOW_PREPARE)
    coordinator = shards18.coordinator()
    connections = await shards18.insert(1)
    async with _advisory_lock(shards18, 2):
        commit = asyncio.ensure_future(coordinator.commit(connections))
        await until(lambda: len(shards18.prepared()) == 1)
        shards18.execute(2, f"SELECT pg_terminate_backend({connections[2].pid})")
        with pytest.raises(PgError) as caught:
            await commit
    assert caught.value.sqlstate in {"08006", "57P01"}
    assert '"s2"' in caught.value.message
    await shards18.end()
    assert shards18.counts(1) == [0, 0, 0]
    assert shards18.prepared() == []
    await coordinator.close()


SLOW_PREPARE = """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_lock(7); PERFORM pg_advisory_unlock(7); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()"""


class _advisory_lock:  # noqa: N801
    """Hold what SLOW_PREPARE's trigger waits for."""

    def __init__(self, shards: Shards, shard: int) -> None:
        self._address = shards.addresses[shard]

    async def __aenter__(self) -> Connection:
        self._connection = await connect(self._address, {})
        await self._connection.execute("SELECT pg_advisory_lock(7)")
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()


@pytest.mark.parametrize("patience", [2.0, 0.0])
async def test_a_late_prepare_is_fenced(shards18: Shards, patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race: the connection is lost in PREPARE, the backend goes on and prepares seconds later.

    PREPARE waits in a trigger when its deadline passes. The client is told that nothing is committed; the backend
    is ended, at once or by recovery, so that it cannot prepare when the lock is free.
    """
    monkeypatch.setattr(two_phase, "FENCE_TIMEOUT", patience)
    shards18.execute(2, SLOW_PREPARE)
    shards18.limits = Limits(0.5, 5.0)
    coordinator = shards18.coordinator()
    connections = await shards18.insert(1)
    pid = connections[2].pid
    async with _advisory_lock(shards18, 2):
        with pytest.raises(PgError) as caught:
            await coordinator.commit(connections)
        if patience:
            assert caught.value.sqlstate == "40P01"
        else:
            assert caught.value.sqlstate == "08006"
            assert caught.value.message == 'shard "s2" did not prepare within 0.5 seconds'
        await shards18.end()
        gone = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
        await until(lambda: query(shards18.databases.shards[2], gone) == [(0,)])
    assert shards18.prepared() == []
    assert shards18.counts(1) == [0, 0, 0]
    await coordinator.close()


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request", "stall"])
@pytest.mark.parametrize(
    ("shard", "step"),
    [(1, b"PREPARE TRANSACTION"), (0, b"INSERT INTO shardproxy.decisions"), (1, b"COMMIT PREPARED")],
    ids=["prepare", "decide", "complete"],
)
async def test_a_connection_is_lost(shards18: Shards, fault: Fault, shard: int, step: bytes) -> None:
    """Each message of the protocol, lost on its way or with its answer: the client's answer is true."""
    shards18.limits = Limits(1.0, 1.0)
    async with shards18.reached_through_lossy(shard) as lossy:
        coordinator = shards18.coordinator()
        await coordinator.start()
        connections = await shards18.insert(1)
        lossy.arm(step, fault)
        committed = True
        try:
            warnings = await coordinator.commit(connections)
        except PgError as error:
            committed = False
            said = [error.sqlstate]
        else:
            said = [warning.message for warning in warnings]
        assert said == ([] if committed else ["08006"])
        assert lossy.hit
        lossy.heal()
        await shards18.end()
        if step == b"PREPARE TRANSACTION":
            assert not committed
        elif step == b"COMMIT PREPARED" or fault == "lose_reply":
            assert committed
        assert shards18.counts(1) == [int(committed)] * 3
        await until(lambda: not shards18.prepared())
        await coordinator.close()


async def test_the_decision_cannot_be_read_in_time(shards18: Shards) -> None:
    """Only then 08007; recovery ends it as the anchor says."""
    shards18.limits = Limits(1.0, 0.5)
    async with shards18.reached_through_lossy(0) as lossy:
        coordinator = shards18.coordinator()
        await coordinator.start()
        connections = await shards18.insert(1)
        lossy.arm(b"INSERT INTO shardproxy.decisions", "lose_reply", closed_to_new=True)
        with pytest.raises(PgError) as caught:
            await coordinator.commit(connections)
        assert caught.value.sqlstate == "08007"
        await shards18.end()
        assert len(shards18.prepared()) == 2
        lossy.heal()
        await until(lambda: not shards18.prepared())
        assert shards18.counts(1) == [1, 1, 1]
        await coordinator.close()


async def test_a_participant_is_away_behind_the_decision(shards18: Shards) -> None:
    """Success with a WARNING; recovery completes it."""
    shards18.limits = Limits(1.0, 0.5)
    async with shards18.reached_through_lossy(1) as lossy:
        coordinator = shards18.coordinator()
        await coordinator.start()
        connections = await shards18.insert(1)
        lossy.arm(b"COMMIT PREPARED", "lose_request", closed_to_new=True)
        [warning] = await coordinator.commit(connections)
        assert warning.fields["S"] == "WARNING"
        assert '"s1"' in warning.message
        assert shards18.counts(1) == [1, 0, 1]
        await shards18.end()
        assert len(shards18.decisions()) == 1
        # The unreachable shard lists nothing, and is in doubt still.
        await until(lambda: "s1" in coordinator.found.unreachable)
        assert coordinator.in_doubt == 1
        assert coordinator.oldest > 0
        lossy.heal()
        await until(lambda: shards18.counts(1) == [1, 1, 1])
        await until(lambda: coordinator.in_doubt == 0)
        assert shards18.prepared() == []
        await coordinator.close()
        # Not all participants have confirmed to the committer: the row stays for the sweep.
        assert len(shards18.decisions()) == 1


@pytest.mark.parametrize("closed_to_new", [False, True])
@pytest.mark.parametrize("fault", ["lose_reply", "stall"])
async def test_a_plain_commits_answer_is_lost(shards18: Shards, fault: Fault, closed_to_new: bool) -> None:
    """The transaction's id, which travels in front of the COMMIT, tells; 08007 if there is nobody to ask."""
    shards18.limits = Limits(0.5, 0.5)
    async with shards18.reached_through_lossy(1) as lossy:
        coordinator = shards18.coordinator()
        connections = await shards18.insert(1, [1])
        lossy.arm(encode.query(b"COMMIT"), fault, answer=encode.command_complete("COMMIT"), closed_to_new=closed_to_new)
        if closed_to_new:
            with pytest.raises(PgError) as caught:
                await coordinator.commit(connections)
            assert caught.value.sqlstate == "08007"
        else:
            assert await coordinator.commit(connections) == []
        assert lossy.hit
        lossy.heal()
        await shards18.end()
        assert shards18.counts(1) == [0, 1, 0]
        await coordinator.close()


async def test_a_plain_commit_never_arrives(shards18: Shards) -> None:
    """The transaction's id is known from the probe, so the shard can be asked what became of it: nothing."""
    async with shards18.reached_through_lossy(1) as lossy:
        coordinator = shards18.coordinator()
        connections = await shards18.begin(None, "INSERT INTO t VALUES (1)", "SELECT 1")
        lossy.arm(encode.query(b"COMMIT"), "lose_request")
        with pytest.raises(PgError) as caught:
            await coordinator.commit(connections)
        assert caught.value.sqlstate == "08006"
        assert caught.value.message.startswith("the transaction is rolled back")
        await shards18.end()
        assert shards18.counts(1) == [0, 0, 0]
        await coordinator.close()


async def test_the_anchor_dies_while_the_others_prepare(shards18: Shards) -> None:
    """Nothing was sent that could commit, so nothing is in doubt, however long the anchor is unreachable."""
    shards18.execute(2, SLOW_PREPARE)
    shards18.limits = Limits(10.0, 0.5)
    async with shards18.reached_through_lossy(0) as lossy:
        coordinator = shards18.coordinator()
        await coordinator.start()
        connections = await shards18.insert(1)
        async with _advisory_lock(shards18, 2):
            commit = asyncio.ensure_future(coordinator.commit(connections))
            await until(lambda: len(shards18.prepared()) == 1)
            lossy.arm(b"Q", "lose_request", closed_to_new=True)
            lossy.hit = 1
            shards18.execute(0, f"SELECT pg_terminate_backend({connections[0].pid})")
            await until(lambda: not connections[0].usable)
        with pytest.raises(PgError) as caught:
            await commit
        assert caught.value.sqlstate == "08006"
        assert '"s0"' in caught.value.message
        assert shards18.prepared() == []
        await shards18.end()
        assert shards18.counts(1) == [0, 0, 0]
        lossy.heal()
        await coordinator.close()


READ_ONLY = "INSERT INTO t VALUES (1); SET TRANSACTION READ ONLY"


async def test_a_transaction_becomes_read_only_behind_its_writes(shards18: Shards) -> None:
    """PostgreSQL allows it, and commits the rows: on several shards they must not go as if nothing was written."""
    coordinator = shards18.coordinator()
    await coordinator.start()
    with pytest.raises(PgError) as caught:
        await coordinator.commit(await shards18.begin(READ_ONLY, READ_ONLY, "SELECT 1"))
    assert caught.value.sqlstate == "25006"
    await shards18.end()
    assert shards18.counts(1) == [0, 0, 0]
    # One shard can, and an id, or rows of a temporary table, are no writing.
    assert await coordinator.commit(await shards18.begin(READ_ONLY, "SELECT 1")) == []
    assert shards18.counts(1) == [1, 0, 0]
    await shards18.end()
    connections = await shards18.begin(*["SELECT pg_current_xact_id()"] * 3, begin="BEGIN READ ONLY")
    assert await coordinator.commit(connections) == []
    for connection in connections:
        await connection.execute("CREATE TEMP TABLE mine (x int); BEGIN READ ONLY; INSERT INTO mine VALUES (1)")
    assert await coordinator.commit(connections) == []
    await shards18.end()
    await coordinator.close()


async def test_the_committers_task_is_cancelled(shards18: Shards) -> None:
    """The race: the proxy ends while a transaction prepares, and the session's ROLLBACK meets its commit.

    A ROLLBACK on the anchor behind the last PREPARE and in front of the decision would record a commit without the
    anchor's rows. So who is cancelled goes on only when the connections are nobody else's any more.
    """
    shards18.execute(2, SLOW_PREPARE)
    coordinator = shards18.coordinator()
    await coordinator.start()
    connections = await shards18.insert(1)
    async with _advisory_lock(shards18, 2):
        commit = asyncio.ensure_future(coordinator.commit(connections))
        await until(lambda: len(shards18.prepared()) == 1)
        commit.cancel()
        await asyncio.wait({commit}, timeout=0.2)
        assert not commit.done()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert [connection.status for connection in connections] == [ord("I")] * 3
    assert shards18.counts(1) == [1, 1, 1]
    await shards18.end()
    await coordinator.close()
