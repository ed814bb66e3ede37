"""The decorator of `shardproxy.dataclass` beside the standard one, which is its oracle."""

import dataclasses
import pickle
import re
from collections.abc import Callable
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shardproxy import dataclass as module
from shardproxy.dataclass import dataclass

Decorator = Callable[..., Any]

OPTIONS = [
    {"frozen": frozen, "slots": slots, "kw_only": kw_only, "eq": eq}
    for frozen in (False, True)
    for slots in (False, True)
    for kw_only in (False, True)
    for eq in (False, True)
]


def point(decorator: Decorator, options: dict[str, bool]) -> Any:
    """A class with all that a field can have, and one below it."""

    @decorator(**options)
    class Base:
        x: int
        y: list[int] = field(default_factory=list, kw_only=True)

    @decorator(**options)
    class Point(Base):
        """A point."""

        name: str = field(default="o", repr=False)
        tag: object = field(default=None, compare=False)
        length: int = field(default=7, init=False)
        late: int = field(init=False, compare=False, repr=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "late", self.x * 2)

    return Point


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return repr(work())
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_as_the_standard_one(options: dict[str, bool]) -> None:
    def facts(decorator: Decorator) -> list[Any]:
        made = point(decorator, options)
        one, same, other = made(x=1), made(x=1, tag="t"), made(x=1, name="p", y=[2])
        return [
            *(outcome(partial(made, **given)) for given in ({"x": 3}, {}, {"x": 1, "z": 2}, {"late": 1})),
            outcome(lambda: made(1, "n", "t")),
            outcome(lambda: made(1, "n", "t", 4)),
            (one == same, one == other, one != same, one == 1, one.late, one.length, one.y is same.y),
            outcome(lambda: hash(made(x=1, y=())) == hash(made(x=1, y=(), tag=3))),
            outcome(lambda: hash(one) and None),
            outcome(lambda: setattr(one, "x", 5)),
            # With slots the standard one of 3.11 raises a TypeError of its own here.
            (options["frozen"] and options["slots"]) or outcome(lambda: setattr(one, "unknown", 5)),
            outcome(lambda: delattr(same, "name")),
            outcome(lambda: dataclasses.replace(other, x=9)),
            outcome(lambda: dataclasses.asdict(other)),
            getattr(made, "__match_args__", None),
            (hasattr(one, "__dict__"), dataclasses.is_dataclass(one), made.__doc__),
        ]

    assert facts(dataclass) == facts(dataclasses.dataclass)


def test_what_a_class_defines_itself_stays() -> None:
    @dataclass(frozen=True, slots=True)
    class Own:
        x: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

    assert (repr(Own(1)), Own(1) == Own(2), hash(Own(1))) == ("own", True, 5)


def test_without_options_and_fields() -> None:
    @dataclass
    class Nothing:
        pass

    assert Nothing() == Nothing()
    assert repr(Nothing()).endswith("Nothing()")


def test_a_subclass_has_its_own_arguments() -> None:
    """The first instance of a class makes its `__init__`, and no other's."""

    @dataclass(slots=True)
    class Above:
        x: int

    @dataclass(slots=True)
    class Below(Above):
        y: int

    assert (Below(1, 2).y, Above(3).x, Below(4, 5).x) == (2, 3, 4)


@dataclass(frozen=True, slots=True)
class Kept:
    """What goes through pickle."""

    x: int
    y: "Kept | None" = None


def test_pickled() -> None:
    one = Kept(1, Kept(2))
    assert pickle.loads(pickle.dumps(one)) == one


def test_nothing_is_compiled_for_a_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what it is for."""

    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(dataclasses, "_create_fn", refuse, raising=False)
    monkeypatch.setattr(module, "_initializer", refuse)
    point(dataclass, {"frozen": True, "slots": True})


def test_all_of_the_package_uses_it() -> None:
    """The two cannot inherit from each other."""
    root = Path(module.__file__).parent
    standard = re.compile(r"^from dataclasses import .*\bdataclass\b", re.MULTILINE)
    sources = [path for path in root.rglob("*.py") if path != Path(module.__file__)]
    assert not [str(path.relative_to(root)) for path in sources if standard.search(path.read_text("utf-8"))]
