"""The answers of several shards as one server's, message by message."""

import pytest

from shardproxy.combine.answers import Answers
from shardproxy.errors import PgError, ProtocolError
from shardproxy.wire.replies import Expect, Owed
from tests.support.messages import (
    BOUND,
    CLOSED,
    EMPTY,
    NO_DATA,
    PARSED,
    SUSPENDED,
    Said,
    columns,
    complete,
    notice,
    parameters,
    ready,
    row,
)

PARSE, BIND, EXECUTE = (Owed(one) for one in (Expect.PARSE, Expect.BIND, Expect.EXECUTE))
PORTAL, STATEMENT = Owed(Expect.DESCRIBE_PORTAL), Owed(Expect.DESCRIBE_STATEMENT)


def take(answers: Answers, shard: int, said: Said, owed: Owed) -> bytes:
    return answers.take(shard, said.data[0], said.data[5:], owed)


@pytest.mark.parametrize(
    ("said", "owed"),
    [
        (PARSED, PARSE),
        (BOUND, BIND),
        (columns("a"), PORTAL),
        (NO_DATA, PORTAL),
        (columns("a"), STATEMENT),
        (parameters(23), STATEMENT),
    ],
    ids=repr,
)
def test_once_from_whoever_is_first(said: Said, owed: Owed) -> None:
    answers = Answers(3)
    assert take(answers, 2, said, owed) == said.data
    assert take(answers, 0, said, owed) == b""
    assert take(answers, 1, said, owed) == b""


def test_what_the_client_does_not_read() -> None:
    for said, expect in ((PARSED, Expect.PARSE), (BOUND, Expect.BIND), (columns("a"), Expect.DESCRIBE_PORTAL)):
        assert take(Answers(1), 0, said, Owed(expect, forward=False)) == b""


def test_the_same_from_one_shard_is_forwarded_each_time() -> None:
    """Two statements are described in one request: each has its answer."""
    answers = Answers(1)
    for _ in range(2):
        assert take(answers, 0, columns("a"), STATEMENT) == columns("a").data


def test_a_description_is_one_whatever_it_is() -> None:
    """DDL in between may have made one shard's statement one with rows."""
    answers = Answers(2)
    assert take(answers, 0, NO_DATA, PORTAL) == NO_DATA.data
    assert take(answers, 1, columns("a"), PORTAL) == b""


def test_how_a_shard_ended() -> None:
    answers = Answers(4)
    for shard, said in enumerate((complete("SELECT 5"), EMPTY, SUSPENDED)):
        assert take(answers, shard, said, EXECUTE) == b""
    first, second, third, fourth = answers.shards
    assert (first.tag, second.empty, third.suspended) == ("SELECT 5", True, True)
    assert (fourth.tag, fourth.empty, fourth.suspended) == (None, False, False)
    take(answers, 3, parameters(23, 25), STATEMENT)
    assert fourth.parameters == (23, 25)


@pytest.mark.parametrize("said", [CLOSED, ready("I")], ids=repr)
def test_what_is_the_proxys_own_affair(said: Said) -> None:
    assert take(Answers(2), 0, said, EXECUTE) == b""


@pytest.mark.parametrize("said", [row("a"), notice("x")], ids=repr)
def test_what_is_anothers_affair(said: Said) -> None:
    with pytest.raises(ProtocolError):
        take(Answers(2), 0, said, EXECUTE)


def test_columns_differ() -> None:
    answers = Answers(2)
    take(answers, 0, columns("a", "b"), PORTAL)
    with pytest.raises(PgError) as caught:
        take(answers, 1, columns("b", "a"), PORTAL)
    assert caught.value.sqlstate == "55000"
