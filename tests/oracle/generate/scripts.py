"""The steps of a session: statements of all kinds, in and outside of transactions, in each protocol, some repeated."""

from dataclasses import replace
from random import Random

from tests.oracle.case import Step
from tests.oracle.generate import schema
from tests.oracle.generate.changes import change
from tests.oracle.generate.definitions import definition
from tests.oracle.generate.queries import select
from tests.oracle.generate.words import Words

KINDS = (
    (10.0, "select"), (8.0, "change"), (1.2, "ddl"), (2.5, "control"), (0.8, "set"), (0.5, "fail"), (0.5, "several"),
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


def script(seed: int, statements: int) -> list[Step]:
    """Tables, and some statements on them."""
    rng = Random(seed)
    made = schema.make(rng)
    steps = list(made.steps)
    while len(steps) < statements + len(made.steps):
        step = _step(rng, made)
        steps += [step] * rng.choices((1, 3), (8, 1))[0]  # what repeats takes the fast lane
    return [*steps, Step("COMMIT")]


def change_alone(words: Words) -> tuple[str, bool]:
    """A change, in the form of `select`."""
    return change(words), False


def select_whole(words: Words) -> tuple[str, bool]:
    """A SELECT that gives the same rows each time: among other statements it cannot be compared otherwise."""
    text, ordered = select(words)
    unlimited = Step(text, ordered=ordered).unlimited()
    return text if unlimited is None else unlimited.sql, ordered


def _step(rng: Random, made: schema.Schema) -> Step:
    extended = rng.random() < 0.5
    words = Words(rng, made.tables, extended)
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
            parts = Words(rng, made.tables, False)
            text = "; ".join(
                words.choose((1.0, select_whole), (2.0, change_alone))(parts)[0] for _ in range(rng.randint(2, 3))
            )
            ordered = False
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
    return replace(step, binary=words.chance(0.15))
