"""What `python -m benchmarks` keeps and writes."""

from dataclasses import replace
from pathlib import Path

from benchmarks import results
from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import Figure
from benchmarks.processes import ROOT
from benchmarks.results import BEGIN, END, Result

COPY = Figure("COPY FROM", "CSV, 128 KiB frames", 1.854, "× relay", "relay 0.4; proxy 0.8", 2.0, samples=[1.7, 2.3])
RESULT = Result([COPY], "medians of 5 runs", "2 cores", "74927aa", 0.02)


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    failed = replace(RESULT, figures=[], missing="no pgbench")
    results.save({"COPY FROM": RESULT, "statement": failed}, tmp_path)
    assert results.load(tmp_path) == {"COPY FROM": RESULT, "statement": failed}


def test_a_directory_without_results_has_none(tmp_path: Path) -> None:
    assert results.load(tmp_path) == {}


def test_each_benchmark_says_how_it_was_measured() -> None:
    disturbed = replace(RESULT, version="6a238d6", others=0.4)
    failed = replace(RESULT, figures=[], missing="no pgbench")
    lines = results.text({"COPY FROM": RESULT, "COPY TO": disturbed, "statement": failed}).splitlines()
    assert "| COPY FROM | CSV, 128 KiB frames | 1.85 × relay (1.7 to 2.3) | at most 2 × relay |" in "\n".join(lines)
    assert lines[-3] == "- COPY FROM: medians of 5 runs, shardproxy at 74927aa; others took 2%."
    assert "at 6a238d6; others took 40%; disturbed by that" in lines[-2]
    assert lines[-1].endswith("**Not measured:** no pgbench")


def test_the_table_of_readme_is_written_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\n| old |\n{END}\nafter\n")
    assert results.write_readme({"COPY FROM": RESULT}, readme)
    line = "| COPY FROM, CSV: CPU | 1.85 × relay | relay 0.4; proxy 0.8 |"
    head = "| | through shardproxy | in the same run |\n|---|---|---|"
    assert readme.read_text() == f"before\n{BEGIN}\n{head}\n{line}\n{END}\nafter\n"
    assert results.write_readme({"COPY FROM": RESULT}, readme)
    assert readme.read_text().count(line) == 1


def test_a_readme_without_marks_stays_as_it_is(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no table\n")
    assert not results.write_readme({"COPY FROM": RESULT}, readme)
    assert readme.read_text() == "no table\n"


def test_what_is_kept_is_what_the_documents_show() -> None:
    """README's table and RESULTS.md are those of results.json: neither is edited, and a run will find its marks."""
    kept = results.load(ROOT / "benchmarks")
    readme = results.README.read_text()
    assert readme.count(BEGIN) == readme.count(END) == 1
    assert readme.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0] == results.headlines(kept)
    assert (ROOT / "benchmarks/RESULTS.md").read_text() == results.text(kept)


def test_a_line_of_readme_is_a_figure_that_is_measured() -> None:
    benchmarks = {benchmark for benchmark, _ in results.HEADLINES.values()}
    assert benchmarks <= set(BENCHMARKS)
