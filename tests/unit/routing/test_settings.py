"""Which setting a statement changes, and for how long."""

import pytest

from shardproxy.routing import ParamValue, Settings
from tests.unit.routing.tables import routed

BOOL, TEXT = 16, 25


def change(sql: str, *params: ParamValue) -> tuple[str | None, bool]:
    plan = routed(sql, *params)
    assert isinstance(plan, Settings)
    return plan.name, plan.local


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET DateStyle = 'German'", ("datestyle", False)),
        ("SET LOCAL work_mem = '1MB'", ("work_mem", True)),
        ("RESET ALL", ("all", False)),
        ("DISCARD ALL", (None, False)),
        ("SELECT set_config('Work_Mem', '1MB', false)", ("work_mem", False)),
        ("SELECT set_config('work_mem', '1MB', 'YE')", ("work_mem", True)),
        ("SELECT set_config('work_mem', '1MB', NULL)", ("work_mem", False)),
    ],
)
def test_what_is_known_from_the_text(sql: str, expected: tuple[str | None, bool]) -> None:
    assert change(sql) == expected


def test_parameters_of_set_config() -> None:
    sql = "SELECT set_config($1, $2, $3)"
    value = ParamValue(TEXT, 0, b"1MB")
    name = ParamValue(TEXT, 1, b"work_mem")
    assert change(sql, name, value, ParamValue(BOOL, 1, b"\x01")) == ("work_mem", True)
    assert change(sql, name, value, ParamValue(BOOL, 0, b"off")) == ("work_mem", False)
    assert change(sql, name, value, ParamValue(BOOL, 0, None)) == ("work_mem", False)


def test_what_is_not_known_is_noted_under_its_own_text() -> None:
    """So that earlier changes, which it may or may not replace, are replayed as well."""
    several = "SELECT set_config('a.b', '1', false), set_config('a.c', '1', true)"
    assert change(several) == (f"{several} []", False)
    assert change(several.replace("false", "true"))[1] is True
