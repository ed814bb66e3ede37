"""What brings a connection from one session's settings to another's."""

import pytest

from shardproxy.shard.lease import SessionState

A, B, C = b"SET a.x = 1", b"SET b.x = 2 -- why", b"SET c.x = 3"


@pytest.mark.parametrize(
    ("before", "wanted", "sql"),
    [
        ((), (), b""),
        ((A, B), (A, B), b""),
        ((), (A,), A),
        ((), (B, C), B + b"\n;\n" + C),
        ((A,), (A, B, C), B + b"\n;\n" + C),
        # What was set and is not wanted has no statement of its own that takes it back.
        ((A,), (), b"RESET ALL"),
        ((A, B), (A,), b"RESET ALL\n;\n" + A),
        ((A,), (B,), b"RESET ALL\n;\n" + B),
        # A later SET may depend on an earlier one, so the order counts.
        ((A, B), (B, A), b"RESET ALL\n;\n" + B + b"\n;\n" + A),
        ((B, A), (A, B, C), b"RESET ALL\n;\n" + A + b"\n;\n" + B + b"\n;\n" + C),
    ],
)
def test_sql_to(before: tuple[bytes, ...], wanted: tuple[bytes, ...], sql: bytes) -> None:
    assert SessionState(before).sql_to(SessionState(wanted)) == sql


def test_a_comment_at_the_end_does_not_swallow_what_follows() -> None:
    sql = SessionState().sql_to(SessionState((B, C)))
    assert sql.splitlines() == [B, b";", C]
