"""The command line: exit codes, and words instead of stack traces."""

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import shardproxy
from shardproxy import cli
from shardproxy.errors import PgError, ShardproxyError


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "shardproxy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"shardproxy {shardproxy.__version__}\n")


def test_help_imports_no_command() -> None:
    script = (
        "import sys, shardproxy.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('pglast', 'asyncpg', 'pydantic', 'uvloop') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")
    for command in cli.COMMANDS:
        assert f"    {command.name} " in result.stdout


def test_a_load_imports_what_it_needs() -> None:
    """It may take a second, of which each of these would be a part."""
    script = (
        "import sys, shardproxy.loader.command\n"
        "rare = ('asyncpg', 'prometheus_client', 'pyarrow', 'rich', 'fsspec', 'uvloop', 'http')\n"
        "print([name for name in rare if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """argparse formats every help text with %, so a percent sign in one would end all of them."""
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: shardproxy {command}")


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["demo", "--shards", "0"], ["demo", "--port", "65536"], ["demo", "--rows", "many"]],
)
def test_usage_errors_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: shardproxy")


def test_what_is_no_number_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--rows", "many"])
    assert "argument --rows: 'many' is not a whole number" in capsys.readouterr().err


def fail_with(error: BaseException) -> Callable[[ModuleType, object], int]:
    def fail(_module: ModuleType, _arguments: object) -> int:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ShardproxyError("no such thing"), 1, "shardproxy: no such thing\n"),
        (PgError("42P01", "no table"), 1, "shardproxy: ERROR:  42P01: no table\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "shardproxy: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_are_words(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = cli.Command("broken", "shardproxy.errors", "fails", lambda parser: None, fail_with(error))
    monkeypatch.setattr(cli, "COMMANDS", (broken,))
    assert cli.main(["broken"]) == code
    assert capsys.readouterr().err == said


def test_a_fault_of_our_own_says_so_and_shows_more_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = cli.Command("broken", "shardproxy.errors", "fails", lambda p: None, fail_with(TypeError("odd")))
    monkeypatch.setattr(cli, "COMMANDS", (broken,))
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    assert cli.main(["broken"]) == 1
    said = capsys.readouterr().err
    assert "TypeError: odd" in said
    assert "Traceback" not in said
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(TypeError):
        cli.main(["broken"])
