"""Which setting a statement changes, and what another connection runs to have it."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import ParamValue
from shardproxy.sql import analyze
from shardproxy.transaction.settings import replay_sql, setting_change

BOOL, INT4, TEXT = 16, 23, 25


def change(sql: str, *params: ParamValue) -> tuple[str | None, bool]:
    [statement] = analyze(sql)
    return setting_change(statement, params)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET DateStyle = 'German'", ("datestyle", False)),
        ("SET LOCAL work_mem = '1MB'", ("work_mem", True)),
        ("RESET ALL", (None, False)),
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
    [statement] = analyze(sql)
    assert replay_sql(statement, sql.encode(), [name, value, ParamValue(BOOL, 1, b"\x00")]) == (
        b"PREPARE shardproxy_set AS SELECT set_config($1, $2, $3)\n;\n"
        b"EXECUTE shardproxy_set('work_mem', '1MB', 'false');\nDEALLOCATE shardproxy_set"
    )


def test_what_is_not_known_is_noted_under_its_own_text() -> None:
    """So that earlier changes, which it may or may not replace, are replayed as well."""
    several = "SELECT set_config('a.b', '1', false), set_config('a.c', '1', true)"
    assert change(several) == (f"{several} []", False)
    assert change(several.replace("false", "true"))[1] is True


def test_literals() -> None:
    [statement] = analyze("SELECT set_config($1, $2, false)")
    quoted = [ParamValue(TEXT, 0, b"a'b"), ParamValue(TEXT, 0, b"a\\b")]
    assert rb"shardproxy_set('a''b', E'a\\b')" in replay_sql(statement, b"...", quoted)
    with pytest.raises(PgError, match="binary parameter that is not text"):
        replay_sql(statement, b"...", [ParamValue(INT4, 1, b"\0\0\0\1")])
