"""The notices of COPY's ON_ERROR, and when they can be read."""

import pytest

from shardproxy.rejects.reasons import line_of, value_named
from shardproxy.rejects.target import Target


def notice(text: str) -> dict[str, str]:
    return {"M": f"skipping row due to data type incompatibility at line {text}"}


def test_a_line_and_a_value() -> None:
    told = notice('12 for column "a7": "x "a""')
    assert line_of(told) == 12
    assert value_named(told, {"a": b"1", "a7": b'x "a"'}) == ("a7", b'x "a"')


def test_names_with_quotes() -> None:
    assert value_named(notice('1 for column "a"b": "x"'), {"a": b"1", 'a"b': b"x"}) == ('a"b', b"x")


def test_what_has_no_value() -> None:
    told = notice('3 for column "a": null input')
    assert line_of(told) == 3
    assert value_named(told, {"a": None}) is None
    assert value_named(notice('3 for column "gone": "x"'), {"a": b"x"}) is None


def test_other_words_tell_nothing() -> None:
    told = {"M": "Zeile wegen Typfehlers in Spalte »a7« in Zeile 2 übersprungen: »3«"}
    assert line_of(told) is None
    assert value_named(told, {"a7": b"3"}) is None


@pytest.mark.parametrize(
    ("version", "messages", "language", "told"),
    [
        (18, "notice", "C", True),
        (18, "notice", "C.UTF-8", True),
        (17, "debug1", "en_US.UTF-8", True),
        (18, "notice", "English_United States.1252", True),
        (16, "notice", "C", False),
        (18, "warning", "C", False),
        (18, "notice", "de_DE.UTF-8", False),
        # By the server's environment, which is not known.
        (18, "notice", "", False),
    ],
)
def test_when_notices_can_be_read(version: int, messages: str, language: str, told: bool) -> None:
    facts = {"version": version, "messages": messages, "language": language}
    assert Target("public", "t", ("a",), facts=facts).tells_skipped is told
