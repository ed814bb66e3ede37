"""Which prepared statements a server has: noted when Parse is sent, taken back if an error drops it."""

from shardproxy.shard.statements import UNNAMED, Statements
from shardproxy.wire import encode
from shardproxy.wire.replies import Expect, Owed


def having(**numbers: int) -> Statements:
    statements = Statements()
    for name, number in numbers.items():
        statements.parsed(name.encode(), number)
    return statements


def test_a_statement_is_there_once_its_parse_is_sent() -> None:
    statements = having(a=1)
    assert statements.has(b"a", 1)
    assert not statements.has(b"a", 2)
    assert not statements.has(b"b", 1)


def test_a_name_that_is_parsed_again_means_the_newer_statement() -> None:
    statements = having(a=1)
    statements.parsed(b"a", 2)
    assert statements.has(b"a", 2)
    assert not statements.has(b"a", 1)


def test_an_error_that_drops_a_parse_takes_the_name_back() -> None:
    statements = having(a=1, b=2)
    statements.dropped(Owed(Expect.PARSE, name=b"a"))
    assert not statements.has(b"a", 1)
    assert statements.has(b"b", 2)


def test_an_error_that_drops_another_request_takes_nothing_back() -> None:
    statements = having(a=1)
    for expect in Expect:
        if expect is not Expect.PARSE:
            statements.dropped(Owed(expect, name=b"a"))
    assert statements.has(b"a", 1)


def test_a_dropped_parse_of_an_unknown_name_changes_nothing() -> None:
    statements = having(a=1)
    statements.dropped(Owed(Expect.PARSE, name=b"b"))
    assert statements.has(b"a", 1)


def test_a_simple_query_destroys_only_the_unnamed_statement() -> None:
    statements = having(a=1)
    statements.parsed(UNNAMED, 2)
    statements.queried()
    assert not statements.has(UNNAMED, 2)
    assert statements.has(b"a", 1)
    statements.queried()
    assert statements.has(b"a", 1)


def test_closes_wait_for_what_is_sent_next() -> None:
    statements = having(a=1, b=2)
    waiting = [bool(statements.closes)]
    statements.close(b"a")
    statements.close_portal(b"p")
    waiting.append(bool(statements.closes))
    assert not statements.has(b"a", 1)
    assert statements.closing() == [encode.close(b"S", b"a"), encode.close(b"P", b"p")]
    waiting.append(bool(statements.closes))
    assert waiting == [False, True, False]
    assert statements.closing() == []


def test_only_what_the_server_has_is_closed() -> None:
    """The unnamed statement needs no Close: the next Parse replaces it."""
    statements = having(a=1)
    statements.parsed(UNNAMED, 2)
    statements.close(b"b")
    statements.close(UNNAMED)
    assert not statements.has(UNNAMED, 2)
    assert statements.closing() == []
    statements.close(b"a")
    statements.close(b"a")
    assert statements.closing() == [encode.close(b"S", b"a")]


def test_forgetting_all_leaves_nothing_to_close() -> None:
    statements = having(a=1, b=2)
    statements.close(b"a")
    statements.forget()
    assert not statements.closes
    assert not statements.has(b"b", 2)
