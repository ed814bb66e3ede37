"""Draws the diagrams of the documentation: `python docs/diagrams/draw.py` rewrites the SVG files beside it.

Needs nothing but Python. The pictures are committed, so that a reader needs no tool.
"""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent

INK = "#1f2933"
SOFT = "#52606d"
LINE = "#7b8794"
PAGE = "#ffffff"
PLAIN = "#fefefe"
BLUE = "#e3eefb"
GREEN = "#e4f4e8"
SAND = "#faf1dc"
ROSE = "#fbe6e4"

DARK = {
    INK: "#e6edf3",
    SOFT: "#a9b4bf",
    LINE: "#8b96a1",
    PAGE: "#0d1117",
    PLAIN: "#161b22",
    BLUE: "#14304f",
    GREEN: "#133a24",
    SAND: "#40330f",
    ROSE: "#4a1f1c",
}
"""Each colour's counterpart where the reader prefers dark pages. A picture paints its own background, so that it is
readable on any page."""

STYLE = "".join(
    f'[{attribute}="{light}"]{{{attribute}:{dark}}}' for light, dark in DARK.items() for attribute in ("fill", "stroke")
)

FONT = "font-family=\"ui-sans-serif, 'Segoe UI', Helvetica, Arial, sans-serif\""
MONO = "font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\""


class Drawing:
    """An SVG picture, built from boxes, arrows and words."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' height="{height}" role="img" {FONT}>',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
            f' orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker></defs>',
            f"<style>@media (prefers-color-scheme:dark){{{STYLE}}}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAGE}"/>',
        ]

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 13,
        color: str = INK,
        anchor: str = "middle",
        bold: bool = False,
        mono: bool = False,
        halo: bool = False,
    ) -> None:
        """Text, with its baseline at y; a halo covers the lines under it."""
        weight = ' font-weight="600"' if bold else ""
        family = f" {MONO}" if mono else ""
        outline = f' stroke="{PAGE}" stroke-width="5" paint-order="stroke"' if halo else ""
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}{family}{outline}>'
            f"{escape(text)}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        title: str,
        *lines: str,
        fill: str = PLAIN,
        mono: bool = False,
    ) -> None:
        """A rectangle with a bold title and smaller lines below it, centred as a block."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{LINE}"/>'
        )
        middle = x + width / 2
        at = y + height / 2 - len(lines) * 8.5 + 5
        self.words(middle, at, title, bold=True, mono=mono)
        for number, line in enumerate(lines, start=1):
            self.words(middle, at + 17 * number, line, size=12, color=SOFT)

    def frame(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """A dashed border around what belongs together."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" stroke="{LINE}"'
            ' stroke-dasharray="5 4"/>'
        )
        self.words(x + 12, y + 19, title, anchor="start", color=SOFT, bold=True)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, *, both: bool = False) -> None:
        """A line with a head at its end, or at both."""
        start = ' marker-start="url(#head)"' if both else ""
        self._parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{LINE}" stroke-width="1.6"'
            f' marker-end="url(#head)"{start}/>'
        )

    def row(self, x: float, y: float, fill: str, text: str) -> None:
        """A row of a table, small."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="84" height="17" rx="3" fill="{fill}" stroke="{LINE}" stroke-width="0.8"/>'
        )
        self.words(x + 42, y + 12.5, text, size=10, mono=True)

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A thin line without a head."""
        self._parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{LINE}"/>')

    def save(self, name: str) -> None:
        """Write the file."""
        (HERE / name).write_text("\n".join([*self._parts, "</svg>", ""]), "utf-8")


def overview() -> None:
    """Clients, the proxy, and rows fanned out to the shards."""
    d = Drawing(940, 330, "Clients connect to one address; the proxy sends each row to the shard of its key")
    shards = (("s0", BLUE, (3, 8)), ("s1", GREEN, (1, 5)), ("s2", SAND, (2, 7)), ("s3", ROSE, (4, 6)))
    fills = {number: fill for _, fill, numbers in shards for number in numbers}
    for y, name, line in ((40, "psql", "\\copy"), (133, "drivers", "SQL, COPY"), (226, "applications", "SQL")):
        d.box(16, y, 120, 64, name, line)
        d.arrow(138, y + 32, 268, 165 + (y - 133) / 4, both=True)
    for place, number in enumerate((1, 2, 3, 4, 5, 6, 7, 8)):
        d.row(160, 84 + 20.5 * place, fills[number], f"row {number}")
    d.box(
        270,
        95,
        230,
        140,
        "shardproxy",
        "one address",
        "PostgreSQL's own hash",
        "bytes as they came",
        "all shards commit, or none",
    )
    for place, (name, fill, numbers) in enumerate(shards):
        y = 18 + 76 * place
        d.arrow(502, 128 + 25 * place, 748, y + 32, both=True)
        for order, number in enumerate(numbers):
            d.row(606, y + 14 + (94 + 25 * place - y) * 0.12 + 20.5 * order, fill, f"row {number}")
        d.box(750, y, 174, 64, f"shard {name}", "PostgreSQL 13 to 18", fill=fill)
    d.save("overview.svg")


def flow() -> None:
    """What happens to a COPY's bytes."""
    d = Drawing(940, 400, "COPY FROM STDIN through shardproxy: one stream in, one stream per shard out")
    d.box(14, 150, 140, 90, "client", "psql, driver,", "application", fill=SAND)
    d.arrow(154, 180, 238, 180)
    d.words(196, 171, "COPY", size=12, color=SOFT)
    d.arrow(238, 212, 154, 212)
    d.words(196, 229, "one answer", size=12, color=SOFT)
    d.frame(240, 30, 400, 340, "shardproxy")
    d.box(262, 66, 356, 52, "statement", "PostgreSQL's own grammar decides what it is", fill=BLUE)
    d.arrow(440, 118, 440, 138)
    d.box(
        262,
        140,
        356,
        92,
        "native splitter",
        "finds the rows, reads the key's fields,",
        "PostgreSQL's partition hash, list or range",
        "-> shard; the row's bytes stay as they are",
        fill=GREEN,
    )
    d.arrow(440, 232, 440, 252)
    d.box(262, 254, 356, 44, "one buffer per shard", "whole CopyData messages of up to 256 KiB", fill=GREEN)
    d.words(440, 325, "a shard that is slow pauses the client;", size=12, color=SOFT)
    d.words(440, 343, "all shards accept every row, then the commit: all or none", size=12, color=SOFT)
    for number in range(4):
        y = 40 + number * 85
        d.arrow(618, 276, 738, y + 32)
        d.box(740, y, 180, 64, f"shard s{number}", f"rows with remainder {number}", fill=SAND)
    d.save("flow.svg")


def layers() -> None:
    """The layers and the import rule."""
    d = Drawing(940, 590, "The layers of shardproxy: an import goes down only")
    rows = [
        ("7-8", [("cli", "arguments, exit codes", 2), ("demo, embedded", "PostgreSQL from a pip package", 3)], PLAIN),
        ("6", [("server", "listener, workers, signals; check, explain", 1)], SAND),
        ("5", [("session", "one client: login, both protocols, COPY, what each kind of plan does", 1)], SAND),
        ("4", [("transaction", "its state, two-phase commit, recovery", 1)], ROSE),
        ("3", [("shard", "one connection to one shard", 1)], ROSE),
        ("2", [("net", "the only sockets", 1)], ROSE),
        (
            "1",
            [
                ("sql", "a statement's facts", 1),
                ("routing", "keys, tables, a plan", 1),
                ("combine", "answers made one", 1),
                ("config", "the file", 1),
            ],
            BLUE,
        ),
        (
            "0",
            [("wire", "protocol v3", 1), ("native", "C core", 1), ("copy", "options, lines", 1), ("rows", "values", 1)],
            GREEN,
        ),
        ("", [("errors, sqlstate", "what every layer may raise", 1)], PLAIN),
    ]
    for number, (height, boxes, fill) in enumerate(rows):
        y = 20 + number * 62
        d.words(30, y + 30, height, color=SOFT, bold=True)
        x, total = 60.0, sum(weight for *_, weight in boxes)
        for name, line, weight in boxes:
            width = (700 - 10 * (len(boxes) - 1)) * weight / total
            d.box(x, y, width, 52, name, line, fill=fill, mono=True)
            x += width + 10
    d.arrow(800, 30, 800, 567)
    d.words(815, 260, "imports", anchor="start", color=SOFT, bold=True)
    d.words(815, 278, "go down", anchor="start", color=SOFT, bold=True)
    d.line(776, 396, 786, 396)
    d.line(786, 396, 786, 568)
    d.line(776, 568, 786, 568)
    d.words(815, 487, "sans-IO:", anchor="start", color=SOFT)
    d.words(815, 505, "all but config", anchor="start", color=SOFT)
    d.save("layers.svg")


def commit() -> None:
    """Two-phase commit with an anchor."""
    d = Drawing(940, 480, "Two-phase commit: the anchor's own commit is the decision")
    columns = {"client": 90, "proxy": 300, "anchor s0": 560, "shard s1": 720, "shard s2": 860}
    for name, x in columns.items():
        d.box(x - 62, 16, 124, 34, name, fill=SAND if name != "proxy" else GREEN)
        d.line(x, 50, x, 412)
    client, proxy, anchor, one, two = columns.values()
    d.arrow(client, 80, proxy, 80)
    d.words((client + proxy) / 2, 73, "COMMIT", size=12)
    steps = [
        (110, "1 probe: who has written?", (anchor, one, two), PLAIN),
        (170, "2 PREPARE TRANSACTION", (one, two), PLAIN),
        (250, "3 INSERT decision 'commit'; COMMIT", (anchor,), ROSE),
        (330, "4 COMMIT PREPARED", (one, two), PLAIN),
    ]
    for y, text, targets, _ in steps:
        for number, target in enumerate(targets):
            d.arrow(proxy, y + 18 * number, target, y + 18 * number, both=True)
        d.words(proxy + 10, y - 7, text, size=12, anchor="start")
    d.words(
        anchor + 12, 247, "the decision: from here on it is committed", size=12, anchor="start", color=SOFT, halo=True
    )
    d.words(proxy - 12, 176, "a failure up to here:", size=12, anchor="end", color=SOFT)
    d.words(proxy - 12, 193, "rolled back everywhere", size=12, anchor="end", color=SOFT)
    d.words(proxy - 12, 336, "a failure here: WARNING,", size=12, anchor="end", color=SOFT)
    d.words(proxy - 12, 353, "recovery completes it", size=12, anchor="end", color=SOFT)
    d.arrow(proxy, 400, client, 400)
    d.words((client + proxy) / 2, 393, "CommandComplete", size=12)
    d.words(
        client - 62,
        446,
        "recovery, by any proxy: INSERT decision 'abort' ON CONFLICT DO NOTHING on the anchor,",
        size=12,
        anchor="start",
        color=SOFT,
    )
    d.words(client - 62, 464, "read which of the two is there, finish accordingly", size=12, anchor="start", color=SOFT)
    d.save("commit.svg")


def ways() -> None:
    """The two ways of a statement from the client's socket to the shard's, and back."""
    d = Drawing(
        940, 420, "The two ways of a statement: the fast lane is one chain of calls, the general way a coroutine"
    )
    d.box(14, 160, 104, 100, "client", "Bind,", "Execute,", "Query", fill=SAND)
    d.box(822, 160, 104, 100, "shard", "PostgreSQL", fill=GREEN)
    d.frame(140, 14, 660, 180, "fast lane: one chain of calls, a read and a write each way")
    d.frame(140, 226, 660, 180, "general way: a coroutine, one message at a time")
    d.arrow(118, 190, 160, 92)
    d.arrow(118, 230, 160, 304)
    above = (
        ("Stream", "buffer_updated:", "the chunk"),
        ("Lane", "feed: messages,", "plan, key, shard"),
        ("Turns", "send: names,", "owed replies"),
        ("Connection", "send: one write"),
    )
    below = (
        ("Session", "_message: waits", "for the lane"),
        ("Extended, Simple", "what Execute or", "Query asks for"),
        ("Executor", "route, join the", "transaction, send"),
        ("Connection", "send; the queue", "of owed replies"),
    )
    for top, ways_of, back in ((46, above, "Turns._answers"), (258, below, "Relay, Answers")):
        for place, (title, *lines) in enumerate(ways_of):
            d.box(160 + 160 * place, top, 136, 76, title, *lines, fill=BLUE if top == 46 else PLAIN)
            if place:
                d.arrow(136 + 160 * place, top + 38, 158 + 160 * place, top + 38)
        d.box(320, top + 96, 296, 34, f"{back}: checked, in order", fill=ROSE)
    d.arrow(776, 92, 822, 186)
    d.arrow(776, 304, 822, 234)
    d.arrow(822, 204, 618, 160)
    d.arrow(318, 160, 120, 204)
    d.arrow(822, 218, 618, 368)
    d.arrow(318, 368, 120, 222)
    d.save("ways.svg")


if __name__ == "__main__":
    overview()
    flow()
    layers()
    commit()
    ways()
