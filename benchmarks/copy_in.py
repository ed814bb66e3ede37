"""COPY FROM STDIN into shards that discard: the proxy's CPU per gigabyte beside that of a relay that does nothing.

Both get the same bytes from the same client over the same number of sockets, in turns. Measured is the process in
the middle, from the first byte of data to the answer.
"""

from dataclasses import dataclass

from benchmarks import feed, stage
from benchmarks.figures import Figure, Scale, main, median, per_gigabyte
from benchmarks.processes import Program
from benchmarks.rows import Format, Stream, stream


@dataclass(frozen=True)
class Case:
    """A kind of client."""

    name: str
    format: Format
    frame: int | None
    target: float | None = None
    write: int = feed.WRITE


CASES = (
    Case("CSV, 128 KiB frames", "csv", 131072, 2.0),
    Case("CSV, 8 KiB frames", "csv", 8192, 3.0),
    Case("CSV, 8 KiB frames in 8 KiB writes, as psql", "csv", 8192, write=8197),
    Case("CSV, one row a frame", "csv", None),
    Case("text, 128 KiB frames", "text", 131072),
    Case("text, 8 KiB frames", "text", 8192),
    Case("binary, 128 KiB frames", "binary", 131072),
)


def sql(name: Format) -> str:
    return f"COPY bench FROM STDIN WITH (FORMAT {name})"


def proxied(program: Program, case: Case, data: Stream, times: int) -> float:
    """CPU seconds of the proxy for one COPY."""
    with feed.Client(program.port, stage.DATABASE) as client:
        client.begin_copy_in(sql(case.format))
        before = program.cpu()
        client.copy_in(data, times, case.write)
        return program.cpu() - before


def relayed(program: Program, case: Case, data: Stream, times: int) -> float:
    """CPU seconds of the relay for the same bytes."""
    before = program.cpu()
    feed.through(program.port, data, times, case.write)
    return program.cpu() - before


def run(scale: Scale) -> list[Figure]:
    figures = []
    with (
        stage.directory() as path,
        stage.one_server() as server,
        stage.discarding(path, server) as shards,
        stage.proxy(path, shards.dsns, scale.commit) as proxy,
        stage.relay(path, shards.sinks) as relay,
    ):
        for case in CASES:
            data = stream(case.format, case.frame)
            times = data.times(scale.gigabytes * 1e9)
            size = times * len(data.block)
            ours, floor = [], []
            relayed(relay, case, data, 1), proxied(proxy, case, data, 1)  # buffers are made, code is warm
            for _ in range(scale.repeats):
                floor.append(per_gigabyte(relayed(relay, case, data, times), size))
                ours.append(per_gigabyte(proxied(proxy, case, data, times), size))
            ratios = [mine / its for mine, its in zip(ours, floor, strict=True)]
            a_row = median(ours) * size / (data.rows * times) / 1e3
            baseline = f"relay {median(floor):.3f} CPU s/GB; proxy {median(ours):.3f}, {a_row:.3f} µs a row"
            figures.append(
                Figure("COPY FROM", case.name, median(ratios), "× relay", baseline, case.target, samples=ratios)
            )
    return figures


if __name__ == "__main__":
    main(run)
