"""Statements that repeat, so that the fast lane takes them, beside what changes their meaning.

Random pipelines of them are in tests/oracle.
"""

from collections.abc import Iterator

import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.rawclient import RawClient
from tests.support.twin import Twin


@pytest.fixture(scope="module", params=(16, 18))
def twin(request: pytest.FixtureRequest, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    servers: Servers = request.getfixturevalue(f"servers{request.param}")
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


def test_a_temporary_table_hides_a_listed_one(twin: Twin) -> None:
    """Plans are shared between sessions, but not with one whose names are its own."""
    twin.fill()
    select = "SELECT b FROM t WHERE a = 7"
    with RawClient(twin.dsn) as other:
        for _ in range(3):
            assert other.query(select).rows == [[b"row 7"]]
        twin.compare(
            select, select, "CREATE TEMPORARY TABLE t (a int, b text)", select, "INSERT INTO t VALUES (7, 'mine')",
            select, select, "DROP TABLE pg_temp.t", select,
        )  # fmt: skip
        twin.databases.execute(
            "CREATE OR REPLACE FUNCTION hide() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
            " CREATE TEMPORARY TABLE t AS SELECT 7 AS a, 'hidden' AS b; RETURN 'x'; END $$"
        )
        twin.compare(select, "SELECT hide()", select, select)
        assert other.query(select).rows == [[b"row 7"]]


def test_sessions_with_other_settings_share_no_plan(twin: Twin) -> None:
    twin.databases.execute("CREATE SCHEMA IF NOT EXISTS other; CREATE TABLE IF NOT EXISTS other.ref (a int, b text)")
    select = "SELECT b FROM ref WHERE a = 7"
    twin.fill()
    with RawClient(twin.dsn) as other:
        for _ in range(3):
            assert other.query(select).rows == [[b"row 7"]]
        twin.compare(select, "SET search_path = other", "RESET search_path", select)
        twin.compare(select, "BEGIN", "SET LOCAL timezone = 'UTC'", select, "COMMIT", select)
        assert other.query(select).rows == [[b"row 7"]]
