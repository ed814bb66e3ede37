"""All benchmarks: `python -m benchmarks` writes RESULTS.md and results.png beside this file.

`--quick` shows in about a minute that all of them work; its figures are printed, and written only to an `--output`.
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

from benchmarks import copy_in, copy_out, memory, plot, real, small, splitter, statement
from benchmarks.figures import DISTURBED, Figure, Scale, parser, report
from benchmarks.processes import ROOT, Load, MeasurementError

HERE = Path(__file__).parent


def in_memory(scale: Scale) -> list[Figure]:
    """The native splitter's figures, measured by its own benchmark."""
    figures = []
    for result in splitter.run(8 if scale.quick else 64, repeat=scale.repeats):
        cost = f"memcpy {result['memcpy_gb_s']:.1f} GB/s; {result['ns_per_row'] / 1e3:.4f} µs a row"
        name = f"{result['name']} ({result['path']})"
        target = result["target_gb_s"]
        figures.append(Figure("splitter in memory", name, result["gb_s"], "GB/s", cost, target, at_least=True))
    return figures


BENCHMARKS: dict[str, Callable[[Scale], list[Figure]]] = {
    "splitter in memory": in_memory,
    "COPY FROM": copy_in.run,
    "COPY TO": copy_out.run,
    "real shards": real.run,
    "statement": statement.run,
    "small operations": small.run,
    "memory": memory.run,
}


def machine() -> str:
    """On what this was measured."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    parts = [
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        f"uvloop {importlib.metadata.version('uvloop')}",
        f"shardproxy at {commit or 'an unknown commit'}",
    ]
    return ", ".join(parts)


def text(figures: list[Figure], others: dict[str, float], scale: Scale, missing: dict[str, str]) -> str:
    """RESULTS.md."""
    length = "quick run: the figures say little" if scale.quick else f"medians of {scale.repeats} runs"
    disturbed = [name for name, share in others.items() if share > DISTURBED]
    lines = [
        "# Results",
        "",
        f"Written by `python -m benchmarks`; {length}. {machine()}. Commit: {scale.commit}.",
        "",
        report(figures),
        "",
        "![the figures beside their targets](results.png)",
        "",
        "In brackets: lowest and highest run. 1 GB is 10^9 bytes of the client's CopyData messages. "
        "Where the proxy is compared with a relay or with psql, the value is the median of each run's own ratio.",
        "",
        "Share of the machine that others took meanwhile: "
        + ", ".join(f"{name} {share:.0%}" for name, share in others.items())
        + ".",
    ]
    if disturbed:
        lines.append(f"Wall times under {', '.join(disturbed)} were disturbed by that; measure them again.")
    lines += [f"\n**Not measured:** {name}: {reason}" for name, reason in missing.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, write; 1 if something could not be measured."""
    options = parser()
    options.add_argument("--output", type=Path, help=f"directory for RESULTS.md and results.png (default: {HERE.name})")
    options.add_argument("--only", action="append", choices=list(BENCHMARKS), help="leave the others out, and print")
    arguments: argparse.Namespace = options.parse_args()
    scale = Scale(quick=arguments.quick, commit=arguments.commit)
    figures: list[Figure] = []
    others: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, run in BENCHMARKS.items():
        if arguments.only and name not in arguments.only:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        load = Load()
        try:
            figures += run(scale)
        except MeasurementError as error:
            missing[name] = str(error)
        others[name] = load.foreign_share()
    results = text(figures, others, scale, missing)
    print(results)
    output = arguments.output or (None if scale.quick or arguments.only else HERE)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "RESULTS.md").write_text(results)
        plot.draw(figures, output / "results.png")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
