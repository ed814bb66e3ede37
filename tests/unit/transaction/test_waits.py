"""Cycles of waits over shards, without any shard."""

from shardproxy.transaction.waits import Backend, Party, Wait, cycle_of, detail_of, lock_words, victim_of


def party(number: int, born: int, *parts: tuple[int, int]) -> Party:
    return Party(number, born, frozenset(Backend(*part) for part in parts))


def wait(shard: int, waiter: int, blocker: int) -> Wait:
    return Wait(Backend(shard, waiter), Backend(shard, blocker), f"ShareLock on transaction {waiter}", "now")


A = party(1, 100, (0, 10), (1, 11))
B = party(2, 200, (0, 20), (1, 21))
C = party(3, 300, (1, 31), (2, 32))


def test_two_that_wait_crosswise_are_a_cycle() -> None:
    waits = [wait(1, 11, 21), wait(0, 20, 10)]
    assert cycle_of(A, waits, [A, B]) == tuple(waits)
    assert cycle_of(B, waits, [A, B]) == tuple(reversed(waits))
    assert victim_of(waits, [A, B, C]) is B


def test_a_chain_is_none() -> None:
    waits = [wait(1, 11, 21), wait(0, 20, 99)]
    assert cycle_of(A, waits, [A, B]) == ()
    assert cycle_of(B, waits, [A, B]) == ()


def test_sessions_that_nobody_has_told_of_join_nothing() -> None:
    assert cycle_of(A, [wait(1, 11, 21), wait(0, 20, 10)], [A]) == ()


def test_a_cycle_within_one_shard_is_left_to_its_server() -> None:
    waits = [wait(0, 10, 20), wait(0, 20, 10)]
    assert cycle_of(A, waits, [A, B]) == ()


def test_a_cycle_over_shards_is_found_beside_one_within_a_shard() -> None:
    waits = [wait(0, 10, 20), wait(0, 20, 10), wait(1, 21, 11)]
    found = cycle_of(A, [*waits[:1], wait(1, 21, 11)], [A, B])
    assert [one.waiter.shard for one in found] == [0, 1]


def test_a_cycle_passes_through_backends_of_one_server() -> None:
    waits = [wait(1, 11, 77), wait(1, 77, 21), wait(0, 20, 10)]
    assert cycle_of(A, waits, [A, B]) == tuple(waits)


def test_three_over_three_shards() -> None:
    d = party(4, 50, (2, 42), (0, 40))
    waits = [wait(1, 11, 31), wait(2, 32, 42), wait(0, 40, 10)]
    assert cycle_of(A, waits, [A, C, d]) == tuple(waits)
    assert victim_of(waits, [A, B, C, d]) is C


def test_one_who_only_waits_for_a_cycle_is_not_in_it() -> None:
    waits = [wait(1, 31, 21), wait(1, 11, 21), wait(0, 20, 10)]
    assert cycle_of(C, waits, [A, B, C]) == ()


def test_of_one_age_the_number_decides() -> None:
    twin = party(9, 200, (0, 90), (1, 91))
    assert victim_of([wait(1, 21, 91), wait(0, 90, 20)], [B, twin]) is twin


def test_the_detail_is_worded_as_postgresql_does() -> None:
    assert detail_of([wait(1, 11, 21), wait(0, 20, 10)], ["s0", "s1"]) == (
        'Process 11 of shard "s1" waits for ShareLock on transaction 11; blocked by process 21.\n'
        'Process 20 of shard "s0" waits for ShareLock on transaction 20; blocked by process 10.'
    )


def test_locks_are_worded_as_postgresql_does() -> None:
    row = {"mode": "ExclusiveLock", "database": 5, "relation": 16384, "page": 0, "tuple": 7, "transactionid": "740"}
    assert lock_words({**row, "locktype": "transactionid"}) == "ExclusiveLock on transaction 740"
    assert lock_words({**row, "locktype": "relation"}) == "ExclusiveLock on relation 16384 of database 5"
    assert lock_words({**row, "locktype": "tuple"}) == "ExclusiveLock on tuple (0,7) of relation 16384 of database 5"
    assert lock_words({**row, "locktype": "applytransaction"}) == "ExclusiveLock on applytransaction lock"
