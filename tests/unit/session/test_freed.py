"""What a session holds of its client's data is let go when it ends, not when the garbage collector comes by."""

import gc
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from shardproxy.routing import ParamValue
from shardproxy.session.executed import UNREADABLE
from shardproxy.session.pieces import Reading
from shardproxy.session.portals import Portal
from shardproxy.wire.decode import Bind
from tests.support.messages import BOUND, PARSED, SUSPENDED, SYNC, bind, complete, execute, parse, query, ready, row
from tests.support.playbook import Playbook, settle
from tests.unit.session import test_extended
from tests.unit.session.test_extended import BY_KEY, KEY_0

TRANSCRIPTS: dict[str, Callable[[Playbook], Awaitable[None]]] = {
    name: transcript
    for name, transcript in vars(test_extended).items()
    if name.startswith("test_") and list(inspect.signature(transcript).parameters) == ["playbook"]
}


def held() -> list[object]:
    kinds = Portal | Bind | Reading | ParamValue
    return [one for one in gc.get_objects() if isinstance(one, kinds) and one is not UNREADABLE]


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Other tests' modules have values of these kinds, too: what there is before is frozen, and not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
        assert held() == []
    finally:
        gc.enable()


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
async def test_portals_are_freed_at_the_end(
    playbook: Playbook, transcript: Callable[[Playbook], Awaitable[None]]
) -> None:
    """Parameters may be a gigabyte each, and the collector comes by when objects are many, not when they are large."""
    with nothing_is_left():
        await transcript(playbook)
        await playbook.end()


async def suspended(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(query("BEGIN"))
    await client.gets(complete("BEGIN"), ready("T"))
    await client.sends(parse("", BY_KEY), bind("", "", KEY_0), execute(limit=1), SYNC)
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    await settle()
    assert s0.inbox
    s0.inbox.clear()
    await s0.sends(PARSED, BOUND, row("a"), SUSPENDED, ready("T"))
    await client.gets(PARSED, BOUND, row("a"), SUSPENDED, ready("T"))


async def waiting(playbook: Playbook) -> None:
    client, _, _ = await playbook.session()
    await client.sends(parse("", BY_KEY), bind("", "", KEY_0))


async def named(playbook: Playbook) -> None:
    client, s0, _ = await playbook.session()
    await client.sends(query("BEGIN"), parse("", BY_KEY), bind("p", "", KEY_0), SYNC)
    await s0.gets(query("BEGIN"))
    await s0.sends(complete("BEGIN"), ready("T"))
    await settle()
    s0.inbox.clear()
    await s0.sends(PARSED, BOUND, ready("T"))
    await client.gets(complete("BEGIN"), ready("T"), PARSED, BOUND, ready("T"))


@pytest.mark.parametrize("begin", [suspended, waiting, named])
async def test_a_client_that_leaves_inside_a_transaction_leaves_no_portal(
    playbook: Playbook, begin: Callable[[Playbook], Awaitable[None]]
) -> None:
    with nothing_is_left():
        await begin(playbook)
        await playbook.end()
