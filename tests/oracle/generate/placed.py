"""The tables' names, placements and keys, as the proxy's configuration has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SHARDS = 3


@dataclass(frozen=True)
class Placed:
    """A table of the configuration. `types` are those of the key where the configuration fixes them."""

    name: str
    placement: str
    key: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()  # PARTITION BY of a twin, then one bound for each shard

    @property
    def sharded(self) -> bool:
        """Whether its rows lie on several shards."""
        return bool(self.key)

    @property
    def listing(self) -> dict[str, object]:
        """Its entry in the configuration."""
        key = {"key": list(self.key)} if self.key else {}
        return {"name": self.name, "placement": self.placement, **key, **self.config}


def _hash(name: str, *key: str) -> Placed:
    bounds = (f"FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {r})" for r in range(SHARDS))
    return Placed(name, "hash", key, partitions=(f"PARTITION BY HASH ({', '.join(key)})", *bounds))


def _list(name: str, kind: str, first: str, second: str) -> Placed:
    shards = [{"shard": "s0", "in": [first]}, {"shard": "s1", "in": [second, "NULL"]}]
    bounds = (f"FOR VALUES IN ('{first}')", f"FOR VALUES IN ('{second}', NULL)", "DEFAULT")
    config = {"values": shards, "default": "s2"}
    return Placed(name, "list", ("k",), (kind,), config, ("PARTITION BY LIST (k)", *bounds))


def _range(name: str, kind: str, first: str, second: str, third: str) -> Placed:
    pairs = ((first, second), (second, third))
    bounds = [{"shard": f"s{shard}", "from": [low], "to": [high]} for shard, (low, high) in enumerate(pairs)]
    parts = (*(f"FOR VALUES FROM ('{low}') TO ('{high}')" for low, high in pairs), "DEFAULT")
    config = {"bounds": bounds, "default": "s2"}
    return Placed(name, "range", ("k",), (kind,), config, ("PARTITION BY RANGE (k)", *parts))


PLACED = {
    one.name: one
    for one in (
        _hash("h", "k"),
        _hash("g", "k"),
        _hash("w", "k", "l"),
        Placed(
            "lst", "list", ("k",), ("text",),
            {
                "values": [{"shard": "s0", "in": ["a", "b", "7"]}, {"shard": "s1", "in": ["A", "", "NULL"]}],
                "default": "s2",
            },
            ("PARTITION BY LIST (k)", "FOR VALUES IN ('a', 'b', '7')", "FOR VALUES IN ('A', '', NULL)", "DEFAULT"),
        ),
        Placed(
            "rng", "range", ("k",), ("int4",),
            {
                "bounds": [
                    {"shard": "s0", "from": ["1"], "to": ["3"]},
                    {"shard": "s1", "from": ["3"], "to": ["6"]},
                ],
                "default": "s2",
            },
            ("PARTITION BY RANGE (k)", "FOR VALUES FROM (1) TO (3)", "FOR VALUES FROM (3) TO (6)", "DEFAULT"),
        ),
        _list("lb", "bool", "t", "f"),
        _list("ln", "numeric", "1.5", "7"),
        _list("li", "inet", "10.0.0.1", "::1"),
        _list("lt", "time", "00:00:00", "12:30:00"),
        _range("rf", "float4", "1", "1.5", "6"),
        _range("rd", "date", "1999-12-31", "2024-01-02", "2024-02-29"),
        _range("rt", "timestamptz", "2000-01-01 00:00:00+00", "2024-02-29 12:30:00+00", "infinity"),
        _range("ri", "interval", "00:00:00", "1 day", "1 mon"),
        _range("rm", "macaddr8", "00:00:00:00:00:00:00:01", "08:00:2b:ff:fe:01:02:03", "ff:00:00:00:00:00:00:00"),
        _range("rc", "cidr", "10.0.0.0/8", "10.0.0.1/32", "::1/128"),
        _range("ro", "oid", "1", "3", "7"),
        _range("rn", "name", "", "a", "b"),
        Placed("ref", "reference"),
        Placed("dim", "reference"),
        Placed("one", "single", config={"shard": "s1"}),
        Placed("two", "single", config={"shard": "s2"}),
    )
}  # fmt: skip

COMMON = ("h", "g", "w", "lst", "rng", "ref", "dim", "one", "two")
"""Those that meet each other in many cases; the others have keys of types that sort or are listed."""
