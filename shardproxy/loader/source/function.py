"""Any DB-API driver: `python:module:function`, a function without arguments that returns a connection or a cursor.

def rows():                       # in shop.py, beside which `--source python:shop:rows` is called
    return oracledb.connect(…)    # and --query names the rows; or a cursor that has run its query
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from shardproxy.loader.input.errors import InputError
from shardproxy.loader.source.batch import ROWS, Result, Row
from shardproxy.loader.source.values import column as convert
from shardproxy.sqlstate import EXTERNAL_ROUTINE_EXCEPTION, INVALID_PARAMETER_VALUE

__all__ = ["convert", "read"]


def read(address: str, query: str | None) -> Result:
    """Call the function, and run the query if it gives a connection. Raises InputError."""
    made = _made(address)
    cursor = made if hasattr(made, "fetchmany") else None
    if cursor is None and not hasattr(made, "cursor"):
        message = f"{address} returns {type(made).__qualname__}, which is no DB-API connection or cursor"
        raise InputError(INVALID_PARAMETER_VALUE, message, file=address)
    if cursor is None and query is None:
        raise InputError(INVALID_PARAMETER_VALUE, f"{address} returns a connection: it needs a query", file=address)
    try:
        if cursor is None:
            cursor = made.cursor()
        if query is not None:
            cursor.execute(query)
        names = [str(one[0]) for one in cursor.description or ()]
    except Exception as error:  # a driver has errors of its own
        made.close()
        raise _refused(address, error) from error
    return Result(names, _batches(cursor, address), made.close)


def _made(address: str) -> Any:
    _, _, target = address.partition(":")
    module, _, function = target.partition(":")
    if not module or not function:
        raise InputError(INVALID_PARAMETER_VALUE, f'"{address}" is not python:MODULE:FUNCTION', file=address)
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for name in function.split("."):
            found = getattr(found, name)
        return found()
    except Exception as error:  # whatever the function of the user raises
        raise _refused(address, error) from error


def _batches(cursor: Any, address: str) -> Iterator[Sequence[Row]]:
    while True:
        try:
            rows = cursor.fetchmany(ROWS)
        except Exception as error:  # a driver has errors of its own
            raise _refused(address, error) from error
        if not rows:
            return
        yield [row if type(row) is tuple else tuple(row.values() if isinstance(row, dict) else row) for row in rows]


def _refused(address: str, error: Exception) -> InputError:
    return InputError(EXTERNAL_ROUTINE_EXCEPTION, f"{type(error).__qualname__}: {error}", file=address)
