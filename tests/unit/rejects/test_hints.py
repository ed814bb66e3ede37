"""What bad rows look like."""

from collections import Counter

import pytest

from shardproxy.copy.options import CopyOptions
from shardproxy.rejects.hints import Hints, common, open_quote
from shardproxy.rejects.reject import Reject

CSV = CopyOptions.read("from", [("format", "csv")])

LOOKS = [
    (b"1,caf\xe9\n", "22021", None, "WIN1252"),
    (b"1,\x93smart\x94 \x80\n", "22021", None, "WIN1252"),
    (b"1,caf\xc3\xa9 \xe9\n", "22021", None, None),  # other characters are in UTF-8
    (b"1,\x81\xe9\n", "22021", None, None),
    (b"1,\0\n", "22021", None, None),
    ("1,abc\n".encode("utf-16-le"), "22021", None, "UTF-16"),
    (b"1,31/12/2024\n", "22008", "b", "day first"),
    (b"1,31.12.2024 10:00\r\n", "22008", "b", "day first"),
    (b"1,12/31/2024\n", "22008", "b", "month first"),
    (b"1,31/02/2024\n", "22008", "b", None),
    (b"1,2024-02-30\n", "22008", "b", None),
    (b"31/12/2024,2024-02-30\n", "22008", "b", None),
    (b"1,31/12/2024\n", "23505", "b", None),
    (b'1,"1,5"\n', "22P02", "b", "decimal comma"),
    (b'1,"1.234,567"\n', "22P02", "b", "decimal comma"),
    (b'1,"1,213"\n', "22P02", "b", None),  # may be thousands
    (b"1,x\n", "22P02", "b", None),
    (b"1,2,\n", "22P04", None, "delimiter after its last"),
    (b"1,2,3\n", "22P04", None, None),
    (b"1,\n", "22P04", None, None),
    (b"1,2,,\n", "22P04", None, None),
    (b"1\n", "22P02", "b", None),
]


@pytest.mark.parametrize(("row", "sqlstate", "column", "words"), LOOKS)
def test_what_a_row_looks_like(row: bytes, sqlstate: str, column: str | None, words: str | None) -> None:
    reject = Reject(1, 0, row, sqlstate, "refused", hint="the server's", column=column)
    hint = Hints(CSV, ("a", "b")).of(reject).hint or ""
    assert hint == "the server's" if words is None else words in hint


def test_the_hint_of_most_rows() -> None:
    assert common(Counter({"x": 5, "y": 4}), 10) == "x"
    assert common(Counter({"x": 4, "y": 4}), 10) is None
    assert common(Counter(), 10) is None


@pytest.mark.parametrize(
    ("row", "options", "line"),
    [
        (b'1,"a\n', CSV, 7),
        (b'1,"a\n""b"\n', CSV, None),
        (b'1,"a\n",b\n', CSV, None),
        (b'1,"a\nb","c""\n', CSV, 8),
        (b'"a\n"b"c\n', CSV, 8),
        (b'1,"a\n""', CSV, 7),
        (b'1,"a\n\\"\nb",c"\n', CopyOptions.read("from", [("format", "csv"), ("escape", "\\")]), 9),
        (b'1,"a\n\\"', CopyOptions.read("from", [("format", "csv"), ("escape", "\\")]), 7),
        (b'1\t"a\n', CopyOptions.read("from", []), None),
    ],
)
def test_the_line_where_a_quote_opens(row: bytes, options: CopyOptions, line: int | None) -> None:
    assert open_quote(row, 7, 1, options) == line
