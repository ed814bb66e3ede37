"""pgbench's three protocols, with many clients at a time."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute
from tests.support.twin import Twin

SCRIPT = """
\\set key random(1, 60)
\\set new random(1001, 1000000000)
SELECT b FROM t WHERE a = :key;
BEGIN;
INSERT INTO t VALUES (:new, 'x') ON CONFLICT DO NOTHING;
UPDATE t SET b = 'y' WHERE a = :new;
SELECT a FROM ref WHERE a = :key;
COMMIT;
"""

PIPELINE = """
\\set key random(1, 60)
\\startpipeline
SELECT b FROM t WHERE a = :key;
SELECT a FROM ref WHERE a = :key;
SELECT b FROM one WHERE a = :key;
\\endpipeline
"""


@pytest.fixture(scope="module")
def twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


def run(databases: Databases, dsn: str, *arguments: str) -> str:
    program = databases.psql.with_name("pgbench")
    if not program.exists():
        pytest.skip("this PostgreSQL package has no pgbench")
    done = subprocess.run(
        [str(program), *arguments, *(("-d",) if databases.version >= 17 else ()), dsn],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pgbench(twin: Twin, script: Path, protocol: str, *, clients: int = 8, transactions: int = 40) -> str:
    counts = ["-c", str(clients), "-j", "2", "-t", str(transactions)]
    return run(twin.databases, twin.dsn, "-n", "-M", protocol, *counts, "-f", str(script))


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_a_script(twin: Twin, tmp_path: Path, protocol: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(SCRIPT)
    said = pgbench(twin, script, protocol)
    assert re.search(r"number of transactions actually processed: 320/320", said)
    assert "number of failed transactions: 0" in said
    for dsn in twin.databases.shards:
        execute(dsn, "DELETE FROM t WHERE a > 1000")
    assert twin.rows()[0] == twin.rows()[1]


@pytest.mark.parametrize("protocol", ["extended", "prepared"])
def test_a_pipeline(twin: Twin, tmp_path: Path, protocol: str) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text(PIPELINE)
    assert "actually processed: 320/320" in pgbench(twin, script, protocol)


@pytest.mark.parametrize("steps", ["dtgpf", "dtGpf"])
def test_the_standard_script_on_reference_tables(servers18: Servers, run_proxy: RunProxy, steps: str) -> None:
    """Each transaction has parsed its UPDATEs before it waits for another's row."""
    databases = Databases.create(servers18, one_server=True)
    try:
        proxy = run_proxy(databases.config(unlisted_tables="reference", commit="two-phase"))
        run(databases, proxy.dsn(), "-i", "-q", "-I", steps)
        said = run(databases, proxy.dsn(), "-n", "-M", "prepared", "-c", "4", "-j", "1", "-t", "25")
        assert "actually processed: 100/100" in said
        for table, count in (("accounts", 100_000), ("tellers", 10), ("branches", 1), ("history", 100)):
            summed = f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM pgbench_{table} AS t"
            [[first], *others] = databases.rows(summed)
            assert first[0] == count
            assert others == [[first], [first]]
    finally:
        databases.drop()
