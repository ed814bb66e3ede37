"""psql in its everyday use, its output held against that of the oracle."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers, execute
from tests.support.twin import Twin

PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        twin.databases.execute("""
            CREATE INDEX t_b ON t (b);
            CREATE SCHEMA other;
            CREATE TYPE other.colour AS ENUM ('red', 'green');
            CREATE TABLE other.child (id int REFERENCES ref (a), c other.colour CHECK (c <> 'red'));
            CREATE VIEW v AS SELECT a FROM ref;
            CREATE SEQUENCE seq;
            COMMENT ON TABLE t IS 'the sharded one';
        """)
        yield twin


def psql(
    twin: Twin, dsn: str, *arguments: str, text: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(twin.databases.psql), "-X", "-d", dsn, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PAGER": "cat", "LC_ALL": "C.UTF-8", "PGAPPNAME": "psql", **(env or {})},
    )


def same(twin: Twin, *arguments: str, text: str = "") -> str:
    """Run psql on both; return what it wrote."""
    ours, theirs = (psql(twin, dsn, *arguments, text=text) for dsn in (twin.dsn, twin.databases.oracle))
    assert _words(ours.stdout, twin) == _words(theirs.stdout, twin)
    assert _words(ours.stderr, twin) == _words(theirs.stderr, twin)
    assert ours.returncode == theirs.returncode
    return ours.stdout + ours.stderr


def _words(output: str, twin: Twin) -> str:
    """Leave out what differs on purpose: names of databases, source positions, times."""
    output = re.sub(rf"{twin.databases.name}(_s\d)?|\bshop\b", "DB", output)
    output = re.sub(r"^LOCATION: .*$", "LOCATION", output, flags=re.MULTILINE)
    output = re.sub(r"^\w{3} \w{3} [ \d]\d [\d:]+ \d{4} \(every", "WHEN (every", output, flags=re.MULTILINE)
    output = re.sub(r"^Time: .*$", "Time", output, flags=re.MULTILINE)
    return re.sub(r"\n?(DETAIL:  )?Reported by shard \"s\d\"\.", "", output)


BACKSLASHES = [
    r"\d", r"\d t", r"\d+ t", r"\d other.child", r"\d ref", r"\d v", r"\d seq", r"\d t_b", r"\dt", r"\dt+ other.*",
    r"\dt *.t", r"\di", r"\dv", r"\ds", r"\dn", r"\dn+", r"\df", r"\df+ say", r"\dT other.*", r"\du", r"\dp t", r"\dx",
    r"\dC", r"\dD", r"\da sum", r"\db", r"\dO", r"\dF", r"\dy", r"\des", r"\dd", r"\dRp", r"\sf say", r"\sv v", r"\z t",
    r"\encoding", r"\dconfig work_mem", r"\d nobody", r"\dL", r"\dm", r"\dE", r"\dg", r"\dl",
]  # fmt: skip


@pytest.mark.parametrize("command", BACKSLASHES)
def test_describing_commands(twin: Twin, command: str) -> None:
    same(twin, "-c", command)


SCRIPTS = {
    "timing": "\\timing on\nSELECT 1;\n",
    "watch": "SELECT 1 \\watch c=2 i=0.01\n",
    "gdesc": "SELECT a, b FROM t \\gdesc\nSELECT 1 AS x \\gdesc\nINSERT INTO t VALUES (1) \\gdesc\n",
    "bind": "SELECT b FROM t WHERE a = $1 \\bind 7 \\g\nSELECT $1::int + $2 \\bind 1 2 \\g\nSELECT $1 \\bind \\g\n",
    "gset": "SELECT a AS key FROM t WHERE a = 3 \\gset\nSELECT b FROM t WHERE a = :key;\n\\echo :ROW_COUNT :SQLSTATE\n",
    "gexec": "SELECT 'SELECT ' || a FROM t WHERE a = 3 \\gexec\n",
    "crosstabview": "SELECT 1, 2, 3 \\crosstabview\n",
    "variables": "SELECT 1/0;\n\\echo :SQLSTATE :LAST_ERROR_MESSAGE\n\\errverbose\n",
    "on_error_rollback": "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nINSERT INTO t VALUES (2001, 'x');\nSELECT 1/0;\n"
    "INSERT INTO t VALUES (2002, 'x');\nINSERT INTO t VALUES (1, 'x');\nCOMMIT;\n"
    "SELECT a FROM t WHERE a = 2001;\nSELECT a FROM t WHERE a = 2002;\n"
    "DELETE FROM t WHERE a = 2001; DELETE FROM t WHERE a = 2002;\n",
    "autocommit off": "\\set AUTOCOMMIT off\nINSERT INTO t VALUES (2001, 'x');\nSELECT b FROM t WHERE a = 2001;\n"
    "ROLLBACK;\n"
    "SELECT b FROM t WHERE a = 2001;\n",
    "expanded": "\\x\nSELECT * FROM t WHERE a = 5;\n",
    "formats": "\\pset format csv\nSELECT * FROM t WHERE a = 5;\n\\pset format html\nSELECT 1;\n",
    "verbose": "\\set VERBOSITY verbose\nSELECT bb FROM t WHERE a = 1;\nINSERT INTO t VALUES (1);\nSELECT say('x');\n"
    "SELECT 1/0;\n",
    "sqlstate only": "\\set VERBOSITY sqlstate\nSELECT nix;\n",
    "terse": "\\set VERBOSITY terse\nSELECT nix;\n",
    "context": "\\set SHOW_CONTEXT always\nSELECT say('x');\n",
    "prompt": "\\set PROMPT1 '%/ %R %x'\nBEGIN;\nSELECT 1/0;\nROLLBACK;\n",
    "error position": "SELECT 1;\nSELECT a,\n  nix\nFROM t WHERE a = 1;\n",
    "copy from": "\\copy t FROM STDIN\n3001\tx\n3002\ty\n\\.\nSELECT b FROM t WHERE a = 3002;\n"
    "DELETE FROM t WHERE a = 3001;\n"
    "DELETE FROM t WHERE a = 3002;\n",
    "COPY inline": "COPY t FROM STDIN WITH (FORMAT csv, HEADER);\na,b\n3001,x\n\\.\nSELECT b FROM t WHERE a = 3001;\n"
    "DELETE FROM t WHERE a = 3001;\n",
    "copy with an error": "\\copy t FROM STDIN\n3001\tx\nbad\ty\n3003\tz\n\\.\nSELECT 1;\n",
    "copy out": "\\copy ref TO STDOUT\n\\copy (SELECT * FROM t WHERE a = 3) TO STDOUT CSV HEADER\n",
    "transaction": "BEGIN;\nINSERT INTO t VALUES (2001);\nSAVEPOINT s;\nSELECT nix;\nROLLBACK TO s;\n"
    "SELECT a FROM t WHERE a = 2001;\n"
    "ROLLBACK;\n",
    "if": "\\if true\nSELECT 1;\n\\else\nSELECT 2;\n\\endif\n",
    "single step": "\\set FETCH_COUNT 2\nSELECT g FROM generate_series(1, 5) g;\n"
    "SELECT a FROM ref ORDER BY a LIMIT 5;\n",
    "fetch count of one shard": "\\set FETCH_COUNT 2\nSELECT b FROM t WHERE a = 3;\n",
    "reconnect": "\\c\nSELECT 1;\n",
    "password and encoding": "\\encoding LATIN1\nSELECT 'x';\n\\encoding UTF8\n",
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_scripts(twin: Twin, text: str) -> None:
    same(twin, text=text)


def test_extended_commands_of_18(twin: Twin) -> None:
    if twin.version < 18:
        pytest.skip("psql 18 has \\parse, \\bind_named, \\close_prepared and pipelines")
    prepared = (
        "SELECT b FROM t WHERE a = $1 \\parse s\n\\bind_named s 3 \\g\n\\bind_named s 4 \\g\n\\close_prepared s\n"
    )
    same(twin, text=prepared + "\\bind_named s 3 \\g\n")
    two = "SELECT $1::int \\bind 1 \\sendpipeline\nSELECT b FROM t WHERE a = $1 \\bind 3 \\sendpipeline\n"
    same(twin, text=f"\\startpipeline\n{two}\\endpipeline\n")
    bad = "SELECT nix \\bind \\sendpipeline\n"
    same(twin, text=f"\\startpipeline\n{two}{bad}{two}\\syncpipeline\n{two}\\endpipeline\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "SELECT 1", "-c", "SELECT 1/0", "-c", "SELECT 2"],
        ["-v", "ON_ERROR_STOP=1", "-c", "SELECT 1", "-c", "SELECT 1/0", "-c", "SELECT 2"],
        ["-c", "SELECT 1; SELECT 1/0; SELECT 2"],
        ["-1", "-c", "INSERT INTO t VALUES (2001)", "-c", "SELECT 1/0"],
        ["-1", "-c", "INSERT INTO t VALUES (2001)", "-c", "SELECT a FROM t WHERE a = 2001", "-c", "ROLLBACK"],
        ["-At", "-F", ",", "-c", "SELECT a, b FROM t WHERE a = 7"],
        ["-e", "-c", "SELECT 1"],
        ["-l", "-At"],
    ],
    ids=str,
)
def test_arguments_and_exit_codes(twin: Twin, arguments: list[str]) -> None:
    same(twin, *arguments)


def test_fetch_count_over_several_shards(twin: Twin) -> None:
    """psql reads by a cursor up to 16, and row by row from 17 on; the sharded table has no cursor over all shards."""
    done = psql(twin, twin.dsn, "-At", "-v", "FETCH_COUNT=7", "-c", "SELECT a FROM t")
    if done.returncode == 0:
        assert sorted(map(int, done.stdout.split())) == list(range(1, 61))
    else:
        assert twin.version < 17
        assert "ERROR" in done.stderr
        assert "HINT" in done.stderr


def test_copy_both_ways_by_file(twin: Twin, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = {f"{key},line {key}" for key in range(10_000, 60_000)}
    source.write_text("\n".join(sorted(rows)) + "\n")
    done = psql(twin, twin.dsn, "-c", f"\\copy t FROM '{source}' CSV")
    assert (done.stdout, done.stderr) == ("COPY 50000\n", "")
    done = psql(twin, twin.dsn, "-c", f"\\copy (SELECT * FROM t WHERE a >= 10000) TO '{target}' CSV")
    assert done.stdout == "COPY 50000\n"
    assert set(target.read_text().splitlines()) == rows
    for dsn in twin.databases.shards:
        execute(dsn, "DELETE FROM t WHERE a >= 10000")


def test_conninfo_and_tab_completion_queries(twin: Twin) -> None:
    """Tab completion asks the catalog; with -E psql shows what \\d asks, and completion asks alike."""
    done = psql(twin, twin.dsn, "-c", "\\conninfo")
    assert "shop" in done.stdout
    assert str(twin.proxy.port) in done.stdout
    same(twin, "-c", """
        SELECT c.oid::pg_catalog.regclass::text IS NOT NULL, c.relname FROM pg_catalog.pg_class c
        WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 't%'
          AND pg_catalog.pg_table_is_visible(c.oid)
          AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
        UNION ALL SELECT NULL::bool, n.nspname || '.' FROM pg_catalog.pg_namespace n
        WHERE (n.nspname || '.') LIKE 't%' ORDER BY 2 LIMIT 1000""")  # fmt: skip
    same(twin, "-c", """
        SELECT attname FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c
        WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped AND attname LIKE '%'
          AND c.relname = 't' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1 LIMIT 1000""")  # fmt: skip
