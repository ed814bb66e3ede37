"""COPY to and from a file of the server."""

from collections.abc import Callable
from pathlib import Path

from shardproxy.wire import encode
from tests.support.twin import Step, Twin


def extended(sql: str) -> bytes:
    """A statement by the extended protocol, with Describe as drivers do it."""
    return (
        encode.parse(b"", sql.encode())
        + encode.bind(b"", b"", (), (), ())
        + encode.describe(b"P", b"")
        + encode.execute(b"")
        + encode.SYNC
    )


def test_copy_to_a_file_of_the_server(twin: Twin) -> None:
    """It answers at once: waiting for CopyOutResponse had cost the shard's connection."""
    target = twin.databases.shard_servers[1].data_dir / "copied.txt"
    statements = [f"COPY one TO '{target}'", f"COPY ref TO '{target}'", f"COPY one FROM '{target}'"]
    forms: list[Callable[[str], Step]] = [str, extended]
    for form in forms:
        steps: list[Step] = ["BEGIN", "DELETE FROM one", *map(form, statements), "TABLE one", "ROLLBACK"]
        twin.compare(*steps)
    assert twin.proxied(f"COPY t TO '{target}'")[0].errors[0]["C"] == "0A000"
    Path(target).unlink()
