"""The options of a load: what is wrong with one is told, and docs/load.md lists them all."""

import asyncio
import re
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import pytest

from shardproxy import cli
from shardproxy.errors import PgError
from shardproxy.loader.options import LoadOptions, options_of, reading_of
from shardproxy.loader.run import Load
from shardproxy.loader.several import Loads

ROOT = Path(__file__).parents[3]
GIVEN: dict[str, Any] = {"files": ("a.csv",), "table": "t", "to": "postgresql://u@h/d"}


def table() -> str:
    """The options as docs/load.md has them."""
    lines = ["| option | default | |", "|---|---|---|"]
    for name, field in LoadOptions.model_fields.items():
        default = "" if field.is_required() or field.default in (None, (), {}, "") else f"`{field.default}`"
        kinds = (field.annotation, *get_args(field.annotation))
        words = [f"`{word}`" for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
        lines.append(f"| `{name}` | {default} | {', '.join(words)}{': ' if words else ''}{field.description} |")
    return "\n".join(lines)


def test_the_documentation_lists_them() -> None:
    assert table() in (ROOT / "docs/load.md").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tabel": "t"}, 'load has no option "tabel"'),
        ({"to": None}, "a load goes to a DSN"),
        ({"files": ()}, "no file is named"),
        ({"format": "binary", "delimiter": ";"}, "COPY with format binary does not take these options: delimiter"),
        ({"format": "text", "quote": "'"}, "COPY with format text does not take these options: quote"),
        ({"delimiter": '"'}, "COPY with format csv does not take these options: delimiter"),
        ({"map": {"a": "b"}}, "a map needs a header"),
        ({"on_error": "ignore"}, "on_error: Input should be 'stop' or 'resume_next'"),
        ({"reject_limit": "many"}, '"many" is not a number of rows'),
        ({"batch_rows": 0}, "batch_rows: Input should be greater than or equal to 1"),
        ({"database": "d"}, "`database` is one of a configuration"),
    ],
)
def test_what_is_wrong_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PgError, match=re.escape(message)) as caught:
        options_of(GIVEN | given)
    assert caught.value.sqlstate == "22023"


@pytest.mark.parametrize(("name", "message"), [("files", "no file is named"), ("table", "no table is named")])
def test_what_is_missing_is_told(name: str, message: str) -> None:
    with pytest.raises(PgError, match=message):
        options_of({option: value for option, value in GIVEN.items() if option != name})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "postgresql://h/d"], "the DSN has no user\nHINT:  Write postgresql://"),
        (["--to", "postgresql://u@h/d", "--format", "binary", "--delimiter", ";"], "does not take these options"),
        (["--to", "postgresql://u:${NO_SUCH_VARIABLE}@h/d"], "the environment variable NO_SUCH_VARIABLE is not set"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ],
)
def test_what_is_wrong_with_the_options_alone_is_usage(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["load", "--table", "t", *given, "a.csv"]) == 2
    assert said in capsys.readouterr().err


def test_the_formats() -> None:
    """Each is COPY's, or becomes it."""
    made = {name: reading_of(options_of(GIVEN | {"format": name, **more}), 18) for name, more in FORMATS.items()}
    assert {name: (one.copy.format, one.layout) for name, one in made.items()} == {
        "csv": ("csv", "copy"),
        "text": ("text", "copy"),
        "tsv": ("text", "copy"),
        "binary": ("binary", "copy"),
        "mysql": ("csv", "mysql"),
        "fixed": ("text", "fixed"),
    }


FORMATS: dict[str, dict[str, Any]] = {
    "csv": {},
    "text": {},
    "tsv": {},
    "binary": {},
    "mysql": {},
    "fixed": {"widths": (3, 4)},
}


def test_what_is_a_bug_is_told_as_one_load_tells_it() -> None:
    """Not as the group of tasks that it was raised in."""

    class Broken:
        async def run(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(Loads([cast(Load, Broken())], 1).run())
