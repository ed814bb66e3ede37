"""`shardproxy load`: the command line over `options`, progress while it runs, and the summary at its end."""

import argparse
import asyncio
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from shardproxy.errors import PgError
from shardproxy.loader.options import LoadOptions, options_of
from shardproxy.loader.run import Load
from shardproxy.loader.summary import INTERRUPTED, Summary

USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an argument for each option of a load."""
    parser.add_argument("files", nargs="*", metavar="FILE", help=LoadOptions.model_fields["files"].description)
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the proxy's configuration")
    parser.add_argument("--summary", metavar="FILE", help="write the summary as JSON; - for standard output")
    for name, field in LoadOptions.model_fields.items():
        if name not in {"files", "config"}:
            _add(parser, name, field)


def _add(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    flag, kind = "--" + name.replace("_", "-"), _plain(field.annotation)
    given: dict[str, Any] = {"dest": name, "default": None, "help": field.description}
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is bool:
        given["action"] = argparse.BooleanOptionalAction
    elif origin is Literal:
        given["choices"] = arguments
        if name == "header":
            given |= {"nargs": "?", "const": "names"}
    elif origin is tuple:
        given |= {"action": "append", "type": arguments[0], "metavar": name.upper()}
    elif origin is dict:
        given |= {"action": "append", "type": _pair, "metavar": "NAME=VALUE"}
    else:
        given |= {"type": kind, "metavar": name.upper()}
    parser.add_argument(flag, **given)


def _plain(annotation: Any) -> Any:
    """The type of a value that is given: without None."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def options_from(arguments: argparse.Namespace) -> LoadOptions:
    """Return the options of a command line."""
    given: dict[str, Any] = {}
    for name in LoadOptions.model_fields:
        value = getattr(arguments, name)
        if value is None:
            continue
        dictionary = get_origin(_plain(LoadOptions.model_fields[name].annotation)) is dict
        given[name] = dict(value) if dictionary else tuple(value) if isinstance(value, list) else value
    return options_of(given)


def run(arguments: argparse.Namespace) -> int:
    """Load; return the exit code."""
    try:
        options = options_from(arguments)
    except PgError as error:
        print(f"shardproxy load: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"HINT:  {error.hint}", file=sys.stderr)
        return USAGE
    load = Load(options)
    try:
        summary = asyncio.run(load.run())
    except KeyboardInterrupt:
        print(f"interrupted: {load.summary.interrupted()}", file=sys.stderr)
        return INTERRUPTED
    _tell(summary, arguments.summary)
    return summary.exit_code


def _tell(summary: Summary, file: str | None) -> None:
    if summary.error is not None:
        _tell_error(summary.error)
    print(summary.text(), file=sys.stderr)
    if file == "-":
        print(summary.as_json())
    elif file is not None:
        Path(file).write_text(summary.as_json() + "\n")


def _tell_error(error: dict[str, str]) -> None:
    print(f"ERROR:  {error['sqlstate']}: {error['message']}", file=sys.stderr)
    for name in ("detail", "hint", "where"):
        if name in error:
            print(f"{name.upper()}:  {error[name]}", file=sys.stderr)
