"""Triggers, and the functions that they call."""

from collections.abc import Sequence
from random import Random

from tests.oracle.generate.schema import Table


def trigger(rng: Random, table: Table, number: int) -> str:
    """CREATE TRIGGER with a function of this number."""
    event = rng.choice(("INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE", "INSERT OR UPDATE OR DELETE"))
    return (
        f"CREATE TRIGGER tr{number} {rng.choice(('BEFORE', 'AFTER'))} {event} ON {table.name}"
        f" FOR EACH {rng.choice(('ROW', 'ROW', 'STATEMENT'))} EXECUTE FUNCTION fire{number}()"
    )


def trigger_function(rng: Random, tables: Sequence[Table], number: int) -> str:
    """Its function. What it writes is seen to belong elsewhere, or would be the same wherever it runs."""
    spread = [one.name for one in tables if one.placed.placement != "single"]
    copied = [one.name for one in tables if one.placed.placement == "reference"]
    bodies = [
        "IF TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN NEW.v := coalesce(NEW.v, 0) % 5 + 1; END IF",
        "IF TG_LEVEL = 'ROW' AND TG_OP <> 'INSERT' THEN RAISE NOTICE 'was %', OLD.v; END IF",
        *(f"INSERT INTO {name} (v) VALUES (3)" for name in spread),
        *(f"UPDATE {name} SET v = 3 WHERE v = 1" for name in copied),
        *(f"DELETE FROM {name} WHERE v = 2" for name in copied),
    ]
    body = f"IF pg_trigger_depth() = 1 THEN {rng.choice(bodies)}; END IF"
    return (
        f"CREATE OR REPLACE FUNCTION fire{number}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {body}; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
    )
