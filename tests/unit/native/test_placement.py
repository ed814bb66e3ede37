"""The Python face of Placement: what it refuses to build, and how it answers."""

import resource
from collections.abc import Callable

import pytest

from shardproxy.native import (
    KEY_BYTEA,
    KEY_INT4,
    KEY_NUMERIC,
    KEY_TEXT,
    KEY_TIMESTAMPTZ,
    MAXVALUE,
    MINVALUE,
    PLACE_EVERYWHERE,
    PLACE_INVALID,
    PLACE_UNSUPPORTED,
    Placement,
)

Build = Callable[[], Placement]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Placement.hash(0, [KEY_INT4]), "at least one shard"),
        (lambda: Placement.hash(4, []), "1 to 32 columns"),
        (lambda: Placement.hash(4, [KEY_INT4] * 33), "1 to 32 columns"),
        (lambda: Placement.hash(4, [99]), "unknown key type 99"),
        (lambda: Placement.hash(4, [(0, -1)]), "unknown key type"),
        (lambda: Placement.single(4, 4), "not one of 4"),
        (lambda: Placement.list(2, KEY_INT4, [(b"1", 2)]), "out of range"),
        (lambda: Placement.list(2, KEY_INT4, [(b"1", 0)], 2), "out of range"),
        (lambda: Placement.list(2, KEY_INT4, [(b"1", 0)], -1), "no shard has the number -1"),
        (lambda: Placement.list(2, KEY_INT4, [(b"1", 0), (b"x", 1)]), "'x' is not a value"),
        (lambda: Placement.list(2, KEY_INT4, [(b"1", 0), (b"2", 0), (b"01", 1)]), "'01' is on two shards"),
        (lambda: Placement.list(2, KEY_INT4, [(None, 0), (None, 1)]), "NULL is on two shards"),
        (lambda: Placement.list(2, KEY_TIMESTAMPTZ, [(b"2024-01-01 00:00", 0)]), "depends on settings"),
        (lambda: Placement.list(2, KEY_BYTEA, [(b"x" * 1025, 0)]), "too long"),
        (lambda: Placement.range(2, [KEY_INT4], [([b"1"], [b"1"], 0)]), "range is empty"),
        (lambda: Placement.range(2, [KEY_INT4], [([b"1"], [b"2", b"3"], 0)]), "2 bounds for 1 key columns"),
        (
            lambda: Placement.range(2, [KEY_INT4], [([b"1"], [b"9"], 0), ([b"20"], [b"30"], 0), ([b"8"], [b"10"], 1)]),
            r"from \('8'\) to \('10'\) overlaps from \('1'\) to \('9'\)",
        ),
        (
            lambda: Placement.range(2, [KEY_INT4] * 2, [([MINVALUE, b"1"], [MAXVALUE, MAXVALUE], 0)]),
            "every bound after MINVALUE",
        ),
        (lambda: Placement.range(2, [KEY_INT4], [([b"1"], [b"a"], 0)]), "is not a value"),
    ],
)
def test_refused(build: Build, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_a_range_bound_is_not_null() -> None:
    with pytest.raises(ValueError, match="cannot be NULL"):
        Placement.range(2, [KEY_INT4], [([None], [b"1"], 0)])  # type: ignore[list-item]


def test_one_value_spelled_twice_on_one_shard() -> None:
    placement = Placement.list(2, KEY_NUMERIC, [(b"1", 1), (b"1.0", 1), (b"10e-1", 1)])
    assert placement.place([b"1.000"]) == 1


def test_values_longer_than_any_bound() -> None:
    """A value is compared by its first bytes only; the rest cannot matter."""
    listed = Placement.list(2, KEY_BYTEA, [(b"x" * 1024, 1)], 0)
    assert [listed.place([b"x" * length]) for length in (1023, 1024, 1025, 100_000)] == [0, 1, 0, 0]
    ranged = Placement.range(2, [KEY_BYTEA], [([b"x" * 1024], [MAXVALUE], 1)], 0)
    assert [ranged.place([b"x" * length]) for length in (1023, 1024, 1025, 100_000)] == [0, 1, 1, 1]
    digits = Placement.range(2, [KEY_NUMERIC], [([MINVALUE], [b"1e5000"], 1)], 0)
    assert [digits.place([text]) for text in (b"-" + b"9" * 131072, b"9" * 5000, b"9" * 5001)] == [1, 1, 0]


def test_a_certain_refusal_wins_over_an_unknown_value() -> None:
    placement = Placement.hash(4, [KEY_TIMESTAMPTZ, KEY_INT4])
    assert placement.place([b"now", b"1"]) == PLACE_UNSUPPORTED
    assert placement.place([b"now", b"x"]) == PLACE_INVALID


def test_how_many_values() -> None:
    placement = Placement.hash(4, [KEY_INT4, KEY_TEXT])
    assert (placement.nshards, placement.nkeys) == (4, 2)
    with pytest.raises(ValueError, match="1 values for 2 key columns"):
        placement.place([b"1"])
    with pytest.raises(TypeError):
        placement.place([b"1", "x"])  # type: ignore[list-item]
    assert Placement.reference(3).place([]) == PLACE_EVERYWHERE
    assert Placement.reference(3).nkeys == 0


def test_no_other_way_to_make_one() -> None:
    with pytest.raises(TypeError, match=r"Placement\.hash"):
        Placement()


def test_building_and_refusing_frees_the_bounds() -> None:
    """Three bounds of 200 kB each time: 500 rounds would leave 300 MB behind."""
    long = b"c" * 200_000

    def once() -> None:
        bounds = [([b"a"], [b"b" + long], 0), ([long], [long + b"d"], 1)]
        assert Placement.range(2, [KEY_TEXT], bounds).place([b"a"]) == 0
        with pytest.raises(ValueError, match="overlaps"):
            Placement.range(2, [KEY_TEXT], [*bounds, ([b"b"], [b"d"], 1)])

    for _ in range(20):
        once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(500):
        once()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"
