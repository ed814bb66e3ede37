"""The database that a load goes to: one of a configuration, or one that is made of a DSN."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

from shardproxy.config import Config, load
from shardproxy.config import Database as DatabaseConfig
from shardproxy.config.dsn import DsnError, parse_dsn
from shardproxy.config.environment import UnresolvedError
from shardproxy.config.model import Load, Shard
from shardproxy.errors import PgError
from shardproxy.loader.options import LoadOptions
from shardproxy.session.database import Database
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

SERVER: Final = "server"
"""What errors call the one server of a DSN."""


@contextlib.asynccontextmanager
async def opened(config: DatabaseConfig, options: LoadOptions) -> AsyncIterator[Database]:
    """Make the database that `target_of` has found, and make it ready. Raises PgError."""
    database = Database(config)
    if options.config is not None:
        await database.start()  # which looks whether the shards are what the configuration means
    try:
        yield database
    finally:
        await database.close()


def target_of(options: LoadOptions) -> DatabaseConfig:
    """Find the database. Raises PgError for a DSN that is wrong, ConfigErrors for a configuration."""
    if options.config is None:
        return _load(_alone(options.to or ""), options)
    return _load(_chosen(load(options.config), options.database), options)


def _load(config: DatabaseConfig, options: LoadOptions) -> DatabaseConfig:
    """COPY sets every bad row aside: what becomes of it is the loader's business."""
    load = Load(on_error="resume_next", batch_rows=options.batch_rows, batch_size=options.batch_size)
    return config.model_copy(update={"load": load})


def _alone(dsn: str) -> DatabaseConfig:
    try:
        found = parse_dsn(dsn, os.environ)
    except (DsnError, UnresolvedError) as error:
        raise PgError(INVALID_PARAMETER_VALUE, str(error), hint=error.remedy or None) from None
    return DatabaseConfig.model_construct(
        name=found.database,
        commit="one-phase",
        unlisted_tables=SERVER,
        shards=(Shard.model_construct(name=SERVER, dsn=found),),
    )


def _chosen(config: Config, name: str | None) -> DatabaseConfig:
    names = [one.name for one in config.databases]
    if name is None and len(names) == 1:
        return config.databases[0]
    for one in config.databases:
        if one.name == name:
            return one
    message = "several databases" if name is None else f'no database "{name}"'
    hint = f"Give one as `database`: {', '.join(names)}."
    raise PgError(INVALID_PARAMETER_VALUE, f"the configuration has {message}", hint=hint)
