"""What another connection runs to have a setting that a statement has made."""

import pytest

from shardproxy.errors import PgError
from shardproxy.routing import ParamValue
from shardproxy.transaction.savepoints import Entry
from shardproxy.transaction.settings import ALL, EVERYTHING, SessionSettings, replay_sql

BOOL, INT4, TEXT = 16, 23, 25


def test_set_config_with_parameters_is_prepared() -> None:
    params = [ParamValue(TEXT, 1, b"work_mem"), ParamValue(TEXT, 0, b"1MB"), ParamValue(BOOL, 1, b"\x00")]
    assert replay_sql(b"SELECT set_config($1, $2, $3)", params) == (
        b"PREPARE shardproxy_set AS SELECT set_config($1, $2, $3)\n;\n"
        b"EXECUTE shardproxy_set('work_mem', '1MB', 'false');\nDEALLOCATE shardproxy_set"
    )


def test_literals() -> None:
    quoted = [ParamValue(TEXT, 0, b"a'b"), ParamValue(TEXT, 0, b"a\\b")]
    assert rb"shardproxy_set('a''b', E'a\\b')" in replay_sql(b"...", quoted)
    with pytest.raises(PgError, match="binary parameter that is not text"):
        replay_sql(b"...", [ParamValue(INT4, 1, b"\0\0\0\1")])


def test_reset_all_leaves_what_postgresql_does_not_reset() -> None:
    settings = SessionSettings()
    for name in ("work_mem", "role", "session_authorization"):
        settings.keep(Entry(b"SET", setting=name))
    settings.keep(Entry(b"RESET ALL", setting=ALL))
    assert [entry.setting for entry in settings] == ["role", "session_authorization"]
    settings.keep(Entry(b"SELECT", setting="SELECT set_config(name, 'x', false) FROM ref"))
    settings.keep(Entry(b"RESET ALL", setting=ALL))
    assert [entry.sql for entry in settings] == [b"SET", b"SET", b"SELECT", b"RESET ALL"]
    settings.keep(Entry(b"DISCARD ALL", setting=EVERYTHING))
    assert not settings.entries
