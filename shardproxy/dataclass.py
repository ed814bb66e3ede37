"""dataclasses' own decorator, as far as it is used here, without what it takes to define some hundred classes.

The standard one compiles up to seven functions for each class, when it is defined, which takes a third of the time that
a command takes to start. Here `__init__` is compiled when the first instance is made, and the others need no compiling.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, init=True, eq=True, frozen=False, slots=False, kw_only=False):
        """Make a dataclass; the options are those of `dataclasses.dataclass`."""

        def made(given: type) -> type:
            own = frozenset(vars(given))
            plain = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
            return _complete(plain(given), own, init=init, eq=eq, frozen=frozen)

        return made if cls is None else made(cls)


def _complete(cls: Any, own: frozenset[str], *, init: bool, eq: bool, frozen: bool) -> type:
    """Give a class its methods, but for those of its `own`."""
    if init:
        cls.__init__ = _later(cls, frozen)
    if "__repr__" not in own:
        cls.__repr__ = _repr
    if eq and "__eq__" not in own:
        values = _values([field.name for field in dataclasses.fields(cls) if field.compare])
        cls.__eq__ = _eq(values)
        if "__hash__" not in own:
            cls.__hash__ = _hash(values) if frozen else None
    if frozen:
        cls.__setattr__, cls.__delattr__ = _refusing(cls)
        cls.__getstate__, cls.__setstate__ = _getstate, _setstate
    return cls  # type: ignore[no-any-return]


def _later(cls: Any, frozen: bool) -> Callable[..., None]:
    """An `__init__` that makes the class's, which takes its place."""

    def first(self: Any, /, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _initializer(cls, frozen)
        cls.__init__(self, *args, **kwargs)

    return first


def _initializer(cls: Any, frozen: bool) -> Callable[..., None]:
    """Compile `__init__`."""
    known: dict[str, Any] = {"_set_": object.__setattr__, "_absent_": object()}
    positional, keywords, body = ["self"], ["*"], []
    for number, field in enumerate(dataclasses.fields(cls)):
        argument = value = field.name
        if field.default_factory is not dataclasses.MISSING:
            known[make := f"_make{number}_"] = field.default_factory
            argument += "=_absent_"
            value = f"{make}() if {value} is _absent_ else {value}" if field.init else f"{make}()"
        elif field.default is not dataclasses.MISSING:
            known[default := f"_default{number}_"] = field.default
            argument += f"={default}"
            value = value if field.init else default
        elif not field.init:
            continue  # something else sets it
        if field.init:
            (keywords if field.kw_only else positional).append(argument)
        body.append(f"_set_(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join(positional + (keywords if len(keywords) > 1 else []))
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), known)
    known["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"  # which stands in errors
    return known["__init__"]  # type: ignore[no-any-return]


@recursive_repr("...")
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(names: list[str]) -> Callable[[Any], Any]:
    """What compares equal for equal instances: a tuple, as the standard one's."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    def equal(self: Any, other: Any) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return equal


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def hashed(self: Any) -> int:
        return hash(values(self))

    return hashed


def _refusing(cls: Any) -> tuple[Callable[[Any, str, Any], None], Callable[[Any, str], None]]:
    """`__setattr__` and `__delattr__` of a frozen class; a subclass that is no dataclass may have attributes."""
    names = frozenset(field.name for field in dataclasses.fields(cls))

    def assign(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return assign, delete


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
