"""The settings `shardproxy.NAME` of a session, which take the place of the configuration's."""

from collections.abc import Sequence
from typing import Final

from shardproxy.config.model import LONGEST_ROW, Load
from shardproxy.config.problems import did_you_mean
from shardproxy.errors import PgError
from shardproxy.rejects.limits import RejectLimit
from shardproxy.sql import Set, Statement
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

PREFIX: Final = "shardproxy."

NAMES: Final = ("on_error", "reject_limit", "batch_rows", "batch_size", "max_row_bytes")
"""Those of COPY, each after the prefix."""

ASKED: Final = "SELECT " + ", ".join(f"pg_catalog.current_setting('{PREFIX}{name}', true)" for name in NAMES)

_MOST: Final = {"batch_rows": 2**63 - 1, "batch_size": 2**63 - 1, "max_row_bytes": LONGEST_ROW}
"""The largest numbers."""

_HINTS: Final = {
    "on_error": "Available values: stop, resume_next.",
    "reject_limit": "A number of rows, such as 1000, or a percentage, such as 5%.",
    "batch_rows": "A number of rows from 1 on.",
    "batch_size": "A number of bytes from 1 on.",
    "max_row_bytes": f"A number of bytes from 1 to {LONGEST_ROW}.",
}


def is_setting(name: str) -> bool:
    """Whether a setting of the session's is one of the proxy's."""
    return name.lower().startswith(PREFIX)


def check_set(statement: Statement) -> None:
    """Raise 22023 for a SET of a setting that there is not, or to a value that it does not take."""
    if not isinstance(statement, Set) or not is_setting(statement.name):
        return
    name = statement.name[len(PREFIX) :].lower()
    if name not in NAMES:
        raise PgError(
            INVALID_PARAMETER_VALUE,
            f'unrecognized configuration parameter "{statement.name}"',
            hint=did_you_mean(f"{PREFIX}{name}", [f"{PREFIX}{one}" for one in NAMES]),
        )
    if statement.values is not None:
        _check(name, ", ".join(statement.values))


def settled(load: Load, values: Sequence[bytes | None]) -> Load:
    """Return what holds for a COPY, given the session's values in the order of NAMES."""
    given = {name: value.decode("utf-8", "replace") for name, value in zip(NAMES, values, strict=True) if value}
    for name, value in given.items():
        _check(name, value)
    return load.model_copy(update={name: int(value) if name in _MOST else value for name, value in given.items()})


def _check(name: str, value: str) -> None:
    if not _valid(name, value):
        raise PgError(
            INVALID_PARAMETER_VALUE,
            f'invalid value for parameter "{PREFIX}{name}": "{value}"',
            hint=_HINTS[name],
        )


def _valid(name: str, value: str) -> bool:
    if name == "on_error":
        return value in {"stop", "resume_next"}
    if name in _MOST:
        return value.isascii() and value.isdigit() and len(value) < 20 and 0 < int(value) <= _MOST[name]
    try:
        RejectLimit.parse(value)
    except ValueError:
        return False
    return True
