"""Compressed inputs: whole, concatenated, cut short, corrupt, and followed by something else."""

import builtins
import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from shardproxy.loader.input import Alterations, InputError, Reading
from shardproxy.loader.input.compression import entries
from shardproxy.loader.input.open import Source
from tests.unit.loader.conftest import ReadBytes, options, read_files

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}
ROWS = b"".join(b"%d,row number %d\n" % (number, number * number) for number in range(5_000))


@pytest.fixture(params=COMPRESS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["isal", "zlib"])
def gzip_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the packages that read gzip."""
    imported = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("isal"):
            raise ImportError(name)
        return imported(name, *arguments)

    if request.param == "zlib":
        monkeypatch.setattr(builtins, "__import__", without)
    return str(request.param)


def test_members_are_one_input(kind: str, read_bytes: ReadBytes) -> None:
    compress = COMPRESS[kind]
    middle = len(ROWS) // 2 + 3
    made = read_bytes(compress(ROWS[:middle]) + compress(b"") + compress(ROWS[middle:]))
    assert made.data == ROWS
    assert made.places[-1].line == 5_000
    assert not made.counts
    assert read_bytes(compress(b"")).data == b""


def test_a_member_cut_short_is_an_error_with_its_offset(kind: str, read_bytes: ReadBytes) -> None:
    packed = COMPRESS[kind](ROWS)
    for data in (packed[:-3], packed[: len(packed) // 2], packed + packed[: len(packed) // 2]):
        with pytest.raises(InputError, match=f"the {kind} data end before their end") as caught:
            read_bytes(data)
        assert caught.value.offset == len(data)


def test_what_follows_the_last_member_is_counted(kind: str, read_bytes: ReadBytes) -> None:
    packed = COMPRESS[kind](ROWS)
    made = read_bytes(packed + b"0123456789")
    assert made.data == ROWS
    assert made.counts == {"TRAILING_GARBAGE": 10}
    assert made.altered.notes[0].endswith(f"10 bytes after the {kind} data ignored, from byte {len(packed)}")
    assert not read_bytes(packed + bytes(1024)).counts  # padding


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "zstd"])
def test_corrupt_data_are_an_error(kind: str, read_bytes: ReadBytes) -> None:
    packed = bytearray(COMPRESS[kind](ROWS))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF
    with pytest.raises(InputError, match=rf"the {kind} data (are corrupt|end before)"):
        read_bytes(bytes(packed))


@pytest.mark.usefixtures("gzip_by")
class TestGzip:
    def test_members(self, read_bytes: ReadBytes) -> None:
        assert read_bytes(gzip.compress(ROWS) + gzip.compress(b"1,x\n")).data == ROWS + b"1,x\n"

    def test_cut_short(self, read_bytes: ReadBytes) -> None:
        packed = gzip.compress(ROWS)
        with pytest.raises(InputError) as caught:
            read_bytes(packed[:-9])
        assert caught.value.offset == len(packed) - 9

    def test_garbage(self, read_bytes: ReadBytes) -> None:
        made = read_bytes(gzip.compress(ROWS) + b"garbage")
        assert (made.data, made.counts) == (ROWS, {"TRAILING_GARBAGE": 7})

    def test_a_wrong_checksum(self, read_bytes: ReadBytes) -> None:
        packed = bytearray(gzip.compress(ROWS))
        packed[-6] ^= 1
        with pytest.raises(InputError, match="corrupt"):
            read_bytes(bytes(packed))


def test_the_name_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "plain.csv.gz").write_bytes(b"1,x\n")
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"2,y\n"))
    assert read_files([tmp_path / "*"], Reading(options())).data == b"2,y\n1,x\n"


def test_an_input_is_what_the_option_demands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1,x\n")
    with pytest.raises(InputError, match="not compressed by gzip"):
        read_files([path], Reading(options(), compression="gzip"))
    path.write_bytes(gzip.compress(b"1,x\n"))
    raw = read_files([path], Reading(options(delimiter="\x01", quote="\x02"), compression="none"))
    assert raw.data == path.read_bytes()


def archive(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return made.getvalue()


def test_each_entry_of_a_zip_is_a_file(read_bytes: ReadBytes) -> None:
    made = read_bytes(archive({"a.csv": b"h\n1\n", "sub/": b"", "sub/b.csv": b"h\n2\n3\n"}), copy={"header": True})
    assert made.data == b"1\n2\n3\n"
    assert [file.name.rpartition("!")[2] for file, _ in made.files] == ["a.csv", "sub/b.csv"]
    assert [place.line for place in made.places] == [2, 2, 3]
    assert read_bytes(archive({})).files == []


def test_a_zip_cut_short_or_corrupt(read_bytes: ReadBytes) -> None:
    packed = archive({"a.csv": ROWS})
    with pytest.raises(InputError, match="the zip file is corrupt"):
        read_bytes(packed[:-30])
    corrupt = bytearray(packed)
    corrupt[len(corrupt) // 2] ^= 0xFF
    with pytest.raises(InputError, match="the zip entry cannot be read"):
        read_bytes(bytes(corrupt))


def test_little_becomes_much_in_bounded_pieces() -> None:
    """What a compressed megabyte of zeros becomes is not held at once."""
    for compress in (gzip.compress, zstandard.compress):
        packed = compress(bytes(64 << 20))
        source = Source("zeros", None, lambda packed=packed: io.BytesIO(packed))  # type: ignore[misc]
        tracemalloc.start()
        [(_, pieces)] = [(name, sum(map(len, got))) for name, got in entries(source, Alterations())]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pieces == 64 << 20
        assert peak < 40 << 20
