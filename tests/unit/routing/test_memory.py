"""What earlier statements of a session mean for where later ones go."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import (
    Connected,
    Home,
    Memory,
    OneShard,
    Plan,
    Replicate,
    Settings,
    ShardByShard,
)
from shardproxy.sql import analyze
from tests.unit.routing.tables import routed

IN_TRANSACTION = Memory(in_transaction=True)


def after(*statements: str, shard: int = 2) -> Memory:
    memory = Memory()
    for sql in statements:
        [statement] = analyze(sql)
        memory = memory.after(statement, shard)
    return memory


@pytest.mark.parametrize(
    ("before", "sql", "plan"),
    [
        (["DECLARE c CURSOR FOR SELECT 1"], "FETCH c", OneShard(2)),
        (["DECLARE c CURSOR FOR SELECT 1"], "MOVE 5 IN c", OneShard(2)),
        (["DECLARE c CURSOR FOR SELECT 1"], "CLOSE c", OneShard(2)),
        (["DECLARE c CURSOR FOR SELECT 1"], "CLOSE ALL", Connected()),
        ([], "EXECUTE p", Home()),
        ([], "DEALLOCATE p", Home()),
        ([], "DEALLOCATE ALL", Connected()),
    ],
)
def test_what_goes_by_a_name_goes_where_that_was_made(before: list[str], sql: str, plan: Plan) -> None:
    assert routed(sql, memory=after(*before)) == plan


@pytest.mark.parametrize(
    "before",
    [
        [],
        ["DECLARE other CURSOR FOR SELECT 1"],
        ["DECLARE c CURSOR FOR SELECT 1", "CLOSE c"],
        ["DECLARE c CURSOR FOR SELECT 1", "CLOSE ALL"],
        ["DECLARE c CURSOR FOR SELECT 1", "DISCARD ALL"],
    ],
)
@pytest.mark.parametrize("sql", ["FETCH c", "MOVE c", "CLOSE c"])
def test_a_cursor_that_is_not_there(before: list[str], sql: str) -> None:
    with pytest.raises(PgError, match='cursor "c" does not exist') as raised:
        routed(sql, memory=after(*before))
    assert raised.value.sqlstate == "34000"


def test_only_held_cursors_outlive_their_transaction() -> None:
    memory = after("DECLARE a CURSOR FOR SELECT 1", "DECLARE b CURSOR WITH HOLD FOR SELECT 1").transaction_ended()
    assert memory.cursors == {"b": 2}
    assert after("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "CLOSE a").held == frozenset()
    again = after("DECLARE a CURSOR WITH HOLD FOR SELECT 1", "CLOSE a", "DECLARE a CURSOR FOR SELECT 1")
    assert again.transaction_ended().cursors == {}


def test_a_portal_is_a_cursor() -> None:
    memory = Memory().with_cursor("portal", 1)
    assert routed("FETCH portal", memory=memory) == OneShard(1)
    assert memory.without_cursor("portal") == Memory()


@pytest.mark.parametrize(
    ("sql", "alone", "inside"),
    [
        ("VACUUM users", ShardByShard(), Home()),
        ("CREATE INDEX CONCURRENTLY ON users (age)", ShardByShard(), Home()),
        ("DROP DATABASE d", ShardByShard(), Home()),
        ("ANALYZE users", ShardByShard(), Replicate()),
        ("LOCK TABLE users", Home(), Replicate()),
        ("SET CONSTRAINTS ALL DEFERRED", Home(), Replicate()),
        ("TRUNCATE users", Replicate(), Replicate()),
        ("LOCK TABLE solo3", Home(), OneShard(3)),
        ("VACUUM solo3", OneShard(3), Home()),
    ],
)
def test_a_transaction_block_decides(sql: str, alone: Plan, inside: Plan) -> None:
    """In the wrong place a statement goes to one shard, which refuses it in PostgreSQL's words."""
    assert routed(sql) == alone
    assert routed(sql, memory=IN_TRANSACTION) == inside


@pytest.mark.parametrize("sql", ["PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'"])
def test_prepared_transactions_are_the_proxy_s_own(sql: str) -> None:
    assert routed(sql, nshards=1) == Home()
    with pytest.raises(PgError, match="is shardproxy's own"):
        routed(sql.replace("'x'", "'shardproxy_1'"), nshards=1)
    with pytest.raises(PgError, match="not supported through shardproxy") as raised:
        routed(sql)
    assert raised.value.sqlstate == "0A000"
    assert raised.value.message.startswith(sql.rpartition(" ")[0])


@pytest.mark.parametrize(
    ("sql", "plan"),
    [
        ("SET a = 1", Settings("a")),
        ("SET LOCAL a = 1", Settings("a", local=True)),
        ("SET TRANSACTION READ ONLY", Settings("TRANSACTION", local=True)),
        ("RESET a", Settings("a")),
        ("RESET ALL", Settings("all")),
        ("DISCARD ALL", Settings(None)),
        ("DISCARD TEMP", Settings(None, lasting=False)),
        ("SELECT set_config('A', '1', true)", Settings("a", local=True)),
        ("SELECT set_config('a', name, false) FROM ref", Settings("a")),
    ],
)
@pytest.mark.parametrize("nshards", [1, 4])
def test_settings(sql: str, plan: Plan, nshards: int) -> None:
    assert routed(sql, nshards=nshards) == plan


@pytest.mark.parametrize(
    "sql", ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SELECT set_config(name, '1', false) FROM ref"]
)
def test_a_setting_that_is_not_known_beforehand_is_about_its_own_text(sql: str) -> None:
    plan = routed(sql)
    assert isinstance(plan, Settings)
    assert plan.name is not None
    assert plan.name.startswith(sql)
