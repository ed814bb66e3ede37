"""Notices of several shards as one server would have sent them."""

from shardproxy.combine.notices import REMEMBERED, Fields, NoticeMerger


def merged(*said: tuple[int, str]) -> list[str]:
    """The notices that the client reads, of those that shards say in this order."""
    read: list[str] = []

    def forward(fields: Fields) -> None:
        read.append(fields["M"])

    merger = NoticeMerger(forward)
    for shard, message in said:
        merger.notice(shard, {"V": "NOTICE", "C": "00000", "M": message})
    return read


def test_once_what_all_say() -> None:
    assert merged((0, "a"), (1, "a"), (2, "a")) == ["a"]


def test_as_often_as_one_says_it() -> None:
    assert merged((0, "a"), (1, "a"), (1, "a"), (0, "a"), (0, "a")) == ["a"] * 3


def test_what_one_alone_says() -> None:
    assert merged((0, "a"), (1, "b"), (1, "a")) == ["a", "b"]


def test_details_count_places_do_not() -> None:
    read: list[Fields] = []
    merger = NoticeMerger(read.append)
    merger.notice(0, {"M": "a", "D": "x", "F": "one.c", "L": "1"})
    merger.notice(1, {"M": "a", "D": "x", "F": "two.c", "L": "2"})
    merger.notice(1, {"M": "a", "D": "y"})
    assert [fields["D"] for fields in read] == ["x", "y"]


def test_a_flood_is_forwarded_in_bounded_memory() -> None:
    flood = [(0, str(number)) for number in range(3 * REMEMBERED)]
    assert merged(*flood) == [message for _, message in flood]
