"""What the proxy writes into its log: rows, parameters and statements of clients are not in it, at any level."""

from pathlib import Path

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases
from tests.support.rawclient import RawClient
from tests.support.twin import TABLES

pytestmark = pytest.mark.newest

SECRET = "s3cr3t-r0w"

ALL_LEVELS = """import logging
configure = logging.basicConfig
logging.basicConfig = lambda **given: configure(**given | {"level": logging.DEBUG})
"""
"""A sitecustomize: the proxy logs what it has to tell at any level."""

DDL = f"""
    CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b <> '{SECRET} refused'));
    CREATE TABLE ref (a int PRIMARY KEY, b text)"""


def test_rows_stay_out_of_the_log(one_server: Databases, run_proxy: RunProxy, tmp_path: Path) -> None:
    """Those that are stored, refused, set aside or lost, by every way that they come."""
    one_server.execute(DDL)
    (tmp_path / "sitecustomize.py").write_text(ALL_LEVELS)
    load = {"load": {"reject_dir": str(tmp_path / "rejects")}}
    config = one_server.config(TABLES[:2], commit="two-phase", entry=load)
    proxy = run_proxy(config, env={"PYTHONPATH": str(tmp_path)})
    good = "".join(f"{a}\t{SECRET}\n" for a in range(1, 40)).encode()
    bad = f"50\t{SECRET}\n51\t{SECRET} refused\n{SECRET}\t52\n".encode()
    with RawClient(proxy.dsn()) as client:
        assert client.copy("COPY t FROM STDIN", good).tags == ["COPY 39"]
        for table in ("t", "ref"):
            said = [client.copy(f"COPY {table} FROM STDIN", bad).errors for _ in range(2)]
            assert SECRET in str(said)
        client.query("SET shardproxy.on_error = 'resume_next'")
        assert client.copy("COPY t FROM STDIN", bad).tags == ["COPY 1"]
        for statement in (
            f"INSERT INTO t VALUES (1, '{SECRET}')", f"INSERT INTO ref VALUES (1, '{SECRET}')", f"SELEC '{SECRET}'",
            f"INSERT INTO t VALUES (60, '{SECRET} refused')", f"UPDATE ref SET b = '{SECRET}'::int::text",
            f"UPDATE t SET b = '{SECRET}'", f"SET search_path = '{SECRET}'", f"SET work_mem = '{SECRET}'",
        ):  # fmt: skip
            client.query(statement)
    with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
        for key, value in ((1, SECRET), (61, f"{SECRET} refused"), (62, f"{SECRET}\N{SNOWMAN}")):
            with pytest.raises(psycopg.Error) if key < 62 else connection.transaction():
                connection.execute("INSERT INTO t VALUES (%s, %s)", (key, value))
    with RawClient(proxy.dsn()) as client:  # lost in a COPY, and so are its shards
        client.query("BEGIN")
        client.copy("COPY t FROM STDIN", f"70\t{SECRET}\n".encode())
        one_server.oracle_rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname LIKE '{one_server.name}\\_s%' AND state = 'idle in transaction'"
        )
        assert client.copy("COPY t FROM STDIN", f"71\t{SECRET}\n".encode()).errors
    assert proxy.stop() == 0
    assert " DEBUG " in proxy.log()
    assert SECRET not in proxy.log()
