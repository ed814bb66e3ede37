"""A load file: the options of `shardproxy load` in TOML, for one load or for several.

to = "postgresql://app@db/shop"      # what stands here holds for all
workers = 2                          # loads at once
[[load]]
table = "orders"
files = ["orders-*.csv.gz"]
[[load]]
table = "customers"
files = ["customers.csv"]
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.loader.options import LoadOptions, options_of
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INVALID_PARAMETER_VALUE, IO_ERROR

LOADS: Final = "load"
WORKERS: Final = "workers"


def read_loads(path: Path | None, given: Mapping[str, Any]) -> tuple[list[LoadOptions], int]:
    """Return the loads of a file, or the one that is given, and how many run at once.

    `given` takes the place of what the file has. Raises PgError that names the file and the load.
    """
    common: dict[str, Any] = {} if path is None else _read(path)
    given = dict(given)
    workers = given.pop(WORKERS, common.pop(WORKERS, 1))
    if not isinstance(workers, int) or workers < 1:
        raise PgError(INVALID_PARAMETER_VALUE, "workers is a number of loads, from 1 on")
    entries = common.pop(LOADS, [{}])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PgError(INVALID_PARAMETER_VALUE, f"{path}: `{LOADS}` is an array of tables: [[{LOADS}]]")
    loads = []
    for number, entry in enumerate(entries, 1):
        try:
            loads.append(options_of({**common, **entry, **given}))
        except PgError as error:
            if path is not None:
                where = f"{path}, load {number}" if len(entries) > 1 else str(path)
                raise PgError(error.sqlstate, f"{where}: {error.message}", hint=error.hint) from None
            raise
    return loads, workers


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PgError(IO_ERROR, f'could not read "{path}": {error.strerror}') from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PgError(INVALID_PARAMETER_VALUE, f"{path}: {error}") from None


def write_loads(path: Path, given: Mapping[str, Any]) -> None:
    """Write options as a load file, if they are right. Raises PgError."""
    options_of({name: value for name, value in given.items() if name != WORKERS})
    try:
        import tomli_w
    except ImportError:
        hint = "Install it by: pip install 'shardproxy[load]'"
        raise PgError(FEATURE_NOT_SUPPORTED, "writing a load file needs the package tomli-w", hint=hint) from None
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    try:
        path.write_text(tomli_w.dumps(plain), encoding="utf-8")
    except OSError as error:
        raise PgError(IO_ERROR, f'could not write "{path}": {error.strerror}') from None
