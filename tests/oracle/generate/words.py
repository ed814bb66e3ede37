"""What one statement is written with: dice, names in scope, and values as constants or as parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from tests.oracle.case import Param
from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.values import TYPES, Type

T = TypeVar("T")

_OTHER_OIDS = {
    "int4": (20, 21, 1700),
    "int8": (23, 21, 1700),
    "int2": (23, 20),
    "numeric": (23, 20, 701),
    "text": (1043, 19),
    "name": (25, 1043),
    "float4": (701, 1700, 23),
    "float8": (700, 1700, 23),
    "oid": (23, 20),
    "inet": (650,),
    "cidr": (869,),
    "date": (1114, 1184),
    "timestamp": (1082, 1184),
    "time": (1186, 1114),
    "interval": (1083,),
    "macaddr8": (829,),
}


@dataclass(frozen=True)
class Alias:
    """A relation in scope, and how its columns are named."""

    name: str
    columns: dict[str, Type]
    table: Table | None = None  # None for a sub-select

    @property
    def typed(self) -> bool:
        """Whether all shards have the type of its rows."""
        return self.table is not None and self.table.placed.placement != "single"


@dataclass
class Words:
    """The state of one statement that is being written."""

    rng: Random
    tables: Sequence[Table]
    extended: bool
    version: int = 18  # of PostgreSQL
    binaries: bool = True  # parameters may be binary
    params: list[Param] = field(default_factory=list)
    aliases: int = 0

    def chance(self, probability: float) -> bool:
        """Throw the dice."""
        return self.rng.random() < probability

    def choose(self, *weighted: tuple[float, T]) -> T:
        """Choose one of some, each with its weight."""
        return self.rng.choices([one for _, one in weighted], [weight for weight, _ in weighted])[0]

    def one_of(self, *weighted: tuple[float, Callable[[], T]]) -> T:
        """Choose one of some, each with its weight, and write it."""
        return self.choose(*weighted)()

    def alias(self, table: Table) -> Alias:
        """A name for a table: its own, or one not used before."""
        self.aliases += 1
        return Alias(f"t{self.aliases}", table.columns, table)

    def column(self, scope: Sequence[Alias], kind: Type | None) -> str | None:
        """A column in scope, of a type if that is given."""
        found = [(alias, name) for alias in scope for name, own in alias.columns.items() if kind is None or own is kind]
        return self.named(*self.rng.choice(found)) if found else None

    def named(self, alias: Alias, column: str) -> str:
        """A column's name, with its table or without."""
        if self.chance(0.15):
            return quoted(column)
        return f"{alias.name}.{quoted(column)}"

    # Values.

    def value(self, kind: Type) -> str:
        """A value of a type, not wholly reliably."""
        if self.chance(0.04):
            return self.rng.choice(("NULL", f"NULL::{kind.name}"))
        text = self.rng.choice(kind.values if self.chance(0.85) or not kind.spellings else kind.spellings)
        if self.extended and self.chance(0.6):
            return self._parameter(kind, text)
        return self.constant(kind, text)

    def constant(self, kind: Type, text: str) -> str:
        """A constant of a type: bare, quoted, or under a cast that may be another type's."""
        forms = [(3.0, f"'{text}'"), (2.0, f"'{text}'::{kind.name}"), (0.3, f"CAST('{text}' AS {kind.name})")]
        if kind.number and text.strip("+-0123456789.") == "" and text:
            forms += [(5.0, text), (0.5, f"{text}::{kind.name}")]
            forms += [(0.5, f"{text}::{self.rng.choice(('int4', 'int8', 'numeric', 'float8', 'int2'))}")]
        if kind.name == "text" or kind.name.startswith(("varchar", "bpchar")):
            forms += [(0.3, f"'{text}'::{self.rng.choice(('text', 'varchar', 'varchar(1)', 'bpchar', 'name'))}")]
            if text.isdigit():
                forms.append((0.5, f"{text}::text"))
        if kind.name == "bool" and text in {"t", "f"}:
            forms.append((3.0, "true" if text == "t" else "false"))
        return self.choose(*forms)

    def _parameter(self, kind: Type, text: str) -> str:
        text = text.replace("''", "'")
        binary = kind.binary if text in kind.values or text == "it's" else None
        cast = self.chance(0.35)
        oid, target = self.choose((4.0, 0), (4.0, kind.oid)), kind.name
        if cast and kind.number and self.chance(0.5):
            # A parameter of one type under the cast of another.
            source = TYPES[self.rng.choice(("int4", "int8", "numeric", "float8", "text"))]
            text = self.rng.choice(source.values)
            oid, binary = source.oid, source.binary
        elif not cast and self.chance(0.1) and kind.name in _OTHER_OIDS:
            oid, binary = self.rng.choice(_OTHER_OIDS[kind.name]), None
        in_binary = self.binaries and binary is not None and self.chance(0.4 if oid else 0.1)
        value = None if self.chance(0.03) else text.encode()
        if in_binary and value is not None and binary is not None:
            value = binary(text)
        if self.params and self.chance(0.06):
            number = self.rng.randrange(len(self.params)) + 1  # one that stands elsewhere, too
        else:
            self.params.append(Param(oid, value, in_binary))
            number = len(self.params)
        return f"${number}::{target}" if cast else f"${number}"
