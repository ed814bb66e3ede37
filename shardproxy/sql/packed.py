"""Facts of long texts in a form that travels between processes, and that a reader need not have in memory at once.

Long tuples (a text's statements, an INSERT's rows, the values of an IN) are pickled in pieces, and stay so: a `Packed`
takes about as much memory as the text that it comes from, a fifteenth of the objects, and no call takes longer than a
piece.
"""

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)

PIECE: Final = 500
"""Items of a piece: a few milliseconds' work."""


class Packed(Sequence[T_co]):
    """A long tuple, pickled in pieces."""

    def __init__(self, pieces: Sequence[bytes], length: int, change: Callable[[Any], T_co] | None = None) -> None:
        self._pieces = pieces
        self._length = length
        self._change = change

    def mapped(self, change: Callable[[Any], T_co]) -> "Packed[T_co]":
        """Return the same with each item changed when it is read."""
        assert self._change is None
        return Packed(self._pieces, self._length, change)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T_co]:
        for piece in self._pieces:
            items = unpack(piece)
            yield from items if self._change is None else map(self._change, items)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        if isinstance(index, slice):
            return tuple(self)[index]
        number, at = divmod(range(self._length)[index], PIECE)
        item: T_co = unpack(self._pieces[number])[at]
        return item if self._change is None else self._change(item)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[list[bytes], int] | None:
        if type(obj) is not tuple or len(obj) <= PIECE:
            return None
        return [pack(obj[start : start + PIECE]) for start in range(0, len(obj), PIECE)], len(obj)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: tuple[list[bytes], int]) -> Packed[Any]:
        return Packed(*pid)


def pack(value: object) -> bytes:
    """Pickle a value with its long tuples in pieces."""
    stream = io.BytesIO()
    _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


def unpack(data: bytes) -> Any:
    """Return what `pack` was given, each long tuple as a `Packed`."""
    return _Unpickler(io.BytesIO(data)).load()
