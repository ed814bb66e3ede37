"""The picture of the figures."""

from pathlib import Path

import pytest

from benchmarks.figures import Figure

COPY = Figure("COPY FROM", "CSV, 128 KiB frames", 1.854, "× relay", "relay 0.4; proxy 0.8", 2.0, samples=[1.7, 2.3])


def test_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    from benchmarks import plot

    plot.draw([COPY], tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
