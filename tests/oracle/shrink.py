"""From a case that differs to a short one: steps are left out, then parts of the last statement."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

from pglast import parse_sql
from pglast.ast import Node
from pglast.parser import ParseError
from pglast.stream import RawStream

from tests.oracle.arena import Arena, DifferenceError
from tests.oracle.case import Case, Step
from tests.oracle.sequences import Pipeline, Sequences

ATTEMPTS = 250  # of a statement

T = TypeVar("T")


def shrink(arena: Arena, case: Case, difference: DifferenceError) -> tuple[list[Step], DifferenceError]:
    """Leave out what a difference of this kind does not need."""
    return _Shrinker(arena, list(case), difference).shrink()


class _Shrinker:
    def __init__(self, arena: Arena, case: list[Step], difference: DifferenceError) -> None:
        self._arena = arena
        self._kind = difference.kind
        self.best, self.why = case, difference

    def shrink(self) -> tuple[list[Step], DifferenceError]:
        self._steps()
        for _ in range(ATTEMPTS):
            if not any(self._try([*self.best[:-1], step]) for step in _simpler(self.best[-1])):
                break
        self._steps()
        return self.best, self.why

    def _steps(self) -> None:
        for shorter in shortened(lambda: self.best):
            self._try(shorter)

    def _try(self, case: Case) -> bool:
        try:
            self._arena.run(case)
        except DifferenceError as found:
            if found.kind != self._kind:
                return False
            self.best, self.why = list(case[: found.number + 1]), found
            return True
        return False


def shortened(best: Callable[[], list[T]]) -> Iterator[list[T]]:
    """What `best` returns, without some of it; one that differs in the same way becomes what `best` returns."""
    size = max(len(best()) // 2, 1)
    while size:
        at = 0
        while at < len(best()):
            before = best()
            yield before[:at] + before[at + size :]
            if best() is before:
                at += size
        size //= 2


def _simpler(step: Step) -> Iterator[Step]:
    """The step with one thing less."""
    if step.more:
        yield replace(step.more[0], more=step.more[1:])
        for at in range(len(step.more)):
            yield replace(step, more=step.more[:at] + step.more[at + 1 :])
    if step.name:
        yield replace(step, name="")
    if step.params == ():
        yield replace(step, params=None)
    if step.binary:
        yield replace(step, binary=False)
    try:
        [tree] = parse_sql(step.sql)
    except (ParseError, ValueError):
        return
    for smaller in _smaller(tree):
        try:
            sql = RawStream()(smaller)
            parse_sql(sql)
        except Exception:  # noqa: S112 - a tree that no statement has: anything may come of it
            continue
        if len(sql) < len(step.sql):
            yield replace(step, sql=sql)


def _smaller(node: Node | tuple[Node, ...]) -> Iterator[Any]:
    """A tree with one node replaced by one of its parts, or without one of its parts."""
    if isinstance(node, tuple):
        for at, one in enumerate(node):
            yield node[:at] + node[at + 1 :]
            for smaller in _smaller(one):
                yield (*node[:at], smaller, *node[at + 1 :])
    elif isinstance(node, Node):
        for name in node:
            value = getattr(node, name)
            if isinstance(value, Node):
                yield value
            if isinstance(value, Node | tuple):
                for smaller in (None, *_smaller(value)):
                    made = copy(node)
                    with suppress(ValueError):  # not a part of such a node
                        setattr(made, name, smaller)
                        yield made


def shrink_pipelines(
    sequences: Sequences, pipelines: Sequence[Pipeline], difference: DifferenceError
) -> tuple[list[Pipeline], DifferenceError]:
    """The same for pipelines: whole ones, then messages of the last."""
    best, why = list(pipelines[: difference.number + 1]), difference

    def attempt(shorter: Sequence[Pipeline]) -> None:
        nonlocal best, why
        try:
            sequences.run(shorter)
        except DifferenceError as found:
            if found.kind == why.kind:
                best, why = list(shorter[: found.number + 1]), found

    for shorter in shortened(lambda: best):
        attempt(shorter)
    for at in range(len(best)):
        for fewer in shortened(lambda at=at: best[at].messages):  # type: ignore[misc]
            attempt([*best[:at], replace(best[at], messages=fewer), *best[at + 1 :]])
    return best, why
