"""Two-phase commit, step by step without servers: each order of answers that matters, as a transcript."""

from typing import Any

import pytest

from shardproxy.transaction.participant import Probe
from tests.unit.transaction.scripted import (
    GONE,
    HANG,
    IDLE,
    LOST,
    OK,
    UNREACHABLE,
    WAITING,
    Cluster,
    refused,
    row,
)

ANCHOR: list[tuple[str, Any]] = [("probe", row(17)), ("constraints", "SET"), ("decide", "COMMIT")]
OTHER: list[tuple[str, Any]] = [
    ("probe", row(18)),
    ("prepare", "PREPARE TRANSACTION"),
    ("commit prepared", "COMMIT PREPARED"),
]
UNDONE: list[tuple[str, Any]] = [*OTHER[:2], ("rollback prepared", "ROLLBACK PREPARED")]


async def test_all_goes_well(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, ANCHOR, OTHER, OTHER)
    assert await cluster.commit() == []
    assert cluster.log == [
        "s0 probe",
        "s1 probe",
        "s2 probe",
        "s0 constraints",
        "s1 prepare",
        "s2 prepare",
        "s0 decide",
        "s1 commit prepared",
        "s2 commit prepared",
    ]
    assert cluster.manager.left == ["confirmed, decision on s0"]
    [prepare] = [sql for sql in cluster.shards[1].sent if sql.startswith("PREPARE")]
    assert prepare.startswith(f"PREPARE TRANSACTION 'shardproxy_{'0' * 32}_")
    assert prepare.endswith(f"_{'1' * 32}'")


async def test_answers_that_came_with_the_last_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shard is probed again, and the transaction is the one whose lock the probe has taken."""
    cluster = Cluster(monkeypatch, ANCHOR[1:], OTHER[1:], [("commit", "COMMIT")])
    probe = Probe()
    assert await cluster.commit(probe=probe, answers={0: row(17), 1: row(18), 2: row()}) == []
    assert f"_{probe.transaction}_" in cluster.shards[1].sent[0]


async def test_a_single_writer_commits_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers end after it, when nothing of the transaction can fail any more."""
    reader = [("probe", row()), ("commit", "COMMIT")]
    cluster = Cluster(monkeypatch, reader, [("probe", row(17)), ("commit", "COMMIT")], reader)
    assert await cluster.commit() == []
    assert cluster.log[3:] == ["s1 commit", "s0 commit", "s2 commit"]
    assert cluster.manager.left == []


async def test_a_single_writer_s_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction id tells what became of it; the backend is terminated first."""
    reader = [("probe", row()), ("commit", "COMMIT")]
    lost = [("probe", row(17)), ("commit", LOST), ("CONNECT", OK), ("TERMINATE", IDLE)]
    assert await Cluster(monkeypatch, [*lost, ("STATUS", "committed")], reader).commit() == []
    error = await Cluster(monkeypatch, [*lost, ("STATUS", "aborted")], reader[:1]).fail()
    assert (error.sqlstate, error.message.partition(":")[0]) == ("08006", "the transaction is rolled back")
    assert (await Cluster(monkeypatch, [*lost, ("STATUS", "in progress")], reader[:1]).fail()).sqlstate == "08007"


async def test_readers_beside_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end together with COMMIT PREPARED; one that cannot is a warning."""
    reader = [("probe", row()), ("commit", refused("57014"))]
    cluster = Cluster(monkeypatch, reader, ANCHOR, OTHER)
    assert await cluster.commit() == ['COMMIT failed on shard "s0", where the transaction had only read']
    assert set(cluster.log[-2:]) == {"s2 commit prepared", "s0 commit"}
    assert cluster.manager.left == ["confirmed, decision on s1"]


async def test_a_serializable_reader_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before the decision, as its COMMIT can find that the whole must not be."""
    reader = [("probe", row(isolation="serializable")), ("commit", refused("40001"))]
    cluster = Cluster(monkeypatch, reader, ANCHOR[:2], UNDONE)
    assert (await cluster.fail()).sqlstate == "40001"


async def test_temporary_objects_make_the_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = [("probe", row(17, temporary=16500)), *ANCHOR[1:]]
    cluster = Cluster(monkeypatch, OTHER, anchor, OTHER)
    assert await cluster.commit() == []
    assert cluster.manager.left == ["confirmed, decision on s1"]


async def test_asynchronous_commit_is_overruled_on_the_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = [("probe", row(17, synchronous="off")), *ANCHOR[1:]]
    cluster = Cluster(monkeypatch, anchor, OTHER)
    assert await cluster.commit() == []
    assert cluster.shards[0].sent[1].endswith("SET LOCAL synchronous_commit = 'on'")


async def test_a_transaction_became_read_only_after_its_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    late = [("probe", row(17, read_only="on")), ("wrote?", [b"t"])]
    assert (await Cluster(monkeypatch, late, OTHER[:1]).fail()).sqlstate == "25006"
    # An id without writes is one of temporary tables: a reader.
    temporary = [("probe", row(17, read_only="on")), ("wrote?", [b"f"]), ("commit", "COMMIT")]
    assert await Cluster(monkeypatch, temporary, [("probe", row()), ("commit", "COMMIT")]).commit() == []


# PREPARE TRANSACTION.


async def test_prepare_answers_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    """So PostgreSQL does in a failed transaction, without an error: only the tag tells."""
    cluster = Cluster(monkeypatch, ANCHOR[:2], [OTHER[0], ("prepare", "ROLLBACK")], UNDONE)
    error = await cluster.fail()
    assert (error.sqlstate, error.message) == ("40000", 'shard "s1" rolled the transaction back')
    assert cluster.manager.left == []


async def test_prepare_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, ANCHOR[:2], [OTHER[0], ("prepare", refused("0A000"))], UNDONE)
    error = await cluster.fail()
    assert error.sqlstate == "0A000"
    assert "Use these in a separate transaction." in (error.hint or "")


async def test_the_anchor_s_constraints_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, [ANCHOR[0], ("constraints", refused("23503"))], UNDONE)
    assert (await cluster.fail()).sqlstate == "23503"


@pytest.mark.parametrize(("backend", "sqlstate"), [(IDLE, "08006"), (WAITING, "40P01"), (GONE, "08006")])
async def test_lost_in_prepare(monkeypatch: pytest.MonkeyPatch, backend: str, sqlstate: str) -> None:
    """The backend may still prepare: it is terminated, and what it has prepared is rolled back, before the answer."""
    lost = [OTHER[0], ("prepare", LOST), ("CONNECT", OK), ("TERMINATE", backend), ("PREPARED", True)]
    cluster = Cluster(monkeypatch, ANCHOR[:2], lost, UNDONE)
    assert (await cluster.fail()).sqlstate == sqlstate
    assert cluster.shards[1].sent[-1].startswith("ROLLBACK PREPARED")
    assert cluster.manager.left == []


async def test_lost_in_prepare_on_an_unreachable_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, ANCHOR[:2], [OTHER[0], ("prepare", LOST), ("CONNECT", UNREACHABLE)], UNDONE)
    assert (await cluster.fail()).sqlstate == "08006"
    assert cluster.manager.left == ["fence 101 of s1"]


async def test_prepare_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [OTHER[0], ("prepare", HANG), ("CONNECT", OK), ("TERMINATE", IDLE), ("PREPARED", False)]
    cluster = Cluster(monkeypatch, ANCHOR[:2], slow)
    assert (await cluster.fail()).message == 'shard "s1" did not prepare within 0.5 seconds'
    assert "s1 aborted" in cluster.log


@pytest.mark.parametrize("answer", [LOST, HANG, refused("42704")])
async def test_rollback_prepared_fails(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """It is left to recovery; without a decision it cannot be committed."""
    undone = [*OTHER[:2], ("rollback prepared", answer)]
    cluster = Cluster(monkeypatch, ANCHOR[:2], [OTHER[0], ("prepare", "ROLLBACK")], undone)
    assert (await cluster.fail()).sqlstate == "40000"
    assert cluster.manager.left == ["fence 102 of s2"]


# The decision.

DECISIONS = {"s": "shardproxy", "t": "decisions"}


@pytest.mark.parametrize(
    ("answer", "sqlstate", "left"),
    [
        ("ROLLBACK", "40000", []),
        (refused("40001"), "40001", []),
        (refused("23505", **DECISIONS), "40001", ["forget identity of s0"]),  # recovery has inserted 'abort'
        (refused("23502", **DECISIONS), "55000", ["forget identity of s0"]),  # another server, or too late
        (refused("42P01"), "55000", ["forget identity of s0"]),
        (refused("23505", s="public", t="t"), "23505", []),
    ],
)
async def test_the_decision_is_refused(
    monkeypatch: pytest.MonkeyPatch, answer: Any, sqlstate: str, left: list[str]
) -> None:
    cluster = Cluster(monkeypatch, [*ANCHOR[:2], ("decide", answer)], UNDONE)
    assert (await cluster.fail()).sqlstate == sqlstate
    assert cluster.manager.left == left


LOST_DECISION: list[tuple[str, Any]] = [*ANCHOR[:2], ("decide", LOST), ("CONNECT", OK), ("TERMINATE", IDLE)]


async def test_the_decision_s_answer_is_lost_and_it_is_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, [*LOST_DECISION, ("ARBITRATE", "commit")], OTHER)
    assert await cluster.commit() == []
    assert cluster.log[-3:] == ["s0 TERMINATE", "s0 ARBITRATE", "s1 commit prepared"]


async def test_the_decision_s_answer_is_lost_and_it_is_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, [*LOST_DECISION, ("ARBITRATE", "abort")], UNDONE)
    error = await cluster.fail()
    assert error.sqlstate == "08006"
    assert error.message.startswith("the transaction is rolled back")


@pytest.mark.parametrize(
    "anchor",
    [[*LOST_DECISION, ("ARBITRATE", None)], [*LOST_DECISION[:3], ("CONNECT", UNREACHABLE)]],
    ids=["too late to decide", "unreachable"],
)
async def test_the_decision_is_not_known_in_time(
    monkeypatch: pytest.MonkeyPatch, anchor: list[tuple[str, Any]]
) -> None:
    """Nothing is rolled back: what is prepared may have to be committed."""
    cluster = Cluster(monkeypatch, anchor, OTHER[:2], OTHER[:2])
    assert (await cluster.fail()).sqlstate == "08007"
    assert cluster.manager.left == ["unresolved on s1, s2"]


async def test_the_anchor_is_lost_before_the_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent that could commit, so nothing is in doubt, and the anchor is not asked."""
    cluster = Cluster(monkeypatch, ANCHOR[:2], UNDONE)
    anchor, other = cluster.shards
    execute = other.execute

    async def prepare(sql: str) -> str:
        anchor.usable = False
        return await execute(sql)

    monkeypatch.setattr(other, "execute", prepare)
    assert (await cluster.fail()).sqlstate == "08006"


# COMMIT PREPARED.

FAILED: list[tuple[str, Any]] = [*OTHER[:2], ("commit prepared", LOST)]


@pytest.mark.parametrize(
    "again",
    [[("CONNECT", OK), ("PREPARED", True)], [("CONNECT", OK), ("PREPARED", False), ("STATUS", "committed")]],
    ids=["still prepared", "the answer alone was lost"],
)
async def test_commit_prepared_is_tried_again(monkeypatch: pytest.MonkeyPatch, again: list[tuple[str, Any]]) -> None:
    cluster = Cluster(monkeypatch, ANCHOR, [*FAILED, *again])
    assert await cluster.commit() == []
    assert cluster.manager.left == ["confirmed, decision on s0"]


async def test_commit_prepared_on_an_unreachable_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is committed: a WARNING, the decision stays, and recovery does the rest."""
    cluster = Cluster(monkeypatch, ANCHOR, [*FAILED, ("CONNECT", UNREACHABLE)], OTHER)
    assert await cluster.commit() == ['the transaction is committed, but shard "s1" has not confirmed it yet']
    assert cluster.manager.left == ["unresolved on s1"]


async def test_a_part_was_rolled_back_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [*OTHER[:2], ("commit prepared", refused("42704"))]
    cluster = Cluster(monkeypatch, ANCHOR, [*failed, ("CONNECT", OK), ("PREPARED", False), ("STATUS", "aborted")])
    assert await cluster.commit() == [
        'the transaction is committed, but its part was rolled back manually on shard "s1"'
    ]
