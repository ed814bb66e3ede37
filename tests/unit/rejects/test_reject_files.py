"""The files of rejects: whose they are, and disks that are full."""

import errno
import json
import os
from pathlib import Path

import pytest

from shardproxy.errors import PgError
from shardproxy.rejects.files import RejectFiles, new_load_id
from shardproxy.rejects.reject import Reject

BAD = Reject(3, 14, b'3,"a\nb"\r\n', "22P02", "no", detail="why", column="a", shard="s1")


def files(directory: Path, *, load_id: str = "1", database: str = "shop", binary: bool = False) -> RejectFiles:
    return RejectFiles(directory, database, "public", "t", load_id, binary=binary)


def test_three_files(tmp_path: Path) -> None:
    made = files(tmp_path)
    made.header = b"id,v\n"
    made.write([BAD])
    made.close()
    folder = tmp_path / "shop"
    assert sorted(path.name for path in folder.iterdir()) == ["public.t.1.dat", "public.t.1.jsonl", "public.t.1.log"]
    assert (folder / "public.t.1.dat").read_bytes() == b"id,v\n" + BAD.row
    [fact] = [json.loads(line) for line in (folder / "public.t.1.jsonl").read_text().splitlines()]
    assert fact == {
        "file": None, "line": 3, "offset": 14, "row": '3,"a\nb"\r\n', "sqlstate": "22P02", "message": "no",
        "detail": "why", "column": "a", "shard": "s1",
    }  # fmt: skip
    assert (folder / "public.t.1.log").read_text().startswith("line 3: 22P02: no\n    DETAIL: why\n    shard: s1\n")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_without_a_reject_there_is_no_file(tmp_path: Path) -> None:
    made = files(tmp_path)
    made.close()
    assert not any(tmp_path.iterdir())


def test_another_loads_files_are_never_written_to(tmp_path: Path) -> None:
    first, second = files(tmp_path), files(tmp_path)
    first.write([BAD])
    with pytest.raises(PgError, match="File exists") as caught:
        second.write([BAD])
    assert caught.value.sqlstate == "58030"
    first.close()
    assert new_load_id() != new_load_id()


@pytest.mark.parametrize("database", ["../../etc", "a/b", "..", "", "a\0b", "é"])
def test_names_stay_in_their_directory(tmp_path: Path, database: str) -> None:
    made = files(tmp_path / "rejects", database=database)
    made.write([BAD])
    made.close()
    assert made.dat.resolve().parent.parent == (tmp_path / "rejects").resolve()


def test_discarded_files_are_gone(tmp_path: Path) -> None:
    made = files(tmp_path)
    made.write([BAD])
    made.discard()
    assert not any((tmp_path / "shop").iterdir())


def test_a_binary_file_is_whole(tmp_path: Path) -> None:
    made = files(tmp_path, binary=True)
    made.write([BAD])
    made.close()
    data = made.dat.read_bytes()
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    assert data.endswith(b"\xff\xff")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full is a disk without a free byte."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0: opened("/dev/full", os.O_WRONLY))
    made = files(tmp_path)
    made.write([BAD])
    with pytest.raises(PgError) as caught:
        made.close()
    assert caught.value.sqlstate == "53100"
    assert os.strerror(errno.ENOSPC) in caught.value.message
    made.discard()
