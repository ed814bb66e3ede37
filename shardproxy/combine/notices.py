"""Notices of several shards as one server would have sent them: once where all shards send the same.

Sans-IO. One `NoticeMerger` lives as long as one statement. What one shard sends twice is passed on twice;
that a second shard sends it as well adds nothing.
"""

from collections.abc import Callable, Hashable

Fields = dict[str, str]

REMEMBERED = 1000
"""Different notices remembered per statement: a flood must not grow memory. Past it, all are forwarded."""

_SAME = ("V", "C", "M", "D", "H")


class NoticeMerger:
    """Counts what each shard has sent and forwards only what is new."""

    def __init__(self, forward: Callable[[Fields], None]) -> None:
        self._forward = forward
        self._forwarded: dict[Hashable, int] = {}
        self._said: dict[Hashable, int] = {}

    def notice(self, shard: int, fields: Fields) -> None:
        """Take a NoticeResponse of a shard."""
        key = tuple(fields.get(code) for code in _SAME)
        said = self._said[shard, key] = self._said.get((shard, key), 0) + 1
        if said <= self._forwarded.get(key, 0):
            return
        if len(self._said) > REMEMBERED:
            self._said.clear()
            self._forwarded.clear()
            self._said[shard, key] = 1
        self._forwarded[key] = self._forwarded.get(key, 0) + 1
        self._forward(fields)
