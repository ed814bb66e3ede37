"""Whatever way a client's bytes are cut, it reads the same: through the lane, the coroutine, or one after the other."""

import asyncio

import pytest

from shardproxy.wire.constants import F
from tests.support.messages import (
    BOUND,
    CLOSED,
    PARSED,
    SYNC,
    Said,
    bind,
    close,
    columns,
    complete,
    describe,
    error,
    execute,
    joined,
    parse,
    query,
    ready,
    row,
)
from tests.support.playbook import AT, Client, FakeShard, Playbook, settle

BY_KEY = "SELECT v FROM t WHERE id = $1"
KEY_0, KEY_1 = AT
TAIL = describe("P"), execute(), SYNC
BAD = "bad"
"""A value that the shards below refuse."""


class Server:
    """What PostgreSQL answers to a few messages, at once."""

    def __init__(self, shard: FakeShard) -> None:
        self._shard = shard
        self._status = "I"
        self._skipping = False
        self._begins = False

    def answer(self, message: Said) -> None:
        kind, payload = message.data[0], message.data[5:]
        if self._skipping and kind != F.SYNC:
            return
        said: list[Said] = []
        if kind == F.QUERY:
            said = [*self._query(payload[:-1].decode()), ready(self._status)]
        elif kind == F.SYNC:
            self._skipping = False
            said = [ready(self._status)]
        elif BAD.encode() in payload:
            said = self._fails()
            self._skipping = True
        else:
            rows: tuple[Said, ...] = row("x"), complete("SELECT 1")
            if kind == F.BIND:
                self._begins = b"shardproxy_begin" in payload
            elif kind == F.EXECUTE and self._begins:
                self._status, rows = "T", (complete("BEGIN"),)
            said = list(
                {
                    F.PARSE: (PARSED,),
                    F.BIND: (BOUND,),
                    F.DESCRIBE: (columns("v"),),
                    F.EXECUTE: rows,
                    F.CLOSE: (CLOSED,),
                }.get(kind, ())
            )
        if said:
            asyncio.get_running_loop().call_soon(self._shard.wire.send, joined(said))

    def _fails(self) -> list[Said]:
        self._status = "E" if self._status != "I" else "I"
        return [error("22P02")]

    def _query(self, sql: str) -> list[Said]:
        if sql in {"COMMIT", "ROLLBACK"}:
            self._status = "I"
            return [complete(sql)]
        if sql == "BEGIN":
            self._status = "T"
            return [complete("BEGIN")]
        if sql.startswith("SET"):
            return [complete("SET CONSTRAINTS")]
        if BAD in sql:
            return self._fails()
        return [columns("v"), row("x"), complete("SELECT 1")]


def text(key: str, value: str = "x") -> Said:
    return query(f"SELECT v FROM t WHERE id = {key} AND v = '{value}'")


SCRIPTS = {
    "prepared": [bind("", "a", KEY_0), *TAIL, bind("", "a", KEY_1), *TAIL],
    "unnamed": [parse("", BY_KEY), bind("", "", KEY_1), *TAIL, parse("", BY_KEY), bind("", "", KEY_0), *TAIL],
    "simple": [text(KEY_0), text(KEY_1), query("SELECT v FROM t"), text(KEY_0)],
    "an error of its own": [bind("", "a", KEY_0), *TAIL, text(KEY_1, BAD), bind("", "a", KEY_1), *TAIL, text(KEY_0)],
    "a batch": [bind("", "a", KEY_0), *TAIL[:2], bind("", "a", KEY_1), *TAIL[:2], bind("", "a", KEY_0), *TAIL],
    "a failing transaction": [
        query("BEGIN"), bind("", "a", KEY_0), *TAIL, text(KEY_1, BAD), text(KEY_0), bind("", "a", KEY_0), *TAIL[:2],
        bind("", "a", KEY_1), *TAIL, query("ROLLBACK"), text(KEY_0),
    ],
    "closed in between": [
        bind("", "a", KEY_0), *TAIL, close("S", "b"), SYNC, parse("b", BY_KEY), SYNC, text(KEY_1),
    ],
    "a value that Bind refuses": [bind("", "a", KEY_0), *TAIL, bind("", "b", BAD), *TAIL, bind("", "a", KEY_1), *TAIL],
}  # fmt: skip


async def warm(playbook: Playbook) -> Client:
    client, *shards = await playbook.session()
    for shard in shards:
        shard.on_message = Server(shard).answer
    await client.sends(parse("a", BY_KEY), SYNC, parse("b", BY_KEY), SYNC)
    for key in AT:
        await client.sends(bind("", "a", key), *TAIL, text(key), parse("", BY_KEY), bind("", "", key), *TAIL)
        await settle()
    await settle()
    client.inbox.clear()
    return client


async def read(client: Client) -> list[Said]:
    for _ in range(5):
        await settle()
    inbox, client.inbox = client.inbox, []
    return inbox


@pytest.mark.parametrize("name", SCRIPTS)
async def test_every_cut(playbook: Playbook, name: str) -> None:
    client = await warm(playbook)
    script = SCRIPTS[name]
    sent = joined(script)
    await client.sends_bytes(sent)
    expected = await read(client)
    assert expected.count(ready("I")) + expected.count(ready("T")) + expected.count(ready("E")) == sum(
        message.data[0] in b"QS" for message in script
    )
    for cut in range(1, len(sent)):
        await client.sends_bytes(sent, cut)
        assert await read(client) == expected, f"cut at {cut}"
    client.cut = 1
    await client.sends_bytes(sent)
    assert await read(client) == expected
    client.cut = None
