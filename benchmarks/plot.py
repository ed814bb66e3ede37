"""The figures as a picture: a panel per unit, a bar per figure, a mark where its target is."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Canvas

from benchmarks.figures import Figure

matplotlib.use("Agg")  # files only, no display

COLOURS = {"met": "#2a9d8f", "missed": "#d1495b", "reported": "#8d99ae"}
BAR = 0.32  # inches
FRAME = 0.9  # inches of a panel's title and axis


def draw(figures: list[Figure], path: Path) -> None:
    """Write a PNG. Nothing to draw writes nothing."""
    units = list(dict.fromkeys((figure.unit, figure.at_least) for figure in figures))
    if not units:
        return
    panels = [[one for one in figures if (one.unit, one.at_least) == unit] for unit in units]
    heights = [FRAME + BAR * len(panel) for panel in panels]
    canvas = Canvas(figsize=(10, sum(heights)), layout="constrained")
    axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel, (unit, at_least) in zip(axes, panels, units, strict=True):
        names = [f"{one.group}: {one.name}" for one in panel]
        places = range(len(panel))
        axis.barh(places, [one.value for one in panel], color=[COLOURS[one.verdict] for one in panel])
        for place, one in zip(places, panel, strict=True):
            axis.text(one.value, place, f" {one.value:.3g}", va="center", fontsize=8)
            if one.target is not None:
                axis.plot([one.target] * 2, [place - 0.45, place + 0.45], color="black", linewidth=2)
        axis.set_yticks(places, names, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_xlim(left=0)
        better = "more" if at_least else "less"
        axis.set_title(f"{unit} ({better} is better; black: target)", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=110)
