"""The configuration file: TOML, validated as a whole, every error at once.

Driven by `load(path)`, which returns a frozen `Config` or raises `ConfigErrors`. docs/configuration.md describes
the file.
"""

from shardproxy.config.dsn import Dsn
from shardproxy.config.load import load, parse, read
from shardproxy.config.model import (
    Admin,
    Config,
    Database,
    ListValues,
    RangeBounds,
    Server,
    Shard,
    Table,
    User,
    is_loopback,
)
from shardproxy.config.problems import ConfigErrors, Problem
from shardproxy.config.values import Edge

__all__ = [
    "Admin",
    "Config",
    "ConfigErrors",
    "Database",
    "Dsn",
    "Edge",
    "ListValues",
    "Problem",
    "RangeBounds",
    "Server",
    "Shard",
    "Table",
    "User",
    "is_loopback",
    "load",
    "parse",
    "read",
]
