"""Keys of one integer, which the splitter reads many at a time: where each row goes if its key is read by itself."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardproxy.native import KEY_INT2, KEY_INT4, KEY_INT8, Placement, Splitter
from tests.support.reference_splitter import Options, split
from tests.unit.native.test_splitter import NSHARDS, check, message, payloads, pieces

pytestmark = pytest.mark.usefixtures("simd_path")

INTEGERS = st.one_of(
    st.integers(-(10**19), 10**19).map(lambda value: str(value).encode()),
    st.integers(0, 18).flatmap(lambda n: st.integers(-(10**n), 10**n)).map(lambda value: str(value).encode()),
    st.sampled_from(
        [b"", b"-", b"+1", b" 7", b"007", b"-0", b"0x1F", b"1_0", b"1x", b"1/2", b"1:2", b"\x8a1", b'"12"']
    ),
    st.sampled_from([b"32767", b"32768", b"-32769", b"2147483648", b"-2147483648", b"9223372036854775808", b"0" * 20]),
)


@pytest.mark.parametrize("field", [0, 2])
@pytest.mark.parametrize("code", [KEY_INT2, KEY_INT4, KEY_INT8])
def test_integers_of_every_length_with_any_byte_at_any_place(code: int, field: int) -> None:
    """What is read sixteen digits at a time, many rows at once, is what is read one by one."""
    placement = Placement.hash(NSHARDS, [code])
    digits = b"9182736450918273645"
    keys = [
        sign + zeros + digits[:length] for sign in (b"", b"-", b"+") for zeros in (b"", b"00") for length in range(20)
    ]
    keys += [
        digits[:at] + junk + digits[at + 1 : length]
        for length in (1, 2, 7, 8, 9, 15, 16, 17)
        for at in range(length)
        for junk in (b"/", b":", b"-", b" ", b"\x00", b"\x80", b"\xb9", b"\xff", b"\x10")
    ]
    rows = [b",".join([b"x"] * field + [key] + [b"y" * (i % 90)]) + b"\n" for i, key in enumerate(keys)]
    splitter = Splitter(placement, format="csv", key_fields=[field], null=b"NULL")
    splitter.feed(message(b"".join(rows)))
    got = payloads(splitter.finish())
    want = [b""] * NSHARDS
    for key, row in zip(keys, rows, strict=True):
        want[max(placement.place([key]), 0)] += row  # a key that PostgreSQL refuses goes to shard 0
    assert got == want


@pytest.mark.parametrize("fields", [1, 2])
def test_integers_behind_fields_of_every_length(fields: int) -> None:
    """The bitmaps are looked at 64 bits at a time; a key may begin in one look and end behind it."""
    placement = Placement.hash(NSHARDS, [KEY_INT8])
    digits = b"9182736450918273645"
    keys = [digits[:length] for length in (1, 2, 6, 8, 9, 15, 16, 17, 18)]
    before = [b",".join([b"x" * (wide - 5 * (fields - 1))] + [b"five"] * (fields - 1)) for wide in range(5, 140)]
    for end in (b",z\n", b"\n"):
        rows = [b",".join([front, key]) + end for front in before for key in keys]
        splitter = Splitter(placement, format="csv", key_fields=[fields])
        splitter.feed(message(b"".join(rows)))
        want = [b""] * NSHARDS
        for row, (_, key) in zip(rows, itertools.product(before, keys), strict=True):
            want[placement.place([key])] += row
        assert payloads(splitter.finish()) == want


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_integer_keys(data: st.DataObject) -> None:
    """Keys that are read in batches, between rows that are not, with options that are digits themselves."""
    csv = data.draw(st.booleans())
    options = Options(
        format="csv" if csv else "text",
        delimiter=data.draw(st.sampled_from([b",", b"5", b"-"] if csv else [b"\t", b"-"])),
        quote=data.draw(st.sampled_from([b'"', b"1"])),
        escape=data.draw(st.sampled_from([b'"', b"1", b"2"])),
        null=data.draw(st.sampled_from([b"", b"\\N", b"7", b"12"])),
        default=data.draw(st.sampled_from([None, b"8", b"-1"])),
        default_values=[b"3"],
        key_fields=[data.draw(st.integers(0, 3))],
        header=data.draw(st.booleans()),
        server_version=data.draw(st.sampled_from([17, 18])),
    )
    newline = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    other = st.sampled_from([b"", b"a" * 70, b"b" * 9, b"'"])
    rows = data.draw(st.lists(st.lists(st.one_of(INTEGERS, other), min_size=1, max_size=5), max_size=12))
    times = data.draw(st.sampled_from([1, 1, 1, 40]))  # over a batch of rows, and over one of bitmaps
    payload = b"".join(options.delimiter.join(row) + newline for row in rows) * times
    placement = Placement.hash(NSHARDS, [data.draw(st.sampled_from([KEY_INT2, KEY_INT4, KEY_INT8]))])
    expected = split(payload, options, NSHARDS, placement.place)
    cut = data.draw(st.lists(st.integers(0, len(payload)), max_size=6))
    check([b"".join(map(message, pieces(payload, cut)))], expected, options, placement, buffer_size=97)
