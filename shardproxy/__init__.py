"""shardproxy: COPY and applications over many PostgreSQL servers through one address."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from shardproxy.loader import load
    from shardproxy.rows import AsyncRows, RowsIO, RowsTextIO

__all__ = ["AsyncRows", "RowsIO", "RowsTextIO", "__version__", "load"]

_HOMES = {
    "AsyncRows": "shardproxy.rows",
    "RowsIO": "shardproxy.rows",
    "RowsTextIO": "shardproxy.rows",
    "load": "shardproxy.loader",
}
"""What is imported when it is first asked for: all of the package is imported through this module."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(home), name)
    globals()[name] = found
    return found
