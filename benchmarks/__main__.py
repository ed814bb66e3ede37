"""All benchmarks: `python -m benchmarks` writes results.json, RESULTS.md and results.png here, and README's table.

`--only NAME` measures one anew and keeps the results of the others. `--quick` shows in some minutes that all work; its
figures are printed, and written only to an `--output`.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import copy_in, copy_out, load, memory, real, results, rows_io, small, splitter, statement
from benchmarks.figures import Figure, Scale, parser
from benchmarks.processes import ROOT, Load, MeasurementError
from benchmarks.results import Result

HERE = Path(__file__).parent


def in_memory(scale: Scale) -> list[Figure]:
    """The native splitter's figures, measured by its own benchmark."""
    figures = []
    for case in splitter.run(8 if scale.quick else 64, repeat=scale.repeats):
        cost = f"memcpy {case['memcpy_gb_s']:.1f} GB/s; {case['ns_per_row'] / 1e3:.4f} µs a row"
        name = f"{case['name']} ({case['path']})"
        target = case["target_gb_s"]
        figures.append(Figure("splitter in memory", name, case["gb_s"], "GB/s", cost, target, at_least=True))
    return figures


BENCHMARKS: dict[str, Callable[[Scale], list[Figure]]] = {
    "splitter in memory": in_memory,
    "COPY FROM": copy_in.run,
    "COPY TO": copy_out.run,
    "real shards": real.run,
    "statement": statement.run,
    "small operations": small.run,
    "memory": memory.run,
    "rows of a query": rows_io.run,
    "load": load.run,
}


def machine() -> str:
    """On what this is measured."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    parts = [
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        f"uvloop {importlib.metadata.version('uvloop')}",
    ]
    return ", ".join(parts)


def version() -> str:
    """What is measured."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "an unknown commit"


def measure(run: Callable[[Scale], list[Figure]], scale: Scale) -> Result:
    """Run one benchmark."""
    length = "quick run: the figures are not reliable" if scale.quick else f"medians of {scale.repeats} runs"
    figures, missing, at = [], "", version()
    load = Load()
    try:
        figures = run(scale)
    except MeasurementError as error:
        missing = str(error)
    others = load.foreign_share()
    return Result(figures, f"{length}, commit {scale.commit}", machine(), at, others, missing)


def keep(measured: dict[str, Result], output: Path) -> None:
    """Write the results, those of an earlier run where there are no new ones."""
    both = results.load(output) | measured
    together = {name: both[name] for name in BENCHMARKS if name in both}
    results.save(together, output)
    from benchmarks import plot  # all else works without the extra `bench`

    plot.draw([figure for result in together.values() for figure in result.figures], output / "results.png")
    if output == HERE and not results.write_readme(together):
        print(f"README.md has no place for its table: {results.BEGIN}", file=sys.stderr)


def main() -> int:
    """Run, print, write; 1 if something could not be measured."""
    options = parser()
    options.add_argument("--output", type=Path, help=f"directory of the results (default: {HERE.name}, and README)")
    options.add_argument("--only", action="append", choices=list(BENCHMARKS), help="keep the others' results")
    arguments: argparse.Namespace = options.parse_args()
    scale = Scale(quick=arguments.quick, commit=arguments.commit)
    output = arguments.output or (None if scale.quick else HERE)
    measured: dict[str, Result] = {}
    for name, run in BENCHMARKS.items():
        if not arguments.only or name in arguments.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            measured[name] = measure(run, scale)
            if output is not None:  # at once: a run that is interrupted has then lost one benchmark
                keep(measured, output)
    print(results.text(measured))
    return 1 if any(result.missing for result in measured.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
