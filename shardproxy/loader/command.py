"""`shardproxy load`: the command line over `options`, progress while it runs, and the summary at its end."""

import argparse
import contextlib
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from shardproxy.errors import PgError
from shardproxy.loader import interrupt
from shardproxy.loader.file import WORKERS, read_loads, write_loads
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.progress import Kind, shown
from shardproxy.loader.repair import repair, tell
from shardproxy.loader.run import Load
from shardproxy.loader.several import Loads
from shardproxy.loader.summary import ASIDE, FAILED, INTERRUPTED, STORED, Summary
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an argument for each option of a load."""
    parser.add_argument("files", nargs="*", metavar="FILE", help=_help(LoadOptions.model_fields["files"]))
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the proxy's configuration")
    parser.add_argument("--repair", action="store_true", help="make the indexes that a killed load has left dropped")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a load file (TOML); options here take its place")
    parser.add_argument("--write-file", type=Path, metavar="FILE", help="write these options as a load file, and end")
    parser.add_argument("--workers", type=int, metavar="N", help="loads of a load file at once (default: 1)")
    parser.add_argument("--summary", metavar="FILE", help="write the summary as JSON; - for standard output")
    kinds = get_args(Kind)
    parser.add_argument("--progress", choices=kinds, default="auto", help="a bar on a terminal, else lines")
    for name, field in LoadOptions.model_fields.items():
        if name not in {"files", "config"}:
            _add(parser, name, field)


def _add(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    flag, kind = "--" + name.replace("_", "-"), _plain(field.annotation)
    given: dict[str, Any] = {"dest": name, "default": None, "help": _help(field)}
    origin, arguments = get_origin(kind), get_args(kind)
    if name == "header":
        # A flag by itself: what follows it is most often a file.
        parser.add_argument(
            flag, dest=name, action="store_const", const="names", help="the first row names the columns"
        )
        parser.add_argument("--header-skip", dest=name, action="store_const", const="skip", help="it is skipped")
        match = "it must be the names of the columns in their order"
        parser.add_argument("--header-match", dest=name, action="store_const", const="match", help=match)
        return
    if kind is bool:
        given["action"] = argparse.BooleanOptionalAction
    elif origin is Literal:
        given["choices"] = arguments
    elif origin is tuple:
        given |= {"action": "append", "type": arguments[0], "metavar": name.upper()}
    elif origin is dict:
        given |= {"action": "append", "type": _pair, "metavar": "NAME=VALUE"}
    else:
        given |= {"type": kind, "metavar": name.upper()}
    parser.add_argument(flag, **given)


def _help(field: FieldInfo) -> str:
    """What argparse shows, which has the % of its own."""
    return (field.description or "").replace("%", "%%")


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


def given_by(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a command line has."""
    given: dict[str, Any] = {}
    for name in (*LoadOptions.model_fields, WORKERS):
        value = getattr(arguments, name)
        if name in {"files"} and not value:
            value = None
        if value is not None:
            given[name] = dict(value) if name in _DICTIONARIES else value
    return given


_DICTIONARIES = {
    name for name, field in LoadOptions.model_fields.items() if get_origin(_plain(field.annotation)) is dict
}


def run(arguments: argparse.Namespace) -> int:
    """Load; return the exit code."""
    given = given_by(arguments)
    if arguments.repair:
        return _repair(given)
    try:
        if arguments.write_file is not None:
            write_loads(arguments.write_file, given)
            return STORED
        options, workers = read_loads(arguments.file, given)
        loads = [Load(one) for one in options]
    except PgError as error:
        print(f"shardproxy load: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"HINT:  {error.hint}", file=sys.stderr)
        return USAGE
    try:
        done = interrupt.run(_run(loads, workers, arguments.progress))
    except (interrupt.SignalError, KeyboardInterrupt) as error:
        for load in loads:
            print(f"interrupted: {load.summary.interrupted()}", file=sys.stderr)
        return error.exit_code if isinstance(error, interrupt.SignalError) else INTERRUPTED
    for load in loads:
        _tell(load.summary)
    if arguments.summary == "-":
        print(done.as_json())
    elif arguments.summary is not None:
        Path(arguments.summary).write_text(done.as_json() + "\n")
    return done.exit_code


def _repair(given: dict[str, Any]) -> int:
    taken = {"to": "to", "config": "config", "database": "database", "max_parallel_create_index": "parallel"}
    try:
        if wrong := given.keys() - taken.keys():
            raise PgError(INVALID_PARAMETER_VALUE, f"--repair takes no {sorted(wrong)[0]}")
        found = interrupt.run(repair(**{taken[name]: value for name, value in given.items()}))
    except PgError as error:
        _tell_error({"sqlstate": error.sqlstate, "message": error.message, "hint": error.hint or ""})
        return USAGE if error.sqlstate == INVALID_PARAMETER_VALUE else FAILED
    except interrupt.SignalError as error:
        print("interrupted: what is not made again is in the journal still", file=sys.stderr)
        return error.exit_code
    tell(found)
    return ASIDE if any(one.failed for one in found) else STORED


async def _run(loads: list[Load], workers: int, progress: Kind) -> Loads:
    done = Loads(loads, workers)
    async with contextlib.AsyncExitStack() as stack:
        for load in loads:
            await stack.enter_async_context(shown(load.stage, progress, sys.stderr))
        await done.run()
    return done


def _tell(summary: Summary) -> None:
    if summary.error is not None:
        _tell_error(summary.error)
    print(summary.text(), file=sys.stderr)


def _tell_error(error: dict[str, str]) -> None:
    print(f"ERROR:  {error['sqlstate']}: {error['message']}", file=sys.stderr)
    for name in ("detail", "hint", "where"):
        if error.get(name):
            print(f"{name.upper()}:  {error[name]}", file=sys.stderr)
