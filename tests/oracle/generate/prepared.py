"""PREPARE, EXECUTE and DEALLOCATE as statements."""

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
        whole = Step(text, ordered=ordered).unlimited()
        text = text if whole is None else whole.sql
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
