"""COPY TO STDOUT from shards that send prebuilt rows: the proxy's CPU per gigabyte beside that of the relay."""

from benchmarks import feed, stage
from benchmarks.figures import Figure, Scale, main, median, per_gigabyte
from benchmarks.processes import MeasurementError
from benchmarks.rows import BLOCK_ROWS, stream

TARGET = 1.5
WRITES = ((65536, TARGET), (8192, None))
"""What a shard sends at a time; PostgreSQL's own buffer has 8 KiB, of which sockets make longer reads."""


def run(scale: Scale) -> list[Figure]:
    figures = []
    block = len(stream("text", None).block)
    blocks = max(1, round(scale.gigabytes * 1e9 / block / stage.SHARDS))
    size, rows = block * blocks * stage.SHARDS, BLOCK_ROWS * blocks * stage.SHARDS
    with stage.directory() as path, stage.one_server() as server:
        for write, target in WRITES:
            with (
                stage.discarding(path, server, blocks, write) as shards,
                stage.proxy(path, shards.dsns, scale.commit) as proxy,
                stage.relay(path, shards.sources) as relay,
            ):
                ours, floor = [], []
                for turn in range(scale.repeats + 1):
                    before = relay.cpu()
                    passed = feed.out_of(relay.port)
                    its = relay.cpu() - before
                    if passed != size:
                        raise MeasurementError(f"the relay passed {passed} of {size} bytes")
                    with feed.Client(proxy.port, stage.DATABASE) as client:
                        before = proxy.cpu()
                        received = client.copy_out("COPY bench TO STDOUT", rows)
                        mine = proxy.cpu() - before
                    if received != size:
                        raise MeasurementError(f"the proxy passed {received} of {size} bytes")
                    if turn:  # the first one warms up
                        floor.append(per_gigabyte(its, size))
                        ours.append(per_gigabyte(mine, size))
            ratios = [mine / its for mine, its in zip(ours, floor, strict=True)]
            a_row = median(ours) * size / rows / 1e3
            baseline = f"relay {median(floor):.3f} CPU s/GB; proxy {median(ours):.3f}, {a_row:.3f} µs a row"
            name = f"text, shards write {write // 1024} KiB at a time"
            figures.append(Figure("COPY TO", name, median(ratios), "× relay", baseline, target, samples=ratios))
    return figures


if __name__ == "__main__":
    main(run)
