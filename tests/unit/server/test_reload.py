"""What a reload refuses, since [server] stays as it was at the start."""

import asyncio
from pathlib import Path

import pytest

from shardproxy.config import ConfigErrors, Server
from shardproxy.server import main

CONFIG = """
[server]
listen = "127.0.0.1:6432"
[[databases]]
name = "shop"
shards = [{ name = "s0", dsn = "postgresql://u@127.0.0.1:1/d" }]
"""


def test_no_users_while_strangers_can_connect(tmp_path: Path) -> None:
    """The file is right by itself, but its `listen` is not yet what is listened on."""
    path = tmp_path / "shop.toml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigErrors) as error:
        asyncio.run(main.examined(path, Server(listen="0.0.0.0:6432")))
    [problem] = error.value.problems
    assert problem.path == "users"
    assert "listens on 0.0.0.0:6432 until the next start" in problem.message
    assert problem.remedy
