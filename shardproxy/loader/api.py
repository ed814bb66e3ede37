"""`await shardproxy.load(...)`: a load from Python."""

from pathlib import Path
from typing import Any

from shardproxy.loader.options import options_of
from shardproxy.loader.run import Load, OnReject
from shardproxy.loader.summary import Summary


async def load(*files: str | Path, on_reject: OnReject | None = None, **options: Any) -> Summary:
    """Load files as `shardproxy load` does, with its options by their names (docs/load.md), and return the summary.

    `on_reject` is called with each row that is set aside, beside the files of rejects; nothing is committed yet, and
    what it raises ends the load. Raises PgError (22023) for options that are wrong, ConfigErrors for a configuration;
    what a load fails with is in `summary.error`.
    """
    return await Load(options_of({"files": tuple(map(str, files)), **options}), on_reject).run()
