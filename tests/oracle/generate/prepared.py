"""PREPARE, EXECUTE and DEALLOCATE as statements, and statements that are sent without waiting for an answer."""

from collections.abc import Iterator
from dataclasses import replace

from tests.oracle.case import Param, Step
from tests.oracle.generate.changes import change
from tests.oracle.generate.queries import select
from tests.oracle.generate.values import TYPES
from tests.oracle.generate.words import Words

_NAMES = {one.oid: one.name for one in TYPES.values() if one.oid}


def prepare(words: Words) -> list[Step]:
    """A statement that is prepared and executed a few times, among other things with other parameters."""
    name = f"q{words.rng.randrange(3)}"
    ordered = False
    if words.chance(0.6):
        text, ordered = select(words)
        text = text if ordered else _unlimited(text)
    else:
        text = change(words)
    types = ", ".join(_NAMES.get(param.oid, "unknown") for param in words.params)
    declared = f" ({types})" if types and words.chance(0.8) else ""
    steps = [Step(f"DEALLOCATE {name}")] if words.chance(0.3) else []
    steps.append(Step(f"PREPARE {name}{declared} AS {text}"))
    for _ in range(words.rng.randint(1, 3)):
        given = ", ".join(_given(words, param) for param in words.params)
        execute = f"EXECUTE {name}{f' ({given})' if given else ''}"
        steps.append(Step(execute, params=() if words.chance(0.3) else None, ordered=ordered))
    if words.chance(0.3):
        steps.append(Step(words.choose((3.0, f"DEALLOCATE {name}"), (1.0, "DEALLOCATE ALL"))))
    return steps


def _given(words: Words, param: Param) -> str:
    """A value: the one that was thought of, another of the type, or an expression."""
    kind = next((one for one in TYPES.values() if one.oid == param.oid), None)
    if param.value is None or words.chance(0.03):
        return "NULL"
    text = param.value.decode().replace("'", "''")
    if kind is not None and words.chance(0.5):
        text = words.rng.choice((*kind.values, *kind.spellings))
    simple = kind is not None and kind.number and text.strip("+-0123456789.") == "" and text
    if simple and words.chance(0.6):
        return text if words.chance(0.9) else f"{text} + 0"
    return f"'{text}'" + (f"::{kind.name}" if kind is not None and words.chance(0.2) else "")


def pipeline(words: Words) -> Step:
    """Some statements before one Sync: mostly one with other values each time, as executemany sends it."""
    first, *others = _some(words)
    return replace(first, more=tuple(others))


def _some(words: Words) -> Iterator[Step]:
    for _ in range(words.rng.randint(1, 3)):
        words = Words(words.rng, words.tables, True, words.version)
        if words.chance(0.2):
            text, ordered = select(words)
            text = text if ordered else _unlimited(text)
        else:
            text, ordered = change(words), False
        step = Step(text, params=tuple(words.params), ordered=ordered, describe=words.choose((2.0, "P"), (1.0, "")))
        yield step
        for _ in range(words.rng.choice((0, 1, 2, 4, 6))):
            yield replace(step, params=tuple(_other(words, param) for param in step.params or ()))


def _unlimited(text: str) -> str:
    whole = Step(text).unlimited()
    return text if whole is None else whole.sql


def _other(words: Words, param: Param) -> Param:
    """The same parameter with another value of its type."""
    kind = next((one for one in TYPES.values() if one.oid and one.oid == param.oid), None)
    if kind is None:
        # A value that has been read as some type before.
        kind = next(
            (one for one in TYPES.values() if param.value and param.value.decode(errors="replace") in one.values), None
        )
    if kind is None or (param.binary and kind.binary is None):
        return param
    text = words.rng.choice(kind.values).replace("''", "'")
    return replace(param, value=kind.binary(text) if param.binary and kind.binary is not None else text.encode())
