"""Who waits for whom on all shards together, and the cycles in it. No I/O.

A server knows its own backends only. What makes a cycle over servers visible is that several backends are one
session's: a `Party`. A cycle goes from a wait to what blocks it, and from there on by any backend of the same party.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Backend(NamedTuple):
    """A server process of a shard."""

    shard: int
    pid: int


class Wait(NamedTuple):
    """One backend waits for a lock that another holds, or has asked for before.

    `lock` is in PostgreSQL's words, `since` tells this wait from the backend's next one for the same lock.
    """

    waiter: Backend
    blocker: Backend
    lock: str
    since: str


@dataclass(frozen=True, slots=True)
class Party:
    """One session's backends; its transaction began at `born`, in milliseconds modulo 2**32."""

    number: int
    born: int
    parts: frozenset[Backend]


def cycle_of(party: Party, waits: Iterable[Wait], parties: Iterable[Party]) -> tuple[Wait, ...]:
    """Return a shortest cycle of waits that begins with one of this party's; empty if there is none.

    A cycle within one shard is that server's own to find, and is not returned.
    """
    number_of = {part: one.number for one in parties for part in one.parts}
    leaving: dict[Backend | int, list[Wait]] = {}
    for wait in waits:
        leaving.setdefault(number_of.get(wait.waiter, wait.waiter), []).append(wait)
    paths: deque[tuple[Wait, ...]] = deque((wait,) for wait in leaving.get(party.number, ()))
    reached: set[Backend | int] = set()
    while paths:
        path = paths.popleft()
        at = number_of.get(path[-1].blocker, path[-1].blocker)
        if at == party.number:
            if len({wait.waiter.shard for wait in path}) > 1:
                return path
            continue
        if at not in reached:
            reached.add(at)
            paths.extend((*path, wait) for wait in leaving.get(at, ()))
    return ()


def victim_of(cycle: Iterable[Wait], parties: Iterable[Party]) -> Party:
    """Return the youngest party of a cycle over shards: every proxy that sees the cycle names the same."""
    waiters = {wait.waiter for wait in cycle}
    return max((one for one in parties if one.parts & waiters), key=lambda one: (one.born, one.number))


def detail_of(cycle: Iterable[Wait], names: Sequence[str]) -> str:
    """Return DETAIL as PostgreSQL's detector words it; `names` are the shards'."""
    return "\n".join(
        f'Process {wait.waiter.pid} of shard "{names[wait.waiter.shard]}" waits for {wait.lock}; '
        f"blocked by process {wait.blocker.pid}."
        for wait in cycle
    )


def lock_words(lock: Mapping[str, object]) -> str:
    """Return how PostgreSQL words a row of pg_locks (DescribeLockTag in lmgr.c)."""
    match lock["locktype"]:
        case "relation":
            what = "relation {relation} of database {database}"
        case "extend":
            what = "extension of relation {relation} of database {database}"
        case "page":
            what = "page {page} of relation {relation} of database {database}"
        case "tuple":
            what = "tuple ({page},{tuple}) of relation {relation} of database {database}"
        case "transactionid":
            what = "transaction {transactionid}"
        case "virtualxid":
            what = "virtual transaction {virtualxid}"
        case "object":
            what = "object {objid} of class {classid} of database {database}"
        case "advisory":
            what = "advisory lock [{database},{classid},{objid},{objsubid}]"
        case other:
            what = f"{other} lock"
    return f"{lock['mode']} on {what.format_map(lock)}"
