"""The `shardproxy` command: reads the arguments, runs one command, and reports failures.

Exit codes: 0 done; 1 the work failed; 2 usage or configuration; 3 a load has set rows aside; 4 it has failed in part.

A command's module is imported when the command is given, so that none pays for another's imports. What a module must
define is written in COMMANDS.
"""

import argparse
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import shardproxy
from shardproxy.errors import PgError, ShardproxyError

FAILED = 1
USAGE = 2

DEBUG_VARIABLE = "SHARDPROXY_DEBUG"
"""If set, unexpected errors are shown with their traceback."""


@dataclass(frozen=True)
class Command:
    """One subcommand: `run` calls its module's `run` and returns the exit code."""

    name: str
    module: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Any, argparse.Namespace], int]


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration")


def _check(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--fix", action="store_true", help="create the proxy's own tables on the shards")
    parser.add_argument(
        "--renumber",
        action="store_true",
        help="write this file's order of the shards to them, in place of the one they have",
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=_positive, default=4, metavar="N", help="number of shards (default: 4)")
    parser.add_argument(
        "--rows", type=_positive, default=1_000_000, metavar="N", help="rows to load (default: 1000000)"
    )
    parser.add_argument(
        "--port", type=_port, default=6432, help="port of the proxy; 0 takes a free one (default: 6432)"
    )
    parser.add_argument("--once", action="store_true", help="exit after the load instead of serving")


def _explain(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--database", metavar="NAME", help="the database, if the file has several")
    parser.add_argument("sql", metavar="SQL", help="the statement")


def _load(parser: argparse.ArgumentParser) -> None:
    importlib.import_module("shardproxy.loader.command").add_arguments(parser)


COMMANDS = (
    # run(shards: int, rows: int, port: int, once: bool) -> int
    Command(
        "demo",
        "shardproxy.demo",
        "try it: embedded PostgreSQL shards, the proxy, a million rows",
        _demo,
        lambda module, args: module.run(args.shards, args.rows, args.port, once=args.once),
    ),
    # run(config: Path) -> int
    Command(
        "serve",
        "shardproxy.server.main",
        "run the proxy",
        _config,
        lambda module, args: module.run(args.config),
    ),
    # run(config: Path, *, fix: bool, renumber: bool) -> int
    Command(
        "check",
        "shardproxy.server.check",
        "report every error of a configuration and of its shards",
        _check,
        lambda module, args: module.run(args.config, fix=args.fix, renumber=args.renumber),
    ),
    # run(config: Path, sql: str, database: str | None) -> int
    Command(
        "explain",
        "shardproxy.server.explain",
        "show where a statement would go, and why",
        _explain,
        lambda module, args: module.run(args.config, args.sql, args.database),
    ),
    # run(config: Path) -> int
    Command(
        "recover",
        "shardproxy.transaction.recover",
        "resolve transactions in doubt now",
        _config,
        lambda module, args: module.run(args.config),
    ),
    # add_arguments(parser) and run(arguments: Namespace) -> int
    Command(
        "load",
        "shardproxy.loader.command",
        "load data in bulk",
        _load,
        lambda module, args: module.run(args),
    ),
)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _port(text: str) -> int:
    number = _whole(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return number


def parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser of all commands, with the arguments of the one that is given."""
    top = argparse.ArgumentParser(
        prog="shardproxy",
        description="Many PostgreSQL servers behind one address.",
        epilog="exit codes: 0 success; 1 failure; 2 usage or configuration error; 3 some rows were set aside; "
        "4 a part was committed",
    )
    top.add_argument("--version", action="version", version=f"shardproxy {shardproxy.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.name in given:
            command.arguments(sub)
        sub.set_defaults(chosen=command)
    return top


def _exit_code(error: ShardproxyError) -> int:
    # Only a command that reads a configuration has imported the module; the others need not.
    config: ModuleType | None = sys.modules.get("shardproxy.config")
    return USAGE if config is not None and isinstance(error, config.ConfigErrors) else FAILED


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing of what is imported is garbage, and to look for some takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; argparse itself exits on usage errors (2) and --help."""
    given = sys.argv[1:] if argv is None else list(argv)
    with _uncollected():
        arguments = parser(given).parse_args(given)
    command: Command = arguments.chosen
    try:
        with _uncollected():
            module = importlib.import_module(command.module)
        return command.run(module, arguments)
    except KeyboardInterrupt:
        return 128 + 2  # as a shell reports SIGINT
    except BrokenPipeError:
        # The reader of our output has exited (`| head`); the interpreter must not try to flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ShardproxyError as error:
        print(f"shardproxy: {error}", file=sys.stderr)
        if isinstance(error, PgError):
            for label, text in (("DETAIL", error.detail), ("HINT", error.hint)):
                if text:
                    print(f"{label}:  {text}", file=sys.stderr)
        return _exit_code(error)
    except OSError as error:
        print(f"shardproxy: {error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(
            f"shardproxy: {type(error).__name__}: {error}\n"
            f"This is a bug in shardproxy; set {DEBUG_VARIABLE}=1 to see the traceback.",
            file=sys.stderr,
        )
        return FAILED
