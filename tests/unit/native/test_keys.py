"""Key spellings by name: the cases that have bitten, and the versions that no embedded server has."""

import pytest

from shardproxy.native import (
    KEY_BOOL,
    KEY_BPCHAR,
    KEY_BYTEA,
    KEY_DATE,
    KEY_INT2,
    KEY_INT4,
    KEY_INT8,
    KEY_NUMERIC,
    KEY_TEXT,
    KEY_TIMESTAMP,
    KEY_TIMESTAMPTZ,
    KEY_UUID,
    PLACE_INVALID,
    PLACE_UNSUPPORTED,
    Placement,
    canonical,
)

ALL = [
    KEY_INT2,
    KEY_INT4,
    KEY_INT8,
    KEY_TEXT,
    KEY_BPCHAR,
    KEY_UUID,
    KEY_BOOL,
    KEY_DATE,
    KEY_TIMESTAMP,
    KEY_TIMESTAMPTZ,
    KEY_NUMERIC,
    KEY_BYTEA,
]


@pytest.mark.parametrize("spelling", [b" 1", b"+1", b"01", b"1 ", b"\t1\n", b"0000000000000000000000000001"])
@pytest.mark.parametrize("key", [KEY_INT2, KEY_INT4, KEY_INT8, KEY_NUMERIC])
def test_spellings_of_one(key: int, spelling: bytes) -> None:
    assert canonical(key, spelling) == canonical(key, b"1")


@pytest.mark.parametrize("key", [KEY_INT2, KEY_INT4, KEY_INT8])
def test_minus_zero_is_zero(key: int) -> None:
    assert canonical(key, b"-0") == canonical(key, b"0")


@pytest.mark.parametrize("key", [KEY_INT2, KEY_INT4, KEY_INT8, KEY_NUMERIC])
@pytest.mark.parametrize("spelling", [b"0x1F", b"1_000", b"0b1", b"0o17"])
def test_integers_of_version_16(key: int, spelling: bytes) -> None:
    assert isinstance(canonical(key, spelling, server_version=16), bytes)
    assert canonical(key, spelling, server_version=15) == PLACE_INVALID


def test_numeric_infinity_of_version_14() -> None:
    assert isinstance(canonical(KEY_NUMERIC, b"Infinity", server_version=14), bytes)
    assert canonical(KEY_NUMERIC, b"Infinity", server_version=13) == PLACE_INVALID
    infinity = bytes.fromhex("00000000d0000000")
    assert isinstance(canonical(KEY_NUMERIC, infinity, binary=True, server_version=14), bytes)
    assert canonical(KEY_NUMERIC, infinity, binary=True, server_version=13) == PLACE_INVALID


def test_numeric_exponent_before_version_16_was_strtols() -> None:
    assert canonical(KEY_NUMERIC, b"1e 5", server_version=15) == PLACE_UNSUPPORTED
    assert canonical(KEY_NUMERIC, b"1e 5", server_version=16) == PLACE_INVALID


def test_long_hexadecimal_numerics_are_refused() -> None:
    assert isinstance(canonical(KEY_NUMERIC, b"0x" + b"f" * 64), bytes)
    assert canonical(KEY_NUMERIC, b"0x1" + b"0" * 64) == PLACE_UNSUPPORTED


@pytest.mark.parametrize(
    "spelling",
    [
        b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        b"A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        b"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        b"{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ],
)
def test_uuid(spelling: bytes) -> None:
    assert canonical(KEY_UUID, spelling) == bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11")


def test_trailing_blanks_of_char_do_not_count() -> None:
    placement = Placement.hash(1000, [(KEY_BPCHAR, 9)])
    assert placement.place([b"ab"]) == placement.place([b"ab   "]) == placement.place([b"ab       "])
    assert placement.place([b"abcdef"]) == PLACE_INVALID


def test_varchar_in_an_encoding_that_is_not_counted() -> None:
    """Only blanks that PostgreSQL might drop are in doubt."""
    limited = (KEY_TEXT, 7)
    assert canonical(limited, b"\xa4\xa2\xa4\xa4", encoding="EUC_JP") == b"\xa4\xa2\xa4\xa4"
    assert canonical(limited, b"\xa4\xa2\xa4\xa4 ", encoding="EUC_JP") == PLACE_UNSUPPORTED


def test_no_text_has_a_nul() -> None:
    assert canonical(KEY_TEXT, b"a\0b") == PLACE_INVALID
    assert canonical(KEY_BPCHAR, b"\0") == PLACE_INVALID
    assert canonical(KEY_BYTEA, b"a\0") == PLACE_INVALID
    assert canonical(KEY_BYTEA, b"a\0", binary=True) == b"a\0"


@pytest.mark.parametrize("key", [KEY_INT4, KEY_BOOL, KEY_NUMERIC])
def test_a_byte_that_some_locale_may_call_white_space(key: int) -> None:
    """isspace() of a single-byte locale may hold for 0xA0 or 0x85: PostgreSQL could read what we do not."""
    assert canonical(key, b"1\xa0", encoding="LATIN1") == PLACE_UNSUPPORTED
    assert canonical(key, b"1\xc2\xa0", encoding="UTF8") == PLACE_INVALID


@pytest.mark.parametrize(
    "spelling",
    [
        b"now",
        b"today",
        b"01/02/2003",
        b"Jan 1 2000",
        b"99-01-01",
        b"2024-01-02 10:00:00 America/New_York",
        b"20240102",
        b"x",
    ],
)
@pytest.mark.parametrize("key", [KEY_DATE, KEY_TIMESTAMP, KEY_TIMESTAMPTZ])
def test_dates_that_settings_decide(key: int, spelling: bytes) -> None:
    assert canonical(key, spelling, utc=True) == PLACE_UNSUPPORTED


def test_offsets() -> None:
    instant = canonical(KEY_TIMESTAMPTZ, b"2024-01-02T03:04:05Z")
    for spelling in (
        b"2024-01-02 05:04:05+02",
        b"2024-01-02 05:04:05 +02:00",
        b"2024-01-01 21:34:05-0530",
        b"2024-01-02 03:04:05.0000004+00:00:00",
    ):
        assert canonical(KEY_TIMESTAMPTZ, spelling) == instant
    assert canonical(KEY_TIMESTAMPTZ, b"2024-01-02 03:04:05") == PLACE_UNSUPPORTED
    assert canonical(KEY_TIMESTAMPTZ, b"2024-01-02 03:04:05", utc=True) == instant
    assert canonical(KEY_TIMESTAMP, b"2024-01-02 03:04:05+09") == canonical(KEY_TIMESTAMP, b"2024-01-02 03:04:05")


@pytest.mark.parametrize(
    ("key", "width"),
    [(KEY_INT2, 2), (KEY_INT4, 4), (KEY_INT8, 8), (KEY_UUID, 16), (KEY_BOOL, 1), (KEY_DATE, 4), (KEY_TIMESTAMP, 8)],
)
def test_binary_fields_of_the_wrong_length(key: int, width: int) -> None:
    for length in range(20):
        form = canonical(key, bytes(length), binary=True)
        assert isinstance(form, bytes) if length == width else form == PLACE_INVALID


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("key", ALL)
def test_empty_values(key: int, binary: bool) -> None:
    form = canonical(key, b"", binary)
    empty = key in {KEY_TEXT, KEY_BPCHAR, KEY_BYTEA}
    dates = key in {KEY_DATE, KEY_TIMESTAMP, KEY_TIMESTAMPTZ} and not binary
    assert form == (b"" if empty else PLACE_UNSUPPORTED if dates else PLACE_INVALID)


def test_integers_at_every_length() -> None:
    """The fast path reads up to 19 digits; hexadecimal never takes it."""
    fast = Placement.hash(1009, [KEY_INT8])
    digits = b"9223372036854775807"
    for length in range(1, 20):
        for spelling in (digits[:length], b"-" + digits[:length], b"1" * length):
            slow = hex(int(spelling)).encode()
            assert fast.place([spelling]) == fast.place([slow]), spelling
            for at in range(len(spelling)):
                for bad in (b"/", b":", b"\xb0", b"\x00", b"p", b" ", b"-"):
                    damaged = spelling[:at] + bad + spelling[at + 1 :]
                    edge = bad == b" " and at in {0, len(spelling) - 1} and damaged.strip(b" -").isdigit()
                    sign = bad == b"-" and at == 0 and damaged[1:].isdigit()
                    assert (fast.place([damaged]) == PLACE_INVALID) == (not edge and not sign), damaged
    assert fast.place([b"9223372036854775808"]) == PLACE_INVALID
    assert fast.place([b"-9223372036854775808"]) == fast.place([b"-0x8000000000000000"])
    assert fast.place([b"-9223372036854775809"]) == PLACE_INVALID
