"""Names to streams: files, globs, FIFOs, standard input and URLs; many files, each with a header of its own."""

import builtins
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from shardproxy.loader.input import Alterations, Column, InputError, Reading, read
from tests.unit.loader.conftest import options, read_files

CSV = Reading(options())


def test_a_missing_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"1\n")
    with pytest.raises(InputError, match="does not exist") as caught:
        read([str(tmp_path / "there"), str(tmp_path / "gone.csv")], CSV, None, Alterations())
    assert (caught.value.sqlstate, caught.value.file) == ("58P01", str(tmp_path / "gone.csv"))


def test_a_glob_without_a_match_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file matches") as caught:
        read([str(tmp_path / "*.csv")], CSV, None, Alterations())
    assert caught.value.sqlstate == "58P01"


def test_a_directory_is_an_error_that_names_its_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory") as caught:
        read([str(tmp_path)], CSV, None, Alterations())
    assert caught.value.hint is not None
    assert str(tmp_path / "*") in caught.value.hint


def test_a_file_may_have_a_glob_s_characters_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_bytes(b"x\n")
    (tmp_path / "a1.csv").write_bytes(b"y\n")
    assert read_files([tmp_path / "a[1].csv"], CSV).data == b"x\n"


def test_matches_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c", "sub/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    assert read_files([tmp_path / "*"], CSV).data == b"a\nb\nc\n"
    assert read_files([tmp_path / "**"], CSV).data == b"a\nb\nc\nsub/d\n"


@pytest.mark.parametrize("last", [b"3,half", b'3,"half'])
def test_f05_a_fifo_closed_in_the_middle_of_a_row(tmp_path: Path, last: bytes) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"1,x\n2,y\n" + last,))
    writer.start()
    made = read_files([path], CSV)
    writer.join()
    if b'"' in last:
        assert made.rows == [b"1,x\n", b"2,y\n"]
        assert made.faults[0].original == last
    else:
        assert made.rows == [b"1,x\n", b"2,y\n", last]


def test_f05_standard_input(tmp_path: Path) -> None:
    program = (
        "from shardproxy.copy.options import CopyOptions; from shardproxy.loader.input import *\n"
        "reading = Reading(CopyOptions.read('from', [('format', 'csv')]))\n"
        "for file in read(['-'], reading, None, Alterations()):\n"
        "    print(file.name, *(chunk.data for chunk in file.chunks))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], input=b"1,x\n2,ha", capture_output=True, check=True, timeout=60
    )
    assert found.stdout == b"- b'1,x\\n' b'2,ha'\n"


def test_standard_input_is_read_once() -> None:
    with pytest.raises(InputError, match="more than once"):
        read(["-", "-"], CSV, None, Alterations())


def test_f04_each_of_many_files_has_its_own_header_style_and_lines(tmp_path: Path) -> None:
    for number in range(1, 101):
        text = f"a,b\n{number},x\n"
        if number == 57:
            text = f"b,a\nx,{number}\n"
        elif number == 58:
            text = ""
        elif number == 59:
            text = text.replace("\n", "\r\n")
        (tmp_path / f"{number:03}.csv").write_bytes(text.encode())
    target = [Column("a", "int4"), Column("b")]
    made = read_files([tmp_path / "*.csv"], Reading(options(), by_name=True), target)
    assert len(made.files) == 100
    assert len(made.rows) == 99
    assert {place.line for place in made.places} == {2}
    files = {Path(file.name).stem: (file.columns, chunks) for file, chunks in made.files}
    assert files["057"][0] == ("b", "a")
    assert files["058"] == (None, [])
    assert files["059"][1][0].data == b"59,x\r\n"
    assert not made.counts


def test_a_limit_is_for_all_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(f"{name}1\n{name}2\n{name}3\n".encode())
    made = read_files([tmp_path / "*"], Reading(options(), limit=4))
    assert made.rows == [b"a1\n", b"a2\n", b"a3\n", b"b1\n"]
    assert made.counts == {"OVER_LIMIT": 2}


def test_urls_are_read_by_fsspec() -> None:
    files = fsspec.filesystem("memory")
    for name in ("one", "two"):
        files.pipe(f"/load/{name}.csv", name.encode() + b"\n")
    try:
        assert read_files(["memory://load/one.csv"], CSV).data == b"one\n"
        made = read_files(["memory://load/*.csv"], CSV)
        assert made.data == b"one\ntwo\n"
        assert [file.name for file, _ in made.files] == ["memory:///load/one.csv", "memory:///load/two.csv"]
        for name in ("memory://load/gone", "memory://load/*.gone"):
            with pytest.raises(InputError) as caught:
                read([name], CSV, None, Alterations())
            assert caught.value.sqlstate == "58P01"
        with pytest.raises(InputError, match="nowhere"):
            read(["nowhere://load"], CSV, None, Alterations())
    finally:
        files.rm("/load", recursive=True)


def test_without_fsspec_a_url_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="needs the package fsspec") as caught:
        read(["s3://bucket/file"], CSV, None, Alterations())
    assert caught.value.hint == "Install it by: pip install 'shardproxy[remote]'"
