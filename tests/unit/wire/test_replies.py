"""What a server owes: every entry of STEPS walked, all else refused, and the document's table."""

from pathlib import Path

import pytest

from shardproxy.errors import ProtocolError
from shardproxy.wire.constants import B
from shardproxy.wire.replies import STEPS, Expect, Owed, Replies, Step, markdown

DOCUMENT = Path(__file__).parents[3] / "docs" / "architecture.md"

MESSAGES = sorted(kind for name, kind in vars(B).items() if not name.startswith("_"))

NEXT = Owed(Expect.BIND)
SYNC = Owed(Expect.SYNC)


def owing(*entries: Owed) -> Replies:
    replies = Replies()
    replies.expect(entries)
    return replies


@pytest.mark.parametrize("expect", Expect)
@pytest.mark.parametrize("kind", MESSAGES, ids=chr)
def test_every_message_in_answer_to_every_request(expect: Expect, kind: int) -> None:
    asked = Owed(expect)
    replies = owing(asked, NEXT, SYNC)
    match STEPS[expect].get(kind):
        case Step.STAYS:
            assert replies.take(kind) is asked
            assert list(replies.queue) == [asked, NEXT, SYNC]
        case Step.ENDS:
            assert replies.take(kind) is asked
            assert list(replies.queue) == [NEXT, SYNC]
        case Step.SKIPS:
            assert replies.take(kind) is asked
            assert list(replies.queue) == [SYNC]
            assert replies.dropped == (asked, NEXT)
        case None:
            with pytest.raises(ProtocolError, match=expect.value.split(" ")[0]):
                replies.take(kind)
            assert list(replies.queue) == [asked, NEXT, SYNC]


@pytest.mark.parametrize("kind", MESSAGES, ids=chr)
def test_nothing_answers_what_was_not_asked(kind: int) -> None:
    replies = Replies()
    with pytest.raises(ProtocolError, match="nothing was asked"):
        replies.take(kind)
    assert not replies


def test_every_request_can_be_answered() -> None:
    assert set(STEPS) == set(Expect)
    for steps in STEPS.values():
        assert Step.ENDS in steps.values()
        assert B.ERROR_RESPONSE in steps


def test_what_comes_at_any_time_answers_nothing() -> None:
    for steps in STEPS.values():
        assert not {B.NOTICE_RESPONSE, B.PARAMETER_STATUS, B.NOTIFICATION_RESPONSE} & steps.keys()


def test_a_batch() -> None:
    """Parse Bind Describe Execute Sync Query: each answer goes to its own request."""
    asked = [Owed(one) for one in (Expect.PARSE, Expect.BIND, Expect.DESCRIBE_PORTAL, Expect.EXECUTE)]
    asked += [SYNC, Owed(Expect.QUERY)]
    replies = owing(*asked)
    answers = [
        (B.PARSE_COMPLETE, 0),
        (B.BIND_COMPLETE, 1),
        (B.ROW_DESCRIPTION, 2),
        (B.DATA_ROW, 3),
        (B.DATA_ROW, 3),
        (B.COMMAND_COMPLETE, 3),
        (B.READY_FOR_QUERY, 4),
        (B.COMMAND_COMPLETE, 5),
        (B.ERROR_RESPONSE, 5),
        (B.READY_FOR_QUERY, 5),
    ]
    for kind, number in answers:
        assert replies
        assert replies.take(kind) is asked[number]
    assert not replies


def test_an_error_drops_up_to_its_own_sync() -> None:
    first, second = Owed(Expect.PARSE, name=b"a"), Owed(Expect.PARSE, name=b"b")
    replies = owing(first, NEXT, SYNC, second, SYNC)
    assert replies.take(B.ERROR_RESPONSE) is first
    assert replies.dropped == (first, NEXT)
    replies.take(B.READY_FOR_QUERY)
    assert replies.take(B.PARSE_COMPLETE) is second
    assert list(replies.queue) == [SYNC]


def test_requests_are_counted() -> None:
    replies = Replies()
    for number in range(3):
        assert replies.sent == number
        replies.expect((SYNC,))


def test_what_it_shows() -> None:
    assert repr(Replies()) == "<owed: nothing>"
    assert repr(owing(Owed(Expect.DESCRIBE_PORTAL), SYNC)) == "<owed: Describe (portal), Sync>"


def test_the_document_has_the_table() -> None:
    assert "\n".join(markdown()) in DOCUMENT.read_text("utf-8"), "put the lines of markdown() there"
