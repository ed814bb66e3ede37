"""By which columns the rows of several writers are spread, and where there is one writer."""

from typing import Any

import pytest

from shardproxy.loader.target.concurrency import Spread, judge

INT, TEXT, POINT = 23, 25, 600


def facts(**given: Any) -> dict[str, Any]:
    columns = [
        {"name": name, "type": kind, "exact": True, "fresh": name == "id"}
        for name, kind in (("id", INT), ("a", TEXT), ("p", POINT), ("b", INT), ("c", INT), ("d", INT))
    ]
    return {"kind": "r", "triggers": False, "rules": False, "self": False, "unique": None, "columns": columns} | given


def unique(*columns: str, plain: bool = True, exact: bool = True) -> dict[str, Any]:
    return {"plain": plain, "exact": exact, "columns": list(columns)}


ALL = ["id", "a", "p", "b", "c", "d"]


@pytest.mark.parametrize(
    ("given", "loaded", "key"),
    [
        ({}, ALL, ("id", "a", "b")),
        ({}, ["p", "d"], ("d",)),
        ({"unique": [unique("b", "c")]}, ALL, ("b", "c")),
        # A serial key that the server fills is unique by itself.
        ({"unique": [unique("id")]}, ["a", "b"], ("a", "b")),
        ({"unique": [unique("id"), unique("a")]}, ["a", "b"], ("a",)),
    ],
)
def test_by_what(given: dict[str, Any], loaded: list[str], key: tuple[str, ...]) -> None:
    assert judge(facts(**given), loaded) == Spread(key)


@pytest.mark.parametrize(
    ("given", "loaded", "why"),
    [
        ({}, None, "it is not known which columns the input has"),
        ({}, ["p"], "no column has a type by which rows can be spread"),
        ({"kind": "v"}, ALL, "the target is no table"),
        ({"kind": "p"}, ALL, "the table is partitioned"),
        ({"triggers": True}, ALL, "the table has triggers"),
        ({"self": True}, ALL, "the table refers to itself"),
        ({"unique": [unique("id"), unique("a")]}, ALL, "the table has more than one unique or exclusion constraint"),
        ({"unique": [unique("id", plain=False)]}, ALL, "the table has more than one unique or exclusion constraint"),
        ({"unique": [unique("id", "p")]}, ALL, "rows cannot be spread by (id, p)"),
        # What the index takes for equal is not what is the same.
        ({"unique": [unique("a", exact=False)]}, ALL, "rows cannot be spread by (a)"),
        # A column that the server fills may be the same in two rows, if it does not count up.
        ({"unique": [unique("b")]}, ["a"], "rows cannot be spread by (b)"),
    ],
)
def test_one_writer(given: dict[str, Any], loaded: list[str] | None, why: str) -> None:
    assert judge(facts(**given), loaded) == Spread(why=why)


def test_what_is_equal_and_not_the_same_is_no_key() -> None:
    given = facts(unique=[unique("a")])
    given["columns"][1]["exact"] = False
    assert judge(given, ALL) == Spread(why="rows cannot be spread by (a)")
