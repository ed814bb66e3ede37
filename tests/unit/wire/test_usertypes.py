"""The user's own types: OIDs, and binary values that have OIDs inside, translated by name both ways."""

import struct
from collections.abc import Sequence

import pytest

from shardproxy.errors import ProtocolError
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import HEADER_SIZE
from shardproxy.wire.usertypes import RECORD, RECORD_ARRAY, UNKNOWN, TypeMap, UnknownOidError, UserType

INT4, TEXT = 23, 25


def types(first: int, extra: str | None = None) -> dict[int, UserType]:
    """A shard's types, whose OIDs begin with `first`."""
    mood, moods, pair, pairs, domain, span, spans = range(first, first + 7)
    made = {
        mood: UserType(("public", "mood"), "o", 0),
        moods: UserType(("public", "mood[]"), "a", mood),
        pair: UserType(("public", "pair"), "c", 0),
        pairs: UserType(("public", "pair[]"), "a", pair),
        domain: UserType(("public", "domain"), "d", pairs),
        span: UserType(("public", "span"), "r", pair),
        spans: UserType(("public", "spans"), "m", span),
    }
    if extra is not None:
        made[first + 100] = UserType(("public", extra), "o", 0)
    return made


OURS, THEIRS = 20000, 30000
MAP = TypeMap(types(OURS, "only ours"), types(THEIRS, "only theirs"))
MOOD, MOODS, PAIR, PAIRS, DOMAIN, SPAN, SPANS = range(7)


def item(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def array(oid: int, *values: bytes | None) -> bytes:
    return struct.pack("!iiIii", 1, 0, oid, len(values), 1) + b"".join(map(item, values))


def composite(*fields: tuple[int, bytes | None]) -> bytes:
    return struct.pack("!i", len(fields)) + b"".join(struct.pack("!I", oid) + item(value) for oid, value in fields)


def values(first: int) -> list[tuple[int, bytes]]:
    """Types by their number in `types`, and values of them as a server has them whose OIDs begin with `first`."""
    pair = composite((first + MOOD, b"glad"), (INT4, b"\0\0\0\1"), (first + MOODS, array(first + MOOD, b"x", None)))
    empty = struct.pack("!iiI", 0, 0, first + PAIR)
    return [
        (MOODS, array(first + MOOD, b"sad", None, b"glad")),
        (PAIR, pair),
        (PAIR, composite((first + MOOD, None))),
        (PAIRS, array(first + PAIR, pair, None, pair)),
        (PAIRS, empty),
        (DOMAIN, array(first + PAIR, pair)),
        (SPAN, b"\x02" + item(pair) + item(pair)),
        (SPAN, b"\x08" + item(pair)),
        (SPAN, b"\x10" + item(pair)),
        (SPAN, b"\x18"),
        (SPAN, b"\x01"),
        (SPANS, struct.pack("!i", 2) + item(b"\x02" + item(pair) + item(pair)) + item(b"\x08" + item(pair))),
    ]


@pytest.mark.parametrize("number", range(len(values(0))))
def test_values_both_ways(number: int) -> None:
    kind, ours = values(OURS)[number]
    _, theirs = values(THEIRS)[number]
    assert MAP.carries(OURS + kind)
    assert MAP.values([theirs], {0: OURS + kind}, to_client=True) == [ours]
    assert MAP.values([ours], {0: OURS + kind}, to_client=False) == [theirs]


@pytest.mark.parametrize("number", range(len(values(0))))
def test_a_value_that_is_cut_goes_on_without_an_exception(number: int) -> None:
    """The server says what is wrong with it."""
    kind, ours = values(OURS)[number]
    for end in range(len(ours)):
        [made] = MAP.values([ours[:end]], {0: OURS + kind}, to_client=False)
        assert made is not None
        assert len(made) == end


def test_records_have_the_types_of_their_fields_inside() -> None:
    theirs, ours = (composite((first + MOOD, b"sad"), (TEXT, b"a")) for first in (THEIRS, OURS))
    assert MAP.values([theirs], {0: RECORD}, to_client=True) == [ours]
    assert MAP.values([array(RECORD, theirs)], {0: RECORD_ARRAY}, to_client=True) == [array(RECORD, ours)]


def test_columns_that_are_rewritten() -> None:
    columns = [(OURS + MOOD, 1), (OURS + MOODS, 1), (OURS + PAIR, 0), (INT4, 1), (RECORD, 1)]
    assert MAP.carrying(columns) == {1: OURS + MOODS, 4: RECORD}


def test_rows() -> None:
    row = encode.data_row([b"x", array(THEIRS + MOOD, b"sad"), None])[HEADER_SIZE:]
    made = MAP.row(row, {1: OURS + MOODS, 2: OURS + PAIR})
    assert made == encode.data_row([b"x", array(OURS + MOOD, b"sad"), None])
    with pytest.raises(ProtocolError, match="fewer columns"):
        MAP.row(row, {3: OURS + MOODS})


def described(oids: Sequence[int]) -> bytes:
    return encode.row_description([(f"c{number}", oid) for number, oid in enumerate(oids)])[HEADER_SIZE:]


def test_descriptions() -> None:
    theirs, ours = [INT4, THEIRS + MOOD, THEIRS + PAIRS, TEXT], [INT4, OURS + MOOD, OURS + PAIRS, TEXT]
    for translated in (MAP.description, MAP.description_now):
        assert [column.type_oid for column in decode.row_description(translated(described(theirs)))] == ours
    with pytest.raises(ProtocolError):
        MAP.description(described(theirs)[:-1])


def test_a_type_of_one_side_only() -> None:
    """No other type may be taken for it."""
    for translate, oid in ((MAP.canonical, THEIRS + 100), (MAP.theirs, OURS + 100), (MAP.canonical, 99999)):
        with pytest.raises(UnknownOidError):
            translate(oid)
    with pytest.raises(UnknownOidError):
        MAP.description(described([THEIRS + 100]))
    with pytest.raises(UnknownOidError):
        MAP.values([array(THEIRS + 100)], {0: OURS + MOODS}, to_client=True)
    [column] = decode.row_description(MAP.description_now(described([THEIRS + 100])))
    assert column.type_oid == UNKNOWN
    assert MAP.parse_oids([OURS + 100, OURS + MOOD, INT4]) == [0, THEIRS + MOOD, INT4]
    assert MAP.name(THEIRS + 100, canonical=False) == "public.only theirs"


def test_equal_oids() -> None:
    assert TypeMap(types(OURS), types(OURS)).same
    assert not MAP.same
