"""The splitter with rows set aside, beside the one that ends at the first; and whole rows looked at one by one."""

import random
from typing import Literal

import pytest

from shardproxy.copy.binary import HEADER, TRAILER
from shardproxy.native import (
    KEY_INT4,
    ROW_ENCODING,
    ROW_EXTRA,
    ROW_MISSING,
    ROW_REFUSED,
    ROW_UNTERMINATED,
    Placement,
    SplitError,
    Splitter,
    check_rows,
)
from shardproxy.wire import encode

PLACEMENT = Placement.list(2, KEY_INT4, [(b"1", 0), (b"2", 1)])
ASIDE = 2

GOOD = {"csv": [b"1,a", b'2,"x\ny"', b'1,"\r"'], "text": [b"1\ta", b"2\tb\\\nc", b"1\t"]}
BAD = {"csv": [b"3,a", b",b", b"1,a\rb"], "text": [b"3\ta", b"\\N\tb", b"1\ta\rb", b"1\tx\\.y"]}


def split(data: bytes, form: str, step: int, *, header: bool = False) -> tuple[Splitter, dict[int, bytes]]:
    splitter = Splitter(
        PLACEMENT, format="csv" if form == "csv" else "text", key_fields=[0], header=header, set_aside=True
    )
    messages = encode.copy_data(data)
    for at in range(0, len(messages), step):
        splitter.feed(messages[at : at + step])
    found = {0: b"", 1: b"", ASIDE: b""}
    for shard, message in splitter.finish():
        found[shard] += message[5:]
    return splitter, found


@pytest.mark.parametrize("form", ["csv", "text"])
@pytest.mark.parametrize("header", [False, True])
def test_each_row_goes_to_its_shard_or_aside(form: str, header: bool) -> None:
    rng = random.Random(form)
    for _ in range(40):
        rows = [b"h\n"] if header else []
        kinds = [True] if header else []
        for _ in range(rng.randint(1, 30)):
            # What ends the rows is known with the first one.
            good = rng.random() < 0.6 or not rows
            rows.append((rng.choice((GOOD if good else BAD)[form]) if rows else GOOD[form][0]) + b"\n")
            kinds.append(good)
        data = b"".join(rows)
        splitter, found = split(data, form, rng.choice([1, 7, 1 << 20]), header=header)
        expected = {0: b"", 1: b"", ASIDE: rows[0] if header else b""}
        marks: dict[int, list[int]] = {0: [], 1: [], ASIDE: []}
        at = line = 0
        for number, (row, good) in enumerate(zip(rows, kinds, strict=True)):
            at += len(row)
            line += row.count(b"\n") if form == "csv" else 1
            if header and number == 0:
                continue
            shard = (0 if row.startswith(b"1") else 1) if good else ASIDE
            expected[shard] += row
            marks[shard] += [line, at]
        assert found == expected
        assert {shard: list(splitter.marks(shard)) for shard in marks} == marks
        assert splitter.rows == len(rows) - header


def test_a_quote_that_is_never_closed() -> None:
    splitter, found = split(b'1,a\n2,"b\n1,c\n', "csv", 5)
    assert found == {0: b"1,a\n", 1: b"", ASIDE: b'2,"b\n1,c\n'}
    assert splitter.newline == 1


def test_only_a_row_that_is_too_long_leaves_before_its_end() -> None:
    splitter = Splitter(PLACEMENT, format="csv", key_fields=[0], set_aside=True, max_row=200_000)
    splitter.feed(encode.copy_data(b"2,b\n1," + b"x" * 100_000))
    assert splitter.streaming < 0
    assert (splitter.offset, splitter.lines) == (4, 1)
    splitter.feed(encode.copy_data(b"x" * 100_000))
    assert splitter.streaming == ASIDE
    splitter.feed(encode.copy_data(b"\n1,a\n"))
    assert splitter.streaming < 0
    assert list(splitter.marks(ASIDE)) == [2, 200_007]
    assert [splitter.rows_of(shard) for shard in (0, 1, ASIDE)] == [1, 1, 1]


@pytest.mark.parametrize("form", ["csv", "text", "binary"])
def test_rows_longer_than_may_be_are_set_aside_wherever_they_are_cut(form: Literal["csv", "text", "binary"]) -> None:
    rng = random.Random(form)
    for _ in range(60):
        rows, begin, end = [], b"", b""
        separator = b"," if form == "csv" else b"\t"
        newline = rng.choice([b"\n", b"\r\n", b"\r"])
        for _ in range(rng.randint(1, 30)):
            field = b"x" * rng.choice([1, 40, rng.randint(80, 120), rng.randint(1, 300)])
            if form == "binary":
                begin, end = HEADER, TRAILER
                key = rng.randint(1, 2).to_bytes(4)
                rows.append(b"".join([b"\0\2", b"\0\0\0\4", key, len(field).to_bytes(4), field]))
            else:
                rows.append(rng.choice([b"1", b"2"]) + separator + field + newline)
        data, step = encode.copy_data(begin + b"".join(rows) + end), rng.choice([1, 7, 64, 1 << 20])
        splitter = Splitter(PLACEMENT, format=form, key_fields=[0], set_aside=True, max_row=100)
        for at in range(0, len(data), step):
            splitter.feed(data[at : at + step])
        aside = b"".join(message[5:] for shard, message in splitter.finish() if shard == ASIDE)
        assert aside == b"".join(row for row in rows if len(row) > 100)
        assert splitter.rows_of(ASIDE) == sum(len(row) > 100 for row in rows)
        assert splitter.rows == len(rows)


def test_a_header_that_is_too_long_ends_it() -> None:
    splitter = Splitter(PLACEMENT, format="csv", key_fields=[0], set_aside=True, header=True, max_row=100)
    with pytest.raises(SplitError, match="header is longer") as caught:
        splitter.feed(encode.copy_data(b'"' + b"x\n" * 100))
    assert caught.value.sqlstate == "54000"


def test_without_it_the_first_bad_row_ends_it() -> None:
    splitter = Splitter(PLACEMENT, format="csv", key_fields=[0])
    with pytest.raises(SplitError):
        splitter.feed(encode.copy_data(b"1,a\n3,b\n1,c\n"))


def test_whole_rows_one_by_one() -> None:
    rows = [b"1,a\n", b"2\n", b"3,x,y\n", b'4,"a\nb"\n', b"5,\xe9\n", b"6,\0\n", b"7,\rx\n", b'8,"x\n']
    ends, lines, faults = check_rows(b"".join(rows), 2, format="csv", utf8=True)
    assert list(ends) == [sum(map(len, rows[: number + 1])) for number in range(len(rows))]
    assert list(lines) == [1, 2, 3, 5, 6, 7, 8, 10]
    assert [(number, fault) for number, fault, *_ in faults] == [
        (1, ROW_MISSING), (2, ROW_EXTRA), (4, ROW_ENCODING), (5, ROW_ENCODING), (6, ROW_REFUSED), (7, ROW_UNTERMINATED),
    ]  # fmt: skip


def test_whole_binary_rows() -> None:
    def row(*fields: bytes | None) -> bytes:
        values = [b"\xff\xff\xff\xff" if one is None else len(one).to_bytes(4) + one for one in fields]
        return len(fields).to_bytes(2) + b"".join(values)

    rows = [row(b"abc", None), row(b""), row(b"a", b"b", b"c")]
    ends, _, faults = check_rows(b"".join(rows), 2, format="binary")
    assert list(ends) == [len(b"".join(rows[: number + 1])) for number in range(3)]
    assert [(number, fault, at) for number, fault, at, *_ in faults] == [(1, ROW_MISSING, 1), (2, ROW_EXTRA, 3)]
