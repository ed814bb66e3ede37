"""The steps of a session: statements of all kinds, in and outside of transactions, in each protocol, some repeated."""

from dataclasses import replace
from random import Random

from tests.oracle.case import Step
from tests.oracle.generate import tables
from tests.oracle.generate.changes import change
from tests.oracle.generate.definitions import definition
from tests.oracle.generate.prepared import pipeline, prepare
from tests.oracle.generate.queries import select
from tests.oracle.generate.schema import Schema
from tests.oracle.generate.words import Words

KINDS = (
    (10.0, "select"), (8.0, "change"), (1.2, "ddl"), (2.5, "control"), (0.8, "set"), (0.5, "fail"), (0.8, "several"),

)  # fmt: skip
CONTROL = (
    (6.0, "BEGIN"), (5.0, "COMMIT"), (3.0, "ROLLBACK"), (3.0, "SAVEPOINT a"), (2.0, "ROLLBACK TO a"), (1.0,
    "RELEASE a"),
    (1.0, "SAVEPOINT b"), (1.0, "ROLLBACK TO SAVEPOINT b"), (0.5, "START TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    (0.5, "BEGIN READ ONLY"), (0.3, "COMMIT AND CHAIN"), (0.3, "ROLLBACK AND CHAIN"), (0.3,
    "SET TRANSACTION READ ONLY"),
    (0.5, "BEGIN ISOLATION LEVEL SERIALIZABLE"), (0.3, "SET CONSTRAINTS ALL DEFERRED"),
)  # fmt: skip
SETTINGS = (
    "SET DateStyle = 'German'", "SET DateStyle = 'ISO, DMY'", "RESET DateStyle", "SET TimeZone = 'Asia/Tokyo'",
    "SET TIME ZONE 'UTC'", "SET bytea_output = 'escape'", "SET extra_float_digits = 0",
    "SET search_path = public, pg_catalog",
    "SET LOCAL search_path = pg_catalog", "RESET ALL", "SHOW DateStyle", "SHOW TimeZone", "SHOW search_path",
    "SET application_name = 'x'", "SHOW application_name", "SET LOCAL TimeZone = 'UTC'",
    "SET IntervalStyle = 'iso_8601'",
    "SET nonsense = 1", "SET shop.x = '1'", "SHOW shop.x", "SELECT current_setting('TimeZone')", "DISCARD ALL",
    "SELECT set_config('TimeZone', 'UTC', true)", "SET standard_conforming_strings = on", "RESET TimeZone",
    "SET statement_timeout = '1min'", "SHOW statement_timeout", "DEALLOCATE ALL", "SHOW transaction_isolation",
)  # fmt: skip
FAILURES = (
    "SELECT 1/0", "SELEC 1", "SELECT nonsense", "SELECT * FROM nowhere", "INSERT INTO nowhere VALUES (1)",
    "SELECT 'x'::int",
    "SELECT nofunction(1)", "UPDATE nowhere SET x = 1", ";", "", "SELECT $1", "ROLLBACK TO nowhere",
    "SELECT 1; SELECT 2", "SELECT 1; SELECT 1/0; SELECT 2",
)  # fmt: skip


def script(seed: int, statements: int, version: int = 18) -> list[Step]:
    """Tables, and some statements on them."""
    rng = Random(seed)
    made = tables.make(rng, version)
    steps = list(made.steps)
    while len(steps) < statements + len(made.steps):
        if rng.choices((True, False), (0.05, 1.0))[0]:
            steps += prepare(Words(rng, made.tables, True, version, binaries=False))
            continue
        if rng.random() < 0.04:
            steps.append(pipeline(Words(rng, made.tables, True, version)))
            continue
        step = _step(rng, made)
        steps += [step] * rng.choices((1, 3), (8, 1))[0]  # what repeats takes the fast lane
    return [*steps, Step("COMMIT")]


def select_whole(words: Words) -> tuple[str, bool]:
    """A SELECT that gives the same rows each time: among other statements it cannot be compared otherwise."""
    text, ordered = select(words)
    unlimited = Step(text, ordered=ordered).unlimited()
    return text if unlimited is None else unlimited.sql, ordered


def _step(rng: Random, made: Schema) -> Step:
    extended = rng.random() < 0.5
    words = Words(rng, made.tables, extended, made.version)
    ordered = True
    what = words.choose(*KINDS)
    match what:
        case "select":
            text, ordered = select(words)
        case "change":
            text, ordered = change(words), False
        case "ddl":
            text = definition(words)
        case "several":
            extended = False
            text, ordered = _several(Words(rng, made.tables, False, made.version)), False
        case "control":
            text = words.choose(*CONTROL)
        case "set":
            text = rng.choice(SETTINGS)
        case _:
            text = rng.choice(FAILURES)
    step = Step(text, ordered=ordered)
    if not extended:
        return step
    step = replace(step, params=tuple(words.params), describe=words.choose((5.0, "P"), (1.0, "S"), (1.0, "")))
    if words.chance(0.3) and what in {"select", "change"}:
        step = replace(step, name=f"s{rng.randrange(4)}")
    if what in {"select", "change"} and words.chance(0.15):
        step = replace(step, pieces=rng.randint(1, 3))
    return replace(step, binary=words.chance(0.15))


def _several(words: Words) -> str:
    """Statements of one Query, some of which fail or end a transaction."""
    parts = [
        words.one_of(
            (3.0, lambda: select_whole(words)[0]),
            (6.0, lambda: change(words)),
            (0.7, lambda: words.rng.choice(FAILURES)),
            (0.7, lambda: words.choose(*CONTROL)),
            (0.3, lambda: words.rng.choice(SETTINGS)),
            (0.3, lambda: definition(words)),
        )
        for _ in range(words.rng.randint(2, 5))
    ]
    return "; ".join(parts)
