"""A file cut into ranges is read as it is in one."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from shardproxy.loader.input import Alterations, Column, InputError, Reading, ranges
from shardproxy.loader.input.open import sources
from tests.unit.loader.conftest import Read, options, read_files

ROWS = b"".join(b'%d,"row\n%d","\xe9"\r\n' % (number, number * number) for number in range(3000))
COMMENTED = ROWS.replace(b"\r\n1000,", b"\r\n# it's \"this\r\n#\r\n1000,")
TARGET = [Column("a", "int4"), Column("b"), Column("c")]


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("open", "ranges"):
        monkeypatch.setattr(f"shardproxy.loader.input.{module}.PIECE", 1000)


@pytest.mark.parametrize("size", [1, 5000, 1 << 20])
@pytest.mark.parametrize(
    ("data", "given"),
    [
        (ROWS, {}),
        (b"c,b,a\r\n" + ROWS, {"by_name": True, "trim": True}),
        (b"\xef\xbb\xbfsep=,\r\n#\r\na,b,c\r\n" + COMMENTED, {"comment": "#", "by_name": True}),
        (ROWS + b'3000,"open\r\n1,2', {}),
        (b"skipped\r\n" + ROWS + b"3000,x,y", {"skip": 1, "constants": {"d": "1"}, "columns": ("a", "b", "c")}),
    ],
    ids=["plain", "header", "comments", "unclosed", "constants"],
)
def test_ranges_are_the_file(data: bytes, given: dict[str, Any], size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    target = [*TARGET, Column("d")]
    reading = Reading(options(), **given)
    whole = read_files([path], reading, target)
    [source] = sources([str(path)])
    assert ranges.divisible(source, reading)
    made = Read()
    found = list(ranges.ranges(source, reading, made.altered, size))
    assert (len(found) > 50) if size == 1 else (len(found) > 5) if size == 5000 else (len(found) == 1)
    for one in found:
        file = ranges.read_range(pickle.loads(pickle.dumps(one)), reading, target, made.altered)
        chunks = list(file.chunks)
        made.files.append((file, chunks))
        assert chunks[0].row == one.row
    assert made.data == whole.data
    assert made.places == whole.places
    assert made.originals == whole.originals
    assert [(fault.place, fault.error.fields) for fault in made.faults] == [
        (fault.place, fault.error.fields) for fault in whole.faults
    ]
    assert made.counts == whole.counts
    assert {(file.columns, file.options) for file, _ in made.files} == {
        (whole.files[0][0].columns, whole.files[0][0].options)
    }


def test_a_mixed_line_end_ends_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(ROWS + b"1,2,3\n")
    [source] = sources([str(path)])
    with pytest.raises(InputError, match="ends in LF") as caught:
        list(ranges.ranges(source, Reading(options()), Alterations(), 5000))
    assert caught.value.line == 6001


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(ROWS))
    [source] = sources([str(path)])
    assert not ranges.divisible(source, Reading(options()))
    path.write_bytes(ROWS)
    assert not ranges.divisible(source, Reading(options(), skip_footer=1))
    assert not ranges.divisible(source, Reading(options(encoding="utf-16")))
    assert not ranges.divisible(sources(["-"])[0], Reading(options()))


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(ROWS)
    [source] = sources([str(path)])
    *_, last = ranges.ranges(source, Reading(options()), Alterations(), 5000)
    path.write_bytes(ROWS[:-1000])
    with pytest.raises(InputError, match="has become shorter"):
        list(ranges.read_range(last, Reading(options()), None, Alterations()).chunks)
